"""The file as a whole: old schemas, verification, drops in pieces, processes that die."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from reprise.kernel.errors import StoreCorrupt
from reprise.kernel.events import Event
from reprise.kernel.query import Says
from reprise.stores import open_store
from reprise.stores.cells import Change
from reprise.stores.log import Append, Group, RunChange, append, enlist
from reprise.stores.queue import Task
from reprise.stores.runs import RunFilter
from reprise.stores.sqlite import SQLiteStore, database, signal as signals, watch
from reprise.stores.sqlite.ledger import RECORDS_PER_DROP
from reprise.stores.sqlite.rows import sealed

START = RunChange("r", status="running", workflow="w", tags={"a": "b"}, at=1)


async def fill(store: SQLiteStore, records: int = 10) -> None:
    await append(store.log, 1, Group("run/r", [Event(1, 1)], expected=0, token=1, takes=True, run=START))
    await append(store.log, 2, Group("side", [Event(16, 1, data=b"%d" % i) for i in range(records)]))
    await store.lease.take("x", "a", 60)
    await store.queue.offer([Task("t", "q")])
    await store.cells.apply("s", [Change("c", b"1")])


@pytest.mark.parametrize("version", [number for number, _ in database.migrations()[:-1]])
async def test_a_file_of_each_older_schema_is_upgraded(path: Path, version: int) -> None:
    connection = database.connect(f"file:{path}?mode=rwc")
    connection.execute("PRAGMA journal_mode = WAL")
    for number, script in database.migrations()[:version]:
        for statement in database._split(script):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
        if number == 1:  # later steps change the rows that are there
            old = ("old", "flow", "waiting", 1, 2, None, "w", 3, "b", '{"team":"ü"}', "Disk full", 0)
            connection.execute(f"INSERT INTO runs VALUES ({','.join('?' * 13)})", sealed(old))
            connection.execute("INSERT INTO run_tags VALUES ('team', 'ü', 1, 'old')")
    connection.execute(f"PRAGMA application_id = {database.APPLICATION_ID}")
    connection.close()
    store = SQLiteStore(path, synchronous="OFF")
    await store.start()
    await fill(store)
    assert await store.verify() == []
    (row,) = await store.runs.find(RunFilter(tags={"team": "ü"}))
    assert (row.id, row.workflow, row.status, row.owner, row.due_at) == ("old", "flow", "waiting", "w", 3)
    assert await store.runs.find(Says(("disk", "full"))) == [row]
    await store.stop()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone()[0] == database.migrations()[-1][0]
    connection.close()


async def test_a_failed_upgrade_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ((1, "CREATE TABLE one (x);\n"), (2, "CREATE TABLE two (x);\nCREATE TABLE one (x);\n"))
    monkeypatch.setattr(database, "migrations", lambda: broken)
    connection = database.connect(f"file:{path}?mode=rwc")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        database.upgrade(connection, path)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master").fetchall()]
    assert (names, connection.execute("PRAGMA user_version").fetchone()) == (["one"], (1,))
    connection.close()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE records SET data = 'x' WHERE position = 5", "position 5"),
        ("DELETE FROM records WHERE position = 5", "side"),
        ("DELETE FROM streams WHERE name = 'side'", "belongs to no stream"),
        ("UPDATE streams SET closed = 1 WHERE name = 'side'", "side"),
        ("UPDATE runs SET status = 'completed'", "runs"),
        ("INSERT INTO trims VALUES (2, 3, 0)", "trims"),
        ("DELETE FROM runs", "names the run r"),
        ("UPDATE leases SET token = 99", "leases"),
        ("UPDATE tasks SET state = 'done'", "tasks"),
        ("UPDATE cells SET data = x'00'", "c in the table cells"),
        ("UPDATE cell_changes SET origin = 'x'", "c in the table cell_changes"),
        ("UPDATE spaces SET kept_after = 1", "spaces"),
        ("DELETE FROM cell_changes", "feed of the cells s"),
    ],
)
async def test_verify_names_each_damage(store: SQLiteStore, path: Path, damage: str, told: str) -> None:
    await fill(store)
    assert await store.verify() == []
    connection = sqlite3.connect(path)
    connection.execute(damage)
    connection.commit()
    connection.close()
    problems = await store.verify()
    assert problems
    assert told in problems[0]


async def test_a_large_stream_is_gone_at_once_and_deleted_in_pieces(
    store: SQLiteStore, other: SQLiteStore
) -> None:
    await fill(store, records=3 * RECORDS_PER_DROP)
    end = await store.log.end()
    dropping = asyncio.ensure_future(store.log.drop("side"))
    await asyncio.sleep(0)
    await append(store.log, 3, Group("side", [Event(16, 1)], expected=0))
    assert [r.position for r in await other.log.scan(after=1)] == [end + 1]
    assert await dropping == 3 * RECORDS_PER_DROP
    assert await store.verify() == []


async def test_an_interrupted_drop_is_finished_by_the_next_start(store: SQLiteStore, path: Path) -> None:
    await fill(store, records=3 * RECORDS_PER_DROP)
    id, _ = await store._writer.submit(lambda transaction: transaction.ledger.hide("side"))
    await store.stop()
    await store.start()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM records WHERE stream = ?", (id,)).fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM streams").fetchone() == (1,)
    connection.close()


async def test_a_drop_that_another_process_finished_takes_nothing_of_a_new_stream(
    store: SQLiteStore, other: SQLiteStore
) -> None:
    await fill(store)
    id, _ = await store._writer.submit(lambda transaction: transaction.ledger.hide("side"))
    for _ in range(2):  # the first start finishes the drop, the second has forgotten the number
        await other.stop()
        await other.start()
    await append(other.log, 3, Group("new", [Event(16, 1)]))
    await store.log._clear([id])
    assert len(await store.log.read("new")) == 1
    assert await store.verify() == []


async def test_many_starts_at_once_make_one_store(path: Path) -> None:
    stores = [SQLiteStore(path, synchronous="OFF") for _ in range(4)]
    await asyncio.gather(*(store.start() for store in stores for _ in range(3)))
    assert len(list(path.parent.glob("*.wake/*.sock"))) == 4
    for store in stores:
        await store.stop()
    assert list(path.parent.glob("*.wake/*.sock")) == []


async def test_a_link_names_the_same_store(store: SQLiteStore, path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    linked = SQLiteStore(link, synchronous="OFF")
    await linked.start()
    assert (linked.url, linked.presence._folder) == (store.url, store.presence._folder)
    await linked.stop()


def copy(path: Path, folder: Path, size: int) -> Path:
    """Copy the first bytes of a store's file, and all of its write-ahead log; return the place of the copy."""
    folder.mkdir()
    (folder / path.name).write_bytes(path.read_bytes()[:size])
    (folder / f"{path.name}-wal").write_bytes(path.with_name(f"{path.name}-wal").read_bytes())
    return folder / path.name


@pytest.mark.parametrize("size", [0, 1])
async def test_a_file_of_which_nothing_is_left_beside_its_log_is_not_a_new_one(
    store: SQLiteStore, path: Path, tmp_path: Path, size: int
) -> None:
    """SQLite takes one byte for none."""
    await fill(store)
    cut = SQLiteStore(copy(path, tmp_path / "cut", size))
    with pytest.raises(StoreCorrupt, match="is empty, but its write-ahead log is not"):
        await cut.start()
    await cut.stop()
    assert (tmp_path / "cut" / f"{path.name}-wal").stat().st_size > 1000


async def test_stop_leaves_one_file_that_holds_everything(store: SQLiteStore, path: Path) -> None:
    for _ in range(5):
        await store.stop()
        await store.start()
    await store.stop()
    assert [p.name for p in path.parent.iterdir() if p.is_file()] == ["test.db"]


async def test_without_sockets_the_file_is_watched(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals.Post, "_address", lambda *_: "/dev/null/none")
    monkeypatch.setattr(watch, "INTERVAL", 0.01)
    here, there = SQLiteStore(path, synchronous="OFF"), SQLiteStore(path, synchronous="OFF")
    await here.start()
    await there.start()
    assert not here.signal.address
    await asyncio.sleep(0.05)
    waiting = asyncio.ensure_future(here.signal.wait("anything", 10))
    await asyncio.sleep(0)
    await append(there.log, 1, Group("a", [Event(16, 1)]))
    assert await waiting
    await here.stop()
    await there.stop()


CHILD = """
import asyncio, sys
from reprise.kernel.errors import StoreCorrupt
from reprise.kernel.events import Event
from reprise.stores import open_store
from reprise.stores.log import Append, Group, enlist
from reprise.stores.sqlite import SQLiteStore

async def main(path, what):
    store = SQLiteStore(path, synchronous="OFF")
    await store.start()
    if what == "turn":
        store._turnstile.enter(10)
    elif what == "ticket":
        asyncio.ensure_future(store.lease.take("x", "child", 60, wait=None))
        while not await store.lease.waiting("x"):
            await asyncio.sleep(0.001)
    elif what == "lease":
        await store.lease.take("x", "child", 60)
    print("ready", flush=True)
    n = 0
    while True:
        if what == "write":
            n += 10
            await enlist(store.log, [Append(n + i, (Group("child", [Event(16, 1)]),)) for i in range(10)])
            print(n, flush=True)
        else:
            await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


def start_child(path: Path, what: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), what], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def kill(child: subprocess.Popen[str]) -> str:
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.stdout is not None
    with child.stdout as rest:
        return rest.read()


async def test_the_turn_of_a_killed_process_is_free(store: SQLiteStore, path: Path) -> None:
    child = start_child(path, "turn")
    waiting = asyncio.ensure_future(append(store.log, 1, Group("a", [Event(16, 1)])))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    kill(child)
    async with asyncio.timeout(10):
        await waiting


async def test_the_ticket_of_a_killed_process_stops_nobody(store: SQLiteStore, path: Path) -> None:
    grant = await store.lease.take("x", "a", 60)
    assert grant is not None
    child = start_child(path, "ticket")
    behind = asyncio.ensure_future(store.lease.take("x", "b", 60, wait=None))
    await asyncio.sleep(0)
    assert await store.lease.holder("x") == [grant]
    kill(child)
    await store.lease.drop([grant])
    async with asyncio.timeout(5):
        served = await behind
    assert served is not None
    assert served.holder == "b"


async def test_a_process_killed_while_it_writes_loses_nothing_acknowledged(
    store: SQLiteStore, path: Path
) -> None:
    child = start_child(path, "write")
    assert child.stdout is not None
    while int(child.stdout.readline()) < 200:
        pass
    acknowledged = int((kill(child).split() or ["200"])[-1])
    records = await store.log.read("child")
    assert len(records) >= acknowledged
    assert len(records) % 10 == 0
    appends = [Append(i, (Group("child", [Event(16, 1)], expected=len(records) + i),)) for i in range(3)]
    await enlist(store.log, appends)
    assert await store.verify() == []


PASSER_BY = """
import asyncio, sys
from reprise.kernel.errors import StoreCorrupt
from reprise.kernel.events import Event
from reprise.stores import open_store
from reprise.stores.log import Group, append

async def main(url, number):
    store = open_store(url)
    await store.start()
    await append(store.log, 1, Group(f"run/{number}", [Event(1, 1)]))
    await store.stop()

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


async def test_a_second_store_on_a_file_does_not_take_the_locks_of_the_first(tmp_path: Path) -> None:
    """Who opens and closes the file elsewhere would take itself for the last one, and remove the log under both."""
    url = f"sqlite:///{tmp_path / 'one.db'}"
    stores = [open_store(url) for _ in range(2)]
    for store in stores:
        await store.start()
    seen = []
    for number in range(3):
        command = [sys.executable, "-c", PASSER_BY, url, str(number)]
        await asyncio.to_thread(subprocess.run, command, check=True)
        seen.append([len(await store.log.scan()) for store in stores])
    assert seen == [[1, 1], [2, 2], [3, 3]]
    for store in stores:
        assert await store.verify() == []
        await store.stop()
