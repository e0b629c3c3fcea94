"""Names to workflows and agents: what this process can execute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from reprise.kernel.errors import ConfigurationError, UnknownWorkflow, nearest
from reprise.kernel.limit import EVERYWHERE, Limit, Slot
from reprise.kernel.settings import WorkflowSettings
from reprise.runtime.agents import Agent, AgentRegistry
from reprise.runtime.workflow import Workflow
from reprise.stores.runs import ABREAST, Line


class AsAgents(Protocol):
    """A registry whose entries do steps of plans: tools."""

    def as_agents(self) -> Mapping[str, Agent]:
        """Return what is called with (parameters, context), by name."""
        ...


class Registry:
    """The workflows a worker knows, and the limits that they are under, by name."""

    def __init__(
        self,
        workflows: Iterable[Workflow[..., Any]] = (),
        limits: Sequence[Limit] = (),
        agents: Mapping[str, Agent] | None = None,
        defaults: WorkflowSettings | None = None,
        tools: AsAgents | None = None,
    ) -> None:
        self.agents = AgentRegistry(agents, tools.as_agents() if tools is not None else None)
        """Who does the steps of plans, by name."""
        self.defaults = defaults if defaults != WorkflowSettings() else None
        """What runs that start here take where they do not say otherwise; None = what is built in."""
        self.everywhere = tuple(limits)
        """Limits that all workflows are under."""
        self._limits = {limit.called(EVERYWHERE): limit for limit in limits}
        self._workflows: dict[str, Workflow[..., Any]] = {}
        self._declared: set[str] = set()
        """Names of those that do any run of theirs; the others were lent for some."""
        self._several: set[str] = set()
        """Names under which others were lent than before, and none is declared."""
        self._lent: dict[str, Workflow[..., Any]] = {}
        for workflow in workflows:
            self.add(workflow)

    def add(self, workflow: Workflow[..., Any]) -> None:
        """Make a workflow known, for any run of its name; the same one twice is fine.

        Raises:
            ConfigurationError: another function has that name, or a flow with another executor or definition, or
                another limit the name of one of its limits.
        """
        name = workflow.name
        if self._workflows.get(name) is workflow and name in self._declared:
            return
        known = self._function_of(workflow)
        if (
            known is not None
            and name in self._declared
            and not (known.does_as(workflow) and known.definition == workflow.definition)
        ):
            raise ConfigurationError(
                f"Two that are called {name!r} were registered, with other executors or definitions.",
                hint="A run that is taken over is known by this name only: give one of them another.",
            )
        self._learn(workflow)
        self._declared.add(name)
        self._several.discard(name)

    def lend(self, run: str, workflow: Workflow[..., Any]) -> Workflow[..., Any] | None:
        """Let one run be done by a workflow here, whatever else has its name; until :meth:`release`.

        Returns what was lent to that run before.

        Of a flow (a plan, a chain …) each execution may bring another executor. So what was lent does other runs of its
        name, which a worker left behind that died, only where nothing was lent that would do them otherwise.

        Raises:
            ConfigurationError: another function has that name, or another limit that of one of its limits.
        """
        before = self._lent.get(run)
        if workflow.definition is None:
            self.add(workflow)
            return before
        name = workflow.name
        known = self._function_of(workflow)
        self._lent[run] = workflow
        if name not in self._declared:
            self._learn(workflow)
            if known is not None and not known.does_as(workflow):
                self._several.add(name)
        return before

    def take_back(self, run: str, before: Workflow[..., Any] | None) -> None:
        """Undo a :meth:`lend`, which returned what was lent before: the run is done by that."""
        self.release(run)
        if before is not None:
            self._lent[run] = before

    def release(self, run: str) -> None:
        """Forget what was lent to a run, which has ended."""
        self._lent.pop(run, None)

    def _function_of(self, workflow: Workflow[..., Any]) -> Workflow[..., Any] | None:
        """Return what is known by the name of a workflow, whose function must be the same."""
        known = self._workflows.get(workflow.name)
        if known is not None and known.function is not workflow.function:
            raise ConfigurationError(
                f"Two workflows are called {workflow.name!r}: {known!r} and {workflow!r}.",
                hint="Give one of them a name: @workflow(name=…).",
            )
        return known

    def _learn(self, workflow: Workflow[..., Any]) -> None:
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

    def get(self, name: str, run: str = "") -> Workflow[..., Any] | None:
        """Return what does a run of that name, by default any run; None if nothing here does."""
        return self._lent.get(run) or (None if name in self._several else self._workflows.get(name))

    def why_not(self, name: str, worker: str) -> str:
        """Return why a worker knows nothing that does a run of that name."""
        if name in self._several:
            return (
                f"worker {worker} has executed several that are called {name!r}, with other executors, and none is "
                "registered: app.register(…)"
            )
        return f"workflow {name!r} is not known to worker {worker}"

    def __getitem__(self, name: str) -> Workflow[..., Any]:
        found = self.get(name)
        if found is None:
            near = nearest(name, self.names())
            raise UnknownWorkflow(
                f"No workflow {name!r} is known here.",
                hint=f"Did you mean {near!r}?"
                if near and near != name
                else "Register which of those that were executed does it: app.register(…)."
                if name in self._several
                else "Start a worker with the module that defines it.",
            )
        return found

    def names(self) -> list[str]:
        """Return the names of which runs can be done here, sorted."""
        lent = {workflow.name for workflow in self._lent.values()} if self._several else set[str]()
        return sorted(lent.union(self._workflows.keys() - self._several))
