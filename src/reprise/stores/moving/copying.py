"""From one store to another, of whatever kinds, also while workers write: copy, keep up, cut over, verify."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from reprise.kernel.clock import Clock
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.events import RUN_STREAMS, Record, run_stream
from reprise.kernel.machine import RUN
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.blobs import referred
from reprise.stores.families import all_streams_of, row_of
from reprise.stores.moving.cells import copy_cells
from reprise.stores.moving.comparing import Balance, both, first_difference, same_row
from reprise.stores.moving.receiving import Receiver, WholeAppends
from reprise.stores.packing import keeper_of
from reprise.stores.progress import Report, nobody
from reprise.stores.runs import RunFilter, RunRow
from reprise.stores.store import Store

_PAGE = 1000
_ROWS = 200
_EVERYTHING = 1 << 31
MOST_NAMED = 20
"""Differences that are named; there may be more."""
LOOK_AGAIN = 0.5
"""Seconds between two looks when nobody taps."""
ROWS_EVERY = 30.0
"""Seconds between two looks at the rows of all runs while a copy keeps up."""
ROUNDS = 5
"""How often the end of the source is looked for while something is still being written there."""
_UNFINISHED = tuple(status for status in RUN.transitions if status not in RUN.final)


class Copied(msgspec.Struct, frozen=True):
    """What came of a copy."""

    records: int
    """Records written; those that were there already are not counted."""
    runs: int
    tasks: int
    cells: int
    """Written; those that were there already are not counted."""
    unfinished: int
    """Runs that have not ended and can go on in the target from now on."""
    workers: tuple[str, ...]
    """Workers that still work with the source; while there are any, unfinished runs stay asleep in the target."""
    differences: tuple[str, ...]
    """What is not the same, in words; empty = verified."""
    epoch: int
    """Of the target."""

    @property
    def is_complete(self) -> bool:
        """Whether the target holds all that the source holds, and nobody writes to the source any more."""
        return not self.differences and not self.workers


async def copy_store(
    source: Store,
    target: Store,
    *,
    follow: asyncio.Event | None = None,
    clock: Clock | None = None,
    report: Report = nobody,
) -> Copied:
    """Copy what a store holds into another one, and compare both.

    What is in the target already is left out, so an interrupted copy is continued by the next, and a copy of a copied
    store brings it up to date. With ``follow`` it goes on copying what is written meanwhile until that event is set.
    Then comes the cut-over: nobody must work with the source any more; unfinished runs come to life in the target, under
    tokens of a new epoch. If a worker still works with the source, they do not, and the result says so; stop it and
    copy once more.

    Payloads are copied as they are kept; sealed ones need the same keys in the target. Leases, tasks that are done, and
    what cells were before stay behind. Positions, and so versions of cells, are the target's own.

    Raises ``StaleVersion``, ``StaleToken`` or ``StreamClosed`` where the target went its own way.
    """
    if source.url == target.url and not source.url.startswith("memory:"):
        raise ConfigurationError(f"{source.url} cannot be copied onto itself.", hint="Give another target.")
    copy = _Copy(source, target, clock or SURROUNDINGS.get().clock, report)
    await copy.begin()
    await copy.catch_up()
    if follow is not None:
        await copy.keep_up(follow)
    return await copy.cut_over()


class _Copy:
    """One copy on its way."""

    def __init__(self, source: Store, target: Store, clock: Clock, report: Report) -> None:
        # Payloads go as they are kept, packed and sealed: no key is needed, and nothing is packed anew.
        self._source, self._target = keeper_of(source), keeper_of(target)
        self._clock, self._report = clock, report
        self._balance = Balance()
        self._pending = WholeAppends()
        self._position = 0
        """How far the source was read."""
        self._checked = 0
        """How far the target was read again."""
        self._is_ours = False
        """Everything in the target comes from this copy."""
        self._rowless: set[str] = set()
        """Runs of which records came, and no row yet."""
        self._others: set[str] = set()
        """Streams that belong to no run."""
        self._runs = self._unfinished = 0
        self._differences: list[str] = []

    async def begin(self) -> None:
        """Look whether the target is empty."""
        self._is_ours = not await self._target.log.scan(0, 1)
        self._receiver = Receiver(self._target, self._clock, self._source.blobs, is_empty=self._is_ours)

    # ---------------------------------------------------------------- records

    async def catch_up(self) -> None:
        """Copy the records that there are."""
        page = await self._source.log.scan(self._position, _PAGE)
        while page:
            self._position = page[-1].position
            self._pending.add(*page)
            whole = len(page) < _PAGE
            writing = self._pass_on(self._pending.take(whole=whole))
            if whole:
                await writing
                return
            _, page = await asyncio.gather(writing, self._source.log.scan(self._position, _PAGE))
        await self._pass_on(self._pending.take(whole=True))

    async def _pass_on(self, records: Sequence[Record]) -> None:
        """Write records, read them again, and hold what was read here against what was read there."""
        for record in records:
            kind, _, run = record.stream.partition("/")
            if kind == "run":
                self._rowless.add(run)
            elif not record.stream.startswith(RUN_STREAMS):
                self._others.add(record.stream)
        self._balance.add(records)
        await self._receiver.records(records)
        while page := await self._target.log.scan(self._checked, _PAGE):
            self._checked = page[-1].position
            self._balance.take_off(page)
            await self._check_blobs(page)
        self._report("records", self._receiver.written, 0)

    async def _check_blobs(self, records: Sequence[Record]) -> None:
        """Read the blobs that records refer to: their names are their digests."""
        for record in records:
            hash = referred(record.data)
            if hash is not None and not await self._target.blobs.get([hash]):
                self._differences.append(f"the blob of {record.stream}, version {record.version}, is missing")

    async def keep_up(self, follow: asyncio.Event) -> None:
        """Copy what comes until the event is set."""
        tapped = asyncio.Event()
        unlisten = self._source.signal.listen("*", lambda _: tapped.set())
        told = asyncio.ensure_future(follow.wait())
        rows_at = self._clock.monotonic()
        try:
            while not told.done():
                tapped.clear()
                await self.catch_up()
                if self._clock.monotonic() >= rows_at:
                    # So that there is less to do at the cut-over, when nobody works.
                    await self._copy_rows(final=False)
                    rows_at = self._clock.monotonic() + ROWS_EVERY
                tap = asyncio.ensure_future(tapped.wait())
                await asyncio.wait([told, tap], timeout=LOOK_AGAIN, return_when=asyncio.FIRST_COMPLETED)
                tap.cancel()
        finally:
            unlisten()
            told.cancel()

    # ---------------------------------------------------------------- cut-over

    async def cut_over(self) -> Copied:
        """Copy what is left; let unfinished runs come to life if nobody executes them any more; compare."""
        workers = await self._workers()
        await self.catch_up()
        if not workers and self._target.epoch <= self._source.epoch:
            await self._target.begin_epoch(above=self._source.epoch)
        tasks = cells = 0
        if workers:
            await self._copy_rows(final=False)
        else:
            await self._copy_all_rows()
            await self._end_others()
            tasks = await self._copy_tasks()
            cells, unlike = await copy_cells(self._source.cells, self._target.cells)
            self._differences += unlike
        for stream in sorted(self._balance.open)[:MOST_NAMED]:
            text = await first_difference(self._source.log, self._target.log, stream)
            self._differences += [text] if text else []
        return Copied(
            self._receiver.written,
            self._runs,
            tasks,
            cells,
            self._unfinished,
            workers,
            tuple(self._differences[:MOST_NAMED]),
            self._target.epoch,
        )

    async def _end_others(self) -> None:
        """Give streams of no run their ends; let those go that the source has dropped since they were copied."""
        ends = {name: await self._source.log.head(name) for name in self._others}
        gone = [name for name, end in ends.items() if not end.version]
        if self._is_ours:
            await self._receiver.drop(*gone)
        await self._receiver.ends({name: end for name, end in ends.items() if end.version})

    async def _workers(self) -> tuple[str, ...]:
        """Return who may still execute runs of the source: who is seen there, and owners whose lease goes on."""
        source = self._source
        seen = set(await source.presence.seen())
        owners = set(await source.runs.count(RunFilter(status=_UNFINISHED), by="owner")) - {""}
        dead = await source.presence.died(seen | owners)
        held = [owner for owner in owners - seen - dead if await source.lease.holder(f"worker/{owner}")]
        return tuple(sorted((seen - dead).union(held)))

    async def _copy_all_rows(self) -> None:
        """Write rows until there is none to write: then all have been compared."""
        unlike: list[str] = []
        for _ in range(ROUNDS):
            unlike = await self._copy_rows(final=True)
            if not unlike and not await self._source.log.scan(self._position, 1):
                break
            await self.catch_up()  # somebody may have written, though no worker: a signal to a run, say
        else:
            self._differences += [f"the row of the run {run} is not the same" for run in unlike]
            if not unlike:
                self._differences.append("the source is still being written to")
        for run in sorted(self._rowless):
            if await row_of(self._source.runs, run) is not None:
                self._differences.append(f"the run {run} has no row in the target")
            elif self._is_ours:
                await self._receiver.drop(*await all_streams_of(self._target.log, run))

    async def _copy_rows(self, *, final: bool) -> list[str]:
        """Write the rows that are missing or not the same, of unfinished runs only in the end; return some of them."""
        unlike: list[str] = []
        rows: list[RunRow] = []
        self._unfinished = 0
        async for there, here in both(self._source.runs, self._target.runs):
            if there is None:
                assert here is not None
                await self._only_here(here.id)
                continue
            is_over = there.status in RUN.final
            self._unfinished += final and not is_over
            if here is not None and same_row(there, here):
                self._rowless.discard(there.id)
            elif is_over or final:
                rows.append(there)
            if len(rows) == _ROWS:
                await self._write_rows(rows)
                unlike += [row.id for row in rows[: MOST_NAMED - len(unlike)]]
                rows = []
        await self._write_rows(rows)
        return unlike + [row.id for row in rows[: MOST_NAMED - len(unlike)]]

    async def _write_rows(self, rows: Sequence[RunRow]) -> None:
        streams = [run_stream(row.id) for row in rows]
        ends = await asyncio.gather(*map(self._source.log.head, streams))
        here = await self._receiver.heads(streams)
        # Of a run that went on since, the records come first; of one that was dropped since, nothing.
        whole = [
            (row, end)
            for row, end in zip(rows, ends, strict=True)
            if end.version and here[run_stream(row.id)].version == end.version
        ]
        await self._receiver.runs(whole)
        self._rowless.difference_update([row.id for row, _ in whole])
        self._runs += len(whole)
        self._report("runs", self._runs, 0)

    async def _only_here(self, run: str) -> None:
        """Deal with a run that the source does not have: it was dropped there, or is of another origin."""
        if await row_of(self._source.runs, run) is not None:
            return  # it is, by now
        if self._is_ours:
            await self._receiver.drop(*await all_streams_of(self._target.log, run))
        else:
            self._differences.append(f"the run {run} is not in the source")

    async def _copy_tasks(self) -> int:
        count = 0
        for queue in await self._source.queue.names():
            tasks = [t for t in await self._source.queue.find(queue, limit=_EVERYTHING) if t.state != "done"]
            await self._receiver.tasks(tasks)
            count += len(tasks)
            here = {task.id for task in await self._target.queue.find(queue, limit=_EVERYTHING)}
            self._differences += [
                f"the task {task.id} of queue {queue} is missing" for task in tasks if task.id not in here
            ]
        return count
