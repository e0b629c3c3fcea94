"""A plan: the steps of a workflow as data, who does each, and what it waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

from reprise.kernel.errors import ConfigurationError, nearest
from reprise.kernel.schema import misfits
from reprise.workflows.definitions import faults_of, read_definition, write_definition
from reprise.workflows.drawing import to_mermaid
from reprise.workflows.faults import find_faults, graph_of
from reprise.workflows.findings import Draft, invalid
from reprise.workflows.graph import Graph
from reprise.workflows.steps import Condition, OnError, PlanStep, WorkflowStep, is_given

__all__ = ["Condition", "OnError", "Plan", "PlanStep", "WorkflowStep"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A graph of steps, frozen and validated: what can be wrong with it is said when it is made, all at once.

    >>> plan = Plan(
    ...     name="report",
    ...     steps=[
    ...         PlanStep(name="collect", agent_type="researcher", task="Collect"),
    ...         PlanStep(name="write", agent_type="writer", task="Write", dependencies=["collect"]),
    ...     ],
    ... )
    >>> plan.levels()
    [['collect'], ['write']]
    >>> plan == Plan.from_dict(plan.to_dict())
    True

    Raises:
        PlanInvalid: it has faults; names all of them.
        MissingExtra: it has an expression that is more than a path, and the package that reads those is not installed.
    """

    name: str
    steps: Sequence[PlanStep]
    max_concurrent: int | None = None
    """Steps at work at once; None = as the settings say."""
    timeout: float | timedelta | None = None
    """Seconds that the whole may take."""
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Names of inputs with their JSON Schemas; one with a ``default`` may be left out. Empty: whatever is given."""
    output: Any = None
    """What the run returns, with ``${…}`` references; None = the results of the steps on which no other depends."""
    description: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if isinstance(self.timeout, timedelta):
            object.__setattr__(self, "timeout", self.timeout.total_seconds())
        if faults := find_faults(Draft(**vars(self))):
            raise invalid(self.name, faults)

    # ---------------------------------------------------------------- its parts

    @cached_property
    def _graph(self) -> Graph:
        return graph_of(self.steps)

    @cached_property
    def by_name(self) -> dict[str, PlanStep]:
        """Steps by name, in their order."""
        return {step.name: step for step in self.steps}

    def step(self, name: str) -> PlanStep:
        """Return the step of that name.

        Raises:
            ConfigurationError: there is none; names the nearest.
        """
        found = self.by_name.get(name)
        if found is None:
            near = nearest(name, self.by_name)
            raise ConfigurationError(
                f"Plan {self.name!r} has no step {name!r}.", hint=f"Did you mean {near!r}?" if near else ""
            )
        return found

    def levels(self) -> list[list[str]]:
        """Return the names of the steps by how many must come before: those of a level wait for none of it.

        What stands in the place of a failed step counts as behind it, the steps of a switch as behind the switch.
        """
        return [[self.steps[node].name for node in level] for level in self._graph.levels()]

    def critical_path(self, expected: Mapping[str, float] | None = None) -> list[str]:
        """Return the longest way through, by the seconds that each step is expected to take.

        Of one that is not in ``expected``, its timeout or sleep counts; of one without, 1 second.
        """
        lengths = [(expected or {}).get(step.name, _seconds(step)) for step in self.steps]
        return [self.steps[node].name for node in self._graph.critical_path(lengths)]

    def bind_inputs(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the inputs of a run: what is given, with the defaults of what is not.

        Raises:
            ConfigurationError: something is missing, unknown, or does not fit its schema; names all of it.
        """
        bound = dict(given or {})
        if not self.inputs:
            return bound
        bound = {
            name: schema["default"] for name, schema in self.inputs.items() if "default" in schema
        } | bound
        schema = {
            "type": "object",
            "properties": self.inputs,
            "required": list(self.inputs),
            "additionalProperties": False,
        }
        if wrong := misfits(bound, schema):
            raise ConfigurationError(
                f"The inputs do not fit plan {self.name!r}: {'; '.join(each.lstrip('$.: ') for each in wrong)}.",
                hint=f"It takes {', '.join(self.inputs)}.",
            )
        return bound

    # ---------------------------------------------------------------- as data

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it; ``from_dict`` of that is an equal plan. What is as by default is left out.

        Raises:
            CodecError: it holds functions or other values that JSON cannot; names all of them by step and field.
        """
        return write_definition(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Return the plan of a definition as JSON has it, such as the body of ``POST /workflows/definitions``.

        Raises:
            PlanInvalid: it has faults; names all of them.
        """
        draft, faults = read_definition(data)
        if faults:
            raise invalid(draft.name, faults_of(draft, faults))
        return cls(**draft.fields())

    def to_mermaid(self) -> str:
        """Return it as a flow chart in Mermaid, which READMEs and wikis show as a picture."""
        return to_mermaid(self)


def _seconds(step: PlanStep) -> float:
    given = step.sleep if is_given(step.sleep) else step.timeout
    return float(given) if isinstance(given, int | float) else 1.0
