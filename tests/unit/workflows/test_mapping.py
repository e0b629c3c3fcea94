"""Map steps: so many items at once, in the order of the list, in parts that child runs do where the list is long."""

import asyncio
from typing import Any

import pytest
from tests.unit.runtime.scenes import cut, history, opened
from tests.unit.workflows.test_orchestrator import Agent, do, plan_of

from reprise import workflow
from reprise.kernel.events import Kind
from reprise.workflows import mapping


@pytest.fixture
def parts_of_four(monkeypatch):
    monkeypatch.setattr(mapping, "PART", 4)


async def test_items_are_done_so_many_at_once_and_the_results_are_in_their_order():
    agent = Agent()
    step = do("m", for_each="inputs.rows", task="${index}:${item.id}", concurrency=3)
    result = await plan_of(step).execute(agent, inputs={"rows": [{"id": n} for n in range(8)], "shop": "x"})
    assert result.results["m"] == [f"{n}:{n}" for n in range(8)]
    assert agent.most == 3
    assert result.steps["m"].items == 8
    context = agent.contexts["m[2]"]
    assert (context["item"], context["index"], context["inputs"]) == ({"id": 2}, 2, {"shop": "x"})


async def test_a_list_may_stand_in_the_plan_and_come_from_a_step_and_be_empty():
    plan = plan_of(
        do("none", for_each=()),
        do("some", for_each=(1, 2), task={"n": "${item}"}),
        do("again", "some", for_each="steps.some.result", task="${item.n}", collect=False),
    )
    result = await plan.execute(Agent())
    assert result.results == {"none": [], "some": [{"n": 1}, {"n": 2}], "again": 2}


async def test_items_that_fail_end_the_step_or_are_left_out_or_are_none():
    plan = plan_of(
        do("all", for_each=tuple(range(4)), concurrency=1),
        do("some", for_each=tuple(range(4)), on_error="skip"),
        do("each", for_each=tuple(range(4)), on_error="continue"),
        do("below", "all"),
        do("reader", "some", "each", task=["${steps.some.result}", "${steps.each.result}"]),
    )
    agent = Agent("all[1]", "some[1]", "each[1]")
    result = await plan.execute(agent)
    assert result.status == "failed"
    assert "all[2]" not in agent.calls
    assert "all[1] is broken" in str(result.errors["all"])
    some = ["some[0] done", "some[2] done", "some[3] done"]
    each = ["each[0] done", None, "each[2] done", "each[3] done"]
    assert result.results == {"some": some, "each": each, "reader": [some, each]}
    assert result.skipped == {"below": "all failed"}


async def test_what_is_no_list_fails_the_step():
    result = await plan_of(do("m", for_each="inputs.n")).execute(Agent(), inputs={"n": 3})
    assert "not a list" in str(result.errors["m"])


async def test_a_long_list_is_done_by_child_runs_one_after_another(parts_of_four):
    agent = Agent()
    plan = plan_of(
        do("a"),
        do("m", "a", for_each="inputs.rows", task="${item}/${steps.a.result}", concurrency=3),
        do("count", for_each="inputs.rows", collect=False),
    )
    async with opened() as app:
        result = await plan.execute(agent, app=app, id="r", inputs={"rows": list(range(10))})
        children = [row.id for row in await app.find("parent:r", newest_first=False)]
        assert sorted(children) == sorted(
            f"r:{name}[{at}]" for name in ("m", "count") for at in ("0:4", "4:8", "8:10")
        )
        assert result.results["m"] == [f"{n}/a done" for n in range(10)]
        assert result.results["count"] == 10
    assert agent.contexts["m[9]"]["index"] == 9
    assert agent.contexts["m[9]"]["results"] == {"a": "a done"}
    assert len([r for r in await history(app.store, "r") if r.kind == Kind.STEP_COMPLETED]) == 1 + 3 + 3 + 2


async def test_a_failure_in_a_part_ends_the_step_and_a_retry_does_that_part_again(parts_of_four):
    agent = Agent("m[5]")
    plan = plan_of(do("m", for_each=tuple(range(10)), concurrency=1))
    async with opened() as app:
        failed = await plan.execute(agent, app=app, id="r")
        assert failed.status == "failed"
        assert "m[5] is broken" in str(failed.errors["m"])
        assert "m[8]" not in agent.calls
        agent.broken.clear()
        agent.calls.clear()
        retried = await app.retry("r")
        assert await retried.result(5) == {"m": [f"m[{n}] done" for n in range(10)]}
    assert agent.calls == [f"m[{n}]" for n in range(4, 10)]


async def test_items_that_failed_are_done_again_when_the_run_is_tried_again():
    agent = Agent("m[2]")
    plan = plan_of(do("m", for_each=tuple(range(4)), concurrency=2))
    async with opened() as app:
        await plan.execute(agent, app=app, id="r")
        done = set(agent.calls) - {"m[2]"}
        agent.broken.clear()
        agent.calls.clear()
        assert await (await app.retry("r")).result(5) == {"m": [f"m[{n}] done" for n in range(4)]}
    assert set(agent.calls) == {f"m[{n}]" for n in range(4)} - done


async def test_any_type_in_memory_also_in_parts(parts_of_four):
    things = [object() for _ in range(6)]

    def agent(agent_type: str, task: Any, context: dict[str, Any]) -> Any:
        return things if context["step"] == "make" else task

    plan = plan_of(do("make"), do("m", "make", for_each="steps.make.result", task="${item}"))
    result = await plan.execute(agent)
    assert result.results["m"] == things


@workflow
async def double(n: int) -> int:
    return 2 * n


async def test_an_item_may_be_a_child_run():
    async with opened(workflows=[double]) as app:
        plan = plan_of(do("m", for_each=(1, 2), workflow="double", parameters={"n": "${item}"}))
        assert (await plan.execute(Agent(), app=app, id="r")).results == {"m": [2, 4]}
        assert (await app.client.row("r:m[1]")).status == "completed"


async def test_it_goes_on_from_every_prefix_and_does_nothing_twice(parts_of_four):
    agent = Agent()
    plan = plan_of(do("m", for_each=tuple(range(3)), concurrency=2), do("n", "m", for_each="steps.m.result"))
    async with opened() as app:
        first = await plan.execute(agent, app=app, id="r")
    records = await history(app.store, "r")
    for count in range(2, len(records)):
        store = await cut(app.store, "r", count)
        done = {r.key for r in records[:count] if r.kind == Kind.STEP_COMPLETED}
        agent.calls.clear()
        async with opened(store) as other:
            other.register(plan, agent)
            finished = await other.handle("r").finished(5)
        assert finished == first.finished
        assert not done.intersection(agent.calls)


async def test_a_cancelled_map_stops_its_items():
    begun = asyncio.Event()
    stopped: list[int] = []

    async def agent(agent_type: str, task: Any, context: dict[str, Any]) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(context["index"])

    async with opened() as app:
        running = asyncio.create_task(
            plan_of(do("m", for_each=tuple(range(9)), concurrency=3)).execute(agent, app=app, id="r")
        )
        await begun.wait()
        await app.client.cancel("r")
        assert (await running).status == "cancelled"
    assert sorted(stopped) == [0, 1, 2]


async def test_the_timeout_of_the_whole_stops_a_map():
    async def agent(agent_type: str, task: Any, context: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    result = await plan_of(do("m", for_each=(1, 2)), do("b", "m"), timeout=0.05).execute(agent)
    assert result.status == "failed"
    assert result.steps["m"].status == "failed"
    assert "b" in result.skipped
