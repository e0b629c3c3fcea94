"""How the steps of a plan are done, each kind in its way: by a performer, as a child run, or in the body itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from reprise.kernel.errors import ConfigurationError
from reprise.runtime.asking import ask
from reprise.runtime.engine import Engine
from reprise.runtime.face import wait_for_signal
from reprise.workflows import expressions
from reprise.workflows.expressions import Template
from reprise.workflows.flow import Flow
from reprise.workflows.performing import Situation
from reprise.workflows.planned import PlannedStep

if TYPE_CHECKING:
    from reprise.workflows.interpreter import PlanRun

Doing = asyncio.Future[Any]
"""What comes of a step; the history says it under the step's name when this is done."""
Variables = Callable[[], dict[str, Any]]
"""Gives what expressions may read; called only where there is one."""
WORKING = frozenset({"agent_type", "tool", "function", "workflow"})
"""Kinds of steps that count against ``max_concurrent``; those that only wait do not."""


def begin(plan: PlanRun, step: PlannedStep) -> Doing:
    """Begin a step that waits for nothing more.

    Raises whatever is wrong with what it is to be given.
    """
    kind = step.kind
    if kind in WORKING:
        return do_one(plan, step, step.name, plan.situation(step), plan.variables)
    if kind == "switch":
        return plan.note(step.name, _taken(plan, step))
    wait = {"wait_for": _signal, "ask": _answer, "sleep": _sleep}[kind]
    return in_body(plan, step, _noting(plan, step, wait(plan, step)))


def do_one(plan: PlanRun, step: PlannedStep, key: str, situation: Situation, variables: Variables) -> Doing:
    """Let whoever does a step do it, or one item of it, under a key.

    Raises whatever is wrong with what it is to be given.
    """
    if step.kind == "workflow":
        return _child(plan, step, key, variables)
    if step.kind not in WORKING:
        raise ConfigurationError(
            f"Step {step.name} has for_each and {step.kind}.",
            hint="Only what does something is done for each item.",
        )
    task = filled(step.task, variables)
    if step.parameters or step.kind != "agent_type":
        parameters = filled(step.parameters, variables)
        if task == "" or step.kind != "agent_type":
            task = parameters if parameters or task == "" else task
        else:
            situation.shared = {**situation.shared, "parameters": parameters}
    if step.tool:
        situation.shared = {**situation.shared, "tool": step.tool}
    who = step.name if step.kind == "function" else step.who
    args = (step.kind, who, task, situation)
    return plan.call(step, key, args if step.compensation is None else (*args, step.compensation))


def filled(value: Any, variables: Variables) -> Any:
    """Return a value of the plan with what its expressions give."""
    if not value or (isinstance(value, str) and "${" not in value):
        return value
    return Template(value).fill(variables())


def in_body(plan: PlanRun, step: PlannedStep, doing: Coroutine[Any, Any, Any]) -> Doing:
    """Let the body do a step in a task of its own, whose timers have keys of the step's name."""
    doing.__qualname__ = step.name
    return plan.run.loop.create_task(_failing(plan, step, doing))


async def _failing(plan: PlanRun, step: PlannedStep, doing: Coroutine[Any, Any, Any]) -> Any:
    """Let the history say why what the body did itself failed."""
    try:
        return await doing
    except asyncio.CancelledError:
        if (late := plan.too_late(step)) is None:
            raise
        return await plan.fail(step.name, late)
    except Exception as error:  # noqa: BLE001 - whatever it was: it is the outcome of the step
        return await plan.fail(step.name, error)


async def _noting(plan: PlanRun, step: PlannedStep, doing: Coroutine[Any, Any, Any]) -> Any:
    return await plan.note(step.name, await doing)


# ---------------------------------------------------------------- waiting


async def _signal(plan: PlanRun, step: PlannedStep) -> Any:
    return await wait_for_signal(step.who, timeout=step.timeout)


async def _sleep(plan: PlanRun, step: PlannedStep) -> None:
    given = step.who
    seconds = expressions.compile(given).evaluate(plan.variables()) if isinstance(given, str) else given
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
        raise ConfigurationError(
            f"sleep of step {step.name} is {seconds!r}.",
            hint="Give seconds, or an expression that gives them.",
        )
    await asyncio.sleep(seconds)


async def _answer(plan: PlanRun, step: PlannedStep) -> Any:
    form = cast("dict[str, Any]", filled(step.who, plan.variables))
    options = {name: form[name] for name in ("timeout", "on_timeout") if name in form}
    schema: dict[str, Any] = form.get("schema") or {}
    return await ask(schema, form.get("title", ""), to=form.get("to", ""), key=step.name, **options)


def _taken(plan: PlanRun, step: PlannedStep) -> list[str]:
    """Return the steps of the branch that is taken."""
    variables = plan.variables()
    for case in step.who:
        if "when" not in case or expressions.compile(case["when"]).holds(variables):
            return list(case.get("then", case.get("else", ())))
    return []


# ---------------------------------------------------------------- child runs


def _child(plan: PlanRun, step: PlannedStep, key: str, variables: Variables) -> Doing:
    """Start the workflow or definition that a step names as a child run; its result is the step's."""
    registry = cast("Engine", plan.run.host).registry
    workflow = registry[step.who]
    parameters = filled(step.parameters, variables)
    if isinstance(workflow, Flow):
        args, kwargs = workflow.called_with(parameters)
    else:
        args, kwargs = workflow.arguments.bind_mapping(parameters)
    calling = plan.run.call(workflow, args, kwargs, key)
    if step.timeout is not None:
        # Whoever waits for the child stops it: it may be executed elsewhere.
        timer = plan.run.loop.call_later(step.timeout, calling.cancel)
        calling.add_done_callback(lambda _: timer.cancel())
    return calling
