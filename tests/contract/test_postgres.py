"""The PostgreSQL keeper keeps every promise of the log and of the lease, on the oldest and the newest server at hand."""

from functools import partial
from itertools import count

import asyncpg
import pytest

from reprise.stores.postgres import PostgresStore
from reprise.testing.suites import ConcurrentLogSuite, Keeper, KeeperSuite, LeaseSuite, LogSuite, until

_numbers = count()


class PostgresKeeper(Keeper):
    """Stores over a schema of their own."""

    short = 0.1
    exact_time = False

    def __init__(self, url: str) -> None:
        super().__init__()
        self.dsn = url
        self.schema = f"test_{next(_numbers)}"
        self.factory = partial(PostgresStore, url, schema=self.schema, patience=10)

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


class InPostgres(KeeperSuite):
    """What the suites need to know."""

    examples = 8

    @pytest.fixture(autouse=True)
    def _server(self, postgres):
        self.server = postgres

    def make_keeper(self) -> PostgresKeeper:
        """Return a fresh schema."""
        return PostgresKeeper(self.server.url)


class TestLog(InPostgres, LogSuite, ConcurrentLogSuite): ...


class TestLease(InPostgres, LeaseSuite): ...
