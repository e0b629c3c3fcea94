"""Queues side by side: `queueing.py WHOSE put N`, `… work`, `… steady N PER_SECOND`; where, the environment says.

A task is done by writing eight bytes to a file: for how many seconds it waited, if it says when it was sent. So when all
are done is known without asking the queue. What is asked of each of them is in the module of its name beside this one.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import time
from collections.abc import Awaitable
from importlib import import_module
from typing import Protocol, cast

SERVER, SINK = os.environ.get("BENCH_SERVER", ""), os.environ.get("BENCH_SINK", "")
CONCURRENCY, LIMIT = 50, 30.0
"""Tasks at one time, and seconds that a task may take, where there is such a thing."""

_opened: list[int] = []


def done(sent_at: float) -> None:
    """Note that a task is done that was sent at a time."""
    if not _opened:
        _opened.append(os.open(SINK, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    os.write(_opened[0], struct.pack("d", time.time() - sent_at))


class Queue(Protocol):
    """What is asked of a queue."""

    async def put(self, count: int) -> None:
        """Put in tasks, the fastest way there is."""
        ...

    async def send(self, sent_at: float) -> None:
        """Put in one."""
        ...

    def work(self) -> Awaitable[None] | None:
        """Do tasks until killed."""
        ...

    async def close(self) -> None:
        """Close what was opened."""
        ...


async def steady(queue: Queue, count: int, per_second: float) -> None:
    """Send tasks one by one, at a pace."""
    began = time.perf_counter()
    for number in range(count):
        await queue.send(time.time())
        await asyncio.sleep(max(0.0, began + (number + 1) / per_second - time.perf_counter()))


async def main(queue: Queue, what: str, *numbers: str) -> None:
    """Do what is asked."""
    if what == "put":
        await queue.put(int(numbers[0]))
    elif what == "steady":
        await steady(queue, int(numbers[0]), float(numbers[1]))
    await queue.close()


if __name__ == "__main__":
    whose: Queue = cast("Queue", import_module(f"bench.programs.queue_{sys.argv[1]}").Queue())
    if sys.argv[2] == "work":
        working = whose.work()
        if working is not None:
            import_module("uvloop").run(working)
    else:
        asyncio.run(main(whose, *sys.argv[2:]))
