"""Tools in durable runs: in bodies, in plans, and what follows from effects."""

from typing import Any

import pytest
from tests.unit.runtime.scenes import history

from reprise import (
    Reprise,
    Retry,
    ToolContext,
    ToolError,
    ToolRegistry,
    WorkflowOrchestrator,
    WorkflowStep,
    tool,
    workflow,
)
from reprise.kernel.events import Kind
from reprise.testing import run

CALLED: list[str] = []


@pytest.fixture(autouse=True)
def _forget():
    CALLED.clear()


@tool(effects="pure")
async def double(n: int) -> int:
    """Double a number."""
    CALLED.append(f"double {n}")
    return 2 * n


@tool(effects="network", idempotent=True)
async def read(ctx: ToolContext, name: str) -> dict[str, str]:
    """Read a page; the first time the server is away."""
    CALLED.append(f"read {name}")
    if CALLED.count(f"read {name}") == 1:
        raise ConnectionResetError("away")
    return {"name": name, "run": ctx.run, "key": ctx.idempotency_key}


@tool(effects="network")
async def send(ctx: ToolContext, text: str) -> str:
    """Send a message."""
    CALLED.append(f"send {text}")
    return ctx.idempotency_key


def registry() -> ToolRegistry:
    return ToolRegistry([double, read, send])


TOOLS = registry()


@workflow
async def use_tools() -> list[Any]:
    found = await TOOLS.step("double")(n=4)
    page = await TOOLS.step("read")(name="home")
    return [found, page, await TOOLS.step("send", retry=Retry(1))(text="hello")]


@workflow
async def misuse() -> list[str]:
    try:
        await TOOLS.step("double")(n="four")
    except ToolError as error:
        return [error.code, error.field]
    return []


def test_a_call_is_a_step_with_what_follows_from_the_tools_effects():
    async def main() -> None:
        async with Reprise("memory://") as app:
            handle = await app.start(use_tools, id="r")
            found, page, sent = await handle.result()
            assert found == 8
            assert (page["name"], page["run"]) == ("home", "r")
            assert page["key"]
            assert page["key"] != sent
            records = await history(app.store, "r")
            intended = [record.key for record in records if record.kind == Kind.STEP_INTENDED]
            assert len(intended) == 1
            assert "send" in intended[0]

    run(main)
    assert CALLED == ["double 4", "read home", "read home", "send hello"]


def test_an_error_of_a_tool_comes_back_as_itself_and_is_not_tried_again():
    async def main() -> Any:
        async with Reprise("memory://") as app:
            return await app.run(misuse)

    assert run(main) == ["invalid_input", "$.n"]
    assert CALLED == []


def test_a_step_of_a_plan_names_a_tool():
    async def main() -> Any:
        plan = WorkflowOrchestrator("use tools")
        plan.add_step(WorkflowStep(name="page", tool="read", parameters={"name": "${inputs.page}"}))
        plan.add_step(
            WorkflowStep(
                name="sent",
                tool="send",
                parameters={"text": "got ${steps.page.result.name}"},
                dependencies=["page"],
            )
        )
        async with Reprise("memory://", tools=registry()) as app:
            return await plan.execute(inputs={"page": "home"}, app=app)

    result = run(main)
    assert result.status == "completed"
    assert CALLED == ["read home", "read home", "send got home"]


def test_a_tool_that_nobody_knows_is_said_before_anything_is_done():
    async def main() -> Any:
        plan = WorkflowOrchestrator("use tools")
        plan.add_step(WorkflowStep(name="page", tool="raed", parameters={}))
        async with Reprise("memory://", tools=registry()) as app:
            return await plan.execute(app=app)

    with pytest.raises(Exception, match="Did you mean 'read'"):
        run(main)


def test_tools_that_are_registered_later_are_known_too():
    async def main() -> Any:
        tools = ToolRegistry()
        plan = WorkflowOrchestrator("later")
        plan.add_step(WorkflowStep(name="doubled", tool="double", parameters={"n": 3}))
        async with Reprise("memory://", tools=tools) as app:
            tools.register_tool(double)
            return await plan.execute(app=app)

    assert run(main).results["doubled"] == 6


def test_what_a_tool_refuses_fails_the_plan_at_once():
    async def main() -> Any:
        plan = WorkflowOrchestrator("wrong")
        plan.add_step(WorkflowStep(name="doubled", tool="double", parameters={"n": "three"}))
        async with Reprise("memory://", tools=registry()) as app:
            return await plan.execute(app=app)

    result = run(main)
    assert result.status == "failed"
    assert "Expected `int`, got `str`" in str(result.errors)
