"""taskiq on a Redis stream: what is not acknowledged is claimed by another when it was idle for a while."""
# pyright: reportMissingImports=false, reportFunctionMemberAccess=false

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from taskiq_redis import RedisStreamBroker

from bench.recovering import ledger

broker = RedisStreamBroker(
    os.environ[ledger.REDIS],
    idle_timeout=ledger.lease() * 1000,
    xread_count=50,
    unacknowledged_lock_timeout=5,
)


@broker.task(task_name="task")
async def task(number: int, seconds: float) -> None:
    """Take a moment."""
    ledger.write("began", number)
    await asyncio.sleep(seconds)
    ledger.write("ended", number)


async def put(numbers: Sequence[int], seconds: float) -> None:
    """Put tasks in."""
    await broker.startup()
    for number in numbers:
        await task.kiq(number, seconds)
