"""Names to workflows and agents: what this process can execute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from reprise.kernel.errors import ConfigurationError, UnknownWorkflow
from reprise.kernel.limit import EVERYWHERE, Limit, Slot
from reprise.kernel.settings import WorkflowSettings
from reprise.runtime.agents import Agent, AgentRegistry
from reprise.runtime.workflow import Workflow
from reprise.stores.runs import ABREAST, Line


class Registry:
    """The workflows a worker knows, and the limits that they are under, by name."""

    def __init__(
        self,
        workflows: Iterable[Workflow[..., Any]] = (),
        limits: Sequence[Limit] = (),
        agents: Mapping[str, Agent] | None = None,
        defaults: WorkflowSettings | None = None,
    ) -> None:
        self.agents = AgentRegistry(agents)
        """Who does the steps of plans, by name."""
        self.defaults = defaults if defaults != WorkflowSettings() else None
        """What runs that start here take where they do not say otherwise; None = what is built in."""
        self.everywhere = tuple(limits)
        """Limits that all workflows are under."""
        self._limits = {limit.called(EVERYWHERE): limit for limit in limits}
        self._workflows: dict[str, Workflow[..., Any]] = {}
        for workflow in workflows:
            self.add(workflow)

    def add(self, workflow: Workflow[..., Any]) -> None:
        """Make a workflow known; the same one twice is fine.

        Raises:
            ConfigurationError: another function has that name, or another limit that of one of its limits.
        """
        known = self._workflows.get(workflow.name)
        if known is not None and known.function is not workflow.function:
            raise ConfigurationError(
                f"Two workflows are called {workflow.name!r}: {known!r} and {workflow!r}.",
                hint="Give one of them a name: @workflow(name=…).",
            )
        for limit in workflow.limits:
            self._add_limit(limit, limit.called(workflow.name))
        self._workflows[workflow.name] = workflow

    def _add_limit(self, limit: Limit, name: str) -> None:
        if self._limits.setdefault(name, limit) != limit:
            raise ConfigurationError(
                f"Two limits are called {name!r}: {limit} and {self._limits[name]}.",
                hint="Put one Limit object on all workflows that share it, or give one another name.",
            )

    def slots(
        self,
        workflow: Workflow[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        tags: Mapping[str, Any],
    ) -> tuple[Slot, ...]:
        """Return the places that a run needs, () = it is under no limit.

        Raises whatever a function ``per`` of a limit raises.
        """
        if not (workflow.limits or self.everywhere):
            return ()
        own = [limit.slots(workflow.name, tags, args, kwargs) for limit in workflow.limits]
        all = [limit.slots(workflow.name, tags, args, kwargs, owner=EVERYWHERE) for limit in self.everywhere]
        return tuple(slot for slots in own + all for slot in slots)

    def now(self, slot: Slot) -> Slot | None:
        """Return a place that a run needed when it started with the numbers that this process knows, None = no more.

        That of a limit which is not known here keeps the numbers that it had then.
        """
        limit = self._limits.get(slot.limit)
        return slot if limit is None else limit.now(slot)

    def today(self, slots: Sequence[Slot]) -> tuple[Slot, ...]:
        """Return those of the places that are still needed, each as :meth:`now` says."""
        return tuple(slot for slot in map(self.now, slots) if slot is not None)

    def room(self, line: Line) -> int:
        """Return for how many of those in a line there is room; more than ``ABREAST`` are not counted."""
        wanted = zip(map(self.now, line.slots), line.taken, strict=True)
        return max(0, min([ABREAST, *(slot.most - taken for slot, taken in wanted if slot is not None)]))

    def get(self, name: str) -> Workflow[..., Any] | None:
        """Return the workflow of that name, None if there is none here."""
        return self._workflows.get(name)

    def __getitem__(self, name: str) -> Workflow[..., Any]:
        found = self._workflows.get(name)
        if found is None:
            near = get_close_matches(name, self._workflows, n=1)
            raise UnknownWorkflow(
                f"No workflow {name!r} is known here.",
                hint=f"Did you mean {near[0]!r}?"
                if near
                else "Start a worker with the module that defines it.",
            )
        return found

    def names(self) -> list[str]:
        """Return the known names, sorted."""
        return sorted(self._workflows)
