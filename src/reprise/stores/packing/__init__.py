"""Packing: payloads are made small, sealed and moved to blobs on their way to a keeper, and come back as they were."""

from __future__ import annotations

from reprise.stores.packing.keys import KeyRing
from reprise.stores.packing.store import PackedStore, digest, keeper_of, packed

__all__ = ["KeyRing", "PackedStore", "digest", "keeper_of", "packed"]
