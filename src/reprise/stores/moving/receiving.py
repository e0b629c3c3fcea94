"""Write into a store what was recorded in another, or comes from an archive.

Streams get the same versions, times, values and ids of appends; positions are given anew, in the same order. Nobody
executes a run before its row is there, and that comes last. Histories are written under a token from the first record
on, for only what one owner writes is stored as differences.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from reprise.kernel.clock import Clock
from reprise.kernel.errors import StoreCorrupt
from reprise.kernel.events import RUN_STREAMS, Event, Record, run_stream
from reprise.kernel.ids import Counter
from reprise.kernel.machine import RUN, RunStatus
from reprise.stores.blobs import Blob, Blobs, referred
from reprise.stores.cells import Cell, Change
from reprise.stores.conditions import NO_STREAM, floor_of
from reprise.stores.log import Append, Group, Head, RunChange, enlist
from reprise.stores.moving.cells import ORIGIN, left_of, pieces
from reprise.stores.queue import Task
from reprise.stores.runs import RunRow
from reprise.stores.store import Store

KNOWN_STREAMS = 50_000
"""Heads kept in memory; beyond it all are forgotten and asked for again."""
FILLER = 0
"""Kind of the events that stand, for a moment, for what was trimmed away; no fact has it."""
_FILLERS = 1000
MOST_RECORDS = 1000
MOST_BYTES = 16 << 20
"""Bytes of payloads that are on their way at once, about."""
_FIELDS = tuple(
    field
    for field in RunChange.__struct_fields__
    if field in RunRow.__struct_fields__ and field not in ("id", "at")
)


class Receiver:
    """The writing end of a move."""

    def __init__(
        self, store: Store, clock: Clock, blobs: Blobs | None = None, *, is_empty: bool = False
    ) -> None:
        self.store = store
        self._is_ours = is_empty
        """Nothing is there but what was written here."""
        self._is_empty = is_empty
        """And of that all heads are remembered."""
        self._blobs = blobs
        self.written = 0
        """Records written; what was there already is not counted."""
        self._clock = clock
        self._numbers = Counter()
        self._heads: dict[str, Head] = {}
        self._space = ""
        self._cells: list[Cell] = []
        """Of that space, to be put together."""
        self._cells_bytes = 0

    async def heads(self, streams: Iterable[str]) -> Mapping[str, Head]:
        """Return where streams are."""
        if len(self._heads) > KNOWN_STREAMS:
            self._forget()
        unknown = [stream for stream in dict.fromkeys(streams) if stream not in self._heads]
        if self._is_empty:
            self._heads.update(dict.fromkeys(unknown, NO_STREAM))
        else:
            found = await asyncio.gather(*(self.store.log.head(stream) for stream in unknown))
            self._heads.update(zip(unknown, found, strict=True))
        return self._heads

    async def drop(self, *streams: str) -> None:
        """Delete streams that are not to be here any more."""
        await self.store.log.drop(*streams)
        for stream in streams:
            self._heads.pop(stream, None)

    def _forget(self) -> None:
        self._heads.clear()
        self._is_empty = False

    async def records(self, records: Sequence[Record]) -> None:
        """Write records that follow, in the order of a log, what was written before; leave out those that are there.

        Whole appends: a page must not end between two records of one.

        Raises ``StaleVersion``, ``StaleToken`` or ``StreamClosed`` when somebody else writes to these streams.
        """
        fresh = {record.stream for record in records} - self._heads.keys()
        heads = await self.heads(record.stream for record in records)
        missing = _behind_gaps(
            [record for record in records if record.version > heads[record.stream].version]
        )
        gaps = _gaps(missing, heads)
        for stream, version in gaps.items():
            await self._fill(stream, version)
        await self._write_whole(self._appends(missing))
        self.written += len(missing)
        begun = {record.stream for record in records if record.stream in fresh and record.version > 1}
        for stream in begun | gaps.keys():
            await self._trim(stream)

    async def _fill(self, stream: str, version: int) -> None:
        """Let a stream whose beginning was trimmed away begin at a version here too: with something to be trimmed."""
        head = self._heads[stream]
        if head.version and not self._is_ours:
            raise StoreCorrupt(
                f"The stream {stream} goes on at version {version} and is at {head.version} where it is written.",
                hint="It was dropped or trimmed while it was read: begin again, with an empty store.",
            )
        if head.version:  # what was written of it was trimmed away while it was read
            await self.drop(stream)
            self._heads[stream] = NO_STREAM
        filler = Event(FILLER, self._clock.now())
        for first in range(0, version - 1, _FILLERS):
            group = self._group(stream, [filler] * min(_FILLERS, version - 1 - first))
            await self._write([Append(self._numbers.new(), (group,))])

    async def _trim(self, stream: str) -> None:
        """Remove what was put before the beginning of a stream; also by a move that was interrupted."""
        through = 0
        while page := await self.store.log.read(stream, through, _FILLERS):
            fillers = [record for record in page if record.kind == FILLER]
            through = fillers[-1].version if fillers else through
            if len(fillers) < len(page):
                break
        if through:
            await self.store.log.trim(stream, through)

    def _appends(self, records: Sequence[Record]) -> list[Append]:
        """Return records as the appends that they once were."""
        made: list[tuple[int, list[tuple[str, list[Event]]]]] = []
        for record in records:
            # The first record of a group carries the append's id; where that one was trimmed away, the rest has none.
            begins = record.append or not made or record.stream != made[-1][1][-1][0]
            if not made or (begins and record.append != made[-1][0]):
                made.append((record.append, []))
            groups = made[-1][1]
            if begins:
                groups.append((record.stream, []))
            event = Event(record.kind, record.at, record.key, record.data, record.print, record.took)
            groups[-1][1].append(event)
        return [Append(id, tuple([self._group(*group) for group in groups])) for id, groups in made]

    def _group(self, stream: str, events: Sequence[Event]) -> Group:
        """Return the group that writes events where a stream is, and note where it is then."""
        head = self._heads[stream]
        owned = head.token or stream.startswith(RUN_STREAMS[0])
        token = max(head.token, floor_of(self.store.epoch), 1) if owned else 0
        self._heads[stream] = Head(head.version + len(events), token, head.closed)
        return Group(stream, events, head.version, token, takes=token > head.token)

    async def _write_whole(self, appends: Sequence[Append]) -> None:
        """Write appends with the blobs that they refer to, so many at once as may be in memory."""
        some: list[Append] = []
        size = 0
        for append in appends:
            for group in append.groups if self._blobs is not None else ():
                group.blobs = await self._blobs_of(group)
                size += sum(len(blob.data) for blob in group.blobs)
            some.append(append)
            if size > MOST_BYTES:
                await self._write(some)
                some, size = [], 0
        await self._write(some)

    async def _blobs_of(self, group: Group) -> list[Blob]:
        hashes = [hash for event in group.events if (hash := referred(event.data)) is not None]
        if not hashes or self._blobs is None:
            return []
        found = await self._blobs.get(hashes)
        if len(found) < len(set(hashes)):
            raise StoreCorrupt(
                f"A blob of the stream {group.stream} is not there.",
                hint="It was dropped while it was read: begin again.",
            )
        return [Blob(hash, data) for hash, data in found.items()]

    async def runs(self, runs: Sequence[tuple[RunRow, Head]]) -> None:
        """Write the rows of runs whose records are here, each with the end of its history there; from now on they live.

        Raises ``StaleVersion`` when the history here does not end where that one does.
        """
        heads = await self.heads(run_stream(row.id) for row, _ in runs)
        floor, now = floor_of(self.store.epoch), self._clock.now()
        appends: list[Append] = []
        for row, end in runs:
            stream = run_stream(row.id)
            here = heads[stream]
            token = max(end.token, here.token, floor if end.token else 0)
            row_here = arriving(row, closed=end.closed, now=now)
            change = RunChange(row.id, at=row.created_at)
            for field in _FIELDS:
                setattr(change, field, getattr(row_here, field))
            after = Group(
                stream,
                (),
                end.version,
                token,
                takes=token > here.token,
                closes=end.closed and not here.closed,
                run=RunChange(row.id, at=row.updated_at),
            )
            # Two groups, for a row is as old as its first change and as fresh as its last.
            appends.append(
                Append(self._numbers.new(), (Group(stream, (), end.version, here.token, run=change), after))
            )
            self._heads[stream] = Head(end.version, token, end.closed)
        await self._write(appends)

    async def ends(self, ends: Mapping[str, Head]) -> None:
        """Give streams that are no run's history the tokens and closings that they had."""
        heads = await self.heads(ends)
        floor = floor_of(self.store.epoch)
        appends: list[Append] = []
        for stream, end in ends.items():
            here = heads[stream]
            token = max(end.token, here.token, floor if end.token else 0)
            closes = end.closed and not here.closed
            if token > here.token or closes:
                group = Group(stream, (), end.version, token, takes=token > here.token, closes=closes)
                appends.append(Append(self._numbers.new(), (group,)))
                self._heads[stream] = Head(end.version, token, end.closed)
        await self._write(appends)

    async def tasks(self, tasks: Sequence[Task]) -> None:
        """Offer tasks; those that were claimed are ready again, dead ones stay dead, done ones are left behind."""
        live = [task for task in tasks if task.state != "done"]
        await self.store.queue.offer(live)
        dead: dict[str, list[str]] = {}
        for task in live:
            if task.state == "dead":
                dead.setdefault(task.queue, []).append(task.id)
        for queue, ids in dead.items():
            await self.store.queue.change(queue, ids, state="dead")

    async def cell(self, space: str, cell: Cell) -> None:
        """Put a cell, or keep it until more come."""
        if (self._cells and self._space != space) or self._cells_bytes >= MOST_BYTES:
            await self.cells()
        self._space = space
        self._cells.append(cell)
        self._cells_bytes += len(cell.data)

    async def cells(self) -> None:
        """Put the cells that were kept; those whose time is over are left behind."""
        cells, self._cells, self._cells_bytes = self._cells, [], 0
        now = self._clock.now()
        changes = [Change(c.name, c.data, ttl=left_of(c, now)) for c in cells if not 0 < c.expires_at <= now]
        for some in pieces(changes):
            await self.store.cells.apply(self._space, some, origin=ORIGIN)

    async def _write(self, appends: Sequence[Append]) -> None:
        if not appends:
            return
        last = enlist(self.store.log, appends)
        await asyncio.wait([last])
        last.exception()  # it is raised below, unless an earlier one comes first
        for append in appends:
            if append.error is not None:
                self._forget()
                raise append.error


class WholeAppends:
    """Records on their way, of which only whole appends are handed on."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._size = 0

    def add(self, *records: Record) -> bool:
        """Take records that follow those before; return whether it is time to hand them on."""
        self._records += records
        self._size += sum([len(record.data) for record in records])
        return len(self._records) >= MOST_RECORDS or self._size >= MOST_BYTES

    def take(self, *, whole: bool = False) -> list[Record]:
        """Hand on what is there; but the last append, which may go on, only when it is known to be ``whole``."""
        end = len(self._records) if whole else _last_append(self._records)
        taken, self._records = self._records[:end], self._records[end:]
        self._size = sum([len(record.data) for record in self._records])
        return taken


def _last_append(records: Sequence[Record]) -> int:
    """Return where the last append begins: at the first of its groups, each of which begins with its id."""
    last = start = 0
    for index in range(len(records) - 1, -1, -1):
        mark = records[index].append
        if mark and last and mark != last:
            break
        if mark:
            last, start = mark, index
    return start


def arriving(row: RunRow, *, closed: bool, now: int) -> RunRow:
    """Return the row of a run as it is to be where nobody executes it yet.

    A run that has an owner there arrives without one, and due. Of one that went on while it was being read the row may
    say more than its records: then it is not over.
    """
    if closed:
        return row
    if row.status in RUN.final:
        return replace(row, status=RunStatus.RUNNING, error="", owner=None, due_at=now)
    return row if row.owner is None else replace(row, owner=None, due_at=now)


def _behind_gaps(records: Sequence[Record]) -> Sequence[Record]:
    """Return records without those that were trimmed away while they were read: those before a gap in their stream."""
    last: dict[str, int] = {}
    begin: dict[str, int] = {}
    for record in records:
        if record.version > last.get(record.stream, record.version) + 1:
            begin[record.stream] = record.version
        last[record.stream] = record.version
    return (
        [record for record in records if record.version >= begin.get(record.stream, 0)] if begin else records
    )


def _gaps(missing: Sequence[Record], heads: Mapping[str, Head]) -> dict[str, int]:
    """Return, by stream, the version of the first record that does not follow where the stream is."""
    first: dict[str, int] = {}
    for record in missing:
        first.setdefault(record.stream, record.version)
    return {stream: version for stream, version in first.items() if version != heads[stream].version + 1}
