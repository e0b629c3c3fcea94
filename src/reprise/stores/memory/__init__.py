"""The memory keeper: one process, one event loop, gone when the process ends.

It is for tests, for simulation and for runs that need not survive. What it promises it promises as strictly as the
other keepers; only durability is missing.
"""

from reprise.stores.memory.cells import MemoryCells
from reprise.stores.memory.lease import MemoryLease
from reprise.stores.memory.log import MemoryLog
from reprise.stores.memory.queue import MemoryQueue
from reprise.stores.memory.runs import MemoryRuns
from reprise.stores.memory.signal import MemorySignal
from reprise.stores.memory.store import MemoryStore, open_memory

__all__ = [
    "MemoryCells",
    "MemoryLease",
    "MemoryLog",
    "MemoryQueue",
    "MemoryRuns",
    "MemorySignal",
    "MemoryStore",
    "open_memory",
]
