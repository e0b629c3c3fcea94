"""The layout of keys stays: what others wrote under it, long ago or by hand, is read; what we write has its shape.

A change of the layout fails here. Then the new one is the next version, and reads this one.
"""

from struct import pack
from time import time

import msgspec
import pytest
from redis.asyncio import Redis

from reprise import ConfigurationError
from reprise.kernel.errors import SchemaTooNew
from reprise.stores.cells import ABSENT, Cell, Change, Changed
from reprise.stores.lease import Grant
from reprise.stores.queue import Settlement, Task
from reprise.stores.redis import RedisStore

AT = 1_700_000_000_000_000
LATE = 4_000_000_000_000_000
"""Microseconds: a moment that has passed, and one that has not come."""


@pytest.fixture
async def server(redis):
    async with Redis.from_url(redis.url, protocol=3) as client:
        yield client


def task(order, due, offered, number, level, data):
    return pack(">ddddi", order, due, offered, number, level) + data


def claim(state, place, token, until, claims, ended, worker, note):
    return msgspec.msgpack.encode((state, place, token, until, claims, ended, worker, note))


def place(number, id):
    return f"{number:016}{id}"


async def write_by_hand(server, root):
    """Write what a store of layout 1 has left behind."""
    await server.set(f"{root}layout", 1)
    await server.set(f"{root}epoch", 2)
    await write_leases(server, f"{root}lease:{{locks%2Fa}}")
    await write_queue(server, f"{root}queue:{{mail}}")
    await server.sadd(f"{root}queues", "mail")
    await write_cells(server, f"{root}cells:{{state%2Fapp}}")
    await server.sadd(f"{root}spaces", "state/app")


async def write_leases(server, key):
    held = {"last": f"{LATE}", "shared": "0", "=me": f"{LATE} {LATE + 1} 7"}
    await server.hset(f"{key}:held", mapping=held)


async def write_queue(server, key):
    tasks = {
        "now": task(-3.5, 0, AT, 1, 2, b"first"),
        "then": task(-3.5, LATE, AT + 1, 2, 2, b"later"),
        "mine": task(-4.0, 0, AT + 2, 3, 1, b"claimed"),
        "bad": task(-4.0, 0, AT + 3, 4, 1, b"dead"),
        "over": task(-4.0, 0, AT + 4, 5, 1, b""),
    }
    await server.hset(f"{key}:task", mapping=tasks)
    claims = {
        "mine": claim("claimed", place(3, "mine"), 7, LATE, 2, 0, "w", "once"),
        "bad": claim("dead", place(4, "bad"), 6, 0, 1, AT + 9, "", "why"),
        "over": claim("done", place(5, "over"), 5, LATE, 1, AT + 8, "", ""),
    }
    await server.hset(f"{key}:claim", mapping=claims)
    await server.hset(f"{key}:outcome", "over", b"result")
    await server.zadd(f"{key}:ready", {place(1, "now"): -3.5})
    await server.zadd(f"{key}:since", {place(1, "now"): AT})
    await server.zadd(f"{key}:later", {place(2, "then"): LATE})
    await server.zadd(f"{key}:claimed", {place(3, "mine"): LATE})
    await server.zadd(f"{key}:dead", {place(4, "bad"): AT + 9})
    await server.zadd(f"{key}:done", {place(5, "over"): AT + 8})
    await server.zadd(f"{key}:done:end", {place(5, "over"): LATE})
    await server.hset(f"{key}:levels", "2", 1)
    await server.hset(f"{key}:meta", mapping={"number": 5, "token": 7, "finished": 1, "failed": 1})


async def write_cells(server, key):
    await server.hset(
        f"{key}:cell", mapping={"a": pack(">dd", 12, 0) + b"1", "b": pack(">dd", 14, LATE) + b"2"}
    )
    await server.zadd(f"{key}:names", {"a": 0, "b": 0})
    await server.zadd(f"{key}:ends", {"b": LATE})
    for position, before, name, data, ends in (
        (12, 11, "a", b"1", 0),
        (13, 12, "c", None, 0),
        (14, 13, "b", b"2", LATE),
    ):
        entry = {"n": name, "e": ends, "o": "me", "a": AT, "p": before} | ({"d": data} if data else {})
        await server.xadd(f"{key}:feed", entry, id=f"{position}-0")
    await server.hset(f"{key}:meta", mapping={"head": 14, "kept": 11})


async def test_what_was_written_under_layout_1_is_read(keeper, server):
    root = f"{keeper.prefix}:1:"
    await write_by_hand(server, root)
    store = await keeper.open()
    assert (await store.schema(), store.epoch) == ((2, 2), 2)
    assert await store.lease.holder("locks/a") == [Grant("locks/a", "me", LATE, LATE + 1)]
    assert await store.lease.take("locks/a", "you", 60) is None

    assert await store.queue.names() == ["mail"]
    assert await store.queue.find("mail") == [
        Task("mine", "mail", b"claimed", -4.0, 0, "claimed", 2, 7, "w", LATE, "once", b"", 1, AT + 2),
        Task("bad", "mail", b"dead", -4.0, 0, "dead", 1, 6, note="why", level=1, offered_at=AT + 3, ended_at=AT + 9),
        Task("over", "mail", b"", -4.0, 0, "done", 1, 5, "", LATE, "", b"result", 1, AT + 4, AT + 8),
        Task("now", "mail", b"first", -3.5, level=2, offered_at=AT),
        Task("then", "mail", b"later", -3.5, LATE, level=2, offered_at=AT + 1),
    ]  # fmt: skip
    stats = await store.queue.stats("mail")
    assert (stats.ready, stats.later, stats.claimed, stats.done, stats.dead) == (1, 1, 1, 1, 1)
    assert (stats.finished, stats.failed, stats.levels) == (1, 1, {2: 1})
    assert stats.oldest_us == pytest.approx(time() * 1e6 - AT, abs=60e6)
    [claimed] = await store.queue.claim("mail", "x", 5, 60)
    assert (claimed.id, claimed.data) == ("now", b"first")
    [mine] = await store.queue.find("mail", ids=["mine"])
    assert await store.queue.settle([Settlement(mine, "done"), Settlement(claimed, "gone")]) == [True, True]

    assert await store.cells.spaces() == ["state/app"]
    seen = await store.cells.scan("state/app")
    assert (seen.position, seen.cells) == (14, [Cell("a", b"1", 12), Cell("b", b"2", 14, LATE)])
    assert await store.cells.feed("state/app", 11) == [
        Changed(12, "a", b"1", 0, "me", AT),
        Changed(13, "c", None, 0, "me", AT),
        Changed(14, "b", b"2", LATE, "me", AT),
    ]
    # The store is in an epoch, and positions go on above its floor.
    view = await store.cells.apply("state/app", [Change("a", b"2", 12), Change("c", b"3", ABSENT)])
    assert 14 < view.cells[0].version < view.cells[1].version == view.position


async def test_what_layout_1_kept_is_removed_in_time(keeper, server):
    root = f"{keeper.prefix}:1:"
    key = f"{root}queue:{{mail}}"
    await write_by_hand(server, root)
    await server.hset(f"{key}:task", "past", task(-4.0, 0, AT + 5, 6, 1, b""))
    await server.hset(f"{key}:claim", "past", claim("done", place(6, "past"), 5, AT + 10, 1, AT + 9, "", ""))
    await server.zadd(f"{key}:done", {place(6, "past"): AT + 9})
    await server.zadd(f"{key}:done:end", {place(6, "past"): AT + 10})
    store = await keeper.open()
    assert (await store.queue.stats("mail")).done == 1
    assert [await store.queue.sweep("mail") for _ in range(2)] == [1, 0]
    assert await server.zrange(f"{key}:done", 0, -1) == [place(5, "over").encode()]
    assert not await server.hexists(f"{key}:task", "past")


async def test_what_we_write_has_the_shape_of_layout_2(keeper, server):
    """Every key, of what type; and the fields that are not those of a moment."""
    store = await keeper.open()
    grant = await store.lease.take("a", "me", 60)
    waits = store.lease.take("a", "you", 60, wait=0.01)
    assert await waits is None
    tasks = [Task(id, "q", b"x", level=2) for id in ("one", "two", "three", "four")]
    await store.queue.offer([*tasks, Task("later", "q", delay=60)])
    one, two, three = await store.queue.claim("q", "w", 3, 60)
    long = b"z" * 513
    await store.queue.settle(
        [Settlement(one, "done", outcome=b"y", keep=60), Settlement(two, "dead", outcome=long, keep=60)]
    )
    await store.cells.apply("s", [Change("a", b"1"), Change("b", b"2", ttl=60)])
    root = f"{keeper.prefix}:1:"
    names = sorted(
        name.decode().removeprefix(root) for name in await server.keys(f"{root}*") if b":said:" not in name
    )
    types = {name: (await server.type(root + name)).decode() for name in names}
    assert types == {
        "cells:{s}:cell": "hash",
        "cells:{s}:ends": "zset",
        "cells:{s}:feed": "stream",
        "cells:{s}:meta": "hash",
        "cells:{s}:names": "zset",
        "layout": "string",
        "lease:{a}:held": "hash",
        "queue:{q}:claim": "hash",
        "queue:{q}:claimed": "zset",
        "queue:{q}:dead": "zset",
        "queue:{q}:dead:end": "zset",
        "queue:{q}:done": "zset",
        "queue:{q}:done:end": "zset",
        "queue:{q}:later": "zset",
        "queue:{q}:levels": "hash",
        "queue:{q}:meta": "hash",
        "queue:{q}:outcome": "hash",
        "queue:{q}:ready": "zset",
        "queue:{q}:since": "zset",
        "queue:{q}:since:count": "hash",
        "queue:{q}:task": "hash",
        "queues": "set",
        "spaces": "set",
    }
    held = await server.hgetall(f"{root}lease:{{a}}:held")
    assert held.keys() == {b"last", b"shared", b"=me"}
    assert held[b"=me"].split()[:2] == [b"%d" % grant.token, b"%d" % grant.expires_at]
    [four] = await store.queue.find("q", ids=["four"])
    assert await server.hget(f"{root}queue:{{q}}:task", "four") == task(0, 0, four.offered_at, 4, 2, b"x")
    packed = await server.hget(f"{root}queue:{{q}}:claim", "three")
    assert msgspec.msgpack.decode(packed) == [
        "claimed",
        place(3, "three"),
        three.token,
        three.until,
        1,
        0,
        "w",
        "",
    ]
    ended = {each.id: each for each in await store.queue.find("q", ids=["one", "two"])}
    packed = await server.hget(f"{root}queue:{{q}}:claim", "one")
    assert msgspec.msgpack.decode(packed)[8:] == ["y"]
    assert await server.hgetall(f"{root}queue:{{q}}:outcome") == {b"two": long}
    assert [ended[id].outcome for id in ("one", "two")] == [b"y", long]
    for id, state in (("one", "done"), ("two", "dead")):
        times = f"{ended[id].ended_at}:{ended[id].until}"
        assert await server.zrange(f"{root}queue:{{q}}:{state}:end", 0, -1) == [times.encode()]
    assert await server.hgetall(f"{root}queue:{{q}}:since:count") == {b"%d" % four.offered_at: b"1"}
    assert await server.zrange(f"{root}queue:{{q}}:claimed", 0, -1) == [place(3, "three").encode()]
    assert await server.hget(f"{root}cells:{{s}}:cell", "a") == pack(">dd", 1, 0) + b"1"
    [(at, entry), _] = await server.xrange(f"{root}cells:{{s}}:feed")
    assert (at, set(entry)) == (b"1-0", {b"n", b"e", b"o", b"a", b"p", b"d"})
    assert {name for name in await server.keys(f"{root}*") if b":said:" in name}


async def test_a_fresh_store_is_marked_and_a_newer_one_refused(keeper, server):
    store = await keeper.open()
    key = f"{keeper.prefix}:1:layout"
    assert await server.get(key) == b"2"
    await keeper.reopen(store)
    await server.set(key, 3)
    with pytest.raises(SchemaTooNew, match="of layout 3; this Reprise knows 2"):
        await keeper.open()
    for nonsense in ("0", "new"):
        await server.set(key, nonsense)
        with pytest.raises(ConfigurationError, match="no layout"):
            await keeper.open()
    await server.delete(key)


async def test_tenants_know_nothing_of_each_other(redis, keeper, server):
    """Not even of each other's layouts."""
    await server.set(f"{keeper.prefix}:1:layout", 3)
    other = RedisStore(redis.url, prefix=f"{keeper.prefix}b")
    await other.start()
    await other.cells.apply("s", [Change("a", b"1")])
    await other.stop()
    assert {name.decode().partition(":")[0] for name in await server.keys(f"{keeper.prefix}*")} == {
        keeper.prefix,
        f"{keeper.prefix}b",
    }
