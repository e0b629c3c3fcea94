"""The port of the run index over one SQLite file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from reprise.kernel.query import EVERY, Query
from reprise.stores.runs import RunFilter, RunRow, as_query, check_group
from reprise.stores.searching import Asking, Plan, Search
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.readers import Readers
from reprise.stores.sqlite.run_rows import SQL, to_run_row
from reprise.stores.sqlite.statements import Statements
from reprise.stores.sqlite.writer import Transaction, Writer

Result = TypeVar("Result")


class SQLiteRuns:
    """Find runs by index; written by appends, in their transactions."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def find(
        self,
        where: RunFilter | Query = EVERY,
        *,
        limit: int = 50,
        before: str = "",
        newest_first: bool = True,
    ) -> list[RunRow]:
        """Return runs ordered by (created_at, id); ``before`` is the id after which the next page starts."""
        rows = await self._answer(_SEARCH.page(as_query(where), limit, before, newest_first=newest_first))
        return [to_run_row(tuple(row)) for row in rows]

    async def count(self, where: RunFilter | Query = EVERY, *, by: str = "status") -> dict[str, int]:
        """Count runs by a field or a tag; see the port."""
        return await self._answer(_SEARCH.count(as_query(where), check_group(by)))

    async def tags(self) -> list[str]:
        """Return the names of all tags that runs have, in order."""
        return await self._answer(_SEARCH.tags())

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

    async def _answer(self, plan: Plan[Result]) -> Result:
        return await self._readers.read(lambda connection: _carry_out(connection, plan))

    async def mark(self, run: str, due_at: int | None) -> None:
        """Set when somebody should look at a run; unknown ids are ignored."""

        def work(transaction: Transaction) -> None:
            transaction.ledger.runs.mark(run, due_at)

        await self._writer.submit(work)


def _carry_out(connection: Connection, plan: Plan[Result]) -> Result:
    asking = Asking(plan)
    while (statement := asking.wants()) is not None:
        asking.tell(connection.execute(statement.text, statement.values).fetchall())
    return asking.result


def _phrase(words: Sequence[str], prefix: bool) -> str:
    """Write words as FTS5 is asked for them; there is nothing in them that it would take for anything else."""
    return f'"{" ".join(words)}"' + ("*" if prefix else "")


_SEARCH = Search(Statements("search.sql"), _phrase)


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
