"""Put tasks into a queue, go on putting one in each second, or be a worker where the queue has no program for that."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from importlib import import_module
from inspect import isawaitable
from itertools import count
from typing import Any

GAP = 1.0
"""Seconds between tasks of `feed`."""


async def put(module: Any, numbers: Sequence[int], seconds: float) -> None:
    """Put tasks in."""
    done = module.put(numbers, seconds)
    if isawaitable(done):
        await done


async def feed(module: Any, first: int) -> None:
    """Put one task in each second, until the end of this process."""
    for number in count(first):
        await put(module, [number], 0.0)
        await asyncio.sleep(GAP)


def main(what: str, name: str, *rest: str) -> None:
    """Do what is asked."""
    module = import_module(f"bench.recovering.{name}_tasks")
    if what == "put":
        asyncio.run(put(module, range(int(rest[0])), float(rest[1])))
    elif what == "feed":
        asyncio.run(feed(module, int(rest[0])))
    elif (working := module.work()) is not None:
        asyncio.run(working)


if __name__ == "__main__":
    main(*sys.argv[1:])
