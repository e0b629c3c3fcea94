"""The SQLite keeper keeps every promise, over several stores and processes on one file."""

import shutil
import tempfile
from functools import partial
from pathlib import Path

import pytest
from tests.contract.locking import LockingScenes
from tests.contract.moving import MovingScenes
from tests.contract.queues import TaskQueueScenes
from tests.contract.states import StateScenes

from reprise.kernel.clock import VirtualClock
from reprise.stores.searching import plan
from reprise.stores.sqlite import SQLiteStore
from reprise.testing.suites import (
    BlobsSuite,
    CellsSuite,
    ConcurrentLogSuite,
    EpochSuite,
    Keeper,
    KeeperSuite,
    LeaseSuite,
    LimitsSuite,
    LinearizableSuite,
    LogSuite,
    QueueSuite,
    RunsSuite,
    SearchSuite,
    SignalSuite,
    TailSuite,
    TransactionsSuite,
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


class TestSearch(InSQLite, SearchSuite): ...


class TestSearchWhereNothingIsRare(InSQLite, SearchSuite):
    """The same with bounds so low that every way of a plan is gone."""

    @pytest.fixture(autouse=True)
    def low_bounds(self, monkeypatch):
        for bound, value in {"FEW": 4, "WINDOW": 9, "MANY": 40, "FIRST": 10, "BULK": 12}.items():
            monkeypatch.setattr(plan, bound, value)


class TestLease(InSQLite, LeaseSuite): ...


class TestLimits(InSQLite, LimitsSuite): ...


class RealTimeKeeper(SQLiteKeeper):
    """The same by the machine's clock."""

    exact_time = False

    def __init__(self) -> None:
        super().__init__()
        self.factory = partial(SQLiteStore, self.folder / "test.db", synchronous="OFF")


class TestConcurrentClients(InSQLite, LinearizableSuite):
    def make_keeper(self) -> Keeper:
        """Return a fresh file; leases end by real time."""
        return RealTimeKeeper()


class TestQueue(InSQLite, QueueSuite): ...


class TestCells(InSQLite, CellsSuite): ...


class TestTaskQueue(InSQLite, TaskQueueScenes):
    def make_keeper(self) -> Keeper:
        """Return a fresh file; tasks are due by real time."""
        return RealTimeKeeper()


class TestSignal(InSQLite, SignalSuite): ...


class TestTail(InSQLite, TailSuite): ...


class TestTransactions(InSQLite, TransactionsSuite): ...


class TestEpoch(InSQLite, EpochSuite): ...


class TestMoving(InSQLite, MovingScenes): ...


class TestLocking(InSQLite, LockingScenes): ...


class TestState(InSQLite, StateScenes): ...
