"""Waiting for locks in company, over the memory keeper, in virtual time."""

import asyncio
from typing import Any

import pytest
from tests.unit.coordination.test_locks import Store, simulated

from reprise import DeadlockDetected, LockLost, LockManager, StoreClosed, StoreUnreachable
from reprise.stores.lease import Grant
from reprise.stores.memory import MemoryStore

X = "lock/x"


class Counted:
    """A lease that counts what it is asked."""

    def __init__(self, store: MemoryStore) -> None:
        self._lease, self.asked = store.lease, list[str]()

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self._lease, name)


async def turns(
    manager: LockManager, seen: list[tuple[str, int]], name: str, pause: float = 0, **options: Any
) -> None:
    async with manager.lock("x", timeout=None, **options) as held:
        seen.append((name, held.token))
        await asyncio.sleep(pause)


def names(seen: list[tuple[str, int]]) -> str:
    return "".join(name for name, _ in seen)


async def crowd(
    manager: LockManager, seen: list[tuple[str, int]], who: str, pause: float = 0, **options: Any
) -> list[Any]:
    """Let some come one after the other, each when the one before waits."""
    tasks = list[Any]()
    for name in who:
        tasks.append(asyncio.create_task(turns(manager, seen, name, pause, **options)))
        await asyncio.sleep(0.001)
    return tasks


@simulated
async def test_those_who_wait_together_cost_the_keeper_little_and_have_growing_tokens():
    store, seen = MemoryStore(), list[tuple[str, int]]()
    counted = Counted(store)
    store.lease: Any = counted
    manager = LockManager(store)
    tasks = await crowd(manager, seen, "abcdefghijkl", 1)
    await asyncio.gather(*tasks)
    assert names(seen) == "abcdefghijkl"
    tokens = [token for _, token in seen]
    assert tokens == sorted(set(tokens))
    # a and b stand in line themselves, one stands in for c, who was alone then, and one for all others
    assert counted.asked.count("take") == 4
    assert counted.asked.count("drop") == 4
    assert counted.asked.count("lift") == 1
    assert (await LockManager(store).get_lock("x").acquire(timeout=0)) is True


@simulated
async def test_whoever_stands_in_line_is_not_overtaken_by_a_crowd_elsewhere():
    store, seen = MemoryStore(), list[tuple[str, int]]()
    here, there = LockManager(store), LockManager(store)
    tasks = await crowd(here, seen, "abcd", 1)  # a has it, b and c stand in line
    tasks += await crowd(there, seen, "X")
    tasks += await crowd(here, seen, "efg", 1)
    tasks += await crowd(there, seen, "YZ")
    await asyncio.gather(*tasks)
    # nobody stood in for d to g before c had its turn: so they come after X and Y, and Z after them
    assert names(seen) == "abcXYdefgZ"
    assert [token for _, token in seen] == sorted({token for _, token in seen})


@simulated
async def test_who_goes_on_for_ever_here_starves_nobody_elsewhere():
    store, seen = MemoryStore(), list[tuple[str, int]]()
    here, there = LockManager(store), LockManager(store)
    over = asyncio.Event()

    async def again_and_again() -> None:
        while not over.is_set():
            await turns(here, seen, ".", 0.01)

    greedy = [asyncio.create_task(again_and_again()) for _ in range(5)]
    await asyncio.sleep(1)
    began = len(seen)
    await turns(there, seen, "X")
    over.set()
    await asyncio.gather(*greedy)
    assert names(seen)[began:].index("X") <= 10  # two companies of all who are here
    assert [token for _, token in seen] == sorted({token for _, token in seen})


@simulated
async def test_who_gives_up_or_is_cancelled_is_passed_over():
    store, seen = MemoryStore(), list[tuple[str, int]]()
    manager = LockManager(store)
    first = await crowd(manager, seen, "ab", 5)
    refused = [asyncio.create_task(manager.get_lock("x").acquire(timeout=1)) for _ in range(3)]
    others = await crowd(manager, seen, "cdef", 5)
    others[1].cancel()
    assert await asyncio.gather(*refused) == [False] * 3
    await asyncio.gather(*first, *others, return_exceptions=True)
    assert names(seen) == "abcef"
    assert manager.statistics()["waiting"] == manager.statistics()["held"] == 0
    assert await store.lease.find() == []


@simulated
async def test_where_all_have_gone_nobody_stands_in_line():
    store = MemoryStore()
    manager = LockManager(store)
    async with LockManager(store).lock("x"):
        waiting = [asyncio.create_task(manager.get_lock("x").acquire(timeout=9)) for _ in range(5)]
        await asyncio.sleep(1)
        assert store.lease.waiting(X) == 2
        for task in waiting[::2]:
            task.cancel()
        await asyncio.sleep(9)
        assert store.lease.waiting(X) == 0
    assert not manager._acquirer._lines
    assert await manager.get_lock("x").acquire(timeout=0)


@simulated
async def test_a_turn_that_comes_when_its_taker_is_cancelled_goes_to_the_next():
    store, seen = MemoryStore(), list[tuple[str, int]]()
    manager = LockManager(store)

    async def hands_on_and_cancels() -> None:
        await turns(manager, seen, "d")
        tasks[4].cancel()  # who has its turn now and does not know it yet

    tasks = await crowd(manager, seen, "abc", 1)
    tasks.append(asyncio.create_task(hands_on_and_cancels()))
    await asyncio.sleep(0.001)
    tasks += await crowd(manager, seen, "ef")
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [False] * 4 + [True, False]
    assert names(seen) == "abcdf"
    loop = asyncio.get_running_loop()
    assert loop.time() < 10  # nobody waited for the end of a lease
    assert await store.lease.find() == []


@simulated
async def test_a_holder_that_never_gives_back_is_outlived():
    store, seen = MemoryStore(), list[tuple[str, int]]()
    manager = LockManager(store)
    tasks = await crowd(manager, seen, "ab", 1)
    lock = manager.get_lock("x", ttl=20)
    dead = asyncio.create_task(lock.acquire(timeout=None))
    await asyncio.sleep(0.001)
    tasks += await crowd(manager, seen, "cdef", 1)
    assert await dead
    token = lock.token
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*tasks)
    assert loop.time() - began == pytest.approx(20 + 4, abs=0.3)
    assert names(seen) == "abcdef"
    assert seen[1][1] < token < seen[2][1]
    with pytest.raises(LockLost):
        await lock.release()


@simulated
async def test_a_lock_that_is_broken_goes_on_with_those_who_had_no_turn():
    store, seen = MemoryStore(), list[tuple[str, int]]()
    manager = LockManager(store)
    tasks = await crowd(manager, seen, "abcde", 100)
    await asyncio.sleep(350)  # d has its turn, e waits for it
    assert names(seen) == "abcd"
    [broken] = await LockManager(store).break_lock("x")
    assert broken.token > seen[-1][1]  # the last that the company may use
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each).__name__ for each in ended] == ["NoneType"] * 3 + ["LockLost", "NoneType"]
    assert names(seen) == "abcde"
    assert seen[-1][1] > broken.token


@simulated
async def test_a_lease_that_is_gone_is_not_handed_on():
    store, seen = MemoryStore(), list[tuple[str, int]]()
    manager = LockManager(store)
    tasks = await crowd(manager, seen, "abcde", 1)
    await asyncio.sleep(3.5)  # d has its turn, e waits for it
    await store.lease.drop(await store.lease.holder(X))  # and nobody is told
    other = LockManager(store).get_lock("x")
    assert await other.acquire(timeout=0)
    await asyncio.sleep(5)
    assert names(seen) == "abcd"
    token = other.token
    await other.release()
    await asyncio.gather(*tasks)
    assert names(seen) == "abcde"
    assert seen[-2][1] < token < seen[-1][1]


@simulated
async def test_each_has_the_time_to_live_it_asked_for():
    store, seen = MemoryStore(), list[tuple[str, int]]()
    manager = LockManager(store)
    tasks = await crowd(manager, seen, "abc", 50, ttl=30)
    locks = [manager.get_lock("x", ttl=ttl) for ttl in (65, 70, 20)]
    got = list[Any]()
    for lock in locks:
        got.append(asyncio.create_task(lock.acquire(timeout=None)))
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    for lock, waiting, ttl in zip(locks, got, (65, 70, 20), strict=True):
        assert await waiting
        assert _left(store) == pytest.approx(ttl, abs=0.1)
        if ttl == 20:
            await asyncio.sleep(18)
            assert lock.locked
            await asyncio.sleep(2)
            assert not lock.locked
        else:
            await lock.release()


def _left(store: MemoryStore) -> float:
    [grant] = store.lease._names[X].grants.values()
    return (grant.expires_at - store.lease._clock.now()) / 1e6


@simulated
async def test_a_keeper_that_goes_away_is_an_error_for_all_who_wait():
    store = Store()
    manager, seen = LockManager(store), list[tuple[str, int]]()
    tasks = await crowd(manager, seen, "abcde", 1, ttl=3)
    store.lease.away = True
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert StoreUnreachable in map(type, ended)
    assert {type(each) for each in ended} <= {StoreUnreachable, LockLost, type(None)}
    store.lease.away = False
    await asyncio.sleep(10)
    assert await manager.get_lock("x").acquire(timeout=0)


@simulated
async def test_stopping_a_manager_ends_the_waiting():
    store, seen = MemoryStore(), list[tuple[str, int]]()
    manager = LockManager(store)
    tasks = await crowd(manager, seen, "abcdef", 10)
    await asyncio.sleep(25)  # c has it, the next company waits
    await manager.stop()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in ended] == [type(None)] * 2 + [LockLost] + [StoreClosed] * 3
    assert await LockManager(store).get_lock("x").acquire(timeout=0)


@simulated
async def test_a_circle_is_found_through_the_turn_of_another_name():
    store, seen = MemoryStore(), list[tuple[str, int]]()
    here, there = LockManager(store, owner="here"), LockManager(store, owner="there")
    ready = asyncio.Event()

    async def last_of_company() -> None:
        async with here.lock("x", timeout=None):
            ready.set()
            await asyncio.sleep(1)
            async with here.lock("y", timeout=None):
                pass

    async def other() -> None:
        async with there.lock("y", timeout=None):
            await ready.wait()
            await asyncio.sleep(2)
            async with there.lock("x", timeout=None):
                pass

    tasks = [asyncio.create_task(other())]
    tasks += await crowd(here, seen, "abcde", 1)
    tasks.append(asyncio.create_task(last_of_company(), name="last"))
    found = await asyncio.gather(*tasks, return_exceptions=True)
    [error] = [each for each in found if each is not None]
    assert isinstance(error, DeadlockDetected)
    assert [line.split(" holds ")[1] for line in error.cycle] == [
        "'y' and waits for 'x'",
        "'x' and waits for 'y'",
    ]
    assert error.cycle[1].startswith("here/last.")
    await asyncio.sleep(1)
    assert await store.lease.find() == []


@simulated
async def test_a_lease_that_the_keeper_gave_and_cannot_lift_is_given_back_and_asked_for_again():
    store, seen = Store(), list[tuple[str, int]]()
    manager, lifted = LockManager(store), list[int]()

    async def lift(grant: Grant, token: int) -> Grant | None:
        lifted.append(grant.token)
        if len(lifted) == 1:
            raise StoreUnreachable("It is away.")
        return await real(grant, token)

    real, store.lease.lift = store.lease.lift, lift
    await asyncio.gather(*await crowd(manager, seen, "abcde", 1, ttl=3600))
    assert names(seen) == "abcde"
    assert len(set(lifted)) == 2, "it was not given back: it would have the same token"
    assert await LockManager(store).get_lock("x").acquire(timeout=0)
