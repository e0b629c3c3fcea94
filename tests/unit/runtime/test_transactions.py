"""Steps in the log's transaction: once, whole, and nothing where they failed."""

import asyncio
import itertools
import sqlite3
import threading
import time

import msgspec
import pytest
from tests.unit.runtime.scenes import history, kill, kinds, opened, recorded, status_is, until

from reprise import (
    BodyError,
    Budget,
    BudgetExceeded,
    CodecError,
    ConfigurationError,
    Cost,
    KeyRing,
    Kind,
    PayloadTooLarge,
    Retry,
    RunConflict,
    RunEnded,
    RunNotFound,
    StepTimeout,
    continue_as,
    current_step,
    outbox,
    spend,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import inbox_stream, run_stream
from reprise.stores import open_store
from reprise.stores.log import Append, Group, append

NOW = Retry(3, backoff=0)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/runs.db?synchronous=OFF"


@pytest.fixture
async def store(url):
    """A store that is left open, with a table of the user's own."""
    store = open_store(url)
    await store.start()
    with sqlite3.connect(store.keeper.path) as file:
        file.execute("CREATE TABLE orders (id TEXT, cents INTEGER CHECK (cents > 0))")
    file.close()
    stop, store.stop = store.stop, _stay_open
    yield store
    await stop()


async def _stay_open():
    pass


def orders(store):
    file = sqlite3.connect(store.keeper.path)
    try:
        return file.execute("SELECT id, cents FROM orders ORDER BY rowid").fetchall()
    finally:
        file.close()


@step(transaction=True, retry=NOW)
def book(connection, order: str, cents: int = 1) -> int:
    connection.execute("INSERT INTO orders VALUES (?, ?)", (order, cents))
    return cents


@step
async def plain(n: int) -> int:
    return n


_numbers = itertools.count()


def flow_of(call):
    @workflow(name=f"flow-{next(_numbers)}")
    async def flow() -> object:
        return await call()

    return flow


async def run(store, call, **options):
    """Run a body; return how it ended and the kinds of its records."""
    async with opened(store, **options) as app:
        finished = await (await app.start(flow_of(call), id="one")).finished(10)
    return finished, kinds(await history(store, "one"))


# ---------------------------------------------------------------- what is written


async def test_rows_and_record_are_there(store):
    async def body():
        return [await plain(1), await book("a", cents=5), await plain(2), await book("b")]

    finished, found = await run(store, body)
    assert msgspec.json.decode(finished.value) == [1, 5, 2, 1]
    assert orders(store) == [("a", 5), ("b", 1)]
    assert found.count("STEP_COMPLETED") == 4


async def test_at_once_each_is_one_record(store):
    """Of one run they follow each other; beside them go plain steps."""

    async def body():
        return await asyncio.gather(*(call for n in range(20) for call in (book(str(n)), plain(n))))

    finished, found = await run(store, body)
    assert finished.status == "completed"
    assert sorted(orders(store)) == sorted((str(n), 1) for n in range(20))
    assert found.count("STEP_COMPLETED") == 40


async def test_of_many_runs_they_share_commits(store):
    @workflow
    async def many(n: int) -> int:
        return await book(str(n)) + await book(str(n))

    async with opened(store) as app:
        before = app.store.statistics()["commits"]
        handles = [await app.start(many, n) for n in range(50)]
        assert [await handle.result() for handle in handles] == [2] * 50
        commits = app.store.statistics()["commits"] - before
    assert len(orders(store)) == 100
    assert commits < 200 + 50


async def test_a_failure_leaves_nothing_and_is_recorded(store):
    @step(transaction=True)
    def fails(connection) -> None:
        connection.execute("INSERT INTO orders VALUES ('a', 1)")
        raise ValueError("no")

    async def body():
        try:
            await fails()
        except ValueError:
            return await book("b")

    finished, found = await run(store, body)
    assert finished.status == "completed"
    assert orders(store) == [("b", 1)]
    assert found.count("STEP_FAILED") == 1


async def test_what_may_pass_is_tried_again(store):
    @step(transaction=True, retry=NOW)
    def moody(connection) -> int:
        connection.execute("INSERT INTO orders VALUES (?, 1)", (str(current_step().attempt),))
        if current_step().attempt < 3:
            raise ConnectionError("x")
        return current_step().attempt

    finished, found = await run(store, moody)
    assert bytes(finished.value) == b"3"
    assert orders(store) == [("3", 1)]
    assert found.count("STEP_RETRYING") == 2


async def test_an_error_of_the_database_arrives_as_itself(store):
    async def body():
        try:
            await book("a", -1)
        except sqlite3.IntegrityError as error:
            return str(error)

    finished, _ = await run(store, body)
    assert b"CHECK" in bytes(finished.value)
    assert orders(store) == []


@pytest.mark.parametrize(
    ("value", "error"), [({1: object()}, CodecError), ("x" * 2000, PayloadTooLarge)], ids=["codec", "size"]
)
async def test_a_result_that_cannot_be_written_undoes_it(store, value, error):
    @step(transaction=True)
    def bad(connection) -> object:
        connection.execute("INSERT INTO orders VALUES ('a', 1)")
        return value

    async def body():
        with pytest.raises(error):
            await bad()

    finished, found = await run(store, body, max_payload=1000)
    assert finished.status == "completed"
    assert orders(store) == []
    assert found.count("STEP_FAILED") == 1


async def test_replay_does_not_execute_it_again(store, url):
    gate = asyncio.Event()

    @step
    async def waits() -> None:
        await gate.wait()

    async def body():
        await book("a")
        await waits()
        return await book("b")

    flow = flow_of(body)
    async with opened(store, lease=0.2) as app:
        await app.start(flow, id="one")
        await recorded(app, "one", Kind.STEP_COMPLETED)
        kill(app)
    gate.set()
    async with opened(store, workflows=[flow], lease=0.2) as app:
        await app.resume("one", flow)
        assert await app.handle("one", flow).result() == 1
    assert orders(store) == [("a", 1), ("b", 1)]


async def test_a_succeeded_owner_leaves_no_row(store, monkeypatch):
    """Its token is old when its transaction comes: nothing of it is written."""
    commit = store.keeper.transactions.commit

    async def commit_late(*args):
        head = await store.log.head(run_stream("one"))
        take = Group(run_stream("one"), (), token=head.token + 1, takes=True)
        await append(store.log, app.engine.numbers.new(), take)
        return await commit(*args)

    monkeypatch.setattr(store.keeper.transactions, "commit", commit_late)
    async with opened(store) as app:
        await app.start(flow_of(lambda: book("late")), id="one")
        await until(lambda: app.engine.counters["lost"])
    assert orders(store) == []


# ---------------------------------------------------------------- what it may not


async def test_a_keeper_without_it_says_so_before_anything_runs():
    called = []

    @step(transaction=True)
    def never(connection) -> None:
        called.append(1)

    async with opened() as app:
        with pytest.raises(ConfigurationError, match="memory:// has no transactions"):
            await app.run(flow_of(never))
    assert called == []


async def test_the_wrong_kind_of_function_is_told(store):
    called = []

    @step(transaction=True)
    async def never(connection) -> None:
        called.append(1)

    async with opened(store) as app:
        with pytest.raises(ConfigurationError, match="must be 'def'"):
            await app.run(flow_of(never))
    assert called == []


async def test_too_long_is_ended(store):
    @step(transaction=True, timeout=0.05, retry=Retry(1))
    def slow(connection) -> None:
        connection.execute("INSERT INTO orders VALUES ('a', 1)")
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        )

    async def body():
        with pytest.raises(StepTimeout, match=r"0\.05 s in its transaction"):
            await slow()

    finished, _ = await run(store, body)
    assert finished.status == "completed"
    assert orders(store) == []


async def test_python_that_takes_too_long_is_noticed(store):
    @step(transaction=True, timeout=0.01, retry=Retry(1))
    def slow(connection) -> None:
        connection.execute("INSERT INTO orders VALUES ('a', 1)")
        time.sleep(0.02)

    async def body():
        with pytest.raises(StepTimeout):
            await slow()

    finished, _ = await run(store, body)
    assert finished.status == "completed"
    assert orders(store) == []


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "ATTACH ':memory:' AS x",
        "PRAGMA synchronous = OFF",
        "DELETE FROM records",
        "CREATE TEMP TABLE t (x)",
    ],
)
async def test_what_would_break_the_commit_is_refused(store, statement):
    @step(transaction=True)
    def bad(connection) -> None:
        connection.execute("INSERT INTO orders VALUES ('a', 1)")
        connection.execute(statement)

    async def body():
        with pytest.raises(ConfigurationError, match="may not"):
            await bad()
        await book("b")

    finished, _ = await run(store, body)
    assert finished.status == "completed", finished
    assert orders(store) == [("b", 1)]


async def test_a_transaction_that_a_statement_undid_is_refused_though_swallowed(store):
    """And what others had in the same commit is written."""

    @step(transaction=True)
    def sneaky(connection) -> None:
        connection.execute("INSERT INTO orders VALUES ('a', 1)")
        try:
            connection.execute("INSERT OR ROLLBACK INTO orders VALUES ('b', -1)")
        except sqlite3.IntegrityError:
            connection.execute("INSERT INTO orders VALUES ('c', 1)")

    async def body():
        results = await asyncio.gather(sneaky(), book("d"), plain(1), return_exceptions=True)
        return [type(result).__name__ for result in results]

    finished, _ = await run(store, body)
    assert msgspec.json.decode(finished.value) == ["ConfigurationError", "int", "int"]
    assert orders(store) == [("d", 1)]


async def test_declared_wrong():
    with pytest.raises(ConfigurationError, match="no parameter for the connection"):

        @step(transaction=True)
        def nothing() -> None: ...

    with pytest.raises(ConfigurationError, match="needs one"):

        @step(transaction=True, timeout=None)
        def endless(connection) -> None: ...


async def test_elsewhere_it_is_no_plain_call():
    with pytest.raises(BodyError, match=r"book\.function"):
        await book("a")
    with pytest.raises(BodyError, match=r"book\.function"):
        await asyncio.to_thread(book, "a")


async def test_its_connection_is_no_argument():
    assert book.arguments.parameters.positional == ("order", "cents")
    of = book.arguments.fingerprint
    assert (
        of("book", ("a", 5), {})
        == of("book", ("a",), {"cents": 5})
        == of("book", (), {"order": "a", "cents": 5})
    )
    assert book.options(timeout=3).transaction
    assert book.timeout == 1


# ---------------------------------------------------------------- cancelling


async def test_closed_before_its_turn_it_happens_in_the_next_life(store):
    """What was begun is committed, and recorded; what was not is left to whoever goes on."""
    holding, go, executed = threading.Event(), threading.Event(), []

    @step(transaction=True, timeout=10)
    def hold(connection) -> None:
        connection.execute("INSERT INTO orders VALUES ('held', 1)")
        holding.set()
        go.wait(10)

    @step(transaction=True)
    def second(connection) -> None:
        executed.append(1)
        connection.execute("INSERT INTO orders VALUES ('second', 1)")

    held, waits = flow_of(hold), flow_of(second)
    async with opened(store) as app:
        await app.start(held, id="held")
        await until(holding.is_set)
        app.engine.outer.call_later(0.1, go.set)
        await app.start(waits, id="waits")
    assert [row[0] for row in orders(store)] in (["held"], ["held", "second"])
    async with opened(store, workflows=[held, waits]) as app:
        for run in ("held", "waits"):
            await app.resume(run)
            await app.handle(run).result()
    assert [row[0] for row in orders(store)] == ["held", "second"]
    assert len(executed) == 1


async def test_left_behind_by_a_body_that_ends_it_is_whole_or_not_there(store):
    async def body():
        for n in range(5):
            asyncio.ensure_future(book(str(n)))  # noqa: RUF006  nobody waits for it
        await asyncio.sleep(0)
        return "ended"

    finished, found = await run(store, body)
    assert bytes(finished.value) == b'"ended"'
    assert len(orders(store)) == found.count("STEP_COMPLETED")
    assert found[-1] == "RUN_FINISHED"


async def test_in_each_generation_of_a_run_once(store):
    @workflow
    async def again(left: int) -> str:
        waits = asyncio.ensure_future(book(f"{left}-late"))
        await book(str(left))
        if left:
            continue_as(left - 1)
        await waits
        return "done"

    async with opened(store) as app:
        assert await app.run(again, 4, id="one") == "done"
    found = [row[0] for row in orders(store)]
    assert len(found) == len(set(found))
    assert {str(n) for n in range(5)} <= set(found)


async def test_paused_and_resumed_between_two(store):
    async def body():
        await book("before")
        await wait_for_signal("go")
        return await book("after")

    flow = flow_of(body)
    async with opened(store) as app:
        handle = await app.start(flow, id="one")
        await recorded(app, "one", Kind.STEP_COMPLETED)
        await handle.pause()
        await status_is(app, "one", "paused")
        await handle.signal("go")
        await app.resume("one", flow)
        assert await handle.result() == 1
    assert orders(store) == [("before", 1), ("after", 1)]


async def test_a_method_may_be_one(store):
    class Desk:
        def __init__(self, name: str) -> None:
            self.name = name

        @step(transaction=True)
        def book(self, connection, order: str, *, cents: int = 2) -> str:
            connection.execute("INSERT INTO orders VALUES (?, ?)", (f"{self.name}-{order}", cents))
            return order

    desk = Desk("east")
    assert desk.book.arguments.parameters.positional == ("order",)
    finished, _ = await run(store, lambda: desk.book("a", cents=7))
    assert bytes(finished.value) == b'"a"'
    assert orders(store) == [("east-a", 7)]


# ---------------------------------------------------------------- outbox


@workflow
async def ship(order: str) -> str:
    return f"shipped {order}"


@workflow
async def listener() -> int:
    return await wait_for_signal("paid", int)


@step(transaction=True, retry=NOW)
def sell(connection, order: str, to: str = "", fails: bool = False) -> str:
    connection.execute("INSERT INTO orders VALUES (?, 1)", (order,))
    if to:
        outbox.signal(to, "paid", 7)
    outbox.offer("mail", b"thanks", id=f"mail-{order}")
    run = outbox.start(ship, order, id=f"ship-{order}", tags={"of": order})
    if fails and current_step().attempt < 3:
        raise ConnectionError("x")
    return run


async def test_what_leaves_is_there_with_the_rows(store):
    async with opened(store, workflows=[ship]) as app:
        waits = await app.start(listener, id="waits")
        assert await app.run(flow_of(lambda: sell("a", "waits", fails=True)), id="one") == "ship-a"
        assert await waits.result() == 7
        assert await app.handle("ship-a").result() == "shipped a"
        assert [task.data for task in await store.queue.find("mail")] == [b"thanks"]
        assert [row.id for row in await app.find("of:a")] == ["ship-a"]
        assert len(await store.log.read(inbox_stream("waits"))) == 1
    assert orders(store) == [("a", 1)]


async def test_nothing_leaves_when_it_fails(store):
    @step(transaction=True)
    def fails(connection) -> None:
        outbox.start(ship, "b", id="ship-b")
        outbox.offer("mail", b"x")
        raise ValueError("no")

    finished, _ = await run(store, fails)
    assert finished.status == "failed"
    assert (await store.log.head(run_stream("ship-b"))).version == 0
    assert await store.queue.find("mail") == []


async def test_a_signal_for_nobody_fails_the_step(store):
    async with opened(store, workflows=[ship]) as app:
        await app.run(ship, "x", id="over")
        for to, error in (("nobody", RunNotFound), ("over", RunEnded)):

            async def body(to=to, error=error):
                with pytest.raises(error):
                    await sell("a", to)

            await app.run(flow_of(body))
    assert orders(store) == []


async def test_a_run_that_exists_is_not_started_twice(store):
    async with opened(store, workflows=[ship]) as app:
        await app.run(ship, "a", id="ship-a")
        assert await app.run(flow_of(lambda: sell("a"))) == "ship-a"
        await app.run(ship, "other", id="ship-b")

        async def body():
            with pytest.raises(RunConflict):
                await sell("b")

        await app.run(flow_of(body))
    assert orders(store) == [("a", 1)]


async def test_outside_of_a_transaction_there_is_no_outbox(store):
    @step
    async def plainly() -> None:
        outbox.signal("x", "y")

    for call in (lambda: outbox.start(ship, "a"), lambda: outbox.offer("q", b"")):
        with pytest.raises(BodyError, match="no transaction here"):
            call()
    finished, _ = await run(store, plainly)
    assert "no transaction here" in finished.error.message


# ---------------------------------------------------------------- around it


async def test_middleware_and_observers_see_it(store):
    seen, events = [], []

    async def watch(call, next):
        seen.append((call.name, call.args))
        return await next(call)

    finished, _ = await run(
        store, lambda: book("a", 3), middleware=[watch], observers=[lambda run, some: events.extend(some)]
    )
    assert bytes(finished.value) == b"3"
    assert seen == [("book", ("a", 3))]
    assert [event.kind for event in events].count(Kind.STEP_COMPLETED) == 1


async def test_what_goes_wrong_around_a_commit_does_not_do_it_again(store):
    """The record stands; what middleware makes of it afterwards is nobody's."""

    async def breaks(call, next):
        value = await next(call)
        if call.name == "book":
            raise ConnectionError("too late")
        return value

    async def body():
        value = await book("a")
        for n in range(5):
            await plain(n)
        return value

    finished, found = await run(store, body, middleware=[breaks])
    assert finished.status == "completed"
    assert orders(store) == [("a", 1)]
    assert "STEP_RETRYING" not in found


async def test_its_result_is_sealed_and_packed(url):
    """As that of any step: nobody reads it without the key, and a large one is small."""

    @step(transaction=True)
    def tells(connection, n: int) -> str:
        return "secret" * n

    async def body():
        return [len(await tells(n)) for n in (1, 50_000, 50_000)]

    keys = KeyRing({"k": bytes(32)}, "k")
    async with opened(open_store(url, keys=keys)) as app:
        assert await app.run(flow_of(body), id="one") == [6, 300_000, 300_000]
        kept = await app.store.keeper.log.read(run_stream("one"))
    results = [record.data for record in kept if record.kind == Kind.STEP_COMPLETED]
    assert all(b"secret" not in data and len(data) < 2000 for data in results)


async def test_a_plain_append_of_its_run_waits_for_it(store):
    """Nothing of the run goes to the log while it is written, and all of it after."""
    submitted: list[Append] = []
    real = store.log.submit
    inside = threading.Event()

    @step(transaction=True, timeout=10)
    def long(connection) -> None:
        inside.set()
        time.sleep(0.05)

    def submit(appends):
        if inside.is_set():
            submitted.extend(appends)
        real(appends)

    async def body():
        return len(await asyncio.gather(long(), *(plain(n) for n in range(5))))

    store.log.submit = submit
    try:
        finished, found = await run(store, body)
    finally:
        store.log.submit = real
    assert finished.status == "completed"
    assert found.count("STEP_COMPLETED") == 6


async def test_a_budget_is_settled_after_it(store):
    @workflow(budget=Budget(steps=3, usd=1.0))
    async def thrifty() -> float:
        for n in range(3):
            await dear(n)
        try:
            await book("too much")
        except BudgetExceeded:
            return 0.3
        return 9.9

    @step(transaction=True, costs=Cost(usd=0.3))
    def dear(connection, n: int) -> None:
        connection.execute("INSERT INTO orders VALUES ('dear', 1)")
        spend(usd=0.1)

    async with opened(store) as app:
        assert await app.run(thrifty, id="one") == 0.3
        spent = await app.client.spent("one")
    assert orders(store) == [("dear", 1)] * 3
    assert spent.taken.usd == pytest.approx(0.3)


@pytest.mark.parametrize(
    "options", [{"transaction": True, "executor": "thread"}, {"executor": "transaction"}]
)
async def test_where_it_is_called_is_not_for_the_step_to_say(options):
    with pytest.raises(ConfigurationError, match="and no executor"):

        @step(**options)
        def odd(connection) -> None: ...
