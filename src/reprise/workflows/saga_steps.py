"""The steps of a saga as data: read from whatever words they are given in, all faults named at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from reprise.kernel.errors import PlanInvalid, nearest

TIMEOUT = 30.0
"""Seconds that a request may take unless the step says otherwise. A call of which nobody knows whether it is still under
way is compensated when they have passed, so this is also how long compensating may be held up."""
UNDO_ATTEMPTS = 10
"""How often a compensation is tried before it is left to a person."""


class SagaStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step of a saga. It is written into the input of each run, which so keeps the definition that it began with."""

    name: str
    service: str
    action: str = ""
    """What the service is asked to do; '' = what the step is called."""
    compensation: str = ""
    """Action of the same service that compensates it; '' = there is nothing to be done."""
    timeout: float = TIMEOUT
    """Seconds that a request may take."""
    max_retries: int | None = None
    """How often it is tried again after errors that may pass; None = as the settings say with which the run starts, else 3."""
    backoff: float = 0.5
    """Seconds before it is tried again for the first time; see ``Retry``."""
    irreversible: bool = False
    """The pivot: once it is done the saga can only go on."""


class SagaPlan(msgspec.Struct, frozen=True):
    """What a run of a saga is to do."""

    name: str
    steps: tuple[SagaStep, ...]


_WORDS = {
    **dict.fromkeys(("step", "name", "task_id"), "name"),
    **dict.fromkeys(("service", "agent_type", "agent_name", "agent"), "service"),
    **dict.fromkeys(("max_retries", "retries", "retry_count"), "max_retries"),
    **dict.fromkeys(("irreversible", "pivot"), "irreversible"),
    **{word: word for word in ("action", "compensation", "timeout", "backoff")},
}
"""What a field of a step may be called."""


def read_plan(saga: str, steps: Sequence[SagaStep | Mapping[str, Any]]) -> SagaPlan:
    """Return the plan of a saga.

    Raises:
        PlanInvalid: it has no steps, or steps have faults; names all of them.
    """
    faults: list[str] = []
    read: list[SagaStep] = []
    for number, given in enumerate(steps, 1):
        if isinstance(given, SagaStep):
            read.append(given)
            continue
        fields, wrong = _fields(given)
        what = f"step {fields.get('name') or number}"
        faults += [f"{what}: {fault}" for fault in wrong]
        if not wrong:
            try:
                read.append(msgspec.convert(fields, SagaStep))
            except msgspec.ValidationError as error:
                faults.append(f"{what}: {error}")
    read = [each if each.action else msgspec.structs.replace(each, action=each.name) for each in read]
    faults += _faults(read) if steps else ["it has no steps"]
    if faults:
        raise PlanInvalid(f"Saga {saga!r} cannot be carried out:\n" + "\n".join(f"- {one}" for one in faults))
    return SagaPlan(saga, tuple(read))


def _fields(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a step by our words, and what is wrong with theirs."""
    fields: dict[str, Any] = {}
    faults: list[str] = []
    for word, value in given.items():
        name = _WORDS.get(word)
        if name is None:
            near = nearest(word, _WORDS)
            faults.append(f"{word!r} is unknown" + (f"; did you mean {near!r}?" if near else ""))
        elif name in fields:
            faults.append(f"{word!r} says again what another word says")
        elif value is not None:
            fields[name] = value
    if isinstance(fields.get("timeout"), timedelta):
        fields["timeout"] = fields["timeout"].total_seconds()
    faults += [
        f"{word!r} is missing"
        for word, name in (("step", "name"), ("service", "service"))
        if not fields.get(name)
    ]
    return fields, faults


def _faults(steps: Sequence[SagaStep]) -> Iterator[str]:
    """Yield what is wrong with steps that can be read."""
    seen: set[str] = set()
    pivot = ""
    for each in steps:
        what = f"step {each.name}"
        if each.name in seen:
            yield f"{what}: another step is called so"
        seen.add(each.name)
        if each.irreversible and each.compensation:
            yield f"{what}: it is irreversible and has a compensation"
        elif pivot and each.compensation:
            yield f"{what}: it comes after the irreversible step {pivot}, so its compensation would never be done"
        pivot = pivot or (each.name if each.irreversible else "")
        if each.timeout <= 0 or each.backoff < 0 or (each.max_retries or 0) < 0:
            yield f"{what}: timeout, backoff and max_retries cannot be negative, and timeout not 0"
