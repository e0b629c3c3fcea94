"""Random plans with random failures, conditions, retries and crash points end as a straightforward model says.

The model knows no time, no order and no log: it asks of each step what becomes of those above it.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.replay.harness import LateStore, Outcome, cut, is_possible
from tests.unit.runtime.scenes import Shared

from reprise import Reprise, Retry, WorkflowOrchestrator, WorkflowStep
from reprise.kernel.events import Kind, Record, run_stream
from reprise.runtime.middleware import Call, Next
from reprise.workflows.outcome import PlanResult, read_outcome

EXAMPLES = int(os.environ.get("REPRISE_PLANS", "25"))
RETRIES = 2
pytestmark = pytest.mark.replay


class Random(NamedTuple):
    """A plan, and what each step does."""

    steps: tuple[WorkflowStep, ...]
    fails: dict[str, int]
    """How often a step fails before it succeeds; 99 = always."""
    room: int

    def orchestrator(self) -> WorkflowOrchestrator:
        made = WorkflowOrchestrator("random", max_concurrent=self.room)
        for step in self.steps:
            made.add_step(step)
        return made


async def agent(plan: Random, fails: dict[str, int], task: Any, context: dict[str, Any]) -> str:
    name = context["step"]
    if context["attempt"] <= fails.get(name, 0):
        raise ConnectionError(f"{name} fails")
    given = ",".join(f"{key}={value}" for key, value in sorted(context["results"].items()))
    return f"{name}({given})" + (f"+{task}" if task else "")


@st.composite
def plans(draw: st.DrawFn) -> Random:
    count = draw(st.integers(1, 9))
    names = [f"s{n}" for n in range(count)]
    stand_ins = draw(st.sets(st.sampled_from(names), max_size=count // 3)) if count > 2 else set()
    steps: list[WorkflowStep] = []
    free = sorted(stand_ins)
    for number, name in enumerate(names):
        above = [other for other in names[:number] if other not in stand_ins]
        below = draw(st.lists(st.sampled_from(above), max_size=3, unique=True)) if above else []
        options: dict[str, Any] = {"on_error": draw(st.sampled_from(["fail", "skip", "continue"]))}
        if name in stand_ins:
            below = []
        elif free and draw(st.booleans()):
            options = {"on_error": "fallback", "fallback": draw(st.sampled_from(free))}
        if below:
            first = below[0]
            options["condition"] = draw(
                st.sampled_from(
                    [
                        None,
                        f"steps.{first}.status == 'completed'",
                        f"steps.{first}.status != 'completed'",
                        odd,
                    ]
                )
            )
            if draw(st.booleans()):
                options["task"] = f"${{steps.{first}.result}}"
        steps.append(
            WorkflowStep(
                name=name,
                agent_type="any",
                dependencies=tuple(below),
                retry=Retry(RETRIES + 1, backoff=0),
                priority=draw(st.integers(0, 4)),
                **options,
            )
        )
    used = {step.fallback for step in steps if step.fallback}
    fails = {name: draw(st.sampled_from([0, 0, 0, 1, RETRIES, 99])) for name in names}
    steps = [step for step in steps if step.name in used or step.name not in stand_ins]
    return Random(tuple(steps), fails, draw(st.integers(1, 4)))


def odd(context: dict[str, Any]) -> bool:
    """Hold or not, as the results of the dependencies say."""
    return len(str(sorted(context["results"].items()))) % 2 == 1


class Model:
    """What becomes of each step: (in the history, for those below it, its result)."""

    def __init__(self, plan: Random, fails: dict[str, int]) -> None:
        self.steps = {step.name: step for step in plan.steps}
        self.fails = fails
        self.of: Callable[[str], tuple[str, str, Any]] = cache(self._of)
        self.raw: Callable[[str], tuple[str, str, Any]] = cache(self._raw)

    def _of(self, name: str) -> tuple[str, str, Any]:
        recorded, below, result = self.raw(name)
        if below == "replaced":
            _, other, value = self.of(self.steps[name].fallback)
            return (recorded, "completed", value) if other == "completed" else (recorded, "lost", None)
        return recorded, below, result

    def _raw(self, name: str) -> tuple[str, str, Any]:
        step = self.steps[name]
        above = {other: self.of(other) for other in step.dependencies}
        if any(below == "lost" for _, below, _ in above.values()):
            return "skipped", "lost", None
        users = [user.name for user in self.steps.values() if user.fallback == name]
        if users and not any(self.raw(user)[1] == "replaced" for user in users):
            return (
                "skipped",
                "lost" if any(self.raw(user)[1] == "lost" for user in users) else "skipped",
                None,
            )
        first = next(iter(step.dependencies), "")
        if step.task and above[first][1] == "skipped":
            return "skipped", "skipped", None
        results = {other: value for other, (_, _, value) in above.items()}
        if step.condition is not None and not self._holds(step, first, above, results):
            return "skipped", "skipped", None
        if self.fails[name] > RETRIES:
            below = {"fail": "lost", "skip": "skipped", "continue": "failed", "fallback": "replaced"}
            return "failed", below[step.on_error], None
        given = ",".join(f"{key}={value}" for key, value in sorted(results.items()))
        task = "" if not step.task or results[first] is None else f"+{results[first]}"
        return "completed", "completed", f"{name}({given}){task}"

    def _holds(self, step: WorkflowStep, first: str, above: dict[str, Any], results: dict[str, Any]) -> bool:
        if callable(step.condition):
            return step.condition({"results": results})
        return (above[first][1] == "completed") == ("==" in str(step.condition))

    def summary(self) -> Any:
        """Return what a result must say."""
        ends = {name: self.of(name) for name in self.steps}
        failed = any(below == "lost" and recorded == "failed" for recorded, below, _ in ends.values())
        passed = any(recorded == "failed" for recorded, _, _ in ends.values())
        status = "failed" if failed else "partial" if passed else "completed"
        results = {name: value for name, (_, below, value) in ends.items() if below == "completed"}
        return status, {name: recorded for name, (recorded, _, _) in ends.items()}, results


def summary(result: PlanResult) -> Any:
    statuses = {name: step.status for name, step in result.steps.items()}
    return result.status, statuses, result.results


async def drive(plan: Random, store: Any, start: bool) -> tuple[Outcome, PlanResult]:
    """Execute the run, or let it go on; return its outcome and which calls were executed."""
    executed: list[tuple[str, str]] = []

    async def watch(call: Call, next: Next) -> Any:
        executed.append((call.run, call.key))
        return await next(call)

    def asked(agent_type: str, task: Any, context: dict[str, Any]) -> Any:
        return agent(plan, plan.fails, task, context)

    made = plan.orchestrator()
    async with Reprise(store, capture_logs=False, grace=0.0, middleware=[watch]) as app:
        if start:
            result = await made.execute(asked, app=app, id="r")
        else:
            app.register(made, asked)
            finished = await app.handle("r").finished(20)
            result = read_outcome("r", await app.handle("r").events(), finished)
    await store.start()
    streams: dict[str, list[Record]] = {}
    for record in await store.log.scan(limit=100_000):
        streams.setdefault(record.stream, []).append(record)
    return Outcome(result.finished, streams, executed), result


async def trial(plan: Random, seed: int) -> None:
    dice = random.Random(seed)
    expected = Model(plan, plan.fails).summary()
    first, result = await drive(plan, LateStore(dice), start=True)
    assert summary(result) == expected
    records = first.streams[run_stream("r")]
    places = [count for count in range(1, len(records)) if is_possible(records, count)]
    for count in dice.sample(places, min(6, len(places))):
        store = LateStore(dice)
        kept = await cut(first, "r", count, dice, store)
        after, again = await drive(plan, store, start=False)
        assert summary(again) == expected, f"after {count} of {len(records)} records"
        recorded = {r.key for r in kept[run_stream("r")] if r.kind in (Kind.STEP_COMPLETED, Kind.STEP_FAILED)}
        twice = recorded & {key for _, key in after.executed}
        assert not twice, f"recorded steps were executed again: {twice}"


@given(plans(), st.integers(0, 1 << 30))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_random_plan_ends_as_the_model_says_from_every_crash_point(plan: Random, seed: int) -> None:
    asyncio.run(trial(plan, seed))


async def retried(plan: Random) -> None:
    """Try a run again after all was mended: what failed for good succeeds, what was passed over stays as it was."""
    model = Model(plan, plan.fails)
    status, recorded, _ = model.summary()
    stays = {name for name in recorded if recorded[name] != "failed" or model.of(name)[1] != "lost"}
    mended = {
        name: count if name in stays and recorded.get(name) == "failed" else 0
        for name, count in plan.fails.items()
    }
    stand_ins = {step.fallback for step in plan.steps if step.fallback and model.of(step.name)[1] == "lost"}
    mended |= dict.fromkeys(stand_ins, 0)
    fails = dict(plan.fails)
    made = plan.orchestrator()
    executed: list[str] = []

    def asked(agent_type: str, task: Any, context: dict[str, Any]) -> Any:
        executed.append(context["step"])
        return agent(plan, fails, task, context)

    async with Reprise(Shared(), capture_logs=False, grace=0.0) as app:
        result = await made.execute(asked, app=app, id="r")
        if status != "failed":
            return
        fails.update(mended)
        executed.clear()
        handle = await app.retry("r")
        finished = await handle.finished(20)
        result = read_outcome(handle.id, await handle.events(), finished)
    assert summary(result) == Model(plan, mended).summary()
    assert not {name for name in executed if recorded[name] == "completed"}


@given(plans())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_plan_that_is_tried_again_does_what_failed_for_good_and_nothing_that_was_done(plan: Random) -> None:
    asyncio.run(retried(plan))
