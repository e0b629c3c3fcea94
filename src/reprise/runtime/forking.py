"""Trying a run again that has ended: a *fork* under an id of its own goes on from what the first one recorded.

The fork begins with the records up to what ended the run, and of those after it with what succeeded, so nothing that
succeeded is done twice. What it is given by chance, and the idempotency keys of its steps, are those of the first run:
to the outside it is the same work. Replay is the judge of whether the body can go on from there; a record that nobody
waits for strands the fork before anything is executed. See ``docs/decisions/0017-trying-again.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from reprise.kernel.errors import RetryRefused, RunNotFound
from reprise.kernel.events import (
    CancelRequest,
    Continued,
    ErrorValue,
    Event,
    Finished,
    Kind,
    Record,
    Started,
    inbox_stream,
    run_stream,
)
from reprise.kernel.machine import RunStatus
from reprise.runtime.branch import name_in, place_of
from reprise.runtime.history import STEP_KINDS, read_history
from reprise.runtime.starting import PYTHON
from reprise.stores.log import Group, RunChange
from reprise.stores.runs import RunRow
from reprise.stores.store import Store

RETRY_OF = "reprise.retry_of"
"""Tag of a fork that names the run in whose place it goes on."""
RETRIED = frozenset({RunStatus.FAILED, RunStatus.CANCELLED})
"""States of runs that are forked."""

_ENDS = frozenset({Kind.STEP_FAILED, Kind.STEP_CANCELLED, Kind.CANCEL_REQUESTED})
"""What is left out from the place on where the run began to end."""
_SETTLED = STEP_KINDS - {Kind.STEP_CANCELLED}
_OF_STEPS = frozenset({Kind.STEP_STARTED, Kind.STEP_RETRYING, Kind.CHILD_STARTED})
_BEGINS = frozenset({Kind.STEP_RETRYING, Kind.CHILD_STARTED})
_OF_RUNS = frozenset(
    {Kind.RUN_PAUSED, Kind.RUN_RESUMED, Kind.RUN_STRANDED, Kind.RUN_FINISHED, Kind.RUN_OWNED}
)
_UNDONE = frozenset({Kind.UNDO_DONE, Kind.UNDO_FAILED})
"""The run has taken back what it did."""
_TRY = re.compile(r"(.+)~(\d+)")


class Fork(NamedTuple):
    """What a run that is tried again begins with."""

    id: str
    groups: tuple[Group, ...]
    kept: int
    """Steps that are not done again."""
    again: tuple[str, ...]
    """Names of steps that failed or were cancelled, and begin anew."""


def next_try(run: str) -> str:
    """Return the id of a run's next try. One run has one next try, so that nobody starts two.

    >>> next_try("order-7"), next_try("order-7~2")
    ('order-7~2', 'order-7~3')
    """
    found = _TRY.fullmatch(run)
    return f"{found[1]}~{int(found[2]) + 1}" if found else f"{run}~2"


async def fork(store: Store, row: RunRow, now: int, *, fresh: bool = False) -> Fork:
    """Return what a run that failed or was cancelled is tried again with, as groups to be appended in one commit.

    ``fresh``: with its input only (that of its latest generation), as a run of its own.

    Raises:
        RetryRefused: it has not ended so, has a parent, or undid what it had done.
        RunNotFound: its history is gone.
    """
    check(row)
    records = await store.log.read(run_stream(row.id), row.since)
    if not records:
        raise RunNotFound(f"The history of run {row.id} is gone.", hint="List runs: reprise ps")
    id = next_try(row.id)
    if fresh:
        return Fork(id, (_group(row, id, [_anew(row, records[0], now)], now),), 0, ())
    kept = _kept(row.id, records)
    events = [_begin(row, records[0], now), *(_event(record) for record in kept)]
    groups = [_group(row, id, events, now, generation=row.generation, indexed=True)]
    history = read_history(row.id, records)
    consumed = history.continued.inbox if history.continued is not None else 0
    mail = await store.log.read(inbox_stream(row.id), consumed)
    if left := [_event(sent) for sent in mail if _is_left(sent, history.seen)]:
        groups.append(Group(inbox_stream(id), left))
    done = {record.key for record in kept if record.kind in STEP_KINDS}
    ended = {record.key: None for record in records if record.kind in STEP_KINDS}
    again = dict.fromkeys(name_in(key) for key in ended if key not in done)
    return Fork(id, tuple(groups), len(done), tuple(again))


def check(row: RunRow) -> None:
    """Check that a run is one that can be tried again.

    Raises:
        RetryRefused: it is not.
    """
    if row.parent is not None:
        raise RetryRefused(
            f"Run {row.id} is a child of {row.parent}.",
            hint=f"Try that one again: reprise retry {row.parent}",
        )
    if row.status in RETRIED:
        return
    if row.status == RunStatus.COMPLETED:
        raise RetryRefused(
            f"Run {row.id} completed.", hint=f"Run it anew: reprise run … --id {row.id} --again"
        )
    hint = (
        "Cancel it first."
        if row.status not in (RunStatus.PAUSED, RunStatus.STRANDED)
        else (f"Let it go on: reprise resume {row.id}")
    )
    raise RetryRefused(f"Run {row.id} has not ended ({row.status}).", hint=hint)


def _is_left(sent: Record, seen: dict[str, None]) -> bool:
    """Tell whether mail is a signal that the run never took in."""
    return sent.kind == Kind.SIGNAL_SENT and sent.key not in seen


# ---------------------------------------------------------------- what a fork begins with


def _group(
    row: RunRow,
    id: str,
    events: Sequence[Event],
    now: int,
    *,
    generation: int = 0,
    indexed: bool = False,
) -> Group:
    started = _started_in(events[0])
    change = RunChange(
        id,
        RunStatus.PENDING,
        row.workflow,
        None,
        None,
        now,
        row.build,
        started.tags,
        generation=generation,
        at=now,
    )
    if indexed:
        change.tags = started.tags | row.tags | {RETRY_OF: row.id}
    return Group(run_stream(id), events, 0, run=change)


def _started_in(first: Event | Record) -> Started:
    if first.kind == Kind.RUN_CONTINUED:
        return msgspec.json.decode(first.data, type=Continued).started
    return msgspec.json.decode(first.data, type=Started)


def _next_started(row: RunRow, first: Record, now: int, *, again: bool) -> Started:
    """Return the conditions of the start once more; a deadline is as far away as it was. ``again``: it is the same work."""
    before = _started_in(first)
    return msgspec.structs.replace(
        before,
        deadline=now + max(0, before.deadline - row.created_at) if before.deadline else 0,
        tags=before.tags | {RETRY_OF: row.id},
        origin=(before.origin or row.id) if again else "",
        work=(before.work or row.id) if again else "",
    )


def _anew(row: RunRow, first: Record, now: int) -> Event:
    started = msgspec.structs.replace(_next_started(row, first, now, again=False), python=PYTHON)
    return Event(Kind.RUN_STARTED, now, "", msgspec.json.encode(started))


def _begin(row: RunRow, first: Record, now: int) -> Event:
    started = _next_started(row, first, now, again=True)
    if first.kind == Kind.RUN_STARTED:
        return Event(first.kind, first.at, "", msgspec.json.encode(started))
    continued = msgspec.json.decode(first.data, type=Continued)
    # Nothing that it consumed is in the new inbox, and no generation before it in the new log.
    continued = msgspec.structs.replace(continued, started=started, inbox=0, borders=[])
    return Event(first.kind, first.at, "", msgspec.json.encode(continued))


def _event(record: Record) -> Event:
    return Event(record.kind, record.at, record.key, record.data, record.print, record.took)


# ---------------------------------------------------------------- which records are kept


def _kept(run: str, records: Sequence[Record]) -> list[Record]:
    """Return the records of a run that a fork goes on from, without the first.

    Raises:
        RetryRefused: after what ended the run, steps were begun that may have undone what was done before.
    """
    place = _began_to_end(run, records)
    delivered = {
        record.version: record
        for at, record in enumerate(records)
        if 16 <= record.kind < 64 and not (at >= place and record.kind in _ENDS)
    }
    ended = {record.key for record in delivered.values() if record.kind in STEP_KINDS}
    # What was cancelled may have happened: its intent stays, so that it is found out before it is called again.
    dropped = {record.key for record in records if record.kind in _SETTLED} - ended
    owned = next((record.version for record in records if record.kind == Kind.RUN_OWNED), 0)
    kept: list[Record] = []
    for record in records[1:]:
        if record.version in delivered or record.version == owned:
            # The first owner says when the body's time began.
            kept.append(record)
        elif record.kind in _OF_STEPS:
            if record.key in ended:
                kept.append(record)
        elif record.kind == Kind.BUDGET:
            kept.append(record)  # what was spent stays spent: it is the same work
        elif record.kind < 16 and record.kind not in _OF_RUNS and record.key not in dropped:
            kept.append(record)  # intents: what is in doubt stays in doubt
    return kept


def _began_to_end(run: str, records: Sequence[Record]) -> int:
    """Return the index of the record that ended a run, their number when none did: the body did by itself."""
    if undone := [record for record in records if record.kind in _UNDONE]:
        raise _refused(run, "it failed", undone)
    finished = msgspec.json.decode(records[-1].data, type=Finished)
    cancelled = _cancelled_at(records, finished)
    if cancelled is not None:
        if after := _begun_after(records, cancelled):
            raise _refused(run, "it was asked to stop", after)
        return cancelled
    failures = [at for at, record in enumerate(records) if record.kind == Kind.STEP_FAILED]
    errors = set(_errors(finished.error)) if finished.error is not None else set[tuple[str, str]]()
    decisive = [at for at in failures if _error_of(records[at]) in errors]
    # Of a fan-out many may have failed alike; the first of them ended it, unless the body went on after it.
    for at in decisive or failures[-1:]:
        if not _begun_after(records, at):
            return at
    if decisive:
        name = name_in(records[decisive[-1]].key)
        raise _refused(run, f"{name!r} failed", _begun_after(records, decisive[-1]))
    return len(records)


def _cancelled_at(records: Sequence[Record], finished: Finished) -> int | None:
    error = finished.error
    by_deadline = error is not None and error.type == "reprise.DeadlineExceeded"
    if finished.status != RunStatus.CANCELLED and not by_deadline:
        return None
    for at, record in enumerate(records):
        if record.kind == Kind.CANCEL_REQUESTED:
            request = msgspec.json.decode(record.data, type=CancelRequest)
            if request.deadline or not by_deadline:
                return at
    return None


def _errors(error: ErrorValue) -> Iterable[tuple[str, str]]:
    """Yield an error and, of a group, its members."""
    yield error.type, error.message
    for member in error.within:
        yield from _errors(member)


def _error_of(record: Record) -> tuple[str, str]:
    error = msgspec.json.decode(record.data, type=ErrorValue)
    return error.type, error.message


def _begun_after(records: Sequence[Record], place: int) -> list[Record]:
    """Return steps that succeeded and that the body began because of a record: in the branch of a step that failed or
    in one that waited for it, later than that.

    Neighbours of a fan-out are none of them, whenever they began. Of what is not seen here (steps with explicit keys,
    new branches, a clock that was set back) replay is the judge.
    """
    cause = records[place]
    branch, ordinal = place_of(cause.key) or ("", 0)
    after: list[Record] = []
    for record in records[place + 1 :]:
        where = place_of(record.key) if record.kind == Kind.STEP_COMPLETED else None
        if where is None:
            continue
        path, number = where
        if path == branch and ordinal:
            is_later = number > ordinal
        elif path == branch or branch.startswith(f"{path}/"):
            is_later = _begun(records, record) >= cause.at
        else:
            is_later = False
        if is_later:
            after.append(record)
    return after


def _begun(records: Sequence[Record], ended: Record) -> int:
    """Return when the first attempt of a step that has ended began, as far as is known."""
    of_step = [each for each in records if each.key == ended.key and each.kind in _BEGINS]
    return min(each.at - each.took for each in (*of_step, ended))


def _refused(run: str, what: str, after: Sequence[Record]) -> RetryRefused:
    names = ", ".join(dict.fromkeys(name_in(record.key) for record in after[:5]))
    return RetryRefused(
        f"After {what}, run {run} did {names}: what was done before may be undone.",
        hint=f"Begin anew with the same input: reprise retry {run} --fresh",
    )
