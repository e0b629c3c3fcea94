"""What came of a run of a plan: a fold of its records, which is all that anybody knows of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

import msgspec

from reprise.kernel.arguments import Arguments
from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.events import ErrorValue, Finished, Kind, Record, Started
from reprise.kernel.failures import decode_error
from reprise.kernel.machine import RunStatus
from reprise.runtime.handle import outcome_error
from reprise.workflows.executing import Ended
from reprise.workflows.interpreter import interpret
from reprise.workflows.performing import ITEMS, skipped_because
from reprise.workflows.planned import Planned, PlannedStep

PARTIAL = "partial"
"""Status of a result whose run completed although steps of it failed."""
StepStatus = Literal["completed", "failed", "skipped", "cancelled", "planned"]
_SKIPPED = "reprise.StepSkipped"
_arguments = Arguments(interpret)


class StepOutcome(msgspec.Struct, omit_defaults=True):
    """What came of one step of a plan."""

    name: str
    status: StepStatus = "planned"
    """``planned``: it has not ended, or was never reached."""
    cause: str = ""
    """Why it was skipped."""
    error: ErrorValue | None = None
    seconds: float = 0.0
    """Work of its last attempt; of a map step, of all items."""
    retries: int = 0
    items: int = 0
    """Items of a map step."""


class PlanMetrics(msgspec.Struct, omit_defaults=True):
    """How a run went, in numbers."""

    seconds: float = 0.0
    """From its start to its end."""
    work_seconds: float = 0.0
    """Work of all steps; divided by ``seconds`` it says how much was done at once."""
    planned: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    retries: int = 0

    @property
    def speed_up(self) -> float:
        """Return how many times longer it would have taken one step after the other."""
        return self.work_seconds / self.seconds if self.seconds else 1.0


class PlanResult(msgspec.Struct):
    """What came of a run of a plan."""

    run_id: str
    name: str
    """Of the plan."""
    status: str
    """completed; ``partial``: completed although steps failed; failed, cancelled; or why it rests: paused, stranded,
    needs_attention."""
    output: Any
    """What the run returned."""
    results: dict[str, Any]
    """Results of the steps that completed, by name."""
    context: dict[str, Any]
    """The shared context, with what steps wrote into it."""
    steps: dict[str, StepOutcome]
    """All steps of the plan, in its order."""
    metrics: PlanMetrics
    finished: Finished

    @property
    def workflow_id(self) -> str:
        """Return the run's id."""
        return self.run_id

    @property
    def execution_id(self) -> str:
        """Return the run's id."""
        return self.run_id

    @property
    def errors(self) -> dict[str, BaseException]:
        """Return what the steps raised that failed, by name; of those that were skipped because of them, nothing."""
        return {name: decode_error(step.error) for name, step in self.steps.items() if step.error is not None}

    @property
    def skipped(self) -> dict[str, str]:
        """Return why steps were skipped, by name."""
        return {name: step.cause for name, step in self.steps.items() if step.status == "skipped"}

    def raise_for_status(self) -> PlanResult:
        """Return this result, if the run completed, also if it is partial.

        Raises:
            PlanFailed: steps that the plan cannot do without failed.
            RunCancelled, RunPaused, RunStranded, RunNeedsAttention: it ended, or rests, so.
            DeadlineExceeded: it took longer than it may.
        """
        if self.status in (RunStatus.COMPLETED, PARTIAL):
            return self
        raise outcome_error(self.run_id, self.finished)


def read_plan(ended: Ended) -> PlanResult:
    """Return what came of a run that a face has executed."""
    result = read_outcome(ended.run, ended.records, ended.finished)
    held = ended.flow.held
    result.results = {name: held(value) for name, value in result.results.items()}
    for name, step in result.steps.items():
        if step.items and isinstance(result.results.get(name), list):
            result.results[name] = [held(value) for value in result.results[name]]
    if isinstance(cast("object", result.output), dict):
        output = cast("dict[str, Any]", held(result.output))
        result.output = {name: held(value) for name, value in output.items()}
    return result


def read_outcome(run: str, records: Sequence[Record], finished: Finished | None = None) -> PlanResult:
    """Fold the records of a run of a plan, one that goes on too; ``finished`` says more of one that rests.

    Raises:
        CodecError: it is no run of a plan.
    """
    started = msgspec.json.decode(records[0].data, type=Started)
    args, _ = _arguments.decode(bytes(started.input))
    plan, context = args[0], args[2]
    fold = _Fold(plan, dict(context), dict(args[3] or {}) if len(args) > 3 else {})
    for record in records[1:]:
        fold.take(record)
    end = finished or fold.finished or Finished(RunStatus.RUNNING)
    status = end.status
    if status == RunStatus.COMPLETED and any(step.status == "failed" for step in fold.steps.values()):
        status = PARTIAL
    output = msgspec.json.decode(end.value) if end.status == RunStatus.COMPLETED else None
    metrics = fold.metrics((records[-1].at - records[0].at) / MICROSECONDS)
    return PlanResult(
        run, plan.name, status, output, fold.all_results(), fold.context, fold.steps, metrics, end
    )


_ENDS = frozenset({Kind.STEP_COMPLETED, Kind.STEP_FAILED, Kind.STEP_CANCELLED})


class _Fold:
    def __init__(self, plan: Planned, context: dict[str, Any], known: dict[str, Any]) -> None:
        self.plan = plan
        self.context = context
        self.steps = {step.name: StepOutcome(step.name) for step in plan.steps}
        self.finished: Finished | None = None
        self._planned = {step.name: step for step in plan.steps}
        self._results: dict[str, Any] = known
        self._items: dict[str, dict[int, Any]] = {}
        self._raw: dict[str, bytes] = {}

    def take(self, record: Record) -> None:
        """Take the next record into account."""
        kind, name, rest = record.kind, record.key, ""
        if kind == Kind.RUN_FINISHED:
            self.finished = msgspec.json.decode(record.data, type=Finished)
            return
        step = self.steps.get(name)
        if step is None:
            name, _, rest = name.rpartition("[")
            if (step := self.steps.get(name)) is None:
                return
        if kind == Kind.STEP_RETRYING:
            step.retries += 1
        elif kind in _ENDS:
            step.seconds += abs(record.took) / MICROSECONDS
            if rest:
                self._item(name, rest[:-1], record)
            else:
                self._ended(step, self._planned[name], record)

    def _item(self, name: str, place: str, record: Record) -> None:
        if record.kind != Kind.STEP_COMPLETED:
            return
        value, items = msgspec.json.decode(record.data), self._items.setdefault(name, {})
        start, colon, _ = place.partition(":")
        if not colon:
            items[int(start)] = value
        elif isinstance(value[name], list):
            items.update(enumerate(cast("list[Any]", value[name]), int(start)))

    def _ended(self, step: StepOutcome, planned: PlannedStep, record: Record) -> None:
        if record.kind == Kind.STEP_CANCELLED:
            step.status = "cancelled"
        elif record.kind == Kind.STEP_FAILED:
            error = msgspec.json.decode(record.data, type=ErrorValue)
            if error.type == _SKIPPED:
                step.status, step.cause = "skipped", error.message
            else:
                step.status, step.error = "failed", error
        else:
            self._completed(step, planned, msgspec.json.decode(record.data))

    def _completed(self, step: StepOutcome, planned: PlannedStep, value: Any) -> None:
        cause = skipped_because(value)
        if cause is not None:
            step.status, step.cause = "skipped", cause
            return
        step.status = "completed"
        if planned.for_each is not None:
            step.items = value[ITEMS]
            value = self._collected(planned, step.items)
        self._results[step.name] = value
        for key in planned.writes:
            if isinstance(value, dict) and key in value:
                self.context[key] = value[key]

    def _collected(self, planned: PlannedStep, count: int) -> Any:
        items = self._items.pop(planned.name, {})
        if not planned.collect:
            return len(items) if items else count
        if planned.on_error == "skip":
            return [items[number] for number in sorted(items)]
        return [items.get(number) for number in range(planned.offset, planned.offset + count)]

    def all_results(self) -> dict[str, Any]:
        """Return the results, in the order of the plan; that of a fallback also as that of the step that it replaced."""
        results = self._results
        for step in self.plan.steps:
            replaced = step.fallback and self.steps[step.name].status == "failed"
            if replaced and step.fallback in results:
                results[step.name] = results[step.fallback]
        return {name: results[name] for name in self.steps if name in results}

    def metrics(self, seconds: float) -> PlanMetrics:
        """Count."""
        steps = self.steps.values()
        metrics = PlanMetrics(seconds, sum(step.seconds for step in steps), len(steps))
        metrics.retries = sum(step.retries for step in steps)
        for status, count in _counted(step.status for step in steps):
            if status != "planned":
                setattr(metrics, status, count)
        return metrics


def _counted(statuses: Iterable[str]) -> Iterable[tuple[str, int]]:
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status] = counts.get(status, 0) + 1
    return counts.items()
