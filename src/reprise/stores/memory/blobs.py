"""Blobs in memory."""

from __future__ import annotations

from collections.abc import Sequence

from reprise.stores.blobs import Blob


class MemoryBlobs:
    """Blobs by hash, and which streams refer to them."""

    def __init__(self) -> None:
        self._data: dict[bytes, bytes] = {}
        self._streams: dict[str, dict[bytes, int]] = {}
        """By stream and hash, up to which version the stream refers to a blob."""
        self._references: dict[bytes, int] = {}
        """How many streams refer to a blob."""
        self._loose: dict[bytes, None] = {}

    def keep(self, stream: str, version: int, blobs: Sequence[Blob]) -> None:
        """Write what a group names that took its stream to ``version``."""
        held = self._streams.setdefault(stream, {})
        for blob in blobs:
            self._data.setdefault(blob.hash, blob.data)
            self._loose.pop(blob.hash, None)
            if blob.hash not in held:
                self._references[blob.hash] = self._references.get(blob.hash, 0) + 1
            held[blob.hash] = version

    def release(self, stream: str, through: int | None = None) -> None:
        """Drop a stream's references from versions up to ``through``, or all."""
        held = self._streams.get(stream, {})
        for hash in [hash for hash, version in held.items() if through is None or version <= through]:
            del held[hash]
            self._references[hash] -= 1
            if not self._references[hash]:
                self._loose[hash] = None
        if not held:
            self._streams.pop(stream, None)

    async def get(self, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the blobs of these hashes; those that do not exist are left out."""
        return {hash: self._data[hash] for hash in hashes if hash in self._data}

    async def collect(self, limit: int = 1000) -> int:
        """Delete up to ``limit`` blobs that no stream refers to; return how many."""
        loose = list(self._loose)[:limit]
        for hash in loose:
            del self._data[hash], self._references[hash], self._loose[hash]
        return len(loose)

    async def stats(self) -> dict[str, int]:
        """Return counts of blobs, bytes, references and blobs without one."""
        return {
            "blobs": len(self._data),
            "bytes": sum(map(len, self._data.values())),
            "references": sum(self._references.values()),
            "loose": len(self._loose),
        }
