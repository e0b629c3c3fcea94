"""A worker of a queue, forked by the nursery: each task has one effect, at a receiver that knows its idempotency key.

Beside it, in the same process and under the same kills, two controls: each effect also goes to a receiver that knows no
keys, and tasks of a second queue are said to be done before they are.
"""

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
from reprise.stores.store import Store

TRIED, EFFECTS, KEYLESS = "tried", "effects.db", "keyless"
EARLY = "early"
"""Queue of the control that settles before the work."""
LANES = 5
"""Its tasks that are done at one time."""


class Options(msgspec.Struct):
    """What a worker is told."""

    folder: str
    store: str


def make_receiver(folder: Path) -> None:
    """Make what notes effects, each key once."""
    with sqlite3.connect(folder / EFFECTS) as file:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("CREATE TABLE effects (key TEXT PRIMARY KEY)")
    for name in (TRIED, KEYLESS):
        (folder / name).touch()


def queue_of(store: Store, name: str = "work") -> TaskQueue:
    """Return a queue of the test, whose claims end soon."""
    return TaskQueue(store, name, visibility_timeout=1.0)


class Worker:
    """Does tasks and writes down each try."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._tried, self._keyless = (os.open(folder / name, flags, 0o600) for name in (TRIED, KEYLESS))
        self._receiver = sqlite3.connect(folder / EFFECTS, timeout=30, isolation_level=None)
        self._receiver.execute("PRAGMA synchronous = OFF")
        self._dice = seeded(b"%d" % os.getpid())

    async def work(self, task: Task) -> str:
        """Take a moment, have the effect, take another: a kill comes before it or after it."""
        os.write(self._tried, f"{task.task_id} {os.getpid()}\n".encode())
        await asyncio.sleep(self._dice.uniform(0.01, 0.1))
        os.write(self._keyless, f"{task.task_id}\n".encode())
        self._receiver.execute("INSERT OR IGNORE INTO effects VALUES (?)", (task.idempotency_key,))
        await asyncio.sleep(self._dice.uniform(0.01, 0.1))
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
    worker, early = Worker(Path(options.folder)), queue_of(store, EARLY)
    async with queue_of(store).worker(worker.work, concurrency=10):
        await asyncio.gather(*(worker.settle_first(early) for _ in range(LANES)))


def main(options: dict[str, Any]) -> None:
    """Be a worker."""
    asyncio.run(serve(msgspec.convert(options, Options)))
