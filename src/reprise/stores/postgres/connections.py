"""Connections: lent one at a time, made again when they break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from reprise.kernel.errors import StoreClosed, StoreError
from reprise.stores.postgres import driver
from reprise.stores.postgres.driver import Connection

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds between two attempts to reach the server."""


class Target:
    """Where the server is, and as what we come; ``patience`` seconds are tried before we give up."""

    def __init__(self, dsn: str, schema: str, url: str, patience: float) -> None:
        self.dsn, self.schema, self.url, self.patience = dsn, schema, url, patience
        self._settings = {
            "search_path": f'"{schema}"',
            "application_name": dict(parse_qsl(urlsplit(dsn).query)).get("application_name", "reprise"),
            "default_transaction_isolation": "read committed",
            # A process that is stopped inside a transaction must not keep the others from the log.
            "idle_in_transaction_session_timeout": "5s",
        }

    async def connect(self, **settings: str) -> Connection:
        """Make a connection; tries once. More ``settings`` of the server stand over its own, which are still the default."""
        return await driver.connect(self.dsn, self._settings, self.patience, settings)

    def attempts(self) -> Attempts:
        """Return attempts that begin now."""
        return Attempts(self)


class Attempts:
    """Pauses that grow between attempts, and the moment at which they end."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._pauses = pauses()
        self._until = asyncio.get_running_loop().time() + target.patience

    async def pause(self, error: BaseException) -> None:
        """Wait before the next attempt; raises what ``error`` means when it is no use or time is up."""
        hopeless = not (driver.is_lost(error) or driver.is_worth_another_try(error))
        if hopeless or asyncio.get_running_loop().time() >= self._until:
            raise driver.translate(error, self._target.url) from error
        await asyncio.sleep(next(self._pauses))


def pauses() -> Iterator[float]:
    """Yield seconds to wait before each attempt: longer and longer, up to a limit."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)


class Pool:
    """At most ``size`` connections, the last used first; ``settings`` of the server are for these alone."""

    def __init__(self, target: Target, size: int, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        self._target = target
        self._settings = settings
        self._room = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self.closed = False

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do work that may be done twice, on a connection; again if that breaks.

        Raises ``StoreUnreachable`` when ``patience`` seconds did not help, and ``StoreClosed``.
        """
        attempts = self._target.attempts()
        while True:
            try:
                async with self.lend() as connection:
                    return await work(connection)
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001  told apart by what it means
                await attempts.pause(error)

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[Connection]:
        """Lend a connection; it is ended when what is done with it fails."""
        async with self._room:
            if self.closed:
                raise closed(self._target)
            connection = self._idle.pop() if self._idle else await self._target.connect(**self._settings)
            try:
                yield connection
            except BaseException:
                # Whatever it was, the next borrower shall not inherit it.
                connection.terminate()
                raise
            if self.closed:
                await connection.close()
            elif not connection.is_closed():
                self._idle.append(connection)

    async def close(self) -> None:
        """Close what is idle, and the rest when it comes back."""
        self.closed = True
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                await connection.close()


def closed(target: Target) -> StoreClosed:
    """Return the error for the use of a store that is not open."""
    return StoreClosed(f"The store {target.url} is not open.", hint="Call start() first.")
