"""The port of the blobs over one SQLite file; appends write them."""

from __future__ import annotations

from collections.abc import Sequence

from reprise.kernel.errors import StoreCorrupt
from reprise.stores.blobs import hash_of
from reprise.stores.sqlite.blob_rows import SQL
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.readers import Readers
from reprise.stores.sqlite.writer import Writer

PER_TURN = 100
"""Blobs that one job looks at, so that nobody waits long for a turn."""


class SQLiteBlobs:
    """The port of the blobs over one SQLite file."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def get(self, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the blobs of these hashes; those that do not exist are left out.

        Raises ``StoreCorrupt`` when what is stored does not match its hash.
        """
        return await self._readers.read(lambda connection: _get(connection, hashes))

    async def collect(self, limit: int = 1000) -> int:
        """Delete up to ``limit`` blobs that no stream refers to; return how many."""
        gone, more = 0, True
        while more and gone < limit:
            most = min(PER_TURN, limit - gone)
            number, more = await self._writer.submit(
                lambda transaction, most=most: transaction.ledger.blobs.collect(most)
            )
            gone += number
        return gone

    async def stats(self) -> dict[str, int]:
        """Return counts of blobs, bytes, references and blobs that may have none."""
        row = await self._readers.read(lambda connection: connection.execute(SQL["stats"]).fetchone())
        return dict(zip(("blobs", "bytes", "references", "loose"), row, strict=True))


def _get(connection: Connection, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for text, first, last in SQL.many("get", len(hashes)):
        for hash, data in connection.execute(text, hashes[first:last]).fetchall():
            if hash_of(data) != hash:
                raise StoreCorrupt(
                    f"The blob {hash.hex()[:16]} does not match its hash.",
                    hint="The file was damaged outside of Reprise: restore a backup.",
                )
            found[hash] = data
    return found
