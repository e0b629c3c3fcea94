"""What a record does when it is delivered: time passes, a value that cannot be read is an error at its call."""

import asyncio

import pytest
from tests.unit.runtime.scenes import opened, until

from reprise import VirtualClock, step, wait_for_signal, workflow
from reprise.kernel.errors import RepriseError, StuckBodyError
from reprise.stores.memory import MemoryStore

ran: list[str] = []


async def test_the_time_of_the_body_is_that_of_the_record_in_replay_too():
    clock = VirtualClock()
    times: list[float] = []

    @step
    async def takes(seconds: int) -> None:
        clock.advance(seconds)

    @workflow
    async def flow() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await takes(5)
        times.append(loop.time() - began)
        await wait_for_signal("go")
        return loop.time() - began

    store = MemoryStore(clock)
    async with opened(store, clock=clock) as app:
        await app.start(flow, id="one")
        await until(lambda: "one" in app.engine.loaded.idle)
    clock.advance(100)
    async with opened(store, workflows=[flow], clock=clock) as app:
        await app.client.signal("one", "go")
        assert await app.handle("one").result(5) == 105
    assert times == [5, 5]


async def test_a_result_that_this_code_cannot_read_is_an_error_at_the_call():
    def version(kind: type):
        @step(name="gives")
        async def gives() -> kind:
            return "text"

        @workflow(name="flow")
        async def flow() -> str:
            try:
                await gives()
            except RepriseError as error:
                return type(error).__name__
            await wait_for_signal("go")
            return "read"

        return flow

    store = MemoryStore()
    async with opened(store) as app:
        await app.start(version(str), id="one")
        await until(lambda: "one" in app.engine.loaded.idle)
    async with opened(store, workflows=[version(int)]) as app:
        assert await app.handle("one").result(5) != "read"


async def test_a_call_that_is_cancelled_before_it_starts_is_not_executed():
    @step(on_cancel="abandon")
    async def never() -> None:
        ran.append("never")

    @workflow
    async def flow() -> str:
        call = asyncio.create_task(never())
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        return await wait_for_signal("go", str)

    store = MemoryStore()
    async with opened(store) as app:
        await app.start(flow, id="one")
        await until(lambda: "one" in app.engine.loaded.idle)
    async with opened(store, workflows=[flow]) as app:
        await app.client.signal("one", "go", "x")
        assert await app.handle("one").result(5) == "x"
    assert ran == []


async def test_a_body_that_waits_for_nothing_after_a_signal_is_stuck():
    @workflow
    async def flow() -> None:
        await wait_for_signal("go")
        await asyncio.get_running_loop().create_future()

    async with opened() as app:
        handle = await app.start(flow, signal=("go", None))
        with pytest.raises(StuckBodyError):
            await handle.result(5)
