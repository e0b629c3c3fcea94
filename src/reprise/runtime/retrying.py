"""What of a run that ended badly it can go on from, when it is tried again: a choice that replay judges.

All up to what ended the run is kept, and of what came after it whatever succeeded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from reprise.kernel.errors import RetryRefused
from reprise.kernel.events import CancelRequest, ErrorValue, Finished, Kind, Record
from reprise.kernel.failures import brief
from reprise.kernel.machine import RunStatus
from reprise.runtime.branch import name_in, place_of
from reprise.stores.runs import RunRow

RETRIED = frozenset({RunStatus.FAILED, RunStatus.CANCELLED})
"""States of runs that are tried again."""

_STEP_ENDS = frozenset({Kind.STEP_COMPLETED, Kind.STEP_FAILED, Kind.STEP_CANCELLED})
_ENDS = frozenset({Kind.STEP_FAILED, Kind.STEP_CANCELLED, Kind.CANCEL_REQUESTED})
"""What is left out from the place on where the run began to end."""
_BEGINS = frozenset({Kind.STEP_RETRYING, Kind.CHILD_STARTED})
_UNDONE = frozenset({Kind.UNDO_DONE, Kind.UNDO_FAILED})
"""The run has taken back what it did."""
_SKIPPED = "reprise.StepSkipped"
_AGAIN = "__reprise_again__"
"""Where an error that leaves a body keeps what is to be done again."""


def do_again(error: BaseException, keys: Iterable[str], void: Iterable[str] = ()) -> None:
    """Let a run that fails with this error do the calls of these keys again when it is tried again, and no others but
    those that were skipped because of them.

    For bodies that know better than their records which of them ended it. What completed is kept, but for the calls of
    ``void``: what they returned was refused. No keys at all: it cannot be tried again so.
    """
    vars(error)[_AGAIN] = list(keys), list(void)


def again_after(error: BaseException) -> tuple[list[str] | None, list[str]]:
    """Return what :func:`do_again` said of an error, (None, []) = nothing."""
    return vars(error).get(_AGAIN, (None, []))


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


def outlasting(run: str, records: Sequence[Record]) -> set[int]:
    """Return the versions of what a body was given that is given again when a run that ended badly is tried again.

    Raises:
        RetryRefused: after what ended the run, steps were begun that may have undone what was done before.
    """
    left_out = _left_out(run, records)
    return {record.version for record in records if 16 <= record.kind < 64 and record.version not in left_out}


def _left_out(run: str, records: Sequence[Record]) -> set[int]:
    """Return the versions of the records that say what is to be done again.

    Raises:
        RetryRefused: as :func:`_began_to_end`, or its body said that nothing can be done again.
    """
    finished = msgspec.json.decode(records[-1].data, type=Finished)
    if finished.again is None or any(record.kind in _UNDONE for record in records):
        place = _began_to_end(run, records)
        return {record.version for record in records[place:] if record.kind in _ENDS}
    if not (finished.again or finished.void):
        why = brief(finished.error) if finished.error is not None else ""
        raise RetryRefused(
            f"Nothing that failed in run {run} can be done again. {why}".rstrip(),
            hint=f"Begin anew with the same input: reprise retry {run} --fresh",
        )
    # Nothing follows from what failed for good but what was skipped because of that.
    again, void = set(finished.again), set(finished.void)
    ends = [record for record in records if record.kind in _STEP_ENDS]
    return {
        record.version
        for record in ends
        if record.key in (void if record.kind == Kind.STEP_COMPLETED else again)
        or _error_of(record)[0] == _SKIPPED
    }


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
    if record.kind != Kind.STEP_FAILED:
        return "", ""
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
