"""Looking at the past: the state as of a record, a replay that does nothing, and what two runs have in common."""

import asyncio
import linecache

import pytest
from tests.unit.runtime.scenes import Shared, history, opened, recorded, status_is, until

from reprise import (
    NoSuchRecord,
    Retry,
    RunNotFound,
    UnknownWorkflow,
    ask,
    continue_as,
    query,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import Kind, Record, run_stream
from reprise.runtime.moments import state_at
from reprise.runtime.rehearsal import Line, where

CALLS: list[str] = []
BROKEN: set[str] = set()
GATE: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def clean():
    for each in (CALLS, BROKEN, GATE):
        each.clear()


@step(retry=Retry(1))
async def do(name: str) -> str:
    CALLS.append(name)
    if name in GATE:
        await GATE[name].wait()
    if name in BROKEN:
        raise ConnectionError("down")
    return name.upper()


@step(retry=Retry(1))
async def last(text: str) -> str:
    CALLS.append("last")
    return text + "!"


@workflow
async def line(names: list[str]) -> str:
    said = []
    for name in names:
        said.append(await do(name))
    return await last("".join(said))


@workflow
async def fan(names: list[str]) -> list[str]:
    return list(await asyncio.gather(*(do(name) for name in names)))


@workflow
async def asks() -> str:
    first = await do("a")
    async with asyncio.timeout(1000):
        go = await wait_for_signal("go", str)
    return first + go


async def done(app, workflow, *args, id="r", **options):
    handle = await app.start(workflow, *args, id=id, **options)
    await handle.finished()
    CALLS.clear()
    return handle


async def versions(app, kind, run="r"):
    return [record.version for record in await app.store.log.read(run_stream(run)) if record.kind == kind]


# ---------------------------------------------------------------- the state as of a record


async def test_the_state_as_of_a_record_has_what_was_known_then():
    async with opened() as app:
        handle = await done(app, line, ["a", "b"])
        first, second, third = await versions(app, Kind.STEP_COMPLETED)
        start, then, now = await handle.state(1), await handle.state(second), await handle.state()
        assert (start.status, start.ended, bytes(start.input)) == ("pending", [], b'[[["a","b"]],{}]')
        assert (then.status, [(one.name, bytes(one.value)) for one in then.ended]) == (
            "running",
            [("do", b'"A"'), ("do", b'"B"')],
        )
        assert [one.key for one in then.waiting] == [":3.last"]
        assert (await handle.state(first)).waiting[0].key == ":2.do"
        assert (now.status, bytes(now.finished.value), now.waiting) == ("completed", b'"AB!"', [])
        assert now.steps[":3.last"].version == third


async def test_a_step_that_nothing_says_began_is_known_by_its_end():
    GATE.update({"a": asyncio.Event(), "b": asyncio.Event()})
    async with opened() as app:
        handle = await app.start(fan, ["a", "b"], id="r")
        await until(lambda: len(CALLS) == 2)
        GATE["b"].set()
        await recorded(app, "r", Kind.STEP_COMPLETED)
        GATE["a"].set()
        await handle.result()
        then = await handle.state((await versions(app, Kind.STEP_COMPLETED))[0])
        assert ([one.key for one in then.waiting], [one.key for one in then.ended]) == (
            ["/do:1"],
            ["/do.2:1"],
        )


async def test_failures_signals_and_generations_are_in_the_state():
    @workflow
    async def rounds(n: int = 0) -> str:
        if n == 0:
            await do("x")
            continue_as(1)
        await wait_for_signal("go", int)
        return await do("y")

    BROKEN.add("y")
    async with opened() as app:
        handle = await app.start(rounds, id="r")
        await handle.signal("go", 5)
        await handle.finished()
        now = await handle.state()
        assert (now.generation, now.status, now.finished.error.message) == (1, "failed", "down")
        assert [(one.name, bytes(one.value)) for one in now.signals] == [("go", b"5")]
        assert [(one.state, one.error.type) for one in now.steps.values()] == [("failed", "ConnectionError")]
        early = await handle.state((await versions(app, Kind.STEP_COMPLETED))[0])
        assert (early.generation, [one.state for one in early.steps.values()]) == (0, ["done"])


async def test_why_a_run_is_cancelled_and_which_child_a_step_is_are_in_the_state():
    @workflow
    async def parent() -> str:
        return await asks()

    async with opened(workflows=[asks]) as app:
        handle = await app.start(parent, id="p")
        await recorded(app, "p:1.asks", Kind.STEP_COMPLETED)
        assert {key: one.child for key, one in (await handle.state()).steps.items()} == {
            ":1.asks": "p:1.asks"
        }
        await handle.cancel("enough")
        await handle.finished()
        now = await handle.state()
        assert (now.status, now.reason) == ("cancelled", "enough")


def test_what_later_records_say_began_before_is_under_way_and_nothing_else_is():
    def record(version, kind, at, key="", data=b"null", took=0):
        return Record(0, "run/r", version, kind, at, key, data, took=took)

    records = [
        record(1, Kind.RUN_STARTED, 10, data=b'{"workflow":"w","input":[[],{}]}'),
        record(2, Kind.STEP_STARTED, 20, ":1.slow", b'"slow"'),
        record(3, Kind.SIGNAL_RECEIVED, 20, "mail", b'{"name":"go","value":1}'),
        record(4, Kind.STEP_COMPLETED, 90, ":2.late", took=30),
    ]
    then = state_at("r", records, 1)
    assert [(one.key, one.state, one.started_at) for one in then.waiting] == [(":1.slow", "running", 20)]


async def test_a_record_may_have_a_name():
    async with opened() as app:
        await done(app, line, ["a", "b"])
        client = app.client
        with pytest.raises(NoSuchRecord, match="reprise checkpoint add r NAME"):
            await client.checkpoint_at("r", "good")
        assert (await client.checkpoint("r", "good", 3), await client.checkpoint_at("r", "good")) == (3, 3)
        await client.checkpoint("r", "other", 4)
        assert await client.checkpoints("r") == {"good": 3, "other": 4}
        with pytest.raises(NoSuchRecord, match="Did you mean 'good'"):
            await client.checkpoint_at("r", "goof")
        with pytest.raises(NoSuchRecord, match="It has good, other"):
            await client.checkpoint_at("r", "xyzzy")


async def test_what_is_not_there_is_an_error():
    async with opened() as app:
        handle = await done(app, line, ["a"])
        with pytest.raises(NoSuchRecord, match="records 1 to"):
            await handle.state(99)
        with pytest.raises(RunNotFound):
            await app.client.state("nobody")


# ---------------------------------------------------------------- replay


async def test_a_replay_comes_to_the_recorded_end_and_does_nothing():
    async with opened() as app:
        await done(app, line, ["a", "b"])
        before = await app.store.log.end()
        seen = await app.replay("r")
        assert (seen.verdict, bytes(seen.finished.value)) == ("reached", b'"AB!"')
        assert [(one.name, one.state, bytes(one.value)) for one in seen.steps] == [
            ("do", "done", b'"A"'),
            ("do", "done", b'"B"'),
            ("last", "done", b'"AB!"'),
        ]
        assert "await do(name)" in seen.steps[0].where.source
        assert CALLS == []
        assert await app.store.log.end() == before


async def test_a_break_shows_where_the_body_waits_and_its_variables():
    async with opened() as app:
        await done(app, line, ["a", "b"])
        seen = await app.replay("r", stops=["last", ":2.do"])
        second, final = seen.breaks
        assert second.scenes[0].variables == {"names": "['a', 'b']", "said": "['A']", "name": "'b'"}
        assert (second.key, second.scenes[0].where.function) == (":2.do", "line")
        assert final.scenes[0].variables["said"] == "['A', 'B']"
        at = linecache.getline(final.scenes[0].where.file, final.scenes[0].where.number)
        assert at.strip() == 'return await last("".join(said))'


async def test_a_call_is_stopped_at_once_however_long_it_waits_beside_others():
    async with opened() as app:
        await done(app, fan, ["a", "b", "c"])
        seen = await app.replay("r", stops=["do"])
        assert [one.key for one in seen.breaks] == ["/do:1", "/do.2:1", "/do.3:1"]
        assert {one.after for one in seen.steps} == {seen.breaks[0].version}


async def test_a_call_that_outlives_the_body_has_no_line():
    @workflow(on_parent_end="wait")
    async def child() -> str:
        return await do("c")

    @workflow
    async def leaves() -> str:
        call = asyncio.ensure_future(child())
        return "done" if call.done() else "left"

    async with opened() as app:
        await done(app, leaves)
        seen = await app.replay("r", leaves)
        assert [(one.name, one.where.number) for one in seen.steps] == [("child", 0)]


async def test_a_task_that_waits_in_lines_of_others_only_is_nowhere():
    task = asyncio.ensure_future(asyncio.Event().wait())
    await asyncio.sleep(0)
    assert where(task) == Line()
    task.cancel()


async def test_a_variable_that_cannot_be_shown_says_so():
    class Shy:
        def __repr__(self) -> str:
            raise ValueError("no")

    @workflow
    async def hides() -> str:
        shy = Shy()
        return await do("a") + type(shy).__name__

    async with opened() as app:
        await done(app, hides)
        seen = await app.replay("r", hides, stops=["do"])
        assert seen.breaks[0].scenes[0].variables["shy"] == "<its repr failed: ValueError>"


async def test_every_waiting_task_is_shown_with_its_calls():
    @workflow
    async def nested() -> str:
        async def inner(number: int) -> str:
            return await do(f"n{number}")

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(inner(n)) for n in range(2)]
        return "".join(task.result() for task in tasks)

    async with opened() as app:
        await done(app, nested)
        seen = await app.replay("r", nested, stops=["do"])
        scenes = seen.breaks[0].scenes
        assert [scene.where.function for scene in scenes] == ["nested", "inner", "inner"]
        assert [scene.variables["number"] for scene in scenes[1:]] == ["0", "1"]


async def test_until_a_record_only_what_was_known_then_is_replayed():
    async with opened() as app:
        await done(app, line, ["a", "b"])
        first = (await versions(app, Kind.STEP_COMPLETED))[0]
        seen = await app.replay("r", until=first)
        assert (seen.verdict, seen.version, dict(seen.waits.steps)) == ("reached", first, {"do": 1})
        assert seen.scenes[0].variables["said"] == "['A']"
        assert [one.state for one in seen.steps] == ["done", ""]
        with pytest.raises(NoSuchRecord):
            await app.replay("r", until=99)


async def test_a_run_that_goes_on_says_what_it_waits_for():
    async with opened() as app:
        handle = await app.start(asks, id="r")
        await recorded(app, "r", Kind.STEP_COMPLETED)
        seen = await app.replay("r")
        assert (seen.verdict, seen.waits.signals, len(seen.waits.timers)) == ("waits", ("go",), 1)
        await handle.signal("go", "!")
        assert await handle.result() == "A!"
        assert (await app.replay("r")).verdict == "reached"


async def test_questions_and_queries_of_a_replayed_body_reach_nobody():
    @workflow
    async def review() -> str:
        @query
        def stage() -> str:
            return "review"

        return await ask(str, "Fine?", to="ada")

    async with opened() as app:
        await app.start(review, id="r")
        await until(lambda: "r" in app.engine.executions and app.engine.executions["r"].talk)
        await status_is(app, "r", "waiting")
        before = await app.store.log.end()
        seen = await app.replay("r", review)
        assert seen.waits.questions == ("ada: Fine?",)
        assert await app.store.log.end() == before


async def test_other_code_diverges_and_both_sides_are_shown():
    @workflow(name="line")
    async def renamed(names: list[str]) -> str:
        said = [await do(name) for name in names]
        return await do("".join(said))

    @workflow(name="line")
    async def reordered(names: list[str]) -> str:
        return "".join([await do(name) for name in reversed(names)])

    @workflow(name="line")
    async def shorter(names: list[str]) -> str:
        await do(names[0])
        return "short"

    async with opened() as app:
        await done(app, line, ["a", "b"])
        gone = await app.replay("r", renamed)
        assert (gone.verdict, gone.recorded.key) == ("diverges", ":3.last")
        assert gone.version == (await versions(app, Kind.STEP_COMPLETED))[-1]
        assert 'return await do("".join(said))' in gone.where.source
        assert gone.scenes[0].variables["said"] == "['A', 'B']"
        other = await app.replay("r", reordered)
        assert (other.verdict, other.recorded.key) == ("diverges", ":1.do")
        assert "reversed(names)" in other.where.source
        short = await app.replay("r", shorter)
        assert (short.verdict, short.recorded.key) == ("diverges", ":2.do")
        assert CALLS == []


async def test_another_end_than_the_recorded_one_diverges():
    @workflow(name="line")
    async def louder(names: list[str]) -> str:
        said = [await do(name) for name in names]
        return (await last("".join(said))).lower()

    @workflow(name="line")
    async def longer(names: list[str]) -> str:
        await line.function(names)
        return await do("more")

    async with opened() as app:
        await done(app, line, ["a"])
        seen = await app.replay("r", louder)
        assert (seen.verdict, seen.reason) == (
            "diverges",
            'This code ends completed with "a!"; the log holds completed with "A!".',
        )
        seen = await app.replay("r", longer)
        assert (seen.verdict, dict(seen.waits.steps)) == ("diverges", {"do": 1})


async def test_what_has_not_ended_diverges_too():
    @workflow(name="asks")
    async def other() -> str:
        return await last("a")

    async with opened() as app:
        await app.start(asks, id="r")
        await recorded(app, "r", Kind.STEP_COMPLETED)
        seen = await app.replay("r", other)
        assert (seen.verdict, seen.recorded.key) == ("diverges", ":1.do")


async def test_an_error_in_the_place_of_a_result_is_told_with_its_words():
    @workflow(name="line")
    async def fails(names: list[str]) -> str:
        await line.function(names)
        raise ValueError("not today")

    async with opened() as app:
        await done(app, line, ["a"])
        seen = await app.replay("r", fails)
        assert seen.reason == (
            'This code ends failed with ValueError: not today; the log holds completed with "A!".'
        )


@pytest.mark.parametrize("end", ["failed", "cancelled", "broken"])
async def test_a_run_that_ended_badly_replays_to_that_end(end):
    @workflow
    async def naughty() -> None:
        await do("a")
        await asyncio.open_connection("127.0.0.1", 1)

    async with opened() as app:
        if end == "failed":
            BROKEN.add("b")
            await done(app, line, ["a", "b"])
        elif end == "broken":
            await done(app, naughty)
        else:
            handle = await app.start(asks, id="r")
            await recorded(app, "r", Kind.STEP_COMPLETED)
            await handle.cancel("enough")
            await handle.finished()
        code = {"failed": line, "broken": naughty, "cancelled": asks}[end]
        seen = await app.replay("r", code)
        assert (seen.verdict, seen.reason) == ("reached", "")


async def test_a_generation_that_continued_and_workflows_that_are_not_here():
    @workflow
    async def rounds(n: int = 0) -> str:
        await do(f"{n}")
        return continue_as(1) if n == 0 else "ended"

    store = Shared()
    async with opened(store) as app:
        await done(app, rounds)
        border = next(r.version for r in await history(store, "r") if r.kind == Kind.RUN_CONTINUED)
        early = await app.replay("r", until=border - 1)
        assert (early.verdict, early.continues) == ("reached", True)
        assert (await app.replay("r")).verdict == "reached"
    async with opened(store) as other:
        with pytest.raises(UnknownWorkflow):
            await other.replay("r")


# ---------------------------------------------------------------- two runs


async def test_two_runs_of_the_same_are_alike_however_their_times_and_orders_differ():
    names = ["a", "b", "c"]
    async with opened() as app:
        await done(app, fan, names, id="one")
        GATE["a"] = asyncio.Event()
        handle = await app.start(fan, names, id="two")
        await recorded(app, "two", Kind.STEP_COMPLETED, 2)
        GATE["a"].set()
        await handle.result()
        found = await app.diff("one", "two")
        assert (found.same, found.alike, found.parting) == (True, 3, None)


async def test_a_fork_parts_from_its_first_run_at_the_edit():
    async with opened() as app:
        await done(app, line, ["a", "b"])
        fork = await app.fork("r", edit={":1.do": "X"})
        await fork.result()
        found = await app.diff("r", fork.id)
        assert (found.same, found.same_input, found.same_end, found.alike) == (False, True, False, 1)
        assert (found.parting.place, found.parting.a.key, found.parting.b.data) == (0, ":1.do", b'"X"')
        assert [(one.key, one.what) for one in found.differing] == [(":1.do", "value"), (":3.last", "value")]
        assert [bytes(one.b.value) for one in found.differing] == [b'"X"', b'"XB!"']
        assert found.differing[1].a.took >= 0


async def test_outcomes_arguments_and_steps_of_one_run_only_are_told_apart():
    async with opened() as app:
        await done(app, line, ["a", "b"], id="one")
        await done(app, line, ["a"], id="two")
        found = await app.diff("one", "two")
        assert [(one.key, one.what) for one in found.differing] == [
            (":2.do", "only in a"),
            (":3.last", "only in a"),
            (":2.last", "only in b"),
        ]
        assert (found.parting.a.key, found.parting.b.key) == (":2.do", ":2.last")
        BROKEN.add("b")
        await done(app, line, ["a", "b"], id="three")
        found = await app.diff("one", "three")
        assert found.differing[0].what == "outcome"
        BROKEN.clear()
        await done(app, swapped, "p", id="p")
        await done(app, swapped, "q", id="q")
        found = await app.diff("p", "q")
        assert ([one.what for one in found.differing], found.same_input) == (["arguments"], False)


@step
async def hush(word: str) -> None: ...


@workflow
async def swapped(word: str) -> None:
    await hush(word)


async def test_signals_are_compared_by_what_they_say():
    async with opened() as app:
        for id, word in (("one", "x"), ("two", "x"), ("three", "y")):
            handle = await app.start(asks, id=id)
            await handle.signal("go", word)
            await handle.result()
        assert (await app.diff("one", "two")).same
        found = await app.diff("one", "three")
        assert (found.differing, found.parting.b.kind, found.same_end) == ([], Kind.SIGNAL_RECEIVED, False)
