"""The memory keeper keeps every promise; it has one process only."""

import asyncio

import pytest
from tests.contract.locking import LockingScenes
from tests.contract.moving import MovingScenes
from tests.contract.queues import TaskQueueScenes
from tests.contract.states import StateScenes

from reprise.kernel.clock import VirtualClock
from reprise.stores.memory import MemoryStore
from reprise.stores.queue import Task
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
    until,
)


class MemoryKeeper(Keeper):
    """One store; a second one over the same data is the same object."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.opened.append(self.store)

    async def open(self) -> MemoryStore:
        """Start it, again if need be."""
        await self.store.start()
        return self.store

    async def pass_time(self, seconds: float) -> None:
        """Move the virtual clock."""
        self.clock.advance(seconds)

    async def waiting(self, name: str) -> int:
        """Count who waits."""
        return self.store.lease.waiting(name)


class InMemory(KeeperSuite):
    """What the suites need to know."""

    pytestmark = pytest.mark.timeout(300)  # a model is tried in a thousand histories
    exceptions = frozenset({"one_process", "virtual_time"})
    examples = 1000
    steps = 12

    def make_keeper(self) -> Keeper:
        """Return fresh memory."""
        return MemoryKeeper()


class TestLog(InMemory, LogSuite, ConcurrentLogSuite): ...


class TestBlobs(InMemory, BlobsSuite): ...


class TestRuns(InMemory, RunsSuite): ...


class TestSearch(InMemory, SearchSuite): ...


class TestLease(InMemory, LeaseSuite):
    async def test_a_new_epoch_serves_who_waits(self, keeper, store):
        """It ends all leases, and says so at once."""
        old = await store.lease.take("x", "a", 3600)
        waits = asyncio.create_task(store.lease.take("x", "b", 3600, wait=None))
        await until(lambda: asyncio.sleep(0, store.lease.waiting("x") == 1), "b waits")
        await store.begin_epoch()
        new = await asyncio.wait_for(waits, 10)
        assert (new.holder, new.token > old.token) == ("b", True)

    async def test_an_answer_that_comes_with_the_end_of_the_wait_counts(self, store, monkeypatch):
        """Both are due in one turn of the loop, the answer first: nobody else could give the lease back."""
        loop = asyncio.get_running_loop()
        grant = await store.lease.take("x", "a", 3600)
        waits = asyncio.create_task(store.lease.take("x", "b", 3600, wait=1))
        await until(lambda: asyncio.sleep(0, store.lease.waiting("x") == 1), "b waits")
        loop.call_later(0.5, next, store.lease.drop([grant]).__await__(), None)
        real = loop.time
        monkeypatch.setattr(loop, "time", lambda: real() + 10)
        served = await waits
        assert served.holder == "b"
        await store.lease.drop([served])
        assert store.lease.waiting("x") == 0
        assert not store.lease._names, "a name that nobody holds or waits for takes no room"

    async def test_who_does_not_wait_is_answered_at_once(self, store):
        """In the turn in which it asks, before those who wait and behind them."""
        await store.lease.take("x", "a", 3600)
        for waiting in range(2):
            with pytest.raises(StopIteration) as answer:
                store.lease.take("x", "b", 3600).send(None)
            assert (answer.value.value, store.lease.waiting("x")) == (None, waiting)
            waits = asyncio.create_task(store.lease.take("x", "c", 3600, wait=None))
            await asyncio.sleep(0)
        await store.stop()
        del waits

    async def test_who_is_cancelled_in_the_turn_in_which_it_would_be_served_is_passed_over(self, store):
        """It has not left the line yet."""
        grant = await store.lease.take("x", "a", 3600)
        gone, waits = (asyncio.create_task(store.lease.take("x", each, 3600, wait=1)) for each in "bc")
        await until(lambda: asyncio.sleep(0, store.lease.waiting("x") == 2), "both wait")
        gone.cancel()
        await store.lease.drop([grant])
        assert (await asyncio.wait_for(waits, 10)).holder == "c"


class TestLimits(InMemory, LimitsSuite): ...


class TestConcurrentClients(InMemory, LinearizableSuite): ...


class TestQueue(InMemory, QueueSuite):
    async def test_only_ready_tasks_grow_old(self, keeper, store):
        """By the time since they were offered."""
        await store.queue.offer([Task("a", "q")])
        await store.queue.claim("q", "w", 1, 3600)
        keeper.clock.advance(10)
        await store.queue.offer([Task("b", "q")])
        keeper.clock.advance(5)
        assert (await store.queue.stats("q")).oldest_us == 5_000_000


class TestCells(InMemory, CellsSuite): ...


class TestSignal(InMemory, SignalSuite): ...


class TestTail(InMemory, TailSuite): ...


class TestEpoch(InMemory, EpochSuite): ...


class RealTimeKeeper(MemoryKeeper):
    """The same by the machine's clock."""

    exact_time = False

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()


class TestTaskQueue(InMemory, TaskQueueScenes):
    def make_keeper(self) -> Keeper:
        """Return a fresh store whose time passes by itself."""
        return RealTimeKeeper()


class TestMoving(InMemory, MovingScenes): ...


class TestLocking(InMemory, LockingScenes): ...


class TestState(InMemory, StateScenes): ...
