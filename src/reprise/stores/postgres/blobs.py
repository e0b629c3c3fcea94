"""Blobs in PostgreSQL; the writer's batches write them."""

from __future__ import annotations

from collections.abc import Sequence

from reprise.kernel.errors import StoreCorrupt
from reprise.stores.blobs import hash_of
from reprise.stores.postgres.connections import Pool
from reprise.stores.postgres.statements import statements

SQL = statements("blobs.sql")

PER_TURN = 100
"""Blobs that are looked at under one hold of the log's lock, so that nobody waits long for it."""


class PostgresBlobs:
    """The port of the blobs over one schema."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the blobs of these hashes; those that do not exist are left out.

        Raises ``StoreCorrupt`` when what is stored does not match its hash.
        """
        rows = await self._pool.run(lambda c: c.fetch(SQL["get"], list(hashes)))
        for row in rows:
            if hash_of(row["data"]) != row["hash"]:
                raise StoreCorrupt(
                    f"The blob {row['hash'].hex()[:16]} does not match its hash.",
                    hint="The table was changed outside of Reprise: restore a backup.",
                )
        return {row["hash"]: row["data"] for row in rows}

    async def collect(self, limit: int = 1000) -> int:
        """Delete up to ``limit`` blobs that no stream refers to; return how many."""
        gone, more = 0, True
        while more and gone < limit:
            most = min(PER_TURN, limit - gone)
            [row] = await self._pool.run(lambda c, most=most: c.fetch(SQL["collect"], most))
            gone += row["gone"]
            more = row["more"]
        return gone

    async def stats(self) -> dict[str, int]:
        """Return counts of blobs, bytes, references and blobs that may have none."""
        [row] = await self._pool.run(lambda c: c.fetch(SQL["stats"]))
        return dict(row)
