"""Let old runs go: by families, in small transactions, beside workers and readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from reprise.kernel.clock import Clock
from reprise.kernel.query import EVERY
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.archive import FamilyLine, RunLine, StreamLine, read_pages, verify_archive
from reprise.stores.families import Wanted, all_streams_of, ended_families, streams_of_family
from reprise.stores.moving.exporting import export_families
from reprise.stores.progress import Report, nobody
from reprise.stores.runs import RunRow
from reprise.stores.store import Store

RUNS_PER_DROP = 50
"""Runs that go in one transaction, so that nobody waits long for a turn."""


BLOBS_PER_DROP = 100
FAMILIES_AT_ONCE = 100


class Pruned(msgspec.Struct, frozen=True):
    """What went."""

    families: int
    runs: int
    records: int
    """0 for a dry run, which does not look at records."""
    blobs: int
    """Large payloads that nobody refers to any more."""
    kept: int
    """Families of which the first run matched, but something goes on."""
    hash: str = ""
    """Of the last line of the archive, if one was written."""


async def prune(
    store: Store,
    where: Wanted = EVERY,
    *,
    ended_before: int = 0,
    archive: Path | None = None,
    dry_run: bool = False,
    clock: Clock | None = None,
    report: Report = nobody,
) -> Pruned:
    """Delete the runs that are wanted and that ended before a moment (microseconds, 0 = whenever).

    Both are asked of runs that no other run started. With such a run goes all that it started, and it goes only when
    all of that has ended. A reader never sees a part of a family gone, unless the family has more than
    ``RUNS_PER_DROP`` runs: of such a one children go first, and the first run last, so that a prune that was
    interrupted is ended by the next.

    With ``archive`` the runs are written there first; only when that file is whole, durable and was read back and
    found sound does the first run go, and nothing goes that is not in it.

    Raises ``ConfigurationError`` when there is such a file.
    """
    gone = _Gone(store, report)
    seal = ""
    if archive is None or dry_run:
        async for family in ended_families(store.runs, where, ended_before):
            if family is None:
                gone.kept += 1
            elif dry_run:
                gone.families, gone.runs = gone.families + 1, gone.runs + len(family)
            else:
                await gone.add(family)
        await gone.drop()
    else:
        ended = ended_families(store.runs, where, ended_before)
        seal = (
            await export_families(
                store, archive, _roots(ended, gone), clock or SURROUNDINGS.get().clock, report
            )
        ).hash
        if seal:
            await asyncio.to_thread(verify_archive, archive)
            await _drop_archived(store, archive, gone)
    blobs = 0 if dry_run else await collect(store, report)
    return Pruned(gone.families, gone.runs, gone.records, blobs, gone.kept, seal)


async def collect(store: Store, report: Report) -> int:
    """Delete the large payloads that nobody refers to any more; return how many went."""
    gone = 0
    while True:
        some = await store.blobs.collect(BLOBS_PER_DROP)
        gone += some
        report("blobs deleted", gone, 0)
        if some < BLOBS_PER_DROP:
            return gone


class _Gone:
    """Collects families until they are worth a transaction, and drops them."""

    def __init__(self, store: Store, report: Report) -> None:
        self.families = self.runs = self.records = self.kept = 0
        self._store = store
        self._report = report
        self._doomed: list[RunRow] = []

    async def add(self, family: Sequence[RunRow]) -> None:
        """Take a family, its first run first."""
        self.families += 1
        self.runs += len(family)
        if len(self._doomed) + len(family) > RUNS_PER_DROP:
            await self.drop()
        rest = list(family)
        while len(rest) > RUNS_PER_DROP:
            some = rest[-RUNS_PER_DROP:]
            await self._drop(await all_streams_of(self._store.log, *(row.id for row in some)))
            del rest[-RUNS_PER_DROP:]
        self._doomed += rest

    async def drop(self) -> None:
        """Drop what was collected."""
        doomed, self._doomed = self._doomed, []
        await self._drop(await streams_of_family(self._store.log, doomed))
        self._report("runs deleted", self.runs, 0)

    async def _drop(self, streams: Sequence[str]) -> None:
        if streams:
            self.records += await self._store.log.drop(*streams)


async def _roots(families: AsyncIterator[list[RunRow] | None], gone: _Gone) -> AsyncIterator[list[RunRow]]:
    some: list[RunRow] = []
    async for family in families:
        if family is None:
            gone.kept += 1
            continue
        some.append(family[0])
        if len(some) == FAMILIES_AT_ONCE:
            yield some
            some = []
    if some:
        yield some


async def _drop_archived(store: Store, archive: Path, gone: _Gone) -> None:
    """Drop the families of an archive, each if it is in the store as it is in the archive."""
    family: list[RunRow] = []
    same = True
    async for page in read_pages(archive):
        ends = [line for line in page if isinstance(line, StreamLine)]
        heads = iter(await asyncio.gather(*(store.log.head(line.name) for line in ends)))
        for line in page:
            if isinstance(line, StreamLine):
                head = next(heads)
                same &= line.closed and head.closed and head.version == line.version
            elif isinstance(line, RunLine):
                family.append(line.row)
            elif isinstance(line, FamilyLine):
                await _drop_family(gone, family, same=same)
                family, same = [], True
    await _drop_family(gone, family, same=same)
    await gone.drop()


async def _drop_family(gone: _Gone, family: Sequence[RunRow], *, same: bool) -> None:
    if family and same:
        await gone.add(family)
    elif family:
        gone.kept += 1
