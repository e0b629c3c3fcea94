"""Steps in the transaction of a PostgreSQL's log: connections that break, rows that others hold, isolation, the outbox."""

import asyncio
import itertools

import asyncpg
import msgspec
import pytest
from tests.contract.postgres.keeper import KILL
from tests.unit.runtime.scenes import history, kinds, opened, until

from reprise import (
    ConfigurationError,
    Kind,
    Retry,
    StepFailed,
    StepTimeout,
    current_step,
    outbox,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.errors import OutcomeUnknown
from reprise.kernel.ids import Counter
from reprise.stores.log import Group
from reprise.stores.packing import packed
from reprise.stores.transactions import Writes
from reprise.testing.suites.keeper import fact

NOW = Retry(3, backoff=0)
IDS = Counter()
_numbers = itertools.count()


@pytest.fixture
async def db(keeper, store):
    """The store, which an app may close, with a table of the user's own."""
    await keeper.ask("CREATE TABLE orders (n serial, id text, cents integer CHECK (cents > 0))")
    stop, store.stop = store.stop, _stay_open
    yield store
    store.stop = stop


async def _stay_open():
    pass


async def orders(keeper):
    return await keeper.ask("SELECT coalesce(string_agg(id, ' ' ORDER BY n), '') FROM orders")


INSERT = "INSERT INTO orders (id, cents) VALUES ($1, $2)"


@step(transaction=True, retry=NOW)
async def book(connection: asyncpg.Connection, order: str, cents: int = 1) -> int:
    await connection.execute(INSERT, order, cents)
    return cents


@step
async def plain(n: int) -> int:
    return n


def flow_of(call):
    @workflow(name=f"flow-{next(_numbers)}")
    async def flow() -> object:
        return await call()

    return flow


async def run(store, call, **options):
    """Run a body; return how it ended and the kinds of its records."""
    async with opened(store, **options) as app:
        finished = await (await app.start(flow_of(call), id="one")).finished(20)
    return finished, kinds(await history(store, "one"))


async def test_rows_and_record_are_there(keeper, db):
    async def body():
        calls = (call for n in range(12) for call in (book(f"{n}"), plain(n)))
        return sum(await asyncio.gather(*calls)) + await book("last", 5)

    finished, found = await run(db, body)
    assert bytes(finished.value) == b"%d" % (12 + sum(range(12)) + 5)
    assert sorted((await orders(keeper)).split()) == sorted([*map(str, range(12)), "last"])
    assert found.count("STEP_COMPLETED") == 25


async def test_the_wrong_kind_of_function_is_told(db):
    @step(transaction=True)
    def never(connection) -> None:
        raise AssertionError

    async with opened(db) as app:
        with pytest.raises(ConfigurationError, match="must be 'async def'"):
            await app.run(flow_of(never))


async def test_large_results_are_packed(keeper, db):
    @step(transaction=True)
    async def large(connection, n: int) -> str:
        await connection.execute(INSERT, str(n), 1)
        return f"{n}" * 100_000

    async def body():
        return [len(await large(n)) for n in range(3)]

    finished, _ = await run(packed(db), body)
    assert bytes(finished.value) == b"[100000,100000,100000]"
    assert (await db.blobs.stats())["bytes"] < 100_000
    assert await orders(keeper) == "0 1 2"


# ---------------------------------------------------------------- failures


async def test_a_failure_leaves_nothing_and_is_recorded(keeper, db):
    async def body():
        with pytest.raises(StepFailed, match="CheckViolationError"):
            await book("bad", -1)
        return await book("good")

    finished, found = await run(db, body)
    assert finished.status == "completed", finished
    assert await orders(keeper) == "good"
    assert found.count("STEP_FAILED") == 1


async def test_too_long_is_ended_and_what_others_do_goes_on(keeper, db):
    @step(transaction=True, timeout=0.1, retry=Retry(1))
    async def slow(connection) -> None:
        await connection.execute(INSERT, "slow", 1)
        await connection.execute("SELECT pg_sleep(60)")

    async def body():
        late = asyncio.ensure_future(slow())
        await book("beside")
        with pytest.raises(StepTimeout, match="in its transaction"):
            await late

    finished, _ = await run(db, body)
    assert finished.status == "completed", finished
    assert await orders(keeper) == "beside"


async def test_cancelled_in_its_work_it_leaves_nothing(keeper, db):
    begun = asyncio.Event()

    @step(transaction=True)
    async def slow(connection) -> None:
        await connection.execute(INSERT, "slow", 1)
        begun.set()
        await connection.execute("SELECT pg_sleep(60)")

    async def body():
        try:
            async with asyncio.timeout(2):
                await slow()
        except TimeoutError:
            return await book("instead")

    finished, found = await run(db, body)
    assert begun.is_set()
    assert bytes(finished.value) == b"1"
    assert await orders(keeper) == "instead"
    assert found.count("STEP_CANCELLED") == 1


async def test_deadlocks_pass(keeper, db):
    """Two runs lock two rows, each in its own order; one is undone and done again."""
    await keeper.ask("INSERT INTO orders (id, cents) VALUES ('a', 1), ('b', 1)")
    met = asyncio.Barrier(2)
    attempts = []

    @step(transaction=True, retry=Retry(20, backoff=0.1))
    async def both(connection, first: str, second: str) -> None:
        attempts.append(current_step().attempt)
        await connection.execute("UPDATE orders SET cents = cents + 1 WHERE id = $1", first)
        if len(attempts) <= 2:
            await met.wait()
        await connection.execute("UPDATE orders SET cents = cents + 1 WHERE id = $1", second)

    async with opened(db) as app:
        one = await app.start(flow_of(lambda: both("a", "b")))
        other = await app.start(flow_of(lambda: both("b", "a")))
        assert await one.result() is await other.result() is None
    assert max(attempts) > 1
    assert await keeper.ask("SELECT sum(cents) FROM orders") == 6


@pytest.mark.parametrize(
    "script", ["INSERT INTO orders (id, cents) VALUES ('b', 1); COMMIT", "COMMIT; BEGIN"]
)
async def test_a_transaction_that_was_ended_by_hand_is_noticed(db, script):
    @step(transaction=True)
    async def sneaky(connection) -> None:
        await connection.execute(INSERT, "a", 1)
        await connection.execute("SELECT 1; " + script)

    async def body():
        with pytest.raises(ConfigurationError, match="ended that transaction"):
            await sneaky()

    finished, found = await run(db, body)
    assert finished.status == "completed", finished
    assert "STEP_COMPLETED" not in found


async def test_its_isolation_is_the_logs(keeper, db):
    """With another one, the log would not see what is committed, and positions would be given twice."""

    @step(transaction=True, retry=Retry(1))
    async def serial(connection) -> None:
        await connection.execute(INSERT, "a", 1)
        await connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")

    async def body():
        with pytest.raises(StepFailed, match="ActiveSQLTransactionError"):
            await serial()

    finished, _ = await run(db, body)
    assert finished.status == "completed", finished
    assert await orders(keeper) == ""


async def test_a_transaction_that_only_reads_is_refused(keeper, db):
    @step(transaction=True)
    async def reads(connection) -> None:
        await connection.execute("SET TRANSACTION READ ONLY")

    async def body():
        with pytest.raises(ConfigurationError, match="only reads"):
            await reads()

    finished, _ = await run(db, body)
    assert finished.status == "completed", finished


async def test_what_a_step_sets_ends_with_it(keeper, db):
    """Also what would make the commit less durable, or let it write elsewhere."""

    @step(transaction=True)
    async def sets(connection) -> str:
        before = await connection.fetchval("SHOW search_path") + await connection.fetchval("SHOW work_mem")
        await connection.execute(
            "SET search_path = pg_catalog; SET synchronous_commit = off; SET work_mem = '1MB'"
        )
        return before

    async def body():
        return [await sets() for _ in range(3)]

    finished, _ = await run(db, body)
    assert finished.status == "completed", finished
    assert len(set(msgspec.json.decode(finished.value))) == 1


async def test_deferred_checks_are_made_before_the_log_is_locked(keeper, db):
    await keeper.ask("ALTER TABLE orders ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED")

    async def body():
        await book("a")
        with pytest.raises(StepFailed, match="UniqueViolationError"):
            await book("a")

    finished, _ = await run(db, body)
    assert finished.status == "completed", finished
    assert await orders(keeper) == "a"


async def test_a_swallowed_error_of_a_statement_fails_the_step(keeper, db):
    @step(transaction=True, retry=Retry(1))
    async def swallows(connection) -> None:
        await connection.execute(INSERT, "a", 1)
        try:
            await connection.execute(INSERT, "b", -1)
        except asyncpg.CheckViolationError:
            pass

    async def body():
        with pytest.raises(StepFailed, match="InFailedSQLTransactionError"):
            await swallows()

    finished, _ = await run(db, body)
    assert finished.status == "completed", finished
    assert await orders(keeper) == ""


# ---------------------------------------------------------------- lost connections


async def test_connections_that_break_in_the_work_are_replaced(keeper, db):
    """That is the store's trouble, not an attempt of the step."""
    tries = []

    @step(transaction=True, retry=Retry(1))
    async def unlucky(connection) -> int:
        tries.append(current_step().attempt)
        await connection.execute(INSERT, str(len(tries)), 1)
        if len(tries) < 3:
            await keeper.ask(KILL)
            await connection.execute("SELECT 1")
        return len(tries)

    finished, found = await run(db, unlucky)
    assert bytes(finished.value) == b"3", finished
    assert tries == [1, 1, 1]
    assert await orders(keeper) == "3"
    assert "STEP_RETRYING" not in found


async def test_many_of_one_run_get_through_though_connections_break(keeper, db):
    """Those that wait for their turn must not keep the connections that the one whose turn it is needs anew."""
    calls = [str(n) for n in range(40)]

    async def body():
        await asyncio.gather(*(book(call) for call in calls))

    broken = asyncio.Event()

    def breaks(run, events):
        if not broken.is_set() and any(event.kind == Kind.STEP_COMPLETED for event in events):
            broken.set()

    async with opened(db, observers=[breaks]) as app:
        handle = await app.start(flow_of(body), id="one")
        for _ in range(5):
            await broken.wait()
            broken.clear()
            await keeper.ask(KILL)
        finished = await handle.finished(30)
    assert finished.status == "completed", finished
    assert sorted((await orders(keeper)).split()) == sorted(calls)


@pytest.mark.parametrize("when", ["before", "during", "after"])
async def test_a_wire_cut_in_the_commit_commits_once(keeper, wire, wired, when):
    """The commit did not reach the server, or is under way, or is done and nobody said so."""
    await keeper.ask("CREATE TABLE orders (n serial, id text, cents integer)")
    times = []

    async def work(connection):
        times.append(1)
        await connection.execute(INSERT, "a", 1)

    async def finish():
        if len(times) == 1:
            wire.cut_at, wire.when = (lambda data: b"COMMIT" in data), when
        return Writes((Group("run/a", [fact()], 0),))

    done = await wired.transactions.commit(IDS.new(), work, finish, 10)
    assert wire.cut.is_set()
    rows = await wired.log.read("run/a")
    assert [(row.version, row.position) for row in rows] == [(1, done.position)]
    assert await orders(keeper) == "a"
    found = wired.statistics()["outcomes_found"]
    assert {"before": (found, len(times)) == (0, 2), "after": (found, len(times)) == (1, 1)}.get(when, True)


async def test_a_commit_of_which_nobody_can_tell_is_unknown(keeper, wire, wired):
    wired._target.patience = 0.2
    await keeper.ask("CREATE TABLE orders (n serial, id text, cents integer)")

    async def work(connection):
        await connection.execute(INSERT, "a", 1)

    async def finish():
        def cut_for_good(data):
            wire.refuse = b"COMMIT" in data
            return wire.refuse

        wire.cut_at, wire.when = cut_for_good, "after"
        return Writes((Group("run/a", [fact()], 0),))

    number = IDS.new()
    with pytest.raises(OutcomeUnknown):
        await wired.transactions.commit(number, work, finish, 10)
    wire.refuse = False
    assert await wired.log.lookup("run/a", number) == 1
    assert await orders(keeper) == "a"


# ---------------------------------------------------------------- outbox


@workflow
async def ship(order: str) -> str:
    return f"shipped {order}"


@workflow
async def listener() -> int:
    return await wait_for_signal("paid", int)


@step(transaction=True, retry=NOW)
async def sell(connection, order: str, to: str) -> str:
    await connection.execute(INSERT, order, 1)
    outbox.signal(to, "paid", 7)
    outbox.offer("mail", b"thanks")
    if current_step().attempt < 2:
        raise ConnectionError("x")
    return outbox.start(ship, order, id=f"ship-{order}")


async def test_what_leaves_is_there_with_the_rows(keeper, db):
    async with opened(db, workflows=[ship]) as app:
        waits = await app.start(listener, id="waits")
        assert await app.run(flow_of(lambda: sell("a", "waits"))) == "ship-a"
        assert await waits.result() == 7
        assert await app.handle("ship-a").result() == "shipped a"
        assert [task.data for task in await db.queue.find("mail")] == [b"thanks"]
    assert await orders(keeper) == "a"


async def test_a_body_goes_on_while_rows_are_waited_for(keeper, db, neighbour):
    """Another holds the row; the step waits for it, and what else the run does is recorded meanwhile."""
    await keeper.ask("INSERT INTO orders (id, cents) VALUES ('a', 1)")

    @step(transaction=True)
    async def change(connection) -> None:
        await connection.execute("UPDATE orders SET cents = 9 WHERE id = 'a'")

    recorded = []

    async def body():
        waits = asyncio.ensure_future(change())
        await plain(1)
        await plain(2)
        await waits

    async with opened(db, observers=[lambda _, events: recorded.extend(e.kind for e in events)]) as app:
        async with neighbour.transaction():
            await neighbour.execute("UPDATE orders SET cents = 5 WHERE id = 'a'")
            handle = await app.start(flow_of(body))
            await until(lambda: recorded.count(Kind.STEP_COMPLETED) == 2, 20)
        await handle.result()
    assert await keeper.ask("SELECT cents FROM orders") == 9
