"""Reads of one key a second: `reading.py URL READS` prints ours, then redis-py's that are cached, then its that are not.

redis-py caches in its synchronous client only, and refuses servers older than 7.4 for it; what it needs of a server is in
older ones, too, so that check is left out where the server is older.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from redis import Redis, connection
from redis.cache import CacheConfig

from reprise import StateSync

KEY = "greeting"


async def ours(url: str, reads: int) -> float:
    """Return how often our copy was read within a second."""
    async with StateSync(url, "bench-reads") as state:
        await state.set(KEY, "hello")
        for _ in range(reads // 10):
            await state.get(KEY)
        began = perf_counter()
        for _ in range(reads):
            await state.get(KEY)
        return reads / (perf_counter() - began)


def theirs(client: Any, reads: int) -> float:
    """Return how often a client read within a second."""
    client.set(KEY, "hello")
    get: Callable[[str], Any] = client.get
    for _ in range(reads // 10):
        get(KEY)
    began = perf_counter()
    for _ in range(reads):
        get(KEY)
    return reads / (perf_counter() - began)


def main(url: str, reads: int) -> None:
    """Measure all three."""
    known: Any = connection.CacheProxyConnection
    known.MIN_ALLOWED_VERSION = "6.0.0"
    print(
        asyncio.run(ours(url, reads)),
        theirs(Redis.from_url(url, protocol=3, cache_config=CacheConfig()), reads // 50),
        theirs(Redis.from_url(url, protocol=3), reads // 200),
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
