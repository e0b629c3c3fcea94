"""Pack what is appended: make it small, seal it, and move what is still large to the blobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from reprise.kernel.events import Event, Kind
from reprise.stores.blobs import Blob, blob_of, reference_to
from reprise.stores.log import Append, Group
from reprise.stores.packing.bases import LINK, Base, Bases, Chain
from reprise.stores.packing.envelope import (
    FIRST_PLAIN,
    SMALL,
    difference,
    folded,
)

LARGE = 32 << 10
"""Bytes from which a packed payload becomes a blob."""

ANYWHERE = b""
"""Place of a sealed blob: several records may refer to it."""


_PLAIN = bytes((FIRST_PLAIN,))


class Keys(Protocol):
    """What seals and opens; see :class:`~reprise.stores.packing.keys.KeyRing`."""

    def seal(self, data: bytes, place: bytes) -> bytes:
        """Return data that can be opened only with a key, and only at this place."""
        ...

    def open(self, data: bytes, place: bytes) -> bytes:
        """Return what was sealed; raises ``KeyMissing`` or ``StoreCorrupt``."""
        ...

    def digest(self, data: bytes) -> str:
        """Return a name for data that nobody can tell who has not the key."""
        ...


class Packer:
    """Packs appends for one log."""

    def __init__(self, bases: Bases, keys: Keys | None) -> None:
        self.counters = {"payloads_packed": 0, "payload_bytes": 0, "packed_bytes": 0, "differences": 0}
        self._bases = bases
        self._keys = keys
        self._least = 1 if keys is not None else SMALL

    def leaves(self, appends: Sequence[Append]) -> bool:
        """Tell whether all appends are written as they are, as most are."""
        least, plain, follows = self._least, _PLAIN, bool(self._bases.chains)
        for append in appends:
            for group in append.groups:
                for event in group.events:
                    data = event.data
                    if data < plain or len(data) >= least:
                        return False
                if follows and _turns(group):
                    return False
        return True

    def pack(self, append: Append) -> Append:
        """Return the append that is written in the place of one, which gets the answer; itself if that is left so."""
        if self.leaves((append,)):
            return append
        packed = Append(append.id, tuple([self._group(group) for group in append.groups]))
        packed.done = self._answer_to(append)
        return packed

    def pack_apart(self, group: Group) -> Group:
        """Return a group packed without regard to earlier payloads; touches nothing that another thread does."""
        blobs: list[Blob] = []
        events = [_with(e, self._event(group.stream, e, None, 0, blobs)) for e in group.events]
        return replace(group, events=events, blobs=(*group.blobs, *blobs))

    def _answer_to(self, append: Append) -> Callable[[Append], None]:
        def done(packed: Append) -> None:
            append.error, append.versions, append.position = packed.error, packed.versions, packed.position
            if packed.error is not None:
                for group in append.groups:
                    self._forget(group)
            if append.done is not None:
                append.done(append)

        return done

    def _forget(self, group: Group) -> None:
        """Forget the payloads of an owner whose append failed: they may not be in the stream."""
        chain = self._bases.take("written", group.stream)
        if chain is not None and chain.token != group.token:
            self._bases.put("written", group.stream, chain)

    def _group(self, group: Group) -> Group:
        chain = self._chain(group)
        blobs: list[Blob] = []
        events: list[Event] = []
        version = group.expected
        for event in group.events:
            version += 1
            if chain is not None and event.kind == Kind.RUN_CONTINUED:
                chain.clear()
            data = self._event(group.stream, event, chain, version, blobs)
            events.append(event if data is event.data else _with(event, data))
        if chain is not None and not group.closes:
            self._bases.put("written", group.stream, chain)
        return replace(group, events=events, blobs=(*group.blobs, *blobs))

    def _chain(self, group: Group) -> Chain | None:
        """Return what a group's payloads may be differences to; None where its versions are not known for sure.

        They are known where one owner alone writes, under a token and with exact versions.
        """
        known = self._bases.take("written", group.stream)
        if not group.token or group.expected < 0:
            return None
        if group.takes:
            known = self._bases.take("read", group.stream)
            if known is None or known.version != group.expected:
                known = Chain()
            known.token = group.token
        elif known is not None and known.token > group.token:
            self._bases.put("written", group.stream, known)  # the writer was succeeded: it will be refused
            return None
        return known if known is not None and known.token == group.token else Chain(token=group.token)

    def _event(
        self, stream: str, event: Event, chain: Chain | None, version: int, blobs: list[Blob]
    ) -> bytes:
        """Return what is written for an event; a blob that goes with it is added to ``blobs``."""
        content = self._content(event, chain, version)
        keys = self._keys
        if len(content) >= LARGE:
            blob = blob_of(content if keys is None else keys.seal(content, ANYWHERE))
            blobs.append(blob)
            return reference_to(blob.hash)
        if keys is not None and content:
            return keys.seal(content, place_in_log(stream, event.kind, event.at, event.key))
        return content

    def _content(self, event: Event, chain: Chain | None, version: int) -> bytes:
        data = event.data
        if len(data) < SMALL:
            return folded(data)
        base = chain.best(event.key) if chain is not None else None
        content, root, weight = b"", version, 0
        if base is not None:
            content = difference(data, base.data, version - base.version, base.version - base.root) or b""
            root, weight = base.root, base.weight
        if not content or not self._is_worth_it(data, content, weight):
            content, root, weight = folded(data), version, 0
        if chain is not None:
            chain.note(event.key, Base(version, root, weight + len(content) + LINK, data))
        self._count(data, content, is_difference=root != version)
        return content

    @staticmethod
    def _is_worth_it(data: bytes, content: bytes, weight: int) -> bool:
        """Tell whether a difference saves half, and whether reading it takes no more than twice the payload's size."""
        if weight + len(content) + LINK > 2 * len(data):
            return False
        return 8 * len(content) <= len(data) or 2 * len(content) <= len(folded(data))

    def _count(self, data: bytes, content: bytes, *, is_difference: bool) -> None:
        counters = self.counters
        counters["payloads_packed"] += 1
        counters["payload_bytes"] += len(data)
        counters["packed_bytes"] += len(content)
        counters["differences"] += is_difference


def _turns(group: Group) -> bool:
    """Tell whether a group changes what the payloads of its stream may be differences to."""
    return group.takes or group.closes or any(event.kind == Kind.RUN_CONTINUED for event in group.events)


def place_in_log(stream: str, kind: int, at: int, key: str) -> bytes:
    """Return what a sealed payload is bound to, so that it cannot be moved to another record."""
    return f"{stream}\0{int(kind)}\0{at}\0{key}".encode()


def _with(event: Event, data: bytes) -> Event:
    return Event(event.kind, event.at, event.key, data, event.print, event.took)
