"""A caller's own work in the commit of an append, on a connection of its own.

The work's statements come first and the log's last, because the log's lock is everybody's: it is held from the one
statement that writes the batch until the end of the commit, whatever the work took.

A connection that breaks in the commit leaves its outcome unknown. Then the log's lock is taken on another one: the lost
transaction had it, so it has ended by then, and its append is there or never will be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from reprise.kernel.errors import ConfigurationError, NoRoom, OutcomeUnknown, StoreError
from reprise.stores.log import Append
from reprise.stores.postgres import driver
from reprise.stores.postgres.batch import Batch, names_of
from reprise.stores.postgres.connections import Pool, Target
from reprise.stores.postgres.driver import Connection
from reprise.stores.postgres.lending import Lent, refused
from reprise.stores.postgres.queue import offer
from reprise.stores.postgres.writer import COLLISIONS, SQL, Writer, base_of, read_heads, send
from reprise.stores.transactions import WorkFailed, WorkTooLong, Writes

CONNECTIONS = 8
"""Transactions at once; their connections are made when they are needed."""

PAUSE = 10.0
"""Seconds, beyond those that the work may take, after which the server ends a transaction that says nothing more."""


class PostgresTransactions:
    """The port of the transactions over one schema."""

    is_sync = False

    def __init__(self, target: Target, pool: Pool, writer: Writer) -> None:
        self._target, self._pool, self._writer = target, pool, writer
        # Of the pool's size, and kept until the end: who needs a connection anew must not wait for those who may wait
        # for him.
        self._room = asyncio.Semaphore(CONNECTIONS)

    async def commit(
        self,
        id: int,
        work: Callable[[Any], Awaitable[Any]],
        finish: Callable[[], Awaitable[Writes]],
        seconds: float,
    ) -> Append:
        """Do work with a connection of asyncpg, then write what ``finish`` returns, in one commit.

        It may be cancelled until ``finish`` has returned. When a connection breaks, everything is done again on another
        one, as long as the store's ``patience`` lasts.

        Raises ``WorkFailed``; ``AppendRefused`` or another ``StoreError``: nothing was written; ``OutcomeUnknown``.
        """
        async with self._room:
            return await self._commit(id, work, finish, seconds)

    async def _commit(
        self,
        id: int,
        work: Callable[[Any], Awaitable[Any]],
        finish: Callable[[], Awaitable[Writes]],
        seconds: float,
    ) -> Append:
        attempts = self._target.attempts()
        while True:
            one = _Transaction(self._target, id, work, finish, seconds)
            try:
                async with self._pool.lend() as connection:
                    await one.execute(connection)
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001  told apart by what it means
                self._writer.counters["connections_lost"] += 1
                if one.batch is None or not await self._was_committed(one, error):
                    await attempts.pause(error)
                    continue
            if one.failure is not None:
                raise one.failure
            assert one.batch is not None
            self._writer.finish(one.batch, one.base)
            return one.append

    async def _was_committed(self, one: _Transaction, error: Exception) -> bool:
        """Find out what became of a commit whose connection broke."""
        assert one.batch is not None
        attempts = self._target.attempts()
        while one.batch.marks:
            try:
                async with self._pool.lend() as connection, connection.transaction():
                    await connection.execute(SQL["lock"])
                    base = await base_of(connection, one.batch, {})
            except Exception as again:  # noqa: BLE001  told apart by what it means
                with suppress(StoreError):
                    await attempts.pause(again)
                    continue
                break
            if base is not None:
                self._writer.counters["outcomes_found"] += 1
                one.base = base
            return base is not None
        raise OutcomeUnknown(
            f"The store {self._target.url} was lost during a commit ({error!r}).",
            hint="Ask lookup() when it is back.",
        ) from error


class _Transaction:
    """One attempt on one connection."""

    def __init__(
        self,
        target: Target,
        id: int,
        work: Callable[[Any], Awaitable[Any]],
        finish: Callable[[], Awaitable[Writes]],
        seconds: float,
    ) -> None:
        self._target, self._work, self._finish, self._seconds = target, work, finish, seconds
        self.append = Append(id, ())
        self.batch: Batch | None = None
        """What was written when the commit was asked for; None before that."""
        self.base = 0
        self.failure: StoreError | None = None
        """Why nothing was written, on a connection that is as good as before."""

    async def execute(self, connection: Connection) -> None:
        """Do it; raises what broke the connection."""
        transaction = connection.transaction()
        await transaction.start()
        try:
            writes = await self._do(connection)
            batch = await self._write(connection, writes)
        except StoreError as error:
            if connection.is_closed():
                raise ConnectionResetError(str(error)) from error
            self.failure = error
            await transaction.rollback()
        except asyncio.CancelledError:
            # The server would go on with a statement, and keep its rows, if only the connection were ended.
            with suppress(Exception):
                async with asyncio.timeout(PAUSE):
                    await transaction.rollback()
            raise
        else:
            self.batch = batch
            await transaction.commit()
        await _set_back(connection)

    async def _do(self, connection: Connection) -> Writes:
        """Do the work; raises ``WorkFailed``."""
        patience = f"{round((self._seconds + PAUSE) * 1000)}ms"
        number = await connection.fetchval(SQL["open_work"], patience)
        lent, limit = Lent(connection), asyncio.timeout(self._seconds)
        try:
            async with limit:
                await self._work(lent)
            await self._close_work(connection, number)
            return await self._finish()
        except TimeoutError as error:
            if limit.expired():
                raise WorkTooLong(f"Work in a transaction took longer than {self._seconds:g} s.") from error
            raise _failed(error) from error
        except Exception as error:
            raise _failed(error) from error
        finally:
            lent.give_back()

    async def _close_work(self, connection: Connection, number: int) -> None:
        await connection.execute(SQL["check_now"])
        (now,) = await connection.fetch(SQL["close_work"], self._target.schema)
        if now["only_reads"]:
            raise refused("make its transaction one that only reads")
        if now["number"] != number:
            raise ConfigurationError(
                "A step in the log's transaction ended that transaction. What it had written stays; nothing is recorded.",
                hint="Leave COMMIT and ROLLBACK to Reprise; use connection.transaction() for savepoints.",
            )

    async def _write(self, connection: Connection, writes: Writes) -> Batch:
        """Write the append and the tasks; raises ``AppendRefused``."""
        if writes.tasks:
            await offer(connection, writes.tasks)
        self.append.groups = writes.groups
        appends = [self.append]
        crowded: dict[int, NoRoom] = {}
        for collisions in range(COLLISIONS + 1):
            if collisions == COLLISIONS:
                await connection.execute(SQL["lock"])
            heads = await read_heads(connection, names_of(appends))
            batch = Batch(appends, heads)
            (verdict,) = batch.verdicts
            if verdict.error is not None:
                raise verdict.error
            base = await send(connection, batch, crowded)
            if crowded:
                raise crowded[0]
            if base is not None:
                self.base = base
                return batch
        raise AssertionError("under the lock nobody else can be faster")


def _failed(error: Exception) -> WorkFailed:
    return WorkFailed(f"Work in a transaction failed with {error!r}.")


async def _set_back(connection: Connection) -> None:
    """Let the next one find the connection as the first one did; one that cannot be is ended."""
    try:
        await connection.reset()
    except Exception as error:  # noqa: BLE001  the commit is what counts, and that is done
        if not driver.is_lost(error):
            connection.terminate()
