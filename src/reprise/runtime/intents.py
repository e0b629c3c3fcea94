"""Intents: that a call is about to be made is durable before it is made.

A step with ``effect=`` or ``undo=`` writes its intent in the moment in which it would begin, when it has its place among
those that execute. So whoever takes the run over knows which calls may have happened, with which arguments, under which
key, and until when they may still act.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.events import Intended, Kind
from reprise.kernel.policy import Fault
from reprise.runtime.branch import idempotency_key
from reprise.runtime.host import Job

T = TypeVar("T")

GIVEN = "What step {} ({}) gave for its undo"
"""What is too large, if that is."""


class Done(msgspec.Struct, Generic[T], frozen=True):
    """The call happened, and returned ``value`` or would have."""

    value: T


class Unsettled(Enum):
    """What else may be said of a call whose outcome was unknown."""

    NOT_DONE = "not_done"
    UNKNOWN = "unknown"


NOT_DONE = Unsettled.NOT_DONE
"""The call did not happen, and will not any more: it is made again."""
UNKNOWN = Unsettled.UNKNOWN
"""Nobody can tell whether the call happened."""


class Intent(msgspec.Struct, frozen=True):
    """A call that may have happened, as ``reconcile`` is asked about it."""

    run: str
    step: str
    """Name of the step."""
    effect: str
    key: str
    """What the receiver knows the call by: what ``current_step().idempotency_key`` was in it."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    attempt: int
    until: int
    """Microseconds since the epoch: the call could not act after this, if its timeout holds."""


def intent_of(job: Job) -> Intended | None:
    """Return the durable intent of a job, None if it has none."""
    return job.intent if job.step.intends else None


def prepare(job: Job, intent: Intended | None) -> None:
    """Let a job know the intent that an owner before has written for it."""
    job.intent, job.doubt = intent, ""


async def intend(job: Job) -> None:
    """Make the intent of a call durable; the caller makes the call at once.

    Raises:
        CodecError, PayloadTooLarge: arguments that an undo would need cannot be written.
        ConfigurationError: the function ``key=`` gives no text.
        asyncio.CancelledError: the run is no longer ours.
    """
    execution = job.execution
    intent = _intended(job, job.intent)
    if execution.done or execution.finishing:
        raise asyncio.CancelledError
    execution.undoable |= bool(intent.undo)
    execution.record(Kind.STEP_INTENDED, job.key, msgspec.json.encode(intent), job.print)
    job.intent = msgspec.structs.replace(intent, settled=True)  # until it is durable nothing is called
    if not await execution.written():
        raise asyncio.CancelledError
    job.intent = intent


def _intended(job: Job, before: Intended | None) -> Intended:
    execution, step = job.execution, job.step
    call, given = msgspec.Raw(b"null"), before is not None and before.given
    if before is not None and given:
        call = before.call  # an attempt before this one did something that is to be undone so
    elif step.undo is not None:
        written = step.arguments.encode(job.args, job.kwargs)
        execution.host.payloads.within(written, "The arguments of step {} ({})", step.name, job.key)
        call = msgspec.Raw(written)
    timeout = step.timeout
    return Intended(
        step.name,
        _known_as(job) if before is None else before.key,
        1 if before is None else before.number + 1,
        0 if timeout is None else execution.host.now() + round(timeout * MICROSECONDS),
        step.effect,
        step.full_name if step.undo is not None else "",
        call,
        given,
    )


def _known_as(job: Job) -> str:
    """Return what the receiver knows a call by."""
    step = job.step
    if step.key_of is None:
        return idempotency_key(job.execution.work, job.key)
    key = step.key_of(*job.args, **job.kwargs)
    if not isinstance(key, str) or not key:
        raise ConfigurationError(
            f"The function key= of step {step.name} gave {key!r}.",
            hint="Let it return a text that is not empty.",
        )
    return key


def open_intent(job: Job) -> Intended | None:
    """Return the intent of a call that may have happened, here or where an owner before made it; None if there is none."""
    if not job.step.intends:
        return None
    intent = job.execution.intents.get(job.key) or getattr(job, "intent", None)
    return None if intent is None or intent.settled else intent


def is_in_doubt(job: Job) -> bool:
    """Tell whether it is to be found out what became of a call, before it may be made again."""
    step = job.step
    if not step.effect or (step.reconcile is None and step.repeatable and not step.attended):
        return False
    return open_intent(job) is not None


def was_called(job: Job) -> bool:
    """Tell whether an attempt of a step with an intent was made; one that failed before the intent was durable never was."""
    return job.intent is not None and not job.intent.settled


def is_unknown(job: Job, fault: Fault) -> bool:
    """Tell whether an attempt that failed so may have happened, and calling again is not the answer to that."""
    step = job.step
    if not step.effect or fault is Fault.PERMANENT or job.asked or not was_called(job):
        return False
    return step.reconcile is not None or not step.repeatable
