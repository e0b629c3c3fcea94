"""What the engine must not do, or forget: keep what is only pure, let go of the body of a lost run, start without bound."""

import asyncio

import pytest
from tests.unit.runtime.scenes import Shared, history, opened, recorded, status_is, until

import reprise.runtime.loaded
from reprise import Kind, RunCancelled, VirtualClock, continue_as, step, wait_for_signal, workflow

ran: list[str] = []


@pytest.fixture(autouse=True)
def fresh():
    ran.clear()


async def test_what_is_pure_is_executed_by_each_run_unless_it_is_to_be_kept():
    @step(pure=True)
    async def counted(name: str) -> int:
        ran.append(name)
        return len(ran)

    @workflow
    async def flow() -> int:
        return await counted("a")

    async with opened() as app:
        assert [await app.run(flow) for _ in range(3)] == [1, 2, 3]


async def test_a_run_that_another_worker_owns_is_stopped_here():
    stopped = []

    @step
    async def long() -> None:
        ran.append("long")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            stopped.append("long")
            raise

    @workflow
    async def flow() -> None:
        await long()

    shared = Shared()
    async with opened(shared) as first, opened(shared, workflows=[flow], claims=False) as second:
        await first.start(flow, id="one")
        await until(lambda: ran)
        assert await second.engine.take_over(await first.client.row("one"))
        first.engine.executions["one"].record(Kind.SIGNAL_RECEIVED, "forged", b'{"name":"go","value":1}')
        await until(lambda: "one" not in first.engine.executions)
        await until(lambda: stopped)


async def test_a_cancellation_that_comes_when_the_body_has_ended_is_for_its_next_generation():
    gate = asyncio.Event()

    @step
    async def stubborn() -> None:
        ran.append("stubborn")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ran.append("asked")
            await gate.wait()
            raise

    @workflow
    async def rounds(n: int = 0) -> str:
        if n == 0:
            left = asyncio.create_task(stubborn())
            await wait_for_signal("go")
            assert not left.done()
            continue_as(1)
        return await wait_for_signal("never", str)

    async with opened() as app:
        handle = await app.start(rounds, id="r")
        await until(lambda: ran)
        await handle.signal("go")
        await until(lambda: "asked" in ran)
        await handle.cancel("enough")
        await recorded(app, "r", Kind.CANCEL_REQUESTED)
        gate.set()
        with pytest.raises(RunCancelled):
            await handle.result(5)
        assert (await app.client.row("r")).generation == 1


async def test_a_pause_is_shown_to_observers_as_everything_else_is():
    seen: list[int] = []

    @workflow
    async def waits() -> None:
        await wait_for_signal("go")

    async with opened(observers=[lambda run, events: seen.extend(event.kind for event in events)]) as app:
        handle = await app.start(waits, id="one")
        await handle.pause()
        await status_is(app, "one", "paused")
        await until(lambda: Kind.RUN_PAUSED in seen)
        assert seen == [record.kind for record in await history(app.store, "one")]


async def test_starts_wait_while_what_is_too_much_leaves(monkeypatch):
    monkeypatch.setattr(reprise.runtime.loaded, "BATCH", 3)
    most = 0

    @workflow
    async def waits() -> str:
        nonlocal most
        most = max(most, len(app.engine.executions))
        return await wait_for_signal("go", str)

    async with opened(max_loaded=4) as app:
        for n in range(30):
            await app.start(waits, id=f"r{n}")
        assert most <= 4 + 3 + 1


async def test_a_timer_fires_at_its_time_by_whatever_clock():
    """The clock of the records stands still here, while the loop's goes on."""

    @workflow
    async def flow() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(0.005)
        return loop.time() - began

    async with opened(clock=VirtualClock()) as app:
        assert await app.run(flow) == pytest.approx(0.005, abs=1e-5)
