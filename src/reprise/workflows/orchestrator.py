"""``WorkflowOrchestrator``: steps with dependencies, added one by one, executed as a plan."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Unpack

from reprise.workflows.executing import ExecuteOptions, execute
from reprise.workflows.interpreter import PlanFlow
from reprise.workflows.outcome import PlanResult, read_plan
from reprise.workflows.performers import AgentExecutor, Performers
from reprise.workflows.plan import Plan, PlanStep
from reprise.workflows.planned import Planned, planned
from reprise.workflows.steps import undoer


class WorkflowOrchestrator:
    """Steps that depend on each other, done by agents, as many at once as dependencies and ``max_concurrent`` allow.

    >>> import asyncio
    >>> from reprise import WorkflowOrchestrator, WorkflowStep
    >>> wf = WorkflowOrchestrator(name="report", max_concurrent=3)
    >>> _ = wf.add_step(WorkflowStep(name="collect", agent_type="researcher", task="Collect"))
    >>> _ = wf.add_step(WorkflowStep(name="write", agent_type="writer", task="Write", dependencies=("collect",)))
    >>> def agent(agent_type, task, context):
    ...     return f"{agent_type}: {task} {list(context['results'].values())}"
    >>> result = asyncio.run(wf.execute(agent))
    >>> result.status, result.results["write"]
    ('completed', "writer: Write ['researcher: Collect []']")

    Options:
        name: what its runs are called.
        max_concurrent: steps at work at once; None = as the settings say, else 10.
        timeout: seconds (or timedelta) that the whole may take; None = no limit.
        output: what a run returns, with ``${…}`` references; None = the results of the steps on which no other depends.
    """

    def __init__(
        self,
        name: str = "workflow",
        *,
        max_concurrent: int | None = None,
        timeout: float | timedelta | None = None,
        output: Any = None,
        description: str = "",
        version: str = "",
    ) -> None:
        self.name = name
        self._steps: list[PlanStep] = []
        self._options: dict[str, Any] = {
            "max_concurrent": max_concurrent,
            "timeout": timeout,
            "output": output,
            "description": description,
            "version": version,
        }
        self._plan: Plan | None = None
        self._planned: Planned | None = None

    @classmethod
    def of(cls, plan: Plan) -> WorkflowOrchestrator:
        """Return what executes a plan that was made elsewhere."""
        made = cls(plan.name)
        made._plan = plan
        made._steps = list(plan.steps)
        return made

    def add_step(self, step: PlanStep) -> WorkflowOrchestrator:
        """Add a step; those that it depends on may be added later. Returns itself."""
        self._steps.append(step)
        self._plan = None
        return self

    def plan(self) -> Plan:
        """Return its plan.

        Raises:
            PlanInvalid: it has faults; names all of them.
        """
        if self._plan is None:
            self._plan = Plan(name=self.name, steps=tuple(self._steps), **self._options)
            self._planned = None
        return self._plan

    def flow(
        self,
        agent_executor: AgentExecutor | Mapping[str, Any] | None = None,
        agents: Mapping[str, Any] | None = None,
    ) -> PlanFlow:
        """Return the workflow whose steps are done by these; ``app.register`` asks for it.

        Raises:
            PlanInvalid: it has faults; names all of them.
            UnknownAgent: nobody is known for one of its steps; names the nearest.
        """
        plan = self.plan()
        performers = Performers(agent_executor, agents)
        performers.check(
            name
            for step in plan.steps
            for name in (step.agent_type or step.tool, undoer(step.compensation))
            if name and "${" not in name
        )
        return PlanFlow(plan, performers=performers)

    async def execute(
        self,
        agent_executor: AgentExecutor | Mapping[str, Any] | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        **options: Unpack[ExecuteOptions],
    ) -> PlanResult:
        """Execute the steps and return what came of them; a step that failed is no exception here.

        It is a run of the app that is given or open around the caller, else of one over ``store``, else one in memory.
        With the ``id`` of a run that exists, that one goes on, or gives what came of it. In the body of a workflow it
        is a child run.

        Options:
            agent_executor: function of (agent_type, task, context) or (agent_type, task), async or not, or a mapping of
                names to agents; without one, or for names that the mapping has not, the ``agents`` of the app and
                those of installed packages.
            inputs: what expressions and agents read as ``inputs``.
            context: the shared context; its keys are in the context of every step.
            tags: by which the run is found.
            deadline, timeout: when the run has to have ended: a moment, or seconds from now.
            on_progress: called, and awaited if it is async, for each step that ended; see ``StepEnded``.

        Raises:
            PlanInvalid, UnknownAgent, UnknownWorkflow: nothing was started.
            RunConflict: the id exists with other steps or inputs.
            CodecError: a task or an input cannot be written.
            ConfigurationError: the inputs do not fit those that the plan declares; names all that is wrong.
        """
        plan = self.plan()
        self._planned = self._planned or planned(plan)
        args = (self._planned, plan.bind_inputs(inputs), dict(context or {}))
        return await execute(
            self,
            args,
            read_plan,
            agent_executor,
            **options,
        )
