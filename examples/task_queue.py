"""Orders are packed by workers of which one is killed in the middle: nothing is lost, and nobody is charged twice.

    python examples/task_queue.py

Everything is in one SQLite file; give another store to use a server: python examples/task_queue.py postgresql://…
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
from pathlib import Path

from reprise import Limit, Task, TaskQueue

ORDERS = 40


class Till:
    """A receiver that honours idempotency keys: each key is charged once, however often it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def charge(self, key: str) -> bool:
        """Charge, unless that was done before."""
        try:
            (self.folder / key).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def count(self) -> int:
        """Return how many were charged."""
        return len(list(self.folder.iterdir()))


def queue_of(store: str) -> TaskQueue:
    """Return the queue. Claims end after a second without news of their worker; the till takes 200 a second."""
    return TaskQueue(store, "orders", visibility_timeout=1, limits={"charge": Limit(rate=(200, 1))})


async def work(store: str, folder: Path) -> None:
    """Serve until killed, or until the queue is stopped from outside."""
    till = Till(folder)

    async def pack(task: Task) -> str:
        await asyncio.sleep(0.05)
        return f"order {task.payload} is packed"

    def charge(task: Task) -> str:
        return "charged" if till.charge(task.idempotency_key) else "was charged before"

    async with queue_of(store) as queue:
        await queue.worker({"pack": pack, "charge": charge}, concurrency=4).run()


def worker(store: str, folder: Path) -> None:
    """Be a worker process."""
    asyncio.run(work(store, folder))


async def main(store: str, folder: Path) -> None:
    """Put orders in, kill a worker while they are done, and wait for all of them."""
    processes = multiprocessing.get_context("spawn")
    async with queue_of(store) as queue:
        packing = await queue.enqueue([Task(task_type="pack", payload=n) for n in range(ORDERS)])
        charging = await queue.enqueue(
            [Task(task_id=f"charge-{n}", task_type="charge", priority="high") for n in range(ORDERS)]
        )
        workers = [processes.Process(target=worker, args=(store, folder), daemon=True) for _ in range(3)]
        for each in workers:
            each.start()
        await queue.result(packing[2])
        workers[0].kill()
        print("killed one of three workers")
        for id in (*packing, *charging):
            await queue.result(id)
        stats = await queue.get_queue_stats()
        charged = Till(folder).count()
        print(f"{stats.completed} done, {stats.dead} given up, {charged} of {ORDERS} charged")
        for each in workers:
            each.terminate()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        given = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{place}/orders.db"
        till = Path(place) / "till"
        till.mkdir()
        asyncio.run(main(given, till))
