"""Map steps: one step of a plan, done for each item of a list, so many at once.

Items are calls of the run, ``name[3]``. A long list is done by child runs of the same plan, one after another, each with
a part of the list and a history of its own: what is in memory, and what has to be replayed, does not grow with the list.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from reprise.kernel.errors import ConfigurationError, RunCancelled
from reprise.workflows import expressions
from reprise.workflows.doing import do_one
from reprise.workflows.expressions import Template
from reprise.workflows.performing import ITEMS, Situation
from reprise.workflows.planned import Planned, PlannedStep

if TYPE_CHECKING:
    from reprise.workflows.interpreter import PlanRun

PART = 1_000
"""Items that one run does itself. With a compensation it does all, for a child run that completed is not undone."""


async def do_items(plan: PlanRun, step: PlannedStep) -> Any:
    """Do a map step; return the results in the order of the items, or their number, and let the history say how many.

    Raises whatever the first item raised that failed for good.
    """
    items = _items(plan, step)
    if len(items) > PART and step.compensation is None:
        result = await _in_parts(plan, step, items)
    else:
        result = await Items(plan, step, items).all()
    await plan.note(step.name, {ITEMS: len(items)})
    return result


def _items(plan: PlanRun, step: PlannedStep) -> list[Any]:
    given = step.for_each
    items = expressions.compile(given).evaluate(plan.variables()) if isinstance(given, str) else given
    if not isinstance(items, list | tuple):
        raise ConfigurationError(
            f"for_each of step {step.name} is {items!r:.60}, not a list.",
            hint="Let the expression give a list.",
        )
    return list(cast("list[Any]", items))


async def _in_parts(plan: PlanRun, step: PlannedStep, items: list[Any]) -> Any:
    """Let child runs do the items, one part after another."""
    results: list[Any] = []
    count = 0
    inputs, known = _seen(plan, step)
    on_error = step.on_error if step.on_error in ("skip", "continue") else "fail"
    alone = replace(step, dependencies=tuple(known), condition="", fallback="", on_error=on_error)
    for start in range(0, len(items), PART):
        stop = min(start + PART, len(items))
        some = [plan.flow.hold(item) for item in items[start:stop]]
        part = Planned(plan.plan.name, (replace(alone, for_each=some, offset=start),), 1)
        key = f"{step.name}[{start}:{stop}]"
        try:
            output = await plan.run.call(plan.flow, (part, inputs, plan.shared, known), {}, key)
        except Exception:
            plan.again.append(key)
            raise
        if step.collect:
            results.extend(output[step.name])
        else:
            count += output[step.name]
    return results if step.collect else count


def _seen(plan: PlanRun, step: PlannedStep) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs and the results of dependencies that items see: not the list of which each is one."""
    inputs = dict(plan.inputs)
    known = {name: plan.results.get(name) for name in step.dependencies}
    if isinstance(step.for_each, str):
        placed = Template([step.task, step.parameters]).expressions
        kept = {reference.path[:2] for each in placed for reference in each.expression.references}
        for reference in expressions.compile(step.for_each).references:
            if len(reference.path) > 1 and reference.path[:2] not in kept:
                place = {"inputs": inputs, "steps": known}.get(str(reference.path[0]), {})
                place.pop(str(reference.path[1]), None)
    return inputs, known


class Items:
    """The items of a map step that one run does itself."""

    def __init__(self, plan: PlanRun, step: PlannedStep, items: list[Any]) -> None:
        self._plan = plan
        self._step = step
        self._items = items
        self._inputs, self._known = _seen(plan, step)
        self._variables = plan.variables()
        self._next = 0
        self._doing: dict[int, asyncio.Future[Any]] = {}
        self._results: list[Any] = [None] * (len(items) if step.collect else 0)
        self._left_out: set[int] = set()
        self._failed: BaseException | None = None
        self._over: asyncio.Future[None] = plan.run.loop.create_future()

    async def all(self) -> Any:
        """Do them; return their results, or their number."""
        try:
            self._go_on()
            await self._over
        except asyncio.CancelledError:
            self._next = len(self._items)
            for doing in list(self._doing.values()):
                doing.cancel()
            if self._doing:
                await asyncio.wait(self._doing.values())
            raise
        if self._failed is not None:
            raise self._failed
        if not self._step.collect:
            return len(self._items) - len(self._left_out)
        if not self._left_out:
            return self._results
        return [result for number, result in enumerate(self._results) if number not in self._left_out]

    def _go_on(self) -> None:
        while self._next < len(self._items) and len(self._doing) < self._step.concurrency:
            number = self._next
            self._next += 1
            try:
                doing = self._begin(number)
            except Exception as error:  # noqa: BLE001 - what the item is to be given cannot be filled in
                doing = self._plan.fail(self._key(number), error)
            self._doing[number] = doing
            doing.add_done_callback(partial(self._ended, number))
        if not self._doing and not self._over.done():
            self._over.set_result(None)

    def _key(self, number: int) -> str:
        return f"{self._step.name}[{number + self._step.offset}]"

    def _begin(self, number: int) -> asyncio.Future[Any]:
        plan, step = self._plan, self._step
        item, index = plan.flow.held(self._items[number]), number + step.offset
        situation = Situation(step.name, plan.shared, self._inputs, self._known, (item, index))

        def variables() -> dict[str, Any]:
            return {**self._variables, "item": item, "index": index}

        return do_one(plan, step, self._key(number), situation, variables)

    def _ended(self, number: int, doing: asyncio.Future[Any]) -> None:
        self._doing.pop(number, None)
        key = self._key(number)
        error = RunCancelled(f"Step {key} was cancelled.") if doing.cancelled() else doing.exception()
        if error is None:
            if self._step.collect:
                self._results[number] = doing.result()
        elif self._step.on_error == "skip":
            self._left_out.add(number)
        elif self._step.on_error != "continue":
            self._plan.again.append(key)
            self._failed = self._failed or error
            self._next = len(self._items)
        self._go_on()
