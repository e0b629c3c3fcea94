"""The log in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from reprise.kernel.events import Record
from reprise.stores.conditions import NO_STREAM
from reprise.stores.log import Append, Head
from reprise.stores.postgres.connections import Pool
from reprise.stores.postgres.rows import to_record, to_stream
from reprise.stores.postgres.writer import SQL, Writer

RECORDS_PER_TRIM = 1000
"""Records that one statement trims, so that nobody waits long for the stream."""


class PostgresLog:
    """One append-only log of many streams in one schema.

    Reads are single statements on connections of their own; they see what is committed and wait for nobody.
    """

    def __init__(self, pool: Pool, writer: Writer) -> None:
        self._pool = pool
        self._writer = writer

    def submit(self, appends: Sequence[Append]) -> None:
        """Hand appends over; ``done`` of each is called on the loop when it is durable or refused."""
        self._writer.submit(appends)

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """Return a stream's records with version > ``after``, in order.

        Raises ``StoreCorrupt`` when a row's checksum or the stream's count of rows is wrong.
        """
        rows = await self._pool.run(lambda c: c.fetch(SQL["read"], stream, after, limit))
        return to_stream(stream, list(rows), after, limit)

    async def scan(self, after: int = 0, limit: int = 1000, prefix: str = "") -> list[Record]:
        """Return records of all streams (whose name starts with ``prefix``) with position > ``after``, in order.

        Raises ``StoreCorrupt`` when a row's checksum is wrong.
        """
        if prefix:
            rows = await self._pool.run(lambda c: c.fetch(SQL["scan_prefix"], after, limit, prefix))
        else:
            rows = await self._pool.run(lambda c: c.fetch(SQL["scan"], after, limit))
        return [to_record(row["name"], row) for row in rows]

    async def head(self, stream: str) -> Head:
        """Return the end of a stream."""
        rows = await self._pool.run(lambda c: c.fetch(SQL["heads"], [stream]))
        return Head(rows[0]["version"], rows[0]["token"], rows[0]["closed"]) if rows else NO_STREAM

    async def end(self) -> int:
        """Return the highest position given so far, 0 in an empty log; also after ``drop``."""
        return await self._pool.run(lambda c: c.fetchval(SQL["end"]))

    async def lookup(self, stream: str, append: int) -> int | None:
        """Return the version of the first record that append wrote in that stream, None if it wrote none."""
        return await self._pool.run(lambda c: c.fetchval(SQL["lookup"], stream, append))

    async def trim(self, stream: str, through: int) -> int:
        """Delete a stream's records up to version ``through``, but never its newest; return how many went.

        A thousand per commit. Should the process die in between, the stream was trimmed by so much less.
        """
        gone = 0
        while some := await self._pool.run(
            lambda c: c.fetchval(SQL["trim"], stream, through, RECORDS_PER_TRIM)
        ):
            gone += some
        return gone

    async def drop(self, *streams: str) -> int:
        """Delete streams and their entries in the run index; return how many records went. Positions stay used up."""
        names = list(dict.fromkeys(streams))
        gone: int = await self._pool.run(lambda c: c.fetchval(SQL["drop"], names))
        self._writer.forget(names)
        return gone
