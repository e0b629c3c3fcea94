"""The memory keeper's store."""

from __future__ import annotations

from reprise.kernel.clock import Clock
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.memory.blobs import MemoryBlobs
from reprise.stores.memory.cells import MemoryCells
from reprise.stores.memory.lease import MemoryLease
from reprise.stores.memory.log import MemoryLog
from reprise.stores.memory.presence import MemoryPresence
from reprise.stores.memory.queue import MemoryQueue
from reprise.stores.memory.runs import MemoryRuns
from reprise.stores.memory.signal import MemorySignal
from reprise.stores.store import Schema
from reprise.stores.transactions import Transactions


class MemoryStore:
    """All ports in the memory of this process; ``clock`` is the keeper's clock.

    What is in it lives as long as the object: stopping and starting it again finds everything as it was, so a test can
    play a restart.

    >>> MemoryStore().url
    'memory://'
    """

    def __init__(self, clock: Clock | None = None) -> None:
        clock = clock or SURROUNDINGS.get().clock
        self.lease = MemoryLease(clock)
        self.log = MemoryLog(self.lease)
        self.signal = MemorySignal()
        self.queue = MemoryQueue(clock, self.signal)
        self.cells = MemoryCells(clock, self.signal)
        self.presence = MemoryPresence()

    @property
    def url(self) -> str:
        """The URL."""
        return "memory://"

    @property
    def runs(self) -> MemoryRuns:
        """The index that the log's appends write."""
        return self.log.runs

    @property
    def blobs(self) -> MemoryBlobs:
        """The blobs that the log's appends write."""
        return self.log.blobs

    @property
    def transactions(self) -> Transactions:
        """Raise ``ConfigurationError``: there are no tables here that anybody else could have a part of."""
        raise ConfigurationError(
            "The store memory:// has no transactions: it is no database.",
            hint="Open a sqlite:/// or postgresql:// store, or make it a plain step.",
        )

    async def schema(self) -> Schema:
        """Return that there are no tables."""
        return Schema(0, 0)

    @property
    def epoch(self) -> int:
        """How many epochs began before the one we are in."""
        return self.log.epoch

    async def begin_epoch(self, above: int = 0) -> int:
        """Begin an epoch higher than the present one and than ``above``; return its number."""
        epoch = max(self.epoch, above) + 1
        self.log.begin_epoch(epoch)
        self.lease.begin_epoch(epoch)
        self.queue.begin_epoch(epoch)
        self.cells.begin_epoch(epoch)
        return epoch

    async def start(self) -> None:
        """Open; idempotent. A store that was never stopped is open from the start."""
        self.log.closed = False

    async def stop(self) -> None:
        """Refuse further appends and reads of the log; idempotent."""
        self.log.closed = True

    def statistics(self) -> dict[str, int | float | str]:
        """Return counters: appends, commits, records, refused, bytes, streams."""
        return self.log.statistics()


def open_memory(url: str = "memory://") -> MemoryStore:
    """Return a new, empty store; ``url`` says nothing more than that."""
    return MemoryStore()
