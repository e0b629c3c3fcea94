"""Calls by which the bodies of chains and parallel executors leave: an agent does a task, a note says what was refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from reprise.kernel.codec import standard
from reprise.kernel.errors import CodecError
from reprise.kernel.events import Continued, ErrorValue, Kind, Record, Started
from reprise.kernel.failures import brief
from reprise.kernel.policy import Duration, Retry, seconds
from reprise.kernel.settings import WorkflowSettings
from reprise.runtime.host import STEP
from reprise.runtime.step import Step
from reprise.workflows.flow import Flow, flow_here, strand

DECLARE = "Return plain JSON, or say what it is by returns=; or run it without a store."
CURE = "Give plain JSON; or run it without a store."
REFUSED = ".refused"
"""Ends the key of the note that what a call returned was refused."""


class Around:
    """What a call is given beside its task; no part of what tells it from other calls."""

    __slots__ = ("context", "returns", "what")

    def __init__(self, what: str, context: dict[str, Any], returns: Any = None) -> None:
        self.what = what
        """What comes back, for people: ``What link 'coder' of chain 'review' returned``."""
        self.context = context
        self.returns = returns
        """Type of what comes back, None = whatever JSON knows."""


class Refused(msgspec.Struct, frozen=True):
    """The note that something came of a call, or was to be given to it, that cannot be used."""

    by: str
    """transform, validate, key."""
    reason: str


async def perform(agent_type: str, task: Any, around: Around) -> Any:
    """Let an agent do a task, and return what of its answer enters the history."""
    flow = flow_here()
    job = STEP.get()
    context = around.context | {"attempt": 1 if job is None else job.attempt}
    value = await flow.performers.perform(agent_type, task, context)
    return kept(flow, value, around.what, around.returns, hint=DECLARE)


async def refuse(note: Refused) -> Refused:
    """Record that a result was refused, so that the history says why a call was made once more."""
    return note


def kept(flow: Flow, value: Any, what: str, type: Any = None, *, hint: str = CURE) -> Any:
    """Return what of a value enters the history, written as its type where one is declared.

    Raises:
        CodecError: it cannot be written; ``what`` names it.
    """
    try:
        if type is None:
            return flow.hold(value, what)
        return msgspec.json.decode(standard.encode(value, type))
    except CodecError as error:
        why = error.__cause__ if isinstance(error.__cause__, CodecError) else error
        raise CodecError(f"{what} cannot be kept: {why.what}", hint=hint) from error


def meant(flow: Flow, value: Any, type: Any = None) -> Any:
    """Return the value that something of the history stands for."""
    return flow.held(value) if type is None else standard.decode(msgspec.json.encode(value), type)


# ---------------------------------------------------------------- steps


def checked_retries(given: int | None) -> int | None:
    """Return how often a call is made again, None = as the settings say.

    Raises:
        ConfigurationError: it is no number from 0.
    """
    return None if given is None else Retry(max_retries=given).attempts - 1


def checked_timeout(given: Duration | UnsetType | None) -> float | UnsetType | None:
    """Return the seconds of one call, None = no limit, ``UNSET`` = as the settings say.

    Raises:
        ConfigurationError: it is no length of time.
    """
    return given if given is None or given is UNSET else seconds(given, "timeout")


def agent_step(
    key: str, max_retries: int | None, timeout: float | UnsetType | None, defaults: WorkflowSettings
) -> Step[..., Any]:
    """Return the step by which an agent is called under a key; ``defaults`` hold for what is not given."""
    again = defaults.retry_count if max_retries is None else max_retries
    return _agent(again, defaults.default_timeout if timeout is UNSET else timeout).named(key)


def note_step(key: str) -> Step[..., Any]:
    """Return the step that notes what was refused of the call of that key."""
    return _note().named(key + REFUSED)


@cache
def _agent(max_retries: int, timeout: float | None) -> Step[..., Any]:
    return Step[..., Any](perform, retry=Retry(max_retries=max_retries), timeout=timeout)


@cache
def _note() -> Step[..., Any]:
    return Step[..., Any](refuse, pure=True)


def function_at(flow: Flow, place: str) -> Callable[..., Any] | None:
    """Return the function that stands at a place of the definition, such as ``coder.validate``."""
    return flow.functions.get(place)


def check_functions(flow: Flow, needed: Sequence[str]) -> None:
    """Check that the definition that is known here has the functions with which the run was started.

    Raises:
        NonDeterminismError: some are missing.
    """
    if missing := sorted(set(needed) - flow.functions.keys()):
        strand(
            f"The definition of {flow.name!r} that is known here lacks {', '.join(missing)}.",
            hint="Register the one that the run was started with, or give this one another name.",
        )


# ---------------------------------------------------------------- reading what came of them

ENDS: dict[int, str] = {
    Kind.STEP_COMPLETED: "completed",
    Kind.STEP_FAILED: "failed",
    Kind.STEP_CANCELLED: "cancelled",
}
"""How a call ended, by the kind of its record."""


def started_of(records: Sequence[Record]) -> tuple[Started, int]:
    """Return how a run was started, and when in microseconds."""
    first = records[0]
    if first.kind == Kind.RUN_CONTINUED:
        return msgspec.json.decode(first.data, type=Continued).started, first.at
    return msgspec.json.decode(first.data, type=Started), first.at


def ends_in(records: Sequence[Record]) -> Iterator[tuple[Record, str]]:
    """Yield the records of calls that ended, with how."""
    for record in records:
        if (status := ENDS.get(record.kind)) is not None:
            yield record, status


def said(data: bytes) -> str:
    """Return a recorded error as one phrase."""
    return brief(msgspec.json.decode(data, type=ErrorValue))
