"""A server's tools, mounted: called, started again after it was killed, held when they change."""

import asyncio
import json
import os
import signal
import sys

import pytest

from reprise.kernel.errors import CellConflict, ConfigurationError, ToolError
from reprise.stores import open_store
from reprise.tools.mcp import stdio
from reprise.tools.mcp.mount import MCPMount
from reprise.tools.mcp.pins import CellPins, Told
from reprise.tools.policy import ToolPolicy
from reprise.tools.registry import ToolRegistry
from reprise.tools.tool import tool


async def test_tools_are_called_under_a_prefix_with_arguments_that_are_checked_here(peer):
    server = peer()
    mount = await server.mounted("calc")
    names = [each.name for each in mount.tools]
    assert names == ["calc_add", "calc_blocks", "calc_die", "calc_env", "calc_fails", "calc_slow", "calc_sum"]
    assert await server.call("calc_add", a=1, b=2) == "3"
    assert await server.call("calc_sum") == {"sum": 3}
    with pytest.raises(ToolError, match="not of type 'integer'") as error:
        await server.call("calc_add", a="1")
    assert (error.value.code, error.value.field, server.noted("call add")) == ("invalid_input", "$.a", 1)


async def test_results_are_the_text_or_the_blocks_and_errors_are_errors(peer):
    server = peer()
    await server.mounted()
    assert await server.call("x_blocks") == [
        {"type": "text", "text": "x"},
        {"type": "image", "data": "aGk=", "mimeType": "image/png"},
    ]
    with pytest.raises(ToolError, match="x_fails: fails: no such file") as error:
        await server.call("x_fails")
    assert error.value.code == "upstream"


async def test_nothing_of_our_environment_reaches_a_server_but_what_it_is_given(peer, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    server = peer()
    await server.mounted(env={"GIVEN": "yes"})
    seen = json.loads(await server.call("x_env"))
    assert seen["GIVEN"] == "yes"
    assert "PATH" in seen
    assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH"} & seen.keys()


async def test_a_server_that_was_killed_is_started_again_by_the_next_call(peer, until):
    server = peer()
    mount = await server.mounted()
    for _ in range(3):
        os.kill(mount.statistics()["pid"], signal.SIGKILL)
        await until(lambda: not mount.statistics()["connected"])
        assert await server.call("x_add", a=1) == "1"
    assert (server.noted("start"), mount.statistics()["connections"]) == (4, 4)


async def test_a_call_under_way_when_the_server_dies_is_made_again_only_if_that_does_no_harm(peer):
    server = peer()
    await server.mounted()
    with pytest.raises(ToolError, match="nobody knows whether it was done") as error:
        await server.call("x_die")
    assert (error.value.code, server.noted("call die")) == ("upstream", 1)

    again = peer("honest")
    await again.mounted("y", idempotent=["die"])
    with pytest.raises(ToolError, match="nobody knows"):
        await again.call("y_die")
    assert again.noted("call die") == 1 + 3


async def test_a_call_that_is_cancelled_is_cancelled_there(peer, until):
    server = peer()
    await server.mounted()
    call = asyncio.create_task(server.call("x_slow"))
    await until(lambda: server.noted("call slow"))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: server.noted("cancelled"))
    assert await server.call("x_add", a=1) == "1"
    assert server.noted("start") == 1


async def test_a_call_that_takes_too_long_ends_here_and_there(peer, until):
    server = peer()
    await server.mounted(timeout=0.1)
    with pytest.raises(ToolError) as error:
        await server.call("x_slow")
    assert error.value.code == "timeout"
    await until(lambda: server.noted("cancelled"))


async def test_progress_of_a_server_is_progress_of_the_step(peer):
    from reprise import Reprise, workflow

    server = peer()
    await server.mounted()
    slow = server.registry.step("x_slow")

    @workflow
    async def waits() -> str:
        return await slow()

    async with Reprise("memory://") as app:
        handle = await app.start(waits)
        assert await handle.result() == "done"
        told = await app.client.progress(handle.id)
    assert len(told) == 1


async def test_which_tools_are_taken_and_what_they_do_is_said_by_whoever_mounts(peer):
    server = peer()
    mount = await server.mounted(
        allow=["a*", "s*"], deny=["slow"], effects={"add": "pure", "*": "network"}, idempotent=["sum"]
    )
    said = {each.name: (each.effects, each.idempotent) for each in mount.tools}
    assert said == {"x_add": ("pure", False), "x_sum": ("network", True)}
    assert [each.name for each in server.registry.list("tag:mcp")] == ["x_add", "x_sum"]


async def test_a_server_s_own_word_for_its_effects_is_not_taken(peer):
    server = peer("hints")
    mount = await server.mounted()
    (only,) = mount.tools
    assert (only.effects, only.idempotent) == ("executes", False)
    careful = server.registry.scope("agent", policy=ToolPolicy(allow=["effect:pure", "effect:network"]))
    with pytest.raises(ToolError) as error:
        await careful.execute_tool("x_add", {"a": 1})
    assert (error.value.code, server.noted("call")) == ("permission_denied", 0)


async def test_a_server_that_does_not_start_is_unavailable_and_not_tried_all_the_time(peer):
    server = peer("exits")
    mount = server.mount()
    with pytest.raises(ToolError, match="no configuration") as error:
        await mount.mount(server.registry)
    assert error.value.code == "unavailable"
    with pytest.raises(ToolError, match="a moment ago") as error:
        await mount.mount(server.registry)
    assert (error.value.code, server.noted("start")) == ("unavailable", 1)
    assert 0 < (error.value.retry_after or 0) <= 0.5


async def test_a_command_that_does_not_exist_is_unavailable():
    async with MCPMount("x", command=["/nowhere/to/be/found"]) as mount:
        with pytest.raises(ToolError, match="cannot be started") as error:
            await mount.mount(ToolRegistry())
    assert error.value.code == "unavailable"


async def test_what_is_closed_leaves_no_process_and_connects_again_when_called(peer):
    server = peer()
    mount = await server.mounted()
    pid = mount.statistics()["pid"]
    await mount.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert await server.call("x_add", a=2) == "2"


async def test_a_server_that_does_not_go_is_killed(peer, monkeypatch):
    monkeypatch.setattr("reprise.tools.mcp.stdio.GRACE", 0.05)
    server = peer("stays")
    mount = await server.mounted()
    pid = mount.statistics()["pid"]
    await mount.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# ---------------------------------------------------------------- pins


async def test_what_a_server_says_otherwise_later_is_held_with_both_texts(peer, until, tmp_path):
    server = peer("changed")
    mount = await server.mounted(pins=tmp_path / "pins.json")
    assert await server.call("x_add", a=1) == "1"
    server.say("turn")
    await until(lambda: mount.held)
    with pytest.raises(ToolError, match="says something else of add") as error:
        await server.call("x_add", a=1)
    assert (error.value.code, server.noted("call add")) == ("unavailable", 1)
    held = {each.name: each for each in mount.held}
    assert held["add"].before is not None
    assert held["add"].before.description == "Adds two numbers."
    assert "id_rsa" in held["add"].now.description
    assert held["new"].before is None
    # Models still see what was accepted, nothing of what was not, and nothing that is gone.
    assert server.registry["x_add"].description == "Adds two numbers."
    assert "x_new" not in server.registry
    assert "x_old" not in server.registry
    await mount.accept("add")
    assert await server.call("x_add", a=1) == "1"
    assert "id_rsa" in server.registry["x_add"].description
    assert [each.name for each in mount.held] == ["new"]
    with pytest.raises(ToolError, match="not held"):
        await mount.accept("ad")


@pytest.mark.parametrize("change", ["schema", "hint"])
async def test_schemas_and_hints_are_part_of_what_is_accepted(peer, until, change):
    server = peer("changed")
    mount = await server.mounted()
    server.say(change)
    await until(lambda: mount.held)
    field = {"schema": "parameters", "hint": "hints"}[change]
    assert [each.split(":")[0] for each in mount.held[0].changes()] == [field]


async def test_a_change_between_two_processes_is_held_before_the_first_call(peer, tmp_path):
    pins = tmp_path / "pins.json"
    first = peer("changed")
    await (await first.mounted(pins=pins)).close()
    starts = first.noted("start")
    first.say("turn")
    second = first.mount(pins=pins)
    registry = ToolRegistry()
    await second.mount(registry)
    assert first.noted("start") == starts, "pins say what there is: nothing is started"
    with pytest.raises(ToolError, match="held"):
        await registry.execute_tool("x_add", {"a": 1})
    assert first.noted("call") == 0
    await second.accept()
    assert await registry.execute_tool("x_add", {"a": 1}) == "1"
    third = first.mount(pins=pins)
    await third.mount(ToolRegistry())
    assert await third.refresh() == []


async def test_pins_stand_in_a_file_for_several_mounts_and_in_a_cell_for_several_processes(tmp_path, peer):
    server, pins = peer(), tmp_path / "sub" / "pins.json"
    await server.mounted("one", pins=pins)
    await server.mounted("two", pins=pins)
    assert set(json.loads(pins.read_text())) == {"one", "two"}
    pins.write_text("[]")
    with pytest.raises(ConfigurationError, match="holds no accepted tools"):
        await server.mount("one", pins=pins).mount(ToolRegistry())

    store = open_store("memory://")
    await store.start()
    ours, theirs = CellPins(store.cells, "x"), CellPins(store.cells, "x")
    assert await ours.load() == await theirs.load() == {}
    await ours.save({"add": Told("add")})
    with pytest.raises(CellConflict):
        await theirs.save({"add": Told("add", "other")})
    assert await theirs.load() == {"add": Told("add")}
    mount = await server.mounted("cells", pins=store.cells)
    assert (await CellPins(store.cells, "cells").load()).keys() == {
        each.name.removeprefix("cells_") for each in mount.tools
    }
    await store.stop()


async def test_a_name_that_is_taken_is_a_conflict(peer):
    server = peer()

    @tool(name="x_add", effects="pure")
    def mine() -> str:
        return "mine"

    server.registry.register_tool(mine)
    with pytest.raises(ToolError, match="x_add") as error:
        await server.mounted()
    assert error.value.code == "conflict"
    assert await server.registry.execute_tool("x_add") == "mine"


@pytest.mark.parametrize(
    "options",
    [{}, {"command": ["a"], "url": "http://x"}, {"command": "python server.py"}],
)
def test_a_mount_needs_one_way_to_its_server(options):
    with pytest.raises(ConfigurationError, match="either command"):
        MCPMount("x", **options)


def test_a_prefix_must_do_as_a_name():
    with pytest.raises(ConfigurationError, match="cannot be the name"):
        MCPMount("9 lives", command=["x"])


async def test_a_server_that_does_not_end_is_gone_however_often_its_end_was_cancelled(monkeypatch):
    monkeypatch.setattr(stdio, "GRACE", 0.2)
    heedless = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('{}', flush=True); sys.stdin.read(); sys.stderr.write('alone\\n'); signal.pause()"
    )
    wire, stopping = stdio.Wire(), asyncio.Event()
    kill = stdio._kill
    monkeypatch.setattr(stdio, "_kill", lambda process, name: (stopping.set(), kill(process, name)))

    async def hold() -> None:
        async with stdio.stdio([sys.executable, "-c", heedless], wire, env={}, cwd=None, limit=1_000) as (
            said,
            _,
        ):
            await said.receive()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    while not wire.pid:  # noqa: ASYNC110 - nothing else says it
        await asyncio.sleep(0.005)
    task.cancel()
    await stopping.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(wire.pid, 0)


async def test_closing_waits_for_the_servers_before_the_last(peer, monkeypatch):
    stop, may, first = stdio._stop, asyncio.Event(), []

    async def late(process: asyncio.subprocess.Process) -> None:
        if process.pid in first:
            await may.wait()
        await stop(process)

    monkeypatch.setattr(stdio, "_stop", late)
    monkeypatch.setattr(stdio, "GRACE", 0.2)
    server = peer("huge")
    mount = await server.mounted()
    first.append(mount._connection.link.wire.pid)
    with pytest.raises(ToolError):
        await server.call("x_add", a=1)
    with pytest.raises(ToolError):
        await server.call("x_add", a=1)
    closing = asyncio.create_task(mount.close())
    assert not (await asyncio.wait([closing], timeout=0.3))[0]
    may.set()
    await closing
    with pytest.raises(ProcessLookupError):
        os.kill(first[0], 0)
