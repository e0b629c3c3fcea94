"""Plugins in processes of their own: what they are given, what they may not, how they end and begin again."""

import asyncio
import gc
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.contract.tools.plugins.conftest import Place, row_of

from reprise import Reprise, ToolError, ToolPolicy, ToolRegistry, tool, workflow
from reprise.tools.plugins.orders import LONGEST

LINUX = sys.platform.startswith("linux")
CODE = """
import asyncio, os, subprocess, sys, threading, time
from typing import Annotated, Any
from msgspec import Meta
from reprise import Tool, ToolContext, ToolError, tool

ours = None
def register(registry):
    global ours
    ours = registry
    for each in [value for value in globals().values() if isinstance(value, Tool)]:
        registry.register_tool(each)

@tool(effects="pure", tags=["odd"])
def pid(ctx: ToolContext) -> list[str]:
    "Say who it is."
    ctx.warn("careful")
    return [str(os.getpid()), ctx.caller, ctx.run, ctx.idempotency_key]
@tool(effects="pure")
def half(n: Annotated[int, Meta(ge=0)] = 4) -> int:
    "Halve a number."
    if n % 2:
        raise ToolError("conflict", "It is odd.", hint="Add one.", field="$.n")
    return n // 2
@tool(effects="pure", timeout=0.3)
def stuck() -> int:
    "Wait in a thread."
    threading.Event().wait()
@tool(effects="pure", timeout=0.3)
async def idle() -> int:
    "Wait as one should."
    await asyncio.Event().wait()
@tool(effects="pure", timeout=0.3)
async def deaf() -> int:
    "Hold up the loop."
    threading.Event().wait()
@tool(effects="pure")
async def forever() -> int:
    "Wait for somebody who kills it."
    print("waiting", flush=True)
    await asyncio.Event().wait()
@tool(effects="pure")
async def ask(name: str, arguments: dict) -> Any:
    "Call a tool of the other side."
    return await ours.execute_tool(name, arguments)
@tool(effects="executes")
async def ask_more(name: str, arguments: dict) -> Any:
    "Likewise, and say so."
    return await ours.execute_tool(name, arguments)
@tool(effects="pure")
def environment() -> dict:
    "Say what is around."
    return {**os.environ, "cwd": os.getcwd(), "fds": sorted(map(int, os.listdir("/proc/self/fd"))) if LINUX else []}
LINUX = sys.platform.startswith("linux")
@tool(effects="pure")
async def begin_late() -> str:
    "Leave something behind that calls a tool when this call is over."
    done = asyncio.Event()
    globals()["task"] = asyncio.ensure_future(later_(done))
    asyncio.get_running_loop().call_later(0.05, done.set)
    return "begun"
@tool(effects="pure")
def do(code: str) -> Any:
    "Do anything."
    found = {}
    exec(code, globals(), found)
    return found.get("value")
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A registry with the tools of a plugin in a process of its own."""
    place = Place(tmp_path_factory.mktemp("odd"))
    place.make("odd", CODE, isolation="process", permissions=["executes"])
    with place.manager() as manager:
        assert manager.install_plugin("odd"), row_of(manager, "odd")["reason"]
        yield place.registry


async def refused(calling):
    with pytest.raises(ToolError) as caught:
        await calling
    return caught.value


async def pid_of(registry):
    return int((await registry.execute_tool("pid"))[0])


def is_there(pid):
    try:
        os.kill(pid, 0)
        return not LINUX or "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


async def ended(pid):
    while is_there(pid):  # noqa: ASYNC110 - nobody tells the end of a process that is not a child of ours alone
        await asyncio.sleep(0)


async def test_its_tools_are_like_others(odd):
    told = await odd.scope("ada").call_tool("pid")
    assert told.value[1:] == ["ada", "", ""]
    assert int(told.value[0]) != os.getpid()
    assert told.warnings == ("careful",)
    assert odd["half"].parameters["properties"]["n"]["minimum"] == 0
    assert odd["half"].returns == {"type": "integer"}
    assert "pid" in [each.name for each in odd.list("tag:odd")]
    assert [await odd.execute_tool("half", {"n": 6}), await odd.execute_tool("half")] == [3, 2]
    error = await refused(odd.execute_tool("half", {"n": 3}))
    assert (error.code, error.what, error.hint, error.field) == (
        "conflict",
        "half: It is odd.",
        "Add one.",
        "$.n",
    )
    for arguments, says in (
        ({"n": -1}, ">= 0"),
        ({"n": "2"}, "Expected `int`"),
        ({"m": 1}, "no argument 'm'"),
    ):
        error = await refused(odd.execute_tool("half", arguments))
        assert error.code == "invalid_input"
        assert says in str(error)


def test_it_serves_one_loop_after_another(odd):
    first, second = (asyncio.run(pid_of(odd)) for _ in range(2))
    assert first == second


async def test_many_calls_at_once(odd):
    told = await asyncio.gather(*(odd.execute_tool("half", {"n": 2 * n}) for n in range(200)))
    assert told == list(range(200))


async def test_in_a_run_the_tool_knows_it(odd):
    who = odd.step("pid")

    @workflow
    async def asks() -> list[str]:
        return await who()

    async with Reprise("memory://") as app:
        run = await app.start(asks, id="the-run")
        told = await run.result()
    assert told[2] == "the-run"
    assert told[3] == "", "a pure step has no key"


# ---------------------------------------------------------------- the end, and a new beginning


@pytest.mark.parametrize("name", ["stuck", "deaf"])
async def test_what_takes_too_long_is_killed_and_begun_again(odd, name):
    before = await pid_of(odd)
    error = await refused(odd.execute_tool(name))
    assert (error.code, error.hint) == ("timeout", "")
    await ended(before)
    assert await pid_of(odd) != before


async def test_a_call_that_can_be_cancelled_costs_the_others_nothing(odd):
    before = await pid_of(odd)
    other = asyncio.ensure_future(odd.execute_tool("ask", {"name": "time_now", "arguments": {}}))
    assert (await refused(odd.execute_tool("idle"))).code == "timeout"
    assert await other
    assert await pid_of(odd) == before


async def test_after_kill_9_it_is_begun_again_and_who_waited_is_told(odd):
    before = await pid_of(odd)
    waiting = asyncio.ensure_future(odd.execute_tool("forever"))
    await odd.execute_tool("half")  # behind the other one
    os.kill(before, signal.SIGKILL)
    error = await refused(waiting)
    assert error.code == "upstream"
    assert "killed by SIGKILL" in error.what
    assert await pid_of(odd) != before


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("os._exit(7)", "exit code 7"),
        ("os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        (
            "os.write(max(n for n in range(3, 99) if 'pipe' in os.path.realpath(f'/proc/self/fd/{n}')), b'\\xff' * 99)",
            "it wrote into what is ours",
        ),
        ("sys.exit(4)", "SystemExit: 4"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("f = lambda: globals()['g']()\nglobals()['g'] = f\nf()", "RecursionError"),
    ],
)
async def test_however_it_ends_the_next_call_works(odd, code, says):
    if not LINUX and "/proc" in code:
        pytest.skip("what descriptors there are is told by /proc")
    error = await refused(odd.execute_tool("do", {"code": code}))
    assert error.code == "upstream"
    assert says in str(error)
    assert await pid_of(odd)


@pytest.mark.parametrize("end", ["stuck", "leave"])
async def test_what_it_started_ends_with_it(odd, end):
    started = await odd.execute_tool(
        "do", {"code": "value = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid"}
    )
    assert is_there(started)
    await refused(
        odd.execute_tool("stuck") if end == "stuck" else odd.execute_tool("do", {"code": "os._exit(0)"})
    )
    await ended(started)


async def test_deactivation_and_closing_end_it(place):
    place.make("odd", CODE, isolation="process", permissions=["executes"])
    manager, odd = place.manager(), place.registry
    manager.install_plugin("odd")
    before = await pid_of(odd)
    manager.deactivate("odd")
    await ended(before)
    manager.activate("odd")
    again = await pid_of(odd)
    manager.close()
    await ended(again)
    assert (await refused(odd.execute_tool("pid"))).code == "unavailable"


async def test_nobody_who_holds_it_ends_it(place):
    place.make("odd", CODE, isolation="process", permissions=["executes"])
    manager = place.manager(registry=(registry := ToolRegistry()))
    manager.install_plugin("odd")
    pid = await pid_of(registry)
    folder = manager._plugins["odd"].process._folder
    place.managers.clear()
    del manager, registry
    gc.collect()
    await ended(pid)
    assert not os.access(folder, os.F_OK)


# ---------------------------------------------------------------- what it is not given


async def test_nothing_of_our_environment_and_files_is_there(place, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "secret")
    with (place.folder / "open.txt").open("w") as opened:
        os.set_inheritable(opened.fileno(), True)
        place.make("odd", CODE, isolation="process", permissions=["executes"])
        place.manager().install_plugin("odd")
        told = await place.registry.execute_tool("environment")
    assert set(told) <= {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "HOME", "TMPDIR", "cwd", "fds"}
    assert os.stat(told["HOME"]).st_ino == os.stat(told["cwd"]).st_ino
    if LINUX:
        assert str(place.folder) not in str(
            await place.registry.execute_tool(
                "do",
                {
                    "code": "value = [os.path.realpath(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')]"
                },
            )
        )


WRITE = {"code": "with open('x', 'w') as f: f.write('y')\nvalue = open('x').read()"}


@pytest.mark.parametrize("permission", ["writes_files", "executes"])
async def test_files_are_written_where_that_is_declared(place, permission):
    code = CODE.replace('"executes"', f'"{permission}"')
    place.make("odd", code, isolation="process", permissions=[permission])
    place.manager().install_plugin("odd")
    assert await place.registry.execute_tool("do", WRITE) == "y"


async def test_files_are_not_written_elsewhere(place):
    code = CODE.replace('"executes"', '"network"')
    place.make("odd", code, isolation="process", permissions=["network"])
    place.manager().install_plugin("odd")
    error = await refused(place.registry.execute_tool("do", WRITE))
    assert "File too large" in str(error)


@pytest.mark.skipif(not LINUX, reason="only Linux keeps a limit of memory")
async def test_memory_is_limited(place):
    place.make("odd", CODE, isolation="process", permissions=["executes"])
    place.manager(memory="300MB").install_plugin("odd")
    error = await refused(place.registry.execute_tool("do", {"code": "value = len(bytearray(400_000_000))"}))
    assert "MemoryError" in str(error)
    assert await place.registry.execute_tool("do", {"code": "value = len(bytearray(4_000_000))"}) == 4_000_000


async def test_texts_and_results_are_bounded(odd):
    error = await refused(odd.execute_tool("do", {"code": "raise ToolError('made up', 'x' * 10**6)"}))
    assert (error.code, len(error.what)) == ("upstream", LONGEST)
    error = await refused(odd.execute_tool("do", {"code": "value = 'x' * (9 << 20)"}))
    assert error.code == "too_large"
    assert await odd.execute_tool("do", {"code": "print('x' * 10**5)"}) is None


# ---------------------------------------------------------------- what it may call of ours


@tool(effects="network")
def fetch() -> str:
    """Reach the network."""
    return "fetched"


@tool(effects="reads_files")
def look() -> str:
    """Read a file."""
    return "read"


@pytest.mark.parametrize(
    ("permissions", "by", "name", "code"),
    [
        (["network", "executes"], "ask_more", "fetch", ""),
        (["network", "executes"], "ask", "fetch", "permission_denied"),
        (["executes"], "ask_more", "fetch", "permission_denied"),
        (["network", "executes"], "ask_more", "look", "permission_denied"),
        (["network", "executes"], "ask_more", "find_tools", "not_found"),
        (["network", "executes"], "ask_more", "call_tool", "not_found"),
        (["network", "executes"], "ask_more", "no_such", "not_found"),
    ],
)
async def test_it_calls_tools_of_ours_within_its_permissions(place, permissions, by, name, code):
    place.make("odd", CODE, isolation="process", permissions=permissions)
    place.registry.register_tool(fetch)
    place.registry.register_tool(look)
    place.manager().install_plugin("odd")
    calling = place.registry.execute_tool(by, {"name": name, "arguments": {}})
    if not code:
        assert await calling == "fetched"
    else:
        assert (await refused(calling)).code == code


async def test_the_registrys_own_policy_stands_above(place):
    place.make("odd", CODE, isolation="process", permissions=["network", "executes"])
    registry = ToolRegistry([fetch], policy=ToolPolicy(deny=["fetch"]))
    place.manager(registry=registry).install_plugin("odd")
    error = await refused(registry.execute_tool("ask_more", {"name": "fetch", "arguments": {}}))
    assert error.code == "permission_denied"


async def test_nothing_is_called_once_the_call_is_over(odd):
    late = """
async def later(done):
    await done.wait()
    try:
        await ours.execute_tool("time_now", {})
    except ToolError as error:
        globals()["came"] = error.code
"""
    begin = f"exec({late!r}, globals())\nglobals()['later_'] = globals()['later']"
    await odd.execute_tool("do", {"code": begin})
    assert await odd.execute_tool("begin_late") == "begun"
    while (came := await odd.execute_tool("do", {"code": "value = globals().get('came')"})) is None:
        pass
    assert came == "permission_denied"
