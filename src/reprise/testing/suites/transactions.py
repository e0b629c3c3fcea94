"""What transactions must prove: work and its append are one commit, and the work cannot break it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from hashlib import shake_128
from typing import Any

import pytest

from reprise.kernel.errors import NoRoom, StaleToken, StaleVersion, StreamClosed, StreamMissing
from reprise.kernel.limit import Slot
from reprise.stores.log import Append, Group, RunChange
from reprise.stores.queue import Task
from reprise.stores.store import Store
from reprise.stores.transactions import WorkFailed, WorkTooLong, Writes
from reprise.testing.suites.keeper import IDS, PATIENCE, Keeper, KeeperSuite, fact, put, soon, write

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


class BrokenError(Exception):
    """What work raises here."""


def failing() -> None:
    """Fail."""
    raise BrokenError


async def do(
    store: Store,
    *statements: str,
    groups: Sequence[Group] = (),
    tasks: Sequence[Task] = (),
    then: Callable[[], Any] = lambda: None,
    seconds: float = PATIENCE,
) -> tuple[Append, list[tuple[Any, ...]]]:
    """Execute statements and ``then``, append groups; return the append and the rows of the last statement."""
    port, rows = store.transactions, list[tuple[Any, ...]]()

    def sync(connection: Any) -> None:
        for statement in statements:
            rows[:] = map(tuple, connection.execute(statement).fetchall())
        then()

    async def on_loop(connection: Any) -> None:
        for statement in statements:
            rows[:] = map(tuple, await connection.fetch(statement))
        then()

    async def finish() -> Writes:
        return writes

    writes = Writes(tuple(groups), tuple(tasks))
    work, end = (sync, lambda: writes) if port.is_sync else (on_loop, finish)
    return await soon(port.commit(IDS.new(), work, end, seconds)), rows


async def table(store: Store) -> None:
    """Make the table of these tests."""
    await do(store, "CREATE TABLE notes (n INTEGER PRIMARY KEY)")


async def notes(store: Store) -> list[int]:
    """Return what is in it."""
    _, rows = await do(store, "SELECT n FROM notes ORDER BY n")
    return [n for (n,) in rows]


def note(n: int) -> str:
    """Return the statement that writes a row."""
    return f"INSERT INTO notes VALUES ({n})"  # noqa: S608  a number


class TransactionsSuite(KeeperSuite):
    """Tests of the port ``Transactions``."""

    async def test_work_and_append_are_one_commit(self, store: Store) -> None:
        """Both are there; the append says where, and is found by its id."""
        await table(store)
        await write(store.log, "run/a", b"1")
        append, _ = await do(
            store, note(1), groups=[Group("run/a", [fact(b"2"), fact(b"3")], 1), Group("b", [fact()])]
        )
        assert await notes(store) == [1]
        assert [row.data for row in await store.log.read("run/a")] == [b"1", b"2", b"3"]
        assert append.versions == (3, 1)
        assert append.position == await store.log.end()
        assert await store.log.lookup("run/a", append.id) == 2
        assert await store.log.lookup("b", append.id) == 1

    async def test_work_that_fails_leaves_nothing(self, store: Store) -> None:
        """Its error is the cause; the same again is done."""
        await table(store)
        with pytest.raises(WorkFailed) as caught:
            await do(store, note(1), groups=[Group("run/a", [fact()])], then=failing)
        assert isinstance(caught.value.__cause__, BrokenError)
        with pytest.raises(WorkFailed):
            await do(store, note(1), note(1), groups=[Group("run/a", [fact()])])
        assert await notes(store) == []
        assert (await store.log.head("run/a")).version == 0
        await do(store, note(1), groups=[Group("run/a", [fact()], 0)])
        assert await notes(store) == [1]

    async def test_a_refused_append_undoes_the_work(self, store: Store) -> None:
        """Whatever it is refused for."""
        await table(store)
        await put(store.log, Group("run/a", [fact()], 0, 7, takes=True))
        await put(store.log, Group("run/z", [fact()], closes=True))
        refusals = [
            (Group("run/a", [fact()], 9, 7), StaleVersion),
            (Group("run/a", [fact()], 1, 6), StaleToken),
            (Group("inbox/none", [fact()], guard="run/none"), StreamMissing),
            (Group("inbox/z", [fact()], guard="run/z"), StreamClosed),
        ]
        for group, error in refusals:
            with pytest.raises(error):
                await do(store, note(1), groups=[Group("run/b", [fact()]), group])
        assert await notes(store) == []
        assert (await store.log.head("run/b")).version == 0

    async def test_an_append_without_a_place_undoes_the_work(self, store: Store) -> None:
        """A limit is a condition as any other."""
        await table(store)
        slot = (Slot("lane", "", 1),)
        for run in ("a", "b"):
            group = Group(
                f"run/{run}",
                [fact()],
                0,
                1,
                takes=True,
                run=RunChange(run, "running", "w", owner="x"),
                slots=slot,
            )
            if run == "a":
                await do(store, note(1), groups=[group])
                continue
            with pytest.raises(NoRoom):
                await do(store, note(2), groups=[group])
        assert await notes(store) == [1]

    async def test_work_sees_what_it_wrote(self, store: Store) -> None:
        """And what others had committed before; nobody sees it earlier."""
        await table(store)
        await do(store, note(1))
        _, rows = await do(store, note(2), "SELECT n FROM notes ORDER BY n")
        assert rows == [(1,), (2,)]

    @pytest.mark.parametrize(
        "statement", ["COMMIT", "ROLLBACK", "commit", "END", "ROLLBACK TO job", "RELEASE job"]
    )
    async def test_work_cannot_end_the_transaction(self, store: Store, statement: str) -> None:
        """It fails, and leaves nothing."""
        await table(store)
        with pytest.raises(WorkFailed):
            await do(store, note(1), statement, note(2), groups=[Group("run/a", [fact()])])
        assert (await store.log.head("run/a")).version == 0
        assert await notes(store) == []
        await do(store, note(3), groups=[Group("run/a", [fact()])])
        assert (await store.log.head("run/a")).version == 1

    async def test_savepoints_are_the_works_own(self, store: Store) -> None:
        """What it undoes itself is gone, the rest is there."""
        await table(store)
        await do(
            store,
            note(1),
            "SAVEPOINT s",
            note(2),
            "ROLLBACK TO s",
            note(3),
            groups=[Group("run/a", [fact()])],
        )
        assert await notes(store) == [1, 3]

    @pytest.mark.parametrize(
        "statement", ["DELETE FROM records", "UPDATE streams SET token = 9", "DROP TABLE runs"]
    )
    async def test_work_cannot_write_what_is_the_keepers(self, store: Store, statement: str) -> None:
        """It fails, and leaves nothing."""
        self.skip_if("own_tables")
        await table(store)
        await write(store.log, "run/a", b"1")
        with pytest.raises(WorkFailed):
            await do(store, note(1), statement)
        assert await notes(store) == []
        assert len(await store.log.read("run/a")) == 1

    async def test_a_connection_that_was_kept_is_of_no_use(self, store: Store) -> None:
        """The next one has another transaction on it."""
        kept: list[Any] = []
        port = store.transactions

        async def keep(connection: Any) -> None:
            kept.append(connection)

        async def nothing() -> Writes:
            return Writes(())

        if port.is_sync:
            await port.commit(IDS.new(), kept.append, lambda: Writes(()), PATIENCE)
        else:
            await port.commit(IDS.new(), keep, nothing, PATIENCE)
        with pytest.raises(Exception, match="ended"):
            used = kept[0].execute("SELECT 1")
            await used

    async def test_work_that_takes_too_long_leaves_nothing(self, store: Store) -> None:
        """It is ended; others go on."""
        await table(store)
        beside = asyncio.gather(*(write(store.log, f"beside/{n}", b"x") for n in range(5)))
        with pytest.raises(WorkTooLong):
            await do(store, note(1), ENDLESS, groups=[Group("run/a", [fact()])], seconds=0.1)
        await beside
        assert await notes(store) == []
        assert (await store.log.head("run/a")).version == 0

    async def test_those_beside_are_not_touched(self, store: Store) -> None:
        """Of many at once, each fails or is committed for itself; also plain appends."""
        await table(store)

        async def one(n: int) -> None:
            then = failing if n % 3 == 0 else lambda: None
            await do(store, note(n), groups=[Group(f"run/{n}", [fact()], 0)], then=then)

        plain = [write(store.log, f"plain/{n}", b"x") for n in range(30)]
        outcomes = await asyncio.gather(*map(one, range(60)), *plain, return_exceptions=True)
        failed = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Exception)]
        assert failed == list(range(0, 60, 3))
        there = [n for n in range(60) if n % 3]
        assert await notes(store) == there
        assert [n for n in range(60) if (await store.log.head(f"run/{n}")).version] == there

    async def test_as_many_as_there_are_records(self, keeper: Keeper, store: Store) -> None:
        """Two stores change one row at once, and one stream: what is committed is counted."""
        other = store if "one_process" in self.exceptions else await keeper.open()
        await do(store, "CREATE TABLE counters (n INTEGER)", "INSERT INTO counters VALUES (0)")
        add = "UPDATE counters SET n = n + 1"

        async def work(on: Store) -> int:
            done = 0
            for _ in range(10):
                try:
                    await do(on, add, groups=[Group("run/a", [fact()], (await on.log.head("run/a")).version)])
                except StaleVersion:
                    continue
                done += 1
            return done

        done = sum(await asyncio.gather(*(work(on) for on in (store, other) for _ in range(2))))
        _, rows = await do(store, "SELECT n FROM counters")
        assert rows == [(done,)]
        assert (await store.log.head("run/a")).version == done > 0

    async def test_plain_appends_go_on_where_it_ended(self, store: Store) -> None:
        """What a keeper remembers of streams is what a transaction left."""
        await table(store)
        for n in range(5):
            await put(store.log, Group("run/a", [fact()], 2 * n))
            await do(store, note(n), groups=[Group("run/a", [fact()], 2 * n + 1)])
        assert [row.version for row in await store.log.read("run/a")] == list(range(1, 11))

    async def test_tasks_are_offered_with_it(self, store: Store) -> None:
        """Those of work that failed are not."""
        await do(
            store, tasks=[Task("1", "q", b"x", 2.0), Task("2", "q", b"y", 1.0)], groups=[Group("a", [fact()])]
        )
        with pytest.raises(WorkFailed):
            await do(store, tasks=[Task("3", "q")], then=failing)
        with pytest.raises(StaleVersion):
            await do(store, tasks=[Task("4", "q")], groups=[Group("a", [fact()], 7)])
        claimed = await store.queue.claim("q", "w", 10, 60)
        assert [(task.id, task.data) for task in claimed] == [("2", b"y"), ("1", b"x")]

    async def test_large_payloads(self, store: Store) -> None:
        """They come back as they were, also between those that are written plainly."""
        large = [shake_128(b"%d" % (n // 3)).digest(50_000) + b"%d" % n for n in range(6)]
        for n, data in enumerate(large):
            group = Group(
                "run/a", [fact(b'"' + data.hex().encode() + b'"', key=f":{n}.big")], n, 5, takes=n == 0
            )
            if n % 2:
                await do(store, groups=[group])
            else:
                await put(store.log, group)
        found = [row.data for row in await store.log.read("run/a")]
        assert found == [b'"' + data.hex().encode() + b'"' for data in large]

    async def test_a_restart_keeps_both(self, keeper: Keeper) -> None:
        """And what failed stays away."""
        store = await keeper.open()
        await table(store)
        await do(store, note(1), groups=[Group("run/a", [fact()])])
        with pytest.raises(WorkFailed):
            await do(store, note(2), groups=[Group("run/a", [fact()])], then=failing)
        store = await keeper.reopen(store)
        assert await notes(store) == [1]
        assert len(await store.log.read("run/a")) == 1
