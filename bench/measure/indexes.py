"""Fill the index of runs in bulk, past the keeper's own way, and say what its tables and indexes take."""

from __future__ import annotations

import json
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from bench.measure.runs import Run, runs
from reprise.kernel.tags import comparable
from reprise.stores.postgres.driver import connect as reach
from reprise.stores.postgres.found_by import exact_number, word_places
from reprise.stores.sqlite import database
from reprise.stores.sqlite.rows import joined_words, sealed

BATCH = 20_000
TABLES = ("runs", "run_tags", "run_errors")


def row_of(run: Run) -> tuple[Any, ...]:
    """Return the columns of a run but its checksum."""
    tags = json.dumps(run.tags, separators=(",", ":"), sort_keys=True)
    changed = run.created_at + 60_000_000
    return (run.id, run.workflow, run.status, run.created_at, changed, run.parent, run.owner, run.due_at, "v7", tags,
            run.error, int(run.status != "waiting"), 0, 0, "")  # fmt: skip


# ---------------------------------------------------------------- SQLite


def fill_sqlite(path: Path, count: int) -> None:
    """Write runs into a new file of the newest schema; indexes are made at the end."""
    connection: Any = database.connect(f"file:{path}?mode=rwc")
    with closing(connection):
        database.upgrade(connection, path)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -500000")
        connection.execute("BEGIN")
        wanted = (
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql <> '' AND tbl_name LIKE 'run%'"
        )
        indexes = connection.execute(wanted).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        made = runs(count)
        while batch := list(islice(made, BATCH)):
            _insert(connection, batch)
        for _, sql in indexes:
            connection.execute(sql)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _insert(connection: Any, batch: list[Run]) -> None:
    connection.executemany(
        "INSERT INTO runs (id, workflow, status, created_at, updated_at, parent, owner, due_at, build, tags, error, ended,"
        " since, generation, warning, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [sealed(row_of(run)) for run in batch],
    )
    (last,) = connection.execute("SELECT ifnull(max(id), 0) FROM streams").fetchone()
    connection.executemany(
        "INSERT INTO streams VALUES (?, ?, 0, 1, 0, ?)",
        [
            (*row[:2], row[-1])
            for row in (sealed((last + n, f"run/{run.id}", 0, 1, 0)) for n, run in enumerate(batch, 1))
        ],
    )
    connection.executemany(
        "INSERT INTO run_tags (run, name, value, created_at) VALUES (?, ?, ?, ?)",
        [
            (run.id, name, comparable(value), run.created_at)
            for run in batch
            for name, value in run.tags.items()
        ],
    )
    for run in batch:
        if run.error:
            told = "INSERT INTO run_errors (run, created_at) VALUES (?, ?) RETURNING number"
            ((number,),) = connection.execute(told, (run.id, run.created_at)).fetchall()
            words = joined_words(run.error)
            connection.execute("INSERT INTO error_words (rowid, words) VALUES (?, ?)", (number, words))


def sizes_sqlite(path: Path) -> dict[str, int]:
    """Return the bytes of each table and index of runs."""
    wanted = (
        "SELECT name, sum(pgsize) FROM dbstat WHERE name LIKE 'run%' OR name LIKE 'error_words%'"
        " OR name LIKE '%run_errors%' GROUP BY name"
    )
    with closing(database.connect(f"file:{path}?mode=ro")) as connection:
        return dict(connection.execute(wanted).fetchall())


# ---------------------------------------------------------------- PostgreSQL


async def fill_postgres(url: str, schema: str, count: int) -> None:
    """Write runs into the empty tables of a schema."""
    connection: Any = await reach(url, {"search_path": schema}, 600)
    columns = ("id workflow status created_at updated_at parent owner due_at build tags error ended since generation"
               " warning").split()  # fmt: skip
    wanted = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename LIKE 'run%' AND indexdef NOT LIKE '%UNIQUE%'"
    indexes = await connection.fetch(wanted, schema)
    for name, _ in indexes:
        await connection.execute(f"DROP INDEX {name}")
    made = runs(count)
    while batch := list(islice(made, BATCH)):
        rows = [(*row[:11], bool(row[11]), *row[12:]) for row in map(row_of, batch)]
        await connection.copy_records_to_table("runs", records=rows, columns=columns)
        heads = [(f"run/{run.id}", 0, 1, False) for run in batch]
        await connection.copy_records_to_table(
            "streams", records=heads, columns=["name", "version", "token", "closed"]
        )
        await connection.copy_records_to_table("run_tags", records=_tag_rows(batch))
        errors = [(run.id, run.created_at, word_places(run.error)) for run in batch if run.error]
        await connection.executemany("INSERT INTO run_errors VALUES ($1, $2, $3::text::tsvector)", errors)
    for _, definition in indexes:
        await connection.execute(definition)
    # As autovacuum does within minutes: figures are those of tables that were left alone for a while.
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def _tag_rows(batch: list[Run]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for run in batch:
        for name, tag in run.tags.items():
            value = comparable(tag)
            typed = (value, None) if isinstance(value, str) else (None, exact_number(value))
            rows.append((run.id, name, *typed, run.created_at))
    return rows


async def sizes_postgres(url: str, schema: str) -> dict[str, int]:
    """Return the bytes of each table and index of runs."""
    connection: Any = await reach(url, {"search_path": schema}, 600)
    found: dict[str, int] = {}
    for table in TABLES:
        found[table] = await connection.fetchval("SELECT pg_table_size($1::text::regclass)", table)
        named = "SELECT indexrelid::regclass::text AS name, pg_relation_size(indexrelid) AS size FROM pg_index WHERE indrelid = $1::text::regclass"
        found |= {row["name"]: row["size"] for row in await connection.fetch(named, table)}
    await connection.close()
    return found
