"""What growing payloads take on disk and in time, on SQLite and PostgreSQL.

An agent's conversation grows by 2 kB of random text a turn, and the step of each turn returns all of it; a list state
grows by an item a step. Bytes are those of the whole store, with tables, indexes and what is in them at the start.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from contextlib import closing, contextmanager
from hashlib import shake_128
from itertools import count
from pathlib import Path
from sqlite3 import connect
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from tests.servers import Missing, postgres_installs, start_postgres

from bench.measure.report import Floors, figure, table
from reprise import KeyRing, Reprise, open_store, step, workflow
from reprise.kernel.events import run_stream
from reprise.stores.packing import PackedStore

TURNS, TEXT = 200, 2_000
MOST = 2_400_000
"""Bytes that the conversation may take."""
ITEM = 100
LINEAR = 11
"""Times as many bytes that ten times as many items may take."""
RING = KeyRing({"bench": bytes(range(32))}, "bench")
HEAD = ("store, what", "turns", "payloads", "on disk", "of it blobs", "CPU ms/turn", "read ms", "check ms")

_numbers = count()


@step
async def turn(talk: list[str], size: int) -> list[str]:
    """Add a text to a conversation."""
    text = base64.b64encode(shake_128(b"%d" % next(_numbers)).digest(size))
    return [*talk, text[:size].decode()]


@workflow
async def converse(turns: int, size: int) -> int:
    """Let a conversation grow."""
    talk: list[str] = []
    for _ in range(turns):
        talk = await turn(talk, size)
    return len(talk)


def main(*, once: bool) -> bool:
    """Print the table; return whether the floors were kept."""
    floors = Floors()
    rows: list[tuple[str, ...]] = []
    short, long = (30, 300) if once else (300, 3000)
    with TemporaryDirectory(prefix="reprise-bench-") as folder, _stores(Path(folder)) as stores:
        for name, url_of, size_of in stores:
            empty = asyncio.run(_empty(url_of("empty"), size_of))
            for what, keys in (("", None), (", sealed", RING)):
                url = url_of(f"talk{len(what)}")
                row, held = asyncio.run(_grow(f"{name}{what}", url, keys, TURNS, TEXT, size_of))
                rows.append(row)
                floors.most(f"{name}{what}: {TURNS} turns", held, MOST, 0, unit="B")
            sizes: list[int] = []
            for number in (short, long):
                url = url_of(f"list{number}")
                row, held = asyncio.run(_grow(f"{name}, list state", url, None, number, ITEM, size_of))
                rows.append(row)
                sizes.append(held - empty)
            grown = sizes[1] / sizes[0]
            floors.most(
                f"{name}: bytes of {long} items over those of {short}, net", grown, LINEAR, unit="times"
            )
    table(HEAD, rows)
    floors.print()
    return floors.kept


Stores = list[tuple[str, Callable[[str], str], Callable[[str], Any]]]
"""By keeper: its name, the URL of a new store, and how many bytes a store takes."""


@contextmanager
def _stores(folder: Path) -> Any:
    stores: Stores = [("sqlite", lambda name: f"sqlite:///{folder}/{name}.db", _file_bytes)]
    installs = postgres_installs()
    server = None
    try:
        server = start_postgres(installs[-1])
        url = server.url
        stores.append((f"postgresql {installs[-1].name}", lambda name: f"{url}&schema={name}", _schema_bytes))
    except (Missing, IndexError):
        print("no PostgreSQL on this machine: not measured there")
    try:
        yield stores
    finally:
        if server is not None:
            server.stop()


async def _file_bytes(url: str) -> int:
    """Return the size of a file once all of it is in it."""
    with closing(connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        [pages], [bytes_each] = (
            connection.execute(f"PRAGMA page_{what}").fetchone() for what in ("count", "size")
        )
        return pages * bytes_each


async def _schema_bytes(url: str) -> int:
    """Return what the tables of a schema take, with their indexes and what is kept beside them."""
    from reprise.stores.postgres.driver import connect as reach  # noqa: PLC0415  an extra

    dsn, _, schema = url.rpartition("&schema=")
    connection = await reach(dsn, {}, 30)
    try:
        return await connection.fetchval(
            "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relkind IN ('r', 'm')",
            schema,
        )
    finally:
        await connection.close()


async def _empty(url: str, size_of: Callable[[str], Any]) -> int:
    store = open_store(url)
    await store.start()
    await store.stop()
    return await size_of(url)


async def _grow(
    name: str, url: str, keys: KeyRing | None, turns: int, size: int, size_of: Callable[[str], Any]
) -> tuple[tuple[str, ...], int]:
    """Let a run grow; return a row of the table and the bytes on disk."""
    async with Reprise(url, keys=keys, capture_logs=False) as app:
        began = process_time()
        assert await app.run(converse, turns, size, id="talk") == turns
        cpu = process_time() - began
        payloads = app.store.statistics()["payload_bytes"]
        blobs = (await app.store.blobs.stats())["bytes"]
    store = open_store(url, keys=keys)
    assert isinstance(store, PackedStore)
    await store.start()
    began = perf_counter()
    records = await store.log.read(run_stream("talk"))
    read = perf_counter() - began
    began = perf_counter()
    assert await store.verify() == []
    checked = perf_counter() - began
    assert sum(len(record.data) for record in records) >= int(payloads)
    await store.stop()
    held: int = await size_of(url)
    figures = (f"{int(payloads):,}", f"{held:,}", f"{blobs:,}", figure(cpu / turns * 1e3, 2))
    return (name, f"{turns:,}", *figures, figure(read * 1e3, 0), figure(checked * 1e3, 0)), held
