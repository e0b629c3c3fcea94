"""Migrating: a run goes on under code that its history does not fit, from a state that a function computes of its past."""

import msgspec
import pytest
from tests.unit.runtime.scenes import Shared, cut, history, kinds, opened, recorded, status_is, until

import reprise.runtime.worker
from reprise import (
    AppendRefused,
    Budget,
    ConfigurationError,
    Cost,
    Heard,
    MigrationRefused,
    Onward,
    Past,
    RunNotFound,
    UnknownWorkflow,
    check_runs,
    current_run,
    patched,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import Continued, Kind, run_stream
from reprise.stores.log import append

ran: list[str] = []


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 0.01)
    ran.clear()


@step(costs=Cost(tokens=1))
async def do(what: str) -> str:
    ran.append(what)
    return what.upper()


@workflow(name="order")
async def old(item: str) -> list[str]:
    done = [await do("reserve"), await do("pack")]
    done.append(await wait_for_signal("paid", str))
    return [*done, await do("ship"), await wait_for_signal("end", str)]


@workflow(name="order")
async def new(item: str, done: list[str]) -> list[str]:
    patched("anything") or pytest.fail("a migrated run begins under the new code")
    while len(done) < 3:
        done.append(await wait_for_signal("paid", str))
    return [item, *done, await do("tax"), await wait_for_signal("end", str), f"{current_run().generation}"]


def to_new(past: Past) -> dict:
    return {"item": past.args[0], "done": [*past.results("do"), *(one.value for one in past.signals)]}


async def resting(store, *signals, build="v1", **options):
    """Leave run "r" of the old code in the store, which waits for its next signal."""
    async with opened(store, build=build) as app:
        await app.start(old, "book", id="r", tags={"shop": "x"}, **options)
        for name in signals:
            await app.client.signal("r", name, name)
        await recorded(app, "r", Kind.STEP_COMPLETED, 2 + len(signals))
    ran.clear()


async def test_a_run_goes_on_under_new_code_from_what_its_past_says():
    store = Shared()
    await resting(store)
    async with opened(store, worker=False) as app:
        assert not (await check_runs(store, [new])).ok
        made = await app.migrate("r", to_new, new)
        assert (made.generation, made.input) == (1, b'[[],{"item":"book","done":["RESERVE","PACK"]}]')
        assert (await check_runs(store, [new])).ok
    async with opened(store, workflows=[new], build="v2") as app:
        for name in ("paid", "end"):
            await app.client.signal("r", name, name)
        assert await (await app.resume("r")).result() == [
            "book", "RESERVE", "PACK", "paid", "TAX", "end", "1",
        ]  # fmt: skip
        assert (await app.client.row("r")).tags == {"shop": "x"}
    assert ran == ["tax"]


async def test_the_past_is_all_that_the_log_says():
    seen: list[Past] = []

    def look(past: Past) -> tuple[str, list[str]]:
        seen.append(past)
        return past.args[0], []

    store = Shared()
    await resting(store, "paid")
    async with opened(store, worker=False) as app:
        await app.migrate("r", look, new, dry_run=True)
    (past,) = seen
    assert (past.run, past.workflow, past.args, past.kwargs) == ("r", "order", ["book"], {})
    assert past.steps == {":1.do": "RESERVE", ":2.do": "PACK", ":3.do": "SHIP"}
    assert [(one.name, one.value) for one in past.signals] == [("paid", "paid")]
    assert (past.tags, past.generation, past.build) == ({"shop": "x"}, 0, "v1")


async def test_a_dry_run_writes_nothing():
    store = Shared()
    await resting(store)
    end = await store.log.end()
    async with opened(store, worker=False) as app:
        assert (await app.migrate("r", to_new, new, dry_run=True)).generation == 1
    assert await store.log.end() == end


async def test_it_is_one_commit_that_says_who_computed_it():
    store = Shared()
    await resting(store)
    async with opened(store, worker=False) as app:
        await app.migrate("r", to_new, new)
    last = (await history(store, "r"))[-1]
    continued = msgspec.json.decode(last.data, type=Continued)
    assert (last.kind, continued.generation) == (Kind.RUN_CONTINUED, 1)
    assert continued.migrated == f"{__name__}:to_new"


async def test_a_signal_that_nobody_took_passes_on_where_the_function_says_so():
    def keep(past: Past) -> Onward:
        return Onward((past.args[0], ["A", "B"]), signals=past.signals)

    store = Shared()
    async with opened(store) as app:
        await app.start(old, "book", id="r", signal=("end", "early"))
        await recorded(app, "r", Kind.STEP_COMPLETED, 2)
    async with opened(store, worker=False) as app:
        made = await app.migrate("r", keep, new)
        assert made.past.signals == [Heard("start-0", "end", "early")]
    async with opened(store, workflows=[new]) as app:
        await app.client.signal("r", "paid", "p")
        assert (await (await app.resume("r")).result())[-2:] == ["early", "1"]


async def test_unread_mail_is_read_by_the_new_generation():
    store = Shared()
    await resting(store)
    async with opened(store, worker=False) as app:
        await app.client.signal("r", "paid", "p")
        await app.migrate("r", to_new, new)
        await app.client.signal("r", "end", "e")
    async with opened(store, workflows=[new]) as app:
        assert (await (await app.resume("r")).result())[3:] == ["p", "TAX", "e", "1"]


async def test_a_run_that_a_worker_has_is_paused_first():
    store = Shared()
    async with opened(store, workflows=[old]) as app:
        await app.start(old, "book", id="r")
        await recorded(app, "r", Kind.STEP_COMPLETED, 2)
        with pytest.raises(MigrationRefused, match="has it") as refused:
            await app.client.migrate("r", to_new, new)
        assert "reprise pause r" in refused.value.hint
        await app.client.pause("r")
        await status_is(app, "r", "paused")
    async with opened(store, worker=False) as app:
        await app.client.migrate("r", to_new, new)
    async with opened(store, workflows=[new]) as app:
        for name in ("paid", "end"):
            await app.client.signal("r", name, name)
        assert (await (await app.resume("r")).result())[-1] == "1"


async def test_who_moves_on_meanwhile_is_left_alone():
    store = Shared()
    await resting(store)
    async with opened(store, worker=False) as app:
        made = await app.client.migrate("r", to_new, new, dry_run=True)
        async with opened(store, workflows=[old], build="v1") as worker:
            await worker.resume("r")
            await until(lambda: "r" in worker.engine.executions)
        with pytest.raises(AppendRefused):
            await append(store.log, 77, *made.groups)
    assert "RUN_CONTINUED" not in kinds(await history(store, "r"))


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ({"item": "book"}, "are no arguments of 'order'"),
        (("book", [], "more"), "are no arguments of 'order'"),
        ((object(), []), "are no arguments of 'order'"),
        (7, "returned int"),
    ],
)
async def test_what_are_no_arguments_is_refused_and_nothing_written(returned, says):
    store = Shared()
    await resting(store)
    end = await store.log.end()
    async with opened(store, worker=False) as app:
        with pytest.raises(ConfigurationError, match=says):
            await app.migrate("r", lambda past: returned, new)
    assert await store.log.end() == end


async def test_an_async_function_is_refused():
    async def later(past: Past) -> dict:
        return {}

    store = Shared()
    await resting(store)
    async with opened(store, worker=False) as app:
        with pytest.raises(ConfigurationError, match="is async"):
            await app.migrate("r", later, new)  # type: ignore[arg-type]


async def test_runs_that_have_ended_or_do_not_exist_are_refused():
    store = Shared()
    await resting(store)
    async with opened(store, workflows=[old]) as app:
        for name in ("paid", "end"):
            await app.client.signal("r", name, name)
        await (await app.resume("r")).result()
        with pytest.raises(MigrationRefused, match="completed"):
            await app.client.migrate("r", to_new, new)
        with pytest.raises(RunNotFound):
            await app.client.migrate("nobody", to_new, new)
    async with opened(store, worker=False) as app:
        with pytest.raises(UnknownWorkflow):
            await app.migrate("r", to_new)


async def test_an_effect_that_is_open_is_resolved_first():
    @step(effect="charge")
    async def charge() -> int:
        raise ConnectionError("the line went dead")

    @workflow(name="order")
    async def pays(item: str) -> int:
        return await charge()

    store = Shared()
    async with opened(store) as app:
        await app.start(pays, "book", id="r")
        await status_is(app, "r", "needs_attention")
        with pytest.raises(MigrationRefused, match="effect 'charge'") as refused:
            await app.client.migrate("r", to_new, new)
        assert "reprise effects r resolve" in refused.value.hint


async def test_what_is_owed_to_undo_passes_on():
    undone: list[str] = []

    async def give_back(undo) -> None:
        undone.append(undo.value)

    @step(undo=give_back)
    async def book() -> str:
        return "seat 7"

    @workflow(name="trip")
    async def before() -> None:
        await book()
        await wait_for_signal("go")

    @workflow(name="trip")
    async def after() -> None:
        raise ValueError("sold out")

    store = Shared()
    async with opened(store) as app:
        await app.start(before, id="r")
        await recorded(app, "r", Kind.STEP_COMPLETED)
    async with opened(store, worker=False) as app:
        await app.migrate("r", lambda past: {}, after)
    async with opened(store, workflows=[after]) as app:
        assert (await (await app.resume("r")).finished()).status == "failed"
    assert undone == ["seat 7"]


async def test_children_end_as_at_the_end_of_a_run():
    @workflow
    async def child() -> None:
        await wait_for_signal("never")

    @workflow(name="parent")
    async def before() -> None:
        await child()

    @workflow(name="parent")
    async def after() -> str:
        return await wait_for_signal("end", str)

    store = Shared()
    async with opened(store) as app:
        await app.start(before, id="r")
        records = await recorded(app, "r", Kind.CHILD_STARTED)
        await app.client.pause("r")
        await status_is(app, "r", "paused")
        made = await app.client.migrate("r", lambda past: {}, after)
        (started,) = [record for record in records if record.kind == Kind.CHILD_STARTED]
        id = msgspec.json.decode(started.data)["run"]
        assert made.cancelled == (id,)
        await status_is(app, id, "cancelled")
    async with opened(store, workflows=[after]) as app:
        await app.client.signal("r", "end", "well")
        assert await (await app.resume("r")).result() == "well"


async def test_what_was_spent_stays_spent():
    store = Shared()
    await resting(store, budget=Budget(tokens=3))
    async with opened(store, worker=False) as app:
        await app.migrate("r", to_new, new)
        assert (await app.client.spent("r")).taken.tokens == 2


async def test_a_migrated_run_goes_on_after_a_crash_before_its_first_record():
    store = Shared()
    await resting(store)
    async with opened(store, worker=False) as app:
        await app.migrate("r", to_new, new)
    async with opened(store, workflows=[new], build="v2") as app:
        await app.resume("r")
        await recorded(app, "r", Kind.PATCHED)
    records = await store.log.read(run_stream("r"))
    assert kinds(records)[-3:] == ["RUN_CONTINUED", "RUN_OWNED", "PATCHED"]
    async with opened(store, workflows=[new], build="v2") as app:
        for name in ("paid", "end"):
            await app.client.signal("r", name, name)
        assert (await (await app.resume("r")).result())[-1] == "1"


@pytest.mark.parametrize("build", ["", "v1"])
@pytest.mark.parametrize("dies", [True, False])
@pytest.mark.parametrize("times", [1, 2])
async def test_an_old_worker_that_took_it_first_and_did_nothing_does_not_count(build, dies, times):
    """It may die before it has said that the run does not fit its code; then there is only that it had it."""
    store = Shared()
    await resting(store, build=build)
    async with opened(store, worker=False) as app:
        await app.migrate(
            "r", lambda past: Onward(("book", ["A", "B"]), signals=[Heard("s", "paid", "p")]), new
        )
    for n in range(times):
        async with opened(store, workflows=[old], build=build and f"{build}.{n}") as app:
            await app.resume("r")
            records = await recorded(app, "r", Kind.RUN_STRANDED, n + 1 if not dies else 1)
        if dies:
            store = await cut(store, "r", len(records) - 1)
    async with opened(store, workflows=[new], build=build and "v2") as app:
        await app.client.signal("r", "end", "end")
        assert await (await app.resume("r")).result() == ["book", "A", "B", "p", "TAX", "end", "1"]


async def test_an_old_worker_that_did_something_counts():
    @workflow(name="order")
    async def fitting(item: str, done: list[str]) -> None:
        await do("something old")
        await wait_for_signal("never")

    @workflow(name="order")
    async def asking(item: str, done: list[str]) -> bool:
        new_way = patched("anything")
        await do("something old")
        return new_way

    store = Shared()
    await resting(store, build="")
    async with opened(store, worker=False) as app:
        await app.migrate("r", to_new, new)
    async with opened(store, workflows=[fitting]) as app:
        await app.resume("r")
        await recorded(app, "r", Kind.STEP_COMPLETED, 3)
    async with opened(store, workflows=[asking]) as app:
        assert await (await app.resume("r")).result() is False
