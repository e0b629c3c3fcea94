"""Two runs side by side: where they first part, and every step of which something else came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from reprise.kernel.events import Answer, ErrorValue, Kind, Record, Signal, Update
from reprise.runtime.forking import generation_at
from reprise.runtime.history import STEP_KINDS
from reprise.runtime.moments import RunState, StepState, state_at

What = Literal["value", "outcome", "arguments", "only in a", "only in b"]

_NAMED: dict[int, type[Signal | Update | Answer]] = {
    Kind.SIGNAL_RECEIVED: Signal,
    Kind.UPDATE_RECEIVED: Update,
    Kind.ANSWER_RECEIVED: Answer,
}
"""What comes by mail: its key is an accident, what it says is not."""


class Differing(msgspec.Struct, frozen=True):
    """A step that differs."""

    key: str
    name: str
    what: What
    a: StepState | None
    b: StepState | None


class Parting(msgspec.Struct, frozen=True):
    """Where two histories first differ in what a body was given; None = that one holds nothing more."""

    place: int
    """How many records both bodies were given alike before."""
    a: Record | None
    b: Record | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How two runs differ; the times at which things happened do not count, nor do notes for people."""

    a: RunState
    b: RunState
    same_input: bool
    same_end: bool
    parting: Parting | None
    """None = the bodies were given the same."""
    differing: list[Differing]
    """Steps in the order in which the first of the two runs came to them."""
    alike: int
    """How many steps are the same in both."""

    @property
    def same(self) -> bool:
        """Tell whether both runs were started with, given, and ended with the same."""
        return self.same_input and self.same_end and self.parting is None and not self.differing


def compare(a: str, of_a: Sequence[Record], b: str, of_b: Sequence[Record]) -> Comparison:
    """Return how the latest generations of two runs differ, as their histories say."""
    of_a, of_b = generation_at(a, of_a, None), generation_at(b, of_b, None)
    one, other = state_at(a, of_a), state_at(b, of_b)
    prints_a, prints_b = _prints(of_a), _prints(of_b)
    differing: list[Differing] = []
    keys = dict.fromkeys([*one.steps, *other.steps])
    for key in keys:
        in_a, in_b = one.steps.get(key), other.steps.get(key)
        what = _what(in_a, in_b, prints_a.get(key, 0), prints_b.get(key, 0))
        if what is not None:
            name = next(step.name for step in (in_a, in_b) if step is not None)
            differing.append(Differing(key, name, what, in_a, in_b))
    return Comparison(
        a=one,
        b=other,
        same_input=_is_same(one.input, other.input),
        same_end=_says_of_end(one) == _says_of_end(other),
        parting=_parting(of_a, of_b),
        differing=differing,
        alike=len(keys) - len(differing),
    )


def _prints(records: Sequence[Record]) -> dict[str, int]:
    return {record.key: record.print for record in records if record.kind in STEP_KINDS}


def _what(a: StepState | None, b: StepState | None, print_a: int, print_b: int) -> What | None:
    """Return in what a step differs, None if in nothing. A result that was given for a fork has no arguments."""
    if a is None or b is None:
        return "only in b" if a is None else "only in a"
    if a.state != b.state:
        return "outcome"
    if a.value is not None and b.value is not None and not _is_same(a.value, b.value):
        return "value"
    if _says(a.error) != _says(b.error):
        return "outcome"
    return "arguments" if print_a and print_b and print_a != print_b else None


def _is_same(a: msgspec.Raw, b: msgspec.Raw) -> bool:
    return bytes(a) == bytes(b) or msgspec.json.decode(a) == msgspec.json.decode(b)


def _says(error: ErrorValue | None) -> tuple[str, str] | None:
    return (error.type, error.message) if error is not None else None


def _says_of_end(state: RunState) -> object:
    finished = state.finished
    if finished is None:
        return None
    return finished.status, _says(finished.error), msgspec.json.decode(finished.value)


def _parting(of_a: Sequence[Record], of_b: Sequence[Record]) -> Parting | None:
    """Return where two bodies were first given something else.

    Of a fan-out the same may come in another order; so a record parts the two only if the other run was not given the same
    at all, of what came by mail not as often.
    """
    given_a = [record for record in of_a if 16 <= record.kind < 64]
    given_b = [record for record in of_b if 16 <= record.kind < 64]
    left_a, left_b = Counter(map(_gist, given_a)), Counter(map(_gist, given_b))
    first_a, first_b = _first_not_in(given_a, left_b), _first_not_in(given_b, left_a)
    if first_a is None and first_b is None:
        return None
    place = min(at for at in (first_a, first_b) if at is not None)
    at_a = given_a[first_a] if first_a is not None else None
    at_b = given_b[first_b] if first_b is not None else None
    return Parting(place, at_a, at_b)


def _first_not_in(records: Sequence[Record], others: Counter[object]) -> int | None:
    left = others.copy()
    for at, record in enumerate(records):
        gist = _gist(record)
        if not left[gist]:
            return at
        left[gist] -= 1
    return None


def _gist(record: Record) -> object:
    """Return what a record says to a body, without the accidents of the run that it is of."""
    kind, key, data = record.kind, record.key, record.data
    if kind == Kind.STEP_COMPLETED:
        return kind, key, msgspec.json.encode(msgspec.json.decode(data), order="sorted")
    if kind == Kind.STEP_FAILED:
        return kind, key, _says(msgspec.json.decode(data, type=ErrorValue))
    if (body := _NAMED.get(kind)) is not None:
        return kind, msgspec.json.encode(msgspec.json.decode(data, type=body))
    return (kind,) if kind == Kind.CANCEL_REQUESTED else (kind, key)
