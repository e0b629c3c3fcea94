"""What a server at a URL may try; the control is the same site that tries nothing."""

import asyncio
import gzip
import json
import sys
from pathlib import Path

import pytest
from tests.sites import Asked, Site, page

from reprise.kernel.errors import ToolError
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.mcp.mount import MCPMount
from reprise.tools.registry import ToolRegistry

SOON = 20
TOOL = {"name": "add", "description": "Adds.", "inputSchema": {"type": "object"}}
INFO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "x", "version": "1"},
}
SECRET = "Bearer secret-of-the-origin"


def site(result) -> Site:
    """Return a site that speaks as it should, but answers a call as it is told to."""

    def answer(asked: Asked) -> bytes:
        if asked.method != "POST":
            return page(status=405)
        said = json.loads(asked.body)
        if "id" not in said:
            return page(status=202)
        if said["method"] == "tools/call":
            return result(said["id"], asked) if callable(result) else result
        known = {"initialize": INFO, "tools/list": {"tools": [TOOL]}}
        if said["method"] not in known:
            return reply({"id": said["id"], "error": {"code": -32601, "message": "no"}})
        return reply({"id": said["id"], "result": known[said["method"]]})

    return Site({"/mcp": answer})


def reply(message, **headers) -> bytes:
    return page(json.dumps({"jsonrpc": "2.0", **message}), content_type="application/json", **headers)


def stream(*events: str) -> bytes:
    return page("".join(events), content_type="text/event-stream")


def done(call: int, text: str = "fine") -> str:
    return json.dumps({"jsonrpc": "2.0", "id": call, "result": {"content": [{"type": "text", "text": text}]}})


async def call(hostile: Site, **options):
    registry = ToolRegistry()
    access = NetworkAccess(allow=["127.0.0.1"], rate=None)
    async with (
        asyncio.timeout(SOON),
        MCPMount(
            "x",
            url=hostile.url("/mcp"),
            access=access,
            headers={"Authorization": SECRET},
            max_output=1 << 20,
            **options,
        ) as mount,
    ):
        await mount.mount(registry)
        return await registry.execute_tool("x_add")


@pytest.mark.parametrize(
    "answer",
    [
        lambda call, _: page(done(call), content_type="application/json"),
        lambda call, _: stream(f"event: message\ndata: {done(call)}\n\n"),
    ],
    ids=["json", "stream"],
)
async def test_control_a_site_that_tries_nothing_is_called(answer):
    async with site(answer) as honest:
        assert await call(honest) == "fine"
        assert all(each.headers["authorization"] == SECRET for each in honest.asked)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda call, _: page(done(call, "x" * 5_000_000), content_type="application/json"), id="huge-json"),
        pytest.param(lambda call, _: stream(f"data: {done(call, 'x' * 5_000_000)}\n\n"), id="huge-event"),
        pytest.param(
            lambda call, _: page(gzip.compress(done(call, "x" * 50_000_000).encode()), content_type="application/json", content_encoding="gzip"),
            id="bomb",
        ),
        pytest.param(page("<html>", content_type="text/html"), id="html"),
        pytest.param(page("not json", content_type="application/json"), id="no-json"),
        pytest.param(page("[]", content_type="application/json"), id="batch"),
        pytest.param(page(status=500), id="500"),
        pytest.param(page(status=202), id="202"),
        pytest.param(stream(), id="ends"),
        pytest.param(stream("data: {\n\n"), id="half-event"),
        pytest.param(lambda call, _: stream(f"data: {done(call + 1_000)}\n\n", ": more\n\n"), id="other-id"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000 + b"\r\n", id="headers"),
        pytest.param(b"nonsense\r\n\r\n", id="no-http"),
    ],
)  # fmt: skip
async def test_what_is_no_answer_is_an_error(answer, request):
    async with site(answer) as hostile:
        try:
            value = await call(hostile, timeout=5)
        except ToolError as error:
            assert error.code in ("too_large", "upstream", "timeout", "unavailable")
            assert len(error.what) < 1_000
        else:
            # The SDK takes the one answer in the stream of a request for that request's, whatever its id.
            assert (request.node.callspec.id, value) == ("other-id", "fine")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_credentials_go_to_no_other_origin(status):
    async with Site({"/mcp": page("{}", content_type="application/json")}) as other:
        hostile = site(page(status=status, location=other.url("/mcp")))
        async with hostile:
            with pytest.raises(ToolError):
                await call(hostile, timeout=5)
            assert other.asked == []


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "file:///etc/passwd"]
)
async def test_a_redirect_leads_to_nothing_private(target):
    async with site(page(status=307, location=target)) as hostile:
        with pytest.raises(ToolError):
            await call(hostile, timeout=5)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/mcp", "http://localhost:{port}/mcp", "http://[::1]:{port}/mcp", "http://2130706433:{port}/mcp", "http://169.254.169.254/mcp"])  # fmt: skip
async def test_nothing_private_is_reached_without_somebody_s_word(url):
    async with site(lambda call, _: page(done(call), content_type="application/json")) as honest:
        async with MCPMount("x", url=url.format(port=honest.port)) as mount:
            with pytest.raises(ToolError) as error:
                await mount.mount(ToolRegistry())
        assert error.value.code in ("permission_denied", "invalid_input")
        assert honest.asked == []


def test_a_mount_is_used_from_one_loop_after_the_other(tmp_path):
    server = Path(__file__).with_name("server.py")
    (tmp_path / "notes").touch()
    registry = ToolRegistry()
    mount = MCPMount("x", command=[sys.executable, str(server), "honest", str(tmp_path / "notes")])

    async def first() -> None:
        await mount.mount(registry)
        assert await registry.execute_tool("x_add", {"a": 1}) == "1"

    async def second() -> None:
        assert await registry.execute_tool("x_add", {"a": 2}) == "2"
        await mount.close()

    asyncio.run(first())
    asyncio.run(second())
    assert (tmp_path / "notes").read_text().count("start") == 2
