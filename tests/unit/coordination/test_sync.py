"""Locks for threads."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from reprise import ConfigurationError, DeadlockDetected, LockLost, LockManager, LockNotAcquired
from reprise.coordination.portal import Portal


def test_threads_exclude_each_other():
    inside, tokens = 0, list[int]()
    with LockManager("memory://").sync as manager:

        def rival(_: int) -> None:
            nonlocal inside
            with manager.lock("x", timeout=None) as held:
                inside += 1
                assert inside == 1
                tokens.append(held.token)
                inside -= 1

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(rival, range(40)))
        assert manager.statistics()["held"] == 0
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 40


def test_by_hand():
    with LockManager("memory://").sync as manager:
        lock, other = manager.get_lock("x"), manager.get_lock("x")
        assert lock.acquire()
        assert (lock.locked, lock.token > 0, other.acquire(timeout=0)) == (True, True, False)
        with pytest.raises(LockNotAcquired):
            manager.lock("x", timeout=0).__enter__()
        lock.extend(60)
        [holder] = manager.holders("x")
        assert threading.current_thread().name in holder.owner
        lock.release()
        assert not lock.locked
        with pytest.raises(LockLost):
            lock.release()
        with manager.semaphore("s", 2), manager.semaphore("s", 2):
            assert not manager.semaphore("s", 2).acquire(timeout=0)


def test_a_thread_is_told_that_its_lock_is_lost():
    manager = LockManager("memory://").sync

    def work(error: Exception | None) -> None:
        with manager.lock("x") as held:
            held.check()
            held.extend(30)
            manager.break_lock("x")
            with pytest.raises(LockLost):
                held.extend(30)
            assert held.is_lost
            with pytest.raises(LockLost):
                held.check()
            if error:
                raise error

    with pytest.raises(LockLost):
        work(None)
    with pytest.raises(ValueError, match="mine") as raised:
        work(ValueError("mine"))
    assert "was lost meanwhile" in raised.value.__notes__[0]
    manager.stop()


def test_the_owner_is_the_thread():
    with LockManager("memory://").sync as manager:
        with manager.lock("x", reentrant=True) as outer, manager.lock("x", reentrant=True) as inner:
            assert outer.token == inner.token
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(manager.get_lock("x", reentrant=True).acquire, 0).result() is False
        with manager.lock("x"), pytest.raises(DeadlockDetected):
            manager.lock("x", timeout=None).__enter__()


async def test_an_event_loop_is_not_held_up():
    manager = LockManager("memory://").sync
    with pytest.raises(ConfigurationError, match="Await the same method"):
        manager.lock("x").__enter__()
    await asyncio.to_thread(manager.stop)


def test_a_portal_begins_again_after_its_end():
    portal = Portal("mine")
    portal.stop()
    for _ in range(2):
        assert portal.call(asyncio.sleep, 0, 7) == 7
        portal.stop()
        portal.stop()


def test_a_child_of_a_fork_is_told(monkeypatch: pytest.MonkeyPatch):
    portal = Portal("mine")
    portal.call(asyncio.sleep, 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(ConfigurationError, match="after the fork"):
            portal.call(asyncio.sleep, 0)
    portal.stop()


def test_errors_come_through_and_a_call_that_is_given_up_is_cancelled():
    portal, cancelled = Portal("mine"), threading.Event()

    async def fails() -> None:
        raise ValueError("mine")

    async def hangs() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(ValueError, match="mine"):
        portal.call(fails)

    def give_up() -> None:
        raise KeyboardInterrupt

    import signal

    previous = signal.signal(signal.SIGALRM, lambda *_: give_up())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            portal.call(hangs)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert cancelled.wait(10)
    portal.stop()
