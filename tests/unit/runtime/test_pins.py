"""Pins: runs that only workers of one build take, whatever others could do with them."""

import pytest
from tests.unit.runtime.scenes import Shared, kill, opened, recorded, row_when, status_is, until

import reprise.runtime.worker
from reprise import ConfigurationError, RunEnded, RunNotFound, step, wait_for_signal, workflow
from reprise.kernel.events import Kind

ran: list[str] = []


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 0.01)
    monkeypatch.setattr(reprise.runtime.worker, "STRANGER", 0.05)
    ran.clear()


@step
async def do(n: int) -> int:
    ran.append(f"do {n}")
    return n


@workflow
async def child(n: int) -> int:
    await wait_for_signal("child")
    return n


@workflow
async def order(n: int) -> int:
    await do(n)
    await wait_for_signal("go")
    return n


@workflow
async def parent(n: int) -> int:
    return await child(n)


async def in_flight(build: str, flow=order) -> Shared:
    store = Shared()
    async with opened(store, build=build) as app:
        await app.start(flow, 7, id="r")
        await recorded(app, "r", Kind.CHILD_STARTED if flow is parent else Kind.STEP_COMPLETED)
    return store


async def test_only_workers_of_its_build_take_a_pinned_run():
    store = await in_flight("v1")
    async with opened(store, worker=False) as app:
        assert await app.client.pin("r") == "v1"
        await app.client.signal("r", "go")
    for build in ("v2", ""):
        async with opened(store, workflows=[order], build=build) as app:
            row = await status_is(app, "r", "stranded")
            assert row.error == "it is pinned to build 'v1'"
    async with opened(store, workflows=[order], build="v1") as app:
        await status_is(app, "r", "completed")


async def test_who_may_take_it_by_now_is_tapped():
    store = await in_flight("v1")
    async with opened(store, worker=False) as app:
        taps: list[str] = []
        store.signal.listen("runs", taps.append)
        await app.client.pin("r")
        await until(lambda: taps)


async def test_without_the_pin_the_other_build_takes_it():
    store = await in_flight("v1")
    async with opened(store, worker=False) as app:
        await app.client.pin("r")
        await app.client.unpin("r")
        await app.client.signal("r", "go")
    async with opened(store, workflows=[order], build="v2") as app:
        assert await app.handle("r").result(5) == 7


async def test_a_pinned_run_of_a_dead_worker_waits_for_its_build():
    store = Shared()
    async with opened(store, build="v1", lease=0.1) as app:
        await app.start(order, 7, id="r")
        await recorded(app, "r", Kind.STEP_COMPLETED)
        await app.client.pin("r")
        kill(app)
    async with opened(store, workflows=[order], build="v2") as app:
        await app.client.signal("r", "go")
        await row_when(app, "r", lambda row: row.status == "stranded")
    async with opened(store, workflows=[order], build="v1") as app:
        await status_is(app, "r", "completed")


async def test_what_it_started_is_pinned_with_it():
    store = await in_flight("v1", parent)
    async with opened(store, worker=False) as app:
        await app.client.pin("r")
        assert [row.pinned for row in await app.find()] == ["v1", "v1"]
        await app.client.unpin("r")
        assert [row.pinned for row in await app.find()] == ["", ""]


async def test_many_are_pinned_by_a_query():
    store = await in_flight("v1")
    async with opened(store, worker=False) as app:
        done = await app.batch("pin", "workflow:order")
        assert (done.done, done.refused) == (("r",), {})
        assert (await app.client.row("r")).pinned == "v1"


async def test_the_pin_holds_over_pauses_and_resuming():
    store = await in_flight("v1")
    async with opened(store, workflows=[order], build="v1") as app:
        await app.client.pin("r")
        await app.resume("r")
        await app.client.pause("r")
        await status_is(app, "r", "paused")
        await app.client.resume("r")
        await row_when(app, "r", lambda row: row.status in ("running", "waiting"))
        assert (await app.client.row("r")).pinned == "v1"


async def test_what_cannot_be_pinned():
    store = await in_flight("")
    async with opened(store, workflows=[order]) as app:
        with pytest.raises(ConfigurationError, match="No build with a name"):
            await app.client.pin("r")
        assert await app.client.pin("r", "v9") == "v9"
        await app.client.unpin("r")
        with pytest.raises(RunNotFound):
            await app.client.pin("nobody", "v1")
        await app.client.signal("r", "go")
        await app.handle("r").result(5)
        with pytest.raises(RunEnded):
            await app.client.pin("r", "v1")


async def test_pinned_runs_hide_no_others_from_a_worker_without_a_build(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "BATCH", 2)
    store = Shared()
    async with opened(store, worker=False) as app:
        for n in range(4):
            await app.start(order, n, id=f"r-{n}", signal=("go", None))
            await app.client.pin(f"r-{n}", "v1")
        await app.client.unpin("r-3")
    async with opened(store, workflows=[order]) as app:
        await status_is(app, "r-3", "completed")
    assert ran == ["do 3"]
