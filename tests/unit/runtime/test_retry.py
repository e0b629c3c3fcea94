"""Trying again: what a fork keeps, what it does again, when it is refused, and that nobody tries twice."""

import asyncio

import pytest
from tests.unit.runtime.scenes import Shared, kinds, opened, recorded, row_when, status_is, until

from reprise import (
    Budget,
    Limit,
    Retry,
    RetryRefused,
    RunNotFound,
    continue_as,
    current_run,
    current_step,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import Event, Kind, Record, inbox_stream, run_stream
from reprise.runtime import retrying
from reprise.runtime.batch import TAKES, Verb
from reprise.runtime.forking import RETRY_OF
from reprise.stores.log import Group, append

CALLS: list[str] = []
KEYS: dict[str, list[str]] = {}
BROKEN: set[str] = set()
GATE: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def clean():
    CALLS.clear()
    KEYS.clear()
    BROKEN.clear()
    GATE.clear()


@step(retry=Retry(1))
async def do(name: str) -> str:
    CALLS.append(name)
    KEYS.setdefault(name, []).append(current_step().idempotency_key)
    if name in GATE:
        await GATE[name].wait()
    if name in BROKEN:
        raise ConnectionError("down")
    return name.upper()


def test_a_step_began_with_its_first_attempt():
    """What waited beside a step that failed later was not done because of that."""

    def record(version, kind, at, key, took=0):
        return Record(0, "run/r", version, kind, at, key, took=took)

    records = [
        record(1, Kind.STEP_RETRYING, 5, ":1.long", took=1),
        record(2, Kind.STEP_FAILED, 10, "/branch:1.fails", took=2),
        record(3, Kind.STEP_COMPLETED, 20, ":1.long", took=3),
        record(4, Kind.STEP_COMPLETED, 30, ":2.next", took=3),
        record(5, Kind.STEP_COMPLETED, 40, "/other:1.beside", took=3),
    ]
    assert [each.key for each in retrying._begun_after(records, 1)] == [":2.next"]


@step
async def undo(name: str) -> None:
    CALLS.append(f"undo {name}")


@workflow
async def line(names: list[str]) -> list[str]:
    dice = current_run().random().random()
    return [await do(f"dice {dice}")] + [await do(name) for name in names]


@workflow
async def fan(names: list[str]) -> list[str]:
    return list(await asyncio.gather(*(do(name) for name in names)))


@workflow
async def saga() -> str:
    await do("reserve")
    try:
        return await do("charge")
    except ConnectionError:
        await undo("reserve")
        raise


@workflow
async def fallback() -> str:
    try:
        await do("first")
    except ConnectionError:
        await do("second")
    return await do("third")


@workflow
async def wrapped() -> str:
    await do("a")
    try:
        return await do("b")
    except ConnectionError as error:
        raise ValueError("order failed") from error


async def failed(app, workflow, *args, id="r", **options):
    handle = await app.start(workflow, *args, id=id, **options)
    finished = await handle.finished()
    assert finished.status in ("failed", "cancelled")
    return handle


async def test_what_succeeded_is_kept_and_what_failed_is_done_again():
    BROKEN.add("b")
    async with opened() as app:
        await failed(app, line, ["a", "b", "c"])
        BROKEN.clear()
        handle = await app.retry("r")
        result = await handle.result()
        assert (handle.id, result[1:]) == ("r~2", ["A", "B", "C"])
        assert CALLS[1:5] == ["a", "b", "b", "c"]
        row = await app.client.row("r~2")
        assert (row.status, row.tags[RETRY_OF]) == ("completed", "r")
        assert (await app.client.row("r")).status == "failed"
        # The same line in a run of its own throws other dice.
        other = await (await app.start(line, ["a", "b", "c"], id="s")).result()
        assert other[0] != result[0]


async def test_a_fork_is_the_same_work_to_the_outside_and_a_fresh_one_is_not():
    BROKEN.add("b")
    async with opened() as app:
        await failed(app, line, ["a", "b"])
        await app.retry("r", line)
        await status_is(app, "r~2", "failed")
        BROKEN.clear()
        handle = await app.retry("r~2", fresh=True)
        await handle.result()
        first, again, fresh = KEYS["b"]
        assert first == again != fresh
        assert (handle.id, CALLS.count("a")) == ("r~3", 2)


async def test_of_a_fan_out_every_neighbour_that_succeeded_is_kept():
    names = [f"n{i}" for i in range(20)]
    BROKEN.update(names[5:8])
    GATE["n5"] = asyncio.Event()
    async with opened() as app:
        handle = await app.start(fan, names, id="r")
        await until(lambda: len(CALLS) == 20)
        await asyncio.sleep(0)
        GATE["n5"].set()
        assert (await handle.finished()).status == "failed"
        CALLS.clear()
        BROKEN.clear()
        assert await (await app.retry("r")).result() == [name.upper() for name in names]
        assert set(CALLS) >= {"n6", "n7"}
        assert set(CALLS) <= {"n5", "n6", "n7"}


async def test_a_run_that_undid_what_it_had_done_is_tried_only_from_the_beginning():
    BROKEN.add("charge")
    async with opened() as app:
        await failed(app, saga)
        with pytest.raises(RetryRefused, match="did undo:") as caught:
            await app.retry("r")
        assert "--fresh" in str(caught.value)
        with pytest.raises(RunNotFound):
            await app.client.row("r~2")
        BROKEN.clear()
        assert await (await app.retry("r", fresh=True)).result() == "CHARGE"
        assert CALLS == ["reserve", "charge", "undo reserve", "reserve", "charge"]


async def test_replay_is_the_judge_where_the_times_say_nothing(monkeypatch):
    from reprise.runtime import retrying

    monkeypatch.setattr(retrying, "_begun_after", lambda records, place: [])
    BROKEN.add("charge")
    async with opened() as app:
        await failed(app, saga)
        BROKEN.clear()
        CALLS.clear()
        await app.retry("r")
        row = await status_is(app, "r~2", "stranded")
        assert "undo" in row.error
        assert CALLS == [], "nothing was executed"


async def test_a_failure_that_the_body_dealt_with_stays_as_it_was():
    BROKEN.update({"first", "third"})
    async with opened() as app:
        await failed(app, fallback)
        BROKEN.clear()
        assert await (await app.retry("r")).result() == "THIRD"
        assert CALLS == ["first", "second", "third", "third"]


async def test_a_failure_that_the_body_explained_is_found():
    BROKEN.add("b")
    async with opened() as app:
        await failed(app, wrapped)
        BROKEN.clear()
        assert await (await app.retry("r")).result() == "B"
        assert CALLS == ["a", "b", "b"]


async def test_a_cancelled_run_goes_on_with_the_signals_that_nobody_took():
    @workflow
    async def asks() -> list[str]:
        await do("a")
        first = await wait_for_signal("go", str)
        return [first, await wait_for_signal("go", str)]

    async with opened() as app:
        handle = await app.start(asks, id="r")
        await handle.signal("go", "one")
        await recorded(app, "r", Kind.SIGNAL_RECEIVED)
        await handle.cancel("wrong")
        assert (await handle.finished()).status == "cancelled"
        late = Event(Kind.SIGNAL_SENT, 1, "late", b'{"name":"go","value":"two"}')  # sent, and never looked at
        await append(app.store.log, 1, Group(inbox_stream("r"), [late]))
        again = await app.retry("r")
        assert await again.result() == ["one", "two"]
        assert CALLS == ["a"]
        assert "CANCEL_REQUESTED" not in kinds(await app.store.log.read(run_stream("r~2")))


async def test_a_deadline_is_as_far_away_as_it_was():
    @workflow
    async def waits() -> str:
        await do("a")
        return await wait_for_signal("go", str)

    async with opened() as app:
        handle = await app.start(waits, id="r", deadline=0.05)
        assert (await handle.finished()).status == "failed"
        again = await app.retry("r")
        assert (await again.finished()).status == "failed"
        assert CALLS == ["a"]
        records = await app.store.log.read(run_stream("r~2"))
        assert records[-1].at >= (await app.client.row("r~2")).created_at + 50_000


async def test_a_generation_goes_on_from_its_begin():
    @workflow
    async def rounds(n: int = 0) -> int:
        await do(f"round {n}")
        return len(await do("last")) if n == 2 else continue_as(n + 1)

    BROKEN.add("last")
    async with opened(keep_generations=0) as app:
        await failed(app, rounds)
        BROKEN.clear()
        assert await (await app.retry("r")).result() == 4
        assert CALLS == ["round 0", "round 1", "round 2", "last", "last"]
        assert KEYS["last"][0] == KEYS["last"][1]
        assert (await app.client.row("r~2")).generation == 2


async def test_the_child_of_a_fork_is_the_same_work_too():
    @workflow
    async def inner() -> str:
        await do("c")
        return await do("d")

    @workflow
    async def outer() -> str:
        await do("a")
        return await inner()

    BROKEN.add("d")
    async with opened() as app:
        await failed(app, outer)
        BROKEN.clear()
        assert await (await app.retry("r")).result() == "D"
        assert CALLS == ["a", "c", "d", "c", "d"], "a child that failed begins anew"
        assert KEYS["c"][0] == KEYS["c"][1]
        with pytest.raises(RetryRefused, match="is a child of r"):
            await app.client.retry("r:2.inner")


async def test_what_was_spent_stays_spent():
    BROKEN.add("b")
    async with opened() as app:
        await failed(app, line, ["a", "b"], budget=Budget(steps=10))
        assert (await app.client.spent("r")).taken.steps == 3
        BROKEN.clear()
        await (await app.retry("r")).result()
        assert (await app.client.spent("r~2")).taken.steps == 4


async def test_a_fork_waits_for_a_place_as_any_run():
    @workflow(limits=[Limit(1)])
    async def narrow(name: str) -> str:
        return await do(name)

    BROKEN.add("b")
    async with opened() as app:
        await failed(app, narrow, "b")
        BROKEN.clear()
        GATE["first"] = asyncio.Event()
        first = await app.start(narrow, "first", id="first")
        await until(lambda: "first" in CALLS)
        again = await app.retry("r")
        await row_when(app, again.id, lambda row: row.in_line)
        GATE["first"].set()
        assert (await first.result(), await again.result()) == ("FIRST", "B")


async def test_nobody_tries_twice_and_only_what_ended_so():
    BROKEN.add("b")
    store = Shared()
    async with opened(store, worker=False) as outside, opened(store) as app:
        await failed(app, line, ["b"])
        tries = await asyncio.gather(*(outside.client.retry("r") for _ in range(5)), return_exceptions=True)
        assert [one for one in tries if not isinstance(one, RetryRefused)] == ["r~2"]
        BROKEN.clear()
        done = await app.start(line, ["x"], id="done")
        await done.result()
        for id, said in (("done", "completed"), ("r", "as r~2")):
            with pytest.raises(RetryRefused, match=said):
                await app.retry(id)
        with pytest.raises(RunNotFound):
            await app.retry("nobody")


async def test_a_fork_goes_on_after_its_worker_died_and_replays_the_same():
    BROKEN.add("c")
    store = Shared()
    async with opened(store) as app:
        await failed(app, line, ["a", "b", "c", "d"])
        await app.client.retry("r")
        await status_is(app, "r~2", "failed")
        BROKEN.clear()
        await app.client.retry("r~2")
        await status_is(app, "r~3", "completed")
        assert [CALLS.count(name) for name in "abcd"] == [1, 1, 3, 1]


# ---------------------------------------------------------------- many


async def test_a_batch_tells_the_runs_that_it_can_be_told_to():
    BROKEN.add("b")
    async with opened() as app:
        for n in range(3):
            await failed(app, line, ["b"], id=f"f{n}", tags={"team": "red"})
        await failed(app, saga_like, id="s", tags={"team": "red"})
        await (await app.start(line, ["a"], id="ok", tags={"team": "red"})).result()
        BROKEN.clear()
        told = await app.batch("retry", "team:red")
        assert set(told.done) == {"f0~2", "f1~2", "f2~2"}
        assert list(told.refused) == ["s"]
        assert "--fresh" in told.refused["s"]
        for id in told.done:
            await status_is(app, id, "completed")
        assert (await app.batch("retry", "id:f*")).done == ()
        assert (await app.batch("cancel", "team:red")).done == ()


@workflow
async def saga_like() -> str:
    try:
        return await do("b")
    except ConnectionError:
        await undo("b")
        raise


async def test_a_verb_that_is_none_names_the_nearest():
    from reprise import UnknownOption

    async with opened() as app:
        with pytest.raises(UnknownOption, match="Did you mean 'cancel'"):
            await app.batch("cancle", "")


def test_every_verb_takes_some_states_and_none_takes_completed():
    assert all(TAKES[verb] and "completed" not in TAKES[verb] for verb in Verb)
