"""Stores over a Redis server, each with keys of its own."""

import os
from functools import partial
from itertools import count
from urllib.parse import quote

from redis.asyncio import Redis

from reprise.stores.redis import RedisStore
from reprise.testing.suites import Keeper, until

_numbers = count()


class RedisKeeper(Keeper):
    """Stores whose keys begin with a word of their own."""

    short = 0.3
    exact_time = False

    def __init__(self, url: str) -> None:
        super().__init__()
        self.server_url = url
        self.prefix = f"test{os.getpid()}_{next(_numbers)}"
        self.factory = partial(RedisStore, url, prefix=self.prefix)

    async def ask(self, *command):
        """Ask the server beside our own code."""
        async with Redis.from_url(self.server_url, protocol=3) as client:
            return await client.execute_command(*command)

    async def pass_time(self, seconds: float) -> None:
        """Wait until the server's clock has gone on."""

        async def now() -> int:
            second, micro = await self.ask("TIME")
            return int(second) * 1_000_000 + int(micro)

        end = await now() + round(seconds * 1_000_000)

        async def passed() -> bool:
            return await now() > end

        await until(passed, "time passes")

    async def waiting(self, name: str) -> int:
        """Count who stands in line."""
        return await self.ask("LLEN", f"{self.prefix}:1:lease:{{{quote(name, safe='')}}}:line")
