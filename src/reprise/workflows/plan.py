"""A plan: the steps of a workflow as data, who does each, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from reprise.kernel.policy import Retry
from reprise.kernel.priority import Priority

OnError = Literal["fail", "skip", "continue", "fallback", "compensate"]
Condition = str | Callable[[dict[str, Any]], bool]
"""An expression in CEL, or a function of the step's context (which a definition as data cannot hold)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStep:
    """One step of a plan.

    Who does it is exactly one of ``agent_type``, ``tool``, ``workflow``, ``function``, ``wait_for``, ``ask``, ``sleep``,
    ``switch``. In ``task`` and ``parameters`` text such as ``${steps.collect.result.rows}`` refers to what is known.
    """

    name: str
    """Its key in the history; unique in the plan."""
    agent_type: str = ""
    """Name of an agent, looked up in the executor given to ``execute``, the app's agents, entry points."""
    tool: str = ""
    """Name of a tool."""
    workflow: str = ""
    """Name of a workflow or definition, which becomes a child run; ``parameters`` are its inputs."""
    function: Callable[..., Any] | None = None
    """Called with ``parameters``; a plan that holds one cannot be written as data."""
    wait_for: str = ""
    """Name of a signal; its value is the result."""
    ask: Mapping[str, Any] | None = None
    """A person's form: ``title``, ``schema``, ``to``, ``timeout``, ``on_timeout``."""
    sleep: float | str | timedelta | None = None
    """Seconds, or an expression that gives them."""
    switch: tuple[Mapping[str, Any], ...] = ()
    """Cases ``{"when": CEL, "then": [step, …]}``, the last may be ``{"else": [step, …]}``: the first that holds lets its steps
    run, those of the others are skipped."""
    task: Any = ""
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    dependencies: tuple[str, ...] = ()
    condition: Condition | None = None
    """False = skipped; dependents run unless they need its result."""
    for_each: str | tuple[Any, ...] | None = None
    """A list, or an expression that gives one: the step is done for each item, known as ``item`` and ``index``."""
    concurrency: int = 10
    """Items of ``for_each`` done at once."""
    collect: bool = True
    """Whether the result of ``for_each`` is the list of the items' results; False = only their number."""
    retry: Retry | None = None
    timeout: float | timedelta | None = None
    priority: Priority = Priority.NORMAL
    """Which of several that could start does so first."""
    on_error: OnError = "fail"
    """``fail``: what depends on it is skipped and the run fails in the end; ``skip``: as if its condition were false;
    ``continue``: dependents run, its result is None; ``fallback``: the step named by ``fallback`` is done in its place;
    ``compensate``: nothing more starts, and what was done is compensated in reverse order."""
    fallback: str = ""
    compensation: Any = None
    """What undoes it: a task for the same agent, or parameters with an agent or tool of their own."""
    irreversible: bool = False
    """A pivot: once it is done the plan is not compensated any more."""
    cache: float | str | bool | None = None
    """How long its result is used by all runs that ask the same; only of steps without effects."""
    reads: tuple[str, ...] = ()
    """Keys of the shared context that it uses."""
    writes: tuple[str, ...] = ()
    """Keys of its result (a mapping) that enter the shared context."""
    resources: Mapping[str, float] = field(default_factory=dict[str, float])
    """What it takes of what, for optimisers; for people."""
    description: str = ""


WorkflowStep = PlanStep
"""The documents' name for a step of a plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A graph of steps, frozen and validated: what can be wrong with it is said when it is made, all at once."""

    name: str
    steps: tuple[PlanStep, ...]
    max_concurrent: int = 10
    """Steps at work at once."""
    timeout: float | timedelta | None = None
    """Seconds that the whole may take."""
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Names of inputs with their JSON Schemas."""
    output: Any = None
    """What the run returns, with ``${…}`` references; None = the results of the steps on which no other depends."""
    description: str = ""
    version: str = ""
