"""Locks over the memory keeper, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from reprise import (
    ConfigurationError,
    DeadlockDetected,
    DistributedLock,
    LockLost,
    LockManager,
    LockNotAcquired,
    RepriseError,
    StoreUnreachable,
)
from reprise.coordination.deadlocks import WAITS
from reprise.stores.lease import Grant
from reprise.stores.memory import MemoryStore
from reprise.testing import run


def simulated(main: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Let a test pass on a loop without time, under a few orders of events."""

    def test() -> None:
        for seed in range(5):
            run(main, seed=seed)

    test.__name__ = main.__name__
    return test


class Away:
    """A lease whose keeper cannot be reached while ``away`` is set."""

    def __init__(self, store: MemoryStore) -> None:
        self._lease, self.away, self.renewals = store.lease, False, 0

    async def renew(self, grants: list[Grant], ttl: float) -> Any:
        self.renewals += 1
        self._check()
        return await self._lease.renew(grants, ttl)

    def _check(self) -> None:
        if self.away:
            raise StoreUnreachable("The keeper is away.")

    def __getattr__(self, name: str) -> Any:
        self._check()
        return getattr(self._lease, name)


class Store(MemoryStore):
    """A memory store whose leases can go away."""

    def __init__(self) -> None:
        super().__init__()
        self.lease: Any = Away(self)


# ---------------------------------------------------------------- one lock


@simulated
async def test_a_lock_excludes_and_its_token_grows():
    manager = LockManager(MemoryStore())
    inside, tokens = 0, list[int]()

    async def rival() -> None:
        nonlocal inside
        for _ in range(5):
            async with manager.lock("x", timeout=None) as held:
                inside += 1
                assert inside == 1
                tokens.append(held.token)
                await asyncio.sleep(0.1)
                inside -= 1

    await asyncio.gather(*(rival() for _ in range(5)))
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 25


@simulated
async def test_without_a_timeout_the_settings_decide_how_long_to_wait():
    loop = asyncio.get_running_loop()
    manager = LockManager(MemoryStore(), settings={"retry_delay": 0.5, "retry_count": 4})
    other = manager.get_lock("x")
    async with manager.lock("x"):
        for timeout, waits in (({}, 2), ({"timeout": 7}, 7), ({"timeout": 0}, 0)):
            began = loop.time()
            assert await other.acquire(**timeout) is False
            assert loop.time() - began == pytest.approx(waits, abs=0.01)
            began = loop.time()
            with pytest.raises(LockNotAcquired, match=r"held by .*main"):
                await manager.lock("x", **timeout).__aenter__()
            assert loop.time() - began == pytest.approx(waits, abs=0.01)
    assert await other.acquire() is True


@simulated
async def test_none_waits_for_ever():
    manager = LockManager(MemoryStore())
    waiter = asyncio.create_task(manager.get_lock("x").acquire(timeout=None))
    async with manager.lock("x", timeout=0):
        await asyncio.sleep(86_400)
        assert not waiter.done()
    assert await waiter


@simulated
async def test_a_lock_is_renewed_for_as_long_as_the_body_runs():
    manager = LockManager(MemoryStore())
    async with manager.lock("x", ttl=3) as held:
        token = held.token
        await asyncio.sleep(1000)
        assert held.token == token
        assert [holder.token for holder in await manager.holders("x")] == [token]
    assert await manager.holders("x") == []


@simulated
async def test_what_is_acquired_without_a_body_is_renewed_by_extend_only():
    manager = LockManager(MemoryStore())
    lock = manager.get_lock("x", ttl=3)
    assert await lock.acquire()
    token = lock.token
    await asyncio.sleep(2)
    await lock.extend(10)
    await asyncio.sleep(9)
    assert (lock.locked, lock.token) == (True, token)
    await asyncio.sleep(2)
    assert not lock.locked
    with pytest.raises(LockLost, match="not renewed within its 10 s"):
        await lock.extend()
    with pytest.raises(LockLost):
        await lock.release()
    with pytest.raises(LockLost, match="not held by this object"):
        await lock.release()


@simulated
async def test_a_lock_object_is_used_by_many_tasks_and_again():
    lock, inside = LockManager(MemoryStore()).lock("x", timeout=None), 0

    async def user() -> None:
        nonlocal inside
        async with lock as held:
            inside += 1
            assert (inside, lock.locked, lock.token) == (1, True, held.token)
            await asyncio.sleep(1)
            inside -= 1

    await asyncio.gather(*(user() for _ in range(4)))
    assert not lock.locked


@pytest.mark.parametrize(
    "wrong",
    [
        lambda m: m.lock(""),
        lambda m: m.lock("x", ttl=0),
        lambda m: m.lock("x", ttl=-1),
        lambda m: m.semaphore("x", 0),
        lambda m: m.lock("x", timeout=-1),
    ],
    ids=["no name", "no time", "less than none", "no place", "to wait less than nothing"],
)
def test_what_makes_no_sense_is_refused(wrong: Callable[[LockManager], Any]):
    with pytest.raises(ConfigurationError):
        wrong(LockManager(MemoryStore()))


def test_settings_are_checked():
    with pytest.raises(RepriseError, match="retry_delay"):
        LockManager(MemoryStore(), settings={"retry_dela": 1})


# ---------------------------------------------------------------- loss


async def _sleeps(lock: DistributedLock, seen: list[str]) -> None:
    async with lock:
        seen.append("in")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise


@simulated
async def test_a_body_is_cancelled_at_once_when_its_lock_is_broken():
    loop, manager, seen = asyncio.get_running_loop(), LockManager(MemoryStore()), list[str]()
    body = asyncio.create_task(_sleeps(manager.lock("x", ttl=600), seen))
    await asyncio.sleep(1)
    [holder] = await manager.break_lock("x")
    with pytest.raises(LockLost, match=rf"'x' \(token {holder.token}\) was lost: it ended, .* broken"):
        await body
    assert (seen, loop.time() < 1.1) == (["in", "cancelled"], True)
    assert (manager.statistics()["lost"], manager.statistics()["held"]) == (1, 0)


@simulated
async def test_a_body_is_cancelled_before_its_time_is_over_when_the_keeper_is_away():
    loop, store, seen = asyncio.get_running_loop(), Store(), list[str]()
    manager = LockManager(store)
    body = asyncio.create_task(_sleeps(manager.lock("x", ttl=30), seen))
    await asyncio.sleep(11)
    renewed_at = 10
    store.lease.away = True
    with pytest.raises(LockLost, match="not renewed within its 30 s"):
        await body
    assert renewed_at + 28 < loop.time() < renewed_at + 30
    assert store.lease.renewals > 5
    store.lease.away = False
    await asyncio.sleep(1)
    assert await manager.holders("x") == []


@simulated
async def test_a_keeper_that_comes_back_in_time_costs_nothing():
    store, seen = Store(), list[str]()
    manager = LockManager(store)
    body = asyncio.create_task(_sleeps(manager.lock("x", ttl=30), seen))
    await asyncio.sleep(11)
    store.lease.away = True
    await asyncio.sleep(27)
    store.lease.away = False
    await asyncio.sleep(1000)
    assert (seen, manager.statistics()["failed_renewals"] > 3) == (["in"], True)
    body.cancel()


@simulated
async def test_a_keeper_that_does_not_answer_does_not_keep_a_body_running():
    loop, store = asyncio.get_running_loop(), Store()

    async def never(grants: Any, ttl: float) -> Any:
        await asyncio.Event().wait()

    store.lease.renew = never
    with pytest.raises(LockLost, match="not renewed"):
        await _sleeps(LockManager(store).lock("x", ttl=30), [])
    assert 29 < loop.time() < 30


@simulated
async def test_somebody_elses_cancellation_is_not_ours():
    manager, seen = LockManager(MemoryStore()), list[str]()
    body = asyncio.create_task(_sleeps(manager.lock("x"), seen))
    await asyncio.sleep(1)
    body.cancel()
    with pytest.raises(asyncio.CancelledError):
        await body
    assert await manager.get_lock("x").acquire(timeout=0)


@simulated
async def test_a_task_goes_on_after_its_body_was_cancelled():
    manager = LockManager(MemoryStore())

    async def work() -> str:
        with pytest.raises(LockLost):
            await _sleeps(manager.lock("x"), [])
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        async with asyncio.timeout(5):
            await asyncio.sleep(1)
        return "went on"

    task = asyncio.create_task(work())
    await asyncio.sleep(1)
    await manager.break_lock("x")
    assert await task == "went on"


@simulated
async def test_a_body_that_goes_on_all_the_same_is_told_at_its_end():
    manager = LockManager(MemoryStore())

    async def stubborn(error: Exception | None) -> None:
        async with manager.lock("x"):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
            if error is not None:
                raise error

    for error in (None, ValueError("mine")):
        body = asyncio.create_task(stubborn(error))
        await asyncio.sleep(1)
        await manager.break_lock("x")
        with pytest.raises(ValueError if error else LockLost) as raised:
            await body
        if error is not None:
            assert "was lost meanwhile" in raised.value.__notes__[0]


@simulated
async def test_held_says_that_it_is_lost():
    manager = LockManager(MemoryStore())

    async def work() -> None:
        async with manager.lock("x") as held:
            held.check()
            await held.extend(5)
            await manager.break_lock("x")
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1)
            assert held.is_lost
            with pytest.raises(LockLost):
                held.check()
            with pytest.raises(LockLost):
                await held.extend(5)

    with pytest.raises(LockLost):
        await work()


@simulated
async def test_stopping_a_manager_ends_its_bodies_and_frees_its_locks():
    store, seen = MemoryStore(), list[str]()
    manager = LockManager(store)
    body = asyncio.create_task(_sleeps(manager.lock("x"), seen))
    await asyncio.sleep(1)
    await manager.stop()
    with pytest.raises(LockLost, match="its manager was stopped"):
        await body
    assert await LockManager(store).get_lock("x").acquire(timeout=0)
    await manager.stop()


@simulated
async def test_a_keeper_that_is_away_is_an_error_never_false():
    store = Store()
    manager = LockManager(store)
    await manager.start()
    store.lease.away = True
    with pytest.raises(StoreUnreachable):
        await manager.get_lock("x").acquire(timeout=0)
    with pytest.raises(StoreUnreachable):
        await manager.lock("x").__aenter__()


@simulated
async def test_a_body_that_is_done_counts_although_its_lock_cannot_be_given_back():
    store = Store()
    manager = LockManager(store)
    async with manager.lock("x"):
        store.lease.away = True
    lock = manager.get_lock("y")
    store.lease.away = False
    await lock.acquire()
    store.lease.away = True
    with pytest.raises(StoreUnreachable):
        await lock.release()


@simulated
async def test_whoever_is_cancelled_while_giving_back_gives_back_all_the_same():
    store = MemoryStore()
    manager, entered = LockManager(store), asyncio.Event()
    drop = store.lease.drop

    async def slow(grants: Any) -> None:
        entered.set()
        await asyncio.sleep(1)
        await drop(grants)

    store.lease.drop = slow  # type: ignore[method-assign]

    async def work() -> None:
        async with manager.lock("x"):
            pass

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await manager.get_lock("x").acquire(timeout=2)


# ---------------------------------------------------------------- kinds


@simulated
async def test_the_task_that_holds_a_reentrant_lock_enters_again():
    manager = LockManager(MemoryStore())
    async with manager.lock("x", reentrant=True) as outer:
        async with manager.lock("x", reentrant=True) as inner:
            assert inner.token == outer.token
        assert [holder.token for holder in await manager.holders("x")] == [outer.token]
        assert await asyncio.create_task(manager.get_lock("x", reentrant=True).acquire(timeout=0)) is False
    assert await manager.holders("x") == []


@simulated
async def test_a_body_inside_an_acquisition_of_its_own_task_is_renewed_and_cancelled():
    manager, seen = LockManager(MemoryStore()), list[str]()

    async def work() -> None:
        lock = manager.get_lock("x", ttl=3, reentrant=True)
        await lock.acquire()
        await _sleeps(lock, seen)

    task = asyncio.create_task(work())
    await asyncio.sleep(100)
    assert seen == ["in"]
    await manager.break_lock("x")
    with pytest.raises(LockLost):
        await task


@simulated
async def test_readers_share_and_a_writer_does_not():
    manager, order = LockManager(MemoryStore()), list[str]()

    async def enter(name: str, *, shared: bool) -> None:
        async with manager.lock("x", timeout=None, shared=shared):
            order.append(f"+{name}")
            await asyncio.sleep(10)
            order.append(f"-{name}")

    tasks = []
    for name in ("r1", "r2", "w", "r3"):
        tasks.append(asyncio.create_task(enter(name, shared=name[0] == "r")))
        await asyncio.sleep(1)
    await asyncio.gather(*tasks)
    assert order == ["+r1", "+r2", "-r1", "-r2", "+w", "-w", "+r3", "-r3"]


@simulated
async def test_a_semaphore_has_so_many_places():
    manager, inside, most = LockManager(MemoryStore()), 0, 0

    async def enter() -> None:
        nonlocal inside, most
        async with manager.semaphore("x", 3, timeout=None):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(1)
            inside -= 1

    await asyncio.gather(*(enter() for _ in range(10)))
    assert most == 3


# ---------------------------------------------------------------- deadlocks


async def _both(manager: LockManager, first: str, second: str, pause: float) -> str:
    async with manager.lock(first, timeout=None):
        await asyncio.sleep(pause)
        async with manager.lock(second, timeout=None):
            return "done"


@simulated
async def test_a_circle_is_reported_to_the_last_who_closes_it():
    store = MemoryStore()
    managers = {name: LockManager(store, owner=name) for name in ("billing", "stock", "post")}
    pairs = {"billing": ("a", "b"), "stock": ("b", "c"), "post": ("c", "a")}
    tasks = {
        name: asyncio.create_task(_both(managers[name], *pair, pause=number + 1), name="main")
        for number, (name, pair) in enumerate(pairs.items())
    }
    await asyncio.wait(tasks.values())
    assert [tasks[name].exception() for name in ("billing", "stock")] == [None, None]
    error = tasks["post"].exception()
    assert isinstance(error, DeadlockDetected)
    assert [line.partition(".")[0] for line in error.cycle] == ["post/main", "billing/main", "stock/main"]
    assert [line.partition(" holds ")[2] for line in error.cycle] == [
        "'c' and waits for 'a'",
        "'a' and waits for 'b'",
        "'b' and waits for 'c'",
    ]
    assert all(manager.statistics()["held"] == 0 for manager in managers.values())
    await asyncio.sleep(1)
    assert not [name for name in store.lease._names if name.startswith(WAITS)]


@simulated
async def test_of_those_who_close_a_circle_together_one_gives_up():
    manager = LockManager(MemoryStore())
    found = await asyncio.gather(
        _both(manager, "a", "b", 1), _both(manager, "b", "a", 1), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in found) == ["DeadlockDetected", "str"]


@simulated
async def test_a_task_that_waits_for_itself_is_told_so():
    manager = LockManager(MemoryStore(), owner="me")
    async with manager.lock("x"):
        with pytest.raises(DeadlockDetected, match="'x' and waits for 'x'"):
            await manager.lock("x", timeout=None).__aenter__()
        assert await manager.get_lock("x").acquire() is False
    assert await manager.holders("x") == []


@simulated
async def test_a_line_is_no_circle():
    manager = LockManager(MemoryStore())
    chain = [("a", "b"), ("b", "c"), ("c", "d")]
    assert await asyncio.gather(*(_both(manager, *pair, pause=1) for pair in chain)) == ["done"] * 3
    assert manager.statistics()["deadlocks"] == 0


# ---------------------------------------------------------------- figures


@simulated
async def test_statistics():
    manager = LockManager(MemoryStore())

    async def work() -> None:
        async with manager.lock("x", timeout=60):
            await asyncio.sleep(2)

    await asyncio.gather(work(), work())
    assert not await _refused(manager)
    found = manager.statistics()
    expected = {
        "acquired": 3, "refused": 1, "released": 3, "lost": 0, "held": 0, "waiting": 0, "deadlocks": 0,
        "wait_seconds": 2, "longest_wait_seconds": 2, "hold_seconds": 4, "longest_hold_seconds": 2,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=0.01)


async def _refused(manager: LockManager) -> bool:
    async with manager.lock("x"):
        return await asyncio.create_task(manager.get_lock("x").acquire(timeout=0))
