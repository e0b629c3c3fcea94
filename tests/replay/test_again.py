"""Random chains and parallel executors that failed by their own rule go on when they are tried again, and keep what was done."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.unit.runtime.scenes import opened

from reprise import AgentChain, AggregationStrategy, ParallelExecutor, RetryRefused
from reprise.kernel.events import Finished, Kind, Record, run_stream
from reprise.runtime.middleware import Call, Next

EXAMPLES = int(os.environ.get("REPRISE_AGAIN", "120"))
STEP_ENDS = (Kind.STEP_COMPLETED, Kind.STEP_FAILED, Kind.STEP_CANCELLED)
pytestmark = pytest.mark.replay
RANDOMLY = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


class Agents:
    """Answer as a script says, in turn; when it is at its end, or all was mended, well."""

    def __init__(self, scripts: dict[str, list[str]], otherwise: str = "well") -> None:
        self._scripts = scripts
        self._otherwise = otherwise
        self._calls = defaultdict[str, int](int)
        self.mended = False

    async def __call__(self, agent_type: str, task: Any) -> str:
        script, at = self._scripts.get(agent_type, []), self._calls[agent_type]
        self._calls[agent_type] += 1
        await asyncio.sleep(0)
        answer = script[min(at, len(script) - 1)] if script and not self.mended else self._otherwise
        if answer == "fails":
            raise ValueError("no")
        return answer


async def tried_again(face: Any, agents: Agents) -> tuple[Finished | None, str]:
    """Execute, mend, try again; return how that ended, None = there was nothing to try, and how it ended first."""
    executed: list[tuple[str, str]] = []

    async def watch(call: Call, next: Next) -> Any:
        executed.append((call.run, call.key))
        return await next(call)

    async with opened(middleware=[watch]) as app:
        first = await face.execute(agents, app=app, id="r")
        if first.status != "failed":
            return None, first.status
        agents.mended = True
        records = await app.store.log.read(run_stream("r"))
        try:
            handle = await app.retry("r")
        except RetryRefused:
            return None, "refused"
        finished = await handle.finished(10)
        kept = kept_of(records)
        twice = kept & {key for run, key in executed if run == "r~2"}
        assert not twice, f"done again although it was done: {twice}"
        after = {record.key for record in await app.store.log.read(run_stream("r~2"))}
        assert kept <= after, "lost"
        if finished.status == "failed" and finished.again:
            # An answer that came when the rule had decided is looked at now, and cannot be compared.
            finished = await (await app.retry("r~2")).finished(10)
        return finished, first.failure.type


def kept_of(records: list[Record]) -> set[str]:
    """Return the keys of what had succeeded and was not refused."""
    finished = msgspec.json.decode(records[-1].data, type=Finished)
    assert finished.again is not None
    done = {record.key for record in records if record.kind == Kind.STEP_COMPLETED}
    return done - set(finished.void)


# ---------------------------------------------------------------- chains


@st.composite
def chains(draw: st.DrawFn) -> tuple[AgentChain, Agents]:
    names = [f"a{n}" for n in range(draw(st.integers(1, 5)))]
    chain = AgentChain("random", "start")
    for name in names:
        on_error = draw(st.sampled_from(["stop", "stop", "skip", "default", "goto"]))
        options: dict[str, Any] = {"default": "by default"} if on_error == "default" else {}
        if on_error == "goto":
            options = {"goto": draw(st.sampled_from(names)), "jumps": draw(st.integers(0, 2))}
        chain.then(
            name,
            transform=draw(st.sampled_from([None, str])),
            validate=draw(st.sampled_from([None, lambda answer: answer != "bad"])),
            tries=draw(st.integers(1, 3)),
            max_retries=0,
            on_error=on_error,
            **options,
        )
    answers = st.lists(st.sampled_from(["well", "fails", "bad"]), min_size=1, max_size=4)
    scripts = {name: draw(answers) for name in names if draw(st.booleans())}
    return chain, Agents(scripts)


@given(chains())
@RANDOMLY
def test_a_random_chain_goes_on_at_the_link_that_failed(made: tuple[AgentChain, Agents]) -> None:
    finished, _ = asyncio.run(tried_again(*made))
    assert finished is None or finished.status == "completed", finished


# ---------------------------------------------------------------- side by side


def key_of(answer: str) -> str:
    if answer == "bad":
        raise ValueError("cannot be compared")
    return answer


@st.composite
def executors(draw: st.DrawFn) -> tuple[ParallelExecutor, Agents]:
    strategy = draw(st.sampled_from(AggregationStrategy))
    names = [f"a{n}" for n in range(draw(st.integers(1, 6)))]
    options: dict[str, Any] = {}
    if strategy is AggregationStrategy.THRESHOLD:
        options["threshold"] = draw(st.integers(1, len(names)))
    if strategy is AggregationStrategy.MAJORITY:
        options["key"] = draw(st.sampled_from([None, key_of]))
    executor = ParallelExecutor(draw(st.integers(1, 4)), strategy, name="random", **options)
    for name in names:
        executor.create_task(name, id=name, priority=draw(st.integers(0, 4)), max_retries=0)
    answers = st.sampled_from(["well", "fails", "fails", "bad"])
    scripts = {name: [draw(answers)] for name in names}
    return executor, Agents(scripts)


@given(executors())
@RANDOMLY
def test_a_random_parallel_executor_asks_those_again_that_failed(
    made: tuple[ParallelExecutor, Agents],
) -> None:
    finished, how = asyncio.run(tried_again(*made))
    if how == "refused":
        assert made[0].strategy is AggregationStrategy.MAJORITY, "all answered, and differ"
    elif finished is not None and finished.status != "completed":
        assert made[0].strategy is AggregationStrategy.MAJORITY, finished
        assert not finished.again, "what could not be compared is asked for again"
        assert finished.error is not None
        assert finished.error.type == "reprise.RuleNotMet"
