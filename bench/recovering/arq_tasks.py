"""arq: a job stays where it is until it is done, and is free again 10 s after the most that it may take."""
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

from bench.recovering import ledger


async def task(_context: Any, number: int, seconds: float) -> None:
    """Take a moment."""
    ledger.write("began", number)
    await asyncio.sleep(seconds)
    ledger.write("ended", number)


class WorkerSettings:
    """What the worker's program reads."""

    functions = [task]  # noqa: RUF012  so arq wants it
    redis_settings = RedisSettings(port=int(os.environ[ledger.PORT]))
    max_jobs = 50
    job_timeout = ledger.lease()
    poll_delay = 0.1
    keep_result = 0


async def put(numbers: Sequence[int], seconds: float) -> None:
    """Put tasks in."""
    pool = await create_pool(WorkerSettings.redis_settings)
    for number in numbers:
        await pool.enqueue_job("task", number, seconds)
