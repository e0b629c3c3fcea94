"""Several flows of one name in one app: each run is done by what it was executed with, or by what was registered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.runtime.scenes import Shared, kill, opened, recorded, status_is, until, worker_of

import reprise.runtime.worker
from reprise import (
    AgentChain,
    ConfigurationError,
    Limit,
    ParallelExecutor,
    Retry,
    RunConflict,
    WorkflowOrchestrator,
    WorkflowStep,
    workflow,
)
from reprise.kernel.events import Kind


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 0.01)
    monkeypatch.setattr(reprise.runtime.worker, "STRANGER", 0.02)


FIRMLY = Retry(retry_on=lambda error: False)


class By:
    """An executor that says who it is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[str] = []

    async def __call__(self, agent_type: str, task: Any) -> str:
        self.calls.append(agent_type)
        return self.name


def asks(**options: Any) -> WorkflowOrchestrator:
    """Return a plan that asks twice, and waits for a signal in between."""
    plan = WorkflowOrchestrator("plan")
    plan.add_step(WorkflowStep(name="first", agent_type="a", retry=FIRMLY))
    plan.add_step(WorkflowStep(name="gate", wait_for="go", dependencies=["first"]))
    plan.add_step(WorkflowStep(name="second", agent_type="a", dependencies=["gate"], **options))
    return plan


async def left_behind(store: Shared, executor: By, id: str = "r") -> None:
    """Leave a run at its gate, of a worker that vanished."""
    async with opened(store, lease=0.2) as app:
        executing = asyncio.create_task(asks().execute(executor, app=app, id=id))
        await recorded(app, id, Kind.STEP_COMPLETED)
        kill(app)
        executing.cancel()
        await asyncio.gather(executing, return_exceptions=True)
        await app.client.signal(id, "go", None)
    executor.calls.clear()


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(lambda by: (AgentChain("c").then("a"), By("other")), id="executor"),
        pytest.param(lambda by: (AgentChain("c").then("b"), by), id="links"),
        pytest.param(lambda by: (AgentChain("c").then("a", transform=str), by), id="function"),
    ],
)
async def test_another_that_is_registered_under_the_same_name_is_an_error(again):
    by = By("x")
    async with opened() as app:
        for _ in range(2):
            app.register(AgentChain("c").then("a"), by)
        with pytest.raises(ConfigurationError, match="Two that are called 'c' were registered"):
            app.register(*again(by))


async def test_two_plans_of_one_name_are_an_error():
    by = By("x")
    async with opened() as app:
        plan = asks()
        app.register(plan, by)
        app.register(plan, by)
        with pytest.raises(ConfigurationError, match="'plan'"):
            app.register(asks(timeout=3), by)


async def test_a_chain_and_a_parallel_executor_of_one_name_are_an_error():
    executor = ParallelExecutor(name="c")
    executor.create_task("a")
    async with opened() as app:
        app.register(AgentChain("c").then("a"), By("x"))
        with pytest.raises(ConfigurationError, match="Two workflows are called 'c'"):
            app.register(executor, By("x"))


async def test_each_execution_is_done_by_its_own_executor_also_when_it_left_memory_meanwhile():
    executors = {name: By(name) for name in ("x", "y", "z")}
    async with opened(max_loaded=1) as app:
        executing = []
        for name, executor in executors.items():
            executing.append(asyncio.create_task(asks().execute(executor, app=app, id=name)))
            await recorded(app, name, Kind.STEP_COMPLETED)
        await until(lambda: len(app.engine.executions) <= 1)
        for name in executors:
            await app.client.signal(name, "go", None)
        results = await asyncio.gather(*executing)
    assert [result.results["second"] for result in results] == ["x", "y", "z"]
    assert all(executor.calls == ["a", "a"] for executor in executors.values())


async def test_a_run_that_was_left_behind_is_done_by_what_was_executed_if_that_is_always_the_same():
    store, by = Shared(), By("x")
    await left_behind(store, by)
    async with opened(store) as app:
        executing = [asyncio.create_task(asks().execute(by, app=app, id=f"other-{n}")) for n in range(2)]
        assert (await app.handle("r").finished(10)).status == "completed"
        for each in executing:
            each.cancel()
        await asyncio.gather(*executing, return_exceptions=True)


async def test_nobody_does_a_run_that_was_left_behind_where_it_is_not_clear_who_would():
    store, x, y, z = Shared(), By("x"), By("y"), By("z")
    async with opened(store) as app:
        executing = [
            asyncio.create_task(asks().execute(executor, app=app, id=executor.name)) for executor in (y, z)
        ]
        for executor in (y, z):
            await recorded(app, executor.name, Kind.STEP_COMPLETED)
        await left_behind(store, x)
        row = await status_is(app, "r", "stranded")
        assert "executed several that are called 'plan'" in row.error
        await app.client.signal("y", "go", None)
        assert (await executing[0]).results["second"] == "y"
        app.register(asks(), x)
        await app.resume("r")
        assert (await app.handle("r").finished(5)).status == "completed"
        executing[1].cancel()
        await asyncio.gather(*executing, return_exceptions=True)
    assert (x.calls, y.calls, z.calls) == (["a"], ["a", "a"], ["a"])


async def test_who_does_not_know_who_would_do_a_run_leaves_it_to_others_for_a_while(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "STRANGER", 3600)
    store, x, y, z = Shared(), By("x"), By("y"), By("z")
    await left_behind(store, x)
    async with opened(store) as app:
        executing = [
            asyncio.create_task(asks().execute(executor, app=app, id=executor.name)) for executor in (y, z)
        ]
        for executor in (y, z):
            await recorded(app, executor.name, Kind.STEP_COMPLETED)
        async with asyncio.timeout(5):
            while not await worker_of(app)._dead():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for _ in range(3):
            await worker_of(app).look()
        assert (await app.client.row("r")).status != "stranded"
        for each in executing:
            each.cancel()
        await asyncio.gather(*executing, return_exceptions=True)


async def test_to_execute_it_again_says_who_goes_on_with_a_run_that_was_left_behind():
    store, x, y, z = Shared(), By("x"), By("y"), By("z")
    await left_behind(store, x)
    async with opened(store) as app:
        app.register(asks(), y)
        result = await asks().execute(z, app=app, id="r")
    assert (result.results["second"], y.calls) == ("z", [])


async def test_who_cannot_have_the_id_of_a_run_does_not_get_the_run():
    x, y = By("x"), By("y")
    async with opened(max_loaded=1) as app:
        executing = asyncio.create_task(asks().execute(x, app=app, id="r"))
        await recorded(app, "r", Kind.STEP_COMPLETED)
        with pytest.raises(RunConflict):
            await asks(timeout=3).execute(y, app=app, id="r")
        other = asyncio.create_task(asks().execute(y, app=app, id="other"))
        await recorded(app, "other", Kind.STEP_COMPLETED)
        await until(lambda: "r" not in app.engine.executions)
        for id in ("r", "other"):
            await app.client.signal(id, "go", None)
        assert [one.results["second"] for one in await asyncio.gather(executing, other)] == ["x", "y"]


async def test_a_function_that_cannot_have_the_id_of_a_run_takes_nothing_from_it():
    @workflow
    async def plain() -> None: ...

    async with opened() as app:
        executing = asyncio.create_task(asks().execute(By("x"), app=app, id="r"))
        await recorded(app, "r", Kind.STEP_COMPLETED)
        with pytest.raises(RunConflict):
            await app.start(plain, id="r")
        assert list(app.registry._lent) == ["r"]
        await app.client.signal("r", "go", None)
        assert (await executing).results["second"] == "x"


async def test_what_was_lent_to_runs_that_ended_is_forgotten():
    async with opened() as app:
        for n in range(3):
            await AgentChain("c").then("a").execute(By("x"), app=app, id=f"{n % 2}")
        assert app.registry._lent == {}


async def test_an_app_that_executes_nothing_keeps_nothing_of_the_runs_that_it_starts():
    store, by = Shared(), By("x")
    async with opened(store, worker=False) as client, opened(store) as app:
        app.register(asks(), by)
        executing = asyncio.create_task(asks().execute(by, app=client, id="r"))
        await recorded(app, "r", Kind.STEP_COMPLETED)
        assert client.registry._lent == {}
        await app.client.signal("r", "go", None)
        assert (await executing).results["second"] == "x"


async def test_what_was_lent_to_a_child_is_forgotten_when_it_ended_elsewhere(monkeypatch):
    store, by, limit = Shared(), By("x"), Limit(1, per="workflow")

    @workflow
    async def parent() -> str:
        return str((await asks().execute(by)).status)

    async with opened(store, limits=[limit]) as app, opened(store, limits=[limit]) as other:
        take = worker_of(app)._take
        monkeypatch.setattr(
            worker_of(app), "_take", lambda rows: take([row for row in rows if row.id == "p"])
        )
        first = asyncio.create_task(asks().execute(by, app=other, id="first"))
        await recorded(other, "first", Kind.STEP_COMPLETED)
        handle = await app.start(parent, id="p")
        await recorded(app, "p", Kind.CHILD_STARTED)
        (child,) = app.registry._lent
        await other.client.signal("first", "go", None)
        await first
        await recorded(other, child, Kind.STEP_COMPLETED)
        await other.client.signal(child, "go", None)
        assert await handle.result(5) == "completed"
        assert app.registry._lent == {}
