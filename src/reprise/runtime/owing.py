"""What a run owes to undo should it fail: a fold of its log."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from reprise.kernel.events import Continued, ErrorValue, Intended, Kind, Owed, Record, Resolved
from reprise.kernel.failures import decode_error
from reprise.kernel.policy import Fault, fault


def owed_in(records: Iterable[Record]) -> list[Owed]:
    """Return what is left to undo by the records of a generation, in the order in which it was done."""
    found: dict[str, Owed] = {}
    for record in records:
        kind, key = record.kind, record.key
        if kind == Kind.RUN_CONTINUED:
            found = {one.key: one for one in msgspec.json.decode(record.data, type=Continued).owed}
        elif kind == Kind.RUN_OWNED:
            found = {key: replace(one, loose=one.loose or not one.outcome) for key, one in found.items()}
        elif kind == Kind.RUN_RESUMED:
            found = {key: replace(one, failed=None) for key, one in found.items()}
        elif kind == Kind.STEP_INTENDED:
            intent = msgspec.json.decode(record.data, type=Intended)
            if intent.undo:
                found[key] = Owed(key, intent)
        elif kind == Kind.UNDO_DONE:
            found.pop(key, None)
        elif (one := found.get(key)) is not None:
            found[key] = _learned(one, record)
    return [one for one in found.values() if one.outcome == Kind.STEP_COMPLETED or not one.intent.settled]


def _learned(one: Owed, record: Record) -> Owed:
    kind, data = record.kind, record.data
    if kind == Kind.STEP_COMPLETED:
        return replace(one, outcome=kind, value=msgspec.Raw(data))
    if kind == Kind.STEP_CANCELLED:
        return replace(one, outcome=kind, loose=True)
    if kind == Kind.STEP_FAILED:
        refused = fault(decode_error(msgspec.json.decode(data, type=ErrorValue))) is Fault.PERMANENT
        return replace(one, outcome=kind, loose=one.loose or not refused)
    if kind == Kind.UNDO_FAILED:
        return replace(one, failed=msgspec.json.decode(data, type=ErrorValue))
    if kind == Kind.EFFECT_RESOLVED and msgspec.json.decode(data, type=Resolved).answer == "not_done":
        return replace(one, intent=replace(one.intent, settled=True))
    return one


def handed_on(records: Iterable[Record], continued: Continued | None, generation: int) -> list[Owed]:
    """Return what a generation leaves to the next to undo, under keys that no generation shares."""
    known = {one.key for one in continued.owed} if continued is not None else set[str]()
    return [
        one if one.key in known else replace(one, key=f"~{generation}{one.key}") for one in owed_in(records)
    ]
