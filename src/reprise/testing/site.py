"""Where the data of a simulation is kept, and how its processes come to it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, Protocol

from reprise.kernel.errors import RepriseError
from reprise.kernel.events import Record
from reprise.stores.memory import MemoryStore
from reprise.stores.store import Store
from reprise.testing.invariants import Books
from reprise.testing.link import Link
from reprise.testing.loop import SimulatedLoop
from reprise.testing.wire import Wire

KeeperName = Literal["memory", "sqlite", "sqlite?synchronous=NORMAL", "sqlite?synchronous=OFF"]
"""What keeps the data: one memory keeper beyond all processes, or one file that each process opens for itself.

How SQLite syncs its disk makes a difference where ``TornWrite`` is among the faults; FULL, unless it is said.
"""
Died = Callable[[Collection[str]], set[str]]
"""Tells which workers are known to be gone."""


class Site(Protocol):
    """A keeper and what is known of what it acknowledged."""

    @property
    def store(self) -> Store:
        """The store of whoever looks from outside."""
        ...

    @property
    def books(self) -> Books:
        """What was committed."""
        ...

    async def open(self) -> None:
        """Make the store of whoever looks from outside usable."""
        ...

    def link(self, wire: Wire, died: Died) -> Link:
        """Return the store as a process sees it."""
        ...

    def read_now(self, stream: str, after: int = 0) -> list[Record]:
        """Return the records of a stream as they are now."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class MemorySite:
    """One memory keeper, which outlives all processes."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.store = MemoryStore(loop.clock)
        self.books = Books(self.read_now)

    async def open(self) -> None:
        """Do nothing: it is there."""

    def link(self, wire: Wire, died: Died) -> Link:
        """Return the store as a process sees it."""
        return Link(self.store, wire, self.books, died)

    def read_now(self, stream: str, after: int = 0) -> list[Record]:
        """Return the records of a stream as they are now."""
        reading = self.store.log.read(stream, after)
        try:
            reading.send(None)
        except StopIteration as stop:
            return stop.value
        raise RepriseError("The keeper of a simulation must read at once.")

    def close(self) -> None:
        """Do nothing."""
