"""A shop: reserve, pay, ship; large orders need somebody's yes."""

import asyncio
import os
from pathlib import Path

from reprise import ask, step, workflow

NOTES = Path(os.environ.get("SHOP_NOTES", "notes.txt"))


@step(idempotent=True)
async def note(text: str) -> str:
    """Write down what was done."""
    with NOTES.open("a") as file:  # noqa: ASYNC230 - a line
        file.write(text + "\n")
    return text


@workflow
async def order(item: str, count: int = 1) -> str:
    """Order something from the shop: it is reserved, paid and shipped, whatever happens in between."""
    await note(f"reserved {count} {item}")
    if count > 10 and not await ask(bool, f"Really {count} {item}?"):
        return "nothing was ordered"
    await note(f"paid {count} {item}")
    await asyncio.sleep(1.5)
    await note(f"shipped {count} {item}")
    return f"{count} {item} on the way"
