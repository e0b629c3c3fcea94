"""Tasks that were given up: why, what was tried, and another chance for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, TypedDict, Unpack

from reprise.coordination.tasks import TaskInfo
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.policy import Duration, seconds
from reprise.stores.queue import tap_of

if TYPE_CHECKING:
    from reprise.coordination.queue import TaskQueue

_PAGE = 500


class Conditions(TypedDict, total=False):
    """What holds for all dead letters that are meant."""

    task_type: str
    reason: str
    """A part of why they died."""
    older_than: Duration
    """Seconds since they died."""
    where: Callable[[TaskInfo], bool] | None


class DeadLetters:
    """The dead letters of a queue.

    They are chosen by ids, or by what holds for all of them (:class:`Conditions`): ``task_type``, ``reason`` (a part of
    it), ``older_than`` seconds, and ``where``, a function of :class:`TaskInfo`. To mean all without a condition, say
    ``all=True``.
    """

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    async def list(self, limit: int = 100, **conditions: Unpack[Conditions]) -> list[TaskInfo]:
        """Return dead letters, those that died first first."""
        fits = _fitting(self._queue, **conditions)
        found: list[TaskInfo] = []
        async for letter in self._all():
            if fits(letter):
                found.append(letter)
            if len(found) >= limit:
                break
        return found

    async def requeue(self, *task_ids: str, all: bool = False, **conditions: Unpack[Conditions]) -> int:
        """Give dead letters all their tries again; return how many. Their history stays.

        Raises ``ConfigurationError`` when nothing is said of which.
        """
        store = await self._queue.start()
        ids = await self._chosen(task_ids, all, conditions)
        count = await store.queue.change(self._queue.name, ids, state="ready", due_at=self._queue.clerk.now())
        store.signal.wake([tap_of(self._queue.name)])
        return count

    async def purge(self, *task_ids: str, all: bool = False, **conditions: Unpack[Conditions]) -> int:
        """Remove dead letters for ever; return how many.

        Raises ``ConfigurationError`` when nothing is said of which.
        """
        store = await self._queue.start()
        ids = await self._chosen(task_ids, all, conditions)
        return await store.queue.change(self._queue.name, ids, state="gone")

    async def _chosen(self, ids: tuple[str, ...], all: bool, conditions: Conditions) -> list[str]:
        if bool(ids) == (all or any(conditions.values())):
            raise ConfigurationError(
                "It is not clear which dead letters are meant.", hint="Give ids, or a condition, or all=True."
            )
        fits = _fitting(self._queue, **conditions)
        return [letter.task_id async for letter in self._all(ids) if ids or fits(letter)]

    async def _all(self, ids: tuple[str, ...] = ()) -> AsyncIterator[TaskInfo]:
        if ids:
            store = await self._queue.start()
            for row in await store.queue.find(self._queue.name, "dead", len(ids), ids=ids):
                yield self._queue.info_of(row)
            return
        seen = set[str]()
        skip, last, is_full = 0, "", True
        while is_full:
            # From the last one that was seen: where it does not stand there any more, others went, and those behind
            # moved up. Then all that are left are looked at once more.
            page = await self._queue.peek("dead", _PAGE, skip=skip)
            if skip and (not page or page[0].task_id != last):
                skip = 0
                continue
            is_full, skip = len(page) == _PAGE, skip + len(page) - 1
            for letter in page:
                last = letter.task_id
                if last not in seen:
                    seen.add(last)
                    yield letter


def _fitting(
    queue: TaskQueue,
    *,
    task_type: str = "",
    reason: str = "",
    older_than: Duration = 0,
    where: Callable[[TaskInfo], bool] | None = None,
) -> Callable[[TaskInfo], bool]:
    before = queue.clerk.now() / 1e6 - seconds(older_than, "older_than")

    def fits(letter: TaskInfo) -> bool:
        return (
            (not task_type or letter.task_type == task_type)
            and reason in letter.reason
            and (not older_than or (letter.ended_at is not None and letter.ended_at.timestamp() <= before))
            and (where is None or where(letter))
        )

    return fits
