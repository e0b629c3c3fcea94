"""A majority of Redis masters, each a server of its own: some stand still, some are killed, each time others."""

import asyncio
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from tests.conftest import oldest_and_newest, start_or_skip
from tests.contract.redis.keeper import RedisKeeper
from tests.servers import redis_installs, start_redis

from reprise import LockLost, LockManager, StoreUnreachable
from reprise.testing.suites import until
from reprise.testing.suites.keeper import soon

MASTERS = 5
TURNS = 4
LONG = 60


@pytest.fixture(scope="module")
def masters():
    """Servers that keep what they answered."""
    install = oldest_and_newest(redis_installs())[-1]
    if install.url:
        pytest.skip("the server of REPRISE_TEST_REDIS is one, and not ours to stop")
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with ThreadPoolExecutor(MASTERS) as starting:
        start = lambda _: start_or_skip(install, *options, start=start_redis)  # noqa: E731
        servers = list(starting.map(start, range(MASTERS)))
        yield servers
        list(starting.map(lambda server: server.stop(), servers))


@pytest.fixture
async def keepers(masters):
    keepers = [RedisKeeper(server.url) for server in masters]
    yield keepers
    for keeper in keepers:
        await keeper.close()


@pytest.fixture
async def managers(keepers):
    """Two of them, each with connections of its own, as two processes have."""
    managers = [LockManager([await keeper.open() for keeper in keepers]) for _ in range(2)]
    yield managers
    for manager in managers:
        await manager.stop()


@contextmanager
def standing_still(*servers):
    """Let servers stand still for a while."""
    with ExitStack() as stack:
        for server in servers:
            os.kill(server.pid(), signal.SIGSTOP)
            stack.callback(os.kill, server.pid(), signal.SIGCONT)
        yield


async def out_of_step(keepers):
    """Let each count from elsewhere, as servers do whose clocks differ."""
    for number, keeper in enumerate(keepers):
        [store, *_] = keeper.opened
        grant = await store.lease.take("lock/x", "o", LONG)
        await store.lease.drop([await store.lease.lift(grant, grant.token + number * 3_600_000_000)])


async def gets(manager, name="x"):
    """Try once; a majority that does not answer gives nothing either."""
    try:
        return await manager.get_lock(name, LONG).acquire(timeout=0)
    except StoreUnreachable:
        return False


async def nothing_is_left(keepers):
    """Wait until all have heard that everything was given back, also those that stood still."""

    async def free():
        return not any([await keeper.opened[0].lease.find() for keeper in keepers])

    await until(free, "everything is given back everywhere")


async def test_tokens_grow_while_the_majority_shifts(masters, managers, keepers):
    """Two of five stand still, others each time: whoever has the lock has it alone, under a higher token."""
    dice, tokens = random.Random(5), []
    await out_of_step(keepers)
    for turn in range(TURNS):
        here, there = managers[turn % 2], managers[1 - turn % 2]
        with standing_still(*dice.sample(masters, 2)):
            async with here.lock("x", LONG, timeout=30) as held:
                tokens.append(held.token)
                assert not await gets(there)
    assert tokens == sorted(set(tokens))
    await nothing_is_left(keepers)


async def test_tokens_grow_over_masters_that_are_killed(masters, managers, keepers):
    """Three of five are killed and come back while the lock is held: they know it still, and every token that was given."""
    dice, tokens = random.Random(7), []
    await out_of_step(keepers)
    for turn in range(TURNS):
        here, there = managers[turn % 2], managers[1 - turn % 2]
        async with here.lock("x", LONG, timeout=30) as held:
            tokens.append(held.token)
            await asyncio.gather(*(asyncio.to_thread(each.crash) for each in dice.sample(masters, 3)))
            assert not await gets(there)
    assert tokens == sorted(set(tokens))
    await nothing_is_left(keepers)


async def test_without_a_majority_nobody_gets_a_lock_and_who_has_one_loses_it(masters, managers, keepers):
    manager, entered = managers[0], asyncio.Event()

    async def body():
        async with manager.lock("y", ttl=1):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await soon(entered.wait())
    with standing_still(*masters[:3]):
        with pytest.raises(StoreUnreachable, match="Of 5 keepers 3 cannot be reached"):
            await manager.get_lock("z").acquire(timeout=0)
        with pytest.raises(LockLost):
            await soon(task)
        waits = asyncio.create_task(manager.get_lock("z", LONG).acquire(timeout=None))
        await asyncio.sleep(0)
    assert await soon(waits), "who waits gets it from the majority that is back"
    await managers[0].stop()
    await nothing_is_left(keepers)


async def test_one_of_three_stands_still(masters, keepers):
    """It costs nobody his lock, holds up nobody, and hears in the end that all is given back."""
    stores = [await keeper.open() for keeper in keepers[:3]]
    manager = LockManager(stores)
    with standing_still(masters[0]):
        tokens = []
        for _ in range(3):
            lock = manager.get_lock("x", LONG)
            assert await lock.acquire(timeout=30)
            await lock.extend(LONG)
            tokens.append(lock.token)
            await lock.release()
        assert tokens == sorted(set(tokens))
    await nothing_is_left(keepers[:3])
    await manager.stop()
