"""Which runs stay in memory: bounded by count and bytes, the latest active stay, many leave at once, none is forgotten."""

import asyncio
import gc
import weakref

import pytest
from tests.unit.runtime.scenes import Shared, kill, opened, row_when, status_is, until

import reprise.runtime.loaded
import reprise.runtime.worker
from reprise import RunPaused, VirtualClock, step, wait_for_signal, workflow
from reprise.kernel.errors import StaleToken, StaleVersion, StoreUnreachable
from reprise.kernel.events import Event, Kind
from reprise.runtime.parking import Leaving
from reprise.stores.log import Append, Group, append, outcome
from reprise.stores.memory import MemoryStore
from reprise.stores.runs import find_row

ran: list[str] = []


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 0.01)
    ran.clear()


@step
async def text_of(n: int) -> str:
    ran.append(f"text-{n}")
    return "x" * n


@workflow
async def holds(n: int) -> int:
    text = await text_of(n)
    while await wait_for_signal("go", str) != "end":
        pass
    return len(text)


async def resting(app, *runs):
    """Wait until runs in memory only wait."""
    await until(lambda: all(run in app.engine.loaded.idle for run in runs))


# ---------------------------------------------------------------- who stays


async def test_as_many_stay_as_there_is_room_for_and_all_come_back():
    async with opened(max_loaded=7) as app:
        handles = await asyncio.gather(*(app.start(holds, n, id=f"r{n}") for n in range(50)))
        await until(lambda: len(app.engine.executions) == 7 and len(app.engine.loaded.idle) == 7)
        assert app.engine.counters["parked"] == 43
        assert await app.store.runs.count(by="owner") == {"": 43, app.engine.worker: 7}
        await asyncio.gather(*(handle.signal("go", "end") for handle in handles))
        assert [await handle.result(10) for handle in handles] == list(range(50))
        assert len(app.engine.executions) <= 7
    assert len(ran) == 50


async def test_those_that_were_active_last_stay():
    async with opened(max_loaded=3) as app:
        for name in "abc":
            await app.start(holds, 1, id=name)
            await resting(app, name)
        await app.client.signal("a", "go", "on")
        await until(lambda: list(app.engine.loaded.idle) == ["b", "c", "a"])
        await app.start(holds, 1, id="d")
        await until(lambda: list(app.engine.loaded.idle) == ["c", "a", "d"])
        assert await status_is(app, "b", "waiting")


async def test_large_ones_leave_though_there_are_few():
    room = 10 * reprise.runtime.loaded.TASK_BYTES
    async with opened(max_loaded_bytes=room) as app:
        await app.start(holds, 1, id="small")
        await resting(app, "small")
        await app.start(holds, room, id="large")
        await until(lambda: app.engine.loaded.runs == {})
        assert app.engine.loaded.bytes == 0
        await app.start(holds, 1, id="next")
        await resting(app, "next")
        assert 0 < app.engine.loaded.bytes < room
        for name, size in (("small", 1), ("large", room), ("next", 1)):
            await app.client.signal(name, "go", "end")
            assert await app.handle(name).result(5) == size
        await until(lambda: app.engine.loaded.bytes == 0)


async def test_a_run_that_got_mail_on_its_way_out_stays():
    store = MemoryStore()
    async with opened(store, max_loaded=1) as app:
        await app.start(holds, 1, id="a")
        await resting(app, "a")
        submit = store.log.submit

        def submit_after_mail(appends):
            leaves = [a for a in appends if any(g.stream == "inbox/a" and not g.events for g in a.groups)]
            if leaves:
                store.log.submit = submit
                mail = Event(Kind.SIGNAL_SENT, 1, "m", b'{"name":"go","value":"end"}')
                submit([Append(7, (Group("inbox/a", [mail]),))])
            submit(appends)

        store.log.submit = submit_after_mail
        await app.start(holds, 2, id="b")
        assert await app.handle("a").result(5) == 1
        await app.client.signal("b", "go", "end")
        assert await app.handle("b").result(5) == 2


async def test_a_start_waits_while_too_many_are_on_their_way_out(monkeypatch):
    monkeypatch.setattr(reprise.runtime.loaded, "BATCH", 2)
    most = 0

    def look(run, events):
        nonlocal most
        most = max(most, len(app.engine.executions) + len(app.engine.starting))

    async with opened(max_loaded=3, observers=[look]) as app:
        for n in range(40):
            await app.start(holds, 1, id=f"r{n}")
        await until(lambda: len(app.engine.executions) <= 3)
    assert most <= 3 + 2 + 1


# ---------------------------------------------------------------- what others see


async def test_a_run_in_memory_that_only_waits_is_shown_so(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "RESTS", 0.0)
    async with opened() as app:
        handle = await app.start(holds, 1, id="one")
        row = await status_is(app, "one", "waiting")
        assert row.owner == app.engine.worker
        assert "one" in app.engine.executions
        before = list(app.engine.loaded.idle)
        assert before == ["one"], "to be shown does not count as activity"
        monkeypatch.setattr(reprise.runtime.worker, "RESTS", 60.0)
        await handle.signal("go", "on")
        await status_is(app, "one", "running")
        await handle.signal("go", "end")
        assert await handle.result(5) == 1
    assert ran == ["text-1"]


async def test_waiting_while_workers_die_is_no_poison():
    clock = VirtualClock()
    shared = Shared(clock)
    async with opened(shared, clock=clock) as first:
        await first.start(holds, 1, id="one")
        await resting(first, "one")
        kill(first)
    for _ in range(12):
        clock.advance(16)
        async with opened(shared, workflows=[holds], clock=clock) as app:
            await resting(app, "one")
            await until(lambda: not app.engine._tasks)
            kill(app)
    clock.advance(16)
    async with opened(shared, workflows=[holds], clock=clock) as last:
        await resting(last, "one")
        await last.client.signal("one", "go", "end")
        assert await last.handle("one").result(5) == 1


async def test_a_run_that_was_just_resumed_does_not_count_as_paused():
    async with opened() as app:
        handle = await app.start(holds, 1, id="one")
        await resting(app, "one")
        await handle.pause()
        await row_when(app, "one", lambda row: row.status == "paused" and row.due_at is None)
        with pytest.raises(RunPaused):
            await handle.result(5)
        await handle.resume()
        result = asyncio.ensure_future(handle.result(5))
        await handle.signal("go", "end")
        assert await result == 1


def ends(app, execution, leaving):
    execution.evict()
    app.engine.ended_quietly(execution)


def fails_with(error):
    def fails(app, execution, leaving):
        leaving.append.error = error

    return fails


STAYS = {
    "it ended": ends,
    "mail came": fails_with(StaleVersion("There is mail.")),
    "another owns it": fails_with(StaleToken("It was taken.")),
    "the store failed": fails_with(StoreUnreachable("The disk is gone.")),
    "it was woken": lambda app, execution, leaving: execution.wake(),
}


@pytest.mark.parametrize("meanwhile", STAYS.values(), ids=STAYS)
async def test_who_does_not_leave_does_not_count_as_having_left(meanwhile):
    async with opened() as app:
        await app.start(holds, 1, id="one")
        await resting(app, "one")
        execution = app.engine.executions["one"]
        leaving = Leaving(app.engine, execution, in_line=False)
        meanwhile(app, execution, leaving)
        assert leaving.settle() is False
        assert execution.done is (meanwhile in (STAYS["it ended"], STAYS["another owns it"]))


async def test_a_run_that_is_about_to_end_is_not_given_back():
    store, held = Shared(), []
    submit = store.log.submit

    def late(appends):
        is_end = any(group.closes for append in appends for group in append.groups)
        (held.extend if is_end else submit)(appends)

    async with opened(store) as app:
        handle = await app.start(holds, 1, id="one")
        await resting(app, "one")
        store.log.submit = late
        await handle.signal("go", "end")
        await until(lambda: held)
        engine = app.engine
    assert engine.counters["lost"] == 0
    submit(held)
    row = await find_row(store.runs, "one")
    assert (row.status, row.due_at) == ("completed", None)


# ---------------------------------------------------------------- nothing stays behind


async def test_a_run_that_ended_needs_no_memory_and_no_collector():
    async with opened() as app:
        handle = await app.start(holds, 1, id="one")
        await resting(app, "one")
        body = weakref.ref(app.engine.executions["one"])
        gc.disable()
        try:
            await handle.signal("go", "end")
            assert await handle.result(5) == 1
            await until(lambda: body() is None)
        finally:
            gc.enable()


async def test_waits_that_were_given_up_are_forgotten():
    @workflow
    async def asks(times: int) -> int:
        for _ in range(times):
            try:
                await wait_for_signal("never", timeout=0.0001)
            except TimeoutError:
                continue
        await wait_for_signal("go")
        return times

    async with opened() as app:
        handle = await app.start(asks, 20, id="one")
        mail = app.engine.executions["one"].mail
        await until(lambda: mail.awaited() == ["go"])
        assert ({name: len(waiters) for name, waiters in mail._waiters.items()}, mail._values) == (
            {"go": 1},
            {},
        )
        await handle.signal("go")
        assert await handle.result(5) == 20


async def test_an_append_and_its_future_let_each_other_go():
    store = MemoryStore()
    await append(store.log, 1, Group("a", [Event(16, 1)]))
    future, done = outcome()
    waits = weakref.ref(future)
    store.log.submit([Append(2, (Group("a", [Event(16, 1)]),), done)])
    await future
    gc.disable()
    try:
        del future, done
        await asyncio.sleep(0)
        assert waits() is None
    finally:
        gc.enable()


async def test_what_is_due_is_found_without_looking_at_the_rest():
    store = MemoryStore()
    looked = []

    class Rows(dict):
        def __getitem__(self, id):
            looked.append(id)
            return super().__getitem__(id)

        def values(self):
            raise AssertionError("all rows were looked at")

    clock = VirtualClock()
    async with opened(store, clock=clock, max_loaded=1) as app:
        for n in range(60):
            await app.start(holds, 1, id=f"r{n}")
        await until(lambda: len(app.engine.executions) == 1)
    store.runs._rows = Rows(store.runs._rows)
    store.log.closed = False
    (one,) = await store.runs.due(clock.now(), owner="me")
    assert set(looked) == {one.id}, "the one that was given back when the app closed"
