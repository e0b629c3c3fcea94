"""Tasks that were given up: why, what was tried, and another chance for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from reprise.coordination.tasks import TaskInfo
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.policy import Duration, seconds

if TYPE_CHECKING:
    from reprise.coordination.queue import TaskQueue

_PAGE = 500


class DeadLetters:
    """The dead letters of a queue.

    They are chosen by ids, or by what holds for all of them: ``task_type``, ``reason`` (a part of it), ``older_than``
    seconds, and ``where``, a function of :class:`TaskInfo`. To mean all without a condition, say ``all=True``.
    """

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    async def list(
        self,
        limit: int = 100,
        *,
        task_type: str = "",
        reason: str = "",
        older_than: Duration = 0,
        where: Callable[[TaskInfo], bool] | None = None,
    ) -> list[TaskInfo]:
        """Return dead letters, those that died first first."""
        fits = _condition(self._queue, task_type, reason, older_than, where)
        found: list[TaskInfo] = []
        async for letter in self._all():
            if fits(letter):
                found.append(letter)
            if len(found) >= limit:
                break
        return found

    async def requeue(
        self,
        *task_ids: str,
        all: bool = False,
        task_type: str = "",
        reason: str = "",
        older_than: Duration = 0,
        where: Callable[[TaskInfo], bool] | None = None,
    ) -> int:
        """Give dead letters all their tries again; return how many. Their history stays.

        Raises ``ConfigurationError`` when nothing is said of which.
        """
        store = await self._queue.start()
        ids = await self._chosen(task_ids, all, task_type, reason, older_than, where)
        count = await store.queue.change(self._queue.name, ids, state="ready", due_at=self._queue.clerk.now())
        store.signal.wake([f"queue/{self._queue.name}"])
        return count

    async def purge(
        self,
        *task_ids: str,
        all: bool = False,
        task_type: str = "",
        reason: str = "",
        older_than: Duration = 0,
        where: Callable[[TaskInfo], bool] | None = None,
    ) -> int:
        """Remove dead letters for ever; return how many.

        Raises ``ConfigurationError`` when nothing is said of which.
        """
        store = await self._queue.start()
        ids = await self._chosen(task_ids, all, task_type, reason, older_than, where)
        return await store.queue.change(self._queue.name, ids, state="gone")

    async def _chosen(
        self,
        ids: tuple[str, ...],
        all: bool,
        task_type: str,
        reason: str,
        older_than: Duration,
        where: Callable[[TaskInfo], bool] | None,
    ) -> list[str]:
        has_condition = bool(all or task_type or reason or older_than or where)
        if bool(ids) == has_condition:
            raise ConfigurationError(
                "It is not clear which dead letters are meant.", hint="Give ids, or a condition, or all=True."
            )
        fits = _condition(self._queue, task_type, reason, older_than, where)
        return [letter.task_id async for letter in self._all(ids) if ids or fits(letter)]

    async def _all(self, ids: tuple[str, ...] = ()) -> AsyncIterator[TaskInfo]:
        if ids:
            store = await self._queue.start()
            for row in await store.queue.find(self._queue.name, "dead", len(ids), ids=ids):
                yield self._queue.info_of(row)
            return
        skip = 0
        while page := await self._queue.peek("dead", _PAGE, skip=skip):
            for letter in page:
                yield letter
            skip += len(page)


def _condition(
    queue: TaskQueue,
    task_type: str,
    reason: str,
    older_than: Duration,
    where: Callable[[TaskInfo], bool] | None,
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
