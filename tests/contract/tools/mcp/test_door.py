"""Who comes in over HTTP, and what a hostile client may try; each case beside the request that is let in."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from reprise import Reprise, workflow
from reprise.app.mcp import mcp_app
from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.mcp.door import Door, is_loopback
from reprise.tools.mcp.mount import MCPMount
from reprise.tools.mcp.serving import offer
from reprise.tools.registry import ToolRegistry
from reprise.tools.tool import tool

TOKEN, OTHER = "correct-horse-battery", "staple-of-another-caller"


@tool(effects="pure")
def double(n: int) -> int:
    """Double a number."""
    return 2 * n


def envelope(method: str, **params) -> bytes:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    }
    return json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    ).encode()


CALL = envelope("tools/call", name="double", arguments={"n": 4})


class Visit:
    """One request to a door, as a server would hand it on."""

    def __init__(self, *, path="/mcp", raw_path=None, body=CALL, method="POST", root_path="", **headers):
        given = {
            "host": "127.0.0.1:8000",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call",
            "mcp-name": "double",
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        listed = [
            (name.encode(), each.encode("latin-1"))
            for name, value in given.items()
            if value is not None
            for each in ([value] if isinstance(value, str) else value)
        ]
        self.scope = {
            "type": "http", "http_version": "1.1", "method": method, "path": path, "query_string": b"",
            "raw_path": (raw_path or path).encode(), "root_path": root_path, "headers": listed,
            "scheme": "http", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 5), "asgi": {"version": "3.0"},
        }  # fmt: skip
        self.body, self.read, self.sent = body, 0, []

    async def receive(self):
        self.read += 1
        if self.read > 1:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message):
        self.sent.append(message)

    async def to(self, door: Door) -> int:
        async with asyncio.timeout(10):
            await door(self.scope, self.receive, self.send)
        return self.sent[0]["status"]

    @property
    def answer(self) -> str:
        return b"".join(each.get("body", b"") for each in self.sent).decode()


def door_of(**options) -> Door:
    return Door(offer(ToolRegistry([double])), **options)


async def test_control_what_is_as_it_should_be_comes_in():
    async with door_of() as door:
        visit = Visit()
        assert await visit.to(door) == 200
        assert '"result":8' in visit.answer
    async with door_of(tokens=[TOKEN], hosts=["example.org"], origins=["https://page.example"]) as door:
        visit = Visit(host="example.org", origin="https://page.example", authorization=f"Bearer {TOKEN}")
        assert await visit.to(door) == 200
        assert await Visit(host="example.org:8443", authorization=f"bearer {TOKEN}").to(door) == 200


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "[::1]", "LOCALHOST:8000"]
)
async def test_control_names_of_this_machine_come_in(host):
    async with door_of() as door:
        assert await Visit(host=host).to(door) == 200
        assert await Visit(host=host, origin=f"http://{host.lower()}").to(door) == 200


@pytest.mark.parametrize(
    "host",
    [
        None, "", "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example:8000",
        "127.0.0.1:8000@evil.example", "evil.example#127.0.0.1", "127.0.0.1:8000:8000", "127.0.0.1:", "127.0.0.1:x",
        "localhost:80 ", "[::1", "[::1]x", "0.0.0.0:8000", "2130706433:8000", "0x7f000001", ["127.0.0.1", "evil.example"],
        ["127.0.0.1", "127.0.0.1"], "127.0.0.1,evil.example", "localhost\t", "localhost.",
    ],
)  # fmt: skip
async def test_a_host_that_is_not_this_server_is_refused_before_anything_is_read(host):
    async with door_of() as door:
        visit = Visit(host=host)
        assert (await visit.to(door), visit.read) == (421, 0)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "null", "", "http://localhost", "http://127.0.0.1:9999", "http://127.0.0.1:8000.evil.example",
        "http://evil.example:8000", "file://", "http://127.0.0.1:8000@evil.example", "chrome-extension://x",
        ["http://127.0.0.1:8000", "https://evil.example"], "http://127.0.0.1:8000 https://evil.example",
        "javascript:alert(1)", "https://127.0.0.1:8000/..//evil.example",
    ],
)  # fmt: skip
async def test_a_page_that_was_not_named_is_refused(origin):
    async with door_of() as door:
        visit = Visit(origin=origin)
        assert (await visit.to(door), visit.read) == (403, 0)


@pytest.mark.parametrize(
    "authorization",
    [
        None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}", f"Bearer {TOKEN},{TOKEN}", f"Bearer\t{TOKEN}", [f"Bearer {TOKEN}", "Bearer x"],
        [f"Bearer {TOKEN}", f"Bearer {TOKEN}"], "Bearer \x00", f"Token {TOKEN}", f"Bearer {TOKEN} x", "Bearer ÿ",
    ],
)  # fmt: skip
async def test_without_the_token_nobody_comes_in(authorization):
    async with door_of(tokens=[TOKEN]) as door:
        visit = Visit(authorization=authorization)
        assert (await visit.to(door), visit.read) == (401, 0)
        assert (b"www-authenticate", b'Bearer realm="mcp"') in visit.sent[0]["headers"]


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/", None), ("/mcp/", None), ("//mcp", None), ("/mcp/../mcp", None), ("/./mcp", None), ("/MCP", None),
        ("/mcp", "/%6dcp"), ("/mcp", "/mcp%2f.."), ("/mcp/../../etc/passwd", None), ("/mcp;x", None), ("/mcp\x00", None),
        ("/etc/passwd", None), ("/mcp", "//mcp"), ("mcp", None), ("/mcp", "http://evil.example/mcp"), ("/mcp/x", None),
    ],
)  # fmt: skip
async def test_there_is_one_path_written_in_one_way(path, raw):
    async with door_of() as door:
        visit = Visit(path=path, raw_path=raw)
        assert (await visit.to(door), visit.read) == (404, 0)


async def test_mounted_in_an_application_the_path_is_below_that_of_the_mount():
    async with door_of() as door:
        assert await Visit(path="/tools/mcp", root_path="/tools").to(door) == 200
        assert await Visit(path="/mcp", root_path="/tools").to(door) == 200
        assert await Visit(path="/tools/other", root_path="/tools").to(door) == 404


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"body": b"x" * (5 << 20)}, 413),
        ({"body": CALL, "content_length": "99999999999"}, 413),
        ({"body": b""}, 400),
        ({"body": b"{"}, 400),
        ({"body": b"[" * 100_000}, 400),
        ({"body": b"[" + CALL + b"]"}, 400),
        ({"body": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}'}, 400),
        ({"body": b"\xff\xfe"}, 400),
        ({"content_type": "text/plain"}, 400),
        ({"content_type": None}, 400),
        ({"mcp_name": "describe"}, 400),
        ({"mcp_name": None}, 400),
        ({"mcp_method": "tools/list"}, 400),
        ({"mcp_protocol_version": "1999-01-01"}, 400),
        ({"accept": "text/html"}, 406),
        ({"method": "PUT"}, 405),
        ({"method": "TRACE"}, 405),
    ],
)
async def test_what_is_no_request_is_an_error_that_says_nothing_of_us(options, status):
    async with door_of() as door:
        visit = Visit(**options)
        assert await visit.to(door) == status, visit.answer
        assert "Traceback" not in visit.answer
        assert str(Path.cwd()) not in visit.answer
        assert '"result":8' not in visit.answer


async def test_a_door_that_is_not_open_says_so():
    with pytest.raises(ConfigurationError, match="not open"):
        await Visit().to(door_of())


@pytest.mark.parametrize(
    "options", [{"tokens": ["short"]}, {"tokens": "x" * 40}, {"hosts": "localhost"}, {"tokens": ["é" * 20]}]
)
def test_a_door_that_could_not_be_meant_is_refused(options):
    with pytest.raises(ConfigurationError):
        door_of(**options)


def test_which_addresses_only_this_machine_reaches():
    assert [host for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "0.0.0.0", "::", "example.org") if is_loopback(host)] == [
        "127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost",
    ]  # fmt: skip


# ---------------------------------------------------------------- callers


@workflow
async def work() -> str:
    return "mine"


async def test_each_caller_sees_only_the_runs_that_it_started():
    async with (
        Reprise("memory://", workflows=[work]) as app,
        mcp_app(app, workflows=[work], tokens=[TOKEN, OTHER]) as door,
    ):
        made = Visit(
            body=envelope("tools/call", name="work"), mcp_name="work", authorization=f"Bearer {TOKEN}"
        )
        assert await made.to(door) == 200
        id = made.answer.partition('"taskId":"')[2].partition('"')[0]

        async def asks(token: str, method: str) -> tuple[int, str]:
            visit = Visit(
                body=envelope(method, taskId=id),
                mcp_method=method,
                mcp_name=id,
                authorization=f"Bearer {token}",
            )
            return await visit.to(door), visit.answer

        assert (await asks(TOKEN, "tasks/get"))[0] == 200
        for method in ("tasks/get", "tasks/cancel"):
            _, answer = await asks(OTHER, method)
            assert "Task not found" in answer
            assert "mine" not in answer


# ---------------------------------------------------------------- over a network


async def listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        await writer.wait_closed()
        return


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_over_http_a_mount_goes_on_with_a_server_that_was_killed(tmp_path, mode, free_port):
    (tmp_path / "mine.py").write_text(
        "from reprise import tool\n\n@tool(effects='pure')\ndef double(n: int) -> int:\n    return 2 * n\n"
    )
    root = str(Path(sys.modules["reprise"].__file__).parents[1])
    surroundings = {**os.environ, "PYTHONPATH": root, "REPRISE_MCP_TOKEN": TOKEN}
    command = [sys.executable, "-m", "reprise", "mcp", "--http", "--port", str(free_port), "-f", "mine.py"]

    async def start():
        process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=surroundings)
        await listening(free_port)
        return process

    process = await start()
    url, registry = f"http://127.0.0.1:{free_port}/mcp", ToolRegistry()
    allowed = NetworkAccess(allow=[f"127.0.0.1:{free_port}"])
    headers = {"Authorization": f"Bearer {TOKEN}"}
    try:
        async with MCPMount("guarded", url=url) as mount:
            with pytest.raises(ToolError, match="loopback") as error:
                await mount.mount(ToolRegistry())
            assert error.value.code == "permission_denied"
        async with MCPMount("unknown", url=url, access=allowed) as mount:
            with pytest.raises(ToolError):
                await mount.mount(ToolRegistry())
        async with MCPMount("x", url=url, access=allowed, headers=headers, options={"mode": mode}) as mount:
            await mount.mount(registry)
            assert await registry.execute_tool("x_double", {"n": 4}) == {"result": 8}
            process.kill()
            await process.wait()
            with pytest.raises(ToolError) as error:
                await registry.execute_tool("x_double", {"n": 4})
            # upstream: what the client asked of its own was under way, so that it does not know what became of the call.
            assert error.value.code in ("unavailable", "upstream")
            process = await start()
            while True:
                try:
                    assert await registry.execute_tool("x_double", {"n": 5}) == {"result": 10}
                    break
                except ToolError as again:
                    assert again.code == "unavailable"
                    await asyncio.sleep(again.retry_after or 0.01)
    finally:
        process.kill()
        await process.wait()
