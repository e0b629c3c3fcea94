"""The state of a run at any record of its history: a fold, without the code, with no truth of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from reprise.kernel.events import (
    CancelRequest,
    ChildStarted,
    Continued,
    ErrorValue,
    Finished,
    Kind,
    Record,
    Retrying,
    Signal,
    Started,
    Stranded,
)
from reprise.kernel.machine import RUN, RunStatus
from reprise.runtime.branch import name_in
from reprise.runtime.forking import generation_at
from reprise.runtime.history import STEP_KINDS

RUNNING, RETRYING, DONE, FAILED, CANCELLED = "running", "retrying", "done", "failed", "cancelled"
"""States of a step."""
OUTCOMES: dict[int, str] = {
    Kind.STEP_COMPLETED: DONE,
    Kind.STEP_FAILED: FAILED,
    Kind.STEP_CANCELLED: CANCELLED,
}
"""States by what came of a step."""
_MOVES: dict[int, str] = {
    Kind.RUN_OWNED: "own",
    Kind.RUN_PAUSED: "pause",
    Kind.RUN_STRANDED: "strand",
    Kind.CANCEL_REQUESTED: "cancel",
    Kind.UNDO_DONE: "compensate",
    Kind.UNDO_FAILED: "compensate",
}
"""What moves a run from state to state."""


class StepState(msgspec.Struct):
    """A step, or a child run, at a moment. Times in microseconds since the epoch, 0 = not known, or not yet."""

    key: str
    name: str
    state: str = RUNNING
    """running, retrying, done, failed, cancelled."""
    attempt: int = 1
    started_at: int = 0
    ended_at: int = 0
    version: int = 0
    """Of the record of its outcome, 0 = it has none yet."""
    took: int = 0
    """Microseconds of work; negative of a result that came from the cache: so much was saved."""
    value: msgspec.Raw | None = None
    """What it returned, None = nothing yet, or it failed."""
    error: ErrorValue | None = None
    """Of a step that failed, or whose latest attempt did."""
    child: str = ""
    """Id of the child run that it is."""


class RunState(msgspec.Struct):
    """A run as of one of its records. Steps, signals and the like are those of the generation that the record is in."""

    run: str
    version: int = 0
    """Of the record."""
    at: int = 0
    """When it was written, microseconds since the epoch."""
    workflow: str = ""
    status: str = RunStatus.PENDING
    """As the history says it; waiting is not written there."""
    reason: str = ""
    """Why it is being cancelled, or is stranded."""
    generation: int = 0
    input: msgspec.Raw = msgspec.Raw(b"null")
    """``[args, kwargs]``."""
    steps: dict[str, StepState] = {}
    """By key, in the order in which they are first heard of."""
    signals: list[Signal] = []
    """Those that it was given, in order."""
    timers: list[str] = []
    """Keys of timers that have fired."""
    finished: Finished | None = None

    @property
    def waiting(self) -> list[StepState]:
        """Steps that have not ended."""
        return [step for step in self.steps.values() if not step.version]

    @property
    def ended(self) -> list[StepState]:
        """Steps that have ended, in the order of the log."""
        return sorted((step for step in self.steps.values() if step.version), key=lambda step: step.version)


def state_at(run: str, records: Sequence[Record], at: int | None = None) -> RunState:
    """Return the state of a run as of record ``at`` of its history, None = the last one.

    What a step does is written when it has ended, or when it is slow. So what comes later is looked at too: a step that
    ended after the moment, and began before the next record was written, was under way then.

    Raises:
        NoSuchRecord: there is no such record, or no longer.
    """
    generation = generation_at(run, records, at)
    state = RunState(run)
    later = [record for record in generation if at is not None and record.version > at]
    for record in generation[: len(generation) - len(later)]:
        _apply(state, record)
    if later:
        _apply_later(state, later)
    return state


def _apply(state: RunState, record: Record) -> None:
    state.version, state.at = record.version, record.at
    kind, data = record.kind, record.data
    if kind in STEP_KINDS:
        _ended(state, record)
    elif kind in (Kind.STEP_STARTED, Kind.STEP_RETRYING, Kind.CHILD_STARTED):
        _under_way(state, record)
    elif kind == Kind.RUN_STARTED:
        _begun(state, msgspec.json.decode(data, type=Started))
    elif kind == Kind.RUN_CONTINUED:
        continued = msgspec.json.decode(data, type=Continued)
        state.generation, state.status = continued.generation, RunStatus.RUNNING
        _begun(state, continued.started)
    elif kind == Kind.SIGNAL_RECEIVED:
        state.signals.append(msgspec.json.decode(data, type=Signal))
    elif kind == Kind.TIMER_FIRED:
        state.timers.append(record.key)
    elif kind == Kind.RUN_FINISHED:
        state.finished = msgspec.json.decode(data, type=Finished)
        state.status = state.finished.status
    elif kind == Kind.CANCEL_REQUESTED:
        state.reason = msgspec.json.decode(data, type=CancelRequest).reason
    elif kind == Kind.RUN_STRANDED:
        state.reason = msgspec.json.decode(data, type=Stranded).reason
    if (move := _MOVES.get(kind)) is not None and RUN.allows(state.status, move):
        state.status = RUN.step(state.status, move)


def _begun(state: RunState, started: Started) -> None:
    state.workflow, state.input = started.workflow, started.input


def _under_way(state: RunState, record: Record) -> None:
    key, data = record.key, record.data
    if record.kind == Kind.STEP_STARTED:
        _step(state, key, record.at, msgspec.json.decode(data, type=str))
    elif record.kind == Kind.CHILD_STARTED:
        child = msgspec.json.decode(data, type=ChildStarted)
        _step(state, key, record.at, child.workflow).child = child.run
    else:
        step, retrying = _step(state, key, record.at - record.took), msgspec.json.decode(data, type=Retrying)
        step.state, step.attempt, step.error = RETRYING, retrying.attempt + 1, retrying.error


def _ended(state: RunState, record: Record) -> None:
    step = _step(state, record.key, record.at - max(0, record.took))
    step.state, step.version = OUTCOMES[record.kind], record.version
    step.ended_at, step.took = record.at, record.took
    if record.kind == Kind.STEP_COMPLETED:
        step.value, step.error = msgspec.Raw(record.data), None
    elif record.kind == Kind.STEP_FAILED:
        step.error = msgspec.json.decode(record.data, type=ErrorValue)


def _apply_later(state: RunState, later: Iterable[Record]) -> None:
    """Add the steps that were under way, as what was written afterwards tells."""
    next_at = 0
    for record in later:
        next_at = next_at or record.at
        if record.kind in STEP_KINDS or record.kind in (Kind.STEP_STARTED, Kind.STEP_RETRYING):
            began = record.at - max(0, record.took)
            if began <= next_at:
                _step(state, record.key, began)


def _step(state: RunState, key: str, started_at: int, name: str = "") -> StepState:
    step = state.steps.get(key)
    if step is None:
        step = state.steps[key] = StepState(key, name or name_in(key), started_at=started_at)
    return step
