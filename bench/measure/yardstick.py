"""What this interpreter on this machine takes for something everybody knows."""

from __future__ import annotations

import asyncio
from statistics import median
from time import thread_time

TASKS = 2000


async def _nothing() -> None:
    pass


async def _make_tasks() -> float:
    begun = thread_time()
    for _ in range(TASKS):
        await asyncio.create_task(_nothing())
    return (thread_time() - begun) / TASKS * 1e6


def task_us() -> float:
    """Return the microseconds of CPU that making and awaiting a task takes."""
    return median(asyncio.run(_make_tasks()) for _ in range(5))
