"""A server in whatever mode, mounted."""

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

from reprise.tools.mcp.mount import MCPMount
from reprise.tools.registry import ToolRegistry

SERVER = Path(__file__).with_name("server.py")


class Peer:
    """A server, and what it noted."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.notes = folder / f"{mode}.notes"
        self.notes.touch()
        self.command = [sys.executable, str(SERVER), mode, str(self.notes)]
        self.registry = ToolRegistry()
        self.mounts: list[MCPMount] = []

    def mount(self, prefix: str = "x", **options: Any) -> MCPMount:
        made = MCPMount(prefix, command=self.command, **options)
        self.mounts.append(made)
        return made

    async def mounted(self, prefix: str = "x", **options: Any) -> MCPMount:
        made = self.mount(prefix, **options)
        await made.mount(self.registry)
        return made

    async def call(self, name: str, **arguments: Any) -> Any:
        return await self.registry.execute_tool(name, arguments)

    def noted(self, what: str) -> int:
        return sum(line.startswith(what) for line in self.notes.read_text().splitlines())

    def say(self, what: str) -> None:
        with self.notes.open("a") as file:
            file.write(what + "\n")


@pytest.fixture
async def peer(tmp_path: Path):
    peers: list[Peer] = []

    def make(mode: str = "honest") -> Peer:
        peers.append(Peer(tmp_path, mode))
        return peers[-1]

    yield make
    for each in peers:
        for mount in each.mounts:
            await mount.close()


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something holds; the limit of the test is the limit."""
    while not condition():  # noqa: ASYNC110 - it is another process that we wait for
        await asyncio.sleep(0.005)


@pytest.fixture(name="until")
def _until():
    return until


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
