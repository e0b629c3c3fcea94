"""Proof before a deploy: every run that goes on is rehearsed with the new code, and what would go wrong is reported.

What is judged is what a worker would do when it takes the run: the same replay, with nothing behind it
(:mod:`reprise.runtime.rehearsal`). Nothing is executed and nothing is written. A run that moves on meanwhile is judged as
it was when its history was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextvars import ContextVar
from enum import StrEnum
from pathlib import PurePath
from typing import Any

import msgspec

from reprise.kernel.clock import Clock
from reprise.kernel.errors import NonDeterminismError, RepriseError, nearest
from reprise.kernel.events import ErrorValue, Kind, Record, run_stream
from reprise.kernel.failures import brief
from reprise.kernel.machine import RUN, RunStatus
from reprise.kernel.query import Is, Query, all_of, any_of
from reprise.kernel.query_text import parse
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.runtime.branch import name_in, place_of
from reprise.runtime.registry import Registry
from reprise.runtime.rehearsal import Rehearsal, Stage, rehearsal
from reprise.runtime.workflow import Workflow
from reprise.stores.families import walk_present
from reprise.stores.progress import Report, nobody
from reprise.stores.runs import RunRow
from reprise.stores.store import Store

AT_ONCE = 50
"""Histories that are read at the same time."""
NAMED = 20
"""Runs that a misfit names; of more it says how many there are."""

IN_FLIGHT = any_of(*(Is("status", state) for state in RUN.transitions if state not in RUN.final))
"""Runs that have not ended."""
_ENDING = frozenset({RunStatus.CANCELLING, RunStatus.COMPENSATING, RunStatus.NEEDS_ATTENTION})
"""States of runs that may be about to end by an error that was theirs before."""
_SAYS = {
    Kind.STEP_COMPLETED: "completed",
    Kind.STEP_FAILED: "failed",
    Kind.STEP_CANCELLED: "was cancelled",
    Kind.TIMER_FIRED: "fired",
    Kind.CHILD_STARTED: "was started",
    Kind.STEP_INTENDED: "may have happened",
    Kind.PATCHED: "is taken",
}


class Fit(StrEnum):
    """What becomes of a run when this code takes it."""

    COMPATIBLE = "compatible"
    """It goes on."""
    NEEDS_PATCH = "needs_patch"
    """The code makes calls at some place that the history went past without; ``patched`` lets the run go on."""
    DIVERGES = "diverges"
    """The code does not make a call that the history has, or makes it with other arguments."""
    FAILS = "fails"
    """It would fail at once, by an error that its history does not have."""
    STRANDED = "stranded"
    """Nothing can be replayed: no such workflow, an input that does not fit, a history that cannot be read."""


class Misfit(msgspec.Struct, frozen=True):
    """What is wrong, alike in one or many runs: the two sides, and in words."""

    fit: Fit
    workflow: str
    reason: str
    """In one line, of no run in particular."""
    recorded: str = ""
    """What the log holds where the code does not go along: ``:2.ship completed``; '' = nothing in particular."""
    file: str = ""
    """Where the code is then, '' = nowhere: its body has ended, or never began."""
    line: int = 0
    source: str = ""
    """What stands in that line."""
    asks: tuple[str, ...] = ()
    """Keys of the calls that the code waits for instead and that the log does not have."""
    hint: str = ""

    @property
    def place(self) -> str:
        """File and line, short: ``flow.py:12``."""
        return f"{PurePath(self.file).name}:{self.line}" if self.file else ""


class Finding(msgspec.Struct, frozen=True):
    """What becomes of one run."""

    run: str
    workflow: str
    status: str
    build: str
    misfit: Misfit | None = None
    """None = it goes on."""
    step: int = 0
    """Which of the records that its body is given this code does not go along with, counted from 1; 0 = all are fine."""
    version: int = 0
    """Version of that record in the run's history, as ``reprise events`` shows it; 0 = no record is at fault."""
    at: int = 0
    """When it was written, in microseconds since the epoch."""
    of: int = 0
    """How many records its body is given in all."""

    @property
    def fit(self) -> Fit:
        """What becomes of the run."""
        return self.misfit.fit if self.misfit is not None else Fit.COMPATIBLE


class Checked(msgspec.Struct):
    """What becomes of all runs that go on."""

    counts: dict[str, int] = {}
    """Runs by fit."""
    misfits: dict[Misfit, list[Finding]] = {}
    """By what is wrong, the first runs of which it is true, oldest first; at most ``NAMED``."""
    affected: dict[Misfit, int] = {}
    """By what is wrong, of how many runs it is true."""
    records: int = 0
    """How many were replayed."""

    @property
    def runs(self) -> int:
        """How many runs were checked."""
        return sum(self.counts.values())

    @property
    def ok(self) -> bool:
        """Whether all of them go on."""
        return not self.misfits

    def add(self, finding: Finding) -> None:
        """Count a finding."""
        self.counts[finding.fit] = self.counts.get(finding.fit, 0) + 1
        self.records += finding.of
        if (misfit := finding.misfit) is not None:
            self.affected[misfit] = self.affected.get(misfit, 0) + 1
            named = self.misfits.setdefault(misfit, [])
            if len(named) < NAMED:
                named.append(finding)


async def check_runs(
    store: Store,
    workflows: Iterable[Workflow[..., Any]],
    query: str = "",
    *,
    build: str = "",
    variables: Mapping[str, ContextVar[Any]] | None = None,
    clock: Clock | None = None,
    report: Report = nobody,
) -> Checked:
    """Rehearse every run that goes on with the code of ``workflows``, and return what becomes of each.

    ``query`` means only some of the runs, ``build`` is the name that the code will have, ``variables`` are those of
    :class:`~reprise.app.reprise.Reprise`. The store must be open; nothing is executed and nothing written.

    Raises:
        QueryError: the query cannot be read.
        ConfigurationError: two of the workflows have the same name.
    """
    clock = clock or SURROUNDINGS.get().clock
    registry, checked = Registry(workflows), Checked()
    stage = Stage(clock, build, registry=registry)
    wanted = all_of(IN_FLIGHT, parse(query, clock.now()))
    total = sum((await store.runs.count(wanted)).values())
    async for row, records in _histories(store, wanted):
        finding = await _find(stage, registry, row, records, variables)
        if finding is not None:
            checked.add(finding)
        report("runs", checked.runs, total)
    return checked


async def _histories(
    store: Store, wanted: Query
) -> AsyncIterator[tuple[RunRow, list[Record] | RepriseError]]:
    """Yield runs and their records, or why these cannot be read."""

    async def read(row: RunRow) -> list[Record] | RepriseError:
        try:
            return await store.log.read(run_stream(row.id), row.since)
        except RepriseError as error:
            return error

    async for page in walk_present(store.runs, wanted):
        for first in range(0, len(page), AT_ONCE):
            rows = page[first : first + AT_ONCE]
            for row, records in zip(rows, await asyncio.gather(*map(read, rows)), strict=True):
                yield row, records


async def _find(
    stage: Stage,
    registry: Registry,
    row: RunRow,
    records: list[Record] | RepriseError,
    variables: Mapping[str, ContextVar[Any]] | None,
) -> Finding | None:
    """Return what becomes of a run, None if it ended meanwhile."""
    if isinstance(records, RepriseError):
        return _stranded(row, records.what.replace(row.id, "…"), records.hint)
    if not records or records[-1].kind == Kind.RUN_FINISHED:
        return None
    workflow = registry.get(row.workflow)
    if workflow is None:
        near = nearest(row.workflow, registry.names())
        hint = f"Did you rename it to {near!r}? Give it its old name: @workflow(name={row.workflow!r})."
        return _stranded(row, f"no such workflow: {row.workflow!r}", hint if near else "")
    try:
        run = rehearsal(stage, workflow, row.id, records, variables)
    except RepriseError as error:
        return _stranded(row, error.what.replace(f"run {row.id}", "a run"), error.hint)
    delivered = [record for record in records if record.version > run.since and 16 <= record.kind < 64]
    try:
        await run.perform()
        misfit, record = _judge(run, row, records, delivered)
    finally:
        run.evict()
    step = delivered.index(record) + 1 if record in delivered else 0
    return Finding(
        row.id,
        row.workflow,
        row.status,
        row.build,
        misfit,
        step,
        record.version if record is not None else 0,
        record.at if record is not None else 0,
        len(delivered),
    )


def _stranded(row: RunRow, reason: str, hint: str) -> Finding:
    misfit = Misfit(Fit.STRANDED, row.workflow, reason, hint=hint)
    return Finding(row.id, row.workflow, row.status, row.build, misfit)


def _judge(
    run: Rehearsal, row: RunRow, records: Sequence[Record], delivered: Sequence[Record]
) -> tuple[Misfit | None, Record | None]:
    """Return what is wrong with a run that was rehearsed, and the record at which it showed."""
    error = run.error
    if isinstance(error, NonDeterminismError):
        return _divergence(run, row, error, records)
    if error is not None:
        at = delivered[run.length - 1] if run.length else None
        return _fails(run, row, error.what.replace(f"run {run.id}", "a run"), error.hint), at
    finished = run.finished
    if finished is None or finished.status != RunStatus.FAILED or finished.error is None:
        return None, None
    if row.status in _ENDING or (finished.error.type, finished.error.message) in _failures(delivered):
        return None, None
    return _fails(run, row, brief(finished.error), ""), delivered[run.length - 1] if run.length else None


def _fails(run: Rehearsal, row: RunRow, reason: str, hint: str) -> Misfit:
    line = run.line
    return Misfit(Fit.FAILS, row.workflow, reason, "", line.file, line.number, line.source, (), hint)


def _failures(delivered: Sequence[Record]) -> set[tuple[str, str]]:
    """Return class and message of the errors that a history has: a body may be about to end by one of them."""
    failures = [record.data for record in delivered if record.kind == Kind.STEP_FAILED]
    errors = [msgspec.json.decode(data, type=ErrorValue) for data in failures]
    return {(error.type, error.message) for error in errors}


def _divergence(
    run: Rehearsal, row: RunRow, error: NonDeterminismError, records: Sequence[Record]
) -> tuple[Misfit, Record | None]:
    """Return both sides of a disagreement: what the log holds, and where the code is instead."""
    key, line = error.key, run.line
    of_key = [record for record in records if key and record.key == key]
    record = next((each for each in of_key if 16 <= each.kind < 64), of_key[0] if of_key else None)
    known = {each.key for each in records}
    asks = () if error.file else tuple(one for one in run.unmet if one not in known and _is_kin(one, key))
    recorded = f"{key} {_SAYS.get(Kind(record.kind), 'is there')}" if record is not None else ""
    misfit = Misfit(
        Fit.NEEDS_PATCH if asks else Fit.DIVERGES,
        row.workflow,
        _reason(run, error, record, asks),
        recorded,
        line.file,
        line.number,
        line.source,
        asks,
        "" if record is not None else error.hint,
    )
    return misfit, record


def _reason(run: Rehearsal, error: NonDeterminismError, record: Record | None, asks: Sequence[str]) -> str:
    if record is None:
        return error.what.replace(f"Run {run.id}", "A run")
    if record.kind == Kind.PATCHED:
        return f"the log has the patch {error.key!r}, which the code does not ask for"
    if error.file:
        return f"{name_in(error.key)!r} is called with other arguments than the log has"
    if asks:
        return f"the code calls {_names(asks)} where the log has {name_in(error.key)!r}"
    return f"the log has {name_in(error.key)!r}, which the code does not call"


def _is_kin(one: str, other: str) -> bool:
    """Tell whether the branches of two calls are one, or one began the other; else they have nothing to do with another."""
    first, second = (place[0] if (place := place_of(key)) else "" for key in (one, other))
    return first == second or f"{first}/".startswith(f"{second}/") or f"{second}/".startswith(f"{first}/")


def _names(keys: Sequence[str]) -> str:
    return ", ".join(repr(name_in(key)) for key in keys[:3])
