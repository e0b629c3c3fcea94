"""A log whose payloads are packed on their way to a keeper's log, and unpacked on their way back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from reprise.kernel.events import Record
from reprise.stores.blobs import Blobs
from reprise.stores.log import Append, Head, Log, settle_of
from reprise.stores.packing.bases import Bases
from reprise.stores.packing.reading import Gone, Unpacker
from reprise.stores.packing.writing import Keys, Packer


class PackedLog:
    """The port of the log; whoever reads and writes by it sees payloads as they were handed in."""

    def __init__(self, log: Log, blobs: Blobs, keys: Keys | None, bases: Bases) -> None:
        self._log = log
        self._settle = settle_of(log)
        self._bases = bases
        self.packer = Packer(bases, keys)
        self.unpacker = Unpacker(log, blobs, bases, keys)

    def submit(self, appends: Sequence[Append]) -> None:
        """Hand appends over; ``done`` of each is called on the loop when it is durable or refused."""
        self._log.submit(self._packed(appends))

    def settle(self, appends: Sequence[Append], alone: Callable[[], bool]) -> None:
        """Hand appends over to be answered at once if the keeper's log can."""
        self._settle(self._packed(appends), alone)

    def _packed(self, appends: Sequence[Append]) -> Sequence[Append]:
        if self.packer.leaves(appends):
            return appends
        return [self.packer.pack(append) for append in appends]

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """Return a stream's records with version > ``after``, in order.

        Raises ``StoreCorrupt`` when something does not match its checksum or is missing, ``KeyMissing``.
        """
        return await self._unpacked(lambda: self._log.read(stream, after, limit))

    async def scan(self, after: int = 0, limit: int = 1000, prefix: str = "") -> list[Record]:
        """Return records of all streams (whose name starts with ``prefix``) with position > ``after``, in order.

        Raises ``StoreCorrupt`` when something does not match its checksum or is missing, ``KeyMissing``.
        """
        return await self._unpacked(lambda: self._log.scan(after, limit, prefix))

    async def _unpacked(self, read: Callable[[], Awaitable[list[Record]]]) -> list[Record]:
        while True:
            try:
                return await self.unpacker.unpack(await read())
            except Gone as gone:
                # Else it was dropped or trimmed, and its blobs collected, since it was read; so it is read again.
                if (damage := await self.unpacker.judged(gone)) is not None:
                    raise damage from None

    async def head(self, stream: str) -> Head:
        """Return the end of a stream."""
        return await self._log.head(stream)

    async def end(self) -> int:
        """Return the highest position given so far, 0 in an empty log; also after ``drop``."""
        return await self._log.end()

    async def lookup(self, stream: str, append: int) -> int | None:
        """Return the version of the first record that append wrote in that stream, None if it wrote none."""
        return await self._log.lookup(stream, append)

    async def trim(self, stream: str, through: int) -> int:
        """Delete a stream's records up to version ``through``, but never its newest; return how many went.

        To be read, what is left must not rest on them: a run's new generation rests on none of the old.
        """
        self._bases.forget(stream)
        return await self._log.trim(stream, through)

    async def drop(self, *streams: str) -> int:
        """Delete streams, their entries in the run index and references to blobs; return how many records went."""
        for stream in streams:
            self._bases.forget(stream)
        return await self._log.drop(*streams)

    def forget(self) -> None:
        """Remember no payloads: the store is another from now on."""
        self._bases.clear()
