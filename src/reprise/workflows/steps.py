"""One step of a plan: who does what, when, and what if it fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from datetime import timedelta
from typing import Any, Literal, cast, get_args

from reprise.kernel.errors import UnknownOption
from reprise.kernel.policy import Retry, seconds_in
from reprise.kernel.priority import Priority
from reprise.kernel.settings import WorkflowSettings

DEFAULTS = WorkflowSettings()
"""What holds where neither a plan, a chain or a parallel executor says otherwise, nor the app in which its run started."""
OnError = Literal["fail", "skip", "continue", "fallback", "compensate"]
ON_ERROR: tuple[str, ...] = get_args(OnError)
Condition = str | Callable[[dict[str, Any]], bool]
"""An expression in CEL, or a function of the step's context (which a definition as data cannot hold)."""
_LENGTH = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
UNDOERS = ("agent_type", "agent", "tool")
"""Words of a compensation by which it names who does it."""
KINDS = ("agent_type", "tool", "workflow", "function", "wait_for", "ask", "sleep", "switch")
"""Fields that say who does a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStep:
    """One step of a plan.

    Who does it is exactly one of ``agent_type``, ``tool``, ``workflow``, ``function``, ``wait_for``, ``ask``, ``sleep``,
    ``switch``; only ``tool`` may stand beside ``agent_type``, which is then asked to use it. In ``task`` and
    ``parameters`` text such as ``${steps.collect.result.rows}`` refers to what is known.

    Lists are taken for tuples, ``"high"`` or 3 for a priority; ``max_retries``, ``retries`` and ``retry_count`` make the
    ``retry``. What is wrong with a step is said by the plan that it is put into.
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
    """Seconds, a length such as ``"90m"``, or an expression that gives seconds."""
    switch: Sequence[Mapping[str, Any]] = ()
    """Cases ``{"when": CEL, "then": [step, …]}``, the last may be ``{"else": [step, …]}``: the first that holds lets its steps
    run, those of the others are skipped."""
    task: Any = ""
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    dependencies: Sequence[str] = ()
    condition: Condition | None = None
    """False = skipped; dependents run unless they need its result."""
    for_each: str | Sequence[Any] | None = None
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
    reads: Sequence[str] = ()
    """Keys of the shared context that it uses."""
    writes: Sequence[str] = ()
    """Keys of its result (a mapping) that enter the shared context."""
    resources: Mapping[str, float] = field(default_factory=dict[str, float])
    """What it takes of what, for optimisers; for people."""
    description: str = ""
    max_retries: InitVar[int | None] = None
    retries: InitVar[int | None] = None
    retry_count: InitVar[int | None] = None

    def __post_init__(self, max_retries: int | None, retries: int | None, retry_count: int | None) -> None:
        if max_retries is not None or retries is not None or retry_count is not None:
            given = Retry(max_retries=max_retries, retries=retries, retry_count=retry_count)
            # What is given twice is given twice: the plan says so.
            object.__setattr__(self, "retry", given if self.retry is None else (self.retry, given))
        for name in ("dependencies", "reads", "writes"):
            if type(value := getattr(self, name)) is not tuple:
                object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if not isinstance(self.for_each, str | None):
            object.__setattr__(self, "for_each", tuple(self.for_each))
        if self.switch:
            object.__setattr__(self, "switch", tuple([_case(case) for case in self.switch]))
        for name in ("timeout", "sleep"):
            if isinstance(value := getattr(self, name), timedelta):
                object.__setattr__(self, name, value.total_seconds())
        if isinstance(self.sleep, str) and _LENGTH.fullmatch(self.sleep):
            object.__setattr__(self, "sleep", seconds_in(self.sleep))
        priority: Any = self.priority
        if not isinstance(priority, Priority):
            with suppress(UnknownOption):  # said by the plan, together with what else is wrong
                object.__setattr__(self, "priority", Priority.parse(priority))

    @property
    def kind(self) -> str:
        """Which field says who does it: one of ``agent_type``, ``tool``, ``workflow``, ``function`` … (``KINDS``)."""
        return next((name for name in KINDS if is_given(getattr(self, name))), KINDS[0])


WorkflowStep = PlanStep
"""The documents' name for a step of a plan."""


def is_given(value: Any) -> bool:
    """Return whether a field that says who does a step says so; 0 seconds of sleep are given."""
    return value is not None and value not in ("", ())


def undoer(compensation: Any) -> str:
    """Return who is named by a compensation, '' = whoever did the step."""
    if not isinstance(compensation, Mapping):
        return ""
    given = cast("Mapping[str, Any]", compensation)
    return next((given[word] for word in UNDOERS if word in given), "")


def as_lists(value: Any) -> Any:
    """Return a tuple as a list; anything else as it is."""
    return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value


def _case(case: Any) -> Mapping[str, Any]:
    """Return a case of a switch with lists of names, as JSON has them; of what is no case, one that says so."""
    if not isinstance(case, Mapping):
        return {"": case}
    parts = cast("Mapping[str, Any]", case)
    return {
        key: [value] if key in ("then", "else") and isinstance(value, str) else as_lists(value)
        for key, value in parts.items()
    }
