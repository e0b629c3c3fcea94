"""What the PostgreSQL keeper does when connections, servers, rows and neighbours misbehave."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import aclosing

import pytest
from tests.contract.postgres.keeper import KILL

from reprise.kernel.errors import (
    ConfigurationError,
    OutcomeUnknown,
    StaleToken,
    StoreCorrupt,
    StoreError,
    StoreReadOnly,
    StoreUnreachable,
)
from reprise.kernel.events import Event
from reprise.kernel.ids import Counter
from reprise.stores.log import Append, Group, append, enlist, written
from reprise.stores.postgres import PostgresStore, lease, open_postgres
from reprise.stores.postgres.batch import Batch
from reprise.stores.postgres.writer import SQL
from reprise.stores.tail import tail
from reprise.testing.suites import until

IDS = Counter()
WRITE = SQL["write"]
NEEDLE = b"needle in the wire"


def fact(data=b"x", key=""):
    return Event(16, 1, key=key, data=data)


async def put(store, stream, *data, **how):
    return await append(store.log, IDS.new(), Group(stream, [fact(piece) for piece in data], **how))


# ---------------------------------------------------------------- neighbours


async def test_an_unrelated_open_transaction_delays_no_reader_and_no_writer(keeper, store, neighbour):
    """With a watermark of open transactions, nothing written after this one began could be read before it ends."""
    await neighbour.execute("CREATE TABLE other (n integer)")
    async with neighbour.transaction(isolation="repeatable_read"), asyncio.timeout(20):
        await neighbour.execute("INSERT INTO other VALUES (1)")
        assert await neighbour.fetchval("SELECT pg_current_xact_id_if_assigned()") is not None
        async with aclosing(tail(store, look_again=0.01)) as records:
            await put(store, "run/a", b"1", b"2")
            assert [(await anext(records)).data for _ in range(2)] == [b"1", b"2"]
            await put(await keeper.open(), "run/a", b"3")
            assert (await anext(records)).data == b"3"
        assert await store.log.drop("run/a") == 3
        assert await (await keeper.open()).lease.take("x", "me", 60)


async def test_a_slow_appender_stops_nobody_and_is_not_skipped(wire, wired, store):
    """It has judged its batch and is about to send it; others write meanwhile, and it then writes behind them."""
    wire.hold_at = lambda data: NEEDLE in data
    slow = asyncio.create_task(put(wired, "run/slow", NEEDLE))
    async with asyncio.timeout(20), aclosing(tail(store, look_again=0.01)) as records:
        await wire.held.wait()
        for n in range(5):
            await put(store, "run/fast", bytes([n]))
        assert [(await anext(records)).data for _ in range(5)] == [bytes([n]) for n in range(5)]
        wire.go_on.set()
        await slow
        assert (await anext(records)).data == NEEDLE


async def test_an_appender_that_is_slow_to_commit_is_waited_for_and_not_skipped(keeper, store, neighbour):
    """It has written its record and not committed. Whoever writes next is given no position before that is settled."""
    other = await keeper.open()
    async with asyncio.timeout(20), aclosing(tail(store, look_again=0.01)) as records:
        async with neighbour.transaction():
            batch = Batch([Append(IDS.new(), (Group("run/slow", [fact(b"slow")]),))], {})
            assert await neighbour.fetchval(WRITE, *batch.arguments()) == 0
            fast = asyncio.create_task(put(other, "run/fast", b"fast"))

            async def waits():
                return await keeper.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1

            await until(waits, "the fast one stands behind the slow one")
            assert await store.log.scan() == []
        await fast
        assert [(await anext(records)).data for _ in range(2)] == [b"slow", b"fast"]


async def test_a_writer_stopped_in_its_turn_is_thrown_out(keeper, store, neighbour):
    """A process that is paused while it holds the log's lock loses its transaction after a while."""
    stopped = PostgresStore(keeper.dsn, schema=keeper.schema)
    connection = await stopped._target.connect()
    assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "5s"
    await connection.execute("SET idle_in_transaction_session_timeout = '100ms'")
    await connection.execute("BEGIN")
    await connection.execute("SELECT lock_log()")
    async with asyncio.timeout(20):
        await put(store, "run/a", b"")
    connection.terminate()


async def test_collisions_are_judged_again_and_end(keeper):
    """Several stores write to one stream as fast as they can: each gets through, in no more than a few attempts."""
    stores = [await keeper.open() for _ in range(3)]

    async def press(store):
        for _ in range(30):
            await put(store, "inbox/a", b"letter")

    async with asyncio.timeout(40):
        await asyncio.gather(*map(press, stores))
    assert len(await stores[0].log.read("inbox/a")) == 90
    assert sum(store.statistics()["judged_again"] for store in stores) > 0


# ---------------------------------------------------------------- lost connections


@pytest.mark.parametrize("when", ["before", "during", "after"])
async def test_a_cut_wire_loses_nothing_and_writes_nothing_twice(wire, wired, when):
    """The commit did not reach the server, or is under way, or is done and nobody said so."""
    await put(wired, "run/a", b"first")
    wire.cut_at, wire.when = (lambda data: NEEDLE in data), when
    done = await put(wired, "run/a", NEEDLE)
    assert wire.cut.is_set()
    assert (done.error, done.versions) == (None, (2,))
    rows = await wired.log.read("run/a")
    assert [row.data for row in rows] == [b"first", NEEDLE]
    assert rows[1].position == done.position
    found = wired.statistics()["outcomes_found"]
    assert {"before": found == 0, "after": found == 1}.get(when, True)


async def test_a_commit_that_arrives_after_it_was_given_up_is_found(keeper, wire, wired, neighbour):
    """The batch waits in the server for its turn when its connection is cut; it commits while it is sent again."""
    await put(wired, "run/a", b"first")
    wire.cut_at, wire.when = (lambda data: NEEDLE in data), "during"
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with neighbour.transaction():
        await neighbour.execute("SELECT lock_log()")
        writing = asyncio.create_task(put(wired, "run/a", NEEDLE))

        async def both_wait():
            return await keeper.ask(waiting) == 2

        await until(both_wait, "the first and the second attempt wait for the lock")
    done = await writing
    assert [row.data for row in await wired.log.read("run/a")] == [b"first", NEEDLE]
    assert done.versions == (2,)
    assert wired.statistics()["outcomes_found"] == 1


async def test_a_commit_that_arrives_between_two_looks_is_not_written_again(store, wire, wired, neighbour):
    """Heads that were read after a commit arrived must not be combined with a search from before it."""
    await put(wired, "run/a", b"first")
    wire.cut_at, wire.when = (lambda data: NEEDLE in data), "during"
    parses = []

    def is_second_statement(data):
        """Of the new connection: it has looked once, and is about to look for the other thing."""
        if wire.cut.is_set() and data[:1] == b"P" and b"streams" in data:
            parses.append(data)
        return len(parses) == 2

    wire.hold_at = is_second_statement
    async with neighbour.transaction():
        await neighbour.execute("SELECT lock_log()")
        writing = asyncio.create_task(put(wired, "run/a", NEEDLE))
        await wire.held.wait()

    async def arrived():
        return len(await store.log.read("run/a")) == 2

    await until(arrived, "the first attempt commits")
    wire.go_on.set()
    assert (await writing).versions == (2,)
    assert [row.data for row in await wired.log.read("run/a")] == [b"first", NEEDLE]


@pytest.mark.parametrize("of_a", [b"never written", None])
async def test_what_was_refused_at_the_second_try_is_not_found_with_the_rest(store, wire, wired, of_a):
    """Of two appends that were lost together, one was refused when both were sent again, and that answer was lost too.

    The other is found where the first try would have put it, so that try must not be taken for the one that was written.
    Where the refused one leaves no record there is nothing to tell the tries apart.
    """
    await put(wired, "run/a", b"first", token=1, takes=True)
    await put(wired, "run/b", b"first")
    wire.cut_at, wire.when = (lambda data: NEEDLE in data), "before"
    wire.hold_at = lambda _: wire.cut.is_set()
    events = [] if of_a is None else [fact(of_a)]
    ours = [
        Append(IDS.new(), (Group("run/a", events, 1, token=1),)),
        Append(IDS.new(), (Group("run/b", [fact(NEEDLE)], 1),)),
    ]
    writing = asyncio.create_task(written(wired.log, ours))
    await wire.held.wait()
    await put(store, "run/a", b"of the new owner", token=2, takes=True)
    wire.cut_at, wire.when = (lambda data: NEEDLE in data), "after"
    wire.cut.clear()
    wire.go_on.set()
    await writing
    assert wire.cut.is_set()
    assert type(ours[0].error) is (OutcomeUnknown if of_a is None else StaleToken)
    assert (ours[1].error, ours[1].versions) == (None, (2,))
    assert [row.data for row in await store.log.read("run/a")] == [b"first", b"of the new owner"]
    assert [row.data for row in await store.log.read("run/b")] == [b"first", NEEDLE]


async def test_a_lost_take_over_without_events_is_known_by_the_head(wire, wired):
    """It leaves no record that could be looked for; the token is the proof."""
    await put(wired, "run/a", b"first", token=1, takes=True)
    wire.cut_at, wire.when = (lambda data: b"write_batch" in data or b"run/a" in data), "after"
    done = await append(wired.log, IDS.new(), Group("run/a", token=2, takes=True))
    assert wire.cut.is_set()
    assert done.error is None
    assert (await wired.log.head("run/a")).token == 2


async def test_killed_backends_lose_nothing_and_write_nothing_twice(keeper):
    """All connections of the stores are killed again and again while they write."""
    stores = [await keeper.open() for _ in range(3)]
    ended, answered = False, asyncio.Event()

    async def press(number):
        version = 0
        while not ended:
            burst = [
                Append(
                    IDS.new(), (Group(f"run/{number}", [fact()], version + n), Group("inbox/all", [fact()]))
                )
                for n in range(3)
            ]
            await enlist(stores[number].log, burst)
            assert not any(append.error for append in burst)
            version += 3
            answered.set()
        return version

    async def kill():
        nonlocal ended
        admin = await keeper.connect()
        killed = 0
        for _ in range(20):
            answered.clear()
            killed += await admin.fetchval(KILL)
            await answered.wait()
        await admin.close()
        ended = True
        return killed

    killed, *written = await asyncio.gather(kill(), *map(press, range(3)))
    assert killed >= 20
    assert sum(store.statistics()["connections_lost"] for store in stores) >= 10
    for number, count in enumerate(written):
        assert [row.version for row in await stores[0].log.read(f"run/{number}")] == list(range(1, count + 1))
    letters = [row.append for row in await stores[0].log.read("inbox/all")]
    assert len(letters) == len(set(letters)) == sum(written)


async def test_a_server_that_crashes_and_restarts_is_waited_for(postgres, keeper, store):
    """Killing one of its processes makes PostgreSQL throw everybody out and recover from its log."""
    if postgres.folder is None:
        pytest.skip("the server of REPRISE_TEST_POSTGRES is not ours to kill")
    grant = await store.lease.take("x", "me", 3600)
    victim = "SELECT pid FROM pg_stat_activity WHERE application_name = 'reprise' LIMIT 1"
    for n in range(2):
        await put(store, "run/a", bytes([n]))
        os.kill(await keeper.ask(victim), signal.SIGKILL)
        done = await put(store, "run/a", b"after")
        assert done.versions == (2 * n + 2,)
        assert await store.lease.holder("x") == [grant]
    assert len(await store.log.read("run/a")) == 4
    await store.lease.drop([grant])
    later = await store.lease.take("x", "you", 60)
    assert later.token > grant.token


async def test_cancelled_statements_are_tried_again(keeper, store):
    """A statement timeout or an operator's cancel rolls back; nobody need know."""
    version, ended = 0, False

    async def cancel():
        nonlocal ended
        admin = await keeper.connect()
        cancelled = 0
        while cancelled < 5:
            cancelled += await admin.fetchval(
                "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'reprise' AND state = 'active' AND query LIKE '%write_batch%'"
            )
        await admin.close()
        ended = True

    canceller = asyncio.create_task(cancel())
    while not ended:
        await put(store, "run/a", b"x", expected=version)
        version += 1
    await canceller
    assert len(await store.log.read("run/a")) == version


async def test_a_server_that_stays_away_is_an_error_in_time(wire, keeper, store):
    """What was sent may have happened; what was not sent has not."""
    wired = PostgresStore(wire.url, schema=keeper.schema, patience=1)
    await wired.start()
    await put(wired, "run/a", b"first")
    wire.cut_at, wire.when, wire.refuse = (lambda data: NEEDLE in data), "after", True
    sent = Append(IDS.new(), (Group("run/a", [fact(NEEDLE)]),))
    with pytest.raises(OutcomeUnknown):
        await enlist(wired.log, [sent])
    wire.cut_all()
    with pytest.raises(StoreUnreachable):
        await put(wired, "run/a", b"never sent")
    with pytest.raises(StoreUnreachable):
        await wired.log.read("run/a")
    with pytest.raises(StoreUnreachable):
        await wired.lease.take("x", "me", 1)
    wire.refuse = False
    assert await wired.log.lookup("run/a", sent.id) == 2
    assert (await put(wired, "run/a", b"again")).versions == (3,)
    await wired.stop()


async def test_a_server_that_is_not_there(tmp_path):
    """Starting says so, and names no password."""
    store = PostgresStore(f"postgresql://ada:secret@/db?host={tmp_path}", patience=0.1)
    with pytest.raises(StoreUnreachable) as caught:
        await store.start()
    assert "secret" not in str(caught.value)
    await store.stop()


async def test_a_database_that_does_not_exist_is_told_at_once(postgres):
    """Waiting would not help."""
    store = PostgresStore(postgres.url.replace("/postgres?", "/nowhere?"), patience=3600)
    with pytest.raises(StoreUnreachable, match="Check user"):
        await store.start()


# ---------------------------------------------------------------- values and rows


async def test_a_value_that_cannot_be_stored_fails_alone(store):
    """PostgreSQL's text takes no NUL; the other appends of the burst are written, in order."""
    answered = []
    appends = [
        Append(IDS.new(), (Group("run/a", [fact(key="\0" if n == 5 else "k")]),), answered.append)
        for n in range(10)
    ]
    appends.append(Append(IDS.new(), (Group("run/a", [Event(2**40, 1)]),), answered.append))
    await enlist(store.log, [*appends, Append(IDS.new(), (Group("run/b", [fact()]),))])
    assert [n for n, append in enumerate(answered) if append.error] == [5, 10]
    assert type(answered[5].error) is StoreError
    assert [row.version for row in await store.log.read("run/a")] == list(range(1, 10))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE records SET data = 'other' WHERE version = 2",
        "UPDATE records SET key = 'other' WHERE version = 2",
        "UPDATE records SET took = took + 1 WHERE version = 2",
        "UPDATE records SET append = append + 1 WHERE version = 2",
        "UPDATE records SET position = position + 100 WHERE version = 2",
        "UPDATE records SET stream = (SELECT id FROM streams WHERE name = 'run/b') WHERE version = 2",
        "DELETE FROM records WHERE version = 2",
        "DELETE FROM records WHERE version = 3",
    ],
)
async def test_damage_is_noticed(store, neighbour, damage):
    """Changed, moved and lost rows."""
    await put(store, "run/b", b"1")
    await put(store, "run/a", b"1", b"2", b"3")
    await neighbour.execute(damage)
    with pytest.raises(StoreCorrupt):
        assert [await store.log.read(stream) for stream in ("run/a", "run/b")] == "never"
    if "DELETE" in damage and "2" in damage:
        with pytest.raises(StoreCorrupt):
            await store.log.read("run/a", 0, 2)
    if "UPDATE" in damage:
        with pytest.raises(StoreCorrupt):
            await store.log.scan()


async def test_a_burst_is_a_few_commits(store):
    """Everything that queued up during a commit goes into the next."""
    appends = [Append(IDS.new(), (Group(f"run/{n % 50}", [fact()]),)) for n in range(900)]
    for part in range(0, 900, 30):
        last = enlist(store.log, appends[part : part + 30])
    await last
    assert store.statistics()["commits"] <= 3


# ---------------------------------------------------------------- options


async def test_a_server_that_takes_no_writes_says_so(keeper, store):
    """Such as a standby."""
    await put(store, "run/a", b"")
    reader = PostgresStore(f"{keeper.dsn}&default_transaction_read_only=on", schema=keeper.schema, patience=5)
    await reader.start()
    assert len(await reader.log.read("run/a")) == 1
    with pytest.raises(StoreReadOnly):
        await put(reader, "run/a", b"")
    await reader.stop()


async def test_commits_are_durable_whatever_the_server_prefers(keeper, store):
    """An operator's synchronous_commit = off is for others."""
    loose = PostgresStore(f"{keeper.dsn}&synchronous_commit=off", schema=keeper.schema)
    connection = await loose._target.connect()
    assert await connection.fetchval("SHOW synchronous_commit") == "on"
    await connection.close()


# ---------------------------------------------------------------- leases


@pytest.fixture
def unasked(monkeypatch):
    """Let nobody look again unasked, so that a tap that does not come is noticed."""
    monkeypatch.setattr(lease, "SHOWN_EVERY", 3600)
    monkeypatch.setattr(lease, "TICKET_LIFE", 7200)


async def test_who_finds_a_lease_free_before_the_first_in_line_does_looks_again_soon(keeper, store):
    """The first takes it a moment later, and taps nobody: who slept on would not know when that one's time ends."""
    held = await store.lease.take("x", "dead", keeper.short)
    first, second = (
        lease._Wish("x", name, 60, 1, False, ticket) for ticket, name in enumerate("ab", start=1)
    )
    for wish in (first, second):
        assert (await store.lease._attempt(wish))[0] is None
    await keeper.pass_time(keeper.short)
    assert await store.lease.holder("x") == []
    none, look_again = await store.lease._attempt(second)
    assert (none, look_again < 0.1) == (None, True)
    taken, _ = await store.lease._attempt(first)
    assert taken.token > held.token
    none, look_again = await store.lease._attempt(second)
    assert (none, look_again > 1) == (None, True)


async def test_a_lease_that_comes_after_its_taker_was_cancelled_is_given_back(keeper, store, neighbour):
    """The server cannot be told in time; so its answer is waited for behind the caller's back."""
    async with neighbour.transaction():
        await neighbour.execute("SELECT lock_lease('x')")
        gone = asyncio.create_task(store.lease.take("x", "gone", 3600))

        async def under_way():
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            return await keeper.ask(waiting) == 1

        await until(under_way, "the server works at it")
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    async with asyncio.timeout(20):
        assert await store.lease.take("x", "next", 60, wait=None)


async def test_tokens_grow_over_a_restored_backup(store, neighbour):
    """The backup's sequence is behind; the epoch, raised when it is restored, is above."""
    grants = [await store.lease.take(f"x{n}", "me", 60) for n in range(5)]
    await neighbour.execute("SELECT setval('lease_tokens', 1)")
    await neighbour.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'")
    await store.lease.drop(grants)
    assert (await store.lease.take("x0", "you", 60)).token > grants[-1].token


async def test_the_ticket_of_a_dead_process_does_not_block_the_line(keeper, store, neighbour):
    """Until it is void nobody passes; then it is thrown away."""
    ticket = "INSERT INTO lease_tickets (ticket, name, seen_until) VALUES (1, 'x', now_us() + $1)"
    await neighbour.execute(ticket, 3_600_000_000)
    assert await store.lease.take("x", "me", 60) is None
    await neighbour.execute("UPDATE lease_tickets SET seen_until = now_us() + 50000")
    assert await store.lease.take("x", "me", 60, wait=20)
    assert await keeper.waiting("x") == 0


async def test_waiters_are_tapped_again_after_their_connection_broke(keeper, store, unasked):
    """They notice, and stay in line."""
    other = await keeper.open()
    grant = await store.lease.take("x", "a", 3600)
    waiter = asyncio.create_task(other.lease.take("x", "b", 60, wait=None))

    async def waits():
        return await keeper.waiting("x") == 1

    await until(waits, "b waits")
    await keeper.ask(KILL)
    await store.lease.drop([grant])
    async with asyncio.timeout(20):
        assert (await waiter).holder == "b"


# ---------------------------------------------------------------- doors


@pytest.mark.parametrize(
    "url",
    [
        "mysql://db/app",
        "postgresql://db/app?schema=Robert'); DROP",
        "postgresql://db/app?patience=soon",
        "postgresql://db/app?patience=0",
    ],
)
def test_urls_are_checked(url):
    with pytest.raises(ConfigurationError):
        open_postgres(url)


def test_without_the_driver_the_error_names_the_command():
    program = (
        "import sys; sys.modules['asyncpg'] = None\n"
        "from reprise.kernel.errors import MissingExtra\n"
        "from reprise.stores import open_store\n"
        "try: open_store('postgresql://db/app')\n"
        "except MissingExtra as error: print(error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'reprise-agents[postgres]'" in shown.stdout
