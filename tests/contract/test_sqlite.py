"""The SQLite keeper keeps every promise, over several stores and processes on one file."""

import shutil
import tempfile
from functools import partial
from pathlib import Path

from tests.contract.moving import MovingScenes

from reprise.kernel.clock import VirtualClock
from reprise.stores.sqlite import SQLiteStore
from reprise.testing.suites import (
    BlobsSuite,
    ConcurrentLogSuite,
    EpochSuite,
    Keeper,
    KeeperSuite,
    LeaseSuite,
    LogSuite,
    QueueSuite,
    RunsSuite,
    SignalSuite,
    TailSuite,
)


class SQLiteKeeper(Keeper):
    """A file in a folder of its own; all stores of a test share one virtual clock."""

    short = 0.2

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="reprise-sqlite-"))
        self.clock = VirtualClock()
        self.factory = partial(SQLiteStore, self.folder / "test.db", synchronous="OFF", clock=self.clock)

    async def pass_time(self, seconds: float) -> None:
        """Move the virtual clock."""
        self.clock.advance(seconds)

    async def waiting(self, name: str) -> int:
        """Count the tickets."""
        return await self.opened[-1].lease.waiting(name)

    async def close(self) -> None:
        """Remove the folder too."""
        await super().close()
        shutil.rmtree(self.folder)


class InSQLite(KeeperSuite):
    """What the suites need to know."""

    examples = 15

    def make_keeper(self) -> Keeper:
        """Return a fresh file."""
        return SQLiteKeeper()


class TestLog(InSQLite, LogSuite, ConcurrentLogSuite): ...


class TestBlobs(InSQLite, BlobsSuite): ...


class TestRuns(InSQLite, RunsSuite): ...


class TestLease(InSQLite, LeaseSuite): ...


class TestQueue(InSQLite, QueueSuite): ...


class TestSignal(InSQLite, SignalSuite): ...


class TestTail(InSQLite, TailSuite): ...


class TestEpoch(InSQLite, EpochSuite): ...


class TestMoving(InSQLite, MovingScenes): ...
