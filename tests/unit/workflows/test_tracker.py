"""The tracker: a history that stays, moments with names that survive, and going back by going on."""

import pytest
from tests.unit.runtime.scenes import Shared, opened

from reprise import ConfigurationError, NoSuchRecord, RunNotFound, WorkflowTracker, step, workflow
from reprise.kernel.events import Kind, mark_stream, streams_of_run

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def clean():
    CALLS.clear()


@step
async def do(name: str) -> str:
    CALLS.append(name)
    return name.upper()


@workflow
async def line(names: list[str]) -> str:
    return "".join([await do(name) for name in names])


async def done(app, *names, id="r"):
    await (await app.start(line, list(names), id=id)).result()
    CALLS.clear()


async def test_a_checkpoint_is_rolled_back_to_as_a_fork():
    async with opened() as app:
        await done(app, "a", "b", "c")
        tracker = WorkflowTracker(app, "r")
        history = await tracker.history()
        second = [record.version for record in history if record.kind == Kind.STEP_COMPLETED][1]
        assert await tracker.checkpoint("half way", at=second) == second
        state = await tracker.state(at="half way")
        assert [bytes(one.value) for one in state.ended] == [b'"A"', b'"B"']
        handle = await tracker.rollback("half way")
        assert (await handle.result(), CALLS) == ("ABC", ["c"])
        assert handle.begins_with.run == "r"
        assert await tracker.history() == history, "the first run stays as it is"


async def test_a_name_is_moved_and_a_run_that_goes_on_has_its_last_record_named():
    async with opened() as app:
        await done(app, "a", "b")
        tracker = WorkflowTracker(app)
        last = (await tracker.history("r"))[-1].version
        assert await tracker.checkpoint("x", run="r", at=3) == 3
        await tracker.checkpoint("y", run="r", at=1)
        assert await tracker.checkpoint("x", run="r") == last
        assert await tracker.checkpoints("r") == {"x": last, "y": 1}
        assert (await tracker.state("r")).status == "completed"


async def test_checkpoints_are_durable_and_go_with_the_run(tmp_path):
    place = f"sqlite:///{tmp_path}/r.db"
    async with opened(place) as app:
        await done(app, "a", "b")
        await WorkflowTracker(app, "r").checkpoint("x", at=3)
    async with opened(place, workflows=[line]) as app:
        tracker = WorkflowTracker(app, "r")
        assert await tracker.checkpoints() == {"x": 3}
        assert await (await tracker.rollback("x")).result() == "AB"
        assert CALLS == ["b"]
        assert mark_stream("r") in streams_of_run("r"), "so it is pruned, archived and moved with the run"


async def test_what_is_not_there_is_an_error_that_says_what_is():
    async with opened(Shared()) as app:
        await done(app, "a")
        tracker = WorkflowTracker(app, "r")
        await tracker.checkpoint("before review", at=3)
        with pytest.raises(NoSuchRecord, match="Did you mean 'before review'"):
            await tracker.rollback("before reviews")
        with pytest.raises(NoSuchRecord, match="It has before review"):
            await tracker.state(at="zzz")
        with pytest.raises(NoSuchRecord, match="no record 99"):
            await tracker.checkpoint("late", at=99)
        with pytest.raises(ConfigurationError, match="up to 200"):
            await tracker.checkpoint("")
        with pytest.raises(RunNotFound):
            await tracker.history("nobody")
        with pytest.raises(ConfigurationError, match="Of which run"):
            await WorkflowTracker(app).state()
