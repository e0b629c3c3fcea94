"""PgQueuer over asyncpg: fifty tasks claimed at once, a hundred at one time, acknowledged in batches."""
# pyright: reportMissingImports=false

from __future__ import annotations

from datetime import timedelta

import asyncpg
from pgqueuer import Job, PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from bench.programs.queueing import SERVER, done


class Queue:
    """PgQueuer."""

    def __init__(self) -> None:
        self._connection: asyncpg.Connection | None = None

    async def put(self, count: int) -> None:
        """Put in tasks, a thousand at a time."""
        queries = await self._open()
        for _ in range(0, count, 1000):
            await queries.enqueue(["note"] * 1000, [b"0.0"] * 1000, [0] * 1000)

    async def send(self, sent_at: float) -> None:
        """Put in one."""
        await (await self._open()).enqueue("note", repr(sent_at).encode())

    async def work(self) -> None:
        """Do tasks until killed."""
        await self._open()
        queue = PgQueuer(AsyncpgDriver(self._connection))

        @queue.entrypoint("note")
        async def _(job: Job) -> None:
            done(float(job.payload or b"0"))

        await queue.run(batch_size=50, max_concurrent_tasks=100, dequeue_timeout=timedelta(seconds=5))

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def _open(self) -> Queries:
        if self._connection is None:
            self._connection = await asyncpg.connect(SERVER)
            queries = Queries(AsyncpgDriver(self._connection))
            if not await queries.has_table("pgqueuer"):
                await queries.install()
        return Queries(AsyncpgDriver(self._connection))
