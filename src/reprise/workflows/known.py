"""What the interpreter of a plan knows of its steps: what expressions may read of them, and whether a fallback is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reprise.workflows import expressions
from reprise.workflows.expressions import Template
from reprise.workflows.planned import HERE, PlannedStep

if TYPE_CHECKING:
    from reprise.workflows.interpreter import PlanRun


class StandIn:
    """Whether a fallback is needed: as soon as a step fails whose place it takes; not, when all of them have ended."""

    __slots__ = ("needed_by", "open", "unknown")

    def __init__(self) -> None:
        self.open = 0
        """Steps whose place it may have to take."""
        self.needed_by: list[PlannedStep] = []
        self.unknown = ""
        """Why nobody can say, if it turns out that it is not needed this time: one of those steps was not done."""

    def not_needed(self, step: PlannedStep, status: str) -> bool:
        """Note that a step has ended; tell whether that was the last one that could have needed it."""
        if step in self.needed_by:
            return False
        self.open -= 1
        if status == "lost":
            self.unknown = f"{step.name} was not done"
        return not self.open and not self.needed_by


class Ended(Mapping[str, Any]):
    """The steps that have ended, as expressions see them."""

    def __init__(self, plan: PlanRun) -> None:
        self._plan = plan

    def __getitem__(self, name: str) -> Any:
        plan = self._plan
        error = plan.errors.get(name)
        return {
            "status": plan.status[name],
            "result": plan.flow.held(plan.results.get(name)),
            "error": None if error is None else str(error),
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._plan.status)

    def __len__(self) -> int:
        return len(self._plan.status)


def needs(step: PlannedStep) -> set[str]:
    """Return the names of the steps without whose results the expressions of a step give nothing."""
    texts = (step.for_each, step.condition if step.condition != HERE else "")
    found = [expressions.compile(text) for text in texts if isinstance(text, str) and text]
    found += [each.expression for each in Template([step.task, step.parameters, step.who]).expressions]
    return {name for each in found for name in each.needs}


def undone_with(step: PlannedStep) -> frozenset[str]:
    """Return the names of the steps that the compensation of a step reads."""
    return frozenset(
        name for each in Template(step.compensation).expressions for name in each.expression.steps
    )
