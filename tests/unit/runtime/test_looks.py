"""One look of a worker for runs: what it takes, what it leaves, whether there is more; it looks when the test says so."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.unit.runtime.scenes import Shared, opened, until, worker_of

import reprise.runtime.worker
from reprise import Limit, VirtualClock, step, wait_for_signal, workflow
from reprise.kernel.errors import NoRoom
from reprise.stores.memory import MemoryStore


@step
async def one(name: str) -> str:
    return name


@workflow
async def short(name: str) -> str:
    return await one(name)


@workflow
async def waits(name: str) -> str:
    return await wait_for_signal("go", str)


@workflow
async def parent(name: str) -> str:
    return await short(f"child of {name}")


@pytest.fixture(autouse=True)
def slow(monkeypatch):
    """Nothing is found by looking again after a while."""
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 3600)


@asynccontextmanager
async def asked(store: MemoryStore, **options):
    """Open an app whose worker looks when it is asked to."""
    async with opened(store, **options) as app:
        for task in worker_of(app)._tasks:
            task.cancel()
        yield app


async def due(store: MemoryStore, flow, *runs: str, **options) -> None:
    """Start runs that wait for a worker."""
    async with opened(store, worker=False, **options) as app:
        for run in runs:
            await app.start(flow, run, id=run, detach=True)


async def test_it_says_whether_there_is_more_to_take(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "BATCH", 2)
    store = Shared()
    async with asked(store, workflows=[waits]) as app:
        await due(store, waits, "a", "b", "c")
        looks = [await worker_of(app).look() for _ in range(3)]
        assert looks == [True, False, False]
        assert set(app.engine.executions) == {"a", "b", "c"}


async def test_there_is_more_when_there_was_no_room_for_all():
    store = Shared()
    async with asked(store, workflows=[waits], max_loaded=1) as app:
        await due(store, waits, "a", "b")
        assert await worker_of(app).look()


async def test_what_cannot_be_taken_is_no_reason_to_look_again_at_once(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "BATCH", 2)
    store = Shared()

    async def faster(row) -> None: ...

    async with asked(store, workflows=[waits]) as app:
        monkeypatch.setattr(app.engine, "take_over", faster)
        await due(store, waits, "a", "b", "c")
        assert not await worker_of(app).look()


async def test_who_finds_no_room_is_in_nobodys_way_and_looks_again(monkeypatch):
    store = Shared()
    async with asked(store, workflows=[waits]) as app:
        worker, take_over = worker_of(app), app.engine.take_over

        async def rival(row):
            if row.id == "a":
                raise NoRoom("Somebody was faster.")
            await asyncio.sleep(0)
            return await take_over(row)

        monkeypatch.setattr(app.engine, "take_over", rival)
        await due(store, waits, "a", "b")
        worker._tapped.clear()
        await worker.look()
        assert set(app.engine.executions) == {"b"}
        assert worker._tapped.is_set()


async def test_mail_whose_tap_was_lost_is_found(monkeypatch):
    store = Shared()
    async with asked(store, workflows=[waits]) as app, opened(store, worker=False) as other:
        handle = await app.start(waits, "a", id="a")
        await until(lambda: "a" in app.engine.loaded.idle)
        monkeypatch.setattr(store.signal, "wake", lambda names: None)
        await other.client.signal("a", "go", "x")
        assert "a" in app.engine.loaded.idle
        await worker_of(app).look()
        assert await handle.result(5) == "x"
        assert app.engine.counters["taken"] == 0


async def test_what_runs_of_a_shunned_build_hid_is_looked_for_at_once(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "BATCH", 1)
    store = Shared()
    await due(store, short, "a", build="strange", workflows=[short])
    await due(store, short, "b")
    async with opened(store, workflows=[short], build="own", accepts=[]) as app:
        assert await app.handle("b", short).result(5) == "b"
        assert (await app.client.row("a")).status == "pending"


async def test_who_is_for_one_run_takes_it_and_its_children_and_no_other():
    store = Shared()
    await due(store, parent, "a", "b")
    await due(store, short, "a2")
    async with opened(store, workflows=[parent, short], only="a") as app:
        assert await app.handle("a", parent).result(5) == "child of a"
        assert {(await app.client.row(run)).status for run in ("b", "a2")} == {"pending"}


async def test_who_is_for_one_run_takes_it_when_it_is_due_and_not_before():
    @workflow
    async def sleeps(name: str) -> str:
        await asyncio.sleep(3600)
        return name

    clock = VirtualClock()
    store = Shared(clock)
    async with asked(store, workflows=[sleeps], clock=clock) as app:
        await app.start(sleeps, "a", id="a")
        await until(lambda: "a" in app.engine.loaded.idle)
        worker_of(app)._idle = 0.0
        await worker_of(app).look()
        assert "a" not in app.engine.executions
    async with asked(store, workflows=[sleeps], clock=clock, only="a") as app:
        await worker_of(app).look()
        assert "a" not in app.engine.executions
        clock.advance(3600)
        await worker_of(app).look()
        assert "a" in app.engine.executions


@workflow(limits=Limit(1))
async def narrow(name: str) -> str:
    return await wait_for_signal("go", str)


async def test_who_is_for_one_run_takes_it_out_of_its_line_when_there_is_room():
    store = Shared()
    async with asked(store, workflows=[narrow], only="b") as app, asked(store, workflows=[narrow]) as other:
        await due(store, narrow, "b", workflows=[narrow])
        holder = await other.store.lease.take("slot/narrow", "somebody", 60)
        await worker_of(app).look()
        assert "b" not in app.engine.executions
        await other.store.lease.drop([holder])
        await worker_of(app).look()
        assert "b" in app.engine.executions


async def test_who_puts_a_fork_into_its_line_taps_those_who_may_take_it():
    @workflow(limits=Limit(1))
    async def flow() -> str:
        return await one("x")

    store = Shared()
    async with opened(store) as app:
        await app.run(flow, id="r")
    async with asked(store, workflows=[flow]) as app, opened(store, worker=False) as other:
        forked = await other.client.fork("r", at="one")
        await asyncio.sleep(0)
        taps: list[str] = []
        store.signal.listen("runs", taps.append)
        await worker_of(app).look()
        assert (await app.client.row(forked.id)).in_line
        await until(lambda: taps)


async def test_what_nobody_here_knows_stays_where_it_is_due_and_in_its_line(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "STRANGER", 0.0)
    clock = VirtualClock()
    store = Shared(clock)
    await due(store, short, "a", clock=clock)
    await due(store, narrow, "b", clock=clock, workflows=[narrow])
    async with asked(store, clock=clock) as app:
        before = [await app.client.row(run) for run in ("a", "b")]
        clock.advance(10)
        await worker_of(app).look()
        after = [await app.client.row(run) for run in ("a", "b")]
    assert [row.status for row in after] == ["stranded", "stranded"]
    assert [(row.due_at, row.in_line) for row in after] == [(row.due_at, row.in_line) for row in before]
    assert [row.in_line for row in after] == [False, True]


async def test_a_second_stop_does_nothing():
    async with opened() as app:
        worker, taps = worker_of(app), []
        await worker.stop()
        app.store.signal.listen("runs", taps.append)
        await worker.stop()
        await asyncio.sleep(0)
        assert not taps


async def test_a_stopped_worker_leaves_no_timer_behind():
    @workflow
    async def sleeps() -> None:
        await asyncio.sleep(3600)

    async with opened() as app:
        worker = worker_of(app)
        worker._look_at(app.clock.now() + 3_600_000_000)
        timer = worker._next
        assert not timer.cancelled()
    assert timer.cancelled()
