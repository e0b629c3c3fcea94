"""Each thing that can go wrong has its own clear error, and nothing acknowledged is lost."""

import asyncio
import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reprise.kernel.errors import (
    ConfigurationError,
    OutcomeUnknown,
    SchemaTooNew,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnreachable,
    UnknownOption,
    UnsupportedFileSystem,
)
from reprise.kernel.events import Event
from reprise.stores.log import Append, Group, append, enlist
from reprise.stores.queue import Settlement, Task
from reprise.stores.sqlite import SQLiteStore, database, open_sqlite
from reprise.stores.sqlite.turnstile import Turnstile
from reprise.stores.sqlite.writer import Job


def event(data: bytes = b"{}") -> Event:
    return Event(16, 1, data=data)


class Faulty:
    """A connection that fails where a test says so."""

    def __init__(self, uri: str, fault: Callable[[str], None]) -> None:
        self.inner = database.connect(uri)
        self.fault = fault
        self.writes = "mode=rw" in uri

    @property
    def in_transaction(self) -> bool:
        return self.inner.in_transaction

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        if sql == "COMMIT" and self.writes:
            self.fault("before")
            cursor = self.inner.execute(sql, parameters)
            self.fault("after")
            return cursor
        return self.inner.execute(sql, parameters)

    def close(self) -> None:
        self.inner.close()


def disk_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = 10 | (4 << 8)  # SQLITE_IOERR_FSYNC
    return error


async def faulty_store(path: Path, fault: Callable[[str], None]) -> SQLiteStore:
    store = SQLiteStore(path, synchronous="OFF", connect=lambda uri: Faulty(uri, fault))
    await store.start()
    return store


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_of_unknown_outcome_is_resolved_by_looking(path: Path, when: str) -> None:
    failures = 0

    def fault(place: str) -> None:
        nonlocal failures
        if armed and place == when and not failures:
            failures += 1
            raise disk_error()

    armed = False
    store = await faulty_store(path, fault)
    await append(store.log, 1, Group("a", [event()]))
    armed = True
    appends = [Append(10 + i, (Group("a", [event()], expected=1 + i),)) for i in range(5)]
    appends.append(Append(20, (Group("a", [event()], expected=0),)))
    appends.append(Append(21, (Group("b", [event()]),)))
    await enlist(store.log, appends)
    assert failures == 1
    assert [a.id for a in appends if a.error is not None] == [20]
    assert [r.append for r in await store.log.read("a")] == [1, 10, 11, 12, 13, 14]
    await append(store.log, 30, Group("a", [event()], expected=6))
    await store.stop()


async def test_a_commit_that_is_refused_is_undone(path: Path) -> None:
    armed = False

    def fault(place: str) -> None:
        nonlocal armed
        if armed:
            armed = False
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    store = await faulty_store(path, fault)
    await append(store.log, 1, Group("a", [event()]))
    armed = True
    with pytest.raises(StoreFull):
        await append(store.log, 2, Group("a", [event()], expected=1))
    await append(store.log, 3, Group("a", [event()], expected=1))
    assert [record.append for record in await store.log.read("a")] == [1, 3]
    await store.stop()


async def test_a_connection_that_cannot_even_undo_is_given_up(path: Path) -> None:
    armed: list[str] = []

    class Stubborn(Faulty):
        def execute(self, sql: str, parameters: Any = (), /) -> Any:
            if sql == "ROLLBACK" and armed:
                armed.clear()
                raise sqlite3.OperationalError("out of memory")
            return super().execute(sql, parameters)

    def fault(place: str) -> None:
        if armed:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    store = SQLiteStore(path, synchronous="OFF", connect=lambda uri: Stubborn(uri, fault))
    await store.start()
    await append(store.log, 1, Group("a", [event()]))
    armed.append("commit")
    with pytest.raises(StoreFull):
        await append(store.log, 2, Group("a", [event()]))
    await append(store.log, 3, Group("a", [event()]))
    assert [record.append for record in await store.log.read("a")] == [1, 3]
    await store.stop()


async def test_the_answer_of_a_job_that_was_tried_again_is_that_of_the_last_try(store: SQLiteStore) -> None:
    tries: list[int] = []

    def work(transaction: Any) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise StoreFull("At first there is no room.")
        return "done"

    def undoes_all(transaction: Any) -> None:
        transaction.connection.execute("ROLLBACK")
        raise ValueError("all is undone")

    job, other = Job(work), Job(undoes_all)
    store._writer.put((job, other))
    await append(store.log, 1, Group("a", [event()]))
    assert (len(tries), job.error, job.result) == (2, None, "done")
    assert other.error is not None


@pytest.mark.parametrize("when", ["before", "after"])
async def test_jobs_of_a_commit_of_unknown_outcome_are_done_once(path: Path, when: str) -> None:
    def fault(place: str) -> None:
        nonlocal armed
        if armed and place == when:
            armed = False
            raise disk_error()

    armed = False
    store = await faulty_store(path, fault)
    await store.queue.offer([Task("a", "q"), Task("b", "q")])
    armed = True
    [task] = await store.queue.claim("q", "w", 1, 60)
    assert not armed
    assert [t.state for t in await store.queue.find("q")] == ["claimed", "ready"]
    armed = True
    assert await store.queue.settle([Settlement(task, "done")]) == [True]
    assert not armed
    await store.stop()


async def test_while_the_disk_fails_the_outcome_is_unknown_and_later_it_works(path: Path) -> None:
    failing = False

    def fault(place: str) -> None:
        if failing and place == "before":
            raise disk_error()

    store = await faulty_store(path, fault)
    await append(store.log, 1, Group("a", [event()], expected=0))
    failing = True
    for id in (2, 3):
        with pytest.raises(OutcomeUnknown, match=r"test\.db"):
            await append(store.log, id, Group("a", [event()], expected=1))
    failing = False
    assert await store.log.lookup("a", 2) is None
    await append(store.log, 4, Group("a", [event()], expected=1))
    await store.stop()


async def test_a_full_disk_refuses_and_recovers(store: SQLiteStore) -> None:
    await append(store.log, 1, Group("a", [event()]))
    connection = store._writer._transaction.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreFull, match="Make room"):
        await append(store.log, 2, Group("a", [event(bytes(100_000))]))
    connection.execute("PRAGMA max_page_count = 1000000")
    again = Append(3, (Group("a", [event(bytes(100_000))]),), error=StoreFull())
    await enlist(store.log, [again])
    assert again.versions == (2,)
    assert [r.append for r in await store.log.read("a")] == [1, 3]


async def test_a_lock_of_another_tool_is_waited_for_and_then_told(path: Path) -> None:
    store = open_sqlite(f"sqlite:///{path}?synchronous=off&busy=0.05")
    await store.start()
    tool = sqlite3.connect(path, isolation_level=None)
    tool.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLocked, match="locked by another process"):
        await append(store.log, 1, Group("a", [event()]))
    tool.execute("ROLLBACK")
    tool.close()
    assert (await append(store.log, 2, Group("a", [event()]))).position == 1
    await store.stop()


async def test_a_process_that_keeps_its_turn_is_told_and_then_forgotten(path: Path) -> None:
    store = SQLiteStore(path, synchronous="OFF", busy=0.05)
    await store.start()
    stopped = Turnstile(path.with_name(path.name + ".wake"))
    stopped.enter(1)
    for id in (1, 2):
        with pytest.raises(StoreLocked, match="kept its turn"):
            await append(store.log, id, Group("a", [event()]))
    stopped.leave()
    # The wait that was given up gets the turn now, and gives it back at once.
    stopped.enter(5)
    stopped.leave()
    assert (await append(store.log, 3, Group("a", [event()], expected=0))).versions == (1,)
    stopped.close()
    await store.stop()


async def test_what_is_no_database_or_not_ours_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("this is not a database, and long enough to be looked at as one\n" * 100)
    with pytest.raises(StoreCorrupt, match=r"notes\.txt"):
        await SQLiteStore(text).start()
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(StoreUnreachable, match="another application"):
        await SQLiteStore(foreign).start()
    assert foreign.read_bytes() == before
    with pytest.raises(StoreUnreachable, match="does not exist"):
        await SQLiteStore(tmp_path / "none" / "x.db").start()
    with pytest.raises(StoreUnreachable, match="is a folder"):
        await SQLiteStore(tmp_path).start()


async def test_a_newer_schema_is_not_touched(path: Path) -> None:
    store = SQLiteStore(path, synchronous="OFF")
    await store.start()
    await store.stop()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(SchemaTooNew, match="999"):
        await store.start()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_that_may_not_be_written(what: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "x.db"
        path.touch()
        path.chmod(0o444 if what == "file" else 0o666)
        folder.chmod(0o777 if what == "file" else 0o555)
        error = as_somebody_else(lambda: asyncio.run(SQLiteStore(path).start()))
        folder.chmod(0o700)
    assert error.startswith("StoreReadOnly")
    assert str(path if what == "file" else folder) in error


def as_somebody_else(work: Callable[[], None]) -> str:
    """Return the error of ``work`` in a child process that has no right of root's."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            work()
        except Exception as error:  # noqa: BLE001 - told to the parent
            os.write(writer, f"{type(error).__name__} {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()


async def test_a_connection_that_may_not_write_says_so(path: Path) -> None:
    store = SQLiteStore(path, synchronous="OFF")
    await store.start()
    store._writer._transaction.connection.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreReadOnly):
        await append(store.log, 1, Group("a", [event()]))
    await store.stop()


@pytest.mark.parametrize(
    ("line", "far"),
    [
        ("36 35 98:0 / /data rw - nfs4 server:/export rw", True),
        ("36 35 98:0 / /data rw - cifs //server/share rw", True),
        ("36 35 98:0 / /data rw shared:1 - fuse.sshfs host: rw", True),
        ("36 35 98:0 / /data rw - 9p drvfs rw,aname=drvfs;path=C:", True),
        ("36 35 98:0 / /data rw - 9p host rw,trans=virtio", False),
        ("36 35 98:0 / /data rw - ext4 /dev/sda1 rw", False),
        ("36 35 98:0 / /other rw - nfs4 server:/export rw", False),
        ("36 35 98:0 / /dat rw - nfs4 server:/export rw", False),
    ],
)
def test_a_network_file_system_is_refused(tmp_path: Path, line: str, far: bool) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 0:20 / / rw - ext4 /dev/root rw\n{line}\n")
    if far:
        with pytest.raises(UnsupportedFileSystem, match="/data"):
            database.check_file_system(Path("/data/x.db"), str(mounts))
    else:
        database.check_file_system(Path("/data/x.db"), str(mounts))


def test_options_are_checked() -> None:
    with pytest.raises(UnknownOption, match="synchronous"):
        open_sqlite("sqlite:///x.db?syncronous=FULL")
    for url in (
        "sqlite:///x.db?synchronous=MAYBE",
        "sqlite:///x.db?busy=soon",
        "sqlite://",
        "sqlite://host/x.db",
    ):
        with pytest.raises(ConfigurationError):
            open_sqlite(url)


async def test_a_forked_child_cannot_use_the_store(store: SQLiteStore) -> None:
    await append(store.log, 1, Group("a", [event()]))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            store.log.submit([Append(2, (Group("a", [event()]),))])
        except StoreClosed as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    assert await asyncio.to_thread(os.waitpid, child, 0) == (child, 0)
    assert b"forked" in os.read(reader, 1000)
    os.close(reader)
    await append(store.log, 3, Group("a", [event()], expected=1))


def test_what_is_made_is_for_its_owner_alone(store: SQLiteStore, path: Path) -> None:
    modes = {
        p.name: stat.S_IMODE(p.lstat().st_mode) for p in [*path.parent.iterdir(), *path.parent.glob("*/*")]
    }
    assert {mode for name, mode in modes.items() if name.endswith((".wake", ".workers"))} == {0o700}
    assert {mode for name, mode in modes.items() if not name.endswith((".wake", ".workers"))} == {0o600}
    assert {"test.db", "test.db-wal", "test.db-shm", "gate", "turn"} <= set(modes)


async def test_a_failed_job_undoes_only_itself(store: SQLiteStore) -> None:
    def fail(transaction: Any) -> None:
        transaction.ledger.hide("a")
        transaction.connection.execute("SELECT * FROM no_such_table")

    appends = [Append(i, (Group("a", [event()], expected=i),)) for i in range(6)]
    store.log.submit(appends[:3])
    failed = store._writer.submit(fail)
    await enlist(store.log, appends[3:])
    with pytest.raises(StoreError, match="no_such_table"):
        await failed
    assert [a.error for a in appends] == [None] * 6
    assert len(await store.log.read("a")) == 6
