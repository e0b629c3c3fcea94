"""What is written in a row of ``records``, and whether it is still what was written."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import msgspec

from reprise.kernel.errors import StoreCorrupt
from reprise.kernel.events import Event, Record
from reprise.stores.postgres.driver import Row

_pack = msgspec.msgpack.Encoder().encode


def checksum(*columns: Any) -> int:
    """Return the CRC-32 of a row's columns without the position.

    The position is given by the server, after the writer computed this; there it is folded in by an exclusive or of
    its low 32 bits, which notices a changed position as well as a checksum over it would.
    """
    return crc32(_pack(columns))


def event_checksum(stream: str, version: int, event: Event, append: int) -> int:
    """Return the checksum of an event in its place."""
    return checksum(
        stream, version, event.kind, event.at, event.key, event.data, event.print, event.took, append
    )


def to_record(stream: str, row: Row) -> Record:
    """Return a row as a record; raises ``StoreCorrupt`` when its checksum is wrong."""
    position, version, kind, at = row["position"], row["version"], row["kind"], row["at"]
    key, data, print_, took, append = row["key"], row["data"], row["print"], row["took"], row["append"]
    expected = checksum(stream, version, kind, at, key, data, print_, took, append) ^ (position & 0xFFFFFFFF)
    if row["checksum"] != expected:
        raise StoreCorrupt(
            f"The record at position {position}, version {version} of the stream {stream}, does not match its checksum.",
            hint="The table was changed outside of Reprise: restore a backup.",
        )
    return Record(position, stream, version, kind, at, key, data, print_, took, append)


def to_stream(stream: str, rows: list[Row], after: int, limit: int | None) -> list[Record]:
    """Return the rows of one stream as records.

    Raises ``StoreCorrupt`` when a checksum is wrong, a version is missing, or the end is not where the head says.
    """
    records = [to_record(stream, row) for row in rows if row["position"] is not None]
    expected = max(after, rows[0]["trimmed"] if rows else 0) + 1
    for record in records:
        if record.version != expected:
            raise _missing(stream, record.version, expected)
        expected += 1
    if rows and (limit is None or len(records) < limit) and expected <= rows[0]["head"]:
        raise _missing(stream, 0, expected)
    return records


def _missing(stream: str, found: int, expected: int) -> StoreCorrupt:
    return StoreCorrupt(
        f"The stream {stream} should have version {expected} next and has {found or 'no more records'}.",
        hint="Records were removed outside of Reprise: restore a backup.",
    )
