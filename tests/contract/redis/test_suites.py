"""The Redis keeper keeps the promises that it gives: leases, taps, queues and cells; and the faces work over it."""

import pytest
from tests.contract.locking import LockingScenes
from tests.contract.queues import TaskQueueScenes
from tests.contract.redis.keeper import RedisKeeper
from tests.contract.states import StateScenes

from reprise.testing.suites import (
    CellsSuite,
    KeeperSuite,
    LeaseSuite,
    LinearizableSuite,
    QueueSuite,
    SignalSuite,
)


class InRedis(KeeperSuite):
    """What the suites need to know."""

    examples = 20

    @pytest.fixture(autouse=True)
    def _server(self, redis):
        self.server = redis

    def make_keeper(self) -> RedisKeeper:
        """Return fresh keys."""
        return RedisKeeper(self.server.url)


class TestLease(InRedis, LeaseSuite): ...


class TestSignal(InRedis, SignalSuite): ...


class TestQueue(InRedis, QueueSuite): ...


class TestConcurrentClients(InRedis, LinearizableSuite): ...


class TestCells(InRedis, CellsSuite): ...


class TestTaskQueue(InRedis, TaskQueueScenes): ...


class TestLocking(InRedis, LockingScenes): ...


class TestState(InRedis, StateScenes): ...
