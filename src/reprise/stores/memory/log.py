"""The log in memory: applied at once, answered on the next turn of the loop."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter

from reprise.kernel.errors import AppendRefused, StoreClosed
from reprise.kernel.events import Record, run_stream
from reprise.stores.conditions import NO_STREAM, admit, check_room, floor_of, is_plain
from reprise.stores.log import Append, Group, Head, answer
from reprise.stores.memory.blobs import MemoryBlobs
from reprise.stores.memory.lease import MemoryLease
from reprise.stores.memory.runs import MemoryRuns

_position = attrgetter("position")


class MemoryLog:
    """Records in one list of all and one list per stream."""

    def __init__(self, lease: MemoryLease) -> None:
        self.heads: dict[str, Head] = {}
        self.runs = MemoryRuns(self.heads, lease)
        self.blobs = MemoryBlobs()
        self.closed = False
        self.epoch = self._floor = 0
        self.counters = {"appends": 0, "commits": 0, "refused": 0}
        self._all: list[Record] = []
        self._streams: dict[str, list[Record]] = {}
        self._gone: set[int] = set()
        """Positions in ``_all`` of deleted records, until there are enough of them to be worth a new list."""
        self._end = 0
        self._answers: list[Append] = []
        self._scheduled = False
        """Whether the next turn of the loop answers."""

    def submit(self, appends: Sequence[Append]) -> None:
        """Apply appends now; call ``done`` of each, in order, on the next turn of the loop.

        Never calls ``done`` itself, so the caller need not be ready for answers before it returns. After ``stop`` the
        answer is ``StoreClosed``.
        """
        for append in appends:
            self._apply(append)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._answer)
        self._answers.extend(appends)

    def _apply(self, append: Append) -> None:
        if self.closed:
            append.error = StoreClosed("The store memory:// is closed.")
            return
        first = append.groups[0]
        head = self.heads.get(first.stream)
        if len(append.groups) == 1 and head is not None and is_plain(first, head, self._floor):
            version = self._add(first, append.id)
            self.heads[first.stream] = Head(version, head.token)
            append.versions = (version,)
            append.position = self._end
            self.counters["appends"] += 1
            return
        try:
            changed = admit(append, self.heads, self._floor)
            check_room(append, self.runs.lease.others)
        except AppendRefused as error:
            append.error = error
            self.counters["refused"] += 1
            return
        self.heads.update(changed)
        self._apply_admitted(append)
        self.counters["appends"] += 1

    def _apply_admitted(self, append: Append) -> None:
        before = self._end
        for group in append.groups:
            if group.events:
                version = self._add(group, append.id)
                if group.blobs:
                    self.blobs.keep(group.stream, version, group.blobs)
            if group.run is not None:
                self.runs.apply(group.run)
                if group.slots is not None:
                    self.runs.seat(group.run.id, group.slots, group.token)
                if group.closes:
                    self.runs.end(group.run.id)
        heads = self.heads
        append.versions = tuple([heads.get(g.stream, NO_STREAM).version for g in append.groups])
        if self._end != before:
            append.position = self._end

    def _add(self, group: Group, mark: int) -> int:
        """Add the records of a group that has some; return the version of the last."""
        stream, position = group.stream, self._end
        rows = self._streams.setdefault(stream, [])
        version = rows[-1].version if rows else 0
        for e in group.events:
            position += 1
            version += 1
            row = Record(position, stream, version, e.kind, e.at, e.key, e.data, e.print, e.took, mark)
            rows.append(row)
            self._all.append(row)
            mark = 0
        self._end = position
        return version

    def settle(self, appends: Sequence[Append], _alone: Callable[[], bool]) -> None:
        """Apply appends and answer now; for a caller that is ready for its answers before the next turn of the loop."""
        self.submit(appends)
        self._answer_all()

    def _answer(self) -> None:
        self._scheduled = False
        self._answer_all()

    def _answer_all(self) -> None:
        if self._answers:
            answers, self._answers = self._answers, []
            self.counters["commits"] += 1
            answer(answers)

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """Return a stream's records with version > ``after``, in order."""
        self._check_open()
        rows = self._streams.get(stream)
        if rows is None:
            return []
        start = max(0, after + 1 - rows[0].version)
        return rows[start : None if limit is None else start + limit]

    async def scan(self, after: int = 0, limit: int = 1000, prefix: str = "") -> list[Record]:
        """Return records of all streams (whose name starts with ``prefix``) with position > ``after``, in order."""
        self._check_open()
        start = bisect_right(self._all, after, key=_position)
        if not prefix and not self._gone:
            return self._all[start : start + limit]
        found: list[Record] = []
        for index in range(start, len(self._all)):
            if len(found) == limit:
                break
            row = self._all[index]
            if row.stream.startswith(prefix) and row.position not in self._gone:
                found.append(row)
        return found

    async def head(self, stream: str) -> Head:
        """Return the end of a stream."""
        self._check_open()
        return self.heads.get(stream, NO_STREAM)

    async def end(self) -> int:
        """Return the highest position given so far."""
        self._check_open()
        return self._end

    async def lookup(self, stream: str, append: int) -> int | None:
        """Return the version of the first record that append wrote in that stream, None if it wrote none."""
        self._check_open()
        for row in reversed(self._streams.get(stream, [])):
            if row.append == append:
                return row.version
        return None

    async def trim(self, stream: str, through: int) -> int:
        """Delete a stream's records up to version ``through``, but never its newest; return how many went."""
        self._check_open()
        rows = self._streams.get(stream)
        if rows is None:
            return 0
        gone = rows[: max(0, min(through + 1 - rows[0].version, len(rows) - 1))]
        del rows[: len(gone)]
        self._forget(gone)
        self.blobs.release(stream, rows[0].version - 1)
        return len(gone)

    async def drop(self, *streams: str) -> int:
        """Delete streams and their entries in the run index and references; return how many records went."""
        self._check_open()
        count = 0
        for name in dict.fromkeys(streams):
            gone = self._streams.pop(name, [])
            self.heads.pop(name, None)
            self._forget(gone)
            self.blobs.release(name)
            if name.startswith(run_stream("")):
                self.runs.forget(name.removeprefix(run_stream("")))
            count += len(gone)
        return count

    def begin_epoch(self, epoch: int) -> None:
        """Void older tokens, and go on with positions above all that were given."""
        self.epoch, self._floor = epoch, floor_of(epoch)
        self._end = max(self._end, self._floor)

    def _forget(self, rows: Sequence[Record]) -> None:
        """Take records out of the list of all; a new list for each few would cost as much as all there are."""
        self._gone.update([row.position for row in rows])
        if 2 * len(self._gone) >= len(self._all):
            self._all = [row for row in self._all if row.position not in self._gone]
            self._gone.clear()

    def statistics(self) -> dict[str, int | float | str]:
        """Return counters; ``records`` and ``bytes`` are those held now."""
        return {
            **self.counters,
            "records": len(self._all) - len(self._gone),
            "bytes": sum(len(row.data) for rows in self._streams.values() for row in rows),
            "streams": len(self._streams),
        }

    def _check_open(self) -> None:
        if self.closed:
            raise StoreClosed("The store memory:// is closed.")
