"""From an archive into a store: checked as a whole first, then family by family; again as often as one likes."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from reprise.kernel.clock import Clock
from reprise.kernel.errors import ArchiveCorrupt
from reprise.kernel.events import RUN_STREAMS, run_stream
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.archive import (
    AnyLine,
    End,
    FamilyLine,
    Opening,
    RecordLine,
    RunLine,
    StreamLine,
    TaskLine,
    read_pages,
    to_cell,
    to_record,
)
from reprise.stores.families import rows_of
from reprise.stores.log import Head
from reprise.stores.moving.receiving import Receiver, WholeAppends
from reprise.stores.progress import Report, nobody
from reprise.stores.queue import Task
from reprise.stores.runs import RunRow
from reprise.stores.store import Store

ROWS = 200
"""Runs that are written at once."""
MOST_ROWS = 1000
"""The same, of one family that has more."""


class Imported(msgspec.Struct, frozen=True):
    """What became of an archive's runs."""

    runs: int
    """Runs that are new here."""
    records: int
    present: int
    """Runs that were here already, as in the archive or further on."""
    conflicts: tuple[str, ...]
    """First runs of families that have another history here, or an older state; nothing of them was written."""
    hash: str
    """Of the archive's last line."""


async def import_runs(
    store: Store, path: Path, *, dry_run: bool = False, clock: Clock | None = None, report: Report = nobody
) -> Imported:
    """Bring the runs of an archive into a store; unfinished ones go on here.

    What is here already is left as it is, so an import may be repeated, and an interrupted one is ended by the next.
    With ``dry_run`` nothing is written, and the numbers say what would be.

    Raises:
        ArchiveCorrupt: the archive is not what was once written; nothing of it was used.
        SchemaTooNew: it was written by a newer Reprise.
    """
    is_empty = not await store.log.scan(0, 1) and not await store.runs.find(limit=1)
    look = _Look(store, path, is_empty=is_empty)
    async for page in read_pages(path):
        for line in page:
            await look.at(line)
        report("lines checked", look.lines, 0)
    if not dry_run:
        writing = _Writing(Receiver(store, clock or SURROUNDINGS.get().clock, is_empty=is_empty), look)
        async for page in read_pages(path):
            for line in page:
                await writing.take(line)
            report("records", writing.receiver.written, look.records)
    conflicts = tuple(sorted(look.conflicts))
    return Imported(look.runs, look.records, look.present, conflicts, look.hash)


class _Look:
    """The first pass: whether the archive is sound, and what of it is here already."""

    def __init__(self, store: Store, path: Path, *, is_empty: bool) -> None:
        self._is_empty = is_empty
        self.lines = self.runs = self.records = self.present = 0
        self.conflicts: set[str] = set()
        """First runs of families that have another history here."""
        self.known: set[str] = set()
        """Runs that have a row here."""
        self.hash = ""
        self._store, self._path = store, path
        self._family = _Family("")

    async def at(self, line: AnyLine) -> None:
        """Look at the next line."""
        self.lines += 1
        family = self._family
        if isinstance(line, RecordLine):
            await self._at_record(line)
        elif isinstance(line, StreamLine):
            if family.versions.get(line.name) != line.version:
                raise self._corrupt(f"the stream {line.name} is said to end at version {line.version}")
        elif isinstance(line, RunLine):
            family.runs.append(line.row.id)
            if run_stream(line.row.id) not in family.versions:
                raise self._corrupt(f"the run {line.row.id} has no history")
        elif isinstance(line, FamilyLine | End):
            await self._judge()
            if isinstance(line, End):
                self.hash = line.hash
            else:
                self._family = _Family(line.root)

    async def _at_record(self, line: RecordLine) -> None:
        family, stream = self._family, line.stream
        before = family.versions.get(stream)
        family.versions[stream] = line.version
        family.records += 1
        if before is None:
            version = 0 if self._is_empty else (await self._store.log.head(stream)).version
            if version:
                family.here[stream] = version
                # What was trimmed away there is not to be had for what is here.
                family.differs |= line.version > version + 1
        elif line.version <= before:
            raise self._corrupt(f"the stream {stream} goes on with version {line.version} after {before}")
        if stream in family.here and line.version <= family.here[stream]:
            if line.append or stream not in family.last:
                family.last[stream] = line
            family.records -= 1

    async def _judge(self) -> None:
        """Compare the last append that both have of each stream: its first record has its id, which no other has."""
        family = self._family
        for line in family.last.values():
            here = await self._store.log.read(line.stream, line.version - 1, 1)
            if here and here[0].version == line.version and replace(here[0], position=0) != to_record(line):
                family.differs = True
        known = [] if self._is_empty else list(await rows_of(self._store.runs, family.runs))
        for run in known:
            stream = run_stream(run)
            family.differs |= family.here.get(stream, 0) < family.versions[stream]
        if family.differs:
            self.conflicts.add(family.root)
            return
        self.known.update(known)
        self.present += len(known)
        self.runs += len(family.runs) - len(known)
        self.records += family.records

    def _corrupt(self, what: str) -> ArchiveCorrupt:
        return ArchiveCorrupt(
            f"{self._path}: by line {self.lines} {what}.",
            hint="The lines are as they were written, but not by an export: make the archive anew.",
        )


class _Family:
    """What the first pass knows of one family."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.runs: list[str] = []
        self.records = 0
        """Records that are not here."""
        self.versions: dict[str, int] = {}
        self.here: dict[str, int] = {}
        """Versions here of streams that are here."""
        self.last: dict[str, RecordLine] = {}
        """Of those, the last record with the id of an append that may be in both; without one, the first."""
        self.differs = False


class _Writing:
    """The second pass: what is not here is written, rows last."""

    def __init__(self, receiver: Receiver, look: _Look) -> None:
        self.receiver = receiver
        self._look = look
        self._skip = False
        self._records = WholeAppends()
        self._ends: dict[str, Head] = {}
        self._rows: list[RunRow] = []
        self._tasks: list[Task] = []

    async def take(self, line: AnyLine) -> None:
        """Write the next line, or keep it until more come."""
        if isinstance(line, FamilyLine | End):
            # Rows come after all records of their family; many families share a commit.
            if len(self._rows) >= ROWS or isinstance(line, End):
                await self._flush()
                await self.receiver.cells()
            self._skip = isinstance(line, FamilyLine) and line.root in self._look.conflicts
        elif self._skip or isinstance(line, Opening):
            return
        elif isinstance(line, RecordLine):
            if self._records.add(to_record(line)):
                await self.receiver.records(self._records.take())
        elif isinstance(line, StreamLine):
            self._ends[line.name] = Head(line.version, line.token, line.closed)
        elif isinstance(line, RunLine):
            if line.row.id not in self._look.known:
                self._rows.append(line.row)
            if len(self._rows) >= MOST_ROWS:
                await self._flush()
        elif isinstance(line, TaskLine):
            self._tasks.append(line.task)
        else:
            await self.receiver.cell(line.space, to_cell(line))

    async def _flush(self) -> None:
        await self.receiver.records(self._records.take(whole=True))
        await self.receiver.runs([(row, self._ends.pop(run_stream(row.id))) for row in self._rows])
        others = {name: end for name, end in self._ends.items() if not name.startswith(RUN_STREAMS)}
        await self.receiver.ends(others)
        await self.receiver.tasks(self._tasks)
        self._ends, self._rows, self._tasks = {}, [], []
