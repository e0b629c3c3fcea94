"""The index of runs in PostgreSQL; written by appends, in their transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from reprise.kernel.errors import ConfigurationError
from reprise.stores.postgres.connections import Pool
from reprise.stores.postgres.driver import Row
from reprise.stores.postgres.statements import numbered, statements
from reprise.stores.runs import RunFilter, RunRow

SQL = statements("runs.sql")

EVERY_RUN = RunFilter()

_decode_tags = msgspec.json.Decoder(dict[str, str]).decode


class PostgresRuns:
    """Find runs by index."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(
        self, where: RunFilter = EVERY_RUN, *, limit: int = 50, before: str = "", newest_first: bool = True
    ) -> list[RunRow]:
        """Return runs ordered by (created_at, id); ``before`` is the id after which the next page starts."""
        clauses, values = _conditions(where)
        values |= {"limit": limit, "before": before}
        if before:
            clauses.append(SQL["where_older" if newest_first else "where_newer"])
        if where.status:
            clauses.append(SQL["where_each"])
        select = SQL["select_tagged" if where.tags else "select"]
        page = "\n".join([select, *clauses, f"ORDER BY {_order('t' if where.tags else 'r', newest_first)}"])
        query = f"{page} LIMIT :limit"
        if where.status:
            each = SQL["each_status"].replace("/* page */", query)
            query = each.replace("/* order */", _order("page", newest_first))
        return [_to_run(row) for row in await self._fetch(query, values)]

    async def count(self, where: RunFilter = EVERY_RUN, *, by: str = "status") -> dict[str, int]:
        """Count runs by ``status``, ``workflow`` or ``owner`` ('' for none); raises ``ConfigurationError`` for others."""
        if by not in ("status", "workflow", "owner"):
            raise ConfigurationError(
                f"Runs cannot be counted by {by!r}.", hint="Use status, workflow or owner."
            )
        clauses, values = _conditions(where)
        if where.tags:
            clauses.append(_where_tag(0))
        if where.status:
            clauses.append(SQL["where_status"])
        count = SQL["count"].replace("/* by */", by)
        rows = await self._fetch("\n".join([count, *clauses, SQL["group"]]), values)
        return {row["name"]: row["number"] for row in rows}

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

    async def _fetch(self, text: str, values: dict[str, Any]) -> Sequence[Row]:
        query, arguments = numbered(text, values)
        return await self._pool.run(lambda c: c.fetch(query, *arguments))


def _conditions(where: RunFilter) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions but those on the status and the first tag, and all their values."""
    clauses: list[str] = []
    values: dict[str, Any] = {"statuses": list(dict.fromkeys(where.status))}
    for field in ("prefix", "workflow", "parent", "owner", "created_after", "created_before"):
        value = getattr(where, field)
        if value:
            clauses.append(SQL[f"where_{field}"])
            values[field] = value
    for number, (name, value) in enumerate(where.tags.items()):
        values |= {f"tag{number}": name, f"value{number}": value}
        if number:
            clauses.append(_where_tag(number))
    return clauses, values


def _where_tag(number: int) -> str:
    return SQL["where_tag"].replace("/* n */", str(number))


def _order(table: str, newest_first: bool) -> str:
    id = "run" if table == "t" else "id"
    return (
        f"{table}.created_at DESC, {table}.{id} DESC" if newest_first else f"{table}.created_at, {table}.{id}"
    )


def _to_run(row: Row) -> RunRow:
    fields: dict[str, Any] = {name: row[name] for name in RunRow.__struct_fields__}
    fields |= {"tags": _decode_tags(row["tags"]), "token": row["token"] or 0}
    return RunRow(**fields)
