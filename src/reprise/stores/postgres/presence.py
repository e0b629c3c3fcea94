"""Who is alive on any machine: a worker's connection holds a lock for it, which the server frees when that ends.

The locks are shared, so that a worker whose connection broke unnoticed can hold its own once more from the next one; who
wants to know whether anybody holds one tries to take it alone, for the length of a statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from reprise.stores.postgres.connections import Pool
from reprise.stores.postgres.statements import statements
from reprise.stores.postgres.taps import Taps

SQL = statements("taps.sql")

GRACE = 2.0
"""Seconds for which nobody must be seen to hold a worker's lock before it is taken for dead, and our own connection must
be there: when the server restarts everybody loses the locks, and comes back."""


class PostgresPresence:
    """The locks of one store's workers."""

    def __init__(self, pool: Pool, taps: Taps) -> None:
        self._pool = pool
        self._taps = taps
        self._missing: dict[str, float] = {}
        """Since when (by the loop's time) nobody was seen to hold the worker's lock."""

    async def enter(self, worker: str) -> None:
        """Hold the lock of ``worker`` until :meth:`leave`, or the end of the process; idempotent."""
        await self._taps.hold(worker)

    async def leave(self, worker: str) -> None:
        """Let the lock go."""
        await self._taps.let_go(worker)

    async def died(self, workers: Collection[str]) -> set[str]:
        """Return those of ``workers`` whose lock nobody has held for a while."""
        if not workers:
            self._missing.clear()
            return set()
        rows = await self._pool.run(lambda c: c.fetch(SQL["missing"], list(workers)))
        now, connected = asyncio.get_running_loop().time(), self._taps.connected_at
        if connected is None:
            self._missing.clear()
            return set()
        self._missing = {row["worker"]: self._missing.get(row["worker"], now) for row in rows}
        return {worker for worker, since in self._missing.items() if now - max(since, connected) >= GRACE}

    async def forget(self, worker: str) -> None:
        """Do nothing: a lock leaves nothing behind."""

    async def seen(self) -> Sequence[str]:
        """Return nobody: the server lists locks by numbers."""
        return ()
