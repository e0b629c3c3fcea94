"""Agents and models that say what a test wants, and remember what they were asked."""

import pytest

from reprise import (
    AgentChain,
    Reprise,
    Retry,
    WorkflowOrchestrator,
    WorkflowStep,
    current_step,
    step,
    workflow,
)
from reprise.testing import FunctionAgent, ScriptedAgent, ScriptedModel, Turn, Unscripted


def report() -> WorkflowOrchestrator:
    plan = WorkflowOrchestrator(name="report")
    plan.add_step(
        WorkflowStep(name="collect", agent_type="researcher", task="Collect", retry=Retry(3, backoff=0))
    )
    return plan.add_step(
        WorkflowStep(name="write", agent_type="writer", task="Write", dependencies=("collect",))
    )


async def test_a_plan_by_a_script():
    agent = ScriptedAgent({"researcher": [ConnectionError("busy"), ["bees hum"]], "writer": "They hum."})
    result = await report().execute(agent)
    assert result.results == {"collect": ["bees hum"], "write": "They hum."}
    assert [each.agent for each in agent.calls] == ["researcher", "researcher", "writer"]
    assert agent.assert_asked("writer", "Write", times=1).context["results"] == {"collect": ["bees hum"]}
    agent.assert_done()


async def test_a_chain_by_a_list_of_answers():
    agent = ScriptedAgent(["a draft", "a better draft"])
    chain = AgentChain().then("writer").then("editor")
    assert (await chain.execute(agent, initial_input="bees")).output == "a better draft"
    assert agent.assert_asked("editor").task == "a draft"


async def test_what_the_script_does_not_foresee():
    agent = ScriptedAgent({"writer": ["a draft"]})
    assert await agent("writer", "write") == "a draft"
    with pytest.raises(Unscripted, match="writer has 1 answers and was asked once more: 'again'"):
        await agent("writer", "again")
    with pytest.raises(Unscripted, match="The script has no agent 'critic', only writer"):
        await agent("critic", "look")


async def test_what_was_not_asked():
    agent = ScriptedAgent({"writer": ["a draft", "another"], "critic": "fine"})
    with pytest.raises(AssertionError, match="Nobody was asked anything"):
        agent.assert_asked("writer")
    await agent("writer", "write")
    with pytest.raises(
        AssertionError, match=r"Not asked 2 times, but 1: writer: anything. Asked were:\n  writer: 'write'"
    ):
        agent.assert_asked("writer", times=2)
    with pytest.raises(AssertionError, match="Not asked: writer: 'read'"):
        agent.assert_asked("writer", "read")
    with pytest.raises(AssertionError, match="Never said: 1 of writer, 1 of critic"):
        agent.assert_done()


async def test_answers_may_be_computed_repeated_or_raised():
    async def slowly(task, context):
        return task.upper()

    agent = ScriptedAgent(
        {"a": [str.title, slowly, ValueError, "rest", ...]} | {"b": lambda task, _: task * 2}
    )
    agent._lines["a"]._answers[0] = lambda task, context: task.title()
    assert [await agent("a", "word") for _ in range(2)] == ["Word", "WORD"]
    with pytest.raises(ValueError):
        await agent("a", "word")
    assert [await agent("a", "word") for _ in range(3)] == ["rest"] * 3
    assert [await agent("b", "ab"), await agent("b", "c")] == ["abab", "cc"]


@step
async def ask(agent: ScriptedAgent | None = None) -> str:
    return await AGENTS[current_step().run.partition("/")[0]]("writer", "write")


AGENTS: dict[str, ScriptedAgent] = {}


@workflow
async def asks_twice() -> list[str]:
    return [await ask(), await ask()]


async def test_a_call_that_is_made_again_gets_its_answer_again():
    """As after a crash: the same run in another store, with the same script."""
    agent = AGENTS["r"] = ScriptedAgent({"writer": ["one", "two"]})
    for _ in range(2):
        async with Reprise("memory://") as app:
            assert await app.run(asks_twice, id="r") == ["one", "two"]
    assert len(agent.calls) == 4


async def test_single_agents_for_an_app():
    agent = FunctionAgent(lambda name, task, context: f"{name} did {task}")
    async with Reprise("memory://", agents=agent.agents("researcher", "writer")) as app:
        result = await report().execute(app=app)
    assert result.results["write"] == "writer did Write"
    agent.assert_asked("researcher", "Collect", times=1)


class TestModels:
    async def test_a_conversation(self):
        model = ScriptedModel([Turn(chunks=["a", "b"]), {"tool": "x"}, Turn(chunks=[1, 2]), "end"])
        assert await model(["hello"]) == "ab"
        assert [piece async for piece in model.stream(["hello", "ab"])] == [{"tool": "x"}]
        assert await model("more") == [1, 2]
        with pytest.raises(AssertionError, match="1 replies were never asked for"):
            model.assert_done()
        assert await model("last", temperature=0) == "end"
        model.assert_done()
        assert model.calls == [["hello"], ["hello", "ab"], "more", "last"]
        with pytest.raises(Unscripted, match="the model has 4 answers"):
            await model("again")

    async def test_errors(self):
        model = ScriptedModel([TimeoutError("slow"), "answer"])
        with pytest.raises(TimeoutError, match="slow"):
            await model("?")
        assert await model("?") == "answer"

    async def test_a_conversation_is_saved_and_checked_when_it_is_played_again(self, tmp_path):
        model = ScriptedModel([{"tool": "search"}, Turn(chunks=["They ", "hum."])])
        await model([{"role": "user", "content": "Bees?"}])
        await model(["found"])
        model.save(tmp_path / "bees.jsonl")
        again = ScriptedModel.load(tmp_path / "bees.jsonl")
        assert await again([{"role": "user", "content": "Bees?"}]) == {"tool": "search"}
        with pytest.raises(Unscripted, match=r"Turn 2 was shown \['lost'\], and recorded is \['found'\]"):
            await again(["lost"])
