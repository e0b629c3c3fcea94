"""Work in the writer's commits when the disk fails, when a statement undoes everything, and what its face shows."""

import asyncio
import sqlite3
from contextlib import suppress

import pytest

from reprise.kernel.errors import ConfigurationError
from reprise.kernel.ids import Counter
from reprise.stores.log import Group, append
from reprise.stores.sqlite import SQLiteStore
from reprise.stores.sqlite.database import FUNCTIONS
from reprise.stores.transactions import WorkFailed, Writes
from reprise.testing.suites.keeper import fact

IDS = Counter()


class Failing(sqlite3.Connection):
    """A connection whose next COMMIT meets a disk that fails, ``before`` or ``after`` it was written."""

    fails = ""

    def execute(self, sql, *args):
        fails, Failing.fails = (Failing.fails, "") if sql == "COMMIT" else ("", Failing.fails)
        if fails != "before":
            cursor = super().execute(sql, *args)
        if not fails:
            return cursor
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error


def connect(uri):
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, factory=Failing
    )
    for name, function in FUNCTIONS.items():
        connection.create_function(name, -1, function, deterministic=True)
    return connection


@pytest.fixture
async def store(tmp_path):
    store = SQLiteStore(tmp_path / "test.db", connect=connect, synchronous="OFF")
    await store.start()
    yield store
    await store.stop()


async def do(store, work, *groups, tasks=()):
    return await store.transactions.commit(IDS.new(), work, lambda: Writes(groups, tasks), 10)


@pytest.mark.parametrize(("when", "times"), [("before", 2), ("after", 1)])
async def test_a_commit_that_the_disk_left_open_is_done_once(store, when, times):
    done = []

    def work(connection):
        done.append(1)
        connection.execute("INSERT INTO notes VALUES (1)")

    await do(store, lambda c: c.execute("CREATE TABLE notes (n INTEGER)"))
    Failing.fails = when
    append = await do(store, work, Group("run/a", [fact()], 0))
    assert (append.error, append.versions, len(done)) == (None, (1,), times)
    rows = []
    await do(store, lambda c: rows.extend(c.execute("SELECT n FROM notes").fetchall()))
    assert rows == [(1,)]
    assert len(await store.log.read("run/a")) == 1


async def test_alone_or_in_company_a_statement_that_undoes_everything_fails_by_itself(store):
    await do(store, lambda c: c.execute("CREATE TABLE notes (n INTEGER UNIQUE)"))

    def undoes(connection):
        connection.execute("INSERT INTO notes VALUES (1)")
        connection.execute("INSERT OR ROLLBACK INTO notes VALUES (1)")

    with pytest.raises(WorkFailed) as caught:
        await do(store, undoes)
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    plain = [append(store.log, IDS.new(), Group(f"run/{n}", [fact()])) for n in range(4)]
    outcomes = await asyncio.gather(*plain[:2], do(store, undoes), *plain[2:], return_exceptions=True)
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, False, True, False, False]
    assert await store.log.end() == 4


async def test_work_that_hides_that_everything_was_undone_fails_all_the_same(store):
    await do(store, lambda c: c.execute("CREATE TABLE notes (n INTEGER UNIQUE)"))

    def hides(connection):
        connection.execute("INSERT INTO notes VALUES (1)")
        with suppress(sqlite3.IntegrityError):
            connection.execute("INSERT OR ROLLBACK INTO notes VALUES (1)")

    with pytest.raises(WorkFailed, match="undone the transaction"):
        await do(store, hides, Group("run/a", [fact()]))
    assert await store.log.end() == 0
    done = await do(store, lambda c: c.execute("INSERT INTO notes VALUES (2)"), Group("run/a", [fact()]))
    assert (done.error, done.versions) == (None, (1,))


async def test_what_is_returned_says_what_a_cursor_says(store):
    found = {}

    def work(connection):
        connection.execute("CREATE TABLE notes (n INTEGER PRIMARY KEY, text TEXT)")
        many = connection.executemany("INSERT INTO notes (text) VALUES (?)", [("a",), ("b",), ("c",)])
        found["many"] = many.rowcount
        found["last"] = connection.execute("INSERT INTO notes (text) VALUES (:text)", {"text": "d"}).lastrowid
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT n, text FROM notes ORDER BY n")
        found["names"] = [column[0] for column in rows.description]
        found["first"] = rows.fetchone()["text"]
        found["next"] = [row["text"] for row in rows.fetchmany(2)]
        found["rest"] = [row["n"] for row in rows]
        found["kept"] = connection.execute("SELECT n FROM notes")

    await do(store, work)
    kept = found.pop("kept")
    assert found == {
        "many": 3, "last": 4, "names": ["n", "text"], "first": "a", "next": ["b", "c"], "rest": [4]
    }  # fmt: skip
    with pytest.raises(sqlite3.ProgrammingError):
        kept.fetchone()


@pytest.mark.parametrize(
    ("statement", "may"),
    [
        ("SELECT count(*) FROM records", True),
        ("PRAGMA table_info(notes)", True),
        ("CREATE TABLE tasks_done (x)", True),
        ("CREATE TABLE more (x REFERENCES notes (n)); ", True),
        ("CREATE INDEX notes_by_n ON notes (n)", True),
        ("CREATE VIRTUAL TABLE words USING fts5 (text)", True),
        ("PRAGMA journal_mode = DELETE", False),
        ("ATTACH 'other.db' AS other", False),
        ("CREATE TRIGGER spy AFTER INSERT ON records BEGIN SELECT 1; END", False),
        ("CREATE INDEX slow ON records (data)", False),
        ("INSERT INTO error_words (rowid, words) VALUES (1, 'x')", False),
        ("DROP TABLE blobs", False),
        ("ALTER TABLE meta RENAME TO mine", False),
        ("CREATE TEMP TABLE t (x)", False),
        ("SAVEPOINT Job", False),
        ("BEGIN", False),
    ],
)
async def test_what_work_may_and_may_not(store, statement, may):
    await do(store, lambda c: c.execute("CREATE TABLE notes (n INTEGER)"))
    if may:
        await do(store, lambda c: c.execute(statement))
        assert await store.verify() == []
        return
    with pytest.raises(WorkFailed) as caught:
        await do(store, lambda c: c.execute(statement))
    assert isinstance(caught.value.__cause__, ConfigurationError | sqlite3.OperationalError)
    await append(store.log, IDS.new(), Group("run/a", [fact()]))
    assert await store.verify() == []


async def test_other_connections_of_sqlite_cannot_be_lent(tmp_path):
    class Other:
        def __init__(self, uri):
            self._real = connect(uri)

        def __getattr__(self, name):
            return getattr(self._real, name)

    store = SQLiteStore(tmp_path / "test.db", connect=Other, synchronous="OFF")
    await store.start()
    try:
        with pytest.raises(WorkFailed, match="connection of sqlite3"):
            await do(store, lambda c: None)
    finally:
        await store.stop()
