"""Several workers on one store: one owner at a time, take-over, poison, leaving memory and coming back, store trouble."""

import asyncio
import os
from contextlib import AsyncExitStack

import msgspec
import pytest
from tests.unit.runtime.scenes import (
    Shared,
    Trouble,
    history,
    keys,
    kill,
    kinds,
    opened,
    recorded,
    row_when,
    status_is,
    until,
    worker_of,
)

import reprise.runtime.worker
from reprise import (
    BodyError,
    Evicted,
    Kind,
    OutcomeUnknown,
    Reprise,
    RunNeedsAttention,
    StaleToken,
    StoreCorrupt,
    StoreFull,
    StoreLocked,
    StoreUnreachable,
    VirtualClock,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import run_stream
from reprise.runtime.parking import park
from reprise.runtime.unwind import GRAVEYARD
from reprise.stores.log import EXISTS, Group, RunChange, append
from reprise.stores.memory import MemoryStore

ran: list[str] = []


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 0.01)
    ran.clear()


@step
async def one(n: int = 1) -> int:
    ran.append(f"one-{n}")
    return n


@workflow
async def chain(n: int) -> list[int]:
    out = []
    for i in range(n):
        await asyncio.sleep(0.0005)
        out.append(await one(i))
    return out


@workflow
async def waits() -> str:
    await one()
    return await wait_for_signal("go", str)


async def idle_in(app: Reprise, run: str):
    """Wait until a run in memory only waits, and return its execution."""
    return await until(
        lambda: (
            (e := app.engine.executions.get(run)) is not None
            and e.live
            and e.idle
            and run in app.engine.loaded.idle
            and e
        )
    )


# ---------------------------------------------------------------- one owner at a time


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_every_run_is_executed_by_one_worker(kind, tmp_path):
    shared = Shared()
    url = f"sqlite:///{tmp_path / 'runs.db'}?synchronous=OFF"
    async with AsyncExitStack() as stack:
        apps = [
            await stack.enter_async_context(
                opened(shared if kind == "memory" else url, workflows=[chain], middleware=[note])
            )
            for _ in range(3)
        ]
        await asyncio.gather(*(apps[0].start(chain, 3, id=f"run-{i}", detach=True) for i in range(30)))
        for i in range(30):
            assert await apps[i % 3].handle(f"run-{i}", chain).result(20) == [0, 1, 2]
        for i in range(30):
            records = await apps[0].store.log.read(run_stream(f"run-{i}"))
            assert kinds(records).count("RUN_OWNED") == 1
    steps = [entry for entry in ran if ":" in entry]
    assert len(steps) == len(set(steps)) == 90


async def note(call, next):
    ran.append(f"{call.run}{call.key}")
    return await next(call)


async def test_an_owner_that_was_taken_over_cannot_write_and_leaves():
    shared = Shared()
    async with opened(shared) as first, opened(shared, workflows=[waits], claims=False) as second:
        handle = await first.start(waits, id="one")
        await idle_in(first, "one")
        execution = await second.engine.take_over(await first.client.row("one"))
        assert execution is not None
        await idle_in(second, "one")
        stale = first.engine.executions["one"]
        stale.record(Kind.SIGNAL_RECEIVED, "forged", b'{"name":"go","value":"forged"}')
        await until(lambda: "one" not in first.engine.executions)
        assert first.engine.counters["lost"] == 1
        assert "forged" not in keys(await first.store.log.read(run_stream("one")))
        await second.client.signal("one", "go", "x")
        assert await handle.result(5) == "x", "who waits at the first is told by the second"
    assert ran == ["one-1"]


async def test_a_worker_whose_idle_run_was_taken_goes_on_with_others():
    shared = Shared()
    async with opened(shared) as first, opened(shared, workflows=[waits], claims=False) as second:
        await first.start(waits, id="one")
        stale = await idle_in(first, "one")
        await second.engine.take_over(await first.client.row("one"))
        worker_of(first)._idle = 0.0
        await until(lambda: stale.done)
        handle = await first.start(chain, 2, id="two", detach=True)
        assert await handle.result(5) == [0, 1]
        await second.client.signal("one", "go", "x")
        assert await second.handle("one").result(5) == "x"


# ---------------------------------------------------------------- workers that die


async def test_runs_of_a_worker_whose_lease_ended_are_taken_over():
    clock = VirtualClock()
    shared = Shared(clock)
    async with opened(shared, clock=clock) as first, opened(shared, workflows=[waits], clock=clock) as second:
        await first.start(waits, id="one")
        await idle_in(first, "one")
        kill(first)
        await asyncio.sleep(0.03)
        assert "one" not in second.engine.executions, "its lease still holds"
        clock.advance(16)
        await worker_of(second)._store.lease.renew([worker_of(second)._grant], 15)
        await idle_in(second, "one")
        await second.client.signal("one", "go", "x")
        assert await second.handle("one").result(5) == "x"
    assert ran == ["one-1"]


def presence_of(app):
    return worker_of(app)._presence


async def test_runs_of_a_process_that_died_here_are_taken_over_at_once(tmp_path):
    url = f"sqlite:///{tmp_path / 'runs.db'}?synchronous=OFF"
    async with opened(url) as first, opened(url, workflows=[waits]) as second:
        await first.start(waits, id="one")
        await idle_in(first, "one")
        kill(first)
        held = presence_of(first)._held
        os.close(held.pop(first.engine.worker))  # as the kernel does for a process that is gone
        await idle_in(second, "one")
        await second.client.signal("one", "go", "x")
        assert await second.handle("one").result(5) == "x"
    assert ran == ["one-1"]


async def test_who_cannot_take_the_run_of_a_dead_worker_leaves_the_sign_of_its_death(tmp_path):
    url = f"sqlite:///{tmp_path / 'runs.db'}?synchronous=OFF"
    async with opened(url) as first, opened(url) as stranger:
        worker_of(stranger)._strangers_at = float("inf")
        await first.start(waits, id="one")
        await idle_in(first, "one")
        dead = first.engine.worker
        kill(first)
        os.close(presence_of(first)._held.pop(dead))
        await worker_of(stranger).look()
        assert await presence_of(stranger).died([dead]) == {dead}
        stranger.registry.add(waits)
        await idle_in(stranger, "one")
        await until(lambda: not presence_of(stranger)._is_free(dead))


async def test_a_worker_that_lost_its_lease_begins_again_under_a_new_name(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "LEASE", 0.03)
    clock = VirtualClock()
    store = MemoryStore(clock)
    async with opened(store, clock=clock) as app:
        worker = worker_of(app)
        worker._ttl, worker._idle = 0.03, 1e9
        handle = await app.start(waits, id="one")
        await idle_in(app, "one")
        waiting = asyncio.create_task(handle.result(5))
        before = worker.id
        for task in worker._tasks[:1]:
            task.cancel()
        clock.advance(60)
        worker._tasks.append(asyncio.create_task(worker._renew()))
        await until(lambda: worker.id != before)
        await idle_in(app, "one")
        assert (await app.client.row("one")).owner == worker.id
        await handle.signal("go", "x")
        assert await waiting == "x"
    assert ran == ["one-1"]


# ---------------------------------------------------------------- poison


async def test_a_run_that_kills_its_workers_needs_attention_until_somebody_resumes_it():
    clock = VirtualClock()
    shared = Shared(clock)
    deaths = asyncio.Event()

    @step
    async def deadly() -> int:
        ran.append("deadly")
        deaths.set()
        if len(ran) <= 5:
            await asyncio.sleep(60)
        return 7

    @workflow
    async def flow() -> int:
        return await deadly()

    async with AsyncExitStack() as stack:
        for n in range(5):
            app = await stack.enter_async_context(opened(shared, workflows=[flow], clock=clock))
            if n == 0:
                await app.start(flow, id="one")
            await deaths.wait()
            deaths.clear()
            kill(app)
            clock.advance(16)
        last = await stack.enter_async_context(opened(shared, workflows=[flow], clock=clock))
        row = await status_is(last, "one", "needs_attention")
        assert "taken over 5 times without progress" in row.error
        # Its last owner may only have stood still: it cannot go on with what nobody looks after any more.
        owned = [record for record in await history(last.store, "one") if record.kind == Kind.RUN_OWNED]
        late = Group(
            "run/one",
            (),
            EXISTS,
            msgspec.json.decode(owned[-1].data)["token"],
            run=RunChange("one", "running"),
        )
        with pytest.raises(StaleToken):
            await append(last.store.log, 1, late)
        with pytest.raises(RunNeedsAttention, match="5 times"):
            await last.handle("one").result(5)
        await last.client.signal("one", "whatever")
        await row_when(last, "one", lambda row: row.due_at is None)
        assert await last.handle("one").status() == "needs_attention"
        assert len(ran) == 5
        await last.handle("one").resume()
        await status_is(last, "one", "completed")
        assert await last.handle("one").result(5) == 7


async def test_orderly_restarts_are_no_deaths():
    store = MemoryStore()
    async with opened(store) as app:
        await app.start(waits, id="one")
        await idle_in(app, "one")
    for _ in range(7):
        async with opened(store, workflows=[waits]) as app:
            await idle_in(app, "one")
    async with opened(store, workflows=[waits]) as app:
        await app.client.signal("one", "go", "x")
        assert await app.handle("one").result(5) == "x"


async def test_a_damaged_history_needs_attention_and_holds_nobody_up():
    store = MemoryStore()
    async with opened(store) as app:
        await app.start(waits, id="one")
        await app.start(waits, id="two")
        await idle_in(app, "two")
    await store.start()
    read = store.log.read

    async def damaged(stream, after=0, limit=None):
        if stream == "run/one":
            raise StoreCorrupt("The checksum of run/one version 2 is wrong.")
        return await read(stream, after, limit)

    store.log.read = damaged
    async with opened(store, workflows=[waits]) as app:
        row = await status_is(app, "one", "needs_attention")
        assert "checksum" in row.error
        await app.client.signal("two", "go", "x")
        assert await app.handle("two").result(5) == "x"


# ---------------------------------------------------------------- leaving memory


async def test_waiting_runs_beyond_the_bound_leave_memory_and_come_back():
    async with opened(max_loaded=5) as app:
        handles = [await app.start(waits, id=f"run-{i}") for i in range(20)]
        await until(lambda: len(app.engine.executions) <= 5)
        assert app.statistics()["worker"]["parked"] >= 15
        row = await row_when(app, "run-0", lambda row: row.status == "waiting")
        assert row.owner is None
        for handle in handles:
            await handle.signal("go", handle.id)
        assert [await handle.result(10) for handle in handles] == [handle.id for handle in handles]
    assert len(ran) == 20


async def test_a_run_that_waits_long_leaves_memory_and_its_timer_brings_it_back():
    @workflow
    async def sleeps() -> str:
        await asyncio.sleep(0.5)
        return "awake"

    async with opened() as app:
        worker_of(app)._idle = 0.001
        handle = await app.start(sleeps, id="one")
        await until(lambda: app.engine.counters["parked"])
        assert "one" not in app.engine.executions
        assert (await app.client.row("one")).due_at is not None
        assert await handle.result(5) == "awake"
        assert app.engine.counters["taken"] == 1


async def test_a_signal_in_the_moment_of_leaving_is_not_lost():
    for moment in range(6):
        async with opened() as app:
            handle = await app.start(waits, id="one")
            execution = await idle_in(app, "one")
            parking = asyncio.create_task(park(app.engine, [execution]))
            for _ in range(moment):
                await asyncio.sleep(0)
            await handle.signal("go", "x")
            await parking
            assert await handle.result(5) == "x"


async def test_a_timer_in_the_moment_of_leaving_is_not_lost():
    @workflow
    async def sleeps() -> int:
        await asyncio.sleep(0.002)
        return await one(2) + await one(3)

    for moment in range(12):
        async with opened() as app:
            handle = await app.start(sleeps, id="one")
            execution = app.engine.executions["one"]
            await asyncio.sleep(0.0003 * moment)
            await park(app.engine, [execution])
            assert await handle.result(5) == 5


async def test_leaving_memory_runs_no_step_and_records_nothing():
    heard = []

    @workflow
    async def flow() -> str:
        async def branch() -> None:
            try:
                await wait_for_signal("never")
            except BaseException as error:
                heard.append(type(error))
                raise
            finally:
                try:
                    await one(100)
                except BaseException as error:
                    heard.append(type(error))
                    raise

        task = asyncio.create_task(branch())
        try:
            return await wait_for_signal("go", str)
        finally:
            async with asyncio.Lock():
                try:
                    await asyncio.sleep(0.001)
                finally:
                    task.cancel()

    store = MemoryStore()
    async with opened(store) as app:
        await app.start(flow, id="one")
        execution = await idle_in(app, "one")
        before = len(await app.handle("one").events())
        assert await park(app.engine, [execution])
        await asyncio.sleep(0.002)
        assert len(await app.handle("one").events()) == before
    assert ran == []
    assert heard == [GeneratorExit, Evicted]
    assert not GRAVEYARD


async def test_generators_that_somebody_else_holds_are_unwound_too():
    heard, kept = [], []

    @workflow
    async def flow() -> str:
        async def numbers():
            try:
                yield 1
            finally:
                heard.append("closed")

        kept.append(numbers())
        assert await anext(kept[0]) == 1
        return await wait_for_signal("go", str)

    async with opened() as app:
        await app.start(flow, id="one")
        assert await park(app.engine, [await idle_in(app, "one")])
        assert heard == ["closed"]


async def test_a_body_that_swallows_everything_is_buried():
    heads = [1]

    @workflow
    async def hydra() -> None:
        while heads:
            try:
                await asyncio.sleep(3600)
            except BaseException:  # noqa: BLE001 - that is the fault
                continue

    GRAVEYARD.clear()
    try:
        async with opened() as app:
            await app.start(hydra, id="one")
            assert await park(app.engine, [await idle_in(app, "one")])
            assert len(GRAVEYARD) == 1
            handle = await app.start(chain, 2)
            assert await handle.result(5) == [0, 1], "nobody else is harmed"
    finally:
        heads.clear()
        GRAVEYARD.clear()


# ---------------------------------------------------------------- drain


async def test_a_drained_worker_lets_steps_end_and_gives_its_runs_back(monkeypatch):
    gate = asyncio.Event()

    @step
    async def slow() -> int:
        ran.append("slow")
        await gate.wait()
        return 1

    @workflow
    async def flow() -> int:
        return await slow() + await one(5)

    store = MemoryStore()
    async with opened(store, grace=5.0) as app:
        await app.start(flow, id="one")
        await until(lambda: ran)
        drain = app.engine.stop

        def draining(grace: float):
            asyncio.get_running_loop().call_soon(gate.set)
            return drain(grace)

        monkeypatch.setattr(app.engine, "stop", draining)
    await store.start()
    async with opened(store, worker=False) as app:
        row = await app.client.row("one")
        assert (row.status, row.owner) == ("pending", None)
        assert row.due_at is not None
    assert "STEP_COMPLETED" in kinds(await history(store, "one"))
    async with opened(store, workflows=[flow]) as app:
        assert await app.handle("one").result(5) == 6
    assert ran == ["slow", "one-5"]


# ---------------------------------------------------------------- store trouble


@pytest.mark.parametrize(
    ("error", "written"), [(StoreFull, False), (StoreLocked, False), (OutcomeUnknown, True)]
)
async def test_when_the_store_fails_for_a_while_the_run_goes_on_later(error, written):
    store = MemoryStore()
    trouble = Trouble(store, error, written=written)
    async with opened(store) as app:
        handle = await app.start(chain, 6, id="one")
        await recorded(app, "one", Kind.STEP_COMPLETED, 2)
        trouble.on = True
        done = keys(await store.log.read(run_stream("one")))
        await until(lambda: trouble.met)
        ran.append("trouble")
        await asyncio.sleep(0.03)
        trouble.on = False
        assert await handle.result(5) == list(range(6))
        assert {f"one-{i}" for i, key in enumerate([k for k in done if k.endswith(".one")])}.isdisjoint(
            ran[ran.index("trouble") :]
        )
    records = await history(store, "one")
    assert len(keys(records)) == len(set(keys(records)))


@pytest.mark.parametrize(("error", "written"), [(StoreFull, False), (OutcomeUnknown, True)])
async def test_a_start_in_trouble_is_told_and_what_was_written_is_executed(error, written):
    store = MemoryStore()
    trouble = Trouble(store, error, written=written)
    async with opened(store, workflows=[chain]) as app:
        trouble.on = True
        with pytest.raises(error):
            await app.start(chain, 2, id="one")
        trouble.on = False
        if written:
            assert await app.handle("one").result(5) == [0, 1]
        else:
            assert await app.store.runs.find() == []
            assert await (await app.start(chain, 2, id="one")).result(5) == [0, 1]


async def test_a_pause_in_trouble_leaves_no_run_behind():
    store = MemoryStore()
    trouble = Trouble(store, StoreFull)
    async with opened(store) as app:
        handle = await app.start(waits, id="one")
        await idle_in(app, "one")
        await handle.pause()
        trouble.on = True
        await until(lambda: trouble.met)
        trouble.on = False
        await status_is(app, "one", "paused")
        await handle.resume()
        await handle.signal("go", "x")
        await status_is(app, "one", "completed")


async def test_a_body_that_breaks_the_rules_in_trouble_fails_when_that_is_over():
    @workflow
    async def naughty() -> None:
        await one()
        await asyncio.open_connection("127.0.0.1", 1)

    store = MemoryStore()
    trouble = Trouble(store, StoreFull)
    async with opened(store, observers=[lambda run, events: setattr(trouble, "on", is_step(events))]) as app:
        handle = await app.start(naughty, id="one")
        await until(lambda: trouble.met)
        trouble.on = False
        with pytest.raises(BodyError, match="@step"):
            await handle.result(5)
    assert ran == ["one-1"]


def is_step(events) -> bool:
    return any(event.kind == Kind.STEP_COMPLETED for event in events)


async def test_closing_in_trouble_closes():
    store = MemoryStore()
    trouble = Trouble(store, StoreFull)
    async with opened(store) as app:
        await app.start(waits, id="one")
        await idle_in(app, "one")
        trouble.on = True
    assert store.log.closed


async def test_a_worker_says_once_that_it_cannot_look_and_when_it_can_again(caplog, monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 0.001)
    async with opened() as app:
        fails, looks = True, 0
        due = app.store.runs.due

        async def failing(*args, **how):
            nonlocal looks
            looks += 1
            if fails:
                raise StoreUnreachable("The server is away.")
            return await due(*args, **how)

        monkeypatch.setattr(app.store.runs, "due", failing)
        await until(lambda: looks > 3)
        fails = False
        await until(lambda: len(caplog.messages) > 1)
    assert "cannot look for runs, and goes on trying. The server is away." in caplog.messages[0]
    assert caplog.messages[1].endswith("can look for runs again.")
    assert len(caplog.messages) == 2
