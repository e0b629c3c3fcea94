"""What differences are made to: the last large payloads of streams, as many as fit into the memory they may take."""

from __future__ import annotations

import re
from collections import OrderedDict

import msgspec

LANES = 8
"""Payloads of one stream that are remembered: the last one of each lane that was used last."""

MEMORY = 64 << 20
"""Bytes of payloads that are remembered in all."""

LINK = 100
"""Bytes that a record costs to read beside its data."""


class Base(msgspec.Struct, frozen=True, gc=False):
    """A payload to which a difference may be made."""

    version: int
    root: int
    """Version of the whole payload where reading this one begins."""
    weight: int
    """Bytes that reading it takes, from the root on."""
    data: bytes


class Chain:
    """The remembered payloads of one stream."""

    __slots__ = ("lanes", "size", "token", "version")

    def __init__(self, version: int = 0, token: int = 0) -> None:
        self.version = version
        """Up to where the stream was read."""
        self.token = token
        """Token under which the stream is written; 0 where it was only read."""
        self.lanes: dict[str, Base] = {}
        self.size = 0

    def note(self, key: str, base: Base) -> None:
        """Remember a payload that was written or read under a key."""
        lane = lane_of(key)
        before = self.lanes.pop(lane, None)
        if before is None and len(self.lanes) == LANES:
            before = self.lanes.pop(next(iter(self.lanes)))
        self.lanes[lane] = base
        self.size += len(base.data) - (len(before.data) if before is not None else 0)

    def best(self, key: str) -> Base | None:
        """Return what the payload of a key is probably most like: that of the same lane, else the last one."""
        return self.lanes.get(lane_of(key)) or next(reversed(self.lanes.values()), None)

    def find(self, version: int) -> Base | None:
        """Return the payload of a version, if it is remembered."""
        return next((base for base in self.lanes.values() if base.version == version), None)

    def clear(self) -> None:
        """Remember nothing before here."""
        self.lanes.clear()
        self.size = 0


class Bases:
    """Chains by stream, those used last; ``written`` by an owner here, and ``read`` by anybody.

    Versions do not say which life of a stream they belong to: one that was dropped may be made again under its name. So
    an owner's chain begins with the append that makes or takes the stream, and what was read is used for writing only
    by an append that takes the stream exactly where that reading ended.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        self.memory = memory
        self.size = 0
        self.chains: OrderedDict[tuple[str, str], Chain] = OrderedDict()

    def take(self, side: str, stream: str) -> Chain | None:
        """Take a chain out, to look at it or to change it."""
        chain = self.chains.pop((side, stream), None)
        if chain is not None:
            self.size -= chain.size
        return chain

    def put(self, side: str, stream: str, chain: Chain) -> None:
        """Put a chain in, and forget those that were used longest ago where there is no room."""
        if not chain.lanes:
            return
        self.chains[side, stream] = chain
        self.size += chain.size
        while self.size > self.memory:
            _, oldest = self.chains.popitem(last=False)
            self.size -= oldest.size

    def clear(self) -> None:
        """Forget everything."""
        self.chains.clear()
        self.size = 0

    def forget(self, stream: str) -> None:
        """Forget all of a stream."""
        self.take("written", stream)
        self.take("read", stream)


def lane_of(key: str) -> str:
    """Return what keys of the same call have in common, when it is made again and again.

    >>> lane_of(":12.turn"), lane_of("/agent.3:7.turn"), lane_of("/agent.3/turn.12:1"), lane_of("turn-12")
    (':turn', '/agent.3:turn', '/agent.3/turn', 'turn-')
    """
    path, colon, call = key.rpartition(":")
    if not colon:
        return re.sub(r"\d+", "", key)
    _, dot, name = call.partition(".")
    if dot:
        return f"{path}:{name}"
    stem, dot, count = path.rpartition(".")
    return stem if dot and count.isdigit() else path
