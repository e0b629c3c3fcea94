"""Runs for clients of 2025-11-25: asked in the call, or as the tasks of that revision, message by message."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.memory import create_client_server_memory_streams

from reprise import Reprise, ask, progress, tool, workflow
from reprise.app.mcp import mcp_app, mcp_offer
from reprise.kernel.errors import BodyError
from reprise.tools.mcp import served as served_runs, stdio
from reprise.tools.mcp.sessions import RELATED
from reprise.tools.mcp.tasks import TaskClient
from reprise.tools.registry import ToolRegistry

ACCEPT = {"action": "accept", "content": {"answer": True}}


@tool(effects="pure")
def double(n: int) -> int:
    """Double a number."""
    return 2 * n


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


@workflow
async def invite() -> str:
    who = await ask(list[str], "Who?")
    return f"{', '.join(who)}: {await ask(bool, 'Sure?')}"


WORKFLOWS = [greet, fails, confirm, invite]


class Peer:
    """A client by messages alone, as one that knows these tasks says them."""

    def __init__(self, dispatcher, answers) -> None:
        self._dispatcher, self._answers = dispatcher, answers
        self.asked = []

    async def say(self, method: str, **params):
        return await self._dispatcher.send_raw_request(method, params)

    async def made(self, name: str, /, **arguments) -> str:
        task = (await self.say("tools/call", name=name, arguments=arguments, task={"ttl": 60_000}))["task"]
        assert (task["status"], task["ttl"], task["pollInterval"]) == ("working", None, 1000)
        return task["taskId"]

    async def on_request(self, context, method, params):
        assert method == "elicitation/create"
        self.asked.append(params)
        return self._answers.pop(0)

    async def on_notify(self, context, method, params) -> None:
        return


@asynccontextmanager
async def talking(server, *answers, version: str = "2025-11-25", capabilities=None):
    async with create_client_server_memory_streams() as (ours, theirs), anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, *theirs, server.create_initialization_options())
        dispatcher = JSONRPCDispatcher(*ours)
        peer = Peer(dispatcher, list(answers))
        await tasks.start(
            lambda task_status: dispatcher.run(peer.on_request, peer.on_notify, task_status=task_status)
        )
        peer.greeted = await peer.say(
            "initialize",
            protocolVersion=version,
            capabilities={"elicitation": {}} if capabilities is None else capabilities,
            clientInfo={"name": "t", "version": "1"},
        )
        await dispatcher.notify("notifications/initialized", None)
        yield peer
        tasks.cancel_scope.cancel()


@pytest.fixture
async def app():
    async with Reprise("memory://", workflows=WORKFLOWS) as opened:
        yield opened


def served(app, **options):
    return mcp_offer(app, workflows=WORKFLOWS, tools=ToolRegistry([double]), **options).server


async def fault(awaitable) -> MCPError:
    with pytest.raises(MCPError) as caught:
        await awaitable
    return caught.value


# ---------------------------------------------------------------- tasks


async def test_tasks_are_offered_and_tools_say_whether_they_can_be_one(app):
    async with talking(served(app, tasks_only=["fails"])) as peer:
        offered = peer.greeted["capabilities"]["tasks"]
        assert offered == {"cancel": {}, "requests": {"tools": {"call": {}}}}
        listed = (await peer.say("tools/list"))["tools"]
        support = {each["name"]: (each.get("execution") or {}).get("taskSupport") for each in listed}
        assert support == {
            "greet": "optional", "fails": "required", "confirm": "optional", "invite": "optional",
            "double": None, "run_result": None,
        }  # fmt: skip
        assert (await fault(peer.say("tools/call", name="fails"))).code == types.METHOD_NOT_FOUND


async def test_a_call_becomes_a_task_which_is_the_run_and_gives_its_result(app):
    async with talking(served(app)) as peer:
        id = await peer.made("greet", name="Ada")
        assert (await app.client.row(id)).workflow == "greet"
        result = await peer.say("tasks/result", taskId=id)
        assert result["structuredContent"] == {"result": "Hello, Ada!"}
        assert result["_meta"] == {"reprise/run": id, RELATED: {"taskId": id}}
        task = await peer.say("tasks/get", taskId=id)
        assert (task["status"], task["ttl"], RELATED in task.get("_meta", {})) == ("completed", None, False)


async def test_what_a_task_asks_is_asked_while_its_result_is_waited_for(app):
    names = {"action": "accept", "content": {"answer": '["Ada", "Bo"]'}}
    async with talking(served(app), names, ACCEPT) as peer:
        id = await peer.made("invite")
        result = await peer.say("tasks/result", taskId=id)
        assert result["structuredContent"] == {"result": "Ada, Bo: True"}
        assert [each["message"] for each in peer.asked] == ["Who?", "Sure?"]
        assert {each["_meta"][RELATED]["taskId"] for each in peer.asked} == {id}


async def test_a_task_that_nobody_answers_is_waited_for_until_it_has_an_answer(app, until):
    async with talking(served(app), {"action": "decline"}) as peer:
        id = await peer.made("confirm", what="ship")
        waiting = asyncio.create_task(peer.say("tasks/result", taskId=id))
        await until(lambda: peer.asked)
        while (await peer.say("tasks/get", taskId=id))["status"] != "input_required":  # noqa: ASYNC110 - as clients do
            await asyncio.sleep(0)
        assert not waiting.done()
        await app.handle(id).answer(False)
        assert (await waiting)["structuredContent"] == {"result": "ship: False"}
        assert len(peer.asked) == 1, "who declined is not asked again"


async def test_who_cannot_be_asked_waits_too_and_no_longer_than_calls_wait_here(app):
    async with talking(served(app, wait=0.01), capabilities={}) as peer:
        id = await peer.made("confirm", what="ship")
        error = await fault(peer.say("tasks/result", taskId=id))
        assert (error.code, "ask again" in error.message) == (types.REQUEST_TIMEOUT, True)
        await app.handle(id).answer(True)
        await app.handle(id).result()
        assert (await peer.say("tasks/result", taskId=id))["structuredContent"] == {"result": "ship: True"}


async def test_what_failed_is_failed_and_its_result_says_what(app):
    async with talking(served(app)) as peer:
        id = await peer.made("fails")
        result = await peer.say("tasks/result", taskId=id)
        assert (result["isError"], "no luck" in result["content"][0]["text"]) == (True, True)
        assert (await peer.say("tasks/get", taskId=id))["status"] == "failed"
        broken = await peer.made("fails", body=True)
        assert (await fault(peer.say("tasks/result", taskId=broken))).code == types.INTERNAL_ERROR
        assert (await peer.say("tasks/get", taskId=broken))["status"] == "failed"


async def test_a_task_is_cancelled_once(app):
    async with talking(served(app)) as peer:
        id = await peer.made("greet", name="Ada", wait=1000)
        assert (await peer.say("tasks/cancel", taskId=id))["status"] == "cancelled"
        assert (await app.client.row(id)).status == "cancelled"
        for ended in (id, await peer.made("greet", name="Bo")):
            await app.handle(ended).finished()
            assert (await fault(peer.say("tasks/cancel", taskId=ended))).code == types.INVALID_PARAMS
        assert (await peer.say("tasks/result", taskId=id))["isError"] is True


async def test_what_is_no_task_is_refused_and_starts_nothing(app):
    async with talking(served(app)) as peer:
        calls = {
            types.METHOD_NOT_FOUND: [
                {"name": "double", "arguments": {"n": 1}},
                {"name": "run_result"},
                {"name": "no"},
            ],
            types.INVALID_PARAMS: [
                {"name": "greet", "arguments": {"nam": "Ada"}},
                {"name": "greet", "arguments": 5},
            ],
        }
        for code, each in [(code, each) for code, known in calls.items() for each in known]:
            assert (await fault(peer.say("tools/call", task={}, **each))).code == code
        assert (
            await fault(peer.say("tools/call", name="greet", arguments={"name": "Ada"}, task=5))
        ).code == types.INVALID_PARAMS
        for method in ("tasks/get", "tasks/result", "tasks/cancel"):
            assert (await fault(peer.say(method, taskId="mcp-0"))).code == types.INVALID_PARAMS
        assert (await fault(peer.say("tasks/list"))).code == types.METHOD_NOT_FOUND
        assert await app.client.find() == []


async def test_tasks_of_others_are_not_there(app):
    handle = await app.start(greet, "Ada", id="payroll")
    await handle.result()
    async with talking(served(app)) as peer:
        for method in ("tasks/get", "tasks/result", "tasks/cancel"):
            error = await fault(peer.say(method, taskId="payroll"))
            assert (error.code, error.message) == (types.INVALID_PARAMS, "Task not found.")


class Caller:
    """A session over HTTP, of whoever has a token."""

    def __init__(self, door, token: str) -> None:
        self._client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=door),
            base_url="http://localhost",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"},
        )

    async def say(self, method: str, **params):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        response = await self._client.post("/mcp", json=body)
        self._client.headers.update({k: v for k, v in response.headers.items() if k == "mcp-session-id"})
        return json.loads(response.text.partition("data: ")[2])

    async def greet(self) -> None:
        client = {"name": "t", "version": "1"}
        await self.say("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert (await self._client.post("/mcp", json=ready)).status_code == 202


async def test_over_http_tasks_belong_to_who_made_them(app):
    tokens = ["correct-horse-battery", "staple-of-another-caller"]
    async with mcp_app(app, workflows=WORKFLOWS, tokens=tokens) as door:
        ada, eve = (Caller(door, token) for token in tokens)
        await ada.greet()
        await eve.greet()
        made = await ada.say("tools/call", name="greet", arguments={"name": "Ada"}, task={})
        id = made["result"]["task"]["taskId"]
        for method in ("tasks/get", "tasks/result", "tasks/cancel"):
            assert (await eve.say(method, taskId=id))["error"]["message"] == "Task not found."
        result = (await ada.say("tasks/result", taskId=id))["result"]
        assert result["structuredContent"] == {"result": "Hello, Ada!"}


@pytest.mark.parametrize("version", ["2025-06-18", "2025-03-26"])
async def test_who_speaks_what_was_before_knows_no_tasks(app, version):
    async with talking(served(app), version=version) as peer:
        assert "tasks" not in peer.greeted["capabilities"]
        result = await peer.say("tools/call", name="greet", arguments={"name": "Ada"}, task={"ttl": 1})
        assert "Hello, Ada!" in result["content"][0]["text"]
        assert (
            await fault(peer.say("tasks/get", taskId=result["_meta"]["reprise/run"]))
        ).code == types.METHOD_NOT_FOUND


async def test_before_the_handshake_nothing_is_started_and_nobody_told(app):
    registry = ToolRegistry([double])
    server = mcp_offer(app, workflows=WORKFLOWS, tools=registry).server
    async with create_client_server_memory_streams() as (ours, theirs), anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, *theirs, server.create_initialization_options())
        dispatcher = JSONRPCDispatcher(*ours)
        peer = Peer(dispatcher, [])
        await tasks.start(
            lambda task_status: dispatcher.run(peer.on_request, peer.on_notify, task_status=task_status)
        )
        await fault(peer.say("tools/call", name="greet", arguments={"name": "Ada"}, task={}))
        await dispatcher.notify("notifications/initialized", None)
        await peer.say("ping")
        assert (await app.client.find(), registry._handlers) == ([], [])
        tasks.cancel_scope.cancel()


FLOW = """
import asyncio
from reprise import workflow

@workflow
async def work(parts: int) -> int:
    await asyncio.sleep(0.3)
    return parts
"""


@asynccontextmanager
async def process(command, folder):
    """Start a server, and talk to it as a client of 2025-11-25."""
    wire = stdio.Wire()
    env = {"PYTHONPATH": str(Path(sys.modules["reprise"].__file__).parents[1])}
    async with (
        stdio.stdio(command, wire, env=env, cwd=str(folder), limit=1 << 20) as streams,
        anyio.create_task_group() as tasks,
    ):
        dispatcher = JSONRPCDispatcher(*streams)
        peer = Peer(dispatcher, [])
        await tasks.start(
            lambda task_status: dispatcher.run(peer.on_request, peer.on_notify, task_status=task_status)
        )
        client = {"name": "t", "version": "1"}
        await peer.say("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
        await dispatcher.notify("notifications/initialized", None)
        yield SimpleNamespace(peer=peer, pid=wire.pid)
        tasks.cancel_scope.cancel()


async def test_a_task_is_there_after_the_server_was_killed(tmp_path):
    (tmp_path / "flow.py").write_text(FLOW)
    command = [sys.executable, "-m", "reprise", "mcp", "flow.py", "--store", f"sqlite:///{tmp_path}/runs.db"]
    async with process(command, tmp_path) as first:
        id = await first.peer.made("work", parts=4)
        os.kill(first.pid, signal.SIGKILL)
    async with process(command, tmp_path) as second:
        assert (await second.peer.say("tasks/result", taskId=id))["structuredContent"] == {"result": 4}


# ---------------------------------------------------------------- calls


async def test_what_a_run_asks_is_asked_in_the_call_of_who_knows_no_tasks(app):
    async with talking(served(app), ACCEPT) as peer:
        result = await peer.say("tools/call", name="confirm", arguments={"what": "ship"})
        assert result["structuredContent"] == {"result": "ship: True"}
        assert [each["message"] for each in peer.asked] == ["Really ship?"]


async def test_who_declines_is_told_the_run_and_may_come_back(app):
    async with talking(served(app), {"action": "decline"}, ACCEPT) as peer:
        went_on = await peer.say("tools/call", name="confirm", arguments={"what": "ship"})
        assert (went_on["isError"], len(peer.asked)) == (True, 1)
        result = await peer.say(
            "tools/call", name="run_result", arguments={"run": went_on["_meta"]["reprise/run"]}
        )
        assert result["structuredContent"] == {"result": "ship: True"}


async def test_a_call_of_a_run_that_rests_is_answered_at_once(app):
    async with talking(served(app)) as peer:
        id = await peer.made("greet", name="Ada", wait=1000)
        await app.client.pause(id)
        while (await app.client.row(id)).status != "paused":  # noqa: ASYNC110 - nothing else says it
            await asyncio.sleep(0)
        went_on = await peer.say("tools/call", name="run_result", arguments={"run": id})
        assert "paused; a person has to see to it" in went_on["content"][0]["text"]


# ---------------------------------------------------------------- asked first (2026-07-28)


async def test_what_asks_first_asks_in_the_call_and_is_a_task_then(app, monkeypatch):
    asked = []

    async def answer(context, params):
        asked.append(params.message)
        return types.ElicitResult(action="accept", content={"answer": True})

    server = served(app, asks_first=["confirm", "greet"])
    options = {"mode": "2026-07-28", "extensions": [TaskClient()], "elicitation_callback": answer}
    async with Client(server, **options) as client:
        given = {"name": "confirm", "arguments": {"what": "ship"}}
        first = await client.session.call_tool(**given, allow_claimed=True, allow_input_required=True)
        assert (first.result_type, len(await app.client.find())) == ("input_required", 1)
        (key,) = first.input_requests
        task = await client.session.call_tool(
            **given,
            input_responses={key: types.ElicitResult(action="accept", content={"answer": True})},
            request_state=first.request_state,
            allow_claimed=True,
        )
        assert task.task_id == first.request_state, "it is the same run"
        assert await app.handle(task.task_id).result() == "ship: True"
        assert (await client.call_tool(**given)).structured_content == {"result": "ship: True"}
        assert asked == ["Really ship?"]
        invited = await client.session.call_tool("invite", {}, allow_claimed=True)
        assert invited.result_type == "task", "it was not named"
        monkeypatch.setattr(served_runs, "FIRST", 0.01)
        # One that asks nothing, or of a caller who cannot be asked, is a task.
        made = await client.session.call_tool("greet", {"name": "Ada", "wait": 1000}, allow_claimed=True)
        assert made.result_type == "task"
    async with Client(server, mode="2026-07-28", extensions=[TaskClient()]) as client:
        assert (await client.session.call_tool(**given, allow_claimed=True)).result_type == "task"


async def test_who_declines_what_is_asked_is_not_asked_again(app):
    async def decline(context, params):
        asked.append(params.message)
        return types.ElicitResult(action="decline")

    for extensions in ([TaskClient()], []):
        asked: list[str] = []
        server = served(app, asks_first=["confirm"])
        async with Client(
            server, mode="2026-07-28", extensions=extensions, elicitation_callback=decline
        ) as client:
            result = await client.call_tool("confirm", {"what": "ship"})
            assert (result.is_error, asked) == (True, ["Really ship?"])
