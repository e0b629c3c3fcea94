"""The log's port over one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from reprise.kernel.events import Record
from reprise.stores.conditions import NO_STREAM
from reprise.stores.log import Append, Head
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.ledger import SQL
from reprise.stores.sqlite.readers import Readers
from reprise.stores.sqlite.rows import check_row, missing_records, to_record
from reprise.stores.sqlite.writer import Transaction, Writer

EVERYTHING = -1
"""SQLite's LIMIT for no limit."""


class SQLiteLog:
    """One append-only log of many streams in one file."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    def submit(self, appends: Sequence[Append]) -> None:
        """Hand appends over; ``done`` of each is called on the loop when it is durable or refused."""
        self._writer.put(appends)

    def settle(self, appends: Sequence[Append], alone: Callable[[], bool]) -> None:
        """Hand appends over; one that is alone is written, and answered, before this returns if the disk is fast."""
        if len(appends) > 1 or not self._writer.write_here(appends[0], alone):
            self._writer.put(appends)

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """Return a stream's records with version > ``after``, in order.

        Raises ``StoreCorrupt`` when a row's checksum or the stream's count of rows is wrong.
        """
        return await self._readers.read(lambda connection: _read(connection, stream, after, limit))

    async def scan(self, after: int = 0, limit: int = 1000, prefix: str = "") -> list[Record]:
        """Return records of all streams (whose name starts with ``prefix``) with position > ``after``, in order.

        Raises ``StoreCorrupt`` when the checksum of a row is wrong, or of the row of its stream, or that one is gone.
        """
        return await self._readers.read(lambda connection: _scan(connection, after, limit, prefix))

    async def head(self, stream: str) -> Head:
        """Return the end of a stream."""
        return await self._readers.read(lambda connection: _head(connection, stream))

    async def end(self) -> int:
        """Return the highest position given so far, 0 in an empty log; also after ``drop``."""
        return await self._readers.read(lambda connection: connection.execute(SQL["ends"]).fetchone()[0])

    async def lookup(self, stream: str, append: int) -> int | None:
        """Return the version of the first record that append wrote in that stream, None if it wrote none."""
        return await self._readers.read(lambda connection: _lookup(connection, stream, append))

    async def trim(self, stream: str, through: int) -> int:
        """Delete a stream's records up to version ``through``, but never its newest; return how many went.

        A thousand per commit. Should the process die in between, the stream was trimmed by so much less.
        """
        gone = 0
        while some := await self._writer.submit(lambda transaction: transaction.ledger.trim(stream, through)):
            gone += some
        return gone

    async def drop(self, *streams: str) -> int:
        """Delete streams and their entries in the run index; return how many records went. Positions stay used up.

        The streams are gone at once; their records are deleted by a thousand per commit. Should the process die before
        the last of them, the next start deletes the rest.
        """

        def hide(transaction: Transaction) -> list[tuple[int, int]]:
            return [transaction.ledger.hide(stream) for stream in dict.fromkeys(streams)]

        hidden = await self._writer.submit(hide)
        await self._clear([id for id, _ in hidden if id])
        return sum(count for _, count in hidden)

    async def clear_dropped(self) -> None:
        """Delete what is left of streams whose drop was interrupted."""
        rows = await self._readers.read(
            lambda connection: connection.execute(SQL["hidden_streams"]).fetchall()
        )
        await self._clear([id for (id,) in rows])

    async def _clear(self, hidden: Sequence[int]) -> None:
        while hidden:
            hidden = await self._writer.submit(partial(_clear_some, hidden))


def _clear_some(hidden: Sequence[int], transaction: Transaction) -> Sequence[int]:
    return transaction.ledger.clear_hidden(hidden)


def _read(connection: Connection, stream: str, after: int, limit: int | None) -> list[Record]:
    parameters = {"name": stream, "after": after, "limit": EVERYTHING if limit is None else limit}
    rows = connection.execute(SQL["read"], parameters).fetchall()
    if not rows:
        return []
    id, kept, token, closed, crc, through, trim_crc = rows[0][:7]
    check_row("streams", stream, (id, stream, kept, token, closed, crc))
    if through is not None:
        check_row("trims", stream, (id, through, trim_crc))
        after = max(after, through)
    records = [to_record(stream, row[7:]) for row in rows if row[7] is not None]
    expected = after + 1
    for record in records:
        if record.version != expected:
            raise missing_records(stream, record.version, expected)
        expected += 1
    at_end = limit is None or len(records) < limit
    if at_end and expected <= kept:
        raise missing_records(stream, 0, expected)
    return records


def _scan(connection: Connection, after: int, limit: int, prefix: str) -> list[Record]:
    parameters = {"after": after, "limit": limit, "prefix": prefix}
    rows = connection.execute(SQL["scan"], parameters).fetchall()
    sound: set[int] = set()
    for row in rows:
        if row[0] not in sound:  # whose records they are says only the name in the row of the stream
            check_row("streams", row[1] or f"stream {row[7]}", row[:6])
            sound.add(row[0])
    return [to_record(row[1], row[6:]) for row in rows]


def _head(connection: Connection, stream: str) -> Head:
    text, _, _ = next(iter(SQL.many("heads", 1)))
    row = connection.execute(text, (stream,)).fetchone()
    if row is None:
        return NO_STREAM
    check_row("streams", stream, row[:-1])
    _, _, kept, token, closed, _, version = row
    if (version or 0) < kept:
        raise missing_records(stream, version or 0, kept)
    return Head(version, token, bool(closed))


def _lookup(connection: Connection, stream: str, append: int) -> int | None:
    row = connection.execute(SQL["lookup"], (stream, append)).fetchone()
    return None if row is None else row[0]
