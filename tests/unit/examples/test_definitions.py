"""The definitions of examples/definitions are plans, each shows its feature, and the list of them is whole."""

import asyncio
from dataclasses import fields
from pathlib import Path

import pytest
from tests.unit.runtime.scenes import asked, until

from reprise import Plan, PlanStep, Reprise, WorkflowOrchestrator, load_plan, step, workflow

FOLDER = Path(__file__).parents[3] / "examples" / "definitions"
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in (".yaml", ".json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_definition_is_a_plan_and_comes_back_as_itself(path):
    plan = load_plan(path)
    assert Plan.from_dict(plan.to_dict()) == plan
    assert plan.to_mermaid().count("\n    s") >= len(plan.steps)


def test_the_list_names_every_definition():
    listed = (FOLDER / "README.md").read_text()
    assert [path.name for path in FILES if f"({path.name})" not in listed] == []


def test_every_field_of_a_step_is_shown_somewhere():
    written = {name for path in FILES for step in load_plan(path).to_dict()["steps"] for name in step}
    not_data = {"function"}
    for_people = {"description", "resources"}
    assert {field.name for field in fields(PlanStep)} - written == not_data | for_people


# ---------------------------------------------------------------- each is done


class World:
    """Everybody whom the definitions name: says who was asked for what, and fails where it is told."""

    def __init__(self, *broken):
        self.broken = broken
        self.asked = []

    async def __call__(self, who, task, context):
        self.asked.append((who, task))
        if who in self.broken:
            raise ValueError(f"{who} is ill")
        if who == "units":
            return {"unit": "°C"}
        return f"{who}: {task}"


@step
async def look(city: str) -> str:
    return f"rain in {city}"


@workflow
async def forecast(city: str) -> str:
    return await look(city)


async def done(name, world, *, meanwhile=None, **options):
    orchestrator = WorkflowOrchestrator.of(load_plan(next(path for path in FILES if path.stem == name)))
    async with Reprise("memory://", workflows=[forecast], capture_logs=False) as app:
        other = asyncio.create_task(meanwhile(app)) if meanwhile else None
        result = await orchestrator.execute(world, id="r", app=app, **options)
        if other is not None:
            await other
    return result


def statuses(result):
    return {name: step.status for name, step in result.steps.items()}


async def test_pipeline_is_done():
    inputs = {
        name: schema.get("default", "x")
        for name, schema in load_plan(FOLDER / "pipeline.yaml").inputs.items()
    }
    result = await done("pipeline", World(), inputs=inputs)
    assert set(statuses(result).values()) == {"completed"}, result.errors
    assert result.output is not None


async def test_condition_skips():
    plan = load_plan(FOLDER / "condition.yaml")
    inputs = {name: schema.get("default", 0) for name, schema in plan.inputs.items()}
    result = await done("condition", World(), inputs=inputs)
    assert result.status == "completed"
    assert "skipped" in statuses(result).values()


@pytest.mark.parametrize(
    ("kind", "closes"), [("bug", "coder: Mend: tester: Reproduce it"), ("question", "helper: Answer it")]
)
async def test_switch_takes_one_way(kind, closes):
    world = World()
    result = await done("switch", world, inputs={"kind": kind})
    assert result.status == "completed"
    assert world.asked[-1][1].strip() == closes


async def test_for_each_item():
    world = World()
    result = await done("for_each", world, inputs={"pages": ["short", "a rather long page"]})
    assert result.results["read"] == ["reader: Page 1: short", "reader: Page 2: a rather long page"]
    assert ("writer", "Sum up 2 pages") in world.asked
    assert result.status == "completed"


async def test_errors_are_passed_over():
    world = World("model", "painter")
    result = await done("errors", world)
    assert result.status == "partial"
    assert world.asked[-1] == ("printer", "heuristic: Guess it, painted: false")


async def test_compensation_goes_backwards():
    world = World("bank")
    result = await done("compensation", world, inputs={"trip": "Rome"})
    assert result.status == "failed"
    undone = [(who, task) for who, task in world.asked if str(task).startswith("Cancel")]
    assert undone == [
        ("hotel desk", "Cancel hotel: Book Rome"),
        ("airline", "Cancel airline: Book Rome"),
    ]


@pytest.mark.parametrize(("answer", "sent"), [(True, "completed"), (False, "skipped")])
async def test_people_are_waited_for(answer, sent):
    world = World()

    async def somebody(app):
        await until(lambda: world.asked)
        question = await asked(app, "r")
        assert question.text == "May this go out? writer: Draft the letter"
        await app.client.signal("r", "payment", 7)  # kept until it is asked for
        await app.handle("r").answer({"ok": answer, "why": "typos"})

    result = await done("people", world, meanwhile=somebody)
    assert result.status == "completed"
    assert statuses(result)["send"] == sent
    assert (("post", "Send writer: Draft the letter") in world.asked) is answer


async def test_children_are_runs_and_an_agent_is_told_its_tool():
    world = World()
    result = await done("children", world)
    assert result.status == "completed", result.errors
    assert result.results["forecast"] == ["rain in Graz", "rain in Linz"]
    assert world.asked[-1] == ("writer", 'In °C, ["rain in Graz","rain in Linz"]')


async def test_what_a_service_is_sent_is_done():
    world = World()
    result = await done("service", world)
    assert result.status == "completed"
    assert [who for who, _ in world.asked] == ["core_analyzer", "insight_hunter", "publicist"]


def test_no_definition_is_only_looked_at():
    here = Path(__file__).read_text()
    assert [path.stem for path in FILES if f'done("{path.stem}"' not in here] == []
