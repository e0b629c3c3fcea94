"""What a run did to the outside, as its log says: a fold, for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from reprise.kernel.errors import EffectNotOpen
from reprise.kernel.events import Continued, ErrorValue, Intended, Kind, Record, Resolved
from reprise.kernel.failures import brief

_STATES: dict[int, str] = {
    0: "open",
    Kind.STEP_COMPLETED: "done",
    Kind.STEP_FAILED: "failed",
    Kind.STEP_CANCELLED: "cancelled",
}


class EffectRow(msgspec.Struct):
    """One call of a step with ``effect=`` or ``undo=``. Times in microseconds since the epoch, 0 = none."""

    step_key: str
    step: str
    """Name of the step."""
    effect: str
    key: str
    """What the receiver knows the call by."""
    number: int
    """How often it was about to be made."""
    at: int
    """When it was last about to be made."""
    until: int
    """Until when that call may have acted."""
    state: str = "open"
    """open: executing, or nobody knows; done, failed, cancelled; not_done: found not to have happened."""
    undo: str = ""
    """owed: would be undone should the run fail; undone; failed: could not be undone; '' = it has no undo."""
    error: str = ""


def effects_in(records: Iterable[Record]) -> list[EffectRow]:
    """Return the calls that a generation's records tell of, in the order in which they were first made."""
    rows: dict[str, EffectRow] = {}
    for record in records:
        if record.kind == Kind.RUN_CONTINUED:
            for owed in msgspec.json.decode(record.data, type=Continued).owed:
                rows[owed.key] = row = _row(owed.key, owed.intent, 0)
                row.state = _STATES[owed.outcome]
        elif record.kind == Kind.STEP_INTENDED:
            rows[record.key] = _row(record.key, msgspec.json.decode(record.data, type=Intended), record.at)
        elif (found := rows.get(record.key)) is not None:
            _learn(found, record)
    return list(rows.values())


def _row(key: str, intent: Intended, at: int) -> EffectRow:
    undo = "owed" if intent.undo and not intent.settled else ""
    return EffectRow(key, intent.name, intent.effect, intent.key, intent.number, at, intent.until, undo=undo)


def _learn(row: EffectRow, record: Record) -> None:
    kind = record.kind
    if kind in _STATES:
        row.state = _STATES[kind]
        if kind == Kind.STEP_FAILED:
            row.error = brief(msgspec.json.decode(record.data, type=ErrorValue))
    elif kind == Kind.EFFECT_RESOLVED:
        row.state = msgspec.json.decode(record.data, type=Resolved).answer
    elif kind == Kind.UNDO_DONE:
        row.undo = "undone"
    elif kind == Kind.UNDO_FAILED:
        row.undo = "failed"
        row.error = brief(msgspec.json.decode(record.data, type=ErrorValue))


def not_open(run: str, key: str, status: str, open: Sequence[str]) -> EffectNotOpen:
    """Return the error for an answer that nobody waits for; ``open`` are the keys of those that may be answered."""
    if not open:
        return EffectNotOpen(
            f"No effect of run {run} has an unknown outcome.", hint=f"Look: reprise effects {run}"
        )
    if key not in open:
        return EffectNotOpen(
            f"No effect {key!r} of run {run} has an unknown outcome.",
            hint=f"Those that have: {', '.join(open[:5])}",
        )
    return EffectNotOpen(
        f"Run {run} is {status}: effect {key!r} may still be called, or be found out about.",
        hint="Say what became of it when the run needs attention.",
    )
