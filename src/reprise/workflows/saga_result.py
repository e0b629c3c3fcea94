"""What came of a saga: a fold of the records of its run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from reprise.kernel.events import ErrorValue, Finished, Intended, Kind, Owed, Record, Started
from reprise.kernel.failures import brief
from reprise.kernel.machine import RunStatus
from reprise.runtime.handle import outcome_error
from reprise.runtime.undo import owed_in
from reprise.workflows.executing import Ended
from reprise.workflows.flow import Flow
from reprise.workflows.saga_steps import SagaPlan


@dataclass(frozen=True, slots=True)
class Uncompensated:
    """A step that could not be compensated, with what a person needs to do it."""

    step: str
    service: str
    compensation: str
    idempotency_key: str
    """What the service knows the step by."""
    result: Any
    """What the service said when it did the step; None if nobody knows whether it did."""
    error: str


@dataclass(frozen=True, slots=True)
class SagaResult:
    """What came of a run of a saga."""

    saga_id: str
    run_id: str
    status: str
    """completed; failed or cancelled: what had been done is compensated; needs_attention: a person has to see to it."""
    results: dict[str, Any]
    """What services said, by step; also of steps that were compensated later."""
    compensated: list[str]
    """Steps that were compensated, in that order; the one that failed is among them if it may have happened."""
    failed_step: str | None = None
    """The step that failed; or, past the pivot, the one that a person has to see to."""
    error: ErrorValue | None = None
    attention: str = ""
    """What a person has to see to, and how."""
    uncompensated: list[Uncompensated] = field(default_factory=list[Uncompensated])

    @property
    def reason(self) -> str:
        """Why it did not complete, in a line; '' if it did."""
        return brief(self.error) if self.error is not None else ""

    def raise_for_status(self) -> SagaResult:
        """Return itself if the saga completed.

        Raises:
            the error of the step that failed; RunCancelled; RunNeedsAttention.
        """
        if self.status == RunStatus.COMPLETED:
            return self
        raise outcome_error(self.run_id, Finished(self.status, error=self.error))


def read_saga(ended: Ended) -> SagaResult:
    """Return what came of the run of a saga."""
    finished, records = ended.finished, ended.records
    plan = _plan_in(records[0])
    story = _Story(ended.flow, {each.name for each in plan.steps})
    for record in records:
        story.learn(record)
    resting = finished.status == RunStatus.NEEDS_ATTENTION
    error = finished.error
    return SagaResult(
        plan.name,
        ended.run,
        finished.status,
        story.results,
        story.compensated,
        None if finished.status == RunStatus.COMPLETED else story.failed or next(iter(story.open), None),
        error,
        error.message if resting and error is not None else "",
        [_uncompensated(plan, one, story.results) for one in owed_in(records) if one.failed]
        if resting
        else [],
    )


class _Story:
    """What the records tell of the steps of a saga."""

    def __init__(self, flow: Flow, steps: set[str]) -> None:
        self._flow = flow
        self._steps = steps
        self.results: dict[str, Any] = {}
        self.compensated: list[str] = []
        self.failed = ""
        self.open: dict[str, None] = {}
        """Steps that have begun and of which nothing is known."""

    def learn(self, record: Record) -> None:
        """Take in one record more."""
        kind, key = record.kind, record.key
        if key not in self._steps:
            return
        if kind == Kind.STEP_INTENDED:
            self.open[key] = None
        elif kind == Kind.UNDO_DONE:
            self.compensated.append(key)
        elif kind in (Kind.STEP_COMPLETED, Kind.STEP_FAILED, Kind.STEP_CANCELLED):
            self.open.pop(key, None)
            if kind == Kind.STEP_COMPLETED:
                self.results[key] = self._flow.held(msgspec.json.decode(record.data))
            elif kind == Kind.STEP_FAILED:
                self.failed = key


def _plan_in(first: Record) -> SagaPlan:
    started = msgspec.json.decode(first.data, type=Started)
    (plan, *_), _ = msgspec.json.decode(bytes(started.input))
    return msgspec.convert(plan, SagaPlan)


def _uncompensated(plan: SagaPlan, one: Owed, results: dict[str, Any]) -> Uncompensated:
    intent: Intended = one.intent
    step = next(each for each in plan.steps if each.name == intent.name)
    error = brief(one.failed) if one.failed is not None else ""
    return Uncompensated(step.name, step.service, step.compensation, intent.key, results.get(one.key), error)
