"""The index of runs in PostgreSQL; written by appends, in their transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from reprise.kernel.limit import Slot
from reprise.kernel.query import EVERY, Query
from reprise.kernel.tags import Tag
from reprise.stores.postgres.connections import Pool
from reprise.stores.postgres.driver import Connection, Row
from reprise.stores.postgres.found_by import decode_tags, exact_number
from reprise.stores.postgres.statements import numbered, statements
from reprise.stores.runs import Line, RunFilter, RunRow, as_query, check_group, line_of, turn
from reprise.stores.searching import Asking, Plan, Search, Statement

Result = TypeVar("Result")

SQL = statements("runs.sql")

_decode_slots = msgspec.json.Decoder(tuple[Slot, ...]).decode
_decode_builds = msgspec.json.Decoder(tuple[str, ...]).decode

STEERED = MappingProxyType(
    {
        "join_collapse_limit": "1",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "enable_sort": "off",
        "enable_material": "off",
        "max_parallel_workers_per_gather": "0",
        "jit": "off",
        "plan_cache_mode": "force_custom_plan",
    }
)
"""Settings that keep the server's planner to what is written: the source first, by an index and in its order."""

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_STEER = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in STEERED.items())
_LET_GO = "; ".join(f"SET LOCAL {name} TO DEFAULT" for name in STEERED)


class PostgresRuns:
    """Find runs by index."""

    def __init__(self, pool: Pool, walks: Pool) -> None:
        self._pool = pool
        self._walks = walks

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
        page = partial(_SEARCH.page, query, limit, before, newest_first=newest_first)
        rows = await self._answer(page)
        return [_to_run(dict(zip(RunRow.__struct_fields__, row, strict=True))) for row in rows]

    async def count(self, where: RunFilter | Query = EVERY, *, by: str = "status") -> dict[str, int]:
        """Count runs by a field or a tag; see the port."""
        query, group = as_query(where), check_group(by)
        return await self._answer(partial(_SEARCH.count, query, group))

    async def tags(self) -> list[str]:
        """Return the names of all tags that runs have, in order."""
        return await self._answer(_SEARCH.tags)

    async def owners(self) -> list[str]:
        """Return the workers that own runs, sorted."""
        return [row["name"] for row in await self._fetch(SQL["owners"], {})]

    async def due(
        self,
        now: int,
        *,
        owner: str,
        dead: Sequence[str] = (),
        workflows: Sequence[str] | None = None,
        build: str | None = None,
        shunned: Sequence[str] = (),
        lines: Sequence[Line] = (),
        limit: int = 100,
    ) -> list[RunRow]:
        """Return runs that a worker may act on, oldest first; see the port."""
        values: dict[str, Any] = {"now": now, "owner": owner, "limit": limit}
        clauses: list[str] = []
        if workflows is not None:
            clauses.append(SQL["of_workflows"])
            values["workflows"] = list(workflows)
        if build is not None or shunned:
            clauses.append(SQL["of_builds"])
            values |= {"build": build or "", "shunned": list(shunned)}
        reasons = [_query("select", "due", clauses, "soonest")]
        if dead:
            values["dead"] = list(dead)
            reasons.append(_query("select", "orphans", clauses, "longest_left"))
        if lines:
            values |= {
                "asked": [line.asked for line in lines],
                "lines": [msgspec.json.encode(line.slots).decode() for line in lines],
            }
            page = _query("select_in_line", "", clauses, "abreast")
            reasons.append(SQL["each_line"].replace("/* page */", page))
        # One statement: a run may go from one of these reasons to another.
        found = await self._fetch("(" + ")\nUNION ALL (".join(reasons) + ")", values)
        rows = {row["id"]: _to_run(row) for row in found}
        return sorted(rows.values(), key=turn)[:limit]

    async def lines(self) -> list[Line]:
        """Return the lines in which runs wait for places."""
        waiting = [
            (_decode_slots(row["slots"]), row["created_at"]) for row in await self._fetch(SQL["lines"], {})
        ]
        if not waiting:
            return []
        leases = list({slot.lease for slots, _ in waiting for slot in slots})
        fills = {row["name"]: row for row in await self._fetch(SQL["fills"], {"leases": leases})}

        def fill(lease: str) -> tuple[int, int]:
            row = fills.get(lease)
            return (0, 0) if row is None else (row["taken"], row["free_in"])

        return [line_of(slots, oldest, fill) for slots, oldest in waiting]

    async def mark(self, run: str, due_at: int | None) -> None:
        """Set when somebody should look at a run; unknown ids are ignored."""
        await self._pool.run(lambda c: c.execute(SQL["mark"], run, due_at))

    async def _answer(self, plan: Callable[[], Plan[Result]]) -> Result:
        """Carry out a plan; what must go as it is written goes over connections on which the planner is steered."""
        asking = Asking(plan())
        statement = asking.wants()
        if statement is None or not statement.is_alone:
            return await self._walks.run(partial(_carry_out, plan))
        pool = self._walks if statement.is_walk else self._pool
        asking.tell(await pool.run(partial(_rows, statement)))
        return asking.result

    async def _fetch(self, text: str, values: dict[str, Any]) -> Sequence[Row]:
        query, arguments = numbered(text, values)
        return await self._pool.run(lambda c: c.fetch(query, *arguments))


def _query(select: str, condition: str, clauses: Sequence[str], order: str) -> str:
    return "\n".join([SQL[select], *([SQL[condition]] if condition else []), *clauses, SQL[order]])


async def _carry_out(plan: Callable[[], Plan[Result]], connection: Connection) -> Result:
    """Carry out a plan as of one moment, on a connection on which the planner is steered."""
    asking, is_steered = Asking(plan()), True
    await connection.execute(_BEGIN)
    while (statement := asking.wants()) is not None:
        if statement.is_walk != is_steered:
            is_steered = statement.is_walk
            await connection.execute(_STEER if is_steered else _LET_GO)
        asking.tell(await _rows(statement, connection))
    await connection.execute("COMMIT")
    return asking.result


async def _rows(statement: Statement, connection: Connection) -> list[tuple[Any, ...]]:
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


_SEARCH = Search(statements("search.sql"), _phrase, _read_tag)


def _to_run(row: Row) -> RunRow:
    fields: dict[str, Any] = {name: row[name] for name in RunRow.__struct_fields__}
    fields |= {"tags": decode_tags(row["tags"]), "token": row["token"] or 0}
    fields |= {
        "slots": _decode_slots(row["slots"] or "[]"),
        "refused": _decode_builds(row["refused"] or "[]"),
        "pinned": row["pinned"] or "",
    }
    fields["in_line"] = bool(row["in_line"])
    return RunRow(**fields)
