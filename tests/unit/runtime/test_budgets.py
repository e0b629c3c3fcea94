"""Budgets: nothing begins that would cost more than is left, whatever happens to the worker."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given, strategies as st
from tests.unit.runtime.scenes import Shared, cut, history, opened, recorded, until

from reprise import (
    Budget,
    BudgetExceeded,
    ConfigurationError,
    Cost,
    Retry,
    UnknownOption,
    budget,
    spend,
    step,
    workflow,
)
from reprise.kernel.events import Kind, Spending
from reprise.runtime.budgets import Books

CALLS: list[int] = []
GATE = asyncio.Event()


@pytest.fixture(autouse=True)
def fresh():
    CALLS.clear()
    globals()["GATE"] = asyncio.Event()


@step(costs=Cost(tokens=100))
async def ask(n: int, really: int = 100) -> int:
    CALLS.append(n)
    spend(tokens=really)
    return n


@step
async def plain(n: int) -> int:
    CALLS.append(n)
    return n


@step(costs=Cost())
async def tidy() -> str:
    return "tidy"


@workflow
async def in_turn(n: int, really: int = 100) -> list[int | str]:
    got: list[int | str] = []
    for i in range(n):
        try:
            got.append(await ask(i, really))
        except BudgetExceeded as error:
            return [*got, await tidy(), error.what]
    return got


@workflow
async def fan(n: int, really: int = 100) -> int:
    async def one(i: int) -> int:
        try:
            return await ask(i, really)
        except BudgetExceeded:
            return -1

    return sum(got >= 0 for got in await asyncio.gather(*(one(i) for i in range(n))))


def spendings(records):
    return [msgspec.json.decode(r.data, type=Spending) for r in records if r.kind == Kind.BUDGET]


async def waits_for_more(app):
    """Wait until the index says so."""
    async with asyncio.timeout(5):
        while "waits for more" not in (await app.client.row("r")).warning:  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.001)


async def test_what_is_too_much_is_not_begun_and_the_body_hears_of_it():
    async with opened() as app:
        got = await app.run(in_turn, 5, budget=Budget(tokens=250), id="r")
        assert got[:3] == [0, 1, "tidy"]
        assert "needs 100 tokens, and 50 of 250 are left" in got[3]
        assert CALLS == [0, 1]
        spent = await app.client.spent("r")
        assert (spent.taken.tokens, spent.taken.steps, spent.reserved) == (200, 3, Cost())


async def test_what_it_really_cost_counts_when_it_ended():
    async with opened() as app:
        assert await app.run(in_turn, 5, 10, budget=Budget(tokens=140), id="r") == [0, 1, 2, 3, 4]
        assert (await app.client.spent("r")).taken.tokens == 50


async def test_a_step_that_exceeds_its_reservation_ends_the_spending():
    async with opened() as app:
        got = await app.run(in_turn, 5, 400, budget=Budget(tokens=300))
        assert CALLS == [0]
        assert "of 300 are left" in got[-1]


async def test_steps_that_declare_nothing_count_and_stop_when_nothing_is_left():
    @workflow
    async def two() -> int:
        await plain(0)
        return await plain(1)

    async with opened() as app:
        with pytest.raises(BudgetExceeded, match="1 step, and 0 of 1 are left"):
            await app.run(two, budget=Budget(steps=1))
    assert CALLS == [0]


async def test_calls_wait_while_others_may_give_back():
    """Five at 100 reserved and 10 spent: with 250 they go two at a time, and none is refused."""
    most = 0

    @step(costs=Cost(tokens=100))
    async def under_way(n: int) -> int:
        nonlocal most
        CALLS.append(n)
        most = max(most, len(CALLS))
        await asyncio.sleep(0)
        CALLS.remove(n)
        spend(tokens=10)
        return n

    @workflow
    async def all_at_once() -> list[int]:
        return await asyncio.gather(*(under_way(i) for i in range(5)))

    async with opened() as app:
        assert await app.run(all_at_once, budget=Budget(tokens=250), id="r") == [0, 1, 2, 3, 4]
        assert most == 2
        assert (await app.client.spent("r")).taken.tokens == 50


async def test_no_fan_out_exceeds_it():
    async with opened() as app:
        assert await app.run(fan, 40, budget=Budget(tokens=1000), id="r") == 10
        assert len(CALLS) == 10
        assert (await app.client.spent("r")).taken.tokens == 1000


async def test_a_run_without_books_has_spent_nothing():
    @workflow
    async def free() -> str:
        return "done"

    async with opened() as app:
        await app.run(free, id="r")
        spent = await app.client.spent("r")
    assert (spent.budget, spent.taken, spent.reserved, spent.parts) == (None, Cost(), Cost(), {})


async def test_an_attempt_that_was_lost_counts_as_spent():
    """Its worker died: nobody knows what it spent. So with room for two, one lost attempt leaves room for one."""
    async with opened() as app:
        await app.run(in_turn, 3, budget=Budget(tokens=250), id="r")
        store = app.store
    records = await history(store, "r")
    count = next(i for i, r in enumerate(records) if r.kind == Kind.BUDGET) + 1
    CALLS.clear()
    left = await cut(store, "r", count)  # reserved, and no outcome
    async with opened(left, workflows=[in_turn]) as app:
        got = await app.handle("r", in_turn).result()
        spent = await app.client.spent("r")
    assert got[:2] == [0, "tidy"]
    assert CALLS == [0]
    assert spent.taken.tokens == 200


async def test_every_prefix_of_the_history_goes_on_within_the_budget():
    async with opened() as app:
        await app.run(fan, 6, 50, budget=Budget(tokens=300), id="r")
        store = app.store
    records = await history(store, "r")
    for count in range(2, len(records)):
        CALLS.clear()
        left = await cut(store, "r", count)
        before = [each.what for each in spendings(records[:count])]
        settled = before.count("settled")
        lost = before.count("reserved") - settled
        async with opened(left, workflows=[fan]) as app:
            await app.handle("r", fan).result()
            spent = await app.client.spent("r")
        assert spent.taken.tokens <= 300
        assert spent.taken.tokens == 50 * settled + 100 * lost + 50 * len(CALLS)


async def test_each_attempt_is_reserved_and_settled():
    tries = 0

    @step(costs=Cost(tokens=100), retry=Retry(5, backoff=0.001))
    async def flaky() -> int:
        nonlocal tries
        tries += 1
        spend(tokens=30)
        raise ConnectionResetError

    @workflow
    async def one() -> int:
        return await flaky()

    async with opened() as app:
        with pytest.raises(BudgetExceeded):
            await app.run(one, budget=Budget(tokens=180), id="r")
        assert tries == 3
        assert (await app.client.spent("r")).taken == Cost(
            tokens=90, steps=3, seconds=(await app.client.spent("r")).taken.seconds
        )


async def test_a_part_of_a_body_has_a_budget_of_its_own():
    @workflow
    async def parts() -> list[str]:
        got: list[str] = []
        for _ in range(2):
            with budget(Budget(tokens=150), "part"):
                for i in range(2):
                    try:
                        await ask(i)
                    except BudgetExceeded as error:
                        got.append(error.what)
        await ask(9)
        return got

    async with opened() as app:
        got = await app.run(parts, id="r")
        spent = await app.client.spent("r")
    assert len(got) == 2
    assert all("50 of 150 are left" in what for what in got)
    assert CALLS == [0, 0, 9]
    assert {name: cost.tokens for name, cost in spent.parts.items()} == {"$part": 100, "$part.2": 100}


async def test_a_part_says_what_is_left_of_its_budget():
    @workflow
    async def parts() -> list[float | None]:
        left = []
        with budget(Budget(tokens=350), "part") as part:
            for n in range(3):
                await ask(n, 50)
                left.append(part.left().tokens)
        return left

    async with opened() as app:
        assert await app.run(parts) == [300, 250, 200]


async def test_the_outer_budget_holds_inside():
    @workflow
    async def parts() -> None:
        with budget(Budget(tokens=1000)):
            for i in range(5):
                await ask(i)

    async with opened() as app:
        with pytest.raises(BudgetExceeded, match="the budget of run r"):
            await app.run(parts, budget=Budget(tokens=300), id="r")
    assert CALLS == [0, 1, 2]


@workflow
async def parent(children: int, n: int, really: int) -> list[int]:
    return await asyncio.gather(*(fan(n, really) for _ in range(children)))


async def test_children_have_shares_and_give_back_the_rest():
    async with opened() as app:
        assert await app.run(parent, 4, 3, 100, budget=Budget(tokens=1000), id="r") == [2, 2, 2, 2]
        assert (await app.client.spent("r")).taken.tokens == 800
        child = next(row for row in await app.find("parent:r"))
        assert (await app.client.spent(child.id)).budget == Budget(tokens=250)


async def test_a_child_may_declare_its_own_and_waits_for_it():
    declared = fan.options(budget=Budget(tokens=600))

    @workflow
    async def two() -> list[int]:
        return await asyncio.gather(declared(2, 50), declared(20, 100))

    async with opened() as app:
        assert await app.run(two, budget=Budget(tokens=1000), id="r") == [2, 6]
        assert (await app.client.spent("r")).taken.tokens == 700


async def test_a_lost_worker_loses_no_allotment():
    async with opened() as app:
        await app.run(parent, 2, 3, 100, budget=Budget(tokens=1000), id="r")
        store = app.store
    records = await history(store, "r")
    started = max(i for i, r in enumerate(records) if r.kind == Kind.CHILD_STARTED)
    left = await cut(store, "r", started + 1)
    async with opened(left, workflows=[parent, fan]) as app:
        assert await app.handle("r", parent).result() == [3, 3]
        assert (await app.client.spent("r")).taken.tokens == 600


async def test_a_run_that_asks_goes_on_when_it_is_given_more():
    store = Shared()
    async with opened(store) as app:
        run = await app.start(in_turn, 3, budget=Budget(tokens=150, on_exhausted="ask"), id="r")
        await waits_for_more(app)
        assert CALLS == [0]
        await app.client.raise_budget("r", tokens=50)
        await until(lambda: CALLS == [0, 1])
    async with opened(store, workflows=[in_turn]) as app:  # it asks again, elsewhere
        await waits_for_more(app)
        await app.client.raise_budget("r", tokens=100)
        assert await app.handle("r", in_turn).result() == [0, 1, 2]
        assert (await app.client.spent("r")).budget == Budget(tokens=300, on_exhausted="ask")
    assert run.id == "r"


async def test_a_call_that_waits_for_more_can_be_cancelled():
    @workflow
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.02):
                await ask(1)
        except TimeoutError:
            return "late"
        return "in time"

    async with opened() as app:
        assert await app.run(impatient, budget=Budget(tokens=10, on_exhausted="ask")) == "late"
    assert CALLS == []


async def test_one_that_continues_says_so():
    async with opened() as app:
        got = await app.run(in_turn, 3, budget=Budget(tokens=100, on_exhausted="continue"), id="r")
        assert got == [0, 1, 2]
        assert "beyond its budget" in (await app.client.row("r")).warning


async def test_a_function_says_what_a_call_costs_and_its_error_is_that_of_the_call():
    @step(costs=lambda n: Cost(tokens=n))
    async def sized(n: int) -> int:
        return n

    @step(costs=lambda n: n)
    async def wrong(n: int) -> int:
        return n

    @workflow
    async def both() -> int:
        await sized(70)
        with pytest.raises(ConfigurationError, match="Return a Cost"):
            await wrong(1)
        with pytest.raises(BudgetExceeded, match="needs 40 tokens, and 30 of 100 are left"):
            await sized(40)
        return await sized(30)

    async with opened() as app:
        assert await app.run(both, budget=Budget(tokens=100)) == 30


async def test_a_plain_run_writes_nothing_of_budgets():
    async with opened() as app:
        await app.run(in_turn, 2, id="r")
        assert spendings(await history(app.store, "r")) == []
        await recorded(app, "r", Kind.RUN_FINISHED)


def test_declarations_are_checked():
    for wrong in ({}, {"tokens": -1}, {"tokens": 1.5}, {"usd": "1"}, {"on_exhausted": "panic", "usd": 1}):
        with pytest.raises(ConfigurationError):
            Budget(**wrong)
    with pytest.raises(UnknownOption, match="tokens"):
        spend(token=1)


amounts = st.builds(Cost, tokens=st.integers(0, 100), usd=st.integers(0, 9).map(float))
notes = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["reserved", "settled"]), amounts))


@given(notes)
def test_books_count_what_was_settled_and_every_reservation_that_was_not(notes):
    books, open, expected = Books(), {}, Cost()
    for key, what, cost in notes:
        if what == "settled" and key not in open:
            continue
        books.note(key, Spending(what, cost))
        if what == "reserved":
            expected += open[key] if key in open else Cost()  # an attempt that was lost
            open[key] = cost
        else:
            del open[key]
            expected += cost
    assert books.taken.get("", Cost()) == sum(open.values(), expected)
