"""Ours, on the store that REPRISE_BENCH_TUNED names; a second word there asks for one of two mistakes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bench.recovering import ledger
from reprise import ClaimLost, Task, TaskQueue


def queue() -> TaskQueue:
    """Return the queue."""
    urls = {
        "Redis": os.environ[ledger.REDIS],
        "PostgreSQL": f"{os.environ.get(ledger.POSTGRES)}&schema={os.environ[ledger.SCHEMA]}",
        "SQLite": f"sqlite:///{Path(os.environ[ledger.LEDGER]).with_name('queue.db')}",
    }
    return TaskQueue(urls[ledger.tuned().split()[0]], "work", visibility_timeout=ledger.lease())


async def task(task: Task) -> None:
    """Take a moment."""
    ledger.write("began", task.payload[0])
    await asyncio.sleep(task.payload[1])
    ledger.write("ended", task.payload[0])


async def put(numbers: Sequence[int], seconds: float) -> None:
    """Put tasks in."""
    async with queue() as opened:
        await opened.enqueue([Task(task_type="task", payload=[number, seconds]) for number in numbers])


async def work() -> None:
    """Be a worker."""
    async with queue() as opened:
        if mistake := "".join(ledger.tuned().split()[1:]):
            await asyncio.gather(*(_by_hand(opened, early=mistake == "early") for _ in range(50)))
        await opened.worker(task, concurrency=50).run()


async def _by_hand(opened: TaskQueue, *, early: bool) -> None:
    """Do tasks as one may not: say that they are done before they are, or never renew a claim."""
    while True:
        mine = await opened.dequeue(timeout=None)
        assert mine is not None
        if early:
            await opened.complete_task(mine)
        await task(mine)
        with suppress(ClaimLost):
            if not early:
                await opened.complete_task(mine)
