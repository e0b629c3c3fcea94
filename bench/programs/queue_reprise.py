"""Our queue: a time limit for each try, retries, a result that is kept, and the context of a trace on each task."""

from __future__ import annotations

import asyncio
import signal

from bench.programs.queueing import CONCURRENCY, LIMIT, SERVER, done
from reprise import Task, TaskQueue

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


class Queue:
    """A queue of ours on any keeper."""

    def __init__(self) -> None:
        self._queue = TaskQueue(SERVER, "bench")

    async def put(self, count: int) -> None:
        """Put in tasks, a thousand at a time."""
        for first in range(0, count, 1000):
            some = range(first, min(first + 1000, count))
            await self._queue.enqueue([_task(0.0) for _ in some])

    async def send(self, sent_at: float) -> None:
        """Put in one."""
        await self._queue.enqueue(_task(sent_at))

    async def work(self) -> None:
        """Do tasks until told to stop."""
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        async with self._queue.worker({"note": _note}, concurrency=CONCURRENCY, timeout=LIMIT):
            await told.wait()
        await self._queue.stop()

    async def close(self) -> None:
        """Close the queue."""
        await self._queue.stop()


def _task(sent_at: float) -> Task:
    return Task(task_type="note", payload={"sent_at": sent_at}, metadata=TRACE)


async def _note(task: Task) -> dict[str, bool]:
    done(task.payload["sent_at"])
    return {"ok": True}
