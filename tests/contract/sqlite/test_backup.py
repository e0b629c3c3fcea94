"""A copy of a file in use, and going back to it: whole or not at all, and nobody's work before it counts any more."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from reprise.kernel.errors import ConfigurationError, SchemaTooNew, StoreCorrupt, StoreUnreachable
from reprise.kernel.events import Event
from reprise.stores.cells import Change
from reprise.stores.log import Group, append
from reprise.stores.queue import Task
from reprise.stores.sqlite import SQLiteStore, backup
from reprise.stores.sqlite.backup import UNSEEN
from reprise.stores.sqlite.database import migrations


async def write(store: SQLiteStore, *ids: int) -> None:
    for id in ids:
        await append(store.log, id, Group("a", [Event(16, 1, data=b"{}")]))


async def numbers(store: SQLiteStore) -> list[int]:
    return [record.append for record in await store.log.read("a")]


def spoil(path: Path) -> None:
    """Change a row behind the keeper's back."""
    connection = sqlite3.connect(path)
    connection.execute("UPDATE records SET at = at + 1")
    connection.commit()
    connection.close()


async def test_a_backup_is_the_file_of_one_moment_and_comes_back(store, path, tmp_path):
    await write(store, 1, 2)
    to, told = tmp_path / "b.db", []
    size = await store.back_up(to, lambda *how: told.append(how))
    assert size == to.stat().st_size
    assert to.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("b.db")] == ["b.db"]
    assert told[-1][0] == "pages"
    assert told[-1][1] == told[-1][2] > 0
    await write(store, 3)
    before = store.epoch
    again = SQLiteStore(path, synchronous="OFF")
    epoch = await again.restore(to, replace=True)
    assert epoch > before
    await again.start()
    assert (again.epoch, await numbers(again)) == (epoch, [1, 2])
    assert await again.verify() == []
    assert await numbers(store) == [1, 2], "who has it open goes on with what it holds now"
    await again.stop()
    assert not [entry for entry in tmp_path.iterdir() if entry.is_dir() and entry.name.startswith(".")]


async def test_where_nobody_can_be_asked_the_epoch_is_far_above(store, tmp_path):
    await write(store, 1)
    await store.back_up(tmp_path / "b.db")
    fresh = SQLiteStore(tmp_path / "new.db", synchronous="OFF")
    assert await fresh.restore(tmp_path / "b.db") == UNSEEN + 1 == 16
    await fresh.start()
    assert await numbers(fresh) == [1]
    await fresh.stop()


async def test_no_backup_is_written_over_and_none_of_what_is_damaged_is_made(store, path, tmp_path):
    await write(store, 1)
    to = tmp_path / "b.db"
    to.write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        await store.back_up(to)
    assert to.read_bytes() == b"mine"
    (tmp_path / "c.db.part").write_bytes(b"what a dead process left")
    await store.back_up(tmp_path / "c.db")
    spoil(path)
    with pytest.raises(StoreCorrupt, match=r"The copy of .*test\.db is damaged"):
        await store.back_up(tmp_path / "d.db")
    assert {entry.name for entry in tmp_path.iterdir() if entry.name[0] in "bcd"} == {"b.db", "c.db"}


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("newer", SchemaTooNew, r"b\.db has schema"),
        ("spoilt", StoreCorrupt, r"b\.db is damaged"),
        ("other", StoreUnreachable, "another application"),
        ("none", StoreUnreachable, r"There is no file .*b\.db"),
    ],
)
async def test_what_is_no_backup_changes_nothing(store, path, tmp_path, what, error, words):
    await write(store, 1)
    to = tmp_path / "b.db"
    if what == "other":
        sqlite3.connect(to).executescript("CREATE TABLE mine (x)").connection.close()
    elif what != "none":
        await store.back_up(to)
        if what == "newer":
            with sqlite3.connect(to) as connection:
                connection.execute(f"PRAGMA user_version = {migrations()[-1][0] + 1}")
            connection.close()
        else:
            spoil(to)
    with pytest.raises(error, match=words):
        await SQLiteStore(path, synchronous="OFF").restore(to, replace=True)
    assert (store.epoch, await numbers(store)) == (0, [1])


async def test_what_holds_something_is_replaced_only_if_that_is_said(store, path, tmp_path):
    await write(store, 1)
    await store.back_up(tmp_path / "b.db")
    with pytest.raises(ConfigurationError, match="holds data"):
        await SQLiteStore(path, synchronous="OFF").restore(tmp_path / "b.db")
    with pytest.raises(StoreUnreachable, match="does not exist"):
        await SQLiteStore(tmp_path / "no" / "x.db", synchronous="OFF").restore(tmp_path / "b.db")
    assert (store.epoch, await numbers(store)) == (0, [1])


async def test_what_comes_while_the_backup_is_looked_at_is_not_lost(store, path, tmp_path, monkeypatch):
    """The file is free at first; when the backup is to take its place it is not."""
    await write(store, 1)
    await store.back_up(tmp_path / "b.db")
    await store.log.drop("a")
    unpack, loop = backup.unpack, asyncio.get_running_loop()

    def slowly(*args):
        asyncio.run_coroutine_threadsafe(write(store, 2), loop).result(10)
        return unpack(*args)

    monkeypatch.setattr(backup, "unpack", slowly)
    fresh = SQLiteStore(path, synchronous="OFF")
    with pytest.raises(ConfigurationError, match="holds data"):
        await fresh.restore(tmp_path / "b.db")
    assert await numbers(store) == [2]
    assert await fresh.restore(tmp_path / "b.db", replace=True)


@pytest.mark.parametrize("what", ["a task", "a cell"])
async def test_what_is_in_no_stream_counts_as_data_too(store, path, tmp_path, what):
    await store.back_up(tmp_path / "b.db")
    if what == "a task":
        await store.queue.offer([Task("a", "q")])
    else:
        await store.cells.apply("s", [Change("a", b"1")])
    fresh = SQLiteStore(path, synchronous="OFF")
    with pytest.raises(ConfigurationError, match="holds data"):
        await fresh.restore(tmp_path / "b.db")
    assert len(await store.queue.find("q")) + len((await store.cells.scan("s")).cells) == 1
