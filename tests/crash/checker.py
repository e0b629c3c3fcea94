"""Open a store that was crashed into, and compare it with what everybody was promised and saw."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec
from tests.crash import flows, ledger, outside, sagas
from tests.crash.places import FilePlace, Place

from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import StoreCorrupt
from reprise.kernel.events import ErrorValue, Finished, Kind, Owned, Record, Signal, Started, run_stream
from reprise.runtime.history import STEP_KINDS
from reprise.stores import open_store
from reprise.stores.runs import RunRow
from reprise.stores.store import Store

ONCE = STEP_KINDS | {Kind.TIMER_FIRED, Kind.SIGNAL_RECEIVED, Kind.CANCEL_REQUESTED}
"""Kinds of which a run may hold one record per key."""


@dataclass
class Verdict:
    """What was found wrong, in words, and what was counted."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged, and not there or not equal."""
    twice: list[str] = field(default_factory=list)
    """Recorded more than once."""
    wrong: list[str] = field(default_factory=list)
    """Results that are not what the workflow must return."""
    unfinished: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    """Executed although the log had the outcome when the executing owner took the run."""
    damaged: list[str] = field(default_factory=list)
    """The store contradicts itself."""
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def faults(self) -> dict[str, list[str]]:
        """Everything that must be empty."""
        names = ("lost", "twice", "wrong", "unfinished", "repeated", "damaged")
        return {name: found[:5] for name in names if (found := getattr(self, name))}


@dataclass
class Contents:
    """Everything that a store holds."""

    streams: dict[str, list[Record]]
    rows: dict[str, RunRow]
    damaged: list[str]


async def read_store(place: Place) -> Contents:
    """Read a store from end to end and hold what it says in one place against what it says in another."""
    damaged = [f"integrity: {line}" for line in await asyncio.to_thread(place.integrity)]
    store = open_store(place.url)
    await store.start()
    try:
        streams: dict[str, list[Record]] = defaultdict(list)
        position = 0
        while records := await store.log.scan(position, 5000):
            for record in records:
                if record.position <= position:
                    damaged.append(f"position {record.position} comes after {position}")
                position = record.position
                streams[record.stream].append(record)
        if await store.log.end() != position:
            damaged.append(f"the end is {await store.log.end()} and the last record {position}")
        for name, records in streams.items():
            try:
                damaged += await _disagreements(store, name, records)
            except StoreCorrupt as error:
                damaged.append(str(error))
        rows = {row.id: row for row in await store.runs.find(limit=1_000_000)}
        due = await store.runs.due(SystemClock().now() + 10**12, owner="nobody", limit=100_000)
        damaged += [f"{row.id} has ended and is due" for row in due if row.status == "completed"]
        return Contents(dict(streams), rows, damaged)
    finally:
        await store.stop()


async def _disagreements(store: Store, name: str, records: list[Record]) -> Iterable[str]:
    found: list[str] = []
    if name.startswith("cursor/"):
        return found  # is trimmed to its newest record
    if [record.version for record in records] != list(range(1, len(records) + 1)):
        found.append(f"{name} has versions {[record.version for record in records]}")
    if await store.log.read(name) != records:
        found.append(f"{name} reads otherwise than it scans")
    head = await store.log.head(name)
    if head.version != len(records):
        found.append(f"{name} has a head at {head.version} and {len(records)} records")
    if head.closed != (records[-1].kind == Kind.RUN_FINISHED):
        found.append(f"{name} is closed: {head.closed}; its last record is of kind {records[-1].kind}")
    return found


async def check(folder: Path, place: Place | None = None) -> Verdict:
    """Judge a round from its store and its ledgers."""
    contents = await read_store(place or FilePlace(folder))
    verdict = Verdict(damaged=contents.damaged)
    histories = {name[4:]: records for name, records in contents.streams.items() if name.startswith("run/")}
    verdict.counts["runs"] = len(histories)
    verdict.counts["events"] = sum(map(len, contents.streams.values()))
    for run, records in histories.items():
        _check_run(verdict, run, records, contents.rows.get(run))
    _check_promises(verdict, folder, contents)
    _check_executions(verdict, folder, histories)
    return verdict


def _check_run(verdict: Verdict, run: str, records: list[Record], row: RunRow | None) -> None:
    counts = Counter((record.kind if record.kind not in STEP_KINDS else 0, record.key) for record in records
                     if record.kind in ONCE)  # fmt: skip
    verdict.twice += [f"{run}: {count} records of {key}" for key, count in counts.items() if count > 1]
    owners = [msgspec.json.decode(r.data, type=Owned) for r in records if r.kind == Kind.RUN_OWNED]
    verdict.counts["take-overs"] += sum(a.worker != b.worker for a, b in pairwise(owners))
    if [owner.token for owner in owners] != sorted({owner.token for owner in owners}):
        verdict.damaged.append(f"{run} was owned under {[owner.token for owner in owners]}")
    last = records[-1]
    if last.kind != Kind.RUN_FINISHED:
        verdict.unfinished.append(f"{run} is {row.status if row else 'not in the index'}")
        return
    verdict.counts["finished"] += 1
    finished = msgspec.json.decode(last.data, type=Finished)
    started = msgspec.json.decode(records[0].data, type=Started)
    args, _ = msgspec.json.decode(bytes(started.input))
    # Of a plan, its input of that name; of others the last argument.
    n = next((arg["n"] for arg in args[1:] if isinstance(arg, dict) and "n" in arg), args[-1])
    want = (flows.EXPECTED | outside.EXPECTED | sagas.EXPECTED)[started.workflow](n)
    ends = (outside.ENDS | sagas.ENDS).get(started.workflow, _completes)(n)
    if finished.status not in ends or (
        finished.status == "completed" and msgspec.json.decode(bytes(finished.value)) != want
    ):
        verdict.wrong.append(f"{run} {finished.status}: {bytes(finished.value)[:200]!r} instead of {want}")
    if row is None or row.status != finished.status or row.owner is not None or row.token != owners[-1].token:
        verdict.damaged.append(f"{run} ended, and the index says {row}")


def _completes(n: int) -> set[str]:
    return {"completed"}


def _check_promises(verdict: Verdict, folder: Path, contents: Contents) -> None:
    there: dict[tuple[str, int, str], set[bytes]] = defaultdict(set)
    for name, records in contents.streams.items():
        for record in records:
            there[name, record.kind, record.key].add(record.data)
    appended = {record.append for records in contents.streams.values() for record in records}
    for line in ledger.lines(*sorted(folder.glob("*.jsonl"))):
        if isinstance(line, ledger.Refused):
            verdict.counts["refused stale writes"] += 1
            if line.append in appended:
                verdict.damaged.append(f"{line} is in the log")
        elif isinstance(line, ledger.Counted):
            verdict.counts.update({f"{name} by the survivors": count for name, count in line.counts.items()})
        elif isinstance(line, ledger.Helped):
            verdict.counts["helped"] += 1
        elif not isinstance(line, ledger.Began | ledger.Ended):
            verdict.counts["acknowledged"] += 1
            if not _kept(line, there):
                verdict.lost.append(str(line)[:300])


def _kept(line: ledger.Line, there: dict[tuple[str, int, str], set[bytes]]) -> bool:
    if isinstance(line, ledger.Durable):
        return line.data in there[run_stream(line.run), line.kind, line.key]
    if isinstance(line, ledger.Started):
        found = [
            msgspec.json.decode(d, type=Started) for d in there[run_stream(line.run), Kind.RUN_STARTED, ""]
        ]
        return [(s.workflow, bytes(s.input)) for s in found] == [(line.workflow, line.input)]
    if isinstance(line, ledger.Sent):
        found = there[f"inbox/{line.run}", Kind.SIGNAL_SENT, line.id]
        return [bytes(msgspec.json.decode(d, type=Signal).value) for d in found] == [b"%d" % line.value]
    assert isinstance(line, ledger.Finished)
    found = [
        msgspec.json.decode(d, type=Finished) for d in there[run_stream(line.run), Kind.RUN_FINISHED, ""]
    ]
    return [(f.status, bytes(f.value)) for f in found] == [(line.status, line.value)]


def _check_executions(verdict: Verdict, folder: Path, histories: dict[str, list[Record]]) -> None:
    """Hold the ledger of executed steps against the log: exact, by the versions of take-over and outcome."""
    owned: dict[tuple[str, int], int] = {}
    outcome: dict[tuple[str, str], int] = {}
    uncalled: set[tuple[str, str]] = set()
    """Cancelled or refused: these may never have begun."""
    for run, records in histories.items():
        for record in records:
            if record.kind == Kind.RUN_OWNED:
                owned[run, msgspec.json.decode(record.data, type=Owned).token] = record.version
            elif record.kind in STEP_KINDS:
                outcome.setdefault((run, record.key), record.version)
                if record.kind == Kind.STEP_CANCELLED or _is_refused(record):
                    uncalled.add((run, record.key))
    began = [line for line in ledger.lines(folder / flows.EXECUTED) if isinstance(line, ledger.Began)]
    executed = {(line.run, line.key) for line in began}
    attempts = {(line.run, line.key, line.attempt) for line in began}
    verdict.counts["executed"] = len(began)
    verdict.counts["executed again"] = len(began) - len(attempts)
    for line in began:
        if (line.run, line.token) not in owned:
            verdict.damaged.append(f"{line} ran under a token that never owned the run")
        elif outcome.get((line.run, line.key), 1 << 62) < owned[line.run, line.token]:
            verdict.repeated.append(f"{line}: the log had it at version {outcome[line.run, line.key]}")
    again = Counter((line.run, line.key, line.attempt, line.token) for line in began)
    verdict.repeated += [f"{key} began {count} times" for key, count in again.items() if count > 1]
    unseen = {key for key in outcome.keys() - executed - uncalled if not flows.is_noted(key[1])}
    missing = [key for key in outcome if key in unseen and not _is_child(histories, key)]
    verdict.damaged += [f"{key} was recorded and never executed" for key in missing]


def _is_refused(record: Record) -> bool:
    is_failure = record.kind == Kind.STEP_FAILED
    return is_failure and msgspec.json.decode(record.data, type=ErrorValue).type == "reprise.BudgetExceeded"


def _is_child(histories: dict[str, list[Record]], key: tuple[str, str]) -> bool:
    return any(r.kind == Kind.CHILD_STARTED and r.key == key[1] for r in histories[key[0]])
