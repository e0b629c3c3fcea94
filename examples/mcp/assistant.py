"""A client that knows MCP and nothing of Reprise: orders, loses the server meanwhile, and comes back for the result.

python examples/mcp/assistant.py
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

from reprise.tools.mcp.tasks import GetTask, TaskClient, TaskParams, TaskState

SHOP = Path(__file__).with_name("shop.py")


async def agrees(context: Any, params: Any) -> types.ElicitResult:
    """Stand in for a person: say yes."""
    print("asked:", params.message)
    return types.ElicitResult(action="accept", content={"answer": True})


def server(folder: Path) -> Client:
    """Return a client that starts the shop, with its runs in a folder."""
    given = {"SHOP_NOTES": str(folder / "notes.txt")}
    passed = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return Client(
        StdioServerParameters(
            command=sys.executable,
            args=["-m", "reprise", "mcp", str(SHOP), "--store", f"sqlite:///{folder / 'runs.db'}"],
            env=given | passed,
        ),
        extensions=[TaskClient()],
        elicitation_callback=agrees,
    )


async def ended(client: Client, task: str) -> TaskState:
    """Ask for a task until it has ended."""
    while True:
        state = await client.session.send_request(GetTask(params=TaskParams(task_id=task)), TaskState)
        if state.status in ("completed", "failed", "cancelled"):
            return state
        await asyncio.sleep(0.2)


async def main(folder: Path) -> None:
    """Order, lose the server, and come back."""
    notes = folder / "notes.txt"
    async with server(folder) as client:
        made: Any = await client.session.call_tool("order", {"item": "roses", "count": 3}, allow_claimed=True)
        print("a task:", made.status)
        while not (notes.exists() and "paid" in notes.read_text()):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
    print("the server is gone; paid, not shipped:", notes.read_text().split("\n")[:-1])
    async with server(folder) as client:
        state = await ended(client, made.task_id)
        assert state.result is not None
        print("the same task, of another process:", state.result["structuredContent"])
        print(
            "a large one:",
            (await client.call_tool("order", {"item": "tulips", "count": 50})).structured_content,
        )
    print(notes.read_text().split("\n")[:-1])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(main(Path(made)))
