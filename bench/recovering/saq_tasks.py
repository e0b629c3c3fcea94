"""SAQ: a sweep looks each second for jobs whose heartbeat is late."""
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from saq import Queue

from bench.recovering import ledger

queue = Queue.from_url(os.environ[ledger.REDIS])


async def task(_context: Any, *, number: int, seconds: float) -> None:
    """Take a moment."""
    ledger.write("began", number)
    await asyncio.sleep(seconds)
    ledger.write("ended", number)


settings = {
    "queue": queue,
    "functions": [task],
    "concurrency": 50,
    "timers": {"schedule": 1, "sweep": 1, "abort": 1},
}


async def put(numbers: Sequence[int], seconds: float) -> None:
    """Put tasks in."""
    await queue.connect()
    for number in numbers:
        await queue.enqueue(
            "task", number=number, seconds=seconds, timeout=60, heartbeat=ledger.lease(), retries=3
        )
