"""Chains and parallel executors that are tried again: what failed is asked again, what succeeded is kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.unit.runtime.scenes import opened

from reprise import AgentChain, AggregationStrategy, ParallelExecutor, RetryRefused

ALL, FIRST, MAJORITY, THRESHOLD = AggregationStrategy


class Agents:
    """Answer with their name and how often they were asked; those that are broken fail."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.answers: dict[str, Any] = {}
        self.calls: list[str] = []
        self._counts = Counter[str]()

    def __call__(self, agent_type: str, task: Any) -> Any:
        self.calls.append(agent_type)
        self._counts[agent_type] += 1
        if agent_type in self.broken:
            raise ValueError("no")
        return self.answers.get(agent_type, f"{agent_type}{self._counts[agent_type]}")

    def mended(self) -> None:
        """Forget what was broken, and who was asked."""
        self.broken.clear()
        self.calls.clear()


def ask(*agents: str, strategy: AggregationStrategy, **options: Any) -> ParallelExecutor:
    executor = ParallelExecutor(strategy=strategy, **options)
    for agent in agents:
        executor.create_task(agent, id=agent)
    return executor


async def tried_again(app: Any) -> Any:
    return await (await app.retry("r")).result(5)


async def test_a_chain_goes_on_at_the_link_that_failed():
    agents = Agents("c")
    chain = AgentChain("chain", 1).then("a").then("b").then("c").then("d")
    async with opened() as app:
        assert (await chain.execute(agents, app=app, id="r")).status == "failed"
        agents.mended()
        assert await tried_again(app) == "d1"
        again = await chain.execute(agents, app=app, id="r~2")
    assert agents.calls == ["c", "d"]
    assert [(step.name, step.status, step.calls) for step in again.steps] == [
        (name, "completed", 1) for name in "abcd"
    ]


async def test_a_link_that_was_refused_to_the_last_begins_anew_with_all_of_its_tries():
    agents = Agents()
    chain = AgentChain("chain").then("a").then("b", validate=lambda answer: answer > "b3" or "too early")
    async with opened() as app:
        assert (await chain.execute(agents, app=app, id="r")).failure.type == "reprise.ResultRefused"
        agents.mended()
        assert await tried_again(app) == "b4"
        again = await chain.execute(agents, app=app, id="r~2")
    assert agents.calls == ["b"]
    assert (again.steps[1].calls, again.steps[1].refused) == (1, [])


async def test_a_transform_that_raised_and_was_mended_is_done_again():
    agents, wrong = Agents(), [ValueError("no transform")]

    def transform(value: Any) -> Any:
        if wrong:
            raise wrong[0]
        return value

    chain = AgentChain("chain").then("a").then("b", transform=transform).then("c")
    async with opened() as app:
        assert (await chain.execute(agents, app=app, id="r")).errors == {
            "b": "transform: ValueError: no transform"
        }
        wrong.clear()
        agents.mended()
        assert await tried_again(app) == "c1"
    assert agents.calls == ["b", "c"]


async def test_failures_that_the_chain_went_past_are_left_as_they_were():
    """They say the same as the one that ended it, and what came after them followed from them."""
    agents = Agents("a", "c")
    chain = AgentChain("chain", 1).then("a", on_error="skip").then("b").then("c")
    async with opened() as app:
        assert (await chain.execute(agents, app=app, id="r")).status == "failed"
        agents.mended()
        assert await tried_again(app) == "c2"
        again = await chain.execute(agents, app=app, id="r~2")
    assert agents.calls == ["c"]
    assert (again.status, again.errors) == ("partial", {"a": "ValueError: no"})


async def test_of_a_link_that_led_elsewhere_only_the_last_pass_is_done_again():
    agents = Agents("b")
    chain = AgentChain("chain", 1).then("a").then("b", on_error="goto", goto="a", jumps=2).then("c")
    async with opened() as app:
        assert (await chain.execute(agents, app=app, id="r")).status == "failed"
        assert agents.calls == ["a", "b", "a", "b", "a", "b"]
        agents.mended()
        assert await tried_again(app) == "c1"
    assert agents.calls == ["b", "c"]


@pytest.mark.parametrize("most", [1, 2, 10])
async def test_a_parallel_executor_asks_those_again_that_failed_and_keeps_what_succeeded(most):
    agents = Agents("a", "c", "e")
    executor = ask(*"abcde", strategy=THRESHOLD, threshold=4, max_concurrent=most)
    async with opened() as app:
        first = await executor.execute(agents, app=app, id="r")
        assert (first.status, first.failure.type) == ("failed", "reprise.RuleNotMet")
        kept = list(first.results)
        agents.mended()
        assert len(await tried_again(app)) == 4
        again = await executor.execute(agents, app=app, id="r~2")
    assert not set(kept) & set(agents.calls)
    assert again.results.items() >= first.results.items()


async def test_a_parallel_executor_of_which_everything_failed_asks_everybody_again():
    agents = Agents(*"abc")
    executor = ask(*"abc", strategy=ALL, max_concurrent=1)
    async with opened() as app:
        assert (await executor.execute(agents, app=app, id="r")).status == "failed"
        agents.mended()
        assert await tried_again(app) == ["a2", "b2", "c2"]


async def test_an_answer_that_could_not_be_compared_is_asked_for_again():
    agents = Agents()
    agents.answers = {"a": None, "b": "tea", "c": "milk"}
    executor = ask(*"abc", strategy=MAJORITY, key=str.lower)
    async with opened() as app:
        assert (await executor.execute(agents, app=app, id="r")).status == "failed"
        agents.mended()
        agents.answers["a"] = "Tea"
        assert (await tried_again(app)).lower() == "tea"
    assert agents.calls == ["a"]


async def test_where_all_answered_there_is_nothing_to_ask_again():
    agents = Agents()
    executor = ask(*"abc", strategy=MAJORITY)
    async with opened() as app:
        assert (await executor.execute(agents, app=app, id="r")).status == "failed"
        with pytest.raises(RetryRefused, match="in run r can be done again") as refused:
            await app.retry("r")
        assert "--fresh" in refused.value.hint
        agents.answers = dict.fromkeys("abc", "tea")
        assert await (await app.retry("r", fresh=True)).result(5) == "tea"
