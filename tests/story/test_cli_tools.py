"""``reprise tools``: find one, see what it takes, call it."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = '''
import asyncio
from typing import Annotated

from reprise import ToolContext, ToolRegistry, tool


@tool(effects="network", tags=["house"])
async def ring(ctx: ToolContext, room: Annotated[str, "Where to ring."], times: int = 1, loud: bool = False) -> list[str]:
    """Ring a bell in a room."""
    if times > 2:
        ctx.warn("The neighbours hear it.")
    return ["RING" if loud else "ring"] * times


@tool(effects="pure")
def name_of(room: str) -> str:
    """Say what a room is called."""
    return f"the {room}"


more = ToolRegistry([name_of])
'''


@pytest.fixture
def own(shell):
    (shell.folder / "bells.py").write_text(TOOLS)
    return shell


def test_tools_are_listed_by_rule_and_found_by_what_they_are_for(own):
    assert "time_age" in own("tools", "list").stdout
    rows = json.loads(own("tools", "list", "tag:house", "-f", "bells.py", "-o", "json").stdout)
    assert rows == [
        {"name": "ring", "title": "Ring a bell in a room.", "effects": "network", "tags": ["house"]}
    ]
    found = own("tools", "search", "ring", "the", "bell", "--from", "bells.py", "-n", "1").stdout
    assert "ring" in found
    assert "network" in found
    assert "No tool fits" in own("tools", "search", "violin").stderr


def test_a_tool_says_what_it_takes_and_how_it_is_called(own):
    shown = own("tools", "show", "ring", "--from", "bells.py").stdout
    assert "Where to ring." in shown
    assert "returns array of string; network; at most 30 s" in shown
    shown = own("tools", "show", "time_age").stdout
    command = next(line for line in shown.splitlines() if line.startswith("reprise tools call"))
    assert json.loads(own(*command.split()[1:]).stdout)["total_days"] == 9496


def test_a_tool_is_called_with_arguments_as_words_or_as_json(own):
    told = own("tools", "call", "ring", "room=hall", "times=3", "loud=true", "--from", "bells.py")
    assert json.loads(told.stdout) == ["RING"] * 3
    assert "The neighbours hear it." in told.stderr
    told = own("tools", "call", "ring", '{"room": "hall"}', "times=2", "-f", "bells.py:ring")
    assert json.loads(told.stdout) == ["ring"] * 2
    assert own("tools", "call", "name_of", "room=42", "-f", "bells.py").stdout == "the 42\n"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("call", "rign"), 3, "Did you mean 'ring'?"),
        (("show", "rign"), 3, "Did you mean 'ring'?"),
        (("call", "ring", "romo=hall"), 2, "Did you mean 'room'?"),
        (("call", "ring", "room=hall", "times=often"), 2, "Expected `int`, got `str`, at $.times"),
        (("call", "ring", "hall"), 2, "Write NAME=VALUE: reprise tools show ring"),
        (("list", "effect:netwrk"), 2, "Did you mean 'network'?"),
    ],
)
def test_what_was_meant_is_said(own, words, code, says):
    told = own("tools", *words, "--from", "bells.py")
    assert told.returncode == code
    assert says in told.stderr


def test_tools_use_the_folders_and_hosts_that_are_named(own):
    (own.folder / "notes").mkdir()
    (own.folder / "notes/a.txt").write_text("hello")
    words = ("tools", "call", "file_read", "path=notes/a.txt")
    assert json.loads(own(*words, "--root", "notes=notes").stdout)["content"] == "hello"
    without = own(*words)
    assert without.returncode
    assert "FileRoots" in without.stderr
    told = own(*words, "--root", "notes")
    assert (told.returncode, "Write NAME=FOLDER" in told.stderr) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as server:  # nobody answers there
        place = f"127.0.0.1:{server.getsockname()[1]}"
        fetch = ("tools", "call", "web_fetch", f"url=http://{place}/", "timeout=1")
        assert "must not be reached" in own(*fetch).stderr
        assert "took longer than" in own(*fetch, "--reach", place).stderr


def test_a_file_without_tools_is_said(own):
    (own.folder / "empty.py").write_text("")
    assert "There is no tool in empty.py" in own("tools", "list", "-f", "empty.py").stderr


def test_the_example_books_rooms_and_is_refused_one():
    example = Path(__file__).parents[2] / "examples" / "tools.py"
    told = subprocess.run(
        [sys.executable, example], capture_output=True, text=True, timeout=50, check=True
    ).stdout
    assert "['permission_denied', 'hall on 2026-11-29']" in told
    assert "booked: ['hall on 2026-11-29', 'library on 2026-11-29']" in told
