"""The promise of the blobs: large payloads by the hash of what they hold, each stored once.

A blob is written by the append whose group names it (``Group.blobs``), in the same transaction, with a reference from
the group's stream. It stays as long as a stream refers to it. Writing a reference and looking for blobs without one
exclude each other, so :meth:`Blobs.collect` may run at any time, beside any number of writers.

Guarantees (proved by ``reprise.testing.BlobsSuite`` over every keeper)
    - a blob is readable when the append that names it is durable, and not written when that is refused
    - stored once per hash, however often and from wherever it is written
    - never collected while a stream refers to it; collected some time after the last such stream was dropped
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

import msgspec

HASH_BYTES = 32

REFERENCE = 2
"""First byte of a payload that is a reference: the hash of a blob follows, and nothing else."""


class Blob(msgspec.Struct, frozen=True, gc=False):
    """A large payload and its name."""

    hash: bytes
    data: bytes


class Blobs(Protocol):
    """Blobs of one store."""

    async def get(self, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the blobs of these hashes; those that do not exist are left out.

        Raises ``StoreCorrupt`` when what is stored does not match its hash.
        """
        ...

    async def collect(self, limit: int = 1000) -> int:
        """Delete up to ``limit`` blobs that no stream refers to; return how many. Fewer than ``limit`` = none is left."""
        ...

    async def stats(self) -> dict[str, int]:
        """Return ``blobs``, their ``bytes``, ``references`` of streams to them, and how many may be ``loose``."""
        ...


def hash_of(data: bytes) -> bytes:
    """Return the name of a blob: BLAKE2b, 32 bytes.

    >>> hash_of(b"large").hex()[:16]
    'c51b7fb9009cfae2'
    """
    return blake2b(data, digest_size=HASH_BYTES).digest()


def blob_of(data: bytes) -> Blob:
    """Return a payload as a blob."""
    return Blob(hash_of(data), data)


def reference_to(hash: bytes) -> bytes:
    """Return the payload that stands for a blob."""
    return bytes((REFERENCE,)) + hash


def referred(data: bytes) -> bytes | None:
    """Return the hash of the blob that a payload refers to, None if it is no reference.

    >>> referred(reference_to(hash_of(b"large"))) == hash_of(b"large"), referred(b'{"a":1}')
    (True, None)
    """
    return data[1:] if len(data) == 1 + HASH_BYTES and data[0] == REFERENCE else None
