"""Races that the crash suite found, each held still."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest
from tests.unit.runtime.scenes import Shared, opened, recorded, until

from reprise import Reprise, wait_for_signal, workflow
from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import RunNotFound
from reprise.kernel.events import Event, Kind, Signal, inbox_stream, run_stream
from reprise.kernel.ids import Counter
from reprise.runtime.parking import park
from reprise.stores.log import Append, Group, RunChange, append
from reprise.stores.memory import MemoryStore


@workflow
async def sleeper(n: int) -> int:
    await asyncio.sleep(3600)
    return n


@workflow
async def at_once(n: int) -> int:
    return n


async def test_a_run_that_somebody_took_since_the_index_was_read_is_not_taken_again(tmp_path):
    url = f"sqlite:///{tmp_path / 'runs.db'}?synchronous=OFF"
    async with (
        Reprise(url, worker=False) as client,
        Reprise(url, workflows=[sleeper], claims=False) as first,
        Reprise(url, workflows=[sleeper], claims=False) as second,
    ):
        await client.start(sleeper, 1, id="one", detach=True)
        (row,) = await client.store.runs.due(SystemClock().now(), owner="nobody")
        assert await first.engine.take_over(row) is not None
        assert await second.engine.take_over(row) is None
        assert (await client.client.row("one")).owner == first.engine.worker


async def test_a_waiter_that_looks_while_the_run_ends_gets_the_result():
    async with Reprise(MemoryStore()) as app:
        await app.run(at_once, 7, id="one")
        ended = app.client.finished
        looks = 0

        async def finished(run: str) -> object:
            nonlocal looks
            looks += 1
            return None if looks == 1 else await ended(run)  # the run ends between the looks at log and index

        app.client.finished = finished
        found = await app.client.wait("one", 5, settled=True)
        assert (found.status, bytes(found.value)) == ("completed", b"7")


def before_reading(app: Reprise, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Let something happen once, before the next records of the log are read."""
    log = app.store.log
    read = log.read

    async def late(*args: object) -> object:
        log.read = read
        await meanwhile()
        return await read(*args)

    log.read = late


async def _begin_anew(app: Reprise) -> None:
    """Drop the run that has the id, and start another one under it."""
    await app.store.log.drop(run_stream("one"))
    await app.start(sleeper, 2, id="one", detach=True)


@pytest.mark.parametrize("is_made_again", [False, True])
async def test_a_run_that_is_deleted_while_somebody_looks_whether_it_has_ended(is_made_again):
    async with Reprise(MemoryStore()) as app:
        await app.run(at_once, 7, id="one")
        before_reading(
            app, lambda: _begin_anew(app) if is_made_again else app.store.log.drop(run_stream("one"))
        )
        assert await app.client.finished("one") is None
        if not is_made_again:
            with pytest.raises(RunNotFound):
                await app.client.wait("one", 5)


async def test_a_run_that_is_deleted_while_its_id_is_used_again_is_started_anew():
    async with Reprise(MemoryStore()) as app:
        await app.run(at_once, 7, id="one")
        before_reading(app, lambda: app.store.log.drop(run_stream("one")))
        assert await app.run(at_once, 8, id="one") == 8


async def _send_without_a_tap(store: MemoryStore, run: str, name: str, id: str) -> None:
    """Send a signal as somebody does who is killed after the commit and before the tap."""
    now = SystemClock().now()
    data = msgspec.json.encode(Signal(name, msgspec.Raw(b'"sent"')))
    mail = Group(
        inbox_stream(run), [Event(Kind.SIGNAL_SENT, now, id, data)], run=RunChange(run, due_at=now, at=now)
    )
    await append(store.log, Counter().new(), mail)


class _Between:
    """Let something happen before the store writes an append that this predicate tells."""

    def __init__(
        self, store: MemoryStore, when: Callable[[Append], bool], what: Callable[[], Awaitable[None]]
    ) -> None:
        self._submit, self._when, self._what = store.log.submit, when, what
        self.happened = 0
        store.log.submit = self._hold

    def _hold(self, appends: Sequence[Append]) -> None:
        if self.happened or not any(map(self._when, appends)):
            self._submit(appends)
            return
        self.happened += 1
        self._task = asyncio.ensure_future(self._first(appends))

    async def _first(self, appends: Sequence[Append]) -> None:
        await self._what()
        self._submit(appends)


def _records(kind: Kind) -> Callable[[Append], bool]:
    return lambda append: any(event.kind == kind for group in append.groups for event in group.events)


@workflow
async def two_letters() -> list[str]:
    return [await wait_for_signal("first", str), await wait_for_signal("second", str)]


async def test_mail_that_comes_while_a_run_is_taken_over_is_read_although_nobody_taps():
    store = Shared()
    async with opened(store, worker=False) as client:
        await client.start(two_letters, id="one", detach=True)
    between = _Between(
        store, _records(Kind.RUN_OWNED), lambda: _send_without_a_tap(store, "one", "first", "a")
    )
    async with opened(store, workflows=[two_letters]) as app:
        await recorded(app, "one", Kind.SIGNAL_RECEIVED)
        assert between.happened


async def test_mail_that_comes_while_earlier_mail_is_recorded_is_read_although_nobody_taps():
    store = Shared()
    between = _Between(
        store, _records(Kind.SIGNAL_RECEIVED), lambda: _send_without_a_tap(store, "one", "second", "b")
    )
    async with opened(store) as app:
        run = await app.start(two_letters, id="one")
        await run.signal("first", "sent")
        assert await run.result(5) == ["sent", "sent"]
        assert between.happened


async def test_a_resumed_run_lets_its_resting_children_go_on():
    store = Shared()
    async with opened(store) as app:
        parent = await app.start(with_child, id="one")
        child = await until(lambda: next((id for id in app.engine.executions if id != "one"), ""))
        await app.client.pause(child)
        await until(lambda: child not in app.engine.executions)
        assert [row.id for row in await app.client.resting("one")] == [child]
        await parent.signal("first", "not mine")
        await app.resume("one")
        for name in ("first", "second"):
            await app.client.signal(child, name, name)
        assert await parent.result(5) == ["first", "second"]


@workflow
async def with_child() -> list[str]:
    return await two_letters()


@workflow
async def takes_leave() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        await wait_for_signal("leave")


async def test_a_run_past_its_deadline_rests_until_something_comes():
    store = Shared()
    async with opened(store) as app:
        await app.start(takes_leave, id="one", deadline=0.001)
        await recorded(app, "one", Kind.CANCEL_REQUESTED)
        execution = app.engine.executions["one"]
        await until(lambda: execution.idle)
        assert await park(app.engine, [execution])
        assert (await app.client.row("one")).due_at is None
