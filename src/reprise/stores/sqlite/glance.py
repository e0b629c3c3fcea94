"""A quick look into a store's file, for completion: read-only, synchronous, bounded in time, without the store's machinery.

It imports nothing of ours, and what it cannot find out in time is left out. Whatever is wrong with the file, the answer
is that nothing was found.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from time import perf_counter
from urllib.parse import quote

LOOK = 0.04
"""Seconds that one look may take."""
MOST = 50
"""Answers that are given."""

_NEWEST = "SELECT id FROM runs INDEXED BY runs_by_age WHERE parent IS NULL ORDER BY created_at DESC, id DESC"
_BY_ID = "SELECT id FROM runs WHERE id >= :low AND id < :high AND parent IS NULL ORDER BY id"
_BY_STATE = """
SELECT id FROM runs INDEXED BY runs_by_status WHERE status = :state AND id >= :low AND id < :high AND parent IS NULL
ORDER BY created_at DESC, id DESC
"""
# From each value a jump to the next one, by the index; :low and :high bound what it begins with.
_DISTINCT = """
WITH RECURSIVE found (value) AS (
    SELECT min({column}) FROM {table} WHERE {where} {column} >= :low AND {column} < :high
    UNION ALL
    SELECT (SELECT min({column}) FROM {table} WHERE {where} {column} > f.value AND {column} < :high)
    FROM found f WHERE f.value IS NOT NULL
)
SELECT value FROM found WHERE value IS NOT NULL
"""


def runs(path: Path, prefix: str = "", states: Sequence[str] = ()) -> list[str]:
    """Return ids of runs that nobody started but a caller, in some states (none = any): the newest, or by prefix."""
    bounds = _bounds(prefix)
    if states:
        return _look(path, [(_BY_STATE, bounds | {"state": state}) for state in states])
    return _look(path, [(_BY_ID if prefix else _NEWEST, bounds)])


def workflows(path: Path, prefix: str = "") -> list[str]:
    """Return names of workflows that begin so."""
    return _distinct(path, "runs", "workflow", prefix)


def tags(path: Path, prefix: str = "") -> list[str]:
    """Return names of tags that begin so."""
    return _distinct(path, "run_tags", "name", prefix)


def tag_values(path: Path, name: str, prefix: str = "") -> list[str]:
    """Return texts that a tag has and that begin so."""
    return _distinct(path, "run_tags", "value", prefix, "name = :name AND", name)


def _distinct(path: Path, table: str, column: str, prefix: str, where: str = "", name: str = "") -> list[str]:
    statement = _DISTINCT.format(table=table, column=column, where=where)
    return _look(path, [(statement, _bounds(prefix) | {"name": name})])


def _bounds(prefix: str) -> dict[str, str]:
    return {"low": prefix, "high": f"{prefix}\U0010ffff"}


def _look(path: Path, questions: Iterable[tuple[str, dict[str, str]]]) -> list[str]:
    """Return the first column of what statements find, as far as it is found in time."""
    found: list[str] = []
    until = perf_counter() + LOOK
    try:
        address = f"file:{quote(str(path.absolute()))}?mode=ro"
        with closing(sqlite3.connect(address, timeout=0, uri=True, isolation_level=None)) as connection:
            connection.execute("PRAGMA query_only = 1")
            connection.set_progress_handler(lambda: perf_counter() > until, 1000)
            for statement, values in questions:
                found += [str(row[0]) for row in islice(connection.execute(statement, values), MOST)]
    except (sqlite3.Error, OSError, UnicodeError):
        pass  # too late, locked, or none of ours: what was found is all there is
    return found[:MOST]
