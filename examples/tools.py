"""An agent looks for a tool, calls it, and books a room: what it may do is said beforehand, what it did is recorded once.

    python examples/tools.py

The agent is a rule of thumb instead of a model; what it is given is what a model would be given.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from reprise import (
    Reprise,
    ToolContext,
    ToolError,
    ToolPolicy,
    ToolRegistry,
    ToolRequest,
    create_builtin_tools_library,
    tool,
    workflow,
)

BOOKED: dict[str, str] = {}
"""Rooms by the key of who booked: the house honours idempotency keys."""


@tool(
    effects="network",
    tags=["rooms"],
    examples=[({"room": "hall", "day": "2026-12-01"}, "hall on 2026-12-01")],
)
async def book_room(
    ctx: ToolContext, room: Annotated[str, "Its name."], day: Annotated[str, "A date: 2026-12-01."]
) -> str:
    """Book a room for a day."""
    return BOOKED.setdefault(ctx.idempotency_key or f"{room}/{day}", f"{room} on {day}")


async def approve(request: ToolRequest) -> bool:
    """Say yes to small rooms: a person would be asked here."""
    print(f"  may {request.caller} {request.tool.name} {dict(request.arguments)}?")
    return request.arguments["room"] != "ballroom"


registry = ToolRegistry([*create_builtin_tools_library(), book_room])
ada = registry.scope(
    "ada",
    policy=ToolPolicy(
        allow=["tag:time", "book_room"], approve=["effect:network"], rate={"book_room": (5, 60)}
    ),
    approver=approve,
)
add, book = ada.step("time_add"), ada.step("book_room")


@workflow
async def plan_meeting(room: str, today: str) -> list[str]:
    """Book a room for a week from today; each call is a step, so nothing is booked twice after a crash."""
    later: dict[str, Any] = await add(value=today, weeks=1)
    try:
        return [await book(room=room, day=later["date"])]
    except ToolError as error:
        return [error.code, await book(room="hall", day=later["date"])]


async def main() -> None:
    """Look around as a model would, then do the work durably."""
    print("a model is given:", [each["name"] for each in ada.as_tools("which day is it in a week", limit=2)])
    async with Reprise("memory://") as app:
        print(await app.run(plan_meeting, "ballroom", "2026-11-22"))
        print(await app.run(plan_meeting, "library", "2026-11-22"))
    print("booked:", sorted(BOOKED.values()))


if __name__ == "__main__":
    asyncio.run(main())
