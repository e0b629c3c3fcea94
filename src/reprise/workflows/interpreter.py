"""The body of the runs of a plan: each step begins as soon as what it waits for has ended and there is room.

There is no second scheduler. A step is a call of the run like any other, its key is its name, and what the body decides
(a step is skipped, a condition cannot be evaluated) it notes as a pure step of that name, so the history says of each step
what became of it. What follows from a step follows when its record is delivered: in a replay in the same order.

A step waits until all its dependencies have ended. It is *lost* if one of them failed for good or was lost itself: that is
recorded as a failure, so that it is done when the run is tried again. It is *skipped* if its condition is false, its branch
of a switch was not taken, or it reads the result of a step that was skipped: that is recorded as a result.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any, cast

from reprise.kernel.codec import encode_as_it_is, standard
from reprise.kernel.errors import (
    PlanFailed,
    RunCancelled,
    StepSkipped,
    StepTimeout,
    UnknownWorkflow,
    nearest,
)
from reprise.kernel.failures import brief, encode_error
from reprise.kernel.settings import WorkflowSettings
from reprise.runtime.branch import RUN
from reprise.runtime.engine import Engine
from reprise.runtime.execution import Execution
from reprise.runtime.registry import Registry
from reprise.runtime.retrying import do_again
from reprise.runtime.undo import let_stay
from reprise.workflows import expressions
from reprise.workflows.doing import WORKING, Doing, begin, in_body
from reprise.workflows.expressions import Template
from reprise.workflows.flow import Flow, defaults_here, flow_here, strand
from reprise.workflows.known import Ended, StandIn, needs, undone_with
from reprise.workflows.mapping import do_items
from reprise.workflows.performing import SKIPPED, Situation, Steps, failed, noted, skipped_because
from reprise.workflows.plan import Plan
from reprise.workflows.planned import HERE, Planned, PlannedStep, branches_of, functions_of, planned


class PlanFlow(Flow):
    """A flow of a plan; as a child run of another plan it is given its parameters as inputs."""

    def __init__(self, plan: Plan, **options: Any) -> None:
        super().__init__(interpret, name=plan.name, definition=plan, functions=functions_of(plan), **options)
        self.plan = plan
        self.inputs = plan.inputs
        self._steps: dict[WorkflowSettings, Steps] = {}

    def steps(self, defaults: WorkflowSettings) -> Steps:
        """Return the step objects of runs that started with these defaults."""
        return self._steps.setdefault(defaults, Steps(defaults))

    @cached_property
    def planned(self) -> Planned:
        """The plan as the input of a run."""
        return planned(self.plan)

    def check(self, known: Registry) -> None:
        """Check that the workflows are known that its steps name.

        Raises:
            UnknownWorkflow: one is not; names the nearest.
        """
        for step in self.plan.steps:
            if step.workflow not in ("", self.name) and known.get(step.workflow) is None:
                near = nearest(step.workflow, known.names())
                raise UnknownWorkflow(
                    f"No workflow {step.workflow!r} is known here, which step {step.name} is to start.",
                    hint=f"Did you mean {near!r}?"
                    if near
                    else "Register it: app.register(…), or Reprise(workflows=[…]).",
                )

    def called_with(self, parameters: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a child run: the parameters are its inputs.

        Raises:
            ConfigurationError: they do not fit those that the plan declares.
        """
        return (self.planned, self.plan.bind_inputs(parameters), {}), {}


async def interpret(
    plan: Planned, inputs: dict[str, Any], context: dict[str, Any], known: dict[str, Any] | None = None
) -> Any:
    """Do the steps of a plan and return its output; ``known`` are results of steps that were done elsewhere.

    Raises:
        PlanFailed: steps that it cannot do without failed; what did not depend on them was done.
    """
    _check_children(plan)
    return await PlanRun(cast("PlanFlow", flow_here()), plan, inputs, context, known or {}).through()


def _check_children(plan: Planned) -> None:
    """Leave the run to others if it starts workflows that nobody knows here.

    Raises:
        NonDeterminismError: some are not known.
    """
    run = RUN.get()
    assert run is not None
    known = cast("Engine", run.host).registry
    named = {step.who for step in plan.steps if step.kind == "workflow"}
    if missing := sorted(name for name in named if known.get(name) is None):
        strand(
            f"Steps of {plan.name!r} start workflows that are not known here: {', '.join(missing)}.",
            hint="Give them to this worker: app.register(…), Reprise(workflows=[…]).",
        )


class PlanRun:
    """One run of a plan, in its body."""

    def __init__(
        self,
        flow: PlanFlow,
        plan: Planned,
        inputs: dict[str, Any],
        context: dict[str, Any],
        known: dict[str, Any],
    ) -> None:
        run = RUN.get()
        assert run is not None
        self.run: Execution = run
        self.flow = flow
        self.plan = plan
        defaults = defaults_here()
        self._made = flow.steps(defaults)
        self._places = plan.max_concurrent or defaults.max_concurrent
        self.inputs = inputs
        self.shared = context
        """The shared context; replaced, never changed, so that a step that began earlier keeps its view."""
        self.results: dict[str, Any] = dict(known)
        """By step, as they stand in the history."""
        self.status: dict[str, str] = dict.fromkeys(known, "completed")
        """Of the steps that have ended: completed, failed (and passed over), skipped, lost."""
        self.errors: dict[str, BaseException] = {}
        self.again: list[str] = []
        """Keys of calls that are made again when the run is tried again."""
        self._steps = {step.name: step for step in plan.steps}
        self._place = {step.name: number for number, step in enumerate(plan.steps)}
        self._left = dict.fromkeys(self._steps, 0)
        """How many others each step still waits for."""
        self._above: dict[str, tuple[str, ...]] = {}
        """By step of a branch: what it waits for besides its dependencies, which is its switch."""
        self._below: dict[str, list[str]] = {}
        self._stand_ins: dict[str, StandIn] = {}
        """By fallback: whether it is needed."""
        self._branches: dict[str, str] = {}
        """By step of a branch that was not taken: why."""
        self._lost: list[str] = []
        """Steps that failed for good."""
        self._skipped = False
        """Whether any step was."""
        self._stop = ""
        """Why nothing more begins."""
        self._too_late = False
        self._due: deque[PlannedStep] = deque()
        """Steps that no longer wait for others."""
        self._line: list[tuple[int, int, PlannedStep]] = []
        """Those of them that wait for room, the most urgent first."""
        self._doing: dict[str, Doing] = {}
        self._working: set[str] = set()
        self._open = len(plan.steps)
        self._over: asyncio.Future[None] = run.loop.create_future()
        self._closed = False
        self._recorded = {name for key in run.recorded for name in (key, key.rpartition("[")[0])}
        """What the history has, and so takes no room: of a run that is tried again, what was in line behind a failure that
        it does not have any more."""
        self._version = f"{plan.name} {plan.version}"
        self._draw()

    def _draw(self) -> None:
        """Note who waits for whom."""
        for step in self.plan.steps:
            for name in step.dependencies:
                if name not in self.status:
                    self._wait(step.name, name)
            for name in branches_of(step):
                self._wait(name, step.name)
                self._above[name] = (*self._above.get(name, ()), step.name)
            if step.fallback:
                self._stand_ins.setdefault(step.fallback, StandIn()).open += 1
        for name in self._stand_ins:
            self._left[name] += 1  # it waits until it is known whether it is needed

    def _wait(self, below: str, above: str) -> None:
        self._below.setdefault(above, []).append(below)
        self._left[below] += 1

    async def through(self) -> Any:
        """Do all steps and return the output.

        Raises:
            PlanFailed: steps that it cannot do without failed.
        """
        try:
            self._due.extend(step for step in self.plan.steps if not self._left[step.name])
            self._go_on()
            try:
                async with asyncio.timeout(self.plan.timeout):
                    await self._over
            except TimeoutError:
                await self._give_up()
        finally:
            self._closed = True
            if any(
                step.irreversible and self.status.get(step.name) == "completed" for step in self.plan.steps
            ):
                let_stay()
        if self._lost:
            raise self._failure()
        return self._output()

    async def _give_up(self) -> None:
        """Stop what goes on and begin nothing more: the time is over."""
        self._stop = f"the plan took longer than {self.plan.timeout:g} s"
        self._too_late = True
        self._over = self.run.loop.create_future()
        for doing in list(self._doing.values()):
            doing.cancel()
        self._go_on()
        await self._over

    # ---------------------------------------------------------------- what begins

    def _go_on(self) -> None:
        """Begin what can begin."""
        line = self._line
        while self._due or (line and (self._stop or len(self._working) < self._places)):
            if self._due:
                self._look_at(self._due.popleft())
                continue
            _, _, step = heapq.heappop(line)
            if self._stop:
                self._do(step, self._lose(step, self._stop))
            else:
                self._working.add(step.name)
                self._begin(step)
        if not self._open and not self._over.done():
            self._over.set_result(None)

    def _look_at(self, step: PlannedStep) -> None:
        """Decide what becomes of a step that waits for no other."""
        left_out = self._left_out(step)
        if left_out is not None:
            self._do(step, left_out)
        elif step.kind in WORKING and step.name not in self._recorded:
            heapq.heappush(self._line, (-step.priority, self._place[step.name], step))
        else:
            self._begin(step)

    def _left_out(self, step: PlannedStep) -> Doing | None:
        """Let the history say why a step is not done; return None if it is."""
        name, stand_in = step.name, self._stand_ins.get(step.name)
        if cause := self._stop or self._lost_above(step):
            return self._lose(step, cause)
        if stand_in is not None and not stand_in.needed_by:
            if stand_in.unknown:
                return self._lose(step, stand_in.unknown)
            return self.note(name, {SKIPPED: "no step failed whose place it would take"})
        try:
            cause = self._branches.get(name) or self._missing(step) or self._refused(step)
        except Exception as error:  # noqa: BLE001 - a condition may raise anything: its step fails so
            return self.fail(name, error)
        if not cause:
            return None
        # With a stand-in that is needed those are lost that need it, and what follows from that is done again.
        return self.note(name, {SKIPPED: cause}) if stand_in is None else self._lose(step, cause)

    def _begin(self, step: PlannedStep) -> None:
        try:
            if step.for_each is not None:
                doing = in_body(self, step, do_items(self, step))
            else:
                doing = begin(self, step)
        except Exception as error:  # noqa: BLE001 - what it is to be given cannot be filled in: it fails
            doing = self.fail(step.name, error)
        self._do(step, doing)

    def _do(self, step: PlannedStep, doing: Doing) -> None:
        self._doing[step.name] = doing
        doing.add_done_callback(partial(self._ended, step))

    def _lost_above(self, step: PlannedStep) -> str:
        """Return why a step cannot be done: something that it waits for failed for good."""
        if self._lost:
            for name in (*step.dependencies, *self._above.get(step.name, ())):
                if self.status.get(name) == "lost":
                    error = self.errors[name]
                    return error.what if isinstance(error, StepSkipped) else f"{name} failed"
        return ""

    def _missing(self, step: PlannedStep) -> str:
        """Return which result that it needs was skipped."""
        if not self._skipped:
            return ""
        skipped = [name for name in step.dependencies if self.status[name] == "skipped"]
        found = needs(step) if skipped else ()
        return next(
            (f"it needs the result of {name}, which was skipped" for name in skipped if name in found), ""
        )

    def _refused(self, step: PlannedStep) -> str:
        """Return that the condition of a step does not hold."""
        if not step.condition:
            return ""
        if step.condition == HERE:
            condition = self.flow.functions[f"{step.name}.condition"]
            holds = bool(condition(self.situation(step).context(self.flow)))
        else:
            holds = expressions.compile(step.condition).holds(self.variables())
        return "" if holds else "its condition is false"

    # ---------------------------------------------------------------- what ends

    def _ended(self, step: PlannedStep, doing: Doing) -> None:
        """Take note of what came of a step and begin what waited for it."""
        # Looked at in any case, so that nobody is told that nobody did.
        error = _cancelled(step) if doing.cancelled() else doing.exception()
        if self._closed:
            return
        self._doing.pop(step.name, None)
        self._working.discard(step.name)
        if error is not None:
            self._failed(step, error)
        else:
            self._completed(step, doing.result())
        self._go_on()

    def _completed(self, step: PlannedStep, result: Any) -> None:
        name = step.name
        cause = skipped_because(result)
        if step.kind == "workflow" and step.for_each is None:
            result = standard.decode(encode_as_it_is(result))  # as it stands in the history
        if cause is None:
            self.results[name] = result
            if step.writes and isinstance(result, dict):
                written = cast("dict[str, Any]", result)
                self.shared = {**self.shared, **{key: written[key] for key in step.writes if key in written}}
        if step.kind == "switch":
            why = f"{name} took another branch" if cause is None else f"{name} was skipped"
            left_out = set(branches_of(step)).difference(cast("list[str]", result) if cause is None else ())
            self._branches.update(dict.fromkeys(left_out, why))
        self._settle(step, "completed" if cause is None else "skipped")

    def _failed(self, step: PlannedStep, error: BaseException) -> None:
        name, choice = step.name, step.on_error
        if (late := self.too_late(step)) is not None and not isinstance(error, StepSkipped):
            error, choice = late, "fail"
        self.errors[name] = error
        if isinstance(error, StepSkipped):
            self._settle(step, "lost")
        elif choice == "fallback":
            self._need(step)
        elif choice in ("skip", "continue"):
            self._settle(step, "failed" if choice == "continue" else "skipped")
        else:
            if choice == "compensate" and not self._stop:
                self._stop = f"{name} failed"
            self._settle_lost(step)

    def _settle_lost(self, step: PlannedStep) -> None:
        self._lost.append(step.name)
        self.again.append(step.name)
        self._settle(step, "lost")

    def _settle(self, step: PlannedStep, status: str) -> None:
        """Let those that wait for a step wait no longer."""
        name = step.name
        self.status[name] = status
        self._skipped = self._skipped or status == "skipped"
        self._open -= 1
        if step.fallback and self._stand_ins[step.fallback].not_needed(step, status):
            self._release(step.fallback)
        for below in self._below.get(name, ()):
            self._release(below)
        if (stand_in := self._stand_ins.get(name)) is not None:
            for replaced in stand_in.needed_by:
                self._replace(replaced)

    def _need(self, step: PlannedStep) -> None:
        """Let the fallback of a step that failed begin, unless it has already."""
        needed_by = self._stand_ins[step.fallback].needed_by
        needed_by.append(step)
        if step.fallback in self.status:
            self._replace(step)
        elif len(needed_by) == 1:
            self._release(step.fallback)

    def _replace(self, step: PlannedStep) -> None:
        """Let what came of its fallback be what came of a step."""
        if self.status[step.fallback] == "completed":
            self.results[step.name] = self.results[step.fallback]
            self._settle(step, "completed")
        else:
            self.again.append(step.fallback)
            self._settle_lost(step)

    def _release(self, name: str) -> None:
        self._left[name] -= 1
        if not self._left[name]:
            self._due.append(self._steps[name])

    # ---------------------------------------------------------------- the end

    def _failure(self) -> PlanFailed:
        first = self._lost[0]
        others = f" (and {len(self._lost) - 1} more steps)" if len(self._lost) > 1 else ""
        why = brief(encode_error(self.errors[first]))
        failure = PlanFailed(f"Plan {self.plan.name} failed at step {first}{others}: {why}")
        failure.plan, failure.failed = self.plan.name, list(self._lost)
        do_again(failure, () if self._too_late else self.again)
        return failure

    def _output(self) -> Any:
        if self.plan.output is not None:
            return Template(self.plan.output).fill(self.variables())
        lasts = (name for name in self._steps if name not in self._below)
        return {name: self.results[name] for name in lasts if self.status[name] == "completed"}

    # ---------------------------------------------------------------- for those who do the steps

    def too_late(self, step: PlannedStep) -> StepTimeout | None:
        """Return the error of a step that had not ended when the time of the whole was over, None while it is not."""
        return StepTimeout(f"Step {step.name} had not ended when {self._stop}.") if self._too_late else None

    def call(self, step: PlannedStep, key: str, args: tuple[Any, ...]) -> Doing:
        """Call the step that leaves the body, under a key."""
        made = self._made.of(step, self.flow, self._version)
        return self.run.call(made.named(key), args, {}, key)

    def note(self, name: str, value: Any) -> Doing:
        """Let the history say that this came of a step."""
        return self.run.call(noted.named(name), (value,), {}, name)

    def fail(self, name: str, error: BaseException) -> Doing:
        """Let the history say that a step failed so."""
        return self.run.call(failed.named(name), (encode_error(error),), {}, name)

    def _lose(self, step: PlannedStep, cause: str) -> Doing:
        return self.fail(step.name, StepSkipped(cause))

    def situation(self, step: PlannedStep) -> Situation:
        """Return what is known to a step that begins now."""
        found = {name: self.results.get(name) for name in step.dependencies}
        if step.compensation is not None:  # which may read more, and long after this
            found |= {name: self.results.get(name) for name in undone_with(step) if name != step.name}
        return Situation(step.name, self.shared, self.inputs, found)

    def variables(self) -> dict[str, Any]:
        """Return what expressions may read."""
        return {"inputs": self.inputs, "context": self.shared, "steps": Ended(self)}


def _cancelled(step: PlannedStep) -> BaseException:
    if step.kind == "workflow" and step.timeout is not None:
        return StepTimeout(f"Step {step.name} took longer than {step.timeout:g} s.")
    return RunCancelled(f"Step {step.name} was cancelled.")
