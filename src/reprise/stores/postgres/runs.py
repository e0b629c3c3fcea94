"""The index of runs in PostgreSQL; written by appends, in their transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from reprise.kernel.query import EVERY, Query
from reprise.kernel.tags import Tag
from reprise.stores.postgres.connections import Pool
from reprise.stores.postgres.driver import Connection, Row
from reprise.stores.postgres.found_by import decode_tags, exact_number
from reprise.stores.postgres.statements import numbered, statements
from reprise.stores.runs import RunFilter, RunRow, as_query, check_group
from reprise.stores.searching import Asking, Plan, Search, Statement

Result = TypeVar("Result")

SQL = statements("runs.sql")


class PostgresRuns:
    """Find runs by index."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(
        self,
        where: RunFilter | Query = EVERY,
        *,
        limit: int = 50,
        before: str = "",
        newest_first: bool = True,
    ) -> list[RunRow]:
        """Return runs ordered by (created_at, id); ``before`` is the id after which the next page starts."""
        query = as_query(where)
        rows = await self._answer(lambda: _SEARCH.page(query, limit, before, newest_first=newest_first))
        return [_to_run(dict(zip(RunRow.__struct_fields__, row, strict=True))) for row in rows]

    async def count(self, where: RunFilter | Query = EVERY, *, by: str = "status") -> dict[str, int]:
        """Count runs by a field or a tag; see the port."""
        query, group = as_query(where), check_group(by)
        return await self._answer(lambda: _SEARCH.count(query, group))

    async def tags(self) -> list[str]:
        """Return the names of all tags that runs have, in order."""
        return await self._answer(_SEARCH.tags)

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
        known = None if workflows is None else list(workflows)
        values: dict[str, Any] = {"now": now, "owner": owner, "workflows": known, "limit": limit}
        found = list(await self._fetch(f"{SQL['select']} {SQL['due']}", values))
        if dead:
            values["dead"] = list(dead)
            found += await self._fetch(f"{SQL['select']} {SQL['orphans']}", values)
        rows = {row["id"]: _to_run(row) for row in found}
        return sorted(rows.values(), key=lambda row: (row.due_at or 0, row.id))[:limit]

    async def mark(self, run: str, due_at: int | None) -> None:
        """Set when somebody should look at a run; unknown ids are ignored."""
        await self._pool.run(lambda c: c.execute(SQL["mark"], run, due_at))

    async def _answer(self, make_plan: Callable[[], Plan[Result]]) -> Result:
        return await self._pool.run(lambda connection: _carry_out(connection, make_plan()))

    async def _fetch(self, text: str, values: dict[str, Any]) -> Sequence[Row]:
        query, arguments = numbered(text, values)
        return await self._pool.run(lambda c: c.fetch(query, *arguments))


async def _carry_out(connection: Connection, plan: Plan[Result]) -> Result:
    """Execute a plan; statements that must go as they are written share a transaction in which the planner is steered."""
    asking = Asking(plan)
    while (statement := asking.wants()) is not None:
        if not statement.is_walk:
            asking.tell(await _rows(connection, statement))
            continue
        async with connection.transaction():
            await connection.execute(_STATEMENTS["steer"])
            while (statement := asking.wants()) is not None and statement.is_walk:
                asking.tell(await _rows(connection, statement))
    return asking.result


async def _rows(connection: Connection, statement: Statement) -> list[tuple[Any, ...]]:
    values = {
        name: exact_number(value) if isinstance(value, float) else value
        for name, value in statement.values.items()
    }
    query, arguments = numbered(statement.text, values)
    return [tuple(row.values()) for row in await connection.fetch(query, *arguments)]


def _phrase(found: Sequence[str], prefix: bool) -> str:
    """Write words as a ``tsquery``; there is nothing in them that it would take for anything else."""
    return " <-> ".join(f"'{word}'" for word in found) + (":*" if prefix else "")


def _read_tag(value: str | None) -> Tag | None:
    return None if value is None else msgspec.json.decode(value)


_STATEMENTS = statements("search.sql")
_SEARCH = Search(_STATEMENTS, _phrase, _read_tag)


def _to_run(row: Row) -> RunRow:
    fields: dict[str, Any] = {name: row[name] for name in RunRow.__struct_fields__}
    fields |= {"tags": decode_tags(row["tags"]), "token": row["token"] or 0}
    return RunRow(**fields)
