"""Whether two stores hold the same: a digest per stream, and row by row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from reprise.kernel.events import Record
from reprise.stores.families import place, walk_present
from reprise.stores.log import Log
from reprise.stores.runs import RunRow, Runs

_PAGE = 500
_WRAP = (1 << 128) - 1
_pack = msgspec.msgpack.Encoder().encode


class Balance:
    """The digests of streams in two logs, as one account: what one has is added, what the other has is taken off.

    The digest of a stream is the sum of the hashes of its records, which hold their version; so it does not matter in
    what order the two are read, and only streams that differ, or are still on their way, are kept in memory.
    """

    def __init__(self) -> None:
        self.open: dict[str, int] = {}
        """Streams that are not the same, or not yet."""

    def add(self, records: Iterable[Record]) -> None:
        """Count what the one log has."""
        for record in records:
            self._move(record.stream, _digest(record))

    def take_off(self, records: Iterable[Record]) -> None:
        """Count what the other log has."""
        for record in records:
            self._move(record.stream, -_digest(record))

    def _move(self, stream: str, amount: int) -> None:
        left = self.open.get(stream, 0) + amount & _WRAP
        if left:
            self.open[stream] = left
        else:
            self.open.pop(stream, None)


def _digest(record: Record) -> int:
    # Positions are a store's own.
    facts = (record.version, int(record.kind), record.at, record.key, record.data, record.print, record.took)
    return int.from_bytes(blake2b(_pack((*facts, record.append)), digest_size=16).digest(), "big")


async def first_difference(one: Log, other: Log, stream: str) -> str:
    """Return in words where two logs begin to differ about a stream, '' where they do not.

    Where one was trimmed more than the other, what both have counts.
    """
    version = 0
    while True:
        here, there = await one.read(stream, version, _PAGE), await other.read(stream, version, _PAGE)
        if not here or not there:
            longer = here or there
            return (
                f"the stream {stream} goes on with version {longer[0].version} in one only" if longer else ""
            )
        begin = max(here[0].version, there[0].version)
        if not version and here[0].version != there[0].version:
            version = begin - 1
            continue
        for a, b in zip(here, there, strict=False):
            if replace(a, position=0) != replace(b, position=0):
                return f"the stream {stream} differs at version {a.version}"
        version += min(len(here), len(there))


async def both(one: Runs, other: Runs) -> AsyncIterator[tuple[RunRow | None, RunRow | None]]:
    """Yield the rows of two indexes side by side, None where one has none."""
    here, there = _each(one), _each(other)
    a, b = await anext(here, None), await anext(there, None)
    while a is not None or b is not None:
        if b is None or (a is not None and place(a) < place(b)):
            yield a, None
            a = await anext(here, None)
        elif a is None or place(b) < place(a):
            yield None, b
            b = await anext(there, None)
        else:
            yield a, b
            a, b = await anext(here, None), await anext(there, None)


async def _each(runs: Runs) -> AsyncIterator[RunRow]:
    async for page in walk_present(runs):
        for row in page:
            yield row


def same_row(there: RunRow, here: RunRow) -> bool:
    """Return whether a row is as its copy should be; a run that had an owner arrives without one, and due."""
    if there.owner is not None:
        there = replace(there, owner=None, due_at=here.due_at)
    return replace(there, token=here.token) == here
