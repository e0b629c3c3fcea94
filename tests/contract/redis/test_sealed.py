"""What a store over Redis seals where it is given keys."""

import os

import pytest
from redis.asyncio import Redis
from tests.contract.redis.keeper import RedisKeeper

from reprise import KeyMissing, KeyRing, StateSync, open_store

SECRET = "a word that nobody may read"


@pytest.fixture
async def url(redis):
    keeper = RedisKeeper(redis.url)
    yield f"{redis.url}?prefix={keeper.prefix}"
    await keeper.close()


async def everything(url):
    """Return all that Redis holds under a prefix, as it holds it."""
    server, _, prefix = url.partition("?prefix=")
    async with Redis.from_url(server) as client:
        return b"".join([await client.dump(key) for key in await client.keys(f"{prefix}:*")])


async def test_values_of_shared_state_are_sealed(url):
    plain, sealed = open_store(url), open_store(url, keys=KeyRing({"1": os.urandom(32)}, current="1"))
    for store in (plain, sealed):
        await store.start()
    async with StateSync(plain, "before") as sync:
        await sync.set("a", SECRET)
    assert SECRET.encode() in await everything(url)
    async with StateSync(sealed, "before") as sync:
        assert await sync.get("a") == SECRET  # what was written before there were keys
        await sync.delete("a")
    await plain.cells.prune("state/before", 0)
    assert SECRET.encode() not in await everything(url)
    heard = []
    async with StateSync(sealed, "app") as sync, StateSync(sealed, "app") as other:
        other.on_update(heard.append)
        await sync.set("a", SECRET)
        await sync.add("members", SECRET)
        assert await other.get("members", fresh=True) == [SECRET]
        assert [update.value for update in await sync.history("a")] == [SECRET]
    assert [update.value for update in heard] == [SECRET, [SECRET]]
    assert SECRET.encode() not in await everything(url)
    with pytest.raises(KeyMissing, match="'1'"):
        await StateSync(plain, "app").start()
    await sealed.begin_epoch()
    for store in (plain, sealed):
        await store.stop()
