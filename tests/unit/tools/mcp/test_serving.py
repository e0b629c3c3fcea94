"""What is offered: to clients of both revisions, in this process; runs as tasks, over processes that are killed."""

import asyncio
import os
import sys
from pathlib import Path

import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

from reprise import Reprise, ask, progress, workflow
from reprise.app.mcp import mcp_offer
from reprise.kernel.errors import BodyError, ConfigurationError, ToolError
from reprise.tools.mcp.mount import MCPMount
from reprise.tools.mcp.serving import offer
from reprise.tools.mcp.tasks import CancelTask, GetTask, TaskClient, TaskParams, TaskState
from reprise.tools.policy import ToolPolicy
from reprise.tools.registry import ToolRegistry
from reprise.tools.tool import Tool, tool

BOTH = pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])


@tool(effects="pure")
def double(n: int) -> int:
    """Double a number."""
    return 2 * n


@tool(effects="pure")
def describe(name: str) -> dict[str, str]:
    """Describe somebody."""
    if not name:
        raise ToolError("not_found", "Nobody has no name.", hint="Give one.", field="$.name")
    return {"name": name}


@tool(effects="reads_files")
def look() -> str:
    """Look around."""
    return "nothing there"


@tool(effects="writes_files")
def wipe() -> str:
    """Wipe everything."""
    return "gone"


@workflow
async def greet(name: str, wait: float = 0.0) -> str:
    """Greet somebody, durably."""
    progress(1, 2, "begun")
    await asyncio.sleep(wait)
    return f"Hello, {name}!"


@workflow
async def fails(body: bool = False) -> str:
    if body:
        raise BodyError("It cannot be carried out.")
    raise ValueError("no luck")


@workflow
async def confirm(what: str) -> str:
    return f"{what}: {await ask(bool, f'Really {what}?')}"


def registry() -> ToolRegistry:
    return ToolRegistry([double, describe, look, wipe])


@BOTH
async def test_tools_are_offered_with_schemas_and_hints_and_what_changes_things_is_not(mode):
    async with Client(offer(registry()).server, mode=mode) as client:
        listed = {each.name: each for each in (await client.list_tools()).tools}
        assert sorted(listed) == ["describe", "double", "look"]
        assert listed["double"].input_schema["required"] == ["n"]
        assert listed["double"].output_schema == {
            "type": "object",
            "properties": {"result": {"type": "integer"}},
            "required": ["result"],
        }
        hints = listed["double"].annotations
        assert (hints.read_only_hint, hints.idempotent_hint, hints.open_world_hint) == (True, True, False)
        assert (await client.call_tool("double", {"n": 4})).structured_content == {"result": 8}
        assert (await client.call_tool("describe", {"name": "Ada"})).structured_content == {"name": "Ada"}
        for name in ("wipe", "no_such_tool"):
            with pytest.raises(MCPError, match=f"Unknown tool: {name}"):
                await client.call_tool(name)


@BOTH
async def test_errors_are_results_that_say_so_and_keep_their_code_from_end_to_end(mode):
    async with Client(offer(registry()).server, mode=mode) as client:
        result = await client.call_tool("describe", {"name": ""})
        assert result.is_error
        assert result.content[0].text == "describe: Nobody has no name. Give one."
        assert result.structured_content["error"]["code"] == "not_found"
        result = await client.call_tool("double", {"n": "4"})
        assert (result.is_error, result.structured_content["error"]["code"]) == (True, "invalid_input")


async def test_more_is_offered_by_policy_and_a_scope_is_offered_as_it_is():
    policy = ToolPolicy(allow=["wipe"])
    async with Client(offer(registry(), policy=policy).server) as client:
        assert [each.name for each in (await client.list_tools()).tools] == ["wipe"]
    scope = registry().scope("ada", policy=ToolPolicy(allow=["*"], budget={"wipe": 1}))
    async with Client(offer(scope).server) as client:
        assert not (await client.call_tool("wipe")).is_error
        refused = await client.call_tool("wipe")
        assert refused.structured_content["error"]["code"] == "permission_denied"


@BOTH
async def test_many_tools_come_by_pages(mode):
    many = ToolRegistry([Tool(look.function, name=f"t{n:03}", effects="pure") for n in range(250)])
    async with Client(offer(many).server, mode=mode) as client:
        names, cursor = [], None
        while True:
            page = await client.list_tools(cursor=cursor)
            names += [each.name for each in page.tools]
            if not (cursor := page.next_cursor):
                break
        assert names == sorted(many)
        with pytest.raises(MCPError):
            await client.list_tools(cursor="nowhere")


# ---------------------------------------------------------------- runs


@pytest.fixture
async def app():
    async with Reprise("memory://", workflows=[greet, fails, confirm]) as opened:
        yield opened


def served(app, **options):
    return mcp_offer(app, workflows=[greet, fails, confirm], **options).server


async def finished(client, id: str) -> TaskState:
    while True:
        state = await client.session.send_request(GetTask(params=TaskParams(task_id=id)), TaskState)
        if state.status in ("completed", "failed", "cancelled"):
            return state
        await asyncio.sleep(0)


@BOTH
async def test_a_workflow_is_a_tool_for_those_who_know_no_tasks_and_says_its_run(app, mode):
    async with Client(served(app), mode=mode) as client:
        result = await client.call_tool("greet", {"name": "Ada"})
        assert result.structured_content == {"result": "Hello, Ada!"}
        row = await app.client.row(result.meta["reprise/run"])
        assert (row.workflow, row.status) == ("greet", "completed")
        failed = await client.call_tool("fails")
        assert (failed.is_error, "no luck" in failed.content[0].text) == (True, True)
        wrong = await client.call_tool("greet", {"nam": "Ada"})
        assert wrong.structured_content["error"]["hint"] == "Did you mean 'name'?"


async def test_a_run_is_a_task_with_its_own_id(app):
    async with Client(served(app), mode="2026-07-28", extensions=[TaskClient()]) as client:
        made = await client.session.call_tool("greet", {"name": "Ada"}, allow_claimed=True)
        assert (await app.client.row(made.task_id)).workflow == "greet"
        state = await finished(client, made.task_id)
        assert state.result["structuredContent"] == {"result": "Hello, Ada!"}
        assert (await client.call_tool("greet", {"name": "Bo"})).structured_content == {
            "result": "Hello, Bo!"
        }


async def test_what_a_run_came_to_is_the_state_of_its_task(app):
    async with Client(served(app), mode="2026-07-28", extensions=[TaskClient()]) as client:
        said = await client.session.call_tool("fails", {}, allow_claimed=True)
        state = await finished(client, said.task_id)
        assert (state.status, state.result["isError"]) == ("completed", True)
        broken = await client.session.call_tool("fails", {"body": True}, allow_claimed=True)
        state = await finished(client, broken.task_id)
        assert (state.status, state.error["code"], state.result) == ("failed", types.INTERNAL_ERROR, None)
        long = await client.session.call_tool("greet", {"name": "x", "wait": 1000}, allow_claimed=True)
        await client.session.send_request(
            CancelTask(params=TaskParams(task_id=long.task_id)), types.EmptyResult
        )
        assert (await finished(client, long.task_id)).status == "cancelled"


async def test_what_a_run_asks_is_asked_of_the_client(app):
    asked = []

    async def answer(context, params):
        asked.append(params.message)
        return types.ElicitResult(action="accept", content={"answer": True})

    for extensions in ([TaskClient()], []):
        async with Client(
            served(app), mode="2026-07-28", extensions=extensions, elicitation_callback=answer
        ) as client:
            result = await client.call_tool("confirm", {"what": "ship"})
            assert result.structured_content == {"result": "ship: True"}
    assert asked == ["Really ship?", "Really ship?"]


async def test_a_caller_who_cannot_be_asked_is_told_the_id_and_comes_back(app):
    async with Client(served(app), mode="legacy") as client:
        went_on = await client.call_tool("confirm", {"what": "ship"})
        id = went_on.meta["reprise/run"]
        assert (went_on.is_error, id in went_on.content[0].text) == (True, True)
        await app.handle(id).answer(False)
        assert (await client.call_tool("run_result", {"run": id})).structured_content == {
            "result": "ship: False"
        }


async def test_only_runs_that_were_started_here_are_seen(app):
    mine = await app.start(greet, "Ada", id="payroll")
    await mine.result()
    async with Client(served(app), mode="2026-07-28", extensions=[TaskClient()]) as client:
        for method in (GetTask, CancelTask):
            with pytest.raises(MCPError, match="Task not found"):
                await client.session.send_request(method(params=TaskParams(task_id="payroll")), TaskState)
        refused = await client.call_tool("run_result", {"run": "payroll"})
        assert refused.structured_content["error"]["code"] == "not_found"


async def test_tasks_are_for_those_who_know_them(app):
    async with Client(served(app, tasks_only=["greet"]), mode="2026-07-28") as client:
        with pytest.raises(MCPError) as error:
            await client.call_tool("greet", {"name": "Ada"})
        assert error.value.code == -32021
        with pytest.raises(MCPError) as error:
            await client.session.send_request(GetTask(params=TaskParams(task_id="x")), TaskState)
        assert error.value.code == -32021


def test_what_cannot_be_offered_is_said_at_once():
    with pytest.raises(ConfigurationError, match="need an app"):
        mcp_offer(ToolRegistry(), workflows=[greet])
    with pytest.raises(ConfigurationError, match="no workflow here"):
        mcp_offer(Reprise("memory://"), workflows=[greet], tasks_only=["gret"])


# ---------------------------------------------------------------- processes that are killed

FLOW = """
import asyncio, os
from reprise import step, workflow

@step(idempotent=True)
async def note(text: str) -> str:
    with open(os.environ["NOTES"], "a") as file:
        file.write(text + "\\n")
    return text

@workflow
async def work(parts: int) -> int:
    for n in range(parts):
        await note(f"part {n}")
        if n == 1:
            await asyncio.sleep(0.5)
    return parts
"""


async def test_a_client_comes_back_for_the_result_after_the_server_was_killed(tmp_path: Path, until):
    flow, notes, store = tmp_path / "flow.py", tmp_path / "notes", tmp_path / "runs.db"
    flow.write_text(FLOW)
    notes.touch()
    root = str(Path(sys.modules["reprise"].__file__).parents[1])
    command = [sys.executable, "-m", "reprise", "mcp", str(flow), "--store", f"sqlite:///{store}"]

    def mount():
        return MCPMount("x", command=command, env={"NOTES": str(notes), "PYTHONPATH": root}, cwd=tmp_path)

    async with mount() as first:
        await first.mount(ToolRegistry())
        client = await first._client()
        made = await client.session.call_tool("work", {"parts": 4}, allow_claimed=True)
        await until(lambda: "part 1" in notes.read_text())

        os.kill(first.statistics()["pid"], 9)
        await until(lambda: not first.statistics()["connected"])
    async with mount() as second:
        await second.mount(ToolRegistry())
        client = await second._client()
        state = await finished(client, made.task_id)
    assert state.result["structuredContent"] == {"result": 4}
    assert notes.read_text().split("\n")[:4] == ["part 0", "part 1", "part 2", "part 3"]
