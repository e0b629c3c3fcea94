"""A server of ours whose tools change when it is told to: over stdio, or HTTP at a port.

    python growing.py stdio | PORT [late]

``late``: one comes when somebody begins to listen, a moment before they are heard.
"""

import asyncio
import sys
from typing import Any

import uvicorn

from reprise import Tool, ToolContext, ToolRegistry, mcp_app, mcp_offer, tool
from reprise.tools.mcp.serving import Offer


@tool(effects="pure")
def double(n: int) -> int:
    """Double a number."""
    return 2 * n


@tool(effects="pure")
def grow(context: ToolContext, name: str) -> None:
    """Have one more tool."""
    context.need(ToolRegistry).register_tool(Tool(double.function, name=name, effects="pure"))


@tool(effects="pure")
def shrink(context: ToolContext, name: str) -> None:
    """Have one tool less."""
    context.need(ToolRegistry).unregister_tool(name)


@tool(effects="pure")
def reword(context: ToolContext, description: str) -> None:
    """Say something else of a tool."""
    changed = Tool(double.function, description=description, effects="pure")
    context.need(ToolRegistry).register_tool(changed, replace=True)


LEAVE = asyncio.Event()


@tool(effects="pure")
async def stay() -> str:
    """Stay until somebody says to leave."""
    await LEAVE.wait()
    return "left"


@tool(effects="pure")
async def leave() -> None:
    """Let those leave who stay."""
    LEAVE.set()


def registry() -> ToolRegistry:
    made = ToolRegistry([double, grow, shrink, reword, stay, leave])
    made.provide(made)
    return made


def late(offered: Offer, tools: ToolRegistry) -> None:
    entry = offered.server.get_request_handler("subscriptions/listen")

    async def listen(request: Any, params: Any) -> Any:
        tools.register_tool(Tool(double.function, name="late", effects="pure"))
        return await entry.handler(request, params)

    offered.server.add_request_handler("subscriptions/listen", entry.params_type, listen)


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        tools = registry()
        offered = mcp_offer(tools)
        if sys.argv[2:] == ["late"]:
            late(offered, tools)
        asyncio.run(offered.stdio())
    else:
        uvicorn.run(mcp_app(registry()), port=int(sys.argv[1]), log_level="warning")
