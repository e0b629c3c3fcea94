"""Chains: what passes from link to link, what is sent back, what becomes of the chain when a link fails."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from tests.unit.runtime.scenes import Shared, cut, opened

from reprise import (
    AgentChain,
    AgentRegistry,
    ChainResult,
    CodecError,
    ConfigurationError,
    ResultRefused,
    RunConflict,
    RunStranded,
    UnknownAgent,
    UnknownOption,
    workflow,
)

PERMANENT = ValueError("no")


class Thing:
    """Nothing that a codec knows."""

    def __init__(self, n: int) -> None:
        self.n = n


@dataclass
class Review:
    score: int
    notes: list[str]


def scripted(**answers: Any):
    """Return an executor that notes how it was called, and gives each agent's answers in turn; errors are raised."""
    calls: list[tuple[str, Any, dict[str, Any]]] = []
    left = {agent: list(given) if isinstance(given, list) else [given] for agent, given in answers.items()}

    async def executor(agent_type: str, task: Any, context: dict[str, Any]) -> Any:
        calls.append((agent_type, task, context))
        given = left.get(agent_type)
        if not given:
            return f"{agent_type}({task})"
        answer = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return executor, calls


def statuses(result: ChainResult) -> dict[str, str]:
    return {step.name: step.status for step in result.steps}


async def test_what_one_link_returns_is_the_task_of_the_next():
    executor, calls = scripted()
    chain = AgentChain("review", "logins").then("a", transform=lambda x: f"look at {x}").then("b").then("a")
    result = await chain.execute(executor, context={"team": "blue"})
    assert result.output == "a(b(a(look at logins)))"
    assert (result.status, result.errors) == ("completed", {})
    assert statuses(result) == {"a": "completed", "b": "completed", "a-2": "completed"}
    assert [task for _, task, _ in calls] == ["look at logins", "a(look at logins)", "b(a(look at logins))"]
    context = calls[-1][2]
    assert context["team"] == "blue"
    assert context["results"] == {"a": "a(look at logins)", "b": "b(a(look at logins))"}
    assert (context["step"], context["attempt"], context["errors"]) == ("a-2", 1, {})
    assert result.workflow_id == result.execution_id == result.run_id
    result.raise_for_status()


async def test_a_chain_without_links_gives_what_it_was_given():
    assert (await AgentChain("none", [1, 2]).execute(lambda agent, task: task)).output == [1, 2]


async def test_any_type_passes_in_memory():
    chain = AgentChain("things", Thing(1)).then("a").then("b", transform=lambda thing: (thing, "text"))
    result = await chain.execute(
        lambda agent, task: Thing(task.n + 1) if agent == "a" else Thing(task[0].n + 1)
    )
    assert result.output.n == 3
    assert result.steps[0].result.n == 2


# ---------------------------------------------------------------- validation and repair


async def test_a_refused_answer_is_sent_back_with_the_reason():
    executor, calls = scripted(coder=["bad", "worse", "good"])
    chain = AgentChain("code", "sort").then("coder", validate=lambda x: x == "good" or f"{x} is not good")
    result = await chain.execute(executor)
    assert (result.output, result.status) == ("good", "completed")
    assert [task for _, task, _ in calls] == [
        "sort",
        "sort\n\nYour last answer was refused: bad is not good",
        "sort\n\nYour last answer was refused: bad is not good\n\nYour last answer was refused: worse is not good",
    ]
    assert calls[1][2]["refused"] == {"result": "bad", "reason": "bad is not good", "times": 1}
    (step,) = result.steps
    assert (step.calls, step.refused) == (3, ["bad is not good", "worse is not good"])


async def test_the_last_refusal_fails_the_chain():
    executor, calls = scripted(coder="bad")
    chain = AgentChain("code", "sort").then("coder", validate=lambda x: False, tries=2).then("tester")
    result = await chain.execute(executor)
    assert (result.status, result.output, len(calls)) == ("failed", None, 2)
    assert statuses(result) == {"coder": "failed", "tester": "skipped"}
    assert result.errors == {"coder": "validate: It is not what was asked for."}
    assert "refused 2 times" in result.steps[1].error
    with pytest.raises(ResultRefused, match="refused 2 times, at last: It is not what") as raised:
        result.raise_for_status()
    assert "in link 'coder' of chain 'code'" in raised.value.__notes__


def raises(_: Any) -> None:
    raise KeyError("score")


def asserts(value: Any) -> None:
    assert value > 3, "more than 3"


@pytest.mark.parametrize(
    ("validate", "reason"),
    [
        (lambda x: False, "It is not what was asked for."),
        (lambda x: "too short", "too short"),
        (lambda x: 0, "It is not what was asked for."),
        (raises, "KeyError: 'score'"),
        (asserts, "AssertionError: more than 3"),
    ],
    ids=["false", "text", "zero", "raises", "asserts"],
)
async def test_ways_to_refuse(validate, reason):
    chain = AgentChain("c").then("a", validate=validate, tries=1)
    result = await chain.execute(lambda agent, task: 1)
    assert result.steps[0].refused[0].splitlines()[0] == reason


@pytest.mark.parametrize(
    "validate", [lambda x: True, lambda x: None, lambda x: "", lambda x: 7], ids=range(4)
)
async def test_ways_to_accept(validate):
    result = await AgentChain("c").then("a", validate=validate, tries=1).execute(lambda agent, task: 1)
    assert result.status == "completed"


async def test_a_function_makes_the_next_task_after_a_refusal():
    executor, calls = scripted(a=[1, 5])
    chain = AgentChain("c", {"n": 0}).then(
        "a", validate=asserts, repair=lambda task, value, reason: {"n": task["n"] + 1, "was": value}
    )
    assert (await chain.execute(executor)).output == 5
    assert [task for _, task, _ in calls] == [{"n": 0}, {"n": 1, "was": 1}]


async def test_a_task_that_is_no_text_is_asked_again_as_it_is():
    executor, calls = scripted(a=[1, 5])
    await AgentChain("c", {"n": 0}).then("a", validate=asserts).execute(executor)
    assert [task for _, task, _ in calls] == [{"n": 0}, {"n": 0}]


# ---------------------------------------------------------------- when a link fails


async def test_stop():
    executor, calls = scripted(b=PERMANENT)
    result = await AgentChain("c", "x").then("a").then("b").then("c").execute(executor)
    assert (result.status, result.output) == ("failed", None)
    assert statuses(result) == {"a": "completed", "b": "failed", "c": "skipped"}
    assert result.errors == {"b": "ValueError: no"}
    assert result.steps[2].error == "not reached: ValueError: no"
    assert len(calls) == 2
    with pytest.raises(ValueError, match="no"):
        result.raise_for_status()


async def test_skip():
    executor, calls = scripted(b=PERMANENT)
    result = await AgentChain("c", "x").then("a").then("b", on_error="skip").then("c").execute(executor)
    assert (result.status, result.output) == ("partial", "c(a(x))")
    assert statuses(result) == {"a": "completed", "b": "failed", "c": "completed"}
    assert calls[-1][2]["errors"] == {"b": "ValueError: no"}
    result.raise_for_status()


async def test_default():
    executor, _ = scripted(b=PERMANENT)
    chain = AgentChain("c", "x").then("a").then("b", on_error="default", default=None).then("c")
    result = await chain.execute(executor)
    assert (result.status, result.output) == ("partial", "c(None)")
    assert (await AgentChain("c").then("b", on_error="default", default=[1]).execute(executor)).output == [1]


async def test_goto_another_link_with_what_this_one_was_given():
    executor, calls = scripted(b=PERMANENT)
    chain = AgentChain("c", "x").then("a").then("b", on_error="goto", goto="d").then("c").then("d")
    result = await chain.execute(executor)
    assert (result.status, result.output) == ("partial", "d(a(x))")
    assert statuses(result) == {"a": "completed", "b": "failed", "c": "skipped", "d": "completed"}
    assert result.steps[2].error == "not reached: the chain went another way"
    assert [agent for agent, _, _ in calls] == ["a", "b", "d"]


async def test_goto_back_until_it_works():
    executor, calls = scripted(b=[PERMANENT, PERMANENT, "fine"])
    result = await AgentChain("c", "x").then("a").then("b", on_error="goto", goto="a").execute(executor)
    assert (result.status, result.output, result.errors) == ("completed", "fine", {})
    assert [agent for agent, _, _ in calls] == ["a", "b"] * 3
    assert [step.calls for step in result.steps] == [3, 3]


async def test_goto_back_does_not_go_on_for_ever():
    executor, calls = scripted(b=PERMANENT)
    chain = AgentChain("c", "x").then("a").then("b", on_error="goto", goto="a", jumps=2)
    result = await chain.execute(executor)
    assert (result.status, len(calls)) == ("failed", 6)


async def test_a_transform_that_fails_is_a_failure_of_its_link():
    executor, calls = scripted(a={"n": 1})
    chain = AgentChain("c").then("a").then("b", transform=lambda x: x["result"], on_error="skip").then("c")
    result = await chain.execute(executor)
    assert result.errors == {"b": "transform: KeyError: 'result'"}
    assert [agent for agent, _, _ in calls] == ["a", "c"]
    stopped = await AgentChain("c").then("a").then("b", transform=lambda x: x["result"]).execute(executor)
    with pytest.raises(KeyError, match="result"):
        stopped.raise_for_status()


async def test_what_may_pass_is_tried_again():
    executor, calls = scripted(a=[ConnectionError(), ConnectionError(), "done"])
    result = await AgentChain("c").then("a", max_retries=2).execute(executor)
    assert result.output == "done"
    assert [context["attempt"] for _, _, context in calls] == [1, 2, 3]


# ---------------------------------------------------------------- durable


async def test_a_run_goes_on_by_its_id_and_gives_what_came_of_it():
    store = Shared()
    executor, calls = scripted()
    chain = AgentChain("review", "x").then("a").then("b")
    first = await chain.execute(executor, id="r", store=store)
    again = await chain.execute(executor, id="r", store=store)
    assert again == first
    assert len(calls) == 2
    with pytest.raises(RunConflict):
        await chain.execute(executor, id="r", store=store, initial_input="y")


async def test_what_cannot_be_kept_is_named_with_a_cure():
    store = Shared()
    chain = AgentChain("review", "x").then("maker").then("b")
    result = await chain.execute(lambda agent, task: Thing(1), store=store)
    assert result.status == "failed"
    error = result.errors["maker"]
    assert "What link 'maker' of chain 'review' returned cannot be kept" in error
    assert "Thing" in error
    assert "returns=" in error
    with pytest.raises(CodecError, match="initial_input of chain 'review' cannot be kept"):
        await chain.execute(lambda agent, task: 1, store=store, initial_input=Thing(1))
    chain = AgentChain("other", "x").then("b", on_error="default", default=Thing(1))
    with pytest.raises(CodecError, match="default= of link 'b' cannot be kept"):
        await chain.execute(lambda agent, task: 1, store=store)


async def test_declared_types_come_back_as_what_they_are():
    store = Shared()
    chain = (
        AgentChain("review", "x")
        .then("a", returns=Review)
        .then("b", transform=lambda review: review.notes)
        .then("c", returns=Review, on_error="default", default=Review(0, []))
    )

    async def executor(agent: str, task: Any) -> Any:
        if agent == "c":
            raise PERMANENT
        return Review(3, [task]) if agent == "a" else len(task)

    for _ in range(2):  # the second time from the history
        result = await chain.execute(executor, id="r", store=store)
        assert result.steps[0].result == Review(3, ["x"])
        assert result.output == Review(0, [])


async def test_a_worker_that_knows_the_chain_recovers_its_runs():
    executor, calls = scripted()
    chain = AgentChain("review", "x").then("a").then("b").then("c")
    store = Shared()
    whole = await chain.execute(executor, id="r", store=store)
    calls.clear()
    async with opened(await cut(store, "r", 3)) as app:  # a has ended
        app.register(chain, executor)
        await app.resume("r")
        assert await app.handle("r").result(10) == whole.output
    assert [agent for agent, _, _ in calls] == ["b", "c"]


async def test_a_worker_with_another_definition_does_not_go_on():
    store = Shared()
    executor, _ = scripted()
    await (
        AgentChain("review", "x")
        .then("a", transform=str.upper)
        .then("b")
        .execute(executor, id="r", store=store)
    )
    left = await cut(store, "r", 3)
    other = AgentChain("review", "x").then("a").then("b")
    async with opened(left) as app:
        with pytest.raises(RunConflict):
            await other.execute(executor, id="r", app=app)
        app.register(other, executor)
        await app.resume("r")
        with pytest.raises(RunStranded, match=r"lacks a\.transform.*Register the one"):
            await app.handle("r").result(10)


async def test_in_a_body_the_agents_of_the_app_are_known():
    @workflow
    async def asks() -> str:
        return (await AgentChain("shouting", "hello").then("shouter").execute()).output

    async with opened(agents={"shouter": lambda task: task.upper()}) as app:
        assert await app.run(asks) == "HELLO"


async def test_in_a_body_it_is_a_child_run():
    executor, _ = scripted(b=PERMANENT)
    chain = AgentChain("inner", "x").then("a").then("b", on_error="skip")

    @workflow
    async def outer() -> str:
        result = await chain.execute(executor, id="part")
        assert result.status == "partial"
        return result.output

    store = Shared()
    async with opened(store) as app:
        assert await app.run(outer, id="o") == "a(x)"
        assert await app.client.row("o:part")


async def test_who_does_it_is_checked_before_it_starts():
    chain = AgentChain("c").then("researcher").then("codr")
    agents = AgentRegistry({"researcher": lambda task: task, "coder": lambda task: task})
    store = Shared()
    with pytest.raises(UnknownAgent, match="Did you mean 'coder'"):
        await chain.execute(agents, store=store)
    assert not await store.runs.find()


async def test_agents_of_the_app_around_it_do_it():
    async with opened(agents={"a": lambda task: f"app's {task}"}):
        assert (await AgentChain("c", "x").then("a").execute()).output == "app's x"


async def test_cancelled():
    chain = AgentChain("c").then("a").then("b")
    async with opened() as app:

        async def executor(agent: str, task: Any) -> Any:
            if agent == "b":
                await app.client.cancel("r", "enough")
                await asyncio.Event().wait()

        result = await chain.execute(executor, id="r", app=app)
    assert result.status == "cancelled"
    assert statuses(result) == {"a": "completed", "b": "cancelled"}


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "skpi"}, "Did you mean 'skip'"),
        ({"on_error": "default"}, "no default="),
        ({"default": 1}, "on_error='default', default="),
        ({"on_error": "goto"}, "no goto="),
        ({"goto": "a"}, "on_error='goto', goto="),
        ({"repair": lambda *_: 1}, "Give validate= too"),
        ({"validate": lambda x: 1, "tries": 0}, "Give 1 or more"),
        ({"jumps": -1}, "Give 0 or more"),
        ({"max_retries": -1}, "max_retries is -1"),
        ({"timeout": -1}, "timeout is -1"),
        ({"transform": 1}, "Give a plain function"),
        ({"name": "first"}, "is there already"),
        ({"name": "first.2"}, "another name="),
        ({"name": "first.refused"}, "another name="),
    ],
)
def test_a_link_that_cannot_be_is_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        AgentChain("c").then("first").then("a", **options)


def test_an_async_transform_is_refused():
    async def late(x: Any) -> Any:
        return x

    with pytest.raises(ConfigurationError, match="a link of its own"):
        AgentChain("c").then("a", transform=late)


async def test_a_link_that_leads_nowhere_is_refused():
    chain = AgentChain("c").then("first").then("b", on_error="goto", goto="frist")
    with pytest.raises(UnknownOption, match="Did you mean 'first'"):
        await chain.execute(lambda agent, task: task)
