"""From a store to an archive: some families of runs, or everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from pathlib import Path

import msgspec
from msgspec.structs import replace

from reprise.kernel.clock import Clock
from reprise.kernel.events import RUN_STREAMS, Kind, Record, run_stream
from reprise.kernel.query import EVERY, all_of
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.archive import (
    ArchiveWriter,
    FamilyLine,
    Line,
    Opening,
    RunLine,
    StreamLine,
    TaskLine,
    from_cell,
    from_record,
)
from reprise.stores.archive.lines import FORMAT
from reprise.stores.cells import whole_space
from reprise.stores.families import (
    IS_FIRST,
    Wanted,
    families_of,
    rows_of,
    streams_of_family,
    walk_present,
)
from reprise.stores.log import Head, Log
from reprise.stores.progress import Report, nobody
from reprise.stores.runs import RunRow, as_query
from reprise.stores.store import Store

_PAGE = 200
_LATER = 1000
"""Records that are read at once of what came after the moment."""
_EVERYTHING = 1 << 31


class Exported(msgspec.Struct, frozen=True):
    """What was written to an archive."""

    families: int
    runs: int
    records: int
    tasks: int
    cells: int
    hash: str = ""
    """Of the last line: kept elsewhere, it tells later that the archive is still this one. '' = none was made."""


async def export_runs(
    store: Store,
    path: Path,
    where: Wanted = EVERY,
    *,
    clock: Clock | None = None,
    report: Report = nobody,
) -> Exported:
    """Write the runs that are wanted, and all that they started, to an archive; none is made when there are none.

    Asked are runs that no other run started. Runs may go on meanwhile; each family is written as it was at one moment.
    Raises ``ConfigurationError`` when there is such a file.
    """
    roots = walk_present(store.runs, all_of(IS_FIRST, as_query(where)))
    return await export_families(store, path, roots, clock or SURROUNDINGS.get().clock, report)


async def export_families(
    store: Store, path: Path, roots: AsyncIterator[Sequence[RunRow]], clock: Clock, report: Report = nobody
) -> Exported:
    """Write families, of which the first runs are given, to an archive; none is made when there are none."""
    with ArchiveWriter(path) as archive:
        archive.write([_opening(store, clock)])
        sagas = set[str]()
        async for some in roots:
            until = await store.log.end()
            rows = await rows_of(store.runs, [root.id for root in some])
            for family in await families_of(store.runs, list(rows.values()), sagas):
                await _write_family(store, archive, family, until)
            report("runs", archive.counts["runs"], 0)
        return await _close(archive) if archive.counts["runs"] else Exported(0, 0, 0, 0, 0)


async def _write_family(store: Store, archive: ArchiveWriter, family: Sequence[RunRow], until: int) -> None:
    """Write a family as it was at one moment: all records up to a position, whatever came since.

    Where a run has begun a new generation since, what was before may have gone before it was read; then the moment is
    a later one.
    """
    root = family[0]
    archive.write([FamilyLine(root=root.id)])
    versions: dict[str, int] = {}
    while True:
        streams = await streams_of_family(store.log, family)
        async for records in _in_order(store.log, streams, until, versions):
            versions.update([(record.stream, record.version) for record in records])
            await asyncio.to_thread(archive.write, map(from_record, records))
        # Rows are read after the records: of a run that went on since, the row may say more than these.
        rows = await rows_of(store.runs, [row.id for row in family])
        if not any(row.since and row.since >= versions.get(run_stream(row.id), 0) for row in rows.values()):
            break
        until = await store.log.end()
        family = (await families_of(store.runs, [root], set()))[0]
    for row in [rows.get(row.id, row) for row in family]:
        stream = run_stream(row.id)
        if stream in versions:  # else it was started since
            archive.write(_end_of(row, await store.log.head(stream), versions[stream]))


def _end_of(row: RunRow, head: Head, version: int) -> Iterator[Line]:
    """Return the last lines about a run of whose history the records up to ``version`` were written."""
    closed = head.closed and head.version == version
    if (
        row.since >= version
    ):  # it has begun another generation since: replay finds where the one before begins
        row = replace(row, since=0, generation=max(0, row.generation - 1))
    yield StreamLine(name=run_stream(row.id), version=version, token=head.token, closed=closed)
    yield RunLine(row=row)


async def _in_order(
    log: Log, streams: Sequence[str], until: int, versions: Mapping[str, int]
) -> AsyncIterator[list[Record]]:
    """Yield the records of streams behind versions up to a position, in the order of the log, page by page."""
    found = await asyncio.gather(*(log.read(stream, versions.get(stream, 0), _PAGE) for stream in streams))
    pages = [page for page in found if page]
    places = [0] * len(pages)
    heap = [(page[0].position, number) for number, page in enumerate(pages)]
    heapify(heap)
    merged: list[Record] = []
    while heap and heap[0][0] <= until:
        number = heap[0][1]
        record = pages[number][places[number]]
        merged.append(record)
        places[number] += 1
        if places[number] == len(pages[number]):
            pages[number] = await log.read(record.stream, record.version, _PAGE)
            places[number] = 0
        if pages[number]:
            heapreplace(heap, (pages[number][places[number]].position, number))
        else:
            heappop(heap)
        if len(merged) == _PAGE:
            yield merged
            merged = []
    yield merged


# ---------------------------------------------------------------- everything


async def export_store(
    store: Store, path: Path, *, clock: Clock | None = None, report: Report = nobody
) -> Exported:
    """Write all that a store holds, as it was at one moment, to an archive: a backup of whatever kind of store.

    Left out are leases, which are nobody's after a restore, tasks that are done, and what cells were before.
    """
    with ArchiveWriter(path) as archive:
        archive.write([_opening(store, clock or SURROUNDINGS.get().clock, whole=True), FamilyLine(root="")])
        others: dict[str, int] = {}
        until, position = await store.log.end(), 0
        while True:
            while records := [r for r in await store.log.scan(position, _PAGE) if r.position <= until]:
                position = records[-1].position
                others.update(
                    [(r.stream, r.version) for r in records if not r.stream.startswith(RUN_STREAMS)]
                )
                await asyncio.to_thread(archive.write, map(from_record, records))
                report("records", archive.counts["records"], 0)
            if not await _may_have_gone(store.log, until):
                break
            # What has gone is told anew by what came after it; so the moment is a later one.
            until = await store.log.end()
        await _write_runs(store, archive, until, report)
        for stream, version in others.items():
            head = await store.log.head(stream)
            closed = head.closed and head.version == version
            if head.token or closed:
                archive.write([StreamLine(name=stream, version=version, token=head.token, closed=closed)])
        for queue in await store.queue.names():
            tasks = await store.queue.find(queue, limit=_EVERYTHING)
            archive.write(TaskLine(task=task) for task in tasks if task.state != "done")
        for space in await store.cells.spaces():
            cells = (await whole_space(store.cells, space)).cells
            await asyncio.to_thread(archive.write, [from_cell(space, cell) for cell in cells])
        return await _close(archive)


async def _may_have_gone(log: Log, until: int) -> bool:
    """Tell whether records up to a position may have gone before they were read: where a run began a new generation."""
    while records := await log.scan(until, _LATER, run_stream("")):
        until = records[-1].position
        if any(record.kind == Kind.RUN_CONTINUED for record in records):
            return True
    return False


async def _write_runs(store: Store, archive: ArchiveWriter, until: int, report: Report) -> None:
    """Write the rows of all runs that were there at a position, and how far their histories were."""
    later: dict[str, int] = {}
    seen = until
    async for page in walk_present(store.runs):
        heads = await asyncio.gather(*(store.log.head(run_stream(row.id)) for row in page))
        # What was written between the position and the reading of these heads is known after that reading.
        while records := await store.log.scan(seen, _LATER):
            seen = records[-1].position
            for record in records:
                later.setdefault(record.stream, record.version)
        for row, head in zip(page, heads, strict=True):
            version = later.get(run_stream(row.id), head.version + 1) - 1
            if version:
                archive.write(_end_of(row, head, version))
        report("runs", archive.counts["runs"], 0)


def _opening(store: Store, clock: Clock, *, whole: bool = False) -> Opening:
    return Opening(format=FORMAT, source=store.url, made_at=clock.now(), epoch=store.epoch, whole=whole)


async def _close(archive: ArchiveWriter) -> Exported:
    seal = await asyncio.to_thread(archive.close)
    return Exported(**archive.counts, hash=seal)
