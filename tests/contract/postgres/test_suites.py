"""The PostgreSQL keeper keeps every promise, on the oldest and the newest server at hand."""

import pytest
from tests.contract.locking import LockingScenes
from tests.contract.moving import MovingScenes
from tests.contract.postgres.keeper import PostgresKeeper
from tests.contract.queues import TaskQueueScenes
from tests.contract.states import StateScenes

from reprise.stores.postgres import lease
from reprise.stores.searching import plan
from reprise.testing.suites import (
    BlobsSuite,
    CellsSuite,
    ConcurrentLogSuite,
    EpochSuite,
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


class InPostgres(KeeperSuite):
    """What the suites need to know."""

    examples = 6
    queries_tried = 25

    @pytest.fixture(autouse=True)
    def _server(self, postgres):
        self.server = postgres

    def make_keeper(self) -> PostgresKeeper:
        """Return a fresh schema."""
        return PostgresKeeper(self.server.url)


class TestLog(InPostgres, LogSuite, ConcurrentLogSuite): ...


class TestRuns(InPostgres, RunsSuite): ...


class TestLimits(InPostgres, LimitsSuite): ...


class TestSearch(InPostgres, SearchSuite): ...


class TestSearchWhereNothingIsRare(InPostgres, SearchSuite):
    """The same with bounds so low that every way of a plan is gone."""

    @pytest.fixture(autouse=True)
    def _low_bounds(self, monkeypatch):
        for bound, value in {"FEW": 4, "WINDOW": 9, "MANY": 40, "FIRST": 10, "BULK": 12}.items():
            monkeypatch.setattr(plan, bound, value)


class TestConcurrentClients(InPostgres, LinearizableSuite):
    """Claims pass over what others are at (``SKIP LOCKED``), and a look at holders or cells waits for nobody."""

    exceptions = frozenset({"claims_pass_over", "holder_beside_renewal", "cells_end_beside_writes"})


class TestQueue(InPostgres, QueueSuite): ...


class TestCells(InPostgres, CellsSuite): ...


class TestTaskQueue(InPostgres, TaskQueueScenes): ...


class TestSignal(InPostgres, SignalSuite): ...


class TestTail(InPostgres, TailSuite): ...


class TestBlobs(InPostgres, BlobsSuite): ...


class TestEpoch(InPostgres, EpochSuite): ...


class TestMoving(InPostgres, MovingScenes): ...


class TestLease(InPostgres, LeaseSuite):
    @pytest.fixture(autouse=True)
    def _nobody_looks_unasked(self, monkeypatch):
        """So that a tap that does not come is noticed, and a ticket that stays too."""
        monkeypatch.setattr(lease, "SHOWN_EVERY", 3600)
        monkeypatch.setattr(lease, "TICKET_LIFE", 7200)


class TestTransactions(InPostgres, TransactionsSuite):
    """The role of the log may write its tables, so work on its connection may, too."""

    exceptions = frozenset({"own_tables"})


class TestLocking(InPostgres, LockingScenes): ...


class TestState(InPostgres, StateScenes): ...
