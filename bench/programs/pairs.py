"""What the pairs of all engines do: two steps each, of varying length, and a last step that dies in the first life."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

folder, life, pairs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
RUN = "pairs"


async def first(i: int) -> str:
    """Return ``s<i>`` after a while."""
    return await _noted(f"s{i}")


async def second(before: str) -> str:
    """Return ``t<i>`` for ``s<i>`` after a while."""
    return await _noted(before.replace("s", "t"))


async def _noted(value: str) -> str:
    await asyncio.sleep(random.uniform(0, 0.03))  # noqa: S311
    with (folder / "executed").open("a") as file:
        file.write(f"{life} {value}\n")
    return value


async def last() -> str:
    """Die in the first life: every step before is recorded, the run is not at its end."""
    if life == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def run(main: Callable[[], Awaitable[list[str]]]) -> None:
    """Run an engine's main function and print the results it gives."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(asyncio.run(_awaited(main))), file=out, flush=True)


async def _awaited(main: Callable[[], Awaitable[list[str]]]) -> list[str]:
    return await main()
