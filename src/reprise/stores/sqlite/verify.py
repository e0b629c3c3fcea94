"""Check a whole file: every row against its checksum, every stream against its head, and SQLite's own structures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from reprise.stores.blobs import hash_of, referred
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.readers import at_once
from reprise.stores.sqlite.rows import is_sealed
from reprise.stores.sqlite.statements import Statements
from reprise.stores.sqlite.terms import under_seal

SQL = Statements("verify.sql")

MOST_PROBLEMS = 1000
"""A file that is worse is not described further."""
_PAGE = 1000
_FEW = 20
"""Blobs, and cells, read at once; each may be large."""

_TABLES = {"streams": 1, "trims": 0, "runs": 0, "terms": 0, "leases": 0, "tasks": 2, "lines": 0, "spaces": 0}
"""Tables and the column by which a person knows a row."""


def find_problems(connection: Connection) -> list[str]:
    """Return what is wrong with a file, in words; empty = sound.

    Reads page by page, so that no long transaction keeps the write-ahead log from being used again; what other
    processes write meanwhile is checked or not, and is no problem.
    """
    problems: list[str] = []
    for problem in _problems(connection):
        problems.append(problem)
        if len(problems) == MOST_PROBLEMS:
            problems.append("… and more")
            break
    return problems


def _problems(connection: Connection) -> Iterator[str]:
    for (line,) in connection.execute("PRAGMA quick_check").fetchall():
        if line != "ok":
            yield f"SQLite: {line}"
    yield from _check_records(connection)
    for table, name in _TABLES.items():
        for row in connection.execute(SQL[table]).fetchall():
            if not is_sealed(under_seal(row) if table == "terms" else row):
                yield f"The row of {row[name]} in the table {table} does not match its checksum."
    yield from _check_cells(connection)
    for stream, version, count, last, through in connection.execute(SQL["holes"]).fetchall():
        wanted = max(version, last or 0) - through
        yield f"The stream {stream} has {count} records up to version {last} and should have {wanted}."
    for (run,) in connection.execute(SQL["tags_without_run"]).fetchall():
        yield f"A tag names the run {run}, which has no row."
    yield from _check_blobs(connection)
    for (run,) in connection.execute(SQL["errors_without_run"]).fetchall():
        yield f"The index of errors names the run {run}, which has none."
    for (run,) in connection.execute(SQL["runs_without_error"]).fetchall():
        yield f"The error of the run {run} is not in the index of errors."
    for (run,) in connection.execute(SQL["terms_without_run"]).fetchall():
        yield f"There are terms for the run {run}, which has no row or has ended."


def _check_records(connection: Connection) -> Iterator[str]:
    position: int | None = 0
    while position is not None:
        # Of one moment: what a record refers to may go with it as soon as it was read.
        position, problems = at_once(partial(_check_page, after=position))(connection)
        yield from problems


def _check_page(connection: Connection, after: int) -> tuple[int | None, list[str]]:
    """Return the position of the last record of a page, None behind the last page, and what is wrong with the page."""
    rows: list[tuple[Any, ...]] = connection.execute(SQL["records"], (after, _PAGE)).fetchall()
    problems: list[str] = []
    for name, *columns in rows:
        record = f"The record at position {columns[0]}"
        if not is_sealed(tuple(columns)):
            problems.append(f"{record} (stream {name}) does not match its checksum.")
        elif name is None:
            problems.append(f"{record} belongs to no stream.")
        elif (hash := referred(columns[6])) is not None and not _refers(connection, hash, columns[1]):
            problems.append(f"{record} (stream {name}) refers to a blob that its stream does not have.")
    return (rows[-1][1] if rows else None), problems


def _check_cells(connection: Connection) -> Iterator[str]:
    for table, name in (("cells", 1), ("cell_changes", 2)):
        last = 0
        while rows := connection.execute(SQL[table], (last, _FEW)).fetchall():
            last = rows[-1][0]
            for _, *columns in rows:
                if not is_sealed(tuple(columns)):
                    yield f"The row of {columns[name]} in the table {table} does not match its checksum."
    for (space,) in connection.execute(SQL["lost_changes"]).fetchall():
        yield f"The feed of the cells {space} does not end where it should."


def _refers(connection: Connection, hash: bytes, stream: int) -> bool:
    wanted = {"hash": hash, "stream": stream}
    return connection.execute(SQL["refers"], wanted).fetchone() is not None


def _check_blobs(connection: Connection) -> Iterator[str]:
    last = 0
    while rows := connection.execute(SQL["blobs"], (last, _FEW)).fetchall():
        last = rows[-1][0]
        for _, hash, data in rows:
            if hash_of(data) != hash:
                yield f"The blob {hash.hex()[:16]} does not match its hash."
    for (stream,) in connection.execute(SQL["lost_blobs"]).fetchall():
        yield f"The stream {stream or '(unknown)'} refers to a blob that is not there."
    for query, what in (("lost_streams", "by a stream that is not there"), ("forgotten_blobs", "by nobody")):
        for (hash,) in connection.execute(SQL[query]).fetchall():
            yield f"The blob {hash.hex()[:16]} is kept {what}, and will never be collected."
