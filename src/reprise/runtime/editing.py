"""What is asked of a fork: where it leaves the first run, and which results it is given instead of the recorded ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, cast

import msgspec

from reprise.kernel.codec import encode_as_it_is
from reprise.kernel.errors import ForkRefused, NoSuchRecord, nearest
from reprise.kernel.events import Kind, Record
from reprise.runtime.branch import name_in
from reprise.runtime.history import STEP_KINDS
from reprise.runtime.payloads import Payloads
from reprise.runtime.step import Recorded
from reprise.runtime.workflow import Workflow

Code = Literal["current", "pinned"]
Edited = str | Recorded[..., Any]
"""A step by its key, by its name, or as the object that it is."""

_NAMES_STEP = STEP_KINDS | {Kind.STEP_STARTED, Kind.STEP_RETRYING, Kind.CHILD_STARTED, Kind.STEP_INTENDED}


class Outcome(NamedTuple):
    """What is to have come of a step."""

    kind: int
    data: bytes


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Which fork is wanted; see :meth:`~reprise.runtime.travel.Travel.fork`."""

    at: int | str | None = None
    edits: dict[str, Outcome] = {}
    """Outcomes by key or name of the step."""
    change: Callable[[bytes], bytes] | None = None
    """Makes the input of the fork of that of the first run; None = it is the same."""
    pinned: bool = False
    id: str = ""

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing is changed and nothing left out, but what made the run fail."""
        return self.at is None and not self.edits and self.change is None

    def print(self, run: str, at: int, edits: Mapping[str, Outcome], input: bytes) -> int:
        """Return 63 bits that stand for all that is asked of a run of which the records up to ``at`` are kept."""
        given = sorted((key, *outcome) for key, outcome in edits.items())
        asked = msgspec.json.encode((run, at, self.is_whole, given, input, self.pinned))
        return int.from_bytes(blake2b(asked, digest_size=8).digest(), "big") >> 1


def steps_near(function: Callable[..., Any]) -> dict[str, Recorded[..., Any]]:
    """Return the steps and workflows by name that a function's module, and what it encloses, knows under one name each."""
    found: dict[str, Recorded[..., Any]] = {}
    unclear: set[str] = set()
    for step in _known_to(function):
        if found.setdefault(step.name, step).function is not step.function:
            unclear.add(step.name)  # nobody can tell which of them is meant
    return {name: step for name, step in found.items() if name not in unclear}


def _known_to(function: Any) -> Iterator[Recorded[..., Any]]:
    values = list(getattr(function, "__globals__", {}).values())
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # it is empty: what it would hold was not defined yet
            values.append(cell.cell_contents)
    for value in values:
        if isinstance(value, Recorded):
            yield cast("Recorded[..., Any]", value)


def outcomes_of(
    edit: Mapping[Edited, Any], workflow: Workflow[..., Any] | None, payloads: Payloads
) -> dict[str, Outcome]:
    """Return edits as they are recorded: values by the type that the step declares, where it is known; errors as failures.

    Raises:
        CodecError: a value cannot be written so.
        PayloadTooLarge: it is.
    """
    near = steps_near(workflow.function) if workflow is not None else {}
    found: dict[str, Outcome] = {}
    for what, value in edit.items():
        step = what if isinstance(what, Recorded) else near.get(name_in(what))
        name = what if isinstance(what, str) else what.key or what.name
        if isinstance(value, BaseException):
            found[name] = Outcome(Kind.STEP_FAILED, msgspec.json.encode(payloads.failure(value)))
            continue
        data = step.encode(value) if step is not None else encode_as_it_is(value)
        found[name] = Outcome(Kind.STEP_COMPLETED, payloads.within(data, "The edited result of {!r}", name))
    return found


def key_of(run: str, records: Sequence[Record], wanted: str) -> str:
    """Return the key of the step that ``wanted`` names, be it its key or its name.

    Raises:
        NoSuchRecord: the history tells of no such step.
        ForkRefused: it tells of several of that name.
    """
    keys = dict.fromkeys(record.key for record in records if record.kind in _NAMES_STEP)
    if wanted in keys:
        return wanted
    named = [key for key in keys if name_in(key) == wanted]
    if len(named) == 1:
        return named[0]
    if named:
        some = ", ".join(named[:5]) + (" …" if len(named) > 5 else "")
        raise ForkRefused(
            f"Run {run} has {len(named)} steps {wanted!r}.", hint=f"Give the key of one: {some}"
        )
    near = nearest(wanted, [*keys, *map(name_in, keys)])
    hint = f"Did you mean {near!r}?" if near else f"See what it has: reprise events {run}"
    raise NoSuchRecord(f"The history of run {run} tells of no step {wanted!r}.", hint=hint)
