"""The steps that the runs of a plan make: what leaves the body is done here, and what only stands in the history noted.

All steps of a plan have one function, so a step object is made by copying one that has the same options.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from msgspec.structs import asdict

from reprise.kernel.codec import standard
from reprise.kernel.events import ErrorValue
from reprise.kernel.failures import decode_error
from reprise.kernel.policy import NO_RETRY, Retry
from reprise.kernel.settings import WorkflowSettings
from reprise.runtime.face import current_step
from reprise.runtime.host import STEP
from reprise.runtime.step import Step, function_of, step
from reprise.runtime.undo import Undo
from reprise.workflows.expressions import Template
from reprise.workflows.flow import Flow, flow_here
from reprise.workflows.planned import PlannedStep
from reprise.workflows.steps import UNDOERS

SKIPPED = "reprise.skipped"
"""Key of what stands in a history for the result of a step that was skipped; its value is the cause."""
ITEMS = "reprise.items"
"""Key of what stands in a history for the result of a map step; its value is the number of items."""


class Situation:
    """What whoever does a step is told besides the task; a fixed view of the run at the moment in which the step began."""

    __slots__ = ("inputs", "item", "name", "results", "shared")

    def __init__(
        self,
        name: str,
        shared: dict[str, Any],
        inputs: dict[str, Any],
        results: dict[str, Any],
        item: tuple[Any, int] | None = None,
    ) -> None:
        self.name = name
        self.shared = shared
        self.inputs = inputs
        self.results = results
        """Of the step's dependencies, as they stand in the history."""
        self.item = item

    def context(self, flow: Flow, **more: Any) -> dict[str, Any]:
        """Return it as agents and conditions are given it."""
        results = self.results
        if flow.in_memory:
            results = {name: flow.held(result) for name, result in results.items()}
        known = {**self.shared, "inputs": self.inputs, "results": results, "step": self.name, **more}
        if self.item is not None:
            known["item"], known["index"] = self.item
        return known

    def written(self) -> dict[str, Any]:
        """Return it as JSON, for the intent of a step that may have to be undone."""
        return {
            "name": self.name,
            "shared": self.shared,
            "inputs": self.inputs,
            "results": self.results,
            "item": None if self.item is None else list(self.item),
        }

    @classmethod
    def read(cls, written: dict[str, Any]) -> Situation:
        """Return what was written."""
        item = written.pop("item")
        return cls(**written, item=None if item is None else (item[0], item[1]))


standard.register(Situation, Situation.written, Situation.read)


# ---------------------------------------------------------------- what is done


async def perform(kind: str, who: str, task: Any, situation: Situation) -> Any:
    """Let an agent, a tool or a function of the plan do a step."""
    flow = flow_here()
    if kind == "function":
        value = await _call(flow.functions[f"{who}.function"], flow, task)
    else:
        job = STEP.get()
        context = situation.context(flow, attempt=1 if job is None else job.attempt)
        value = await flow.performers.perform(who, task, context)
    return flow.hold(value, "step", situation.name)


async def _call(function: Callable[..., Any], flow: Flow, parameters: Mapping[str, Any]) -> Any:
    function = function_of(function)
    arguments = {name: flow.held(value) for name, value in parameters.items()}
    if inspect.iscoroutinefunction(function):
        return await function(**arguments)
    given = await asyncio.to_thread(function, **arguments)
    return await given if inspect.isawaitable(given) else given


async def _undo(undo: Undo) -> None:
    """Let whoever did a step, or whoever its compensation names, undo it."""
    flow = flow_here()
    _, who, _, situation, compensation = undo.args
    known = {"inputs": situation.inputs, "context": situation.shared}
    steps = situation.results | {situation.name: undo.value}
    known["steps"] = {name: {"result": flow.held(value)} for name, value in steps.items()}
    if situation.item is not None:
        known["item"], known["index"] = situation.item
    task = Template(compensation).fill(known)
    if isinstance(task, dict):
        wanted = cast("dict[str, Any]", task)
        by = next((word for word in UNDOERS if word in wanted), "")
        who = wanted.pop(by) if by else who
        task = wanted.get("task", wanted.get("parameters", wanted))
    context = situation.context(
        flow,
        result=flow.held(undo.value),
        happened=undo.happened,
        idempotency_key=undo.key,
        attempt=current_step().attempt,
    )
    await flow.performers.perform(who, task, context)


@step(undo=_undo)
async def perform_undoable(kind: str, who: str, task: Any, situation: Situation, compensation: Any) -> Any:
    """Let a step be done that ``compensation`` would undo."""
    return await perform(kind, who, task, situation)


# ---------------------------------------------------------------- what is only noted


@step(pure=True, retry=NO_RETRY)
async def noted(value: Any) -> Any:
    """Return what the history is to say of a step that the body did itself: its result, or why it was skipped."""
    return value


@step(pure=True, retry=NO_RETRY)
async def failed(error: ErrorValue) -> Any:
    """Raise what the history is to say of a step that the body could not do."""
    raise decode_error(error)


def skipped_because(value: Any) -> str | None:
    """Return why a step was skipped whose result stands so in the history, None if it was not."""
    return cast("dict[str, Any]", value).get(SKIPPED) if isinstance(value, dict) else None


# ---------------------------------------------------------------- step objects


class Steps:
    """Step objects of a flow by what they have in common; ``defaults`` are those of the runs for which they are made."""

    def __init__(self, defaults: WorkflowSettings) -> None:
        self._defaults = defaults
        self._made: dict[tuple[Any, ...], Step[..., Any]] = {}

    def of(self, planned: PlannedStep, flow: Flow, version: str) -> Step[..., Any]:
        """Return the step from which those that do a planned step are copied."""
        own = flow.functions.get(f"{planned.name}.retry") if flow.functions else None
        cache = None if flow.in_memory else planned.cache
        options = (
            planned.retry,
            planned.timeout,
            planned.compensation is not None,
            (cache, version) if cache else None,
            own,
        )
        made = self._made.get(options)
        if made is None:
            made = self._made[options] = _made(planned, own, cache, version, self._defaults)
            _ = made.encode, made.decode  # so that the copies have them
        return made


def _made(
    planned: PlannedStep,
    own: Callable[[], Retry] | None,
    cache: float | str | bool | None,
    version: str,
    defaults: WorkflowSettings,
) -> Step[..., Any]:
    retry = Retry(max_retries=defaults.retry_count)
    if own is not None:
        retry = own()
    elif (tries := planned.retry) is not None:
        retry = Retry(**asdict(tries))
    options: dict[str, Any] = {
        "retry": retry,
        "timeout": defaults.default_timeout if planned.timeout is None else planned.timeout,
    }
    if planned.compensation is not None:
        return perform_undoable.options(**options)
    if cache:
        options |= {"pure": True, "cache": cache, "version": version}
    return Step[..., Any](perform, **options)
