"""The port of the run index over one SQLite file."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import msgspec

from reprise.kernel.errors import ConfigurationError
from reprise.stores.runs import RunFilter, RunRow
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.readers import Readers
from reprise.stores.sqlite.run_rows import SQL, to_run_row
from reprise.stores.sqlite.writer import Transaction, Writer

EVERY_RUN = RunFilter()


class SQLiteRuns:
    """Find runs by index; written by appends, in their transactions."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def find(
        self, where: RunFilter = EVERY_RUN, *, limit: int = 50, before: str = "", newest_first: bool = True
    ) -> list[RunRow]:
        """Return runs ordered by (created_at, id); ``before`` is the id after which the next page starts."""
        return await self._readers.read(lambda c: _find(c, where, limit, before, newest_first))

    async def count(self, where: RunFilter = EVERY_RUN, *, by: str = "status") -> dict[str, int]:
        """Count runs by ``status``, ``workflow`` or ``owner`` ('' for none); raises ``ConfigurationError`` for others."""
        if by not in ("status", "workflow", "owner"):
            raise ConfigurationError(
                f"Runs cannot be counted by {by!r}.", hint="Use status, workflow or owner."
            )
        return await self._readers.read(lambda c: _count(c, where, by))

    async def due(
        self,
        now: int,
        *,
        owner: str,
        dead: Sequence[str] = (),
        workflows: Sequence[str] | None = None,
        limit: int = 100,
    ) -> list[RunRow]:
        """Return runs that a worker may act on, oldest due first; see the port."""
        return await self._readers.read(lambda c: _due(c, now, owner, dead, workflows, limit))

    async def mark(self, run: str, due_at: int | None) -> None:
        """Set when somebody should look at a run; unknown ids are ignored."""

        def work(transaction: Transaction) -> None:
            transaction.ledger.runs.mark(run, due_at)

        await self._writer.submit(work)


def _find(
    connection: Connection, where: RunFilter, limit: int, before: str, newest_first: bool
) -> list[RunRow]:
    clauses, parameters = _conditions(where)
    parameters |= {"limit": limit, "before": before}
    if before:
        clauses.append(SQL["where_older" if newest_first else "where_newer"])
    kind = "_tagged" if where.tags else "_prefix" if where.prefix else ""
    order = ("newest" if newest_first else "oldest") + "_first" + kind
    select = SQL["select_tagged" if where.tags else "select"]
    # One status at a time: each is a walk of the index in the order asked for, where IN (…) would sort all.
    pages: list[list[RunRow]] = []
    for status in dict.fromkeys(where.status) or (None,):
        condition = [] if status is None else [SQL["where_status"]]
        text = "\n".join([select, *condition, *clauses, SQL[order]])
        rows = connection.execute(text, parameters | {"status": status}).fetchall()
        pages.append([to_run_row(row) for row in rows])
    merged = heapq.merge(*pages, key=lambda row: (row.created_at, row.id), reverse=newest_first)
    return [row for row, _ in zip(merged, range(limit), strict=False)]


def _count(connection: Connection, where: RunFilter, by: str) -> dict[str, int]:
    clauses, parameters = _conditions(where)
    counts: dict[str, int] = {}
    for status in dict.fromkeys(where.status) or (None,):
        condition = [] if status is None else [SQL["where_status"]]
        tag = [_where_tag(0)] if where.tags else []
        text = "\n".join([SQL[f"count_{by}"], *condition, *clauses, *tag, SQL["group"]])
        for name, number in connection.execute(text, parameters | {"status": status}).fetchall():
            counts[name] = counts.get(name, 0) + number
    return counts


def _due(
    connection: Connection,
    now: int,
    owner: str,
    dead: Sequence[str],
    workflows: Sequence[str] | None,
    limit: int,
) -> list[RunRow]:
    names = None if workflows is None else msgspec.json.encode(workflows).decode()
    parameters: dict[str, Any] = {"now": now, "limit": limit, "owner": owner, "workflows": names}
    found = connection.execute(f"{SQL['select']} {SQL['due']}", parameters).fetchall()
    for worker in dict.fromkeys(dead):
        orphans = f"{SQL['select']} {SQL['orphans']}"
        found += connection.execute(orphans, parameters | {"owner": worker}).fetchall()
    rows = {row[0]: to_run_row(row) for row in found}
    return sorted(rows.values(), key=lambda row: (row.due_at or 0, row.id))[:limit]


def _conditions(where: RunFilter) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions but that on the status, and their parameters; the first tag is not a condition."""
    clauses: list[str] = []
    parameters: dict[str, Any] = {}
    for field in ("prefix", "workflow", "parent", "owner", "created_after", "created_before"):
        value = getattr(where, field)
        if value:
            clauses.append(SQL[f"where_{field}"])
            parameters[field] = value
    for number, (name, value) in enumerate(where.tags.items()):
        parameters |= {f"tag{number}": name, f"value{number}": value}
        if number:
            clauses.append(_where_tag(number))
    return clauses, parameters


def _where_tag(number: int) -> str:
    return SQL["where_tag"].replace("/* n */", str(number))
