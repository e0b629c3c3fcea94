"""The next try of a run that used other mechanisms: nothing that was done or said in the first is done again."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from tests.unit.runtime.scenes import Shared, cut, history, opened, status_is

from reprise import (
    Budget,
    BudgetExceeded,
    Cost,
    Done,
    Kind,
    Retry,
    RetryRefused,
    ask,
    current_step,
    outbox,
    step,
    stream,
    update,
    wait_for_signal,
    workflow,
)

BROKEN: set[str] = set()
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def clean():
    BROKEN.clear()
    CALLS.clear()


@step(retry=Retry(1))
async def do(name: str) -> str:
    CALLS.append(name)
    if name in BROKEN:
        raise ConnectionError("down")
    return name


async def failed_then_mended(app, handle):
    """Wait until a run has failed, mend what was broken, and try again."""
    assert (await handle.finished(5)).status == "failed"
    BROKEN.clear()
    return await handle.retry()


# ---------------------------------------------------------------- transactions


@step(transaction=True)
def book(connection: sqlite3.Connection, what: str) -> str:
    connection.execute("INSERT INTO booked VALUES (?)", (what,))
    outbox.start(ship, what, id=f"ship-{what}")
    outbox.offer("mail", what.encode(), id=f"mail-{current_step().run}-{what}")
    if what in BROKEN:
        raise ValueError(what)
    return what


def execute(app, statement):
    """Execute a statement on the file of an app, and return the rows."""
    with closing(sqlite3.connect(app.store.keeper.path)) as file, file:
        return file.execute(statement).fetchall()


def booked(app):
    return sorted(row[0] for row in execute(app, "SELECT what FROM booked"))


@workflow
async def ship(what: str) -> str:
    return what


@workflow
async def sale() -> list[str]:
    return [await book("tea"), *await asyncio.gather(book("rum"), book("oil")), await do("end")]


@pytest.mark.parametrize(("broken", "rows"), [("end", ["oil", "rum", "tea"]), ("oil", ["rum", "tea"])])
async def test_rows_and_what_left_with_them_are_there_once(tmp_path, broken, rows):
    BROKEN.add(broken)
    async with opened(f"sqlite:///{tmp_path}/a.db?synchronous=OFF") as app:
        execute(app, "CREATE TABLE booked (what TEXT)")
        handle = await app.start(sale, id="one")
        assert (await handle.finished(5)).status == "failed"
        assert booked(app) == rows
        again = await failed_then_mended(app, handle)
        assert await again.result(5) == ["tea", "rum", "oil", "end"]
        assert booked(app) == ["oil", "rum", "tea"]
        tasks = await app.store.queue.find("mail")
        assert len(tasks) == 3
        assert len(await app.find("workflow:ship")) == 3


# ---------------------------------------------------------------- budgets and transactions


async def test_a_transaction_that_is_not_paid_for_writes_nothing_and_one_that_failed_is_paid(tmp_path):
    tries = []

    @step(transaction=True, costs=Cost(tokens=10), retry=Retry(3, backoff=0))
    def buy(connection: sqlite3.Connection, what: str) -> str:
        tries.append(what)
        connection.execute("INSERT INTO booked VALUES (?)", (what,))
        if len(tries) == 1:
            raise ConnectionError("once")
        return what

    @workflow(budget=Budget(tokens=30))
    async def shop() -> list[str]:
        got = []
        try:
            for what in ("a", "b", "c"):
                got.append(await buy(what))
        except BudgetExceeded:
            got.append("enough")
        return got

    async with opened(f"sqlite:///{tmp_path}/a.db?synchronous=OFF") as app:
        execute(app, "CREATE TABLE booked (what TEXT)")
        assert await app.run(shop, id="one") == ["a", "b", "enough"]
        spent = (await app.client.spent("one")).taken
        assert (tries, spent.tokens, spent.steps) == (["a", "a", "b"], 30, 3)
        assert booked(app) == ["a", "b"]


# ---------------------------------------------------------------- what is said


@step(retry=Retry(1))
async def tells(name: str) -> str:
    words = stream("words")
    for n in range(2):
        await words.write(f"{name}{n}")
    return await do.function(name)


@workflow
async def speaker() -> str:
    words = stream("words")
    await words.write("begin")
    await tells("a")
    await words.write("middle")
    await tells("b")
    await words.write("end")
    return "said"


async def test_its_streams_have_what_the_body_says_and_what_steps_say_anew():
    BROKEN.add("b")
    async with opened() as app:
        handle = await app.start(speaker, id="one")
        again = await failed_then_mended(app, handle)
        assert await again.result(5) == "said"
        first = [c.value async for c in handle.stream("words", follow=False)]
        later = [c async for c in again.stream("words", follow=False)]
    assert first == ["begin", "a0", "a1", "middle", "b0", "b1"]
    assert [c.value for c in later if not c.restarts] == ["begin", "middle", "b0", "b1", "end"]
    assert [c.offset for c in later] == list(range(1, len(later) + 1))
    assert [n for n, c in enumerate(later) if c.restarts] in ([], [2]), "only before what is said anew"


async def test_after_a_take_over_too_the_body_is_heard_before_the_steps_that_it_called_later():
    async with opened(Shared()) as app:
        await app.run(speaker, id="one")
        store = app.store
    told = next(n for n, r in enumerate(await history(store, "one"), 1) if r.kind == Kind.STEP_COMPLETED)
    left = await cut(store, "one", told)  # and nothing of what was said was durable
    async with opened(left, workflows=[speaker]) as app:
        assert await app.handle("one", speaker).result(5) == "said"
        said = [c.value async for c in app.handle("one").stream("words", follow=False) if not c.restarts]
    assert said == ["begin", "middle", "b0", "b1", "end"]


@workflow
async def entity() -> list[str]:
    got: list[str] = []

    @update
    async def add(what: str) -> int:
        got.append(await do(what))
        return len(got)

    await wait_for_signal("end")
    got.append(await ask(str, "Who?"))
    await do("last")
    return got


async def test_updates_and_answers_count_once_over_all_tries():
    BROKEN.add("last")
    async with opened() as app:
        handle = await app.start(entity, id="one")
        assert await handle.update("add", "tea", id="u1") == 1
        await handle.signal("end")
        await until_asked(handle)
        await handle.answer("ada", id="a1", by="ada")
        again = await failed_then_mended(app, handle)
        assert await again.update("add", "tea", id="u1") == 1
        await again.answer("eve", id="a1")  # the same answer: it was given, and the value is not looked at
        assert await again.result(5) == ["tea", "ada"]
    assert CALLS == ["tea", "last", "last"]


async def until_asked(handle):
    async with asyncio.timeout(5):
        while not await handle.questions():  # noqa: ASYNC110  the store says it
            await asyncio.sleep(0.001)


async def test_a_question_that_nobody_answered_is_asked_again_and_its_timer_goes_on():
    async with opened() as app:
        handle = await app.start(entity, id="one")
        await handle.signal("end")
        await until_asked(handle)
        await handle.cancel()
        assert (await handle.finished(5)).status == "cancelled"
        again = await handle.retry()
        await until_asked(again)
        await again.answer("bob")
        assert await again.result(5) == ["bob"]


# ---------------------------------------------------------------- effects and undoing


async def gives_back(undo) -> None:
    CALLS.append(f"back {undo.args[0]}")


@step(undo=gives_back)
async def lend(what: str) -> str:
    CALLS.append(current_step().idempotency_key)
    return what


@workflow
async def lending() -> str:
    return await lend("book") + await do("end")


async def test_what_was_undone_is_only_done_anew_and_then_as_other_work():
    BROKEN.add("end")
    async with opened() as app:
        handle = await app.start(lending, id="one")
        assert (await handle.finished(5)).status == "failed"
        BROKEN.clear()
        with pytest.raises(RetryRefused, match="--fresh"):
            await handle.retry()
        again = await handle.retry(fresh=True)
        assert await again.result(5) == "bookend"
    (first, _, back, second, _) = CALLS
    assert back == "back book"
    assert first != second, "other work has other idempotency keys"


async def test_what_a_person_said_of_an_effect_holds_in_the_next_try():
    @step(effect="charge", retry=Retry(1))
    async def charge() -> str:
        CALLS.append("charge")
        raise ConnectionError("nobody knows")

    @workflow
    async def flow() -> str:
        return await charge() + await do("end")

    BROKEN.add("end")
    async with opened(Shared()) as app:
        handle = await app.start(flow, id="one")
        await status_is(app, "one", "needs_attention")
        (effect,) = await app.client.effects("one")
        await app.client.resolve_effect("one", effect.key, Done("paid, "))
        assert (await handle.finished(5)).status == "failed"
        BROKEN.clear()
        again = await handle.retry()
        assert await again.result(5) == "paid, end"
        assert [e.state for e in await app.client.effects(again.id)] == ["done"]
    assert CALLS == ["charge", "end", "end"]
