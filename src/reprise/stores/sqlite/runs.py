"""The port of the run index over one SQLite file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from reprise.kernel.query import EVERY, Query
from reprise.stores.runs import Line, RunFilter, RunRow, as_query, check_group, turn
from reprise.stores.searching import Asking, Plan, Search
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.meta import KeeperClock, stored
from reprise.stores.sqlite.readers import Readers, at_once
from reprise.stores.sqlite.run_rows import SQL, to_run_row
from reprise.stores.sqlite.statements import Statements
from reprise.stores.sqlite.terms import find_lines, slots_text
from reprise.stores.sqlite.writer import Transaction, Writer

Result = TypeVar("Result")


class SQLiteRuns:
    """Find runs by index; written by appends, in their transactions."""

    def __init__(self, writer: Writer, readers: Readers, clock: KeeperClock) -> None:
        self._writer = writer
        self._readers = readers
        self._clock = clock

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

    async def owners(self) -> list[str]:
        """Return the workers that own runs, sorted."""
        return await self._readers.read(lambda c: [name for (name,) in c.execute(SQL["owners"]).fetchall()])

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
        asker = _Asker(now, owner, workflows, build, shunned, limit)
        return await self._readers.read(at_once(lambda c: _due(c, asker, dead, lines)))

    async def lines(self) -> list[Line]:
        """Return the lines in which runs wait for places."""
        return await self._readers.read(
            at_once(lambda c: find_lines(c, self._clock.read(stored(c, "clock"))))
        )

    async def _answer(self, plan: Plan[Result]) -> Result:
        return await self._readers.read(at_once(lambda connection: _carry_out(connection, plan)))

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


class _Asker:
    """Who asks what is due: conditions on rows, and their parameters."""

    def __init__(
        self,
        now: int,
        owner: str,
        workflows: Sequence[str] | None,
        build: str | None,
        shunned: Sequence[str],
        limit: int,
    ) -> None:
        self.owner = owner
        self.limit = limit
        self.parameters: dict[str, Any] = {"now": now, "limit": limit, "owner": owner}
        self._clauses: list[str] = []
        if workflows is not None:
            self._clauses.append(SQL["of_workflows"])
            self.parameters["workflows"] = _json(workflows)
        if build is not None or shunned:
            self._clauses.append(SQL["of_builds"])
            self.parameters |= {"me": owner, "build": build, "shunned": _json(shunned)}

    def find(self, connection: Connection, *clauses: str, **parameters: Any) -> list[RunRow]:
        """Return the rows that fulfil the clauses (select, conditions …, order) and the asker's own."""
        *wanted, order = clauses
        text = "\n".join([*(SQL[name] for name in wanted), *self._clauses, SQL[order]])
        return [to_run_row(row) for row in connection.execute(text, self.parameters | parameters).fetchall()]


def _due(connection: Connection, asker: _Asker, dead: Sequence[str], lines: Sequence[Line]) -> list[RunRow]:
    found = asker.find(connection, "select", "due", "soonest")
    for worker in dict.fromkeys(dead):
        found += asker.find(connection, "select", "orphans", "soonest", owner=worker)
    in_line: list[RunRow] = []
    for line in sorted(lines, key=lambda line: line.oldest):
        if len(in_line) >= asker.limit:
            break
        text = slots_text(line.slots)
        in_line += asker.find(connection, "select_in_line", "abreast", slots=text, asked=line.asked)
    found += in_line
    return sorted({row.id: row for row in found}.values(), key=turn)[: asker.limit]


def _json(values: Sequence[str]) -> str:
    return msgspec.json.encode(values).decode()
