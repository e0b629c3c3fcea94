"""Contenders for one lock in one process: `contending.py WHOSE URL CONTENDERS TIMES`, prints what they measured as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from time import perf_counter, sleep
from typing import Any

TTL = 10


class Seen:
    """What contenders saw."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.seconds = 0.0
        """For how long they contended."""
        self.inside = 0
        self.met = 0
        """How often two were inside at one time."""

    def enter(self, asked_at: float) -> None:
        """Note that somebody is inside."""
        self.waits.append(perf_counter() - asked_at)
        self.inside += 1
        self.met += self.inside > 1

    def leave(self) -> None:
        """Note that it is not any more."""
        self.inside -= 1


async def contend(contenders: int, times: int, lock: Callable[[], AbstractAsyncContextManager[Any]]) -> Seen:
    """Let coroutines take the lock in turn, each again as soon as it has given it back."""
    seen = Seen()

    async def one() -> None:
        for _ in range(times):
            asked_at = perf_counter()
            async with lock():
                seen.enter(asked_at)
                await asyncio.sleep(0)
                seen.leave()

    began = perf_counter()
    await asyncio.gather(*(one() for _ in range(contenders)))
    seen.seconds = perf_counter() - began
    return seen


async def reprise(url: str, contenders: int, times: int) -> Seen:
    """Contend for a lock of ours: a token for each, renewed, its body cancelled when it is lost."""
    manager: Any = import_module("reprise").LockManager(url)
    async with manager:
        async with manager.lock("warm", ttl=TTL):
            pass
        return await contend(contenders, times, lambda: manager.lock("bench", ttl=TTL, timeout=60))


async def redis_py(url: str, contenders: int, times: int) -> Seen:
    """Contend for a lock of redis-py as it comes: asks again every 0.1 s."""
    client: Any = import_module("redis.asyncio").Redis.from_url(url, max_connections=4 * contenders)
    await client.ping()
    seen = await contend(contenders, times, lambda: client.lock("bench", timeout=TTL))
    await client.aclose()
    return seen


def python_redis_lock(url: str, contenders: int, times: int) -> Seen:
    """Contend in threads for a lock of python-redis-lock, which wakes one who waits."""
    client: Any = import_module("redis").Redis.from_url(url, max_connections=4 * contenders)
    client.ping()
    made: Any = import_module("redis_lock").Lock
    seen = Seen()

    def one() -> None:
        for _ in range(times):
            asked_at, lock = perf_counter(), made(client, "bench", expire=TTL)
            with lock:
                seen.enter(asked_at)
                sleep(0)
                seen.leave()

    threads = [threading.Thread(target=one) for _ in range(contenders)]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen.seconds = perf_counter() - began
    return seen


WHOSE: dict[str, Callable[[str, int, int], Awaitable[Seen] | Seen]] = {
    "reprise": reprise,
    "redis-py": redis_py,
    "python-redis-lock": python_redis_lock,
}


async def main(whose: str, url: str, contenders: str, times: str) -> None:
    """Let them contend, and print what they saw."""
    doing = WHOSE[whose](url, int(contenders), int(times))
    seen = doing if isinstance(doing, Seen) else await doing
    waits = sorted(seen.waits)
    print(
        json.dumps({
            "rate": len(waits) / seen.seconds,
            "p50": waits[len(waits) // 2] * 1e3,
            "p99": waits[int(len(waits) * 0.99)] * 1e3,
            "longest": waits[-1] * 1e3,
            "met": seen.met,
        })
    )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
