"""Taskiq over a Redis stream, a hundred messages read at once; no results, messages acknowledged when they are done."""
# pyright: reportMissingImports=false, reportFunctionMemberAccess=false

from __future__ import annotations

import asyncio
import os
import sys

from taskiq_redis import RedisStreamBroker

from bench.programs.queueing import CONCURRENCY, SERVER, done

broker = RedisStreamBroker(SERVER, xread_count=100)


@broker.task(task_name="note")
async def note(sent_at: float) -> None:
    """Note that it is done."""
    done(sent_at)


class Queue:
    """Taskiq."""

    def __init__(self) -> None:
        self._is_open = False

    async def put(self, count: int) -> None:
        """Put in tasks, a hundred at one time."""
        await self._open()
        for _ in range(0, count, 100):
            await asyncio.gather(*(note.kiq(0.0) for _ in range(100)))

    async def send(self, sent_at: float) -> None:
        """Put in one."""
        await self._open()
        await note.kiq(sent_at)

    def work(self) -> None:
        """Become its worker."""
        options = ["--workers", "1", "--max-async-tasks", str(CONCURRENCY), "--log-level", "ERROR"]
        os.execv(  # noqa: S606
            sys.executable,
            [sys.executable, "-m", "taskiq", "worker", "bench.programs.queue_taskiq:broker", *options],
        )

    async def close(self) -> None:
        """Close the broker."""
        await broker.shutdown()

    async def _open(self) -> None:
        if not self._is_open:
            self._is_open = True
            await broker.startup()
