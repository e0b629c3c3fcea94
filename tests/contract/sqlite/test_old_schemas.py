"""A file of every older schema is brought up to date with all that is in it."""

import sqlite3
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest
from tests.contract.old_schemas import check, past

from reprise.kernel.errors import SchemaTooNew
from reprise.stores.sqlite import SQLiteStore, database
from reprise.stores.sqlite.database import Connection

NEWEST = database.migrations()[-1][0]


def seal(*columns: Any) -> tuple[Any, ...]:
    """Return a row as every schema writes it: its last column is the CRC-32 of the MessagePack of the others."""
    return (*columns, crc32(msgspec.msgpack.encode(columns)))


def insert(connection: Connection, table: str, *columns: Any, sealed: bool = True) -> None:
    row = seal(*columns) if sealed else columns
    connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)


async def write_first(connection: Connection, store) -> None:
    """Write the tables of the first schema."""
    numbers: dict[str, int] = {}
    for record in await store.log.scan(limit=10_000):
        number = numbers.setdefault(record.stream, len(numbers) + 1)
        insert(connection, "records", record.position, number, record.version, record.kind, record.at, record.key,
               record.data, record.print, record.took, record.append)  # fmt: skip
    for name, number in numbers.items():
        head = await store.log.head(name)
        # Of an open stream the row may be behind its records.
        version = head.version if head.closed else head.version // 2
        insert(connection, "streams", number, name, version, head.token, int(head.closed))
    for row in await store.runs.find():
        ended = (await store.log.head(f"run/{row.id}")).closed
        tags = msgspec.json.encode(row.tags, order="deterministic").decode()
        insert(connection, "runs", row.id, row.workflow, row.status, row.created_at, row.updated_at, row.parent,
               row.owner, row.due_at, row.build, tags, row.error, int(ended))  # fmt: skip
        for name, value in row.tags.items():
            insert(connection, "run_tags", name, value, row.created_at, row.id, sealed=False)


def write_second(connection: Connection, **later: Any) -> None:
    """Write the tables that the second schema brought; ``later`` are the columns that a task has got since."""
    insert(connection, "leases", "x", "me", 41, 1 << 60, 0)
    connection.execute("INSERT INTO meta VALUES ('token', 41), ('clock', 5)")
    columns = ["number", "queue", "id", "data", "rank", "due_at", "state", "claims", "token", "worker", "until", "note",
               "offered_at", "place", "later_at", *later, "crc"]  # fmt: skip
    row = seal(1, "q", "t", b"\1\xff", 2.5, 0, "ready", 0, 0, "", 0, "", 9, 1, 0, *later.values())
    marks = ",".join("?" * len(row))
    connection.execute(f"INSERT INTO tasks ({', '.join(columns)}) VALUES ({marks})", row)


def write_cells(connection: Connection) -> None:
    """Write the tables that the eighth schema brought."""
    insert(connection, "spaces", "s", 3, 2)
    insert(connection, "cells", "s", "c", b"\2\xfe", 3, 0)
    insert(connection, "cell_changes", "s", 3, "c", b"\2\xfe", 0, "me", 9)


@pytest.mark.parametrize("version", range(1, NEWEST + 1))
async def test_a_file_of_each_schema_comes_up_to_date_with_all_that_is_in_it(
    path: Path, version: int
) -> None:
    before = await past()
    connection = database.connect(f"file:{path}?mode=rwc")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA application_id = {database.APPLICATION_ID}")
    for number, script in database.migrations()[:version]:
        connection.executescript(script)
        connection.execute(f"PRAGMA user_version = {number}")
        if number == 1:
            await write_first(connection, before)
        if number == 2:
            write_second(connection)
        if number == 8:
            write_cells(connection)
    connection.close()
    store = SQLiteStore(path, synchronous="OFF")
    assert await store.schema() == (version, NEWEST)
    await store.start()
    later = store._writer._transaction.connection
    if version == 1:  # that schema had neither leases nor queues
        write_second(later, outcome=b"", level=0, ended_at=0)
    if version < 8:
        write_cells(later)
    assert await store.schema() == (NEWEST, NEWEST)
    assert await store.verify() == []
    await check(store, before)
    await store.start()
    assert await store.verify() == []
    await store.stop()


def test_there_is_a_script_for_every_number() -> None:
    assert [number for number, _ in database.migrations()] == list(range(1, NEWEST + 1))


async def test_a_file_of_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    store = SQLiteStore(path, synchronous="OFF")
    await store.start()
    await store.stop()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {NEWEST + 1}")
    connection.close()
    before = path.read_bytes()  # noqa: ASYNC240
    assert await store.schema() == (NEWEST + 1, NEWEST)
    with pytest.raises(
        SchemaTooNew, match=rf"has schema {NEWEST + 1}; this Reprise knows {NEWEST}.*Upgrade Reprise"
    ):
        await store.start()
    assert path.read_bytes() == before  # noqa: ASYNC240
