"""Coroutines that each put in one task at a time: `enqueueing.py URL TASKS` prints ours, then one command per call, per second."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from time import perf_counter

import msgspec
from redis.asyncio import Redis

from reprise import Task, TaskQueue

COROUTINES = 50
ONE = "if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 1 then redis.call('LPUSH', KEYS[2], ARGV[1]) end"


async def rate(tasks: int, put: Callable[[], Awaitable[object]]) -> float:
    """Return how many are put in within a second."""

    async def one() -> None:
        for _ in range(tasks // COROUTINES):
            await put()

    await asyncio.gather(*(one() for _ in range(COROUTINES)))
    began = perf_counter()
    await asyncio.gather(*(one() for _ in range(COROUTINES)))
    return tasks / (perf_counter() - began)


async def main(url: str, tasks: int) -> None:
    """Measure both."""
    async with TaskQueue(url, "single") as queue:
        ours = await rate(tasks, lambda: queue.enqueue(Task(task_type="note", payload={"sent_at": 0.0})))
    client = Redis.from_url(url, max_connections=2 * COROUTINES)
    name, numbers = await client.script_load(ONE), count()

    async def put() -> None:
        body = msgspec.msgpack.encode({"type": "note", "payload": {"sent_at": 0.0}})
        await client.evalsha(name, 2, "single:body", "single:line", f"task-{next(numbers)}", body)

    theirs = await rate(tasks // 5, put)
    await client.aclose()
    print(ours, theirs)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
