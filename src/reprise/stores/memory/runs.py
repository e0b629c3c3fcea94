"""The run index in memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from operator import itemgetter

from msgspec import UNSET
from msgspec.structs import replace

from reprise.kernel.events import run_stream
from reprise.kernel.limit import Slot
from reprise.kernel.query import EVERY, Is, Query, matcher, reader
from reprise.stores.conditions import NO_STREAM
from reprise.stores.log import Head, RunChange
from reprise.stores.memory.lease import MemoryLease
from reprise.stores.runs import (
    Line,
    RunFilter,
    RunRow,
    as_query,
    check_group,
    group_name,
    line_of,
    turn,
)


class MemoryRuns:
    """Rows by id, and the heads of the log for the token and the end of each run."""

    def __init__(self, heads: Mapping[str, Head], lease: MemoryLease) -> None:
        self.lease = lease
        self._heads = heads
        self._rows: dict[str, RunRow] = {}
        self._owned: dict[str, dict[str, None]] = {}
        """Ids by owner."""
        self._due: list[tuple[int, str]] = []
        """When runs are due, and their ids, in order."""
        self._lines: dict[tuple[Slot, ...], list[tuple[int, str]]] = {}
        """When runs that wait for places were made, and their ids, in order."""

    def apply(self, change: RunChange) -> None:
        """Write what an append says about a run."""
        row = self._rows.get(change.id)
        if row is None:
            if change.workflow is UNSET:
                return  # mail to a run that was dropped meanwhile
            row = RunRow(change.id, "", "pending", created_at=change.at, updated_at=change.at)
        fields = {name: value for name in _CHANGEABLE if (value := getattr(change, name)) is not UNSET}
        row = replace(row, updated_at=change.at, **fields)
        if row.in_line and row.owner is not None:
            row = replace(row, in_line=False)
        self._set(row)
        if row.slots and change.owner is None:
            self.seat(change.id, (), 0)

    def _set(self, row: RunRow) -> None:
        self._unlist(self._rows.get(row.id))
        self._rows[row.id] = row
        if row.owner is not None:
            self._owned.setdefault(row.owner, {})[row.id] = None
        if row.due_at is not None:
            insort(self._due, (row.due_at, row.id))
        if row.in_line:
            insort(self._lines.setdefault(row.slots, []), _age(row))

    def _unlist(self, row: RunRow | None) -> None:
        if row is None:
            return
        if row.owner is not None:
            del self._owned[row.owner][row.id]
            if not self._owned[row.owner]:
                del self._owned[row.owner]
        if row.due_at is not None:
            del self._due[bisect_left(self._due, (row.due_at, row.id))]
        if row.in_line:
            line = self._lines[row.slots]
            del line[bisect_left(line, _age(row))]
            if not line:
                del self._lines[row.slots]

    def seat(self, run: str, slots: Sequence[Slot], token: int) -> None:
        """Let a run have places; with none it gives back those that do not end by themselves."""
        for slot in slots:
            if self.lease.others(slot.lease, run) is not None:
                self.lease.seat(slot.lease, run, token, slot.period)
        row = self._rows.get(run)
        for slot in row.slots if row is not None and not slots else ():
            if not slot.period:
                self.lease.unseat(slot.lease, run)

    def end(self, run: str) -> None:
        """Note that a run has ended: nobody will take it any more."""
        row = self._rows.get(run)
        if row is not None and (row.slots or row.refused or row.pinned):
            self.seat(run, (), 0)
            self._set(replace(row, slots=(), in_line=False, refused=(), pinned=""))

    def forget(self, run: str) -> None:
        """Remove a run's row, if there is one."""
        self.seat(run, (), 0)
        self._unlist(self._rows.pop(run, None))

    async def find(
        self,
        where: RunFilter | Query = EVERY,
        *,
        limit: int = 50,
        before: str = "",
        newest_first: bool = True,
    ) -> list[RunRow]:
        """Return runs ordered by (created_at, id); ``before`` is the id after which the next page starts."""
        rows = self._matching(as_query(where))
        if before:
            last = self._rows.get(before)
            if last is None:
                return []
            edge = _age(last)
            rows = [row for row in rows if (_age(row) < edge if newest_first else _age(row) > edge)]
        rows.sort(key=_age, reverse=newest_first)
        return [self._with_token(row) for row in rows[:limit]]

    async def count(self, where: RunFilter | Query = EVERY, *, by: str = "status") -> dict[str, int]:
        """Count runs by a field or a tag; see the port."""
        read = reader(check_group(by))
        return dict(Counter(group_name(read(row)) for row in self._matching(as_query(where))))

    async def tags(self) -> list[str]:
        """Return the names of all tags that runs have, in order."""
        return sorted({name for row in self._rows.values() for name in row.tags})

    async def owners(self) -> list[str]:
        """Return the workers that own runs, sorted."""
        return sorted(self._owned)

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
        known = None if workflows is None else frozenset(workflows)
        by_builds = build is not None or bool(shunned)

        def may_go_on(row: RunRow) -> bool:
            if self._heads.get(run_stream(row.id), NO_STREAM).closed:
                return False
            if known is not None and row.workflow not in known:
                return False
            if row.owner == owner:
                return True
            is_others = bool(row.pinned) and by_builds and row.pinned != build
            return not is_others and build not in row.refused and row.build not in shunned

        rows = self._rows
        left = [rows[id] for worker in dead for id in self._owned.get(worker, ())]
        passed = self._due[: bisect_right(self._due, now, key=itemgetter(0))]
        due = [row for _, id in passed if (row := rows[id]).owner in (None, owner)]
        found = {row.id: row for row in filter(may_go_on, [*left, *due])}
        for line in lines:
            waiting = filter(may_go_on, (rows[id] for _, id in self._lines.get(line.slots, ())))
            found |= {row.id: row for row in islice(waiting, line.asked)}
        return [self._with_token(row) for row in sorted(found.values(), key=turn)[:limit]]

    async def lines(self) -> list[Line]:
        """Return the lines in which runs wait for places."""
        return [line_of(slots, line[0][0], self.lease.fill) for slots, line in self._lines.items()]

    async def mark(self, run: str, due_at: int | None) -> None:
        """Set when somebody should look at a run; unknown ids are ignored."""
        row = self._rows.get(run)
        if row is not None:
            self._set(replace(row, due_at=due_at))

    def _matching(self, query: Query) -> list[RunRow]:
        matches = matcher(query)
        if isinstance(query, Is) and query.field == "id":
            row = self._rows.get(str(query.value))
            return [row] if row is not None else []
        return [row for row in self._rows.values() if matches(row)]

    def _with_token(self, row: RunRow) -> RunRow:
        return replace(row, token=self._heads.get(run_stream(row.id), NO_STREAM).token)


_CHANGEABLE = tuple(field for field in RunChange.__struct_fields__ if field not in ("id", "at"))


def _age(row: RunRow) -> tuple[int, str]:
    return row.created_at, row.id
