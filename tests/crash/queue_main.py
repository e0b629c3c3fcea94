"""A worker of a queue, forked by the nursery: each task has one effect, at a receiver that knows its idempotency key."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
from tests.crash.worker_main import open_named

from reprise import Task, TaskQueue
from reprise.kernel.chance import seeded

TRIED, EFFECTS = "tried", "effects.db"


class Options(msgspec.Struct):
    """What a worker is told."""

    folder: str
    store: str
    settles_first: bool = False
    """The control: says that a task is done before it does it."""


def make_receiver(folder: Path) -> None:
    """Make what notes effects, each key once."""
    with sqlite3.connect(folder / EFFECTS) as file:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("CREATE TABLE effects (key TEXT PRIMARY KEY)")


def queue_of(store: Any) -> TaskQueue:
    """Return the queue of the test, whose claims end soon."""
    return TaskQueue(store, "work", visibility_timeout=1.0)


class Worker:
    """Does tasks and writes down each try."""

    def __init__(self, folder: Path) -> None:
        self._tried = os.open(folder / TRIED, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._receiver = sqlite3.connect(folder / EFFECTS, timeout=30, isolation_level=None)
        self._receiver.execute("PRAGMA synchronous = OFF")
        self._dice = seeded(b"%d" % os.getpid())

    async def work(self, task: Task) -> str:
        """Take a moment, then have the effect."""
        os.write(self._tried, f"{task.task_id} {task.idempotency_key}\n".encode())
        await asyncio.sleep(self._dice.uniform(0.02, 0.2))
        self._receiver.execute("INSERT OR IGNORE INTO effects VALUES (?)", (task.idempotency_key,))
        return f"did {task.payload}"

    async def settle_first(self, queue: TaskQueue) -> None:
        """Do tasks as one may not."""
        while True:
            task = await queue.dequeue(timeout=None)
            assert task is not None
            await queue.complete_task(task, f"did {task.payload}")
            await self.work(task)


async def serve(options: Options) -> None:
    """Work until the kill."""
    store = open_named(options.store)
    await store.start()
    worker, queue = Worker(Path(options.folder)), queue_of(store)
    if options.settles_first:
        await asyncio.gather(*(worker.settle_first(queue) for _ in range(10)))
    async with queue.worker(worker.work, concurrency=10):
        await asyncio.Event().wait()


def main(options: dict[str, Any]) -> None:
    """Be a worker."""
    asyncio.run(serve(msgspec.convert(options, Options)))
