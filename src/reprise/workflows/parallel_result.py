"""What came of the run of a parallel executor, read from its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.codec import standard
from reprise.kernel.failures import brief
from reprise.kernel.machine import RunStatus
from reprise.workflows.calls import REFUSED, Refused, ends_in, function_at, meant, said, started_of
from reprise.workflows.executing import Ended
from reprise.workflows.parallel_body import AggregationStrategy, ParallelWork
from reprise.workflows.report import Report


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What came of one task."""

    id: str
    agent_type: str
    status: str
    """completed, failed, cancelled; skipped: it was not started, ``error`` says why."""
    result: Any = None
    error: str = ""
    wait: float = 0.0
    """Seconds from the start of the run to that of the call."""
    run: float = 0.0
    """Seconds that the call took; of several attempts, the last."""


@dataclass(frozen=True, kw_only=True)
class ParallelMetrics:
    """How long tasks waited for their turn and ran, in seconds; of those that were called."""

    total: float = 0.0
    """From the start of the run to the end of the last task."""
    work: float = 0.0
    """What all calls took together."""
    speed_up: float = 0.0
    """How many times longer they would have taken one after the other."""
    wait_p50: float = 0.0
    wait_p95: float = 0.0
    run_p50: float = 0.0
    run_p95: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ParallelResult(Report):
    """What came of the run of a parallel executor."""

    value: Any = None
    """What the answers make together."""
    tasks: list[TaskResult] = field(default_factory=list[TaskResult])
    """All tasks in their order."""
    metrics: ParallelMetrics = field(default_factory=ParallelMetrics)

    @property
    def results(self) -> dict[str, Any]:
        """Answers by task, also of those that the rule did not need."""
        return {task.id: task.result for task in self.tasks if task.status == "completed"}


def read_parallel(ended: Ended) -> ParallelResult:
    """Return what came of a run of a parallel executor, as its records say."""
    started, began = started_of(ended.records)
    (work,), _ = ended.flow.arguments.decode(bytes(started.input))
    work = cast("ParallelWork", work)
    finished = ended.finished
    why = brief(finished.error) if finished.error is not None else "the rule was met before"
    tasks = {
        part.id: TaskResult(
            id=part.id, agent_type=part.agent_type, status="skipped", error=f"not started: {why}"
        )
        for part in work.tasks
    }
    returns = function_at(ended.flow, "returns")
    for record, status in ends_in(ended.records):
        id = record.key.removesuffix(REFUSED)
        if id not in tasks:
            continue
        if id == record.key:
            done, run = status == "completed", record.took / MICROSECONDS
            tasks[id] = TaskResult(
                id=id,
                agent_type=tasks[id].agent_type,
                status=status,
                result=meant(ended.flow, standard.decode(record.data), returns) if done else None,
                error="" if done else said(record.data) if status == "failed" else status,
                wait=max(0.0, (record.at - began) / MICROSECONDS - run),
                run=run,
            )
        else:
            note = msgspec.json.decode(record.data, type=Refused)
            tasks[id] = replace(tasks[id], status="failed", result=None, error=f"{note.by}: {note.reason}")
    errors = {task.id: task.error for task in tasks.values() if task.status == "failed"}
    completed = finished.status == RunStatus.COMPLETED
    partial = completed and bool(errors) and work.strategy is AggregationStrategy.ALL
    return ParallelResult(
        run_id=ended.run,
        status="partial" if partial else finished.status,
        errors=errors,
        failure=finished.error,
        value=_read_value(ended, work, returns) if completed else None,
        tasks=list(tasks.values()),
        metrics=metrics_of(list(tasks.values())),
    )


def _read_value(ended: Ended, work: ParallelWork, returns: Any) -> Any:
    value = standard.decode(bytes(ended.finished.value))
    if work.strategy in (AggregationStrategy.FIRST, AggregationStrategy.MAJORITY):
        return meant(ended.flow, value, returns)
    return [None if one is None else meant(ended.flow, one, returns) for one in value]


def metrics_of(tasks: Sequence[TaskResult]) -> ParallelMetrics:
    """Return how long tasks waited and ran."""
    called = [task for task in tasks if task.status != "skipped"]
    if not called:
        return ParallelMetrics()
    waits, runs = sorted(task.wait for task in called), sorted(task.run for task in called)
    total, work = max(task.wait + task.run for task in called), sum(runs)
    return ParallelMetrics(
        total=total,
        work=work,
        speed_up=work / total if total else 0.0,
        wait_p50=_percentile(waits, 50),
        wait_p95=_percentile(waits, 95),
        run_p50=_percentile(runs, 50),
        run_p95=_percentile(runs, 95),
    )


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the smallest of the values that so many percent of them do not exceed (nearest rank)."""
    return ordered[-(-len(ordered) * percent // 100) - 1]
