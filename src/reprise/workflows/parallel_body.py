"""The body of the runs of parallel executors: tasks side by side, until a rule knows what they make together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType

from reprise.kernel.claims import Claim, Decision, Judge, all_of, first_success, majority, threshold
from reprise.kernel.codec import standard
from reprise.kernel.errors import CodecError, RuleNotMet
from reprise.kernel.failures import brief, encode_error
from reprise.kernel.priority import Priority
from reprise.runtime.branch import RUN
from reprise.runtime.retrying import do_again
from reprise.workflows.calls import (
    REFUSED,
    Around,
    Refused,
    agent_step,
    check_functions,
    function_at,
    meant,
    note_step,
)
from reprise.workflows.flow import Flow, defaults_here, flow_here


class AggregationStrategy(StrEnum):
    """What the answers of tasks side by side make together."""

    ALL = "all"
    """The list of all answers, in the order of the tasks, None for those that failed."""
    FIRST = "first"
    """The first answer; the other tasks are cancelled."""
    MAJORITY = "majority"
    """The answer that more than half of all tasks gave."""
    THRESHOLD = "threshold"
    """The list of the first answers, as many as are needed."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task as data."""

    id: str
    agent_type: str
    task: Any
    priority: int = Priority.NORMAL
    max_retries: int | None = None
    """None = as the settings say with which the run starts."""
    timeout: float | UnsetType | None = UNSET
    """None = no limit; not given = as those settings say."""


class ParallelWork(msgspec.Struct, frozen=True):
    """Input of the run of a parallel executor."""

    tasks: list[Part]
    strategy: AggregationStrategy
    threshold: float | int | None
    max_concurrent: int | None
    """None = as the settings say with which the run starts."""
    context: Any
    needs: list[str]
    """Places of the definition where there are functions."""


async def fan_out(work: ParallelWork) -> Any:
    """Do tasks side by side until a rule knows what they make together, and return that."""
    flow = flow_here()
    check_functions(flow, work.needs)
    judge = _judge(work)
    team = _Team(flow, work)
    while judge.decision is None:
        team.start()
        judge.hear(await team.next_claim())
    await team.stop()
    decision = judge.decision
    if not decision.met:
        failures = "; ".join(f"{id}: {error}" for id, error in list(team.errors.items())[:3])
        error = RuleNotMet(
            f"{work.strategy.value} of {flow.name!r}: {decision.reason}"
            + (f" {failures}." if failures else ""),
            hint="The result's .errors say what failed.",
        )
        do_again(
            error, [*team.errors, *team.stopped], [key for id in team.errors for key in (id, id + REFUSED)]
        )
        raise error
    return _value(work, decision, team.answers)


def _value(work: ParallelWork, decision: Decision, answers: Mapping[str, Any]) -> Any:
    if work.strategy is AggregationStrategy.ALL:
        return [answers.get(part.id) for part in work.tasks]
    if work.strategy is AggregationStrategy.THRESHOLD:
        return [answers[part.id] for part in work.tasks if part.id in decision.members]
    return answers[decision.members[0]]


def _judge(work: ParallelWork) -> Judge:
    count = len(work.tasks)
    match work.strategy:
        case AggregationStrategy.ALL:
            return all_of(count)
        case AggregationStrategy.FIRST:
            return first_success(count)
        case AggregationStrategy.MAJORITY:
            return majority(count)
        case AggregationStrategy.THRESHOLD:
            return threshold(count, cast("float", work.threshold))


class _Team:
    """Tasks at work and those that wait for their turn."""

    def __init__(self, flow: Flow, work: ParallelWork) -> None:
        self._flow = flow
        self._work = work
        self._defaults = defaults_here()
        self._places = work.max_concurrent or self._defaults.max_concurrent
        self._shared: dict[str, Any] = {**flow.held(work.context), "inputs": {}, "results": {}}
        self._line = deque(sorted(work.tasks, key=lambda part: -part.priority))
        run = RUN.get()
        self._recorded = frozenset[str](run.recorded if run is not None else ())
        """What the history has, and so takes no room: of a run that is tried again, what was in line behind a failure that
        it does not have any more."""
        self._working: dict[asyncio.Future[Any], Part] = {}
        self._ended = asyncio.Queue[asyncio.Future[Any]]()
        self._compares = work.strategy is AggregationStrategy.MAJORITY
        self._said: dict[bytes, str] = {}
        self._others: list[tuple[Any, str]] = []
        self.answers: dict[str, Any] = {}
        """What tasks returned, as the history has it."""
        self.errors: dict[str, str] = {}
        self.stopped: list[str] = []
        """Tasks that were cancelled because the rule needed them no more."""

    def start(self) -> None:
        """Begin as many tasks as may be at work, the most urgent first."""
        while self._line and len(self._working) < self._places:
            self._begin(self._line.popleft())
        if self._recorded:
            behind, self._line = self._line, deque[Part]()
            for part in behind:
                if part.id in self._recorded:
                    self._begin(part)
                else:
                    self._line.append(part)
            self._recorded = frozenset[str]()

    def _begin(self, part: Part) -> None:
        context = {**self._shared, "step": part.id}
        around = Around(f"What task {part.id!r} of {self._flow.name!r} returned", context, self._returns)
        step = agent_step(part.id, part.max_retries, part.timeout, self._defaults)
        future = asyncio.ensure_future(step(part.agent_type, self._flow.held(part.task), around))
        self._working[future] = part
        future.add_done_callback(self._ended.put_nowait)

    async def next_claim(self) -> Claim:
        """Wait for a task to end, and return what it came to."""
        future = await self._ended.get()
        part = self._working.pop(future)
        if future.cancelled():
            self.errors[part.id] = "it was cancelled"
            return Claim(part.id, failed=True)
        try:
            answer = future.result()
        except Exception as error:  # noqa: BLE001 - a task that fails is the rule's business
            self.errors[part.id] = brief(encode_error(error))
            return Claim(part.id, failed=True)
        if not self._compares:
            self.answers[part.id] = answer
            return Claim(part.id)
        try:
            option = self._option(meant(self._flow, answer, self._returns))
        except Exception as error:  # noqa: BLE001 - an answer that cannot be compared is none
            self.errors[part.id] = brief(encode_error(error))
            await note_step(part.id)(Refused("key", self.errors[part.id]))
            return Claim(part.id, failed=True)
        self.answers[part.id] = answer
        return Claim(part.id, option)

    def _option(self, answer: Any) -> str:
        """Return a text that is the same for equal answers."""
        key = function_at(self._flow, "key")
        compared = answer if key is None else key(answer)
        try:
            return self._said.setdefault(standard.canonical(compared), str(len(self._said)))
        except CodecError:
            option = next((option for other, option in self._others if other == compared), "")
            if not option:
                option = f"other {len(self._others)}"
                self._others.append((compared, option))
            return option

    async def stop(self) -> None:
        """Cancel what is still at work, and wait until it has stopped."""
        for future, part in self._working.items():
            future.cancel()
            self.stopped.append(part.id)
        await asyncio.gather(*self._working, return_exceptions=True)

    @cached_property
    def _returns(self) -> Any:
        return function_at(self._flow, "returns")
