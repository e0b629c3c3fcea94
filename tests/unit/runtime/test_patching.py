"""Patches: who goes the new way, that a run keeps its answer, and that code which does not fit notices."""

import asyncio

import pytest
from tests.replay.harness import fill
from tests.unit.runtime.scenes import Shared, cut, history, keys, opened, recorded, row_when, status_is, until

import reprise.runtime.worker
from reprise import (
    BodyError,
    ConfigurationError,
    RunStranded,
    continue_as,
    current_run,
    deprecate_patch,
    patched,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import Kind
from reprise.runtime.workflow import Workflow
from reprise.stores.memory import MemoryStore

ran: list[str] = []


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 0.01)
    ran.clear()


@step
async def do(what: str) -> str:
    ran.append(what)
    return what


def flow_of(version: str) -> Workflow:
    """Return one workflow as the versions of the code have it: before, with and after the patch."""

    @workflow
    async def flow() -> list[str]:
        done = [await do("begin")]
        await wait_for_signal("go")
        if version == "patched" and patched("vat"):
            done.append(await do("vat"))
        elif version == "only new":
            deprecate_patch("vat")
            done.append(await do("vat"))
        elif version == "forgotten":
            done.append(await do("vat"))
        done.append(await do("ship"))
        await wait_for_signal("end")
        return [*done, await do("end")]

    return flow


OLD_WAY, NEW_WAY = ["begin", "ship", "end"], ["begin", "vat", "ship", "end"]


async def begun(store, version, *signals, build=""):
    """Start run "r" with a version of the code, tell it, and close when it waits."""
    async with opened(store, build=build) as app:
        await app.start(flow_of(version), id="r")
        for name in signals:
            await app.client.signal("r", name)
        steps = 1 + len(signals) * (2 if version != "old" else 1)
        await recorded(app, "r", Kind.STEP_COMPLETED, steps)


async def ended(store, version, *signals, build=""):
    async with opened(store, workflows=[flow_of(version)], build=build) as app:
        for name in signals:
            await app.client.signal("r", name)
        return await (await app.resume("r")).result()


async def test_a_run_that_comes_to_the_place_now_goes_the_new_way_and_it_is_recorded_once():
    store = MemoryStore()
    async with opened(store) as app:
        run = await app.start(flow_of("patched"), id="r", signal=("go", None))
        await app.client.signal("r", "end")
        assert await run.result() == NEW_WAY
    records = [record for record in await history(store, "r") if record.kind == Kind.PATCHED]
    assert [(record.key, record.data) for record in records] == [("vat", b"{}")]


@pytest.mark.parametrize("build", ["", "v2"])
async def test_a_run_that_waits_before_the_place_goes_the_new_way(build):
    store = Shared()
    await begun(store, "old", build=build and "v1")
    assert await ended(store, "patched", "go", "end", build=build) == NEW_WAY


@pytest.mark.parametrize("build", ["", "v2"])
async def test_a_run_that_went_past_the_place_goes_the_old_way_for_ever(build):
    store = Shared()
    await begun(store, "old", "go", build=build and "v1")
    ran.clear()
    async with opened(store, workflows=[flow_of("patched")], build=build) as app:
        await app.client.signal("r", "other")
        await recorded(app, "r", Kind.SIGNAL_RECEIVED, 2)
    assert await ended(store, "patched", "end", build=build) == OLD_WAY
    assert ran == ["end"]
    assert "vat" not in keys(await history(store, "r"))


async def test_from_every_record_on_a_build_goes_the_way_that_it_began():
    store = MemoryStore()
    async with opened(store, build="v2") as app:
        run = await app.start(flow_of("patched"), id="r", signal=("go", None))
        await app.client.signal("r", "end")
        assert await run.result() == NEW_WAY
    count = len(await history(store, "r"))
    for length in range(1, count):
        shorter = await cut(store, "r", length)
        assert await ended(shorter, "patched", build="v2") == NEW_WAY, length


async def test_nothing_of_the_new_way_happens_before_it_is_durable_that_it_is_taken():
    """Else a crash would leave a run that goes the old way when the new one was begun."""

    class Held(Shared):
        def __init__(self):
            super().__init__()
            self.submit, self.kept = self.log.submit, []
            self.log.submit = self.hold

        def hold(self, appends):
            marks = [a for a in appends if any(e.kind == Kind.PATCHED for g in a.groups for e in g.events)]
            self.kept += marks
            self.submit([append for append in appends if append not in marks])

    store = Held()
    async with opened(store) as app:
        await app.start(flow_of("patched"), id="r", signal=("go", None))
        await until(lambda: store.kept)
        for _ in range(50):
            await asyncio.sleep(0)
        assert ran == ["begin"]
        store.submit(store.kept)
        await recorded(app, "r", Kind.STEP_COMPLETED, 3)
        assert ran == ["begin", "vat", "ship"]


async def test_one_run_has_one_answer_wherever_it_asks():
    asked: list[bool] = []

    def loop(new: bool) -> Workflow:
        @workflow
        async def flow() -> list[bool]:
            mine: list[bool] = []
            for name in ("a", "b", "c"):
                await wait_for_signal(name)
                if new:
                    mine.append(patched("p"))
            asked[:] = mine
            return mine

        return flow

    store = Shared()
    async with opened(store) as app:
        await app.start(loop(new=False), id="r", signal=("a", None))
        await recorded(app, "r", Kind.SIGNAL_RECEIVED)
    async with opened(store, workflows=[loop(new=True)]) as app:
        await app.client.signal("r", "b")
        await app.client.signal("r", "c")
        assert await (await app.resume("r")).result() == [False, False, False]


async def test_code_that_does_not_know_the_patch_leaves_the_run_alone():
    store = Shared()
    await begun(store, "patched", "go", build="v2")
    ran.clear()
    async with opened(store, workflows=[flow_of("forgotten")], build="v3") as app:
        await row_when(app, "r", lambda row: row.refused == ("v3",))
        (note,) = [r for r in await app.store.log.read("run/r") if r.kind == Kind.RUN_STRANDED]
        assert b"deprecate_patch('vat')" in note.data
    assert ran == []
    assert await ended(store, "patched", "end", build="v2") == NEW_WAY


async def test_a_patch_that_is_only_taken_is_refused_by_old_code_before_it_goes_the_old_way():
    """Of the new way there is no step yet, so nothing but the patch itself tells old code that it must not go on."""
    store = MemoryStore()
    async with opened(store, build="v2") as app:
        await app.start(flow_of("patched"), id="r", signal=("go", None))
        await recorded(app, "r", Kind.STEP_COMPLETED, 3)
    records = await history(store, "r")
    place = next(n for n, record in enumerate(records, 1) if record.kind == Kind.PATCHED)
    shorter = await cut(store, "r", place)
    ran.clear()
    async with opened(shorter, workflows=[flow_of("old")]) as app:
        await status_is(app, "r", "stranded")
    assert ran == []


async def test_when_the_old_way_is_gone_runs_of_the_new_way_go_on_and_those_of_the_old_one_are_stranded():
    new, old = Shared(), Shared()
    await begun(new, "patched", "go")
    await begun(old, "old", "go")
    assert await ended(new, "only new", "end") == NEW_WAY
    ran.clear()
    with pytest.raises(RunStranded, match="went past the patch 'vat' without it"):
        await ended(old, "only new", "end")
    assert ran == []


async def test_when_the_patch_was_deprecated_the_call_may_go():
    store = Shared()
    await begun(store, "only new", "go")
    marks = [record.data for record in await history(store, "r") if record.kind == Kind.PATCHED]
    assert marks == [b'{"deprecated":true}']
    assert await ended(store, "forgotten", "end") == NEW_WAY


async def test_a_run_of_the_deprecated_patch_may_go_back_to_code_with_the_patch():
    store = Shared()
    await begun(store, "only new", "go", build="v3")
    assert await ended(store, "patched", "end", build="v2") == NEW_WAY


async def test_a_next_generation_asks_anew():
    answers: list[tuple[int, bool]] = []

    def life(new: bool) -> Workflow:
        @workflow
        async def flow(n: int) -> str:
            await wait_for_signal("go")
            if new:
                answers.append((n, patched("p")))
            await wait_for_signal("on")
            if n < 1:
                continue_as(n + 1)
            return f"{current_run().generation}"

        return flow

    store = Shared()
    async with opened(store) as app:
        await app.start(life(new=False), 0, id="r", signal=("go", None))
        await recorded(app, "r", Kind.SIGNAL_RECEIVED)
    async with opened(store, workflows=[life(new=True)]) as app:
        for name in ("on", "go", "on"):
            await app.client.signal("r", name)
        assert await (await app.resume("r")).result() == "1"
    assert dict(answers) == {0: False, 1: True}


async def test_a_run_that_is_tried_again_keeps_its_way():
    broken = True

    @workflow
    async def flow() -> bool:
        new = patched("p")
        await wait_for_signal("go")
        if broken:
            raise ValueError("not yet")
        return new

    store = Shared()
    async with opened(store, build="v1") as app:
        run = await app.start(flow, id="r", signal=("go", None))
        assert (await run.finished()).status == "failed"
    broken = False
    async with opened(store, workflows=[flow], build="v2") as app:
        assert await (await app.retry("r")).result() is True


async def test_outside_of_a_body_there_is_nothing_to_patch():
    with pytest.raises(BodyError):
        patched("p")
    with pytest.raises(BodyError):
        deprecate_patch("p")


async def test_a_patch_has_an_id():
    @workflow
    async def flow() -> bool:
        return patched("")

    async with opened() as app:
        with pytest.raises(ConfigurationError, match="needs an id"):
            await app.run(flow)


async def test_who_could_not_replay_a_run_has_no_part_in_its_way():
    """Code that does not fit took it in between, and gave it back: the new way stays the new way."""
    store = MemoryStore()
    async with opened(store, build="v2") as app:
        await app.start(flow_of("patched"), id="r", signal=("go", None))
        await recorded(app, "r", Kind.STEP_COMPLETED, 3)
    records = await history(store, "r")
    place = next(n for n, record in enumerate(records) if record.kind == Kind.PATCHED)
    shorter = await cut(store, "r", place)

    @workflow(name="flow")
    async def other() -> None:
        """Call nothing that was recorded."""

    shared = Shared()
    await shared.start()
    await fill(shared, "run/r", (await history(shorter, "r"))[:place])
    async with opened(shared, workflows=[other], build="v1") as app:
        await row_when(app, "r", lambda row: row.refused == ("v1",))
    assert await ended(shared, "patched", "end", build="v2") == NEW_WAY
