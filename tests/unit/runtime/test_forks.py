"""Forks that are other work: from where, with what changed, what they share with the first run, and when they are refused."""

import asyncio
from dataclasses import dataclass

import pytest
from tests.unit.runtime.scenes import Shared, history, kinds, opened, recorded, row_when, status_is, until

from reprise import (
    Budget,
    CodecError,
    ConfigurationError,
    ForkRefused,
    Limit,
    NoSuchRecord,
    Reprise,
    Retry,
    RetryRefused,
    RunConflict,
    RunNotFound,
    UnknownOption,
    continue_as,
    current_run,
    current_step,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import Kind, run_stream
from reprise.runtime.forking import FORK_OF, RETRY_OF

CALLS: list[str] = []
KEYS: dict[str, list[str]] = {}
BROKEN: set[str] = set()
GATE: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def clean():
    for each in (CALLS, KEYS, BROKEN, GATE):
        each.clear()


@dataclass
class Price:
    cents: int


async def did(name):
    CALLS.append(name)
    KEYS.setdefault(name, []).append(current_step().idempotency_key)
    if name in GATE:
        await GATE[name].wait()
    if name in BROKEN:
        raise ConnectionError("down")


@step(retry=Retry(1))
async def do(name: str) -> str:
    await did(name)
    return name.upper()


@step(retry=Retry(1))
async def price(item: str) -> Price:
    await did(f"price {item}")
    return Price(100)


@step(retry=Retry(1))
async def pay(cents: int) -> str:
    await did(f"pay {cents}")
    return f"paid {cents}"


@workflow
async def order(item: str, note: str = "") -> str:
    dice = current_run().random().random()
    await do(f"look {dice}")
    cost = await price(item)
    paid = await pay(cost.cents)
    return f"{paid}{note}"


@workflow
async def fan(names: list[str]) -> list[str]:
    return list(await asyncio.gather(*(do(name) for name in names)))


async def done(app, workflow, *args, id="r", **options):
    handle = await app.start(workflow, *args, id=id, **options)
    await handle.finished()
    CALLS.clear()
    return handle


# ---------------------------------------------------------------- from where, with what


async def test_an_edited_result_is_what_the_body_gets_and_what_follows_is_done_again():
    async with opened() as app:
        await done(app, order, "tea")
        handle = await app.fork("r", edit={"price": Price(250)})
        assert await handle.result() == "paid 250"
        assert CALLS == ["pay 250"]
        made = handle.begins_with
        assert (made.run, made.kept, made.again, made.edited) == ("r", 2, ("pay",), (":2.price",))
        row = await app.client.row(handle.id)
        assert (row.tags[FORK_OF], RETRY_OF in row.tags, row.parent) == ("r", False, None)
        assert await app.handle("r", order).result() == "paid 100", "the first run stays as it is"


async def test_a_step_is_named_by_its_key_its_name_or_itself_and_may_fail_instead():
    async with opened() as app:
        await done(app, order, "tea")
        for n, name in enumerate((":2.price", "price", price)):
            handle = await app.fork("r", edit={name: Price(n)})
            assert await handle.result() == f"paid {n}"
        lost = await app.fork("r", edit={price: ConnectionError("no prices today")})
        with pytest.raises(ConnectionError, match="no prices today"):
            await lost.result()
        assert CALLS == ["pay 0", "pay 1", "pay 2"]


async def test_a_fork_leaves_the_first_run_before_a_step_or_after_a_record():
    async with opened() as app:
        await done(app, order, "tea")
        records = await app.store.log.read(run_stream("r"))
        ends = [record.version for record in records if record.kind == Kind.STEP_COMPLETED]
        at_step = await app.fork("r", at="price")
        assert await at_step.result() == "paid 100"
        assert CALLS == ["price tea", "pay 100"]
        CALLS.clear()
        at_record = await app.fork("r", at=ends[1])
        assert await at_record.result() == "paid 100"
        assert CALLS == ["pay 100"]
        CALLS.clear()
        from_start = await app.fork("r", at=0)
        await from_start.result()
        assert [call.split()[0] for call in CALLS] == ["look", "price", "pay"]
        assert from_start.begins_with.kept == 0


async def test_from_its_end_a_completed_run_only_ends_again():
    async with opened() as app:
        await done(app, order, "tea")
        handle = await app.fork("r")
        assert (await handle.result(), CALLS) == ("paid 100", [])


async def test_from_its_end_a_failed_run_is_tried_again_as_other_work():
    BROKEN.add("pay 100")
    async with opened() as app:
        await done(app, order, "tea")
        BROKEN.clear()
        retried = await app.retry("r")
        forked = await app.fork("r")
        assert (await retried.result(), await forked.result()) == ("paid 100", "paid 100")
        assert CALLS == ["pay 100", "pay 100"]
        first, again, other = KEYS["pay 100"]
        assert first == again != other


async def test_chance_follows_from_the_first_run_so_that_its_records_fit():
    async with opened() as app:
        await done(app, order, "tea")
        handle = await app.fork("r", at=0)
        await handle.result()
        first, again = await history(app.store, "r"), await app.store.log.read(run_stream(handle.id))
        dice = [next(r.data for r in records if r.key == ":1.do") for records in (first, again)]
        assert dice[0] == dice[1]
        assert len(KEYS["price tea"]) == len(set(KEYS["price tea"])) == 2, "keys are its own"


async def test_another_input_begins_anew_unless_it_is_said_from_where():
    async with opened() as app:
        await done(app, order, "tea")
        anew = await app.fork("r", input=["milk"])
        assert (await anew.result(), CALLS[1:]) == ("paid 100", ["price milk", "pay 100"])
        CALLS.clear()
        later = await app.fork("r", input={"note": "!"}, at="pay")
        assert (await later.result(), CALLS) == ("paid 100!", ["pay 100"])
        unfit = await app.fork("r", input=["milk"], at="pay")
        assert "price" in (await status_is(app, unfit.id, "stranded")).error
        assert CALLS == ["pay 100"], "nothing was executed"


async def test_without_the_code_values_are_json_and_with_it_their_declared_type():
    store = Shared()
    async with opened(store) as app, opened(store, worker=False) as outside:
        await done(app, order, "tea")
        made = await outside.client.fork("r", edit={"price": {"cents": 7}})
        assert await app.handle(made.id, order).result() == "paid 7"
        with pytest.raises(CodecError):
            await app.fork("r", edit={"price": 7})
        anew = await outside.client.fork("r", input=["milk", " now"])
        assert await app.handle(anew.id, order).result() == "paid 100 now"
        with pytest.raises(ConfigurationError, match="by position"):
            await outside.client.fork("r", input={"note": "!"})
        with pytest.raises(TypeError, match="unexpected"):
            await app.fork("r", input={"itme": "tea"})


async def test_a_running_run_is_forked_where_it_is_and_its_step_without_outcome_is_given_one():
    GATE["pay 100"] = asyncio.Event()
    async with opened() as app:
        first = await app.start(order, "tea", id="r")
        await recorded(app, "r", Kind.STEP_STARTED)  # that it is slow
        handle = await app.fork("r", edit={"pay": "paid by hand"})
        assert await handle.result() == "paid by hand"
        assert CALLS.count("pay 100") == 1
        twin = await app.fork("r", at="pay")
        await until(lambda: CALLS.count("pay 100") == 2)
        GATE["pay 100"].set()
        assert (await first.result(), await twin.result()) == ("paid 100", "paid 100")


async def test_of_a_fan_out_what_ended_before_is_kept():
    names = ["a", "b", "c", "d"]
    GATE.update({name: asyncio.Event() for name in names})
    async with opened() as app:
        handle = await app.start(fan, names, id="r")
        for count, name in enumerate(names, 1):
            GATE[name].set()
            await recorded(app, "r", Kind.STEP_COMPLETED, count)
        await handle.result()
        CALLS.clear()
        forked = await app.fork("r", edit={"/do.2:1": "second"})
        assert await forked.result() == ["A", "second", "C", "D"]
        assert sorted(CALLS) == ["c", "d"]


async def test_a_fork_is_forked_and_tried_again():
    async with opened() as app:
        await done(app, order, "tea")
        BROKEN.add("pay 5")
        first = await app.fork("r", edit={"price": Price(5)})
        assert (await first.finished()).status == "failed"
        BROKEN.clear()
        again = await app.retry(first.id)
        assert (again.id, await again.result()) == (f"{first.id}~2", "paid 5")
        assert KEYS["pay 5"][0] == KEYS["pay 5"][1], "the next try of a fork is the fork's work"
        row = await app.client.row(again.id)
        assert (row.tags.get(FORK_OF), row.tags[RETRY_OF]) == (None, first.id)
        other = await app.fork(again.id, edit={"price": Price(6)})
        assert await other.result() == "paid 6"
        assert (await app.client.row(other.id)).tags == {FORK_OF: again.id}


async def test_generations_are_forked_from_the_one_that_the_record_is_in():
    @workflow
    async def rounds(n: int = 0) -> int:
        said = await do(f"round {n}")
        return len(said) if n == 2 or said != f"ROUND {n}" else continue_as(n + 1)

    async with opened() as app:
        await done(app, rounds)
        latest = await app.fork("r", at="do")
        assert (await latest.result(), CALLS) == (7, ["round 2"])
        records = await app.store.log.read(run_stream("r"))
        second = next(record for record in records if record.kind == Kind.RUN_CONTINUED)
        CALLS.clear()
        early = await app.fork("r", at=second.version)
        assert (await early.result(), CALLS) == (7, ["round 1", "round 2"])
        assert (await app.client.row(early.id)).generation == 2
        await app.store.log.trim(run_stream("r"), second.version + 1)
        with pytest.raises(NoSuchRecord, match="no record 1"):
            await app.fork("r", at=1)


async def test_a_child_is_forked_as_a_run_of_its_own_and_a_child_that_ended_is_kept():
    @workflow
    async def inner(name: str) -> str:
        return await do(name) + await do("end")

    @workflow
    async def outer() -> str:
        return await inner("a") + await do("last")

    async with opened() as app:
        await done(app, outer)
        whole = await app.fork("r", at=":2.do")
        assert (await whole.result(), CALLS) == ("AENDLAST", ["last"])
        edited = await app.fork("r", edit={inner: "other"})
        assert await edited.result() == "otherLAST"
        CALLS.clear()
        alone = await app.fork("r:1.inner", inner, at=":2.do")
        assert (await alone.result(), CALLS) == ("AEND", ["end"])
        assert alone.id.startswith("r-1.inner+")
        assert (await app.client.row(alone.id)).parent is None
        CALLS.clear()
        await (await app.fork("r", at="inner")).result()
        assert CALLS == ["a", "end", "last"], "a child that is not kept begins anew"


# ---------------------------------------------------------------- what the outside has of it


@step(effect="charge", undo=lambda undo: CALLS.append(f"undo {undo.args[0]}"))
async def charge(cents: int) -> str:
    await did(f"charge {cents}")
    return f"charged {cents}"


@workflow
async def booking() -> str:
    first = await charge(1)
    await do("middle")
    second = await charge(2)
    await do("end")
    return f"{first} {second}"


async def test_the_answer_says_what_is_shared_with_the_first_run_and_what_may_be_repeated():
    async with opened() as app:
        await done(app, booking)
        handle = await app.fork("r", at=":2.do")
        made = handle.begins_with
        assert [(e.step_key, e.state, e.undo) for e in made.shared] == [(":1.charge", "done", "owed")]
        assert [e.step_key for e in made.repeated] == [":3.charge"]
        await handle.result()
        assert CALLS == ["middle", "charge 2", "end"]
        first, other = KEYS["charge 2"]
        assert first != other


async def test_a_fork_that_fails_undoes_what_it_did_and_not_what_it_shares():
    async with opened() as app:
        await done(app, booking)
        BROKEN.add("end")
        handle = await app.fork("r", at=":2.do")
        assert (await handle.finished()).status == "failed"
        assert CALLS == ["middle", "charge 2", "end", "undo 2"]
        assert await app.client.effects(handle.id) != []


async def test_what_an_earlier_generation_owes_is_not_the_forks_to_undo():
    @workflow
    async def rounds(n: int = 0) -> str:
        await charge(n)
        await do(f"round {n}")
        return continue_as(1) if n == 0 else "ended"

    async with opened() as app:
        await done(app, rounds)
        BROKEN.add("round 1")
        handle = await app.fork("r", at="charge")
        assert (await handle.finished()).status == "failed"
        assert CALLS == ["charge 1", "round 1", "undo 1"]
        assert [effect.step_key for effect in handle.begins_with.shared] == ["~0:1.charge"]


async def test_an_effect_in_doubt_may_be_repeated_and_is_not_asked_about():
    GATE["charge 2"] = asyncio.Event()
    async with opened() as app:
        first = await app.start(booking, id="r")
        await until(lambda: "charge 2" in CALLS)
        handle = await app.fork("r")
        assert [effect.state for effect in handle.begins_with.repeated] == ["open"]
        await until(lambda: CALLS.count("charge 2") == 2)
        GATE["charge 2"].set()
        assert await first.result() == await handle.result() == "charged 1 charged 2"


async def test_signals_that_came_later_are_named_and_waited_for_anew():
    @workflow
    async def asks() -> str:
        await do("a")
        return await wait_for_signal("go", str)

    async with opened() as app:
        handle = await app.start(asks, id="r")
        await handle.signal("go", "one")
        await handle.result()
        fork = await app.fork("r", at="do")
        assert fork.begins_with.signals == ("go",)
        await fork.signal("go", "two")
        assert await fork.result() == "two"
        whole = await app.fork("r")
        assert (await whole.result(), whole.begins_with.signals) == ("one", ())


async def test_of_a_budget_the_kept_steps_have_spent():
    async with opened() as app:
        await done(app, order, "tea", budget=Budget(steps=10))
        handle = await app.fork("r", at="pay")
        await handle.result()
        assert (await app.client.spent(handle.id)).taken.steps == 3
        fresh = await app.fork("r", at=0)
        await fresh.result()
        assert (await app.client.spent(fresh.id)).taken.steps == 3


async def test_a_fork_stands_in_line_for_its_limits():
    @workflow(limits=[Limit(1)])
    async def narrow(name: str) -> str:
        return await do(name)

    async with opened() as app:
        await done(app, narrow, "b")
        GATE["first"] = asyncio.Event()
        first = await app.start(narrow, "first", id="first")
        await until(lambda: "first" in CALLS)
        handle = await app.fork("r", at=0)
        await row_when(app, handle.id, lambda row: row.in_line)
        GATE["first"].set()
        assert (await first.result(), await handle.result()) == ("FIRST", "B")


# ---------------------------------------------------------------- one fork, and refusals


async def test_the_same_fork_is_one_run_and_an_id_of_its_own_stays_with_it():
    async with opened() as app:
        await done(app, order, "tea")
        made = await asyncio.gather(*(app.client.fork("r", edit={"price": {"cents": 3}}) for _ in range(5)))
        assert len({one.id for one in made}) == 1
        other = await app.client.fork("r", edit={"price": {"cents": 4}})
        assert other.id != made[0].id
        named = [await app.client.fork("r", at="pay", id="mine") for _ in range(2)]
        assert [one.id for one in named] == ["mine", "mine"]
        for taken in ("r", "mine"):
            with pytest.raises(RunConflict, match=f"Run {taken} exists"):
                await app.client.fork("r", at="price", id=taken)
        await status_is(app, "mine", "completed")
        assert CALLS.count("pay 100") == 1


async def test_what_contradicts_itself_is_refused_and_nothing_is_started():
    async with opened() as app:
        await done(app, order, "tea")
        await (await app.start(fan, ["x", "y"], id="f")).result()
        refusals = [
            ("r", {"edit": {"prise": 1}}, NoSuchRecord, "Did you mean 'price'"),
            ("r", {"at": "nothing at all"}, NoSuchRecord, "reprise events r"),
            ("r", {"at": 99}, NoSuchRecord, "no record 99"),
            ("f", {"edit": {"do": "z"}}, ForkRefused, "2 steps 'do'"),
            ("r", {"edit": {"pay": "x"}, "at": "price"}, ForkRefused, "after the fork leaves it"),
            ("r", {"code": "pinned"}, ForkRefused, "no build"),
            ("r", {"code": "newest"}, UnknownOption, "fork"),
            ("nobody", {}, RunNotFound, "nobody"),
        ]
        before = len(await app.find(""))
        for run, options, error, said in refusals:
            with pytest.raises(error, match=said):
                await app.client.fork(run, **options)
        assert len(await app.find("")) == before


async def test_from_its_end_a_run_that_undid_is_refused_and_from_before_that_it_says_so():
    async with opened() as app:
        BROKEN.add("end")
        await done(app, booking)
        with pytest.raises(RetryRefused):
            await app.fork("r")
        BROKEN.clear()
        handle = await app.fork("r", at=":4.do")
        assert [effect.undo for effect in handle.begins_with.shared] == ["undone", "undone"]


async def test_a_pinned_fork_belongs_to_the_build_that_had_the_run():
    store = Shared()
    async with opened(store, build="one") as app:
        await done(app, order, "tea")
    async with opened(store, build="two", accepts=[], workflows=[order]) as two:
        pinned = await two.client.fork("r", at="pay", code="pinned")
        current = await two.client.fork("r", at="pay")
        await status_is(two, current.id, "completed")
        row = await two.client.row(pinned.id)
        assert (row.status, row.build) == ("pending", "one")
    async with Reprise(store, build="one", workflows=[order], capture_logs=False, grace=0.0) as one:
        await status_is(one, pinned.id, "completed")


async def test_the_history_of_a_fork_says_what_it_is_and_which_results_were_given():
    async with opened() as app:
        await done(app, order, "tea")
        handle = await app.fork("r", edit={"price": Price(1)})
        await handle.result()
        records = await app.store.log.read(run_stream(handle.id))
        assert kinds(records)[:4] == ["RUN_STARTED", "RUN_OWNED", "STEP_COMPLETED", "STEP_COMPLETED"]
        assert b'"fork":{"run":"r","at":4,"edited":[":2.price"]' in records[0].data
        assert (records[2].print != 0, records[3].print) == (True, 0)
