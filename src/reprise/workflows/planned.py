"""A plan as the input of its runs: data alone, and beside it the functions that data cannot hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import msgspec

from reprise.kernel.policy import Retry, seconds
from reprise.kernel.priority import Priority
from reprise.workflows.plan import OnError, Plan, PlanStep

KINDS = ("agent_type", "tool", "workflow", "function", "wait_for", "ask", "sleep", "switch")
"""Fields of a plan step that say who does it; exactly one is set."""
HERE = "="
"""Stands in the data for a function of the definition."""


class Tries(msgspec.Struct, frozen=True, omit_defaults=True):
    """A ``Retry`` without functions."""

    attempts: int
    backoff: float = 0.5
    factor: float = 2.0
    max_delay: float = 60.0
    jitter: str = "full"


class PlannedStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step; fields as of ``PlanStep``, and ``kind``, the one of ``KINDS`` that ``who`` was given as."""

    name: str
    kind: str
    who: Any
    task: Any = ""
    parameters: dict[str, Any] = {}
    dependencies: tuple[str, ...] = ()
    condition: str = ""
    for_each: Any = None
    offset: int = 0
    """Index of the first item, in the child run that does some of them."""
    concurrency: int = 10
    collect: bool = True
    retry: Tries | None = None
    timeout: float | None = None
    priority: int = Priority.NORMAL
    on_error: OnError = "fail"
    fallback: str = ""
    compensation: Any = None
    irreversible: bool = False
    cache: float | str | bool | None = None
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    resources: dict[str, float] = {}
    tool: str = ""
    """Tool that the agent is asked to use."""


class Planned(msgspec.Struct, frozen=True, omit_defaults=True):
    """A plan as its runs have it."""

    name: str
    steps: tuple[PlannedStep, ...]
    max_concurrent: int | None = None
    """None = as the settings say with which a run starts."""
    timeout: float | None = None
    output: Any = None
    version: str = ""


def planned(plan: Plan) -> Planned:
    """Return a plan as the input of its runs."""
    timeout = None if plan.timeout is None else seconds(plan.timeout, "timeout")
    steps = tuple([_planned(step) for step in plan.steps])
    return Planned(plan.name, steps, plan.max_concurrent, timeout, plan.output, plan.version)


def functions_of(plan: Plan) -> dict[str, Callable[..., Any]]:
    """Return the functions of a plan by their place: ``validate.condition``, ``validate.function``, ``validate.retry``."""
    functions: dict[str, Callable[..., Any]] = {}
    for step in plan.steps:
        if step.function is not None:
            functions[f"{step.name}.function"] = step.function
        if callable(step.condition):
            functions[f"{step.name}.condition"] = step.condition
        if step.retry is not None and not _is_data(step.retry):
            functions[f"{step.name}.retry"] = _Giving(step.retry)
    return functions


def _planned(step: PlanStep) -> PlannedStep:
    kind = next((kind for kind in KINDS if getattr(step, kind)), "agent_type")
    who = getattr(step, kind)
    condition, retry = step.condition, step.retry
    return PlannedStep(
        step.name,
        kind,
        HERE if kind == "function" else _plain(who),
        _plain(step.task),
        _plain(step.parameters),
        tuple(step.dependencies),
        condition if isinstance(condition, str) else HERE if condition is not None else "",
        _plain(step.for_each),
        0,
        step.concurrency,
        step.collect,
        None if retry is None else _tries(retry),
        None if step.timeout is None else seconds(step.timeout, "timeout"),
        Priority.parse(step.priority),
        step.on_error,
        step.fallback,
        _plain(step.compensation),
        step.irreversible,
        step.cache,
        tuple(step.reads),
        tuple(step.writes),
        dict(step.resources),
        step.tool if kind == "agent_type" else "",
    )


def _plain(value: Any) -> Any:
    """Return a value with tuples, mappings and durations as JSON has them."""
    if isinstance(value, str | int | float) or value is None:
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[Any]", value)]
    return value.total_seconds() if isinstance(value, timedelta) else value


def _tries(retry: Retry) -> Tries:
    return Tries(retry.attempts, retry.backoff, retry.factor, retry.max_delay, retry.jitter)


def _is_data(retry: Retry) -> bool:
    return retry.retry_on is None and retry.give_up_on is None and retry.classifier is None


@dataclass(frozen=True)
class _Giving:
    """Gives a retry; equal for the same one, so that flows of one plan are known to do the same."""

    retry: Retry

    def __call__(self) -> Retry:
        return self.retry


def branches_of(step: PlannedStep) -> list[str]:
    """Return the names of the steps in the branches of a switch; of any other step, none."""
    if step.kind != "switch":
        return []
    return list(dict.fromkeys(name for case in step.who for name in case.get("then", case.get("else", ()))))
