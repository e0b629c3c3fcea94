"""Sentinels name another master when one fails; the store goes where they say."""

import os
import signal
from contextlib import ExitStack

import pytest
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from tests.conftest import oldest_and_newest, start_or_skip
from tests.servers import free_port, redis_installs, start_redis, start_sentinel

from reprise.kernel.errors import StoreUnreachable
from reprise.stores import open_store
from reprise.stores.redis import RedisStore
from reprise.testing.suites import until
from reprise.testing.suites.keeper import soon


@pytest.fixture
def service():
    """A master, its replica, and a sentinel; the URL of the service, and the master."""
    install = oldest_and_newest(redis_installs())[-1]
    if install.url:
        pytest.skip("servers of our own are wanted, and one was named")
    master, replica, watcher = (free_port() for _ in range(3))
    here, follows = ("--bind", "127.0.0.1"), ("--replicaof", "127.0.0.1", str(master))
    with ExitStack() as stack:
        first = start_or_skip(install, *here, "--port", str(master), start=start_redis)
        stack.callback(first.stop)
        second = start_or_skip(install, *here, "--port", str(replica), *follows, start=start_redis)
        stack.callback(second.stop)
        sentinel = start_sentinel(install, "coordination", master, watcher)
        stack.callback(sentinel.stop)
        yield sentinel.url, first, second


async def test_a_failover_is_a_pause(service):
    url, master, replica = service
    store = open_store(f"{url}/0?patience=20")
    await store.start()
    first = await store.lease.take("x", "a", 60)

    async def follows():
        async with Redis.from_url(replica.url, protocol=3) as client:
            told = await client.info("replication")
            return told["master_link_status"] == "up" and await client.exists("reprise:1:lease:{x}:held")

    await until(follows, "the replica has it")
    await until(lambda: knows_replica(url), "the sentinel knows the replica")
    os.kill(master.pid(), signal.SIGKILL)
    assert await soon(store.lease.holder("x")) == [first]
    second = await soon(store.lease.take("y", "b", 60))
    assert second.token > first.token
    await store.stop()


async def knows_replica(url):
    host, _, port = url.partition("://")[2].partition("/")[0].partition(":")
    sentinel = Sentinel([(host, int(port))], socket_timeout=1)
    try:
        return bool(await sentinel.discover_slaves("coordination"))
    finally:
        for each in sentinel.sentinels:
            await each.aclose()


async def test_a_client_that_goes_by_sentinels_is_taken(service):
    url, *_ = service
    host, _, port = url.partition("://")[2].partition("/")[0].partition(":")
    sentinel = Sentinel([(host, int(port))], socket_timeout=1)
    client = sentinel.master_for("coordination")
    store = RedisStore(client)
    assert store.url == "redis+sentinel://coordination"
    await store.start()
    assert await store.lease.take("x", "a", 60)
    await store.stop()
    await client.aclose()
    for each in sentinel.sentinels:
        await each.aclose()


async def test_sentinels_that_know_no_such_service(service):
    url, *_ = service
    store = open_store(f"{url}x?patience=0.2")
    with pytest.raises(StoreUnreachable, match="No master found for 'coordinationx'"):
        await store.start()
    await store.stop()
