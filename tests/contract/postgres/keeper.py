"""Stores over fresh schemas of a PostgreSQL server."""

import os
from functools import partial
from itertools import count

import asyncpg

from reprise.stores.postgres import PostgresStore
from reprise.testing.suites import Keeper, until

_numbers = count()

KILL = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'reprise'"
"""Break every connection of a store."""


class PostgresKeeper(Keeper):
    """Stores over a schema of their own."""

    short = 0.1
    exact_time = False

    def __init__(self, url: str) -> None:
        super().__init__()
        self.dsn = url
        self.schema = f"test_{os.getpid()}_{next(_numbers)}"
        self.factory = partial(PostgresStore, url, schema=self.schema, patience=30)

    async def connect(self) -> asyncpg.Connection:
        """Return a connection that sees the tables."""
        return await asyncpg.connect(self.dsn, server_settings={"search_path": self.schema})

    async def ask(self, query: str, *arguments):
        connection = await self.connect()
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    async def pass_time(self, seconds: float) -> None:
        """Wait until the server's clock has gone on."""
        end = await self.ask("SELECT now_us()") + round(seconds * 1_000_000)

        async def passed() -> bool:
            return await self.ask("SELECT now_us()") > end

        await until(passed, "time passes")

    async def waiting(self, name: str) -> int:
        """Count tickets."""
        return await self.ask("SELECT count(*) FROM lease_tickets WHERE name = $1", name)

    async def close(self) -> None:
        """Stop, and drop the schema."""
        await super().close()
        await self.ask(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
