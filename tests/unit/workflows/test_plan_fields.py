"""Fields of a plan's steps, each as its user sees it: cache, reads and writes, resources, compensation, child workflows."""

import asyncio
from collections import Counter

import msgspec
import pytest
from tests.unit.runtime.scenes import opened, until

from reprise import (
    Plan,
    PlanInvalid,
    Reprise,
    UnknownAgent,
    WorkflowOrchestrator,
    WorkflowStep,
    load_plan,
    step,
    workflow,
)
from reprise.kernel.events import Started, run_stream

FILE = """
name: fields
version: {version}
steps:
  - name: look
    agent: looker
    task: Look at ${{inputs.what}}
    cache: 1h
    reads: [unit]
    writes: [seen]
    resources: {{gpu: 0.5, memory: 2}}
  - name: tell
    agent: teller
    task: ${{context.seen}} in ${{context.unit}}
    depends_on: look
"""


class World:
    """Agents that count how often they were asked, and fail where they are told."""

    def __init__(self, *broken):
        self.broken = broken
        self.calls = Counter()
        self.told = []

    async def __call__(self, who, task, context):
        self.calls[who] += 1
        self.told.append((who, task, context))
        if who in self.broken:
            raise ValueError(f"{who} is ill")
        return {"seen": f"{task}"} if who == "looker" else f"{who}: {task}"


def of_file(version=1):
    return WorkflowOrchestrator.of(load_plan(FILE.format(version=version)))


async def do(app, world, orchestrator=None, *, what="owls", unit="cm"):
    wf = orchestrator or of_file()
    return await wf.execute(world, app=app, inputs={"what": what}, context={"unit": unit})


# ---------------------------------------------------------------- cache


async def test_a_cached_step_is_done_once_for_all_runs_that_ask_the_same():
    world = World()
    async with opened() as app:
        first, second = await do(app, world), await do(app, world)
        assert (
            first.results
            == second.results
            == {"look": {"seen": "Look at owls"}, "tell": "teller: Look at owls in cm"}
        )
        assert world.calls == {"looker": 1, "teller": 2}
        await do(app, world, what="bats")
        await do(app, world, unit="m")  # the agent can see it
        assert world.calls["looker"] == 3
        await do(app, world, of_file(version=2))
        assert world.calls["looker"] == 4
        await do(app, world)
        assert world.calls["looker"] == 4


async def test_items_of_a_cached_map_are_found_one_by_one():
    world = World()
    async with opened() as app:
        for items, calls in ((("a", "b"), 2), (("a", "c"), 3)):
            wf = WorkflowOrchestrator("m")
            wf.add_step(WorkflowStep(name="m", agent_type="x", task="${item}", for_each=items, cache=True))
            result = await wf.execute(world, app=app)
            assert result.results["m"] == [f"x: {item}" for item in items]
            assert world.calls["x"] == calls


async def test_what_failed_is_not_cached():
    async with opened() as app:
        await do(app, World("looker"))
        assert (await do(app, world := World())).status == "completed"
        assert world.calls["looker"] == 1


# ---------------------------------------------------------------- reads, writes, resources


async def test_what_a_step_reads_writes_and_takes_is_kept_wherever_the_plan_goes():
    wf = of_file()
    written = wf.plan().to_dict()["steps"][0]
    kept = {"reads": ["unit"], "writes": ["seen"], "resources": {"gpu": 0.5, "memory": 2}}
    assert {name: written[name] for name in kept} == kept
    assert Plan.from_dict(wf.plan().to_dict()) == wf.plan()
    async with opened() as app:
        result = await do(app, World(), wf)
        started = msgspec.json.decode(
            (await app.store.log.read(run_stream(result.run_id)))[0].data, type=Started
        )
        (planned, _, _), _ = msgspec.json.decode(bytes(started.input))
        assert {name: planned["steps"][0][name] for name in kept} == kept
    assert result.context == {"unit": "cm", "seen": "Look at owls"}


# ---------------------------------------------------------------- compensation


def booking(**options):
    wf = WorkflowOrchestrator("booking")
    wf.add_step(
        WorkflowStep(
            name="seat", agent_type="airline", task="Book", compensation="Cancel ${steps.seat.result}"
        )
    )
    wf.add_step(
        WorkflowStep(
            name="rooms",
            agent_type="hotel",
            task="Room ${item}",
            for_each=("1", "2"),
            dependencies=["seat"],
            concurrency=1,
            compensation={"agent": "porter", "task": "Clear ${item} of ${steps.seat.result}"},
        )
    )
    wf.add_step(
        WorkflowStep(
            name="note",
            function=upper,
            parameters={"text": "x"},
            dependencies=["rooms"],
            compensation={"tool": "eraser", "parameters": {"text": "${steps.note.result}"}},
        )
    )
    wf.add_step(WorkflowStep(name="pay", agent_type="bank", task="Pay", dependencies=["note"], **options))
    return wf


def upper(text):
    return text.upper()


async def test_what_was_done_is_compensated_in_reverse_order_by_whom_the_compensation_names():
    world = World("bank")
    async with opened() as app:
        result = await booking().execute(world, app=app, context={"trip": "Rome"})
    assert result.status == "failed"
    undone = [(who, task) for who, task, context in world.told if "happened" in context]
    assert undone == [
        ("eraser", {"text": "X"}),
        ("porter", "Clear 2 of airline: Book"),
        ("porter", "Clear 1 of airline: Book"),
        ("airline", "Cancel airline: Book"),
    ]
    seat = world.told[-1][2]
    assert (seat["happened"], seat["result"], seat["trip"], seat["step"]) == (
        True,
        "airline: Book",
        "Rome",
        "seat",
    )
    assert len({context["idempotency_key"] for _, _, context in world.told if "happened" in context}) == 4


async def test_compensating_goes_on_where_a_worker_left_it(tmp_path):
    store = f"sqlite:///{tmp_path}/x.db"
    porters = []

    async def held(who, task, context):
        if who == "porter":
            porters.append(task)
            await asyncio.Event().wait()
        return await World("bank")(who, task, context)

    async with Reprise(store, capture_logs=False, grace=0) as app:
        executing = asyncio.create_task(booking().execute(held, app=app, id="b"))
        await until(lambda: porters)
        executing.cancel()
    world = World("bank")
    async with Reprise(store, capture_logs=False) as app:
        result = await booking().execute(world, app=app, id="b")
    assert result.status == "failed"
    assert [(who, task) for who, task, _ in world.told] == [
        ("porter", "Clear 2 of airline: Book"),
        ("porter", "Clear 1 of airline: Book"),
        ("airline", "Cancel airline: Book"),
    ]


async def test_who_compensates_has_to_be_known_before_anything_starts():
    agents = dict.fromkeys(("airline", "hotel", "portr", "eraser", "bank"), lambda task: task)
    async with opened() as app:
        with pytest.raises(UnknownAgent, match="Did you mean 'portr'"):
            await booking().execute(agents, app=app)
        assert await app.find() == []


def test_a_compensation_that_nobody_would_do_is_a_fault():
    with pytest.raises(PlanInvalid) as refused:
        Plan(
            name="p",
            steps=[
                WorkflowStep(name="f", function=upper, parameters={"text": "x"}, compensation="undo"),
                WorkflowStep(name="w", workflow="child", compensation={"agent": "a", "task": "undo"}),
            ],
        )
    function, child = refused.value.faults
    assert function.startswith(
        "step 'f': compensation: nobody is named who undoes what a function did. Write "
    )
    assert child == "step 'w': compensation: it means nothing for a step with workflow. Leave it out."


# ---------------------------------------------------------------- child workflows


@step
async def half(n: int) -> int:
    return n // 2


@workflow
async def halve(n: int) -> int:
    return await half(n)


def parent(name="halve"):
    wf = WorkflowOrchestrator("parent", output="${steps.child.result}")
    wf.add_step(WorkflowStep(name="child", workflow=name, parameters={"n": "${inputs.n}"}))
    return wf


async def test_a_run_waits_for_a_worker_that_knows_the_workflows_of_its_steps(tmp_path):
    store = f"sqlite:///{tmp_path}/x.db"
    async with Reprise(store, worker=False, workflows=[halve], capture_logs=False) as app:
        flow = parent().flow()
        handle = await app.start(flow, *flow.called_with({"n": 6})[0], id="p")
    async with Reprise(store, capture_logs=False) as app:
        app.register(parent())
        handle = app.handle("p", parent().flow())
        finished = await handle.finished()
        assert finished.status == "stranded"
        assert "Steps of 'parent' start workflows that are not known here: halve." in finished.error.message
    async with Reprise(store, workflows=[halve], capture_logs=False) as app:
        result = await parent().execute(app=app, id="p", inputs={"n": 6})
        assert (result.status, result.output) == ("completed", 3)


async def test_a_replay_knows_the_workflows_of_the_app():
    async with Reprise("memory://", workflows=[halve], capture_logs=False) as app:
        await parent().execute(app=app, id="p", inputs={"n": 6})
        assert (await app.replay("p")).verdict == "reached"
