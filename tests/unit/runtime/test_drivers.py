"""What drivers of steps must not forget: others that are ready, notes of steps that take long, to end when it is over."""

import asyncio

import pytest
from tests.unit.runtime.scenes import kinds, opened, recorded, until

import reprise.runtime.pool
from reprise import Kind, step, workflow

HOUR = 3600.0
gates: dict[str, asyncio.Event] = {}
ran: list[str] = []


@pytest.fixture(autouse=True)
def fresh():
    gates.clear()
    ran.clear()


@step
async def quick(name: str) -> str:
    ran.append(name)
    return name


@step
async def gated(name: str) -> str:
    ran.append(name)
    await gates.setdefault(name, asyncio.Event()).wait()
    return name


@workflow
async def fast(name: str) -> str:
    return await quick(name)


@workflow
async def slow(name: str) -> str:
    return await gated(name)


async def test_steps_that_a_step_made_ready_all_find_a_driver():
    """Also where the driver of the one before takes the first of them without a turn of the loop."""

    @step
    async def opens(name: str) -> None:
        gates.setdefault(name, asyncio.Event()).set()

    @workflow
    async def flow() -> list[object]:
        await quick("first")
        return await asyncio.gather(gated("second"), opens("second"), quick("third"))

    async with opened() as app:
        assert await (await app.start(flow)).result(5) == ["second", None, "third"]


async def test_drivers_without_work_do_not_keep_an_app_open():
    async with asyncio.timeout(5):
        async with opened(grace=HOUR) as app:
            assert await app.run(fast, "a") == "a"


async def test_each_step_that_takes_long_is_noted_once(monkeypatch):
    monkeypatch.setattr(reprise.runtime.pool, "SLOW", 0.005)
    async with opened() as app:
        for run in ("a", "b"):
            await app.start(slow, run, id=run)
            await recorded(app, run, Kind.STEP_STARTED)
        for run in ("a", "b"):
            gates[run].set()
            await app.handle(run).result(5)
            assert kinds(await recorded(app, run, Kind.RUN_FINISHED)).count("STEP_STARTED") == 1


async def test_steps_that_began_before_the_first_was_noted_are_noted_too(monkeypatch):
    monkeypatch.setattr(reprise.runtime.pool, "SLOW", 0.05)
    async with opened() as app:
        for run in ("a", "b", "c"):
            await app.start(slow, run, id=run)
            await until(lambda run=run: run in ran)
        for run in ("a", "b", "c"):
            await recorded(app, run, Kind.STEP_STARTED)


async def test_what_a_step_took_is_recorded():
    async with opened() as app:
        loop = asyncio.get_running_loop()
        began = loop.time()
        handle = await app.start(slow, "a", id="a")
        await until(lambda: ran)
        gates["a"].set()
        await handle.result(5)
        records = await recorded(app, "a", Kind.STEP_COMPLETED)
        took = next(record.took for record in records if record.kind == Kind.STEP_COMPLETED)
        assert 0 < took <= (loop.time() - began) * 1_000_000
