"""One who follows shared state: `following.py URL TIMES` prints a line when it does, and then how late its copy was, in ms."""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter

from reprise import StateSync, StateUpdate

SPACE, KEY = "bench", "at"


async def main(url: str, times: int) -> None:
    """Follow until there were so many changes."""
    lags: list[float] = []
    over = asyncio.Event()

    def note(update: StateUpdate) -> None:
        lags.append(perf_counter() - update.value)
        if len(lags) == times:
            over.set()

    async with StateSync(url, SPACE) as state:
        state.on_update(note, KEY)
        print("follows", flush=True)
        await over.wait()
    print(json.dumps([lag * 1e3 for lag in lags]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
