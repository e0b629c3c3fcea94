"""Locks and elections over any keeper: several stores on the same data, as several processes have them."""

import asyncio
from contextlib import aclosing, suppress
from itertools import groupby

import pytest

from reprise.coordination.leader import LeaderElection
from reprise.coordination.locks import LockManager
from reprise.kernel.errors import DeadlockDetected, LeadershipLost, LockLost, LockNotAcquired
from reprise.testing.suites import KeeperSuite, until
from reprise.testing.suites.keeper import LONG, soon


async def held_until(scope, end, entered=None):
    """Enter a scope and leave it when told; return what it gave."""
    async with scope as held:
        if entered is not None:
            entered.set()
        await end.wait()
        return held


async def inside(scope):
    """Enter a scope in a task of its own and stay; return the task."""
    entered = asyncio.Event()
    task = asyncio.create_task(held_until(scope, asyncio.Event(), entered))
    await soon(entered.wait())
    return task


async def _stands(keeper):
    """Return whether somebody stands for election."""
    return await keeper.waiting("leader/x") > 0


async def _waits(keeper, count):
    """Return whether so many wait for the lock, each for itself or for others."""
    return await keeper.waiting("lock/x") >= count


class LockingScenes(KeeperSuite):
    """What locks, semaphores, elections and majorities do with this keeper."""

    async def test_rivals_of_several_stores_never_meet_and_tokens_grow(self, keeper):
        managers = [LockManager(await keeper.open()) for _ in range(3)]
        busy, tokens = 0, []

        async def rival(manager):
            nonlocal busy
            for _ in range(4):
                async with manager.lock("x", LONG, timeout=None) as held:
                    busy += 1
                    assert busy == 1
                    tokens.append(held.token)
                    await asyncio.sleep(0)
                    busy -= 1

        await soon(asyncio.gather(*(rival(managers[n % 3]) for n in range(6))))
        assert tokens == sorted(set(tokens))
        assert len(tokens) == 24
        assert await managers[0].find() == []

    async def test_many_who_wait_in_each_of_two_stores_take_turns(self, keeper):
        managers = [LockManager(await keeper.open()) for _ in range(2)]
        seen, over = [], asyncio.Event()

        async def rival(number):
            while not over.is_set():
                async with managers[number].lock("x", LONG, timeout=None) as held:
                    seen.append((number, held.token))
                    await asyncio.sleep(0)
                    if len(seen) >= 150 and {0, 1} <= {number for number, _ in seen[-40:]}:
                        over.set()

        await soon(asyncio.gather(*(rival(n % 2) for n in range(12))))
        tokens = [token for _, token in seen]
        assert tokens == sorted(set(tokens))
        first = max(seen.index(next(turn for turn in seen if turn[0] == number)) for number in (0, 1))
        whose = [number for number, _ in seen[first : 150 - 12]]
        longest = max(len(list(turns)) for _, turns in groupby(whose))
        assert (
            longest <= 12
        )  # all six who wait in a store may have come before the one who waits in the other, twice

    async def test_a_holder_that_dies_is_outlived_by_those_who_wait_beside_it(self, keeper):
        manager = LockManager(await keeper.open())
        short = min(keeper.short, 0.3)
        first, second, last = (manager.get_lock("x", LONG) for _ in range(3))
        dead = manager.get_lock("x", short)
        assert await first.acquire()
        waiting = [asyncio.create_task(lock.acquire(timeout=None)) for lock in (second, dead, last)]
        await until(lambda: _waits(keeper, 2), "they stand in line")
        await first.release()
        assert await soon(waiting[0])
        await second.release()
        assert await soon(waiting[1])
        taken = dead._taken[-1]
        await keeper.pass_time(short)
        assert await soon(waiting[2])
        assert last.token > taken.token
        with pytest.raises(LockLost):
            await dead.release()
        await last.release()
        assert await manager.find() == []

    async def test_not_free_in_time_names_the_holder(self, keeper):
        here, there = LockManager(await keeper.open(), owner="here"), LockManager(await keeper.open())
        async with here.lock("x", LONG) as held:
            assert await there.get_lock("x").acquire(timeout=0.02) is False
            with pytest.raises(LockNotAcquired, match="held by here/"):
                await there.lock("x", timeout=0).__aenter__()
            [holder] = await there.find("x")
            assert (holder.lock, holder.token) == ("x", held.token)
        assert await there.get_lock("x").acquire(timeout=0)

    async def test_a_lock_that_ended_by_the_keepers_clock_is_lost(self, keeper):
        here, there = LockManager(await keeper.open()), LockManager(await keeper.open())
        lock, other = here.get_lock("x", keeper.short), there.get_lock("x", LONG)
        assert await lock.acquire()
        token = lock.token
        await keeper.pass_time(keeper.short)
        assert await other.acquire()
        assert other.token > token
        with pytest.raises(LockLost):
            await lock.extend(LONG)
        with pytest.raises(LockLost):
            await lock.release()
        await other.release()

    async def test_a_broken_lock_is_heard_of_in_another_store(self, keeper):
        here, there = LockManager(await keeper.open()), LockManager(await keeper.open())
        body = await inside(here.lock("x", LONG))
        assert len(await there.break_lock("x")) == 1
        with pytest.raises(LockLost):
            await soon(body)
        await here.stop()
        await there.stop()

    async def test_readers_a_writer_and_a_semaphore(self, keeper):
        here, there = LockManager(await keeper.open()), LockManager(await keeper.open())
        async with here.lock("x", LONG, shared=True), there.lock("x", LONG, shared=True):
            assert not await there.get_lock("x").acquire(timeout=0)
        async with here.semaphore("s", 2, LONG), there.semaphore("s", 2, LONG):
            assert not await there.semaphore("s", 2).acquire(timeout=0)
        assert await there.get_lock("x").acquire(timeout=0)

    async def test_a_circle_over_two_stores_is_reported_to_one(self, keeper):
        managers = [LockManager(await keeper.open(), owner=name) for name in ("one", "two")]
        ready = asyncio.Barrier(2)

        async def both(manager, first, second):
            async with manager.lock(first, LONG, timeout=None):
                await ready.wait()
                async with manager.lock(second, LONG, timeout=None):
                    return "done"

        found = await soon(
            asyncio.gather(both(managers[0], "a", "b"), both(managers[1], "b", "a"), return_exceptions=True)
        )
        [error] = [each for each in found if each != "done"]
        assert isinstance(error, DeadlockDetected)
        assert len(error.cycle) == 2
        for manager in managers:
            await manager.stop()

    async def test_leaders_follow_each_other(self, keeper):
        elections = [LeaderElection(await keeper.open(), "x", ttl=LONG, candidate_id=name) for name in "ab"]
        seen, changed = [], asyncio.Condition()

        async def watch():
            async with aclosing(elections[1].observe()) as leaders:
                async for leader in leaders:
                    async with changed:
                        seen.append(leader and leader.candidate_id)
                        changed.notify_all()

        async def saw(name):
            async with changed:
                await changed.wait_for(lambda: seen[-1:] == [name])

        watching = asyncio.create_task(watch())
        await soon(saw(None))
        first = await inside(elections[0].campaign())
        await soon(saw("a"))
        waiting = asyncio.create_task(held_until(elections[1].campaign(), asyncio.Event()))
        await until(lambda: _stands(keeper), "b stands in line")
        await elections[1].depose()
        with pytest.raises(LeadershipLost):
            await soon(first)
        await soon(saw("b"))
        await elections[1].resign()
        await soon(waiting)
        await soon(saw(None))
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        for election in elections:
            await election.stop()

    async def test_a_majority_of_three(self):
        keepers = [self.make_keeper() for _ in range(3)]
        stores = [await keeper.open() for keeper in keepers]
        here, there = LockManager(stores), LockManager(stores)
        tokens = []
        for turn in range(3):
            manager = (here, there)[turn % 2]
            async with manager.lock("x", LONG, timeout=30) as held:
                tokens.append(held.token)
                assert not await (here, there)[1 - turn % 2].get_lock("x").acquire(timeout=0)
                if turn == 1:  # one keeper is out of step from here on
                    await stores[0].lease.lift(await stores[0].lease.take("other", "o", LONG), 1000)
        assert tokens == sorted(set(tokens))
        assert [await store.lease.find("lock/") for store in stores] == [[], [], []]
        await here.stop()
        await there.stop()
        for keeper in keepers:
            await keeper.close()
