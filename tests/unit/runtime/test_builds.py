"""Versions of the code that share one store: who takes whose runs, and what becomes of those that only others can."""

import asyncio
from contextlib import AsyncExitStack

import msgspec
import pytest
from tests.unit.runtime.scenes import (
    Shared,
    history,
    kill,
    kinds,
    opened,
    row_when,
    status_is,
    until,
    worker_of,
)

import reprise.runtime.worker
from reprise import ConfigurationError, Reprise, RunStranded, VirtualClock, step, wait_for_signal, workflow
from reprise.kernel.events import Kind, Owned, Stranded, run_stream
from reprise.runtime.builds import Builds
from reprise.runtime.workflow import Workflow

ran: list[str] = []


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 0.01)
    ran.clear()


@step
async def one(name: str) -> str:
    ran.append(name)
    return name


def flow_of(version: str) -> Workflow:
    """Return one workflow as three versions of the code have it; v3 is v2 with one more step at its end."""

    @workflow
    async def flow() -> str:
        if version == "v1":
            await one("old")
        else:
            await one("new")
        await wait_for_signal("go")
        await one("after")
        if version == "v3":
            await one("last")
        return version

    return flow


@workflow
async def plain() -> str:
    await one("plain")
    await wait_for_signal("go")
    return await one("plain")


def app_of(store: Shared, version: str, **options):
    """Open a worker of a version; runs that wait leave its memory at once."""
    return opened(store, workflows=[flow_of(version), plain], build=version, **options)


async def rests(app: Reprise, run: str):
    """Wait until a run waits in nobody's memory."""
    worker_of(app)._idle = 0.0
    return await row_when(app, run, lambda row: row.status == "waiting" and row.owner is None)


async def started(store: Shared, version: str, run: str = "r") -> None:
    """Start a run with the code of a version, which then goes away."""
    async with app_of(store, version) as app:
        await app.start(app.registry["flow"], id=run)
        await rests(app, run)


# ---------------------------------------------------------------- who can, goes on


async def test_what_one_build_cannot_replay_another_takes_and_nothing_is_executed_twice():
    store = Shared()
    await started(store, "v2")
    async with app_of(store, "v1") as old:
        await old.client.signal("r", "go")
        row = await row_when(old, "r", lambda row: row.refused == ("v1",))
        assert (row.status, row.build, row.owner) == ("pending", "v2", None)
        assert "other arguments" in row.error
        async with app_of(store, "v2") as new:
            assert await new.handle("r", flow_of("v2")).result(5) == "v2"
    assert ran == ["new", "after"]
    assert kinds(await history(store, "r")).count("RUN_STRANDED") == 1


async def test_what_could_not_be_replayed_writes_nothing_more(monkeypatch):
    store = Shared()
    await started(store, "v2")
    async with app_of(store, "v1") as old:
        ended = old.engine.ended

        def with_news(execution, *how):
            execution.record(Kind.CANCEL_REQUESTED, "late", b'{"reason":"deadline"}')
            ended(execution, *how)

        monkeypatch.setattr(old.engine, "ended", with_news)
        await old.client.signal("r", "go")
        await row_when(old, "r", lambda row: row.refused == ("v1",))
        assert "CANCEL_REQUESTED" not in kinds(await history(store, "r"))


async def test_the_same_build_does_not_try_again_a_newer_one_does():
    store = Shared()
    await started(store, "v2")
    async with app_of(store, "v1") as first:
        await first.client.signal("r", "go")
        await row_when(first, "r", lambda row: row.refused == ("v1",))
        async with app_of(store, "v1") as second:
            for app in (first, second, first):
                await worker_of(app).look()
        async with app_of(store, "v3") as newest:
            assert await newest.handle("r", flow_of("v3")).result(5) == "v3"
            assert (await newest.client.row("r")).refused == (), "what has ended waits for nobody"
    assert ran == ["new", "after", "last"]
    owners = [record for record in await history(store, "r") if record.kind == 2]
    assert len(owners) == 3


async def test_what_all_builds_refused_is_shown_as_stranded_after_a_while(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "STRANGER", 0.0)
    store = Shared()

    @workflow(name="flow")
    async def third() -> str:
        return await one("third")

    await started(store, "v2")
    async with app_of(store, "v1") as old, opened(store, workflows=[third], build="v9") as other:
        await old.client.signal("r", "go")
        row = await row_when(old, "r", lambda row: row.status == "stranded" and len(row.refused) == 2)
        assert sorted(row.refused) == ["v1", "v9"]
        assert "arguments" in row.error, "not that it is no build of those accepted"
        with pytest.raises(RunStranded):
            await other.handle("r").result(5)
        assert ran == ["new"]
        async with app_of(store, "v2") as new:
            await row_when(new, "r", lambda row: row.status != "stranded")
            assert await new.handle("r").result(5) == "v2"


async def test_who_waits_for_a_run_is_not_told_that_it_is_stranded_while_others_may_take_it():
    store = Shared()
    await started(store, "v2")
    async with app_of(store, "v1") as old:
        handle = await old.resume("r")
        await handle.signal("go")
        waiting = asyncio.create_task(handle.result(5))
        await row_when(old, "r", lambda row: row.refused == ("v1",))
        async with app_of(store, "v2"):
            assert await waiting == "v2"


async def test_who_cannot_taps_those_who_may():
    store = Shared()
    await started(store, "v2")
    async with app_of(store, "v1") as old:
        worker_of(old)._tasks[1].cancel()  # it looks when the test says so
        await old.client.signal("r", "go")
        await asyncio.sleep(0)
        taps: list[str] = []
        store.signal.listen("runs", taps.append)
        await worker_of(old).look()
        await until(lambda: taps)
        assert (await old.client.row("r")).refused == ("v1",)


async def test_to_resume_lets_all_builds_try_again():
    store = Shared()
    await started(store, "v2")
    async with app_of(store, "v1") as old:
        await old.client.signal("r", "go")
        await row_when(old, "r", lambda row: row.refused == ("v1",))
        old.registry._workflows["flow"] = flow_of("v2")  # the same build, mended
        await worker_of(old).look()
        assert (await old.client.row("r")).owner is None
        await old.client.resume("r")
        assert await old.handle("r", flow_of("v2")).result(5) == "v2"


async def test_without_names_a_run_is_stranded_at_once_and_tried_by_the_next_worker():
    store = Shared()
    await started(store, "")
    async with opened(store, workflows=[flow_of("v1")]) as old:
        await old.client.signal("r", "go")
        row = await status_is(old, "r", "stranded")
        assert row.refused == ()
    async with opened(store, workflows=[flow_of("v2")]) as new:
        await row_when(new, "r", lambda row: row.status != "stranded")
        assert await new.handle("r").result(5) == "v2"


async def test_an_input_that_does_not_fit_any_more_is_left_to_others_too():
    store = Shared()

    @workflow(name="flow")
    async def before(n: int) -> int:
        await one("before")
        return n

    @workflow(name="flow")
    async def after(n: int, name: str) -> int:
        return n

    async with opened(store, worker=False, build="v1") as client:
        await client.start(before, 1, id="r")
    async with opened(store, workflows=[after], build="v2") as new:
        row = await row_when(new, "r", lambda row: row.refused == ("v2",))
        assert "does not fit" in row.error
        async with opened(store, workflows=[before], build="v1") as old:
            assert await old.handle("r").result(5) == 1


# ---------------------------------------------------------------- pins


@pytest.mark.parametrize("accepts", [["v2"], [], lambda build: build == "v2"])
async def test_a_pinned_worker_leaves_the_runs_of_other_builds_alone(accepts):
    store = Shared()
    for n in range(30):
        async with opened(store, worker=False, build="v1") as client:
            await client.start(plain, id=f"old-{n:02}")
    async with opened(store, worker=False, build="v2") as client:
        await client.start(plain, id="new")
    async with opened(store, worker=False) as client:
        await client.start(plain, id="anybodys")
    async with app_of(store, "v2", accepts=accepts) as new:
        await status_is(new, "new", "running")
        await status_is(new, "anybodys", "running")
        for _ in range(3):
            await worker_of(new).look()
        assert await new.store.runs.count(by="status") == {"pending": 30, "running": 2}
        async with app_of(store, "v1", accepts=["v1"]) as old:
            await row_when(old, "old-29", lambda row: row.owner == old.engine.worker)
            await until(lambda: ran.count("plain") == 32)


async def test_a_page_of_runs_of_other_builds_hides_nobody(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "BATCH", 5)
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 3600)
    store = Shared()
    async with opened(store, worker=False, build="v1") as client:
        for n in range(12):
            await client.start(plain, id=f"old-{n:02}")
    async with opened(store, worker=False, build="v2") as client:
        await client.start(plain, id="new")
    async with app_of(store, "v2", accepts=[]) as new:
        await until(lambda: ran == ["plain"])
        assert new.engine.statistics()["taken"] == 1


async def test_a_pinned_run_goes_back_to_its_build_after_a_crash():
    """The build that had it last is what counts, also when another only tried it."""
    clock = VirtualClock()
    store = Shared(clock)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(app_of(store, "v1", clock=clock))
        await first.start(first.registry["flow"], id="r")
        await until(lambda: ran == ["old"])
        kill(first)
        clock.advance(16)
        tries = await stack.enter_async_context(app_of(store, "v2", clock=clock))
        row = await row_when(tries, "r", lambda row: row.refused == ("v2",))
        assert row.build == "v1"
        pinned = await stack.enter_async_context(app_of(store, "v1", clock=clock, accepts=["v1"]))
        await pinned.client.signal("r", "go")
        assert await pinned.handle("r").result(5) == "v1"
    assert ran == ["old", "after"]


async def test_a_build_that_goes_on_with_a_run_keeps_it():
    store = Shared()
    await started(store, "v2")
    async with app_of(store, "v3") as newer:
        assert (await newer.client.row("r")).build == "v2"
        await newer.resume("r")
        await newer.client.signal("r", "go", id="early")
        await newer.handle("r").result(5)
        records = await newer.store.log.read(run_stream("r"))
    builds = [msgspec.json.decode(record.data, type=Owned).build for record in records if record.kind == 2]
    assert builds == ["v2", "v3"]
    await started(store, "v2", "s")
    async with app_of(store, "v3") as newer:
        await newer.start(plain, id="x")
        await newer.client.pause("s")
        await status_is(newer, "s", "paused")
        assert (await newer.client.row("s")).build == "v3"
    async with app_of(store, "v2", accepts=["v2"]) as pinned:
        await pinned.client.resume("s")
        await worker_of(pinned).look()
        row = await pinned.client.row("s")
        assert (row.owner, row.build) == (None, "v3")


async def test_what_no_build_here_accepts_is_pointed_out_and_stays_for_its_own(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "STRANGER", 0.0)
    store = Shared()
    async with opened(store, worker=False, build="v1") as client:
        await client.start(plain, id="old")
    async with app_of(store, "v2", accepts=[]) as new:
        row = await status_is(new, "old", "stranded")
        assert "does not accept runs of build 'v1'" in row.error
        async with app_of(store, "v1", accepts=[]) as old:
            await row_when(old, "old", lambda row: row.status == "running" and not row.error)


async def test_the_note_of_a_stranding_says_which_build():
    store = Shared()
    await started(store, "v2")
    async with app_of(store, "v1") as old:
        await old.client.signal("r", "go")
        await row_when(old, "r", lambda row: row.refused == ("v1",))
    (note,) = [record for record in await history(store, "r") if record.kind == 8]
    assert msgspec.json.decode(note.data, type=Stranded).build == "v1"


def test_one_name_is_no_collection():
    with pytest.raises(ConfigurationError, match=r"\['v1'\]"):
        Builds("v2", "v1")
