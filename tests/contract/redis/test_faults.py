"""What Redis does to us: restarts, lost connections and scripts, full memory, servers that hang or keep nothing."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from redis.asyncio import Redis

from reprise import ConfigurationError, Reprise
from reprise.kernel.chance import seeded
from reprise.kernel.errors import StoreClosed, StoreFull, StoreUnreachable
from reprise.stores import open_store
from reprise.stores.cells import Change
from reprise.stores.queue import Settlement, Task
from reprise.stores.redis import RedisStore
from reprise.stores.redis.driver import ReplyError, meaning
from reprise.stores.redis.store import _of_disk
from reprise.testing.linearizable import History
from reprise.testing.suites import LinearizableSuite, until
from reprise.testing.suites.keeper import soon
from reprise.testing.suites.linearizable import use_cells


@pytest.fixture
def redis(killable_redis):
    return killable_redis


async def line(keeper, holder, store):
    """Stand in line for x."""
    before = await keeper.waiting("x")
    task = asyncio.create_task(store.lease.take("x", holder, 60, wait=None))

    async def known():
        return await keeper.waiting("x") > before

    await until(known, f"{holder} waits")
    return task


async def test_a_restart_of_the_server_is_not_noticed(redis, keeper, store):
    grant = await store.lease.take("x", "a", 60)
    waits = await line(keeper, "b", store)
    tapped = asyncio.create_task(store.signal.wait("news", 60))
    redis.crash()
    assert await soon(store.lease.holder("x")) == [grant]
    store.signal.wake(["news"])
    assert await soon(tapped)
    await store.lease.drop([grant])
    served = await soon(waits)
    assert (served.holder, served.token > grant.token) == ("b", True)
    assert store.statistics()["connections"] == 2


async def test_one_order_explains_what_clients_see_of_cells_over_restarts_and_cut_connections(redis, keeper):
    """The server answers only what is on its disk, and what is asked again is done once."""
    stores = [await keeper.open() for _ in range(2)]
    history = History()
    names = [(store, f"{place}{n}") for place, store in enumerate(stores) for n in range(4)]
    using = asyncio.gather(*(use_cells(*each, history, seeded(each[1].encode()), 0) for each in names))
    again = 0
    while not using.done():
        wanted = len(history.operations) + 8
        await until(
            lambda wanted=wanted: asyncio.sleep(0, using.done() or len(history.operations) > wanted),
            "they work",
        )
        again += 1
        if again % 10 == 9:
            await asyncio.to_thread(redis.crash)
        elif again % 10 == 4:
            await keeper.ask("CLIENT", "KILL", "TYPE", "normal")
            await keeper.ask("CLIENT", "KILL", "TYPE", "pubsub")
        elif link := stores[again % 2]._wire._link:  # what is asked is done, and the answer is lost
            link.data_received = lambda data, link=link: link.transport.abort()
    await using
    assert again > 10
    assert all(store.statistics()["connections"] > 5 for store in stores)
    LinearizableSuite().judge(history)


async def test_a_connection_that_is_cut_is_made_again(keeper, store):
    grant = await store.lease.take("x", "a", 60)
    waits = await line(keeper, "b", store)
    await keeper.ask("CLIENT", "KILL", "TYPE", "pubsub")
    await store.lease.drop([grant])
    assert (await soon(waits)).holder == "b"


async def test_lost_scripts_are_loaded_again(keeper, store):
    await keeper.ask("SCRIPT", "FLUSH")
    grants = await asyncio.gather(*(store.lease.take(f"n{n}", "a", 60) for n in range(5)))
    await keeper.ask("SCRIPT", "FLUSH")
    assert all(await store.lease.renew(grants, 60))


async def test_a_lift_whose_answer_was_lost_is_answered_again(store):
    """The connection asks what was not answered again; a lease that is held would count as lost."""
    grant = await store.lease.take("x", "a", 60)
    lifted = await store.lease.lift(grant, grant.token + 5)
    assert lifted.token == grant.token + 5
    assert await store.lease.lift(grant, grant.token + 5) == lifted
    assert await store.lease.lift(grant, grant.token + 6) is None


async def test_who_waits_and_is_gone_blocks_nobody(keeper, store):
    """Its process was killed: nobody hears that it was served, so the next is."""
    grant = await store.lease.take("x", "a", 60)
    other = await keeper.open()
    gone = await line(keeper, "gone", other)
    waits = await line(keeper, "b", store)
    other._wire._link.transport.abort()
    other._wire.closed = True

    async def alone():
        return len(await keeper.ask("PUBSUB", "CHANNELS", f"{keeper.prefix}:1:to:*")) == 1

    await until(alone, "the server noticed")
    await store.lease.drop([grant])
    assert (await soon(waits)).holder == "b"
    gone.cancel()


async def test_a_server_that_is_away(redis, keeper):
    store = RedisStore(redis.url, prefix=keeper.prefix, patience=0.3)
    await store.start()
    os.kill(redis.pid(), signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnreachable, match="cannot be reached"):
            await soon(store.lease.take("x", "a", 60))
        with pytest.raises(StoreUnreachable):
            await RedisStore(redis.url, patience=0.1).start()
    finally:
        os.kill(redis.pid(), signal.SIGCONT)

    async def back():
        try:
            return await store.lease.take("x", "a", 60)
        except StoreUnreachable:
            return False

    await until(back, "it is reached again")
    await store.stop()
    with pytest.raises(StoreClosed):
        await store.lease.take("x", "a", 60)


async def test_full_memory_is_said_and_takes_nothing(keeper, store):
    grant = await store.lease.take("x", "a", 60)
    await keeper.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreFull, match="maxmemory"):
            await store.lease.take("y", "a", 60)
    finally:
        await keeper.ask("CONFIG", "SET", "maxmemory", "0")
    assert await store.lease.holder("x") == [grant]


async def test_a_server_that_throws_keys_away_is_refused(redis, keeper):
    await keeper.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(ConfigurationError, match="maxmemory-policy allkeys-lru"):
            await RedisStore(redis.url).start()
        store = RedisStore(redis.url, allow_eviction=True)
        await store.start()
        await store.stop()
    finally:
        await keeper.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_who_is_not_let_in_is_told(redis, keeper):
    await keeper.ask("ACL", "SETUSER", "clerk", "on", ">right", "+@all", "-subscribe", "~*")
    for password, says in (("wrong", "does not let us in"), ("right", "refuses SUBSCRIBE")):
        client = Redis.from_url(redis.url, username="clerk", password=password)
        with pytest.raises(ConfigurationError, match=says) as caught:
            await RedisStore(client).start()
        assert password not in str(caught.value)
        await client.aclose()


async def test_a_clients_settings_are_taken(redis, keeper):
    async with Redis.from_url(redis.url, decode_responses=True, db=3) as client:
        store = RedisStore(client, prefix=keeper.prefix)
        await store.start()
        await store.lease.take("x", "a", 60)
        assert sorted(await client.keys()) == [
            f"{keeper.prefix}:1:layout",
            f"{keeper.prefix}:1:lease:{{x}}:held",
        ]
        await store.stop()


async def test_names_of_any_kind(store):
    for name in ("a{b}c", "{", "}{", "ä b\n*", "x" * 1000):
        grant = await store.lease.take(name, "me {}:=", 60)
        assert await store.lease.holder(name) == [grant]
    assert await store.begin_epoch() == 1
    assert await store.lease.holder("a{b}c") == []


RIGHTS = (
    "+get +info +ping +evalsha +eval +publish +subscribe +unsubscribe +time +setnx +hgetall +hset +hdel +pexpire"
    " +lindex +lpop +lrem +llen +lpos +rpush"
).split()
"""What the guide says that a user needs for leases and taps."""
RESET = ("reset", "resetchannels", "on", ">right")
QUEUE_RIGHTS = (
    "+set +del +exists +sadd +smembers +hget +hmget +hincrby +hexists +hlen +hscan"
    " +zadd +zrem +zcard +zcount +zrange +zrangebyscore +zpopmin"
).split()
"""What it needs for queues on top."""
CELLS_RIGHTS = "+xadd +xlen +xrange +xtrim +zrangebylex".split()
"""What it needs for cells on top of that."""


@pytest.fixture
async def clerk(redis, keeper):
    """A client of a user with no right but those that the guide names."""
    pattern = f"{keeper.prefix}:1:*"
    await keeper.ask("ACL", "SETUSER", "clerk", *RESET, f"~{pattern}", f"&{pattern}", *RIGHTS)
    async with Redis.from_url(redis.url, username="clerk", password="right") as client:
        yield client
    await keeper.ask("ACL", "DELUSER", "clerk")


async def test_few_rights_will_do(clerk, keeper, caplog):
    store = RedisStore(clerk, prefix=keeper.prefix)
    await store.start()
    try:
        [grant] = await store.lease.renew([await store.lease.take("x", "a", 60)], 60)
        waits = await line(keeper, "b", store)
        tapped = asyncio.create_task(store.signal.wait("news", 60))
        await asyncio.sleep(0)
        await store.lease.drop([grant])
        store.signal.wake(["news"])
        assert (await soon(waits)).holder == "b"
        assert await soon(tapped)
        with pytest.raises(ConfigurationError, match="refuses SET"):
            await store.begin_epoch()
        assert not caplog.records
        store.signal.listen("all/*", print)
        await until(lambda: asyncio.sleep(0, "refuses PSUBSCRIBE" in caplog.text), "it is said")
    finally:
        await store.stop()


async def test_a_few_more_will_do_for_queues(clerk, keeper):
    await keeper.ask("ACL", "SETUSER", "clerk", *QUEUE_RIGHTS)
    store = RedisStore(clerk, prefix=keeper.prefix)
    await store.start()
    await store.queue.offer([Task("a", "q"), Task("b", "q"), Task("c", "q"), Task("later", "q", delay=60)])
    a, b, c = await store.queue.claim("q", "w", 3, 60)
    await store.queue.extend([a, b], 60)
    await store.queue.settle(
        [Settlement(a, "done", keep=60, outcome=b"x"), Settlement(b, "dead"), Settlement(c, "gone")]
    )
    assert await store.queue.change("q", ["b"], state="ready") == 1
    assert [task.id for task in await store.queue.find("q")] == ["a", "b", "later"]
    await store.queue.pause("q", paused=True)
    assert (await store.queue.stats("q")).ready == 1
    assert await store.queue.due("q") is None
    assert await store.queue.sweep("q") == 0
    assert await store.queue.names() == ["q"]
    await store.stop()


async def test_and_a_few_for_cells(clerk, keeper):
    await keeper.ask("ACL", "SETUSER", "clerk", *QUEUE_RIGHTS, *CELLS_RIGHTS)
    store = RedisStore(clerk, prefix=keeper.prefix)
    await store.start()
    await store.cells.apply("s", [Change("a", b"1", ttl=60), Change("b", b"2"), Change("b/1", b"3")])
    assert [cell.name for cell in (await store.cells.scan("s", "b")).cells] == ["b", "b/1"]
    assert (await store.cells.apply("s", [Change("b", None)])).position == 4
    assert [entry.name for entry in await store.cells.feed("s", 3)] == ["b"]
    assert await store.cells.prune("s", 1) == 3
    assert await store.cells.spaces() == ["s"]
    await store.stop()


async def test_what_cannot_be_read_is_a_warning(clerk, keeper, caplog):
    await keeper.ask("ACL", "SETUSER", "clerk", "-info")
    store = RedisStore(clerk, prefix=keeper.prefix)
    await store.start()
    assert "not known whether" in caplog.text
    assert [remark.level for remark in await store.examine()] == ["warn", "warn"]
    await store.stop()


async def test_a_server_that_is_no_master_any_more(redis, keeper):
    store = RedisStore(redis.url, prefix=keeper.prefix, patience=0.5)
    await store.start()
    await keeper.ask("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnreachable, match="READONLY"):
            await soon(store.lease.take("x", "a", 60))
        waits = asyncio.create_task(store.lease.take("x", "a", 60))
        await asyncio.sleep(0)
    finally:
        await keeper.ask("REPLICAOF", "NO", "ONE")
    assert await soon(waits)
    await store.stop()


async def test_full_memory_leaves_to_holders_what_they_have(keeper, store):
    """They renew it and give it back; who waits gets it."""
    grant = await store.lease.take("x", "a", 60)
    waits = await line(keeper, "b", store)
    await keeper.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        [renewed] = await store.lease.renew([grant], 90)
        await store.lease.drop([renewed])
        assert (await soon(waits)).holder == "b"
    finally:
        await keeper.ask("CONFIG", "SET", "maxmemory", "0")


async def test_the_server_is_examined(keeper, store):
    assert [(each.check, each.level) for each in await store.examine()] == [
        ("server", "ok"),
        ("memory", "ok"),
        ("disk", "ok"),
    ]
    for key, value, check, says in (
        ("maxmemory-policy", "allkeys-lru", "memory", "thrown away"),
        ("appendfsync", "everysec", "disk", "a second or more"),
        ("appendonly", "no", "disk", "no append-only file"),
    ):
        before = (await keeper.ask("CONFIG", "GET", key))[key.encode()]
        await keeper.ask("CONFIG", "SET", key, value)
        try:
            [remark] = [each for each in await store.examine() if each.check == check]
            assert (remark.level, says in remark.text, bool(remark.repair)) == ("warn", True, True)
        finally:
            await keeper.ask("CONFIG", "SET", key, before)


async def test_how_much_memory_it_may_take_is_said(keeper, store):
    for limit, says in (("100mb", "of 100.00M"), ("0", "of all there is")):
        await keeper.ask("CONFIG", "SET", "maxmemory", limit)
        [remark] = [each for each in await store.examine() if each.check == "memory"]
        assert (remark.level, says in remark.text) == ("ok", True)


def test_a_disk_that_took_nothing_more_is_a_failure():
    info = {"aof_enabled": "1", "aof_last_write_status": "err"}
    assert _of_disk(info, "always").level == "fail"
    assert _of_disk(info | {"aof_last_write_status": "ok"}, "always").level == "ok"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://x", "no URL of Redis"),
        ("redis://x:port", "no URL of Redis"),
        ("redis+sentinel://x", "names no service"),
        ("redis+sentinel:///service", "names no service"),
        ("redis+sentinel://x/service/first", "names no service"),
    ],
)
def test_other_urls_are_refused(url, says):
    with pytest.raises(ConfigurationError, match=says):
        RedisStore(url)


@pytest.mark.parametrize(
    "query", ["patience=long", "patience=-1", "allow_eviction=perhaps", "prefix=a%7Bb", "patiense=1"]
)
def test_options_of_a_url_are_checked(query):
    with pytest.raises(ConfigurationError):
        open_store(f"redis://x?{query}")


@pytest.mark.parametrize(
    ("login", "taken"),
    [("ada:se%20cret@", ("ada", "se cret")), (":se%20cret@", (None, "se cret")), ("", (None, None))],
)
def test_who_asks_is_said_to_the_master_that_sentinels_name(login, taken):
    target = open_store(f"redis+sentinel://{login}x,y:26380/service/2")._target
    settings = target._settings
    assert (settings["username"], settings["password"], settings["db"]) == (*taken, 2)
    assert "cret" not in target.url


@pytest.mark.parametrize("said", ["yes", "true", "1", "no", "false", "0"])
def test_yes_and_no_may_be_said_in_several_ways(said):
    allows = open_store(f"redis://x?allow_eviction={said}")._allow_eviction
    assert allows is (said in ("yes", "true", "1"))


@pytest.mark.parametrize("text", ["MOVED 3999 127.0.0.1:6381", "ASK 3999 127.0.0.1:6381", "CROSSSLOT Keys"])
def test_a_node_of_a_cluster_is_told_from_a_server(text):
    error = meaning(ReplyError(text), "redis://x", ("GET", "k"))
    assert isinstance(error, ConfigurationError)
    assert "node of a cluster" in str(error)


def test_what_a_url_says_is_taken():
    store = open_store("rediss://me:secret@x:1/2?prefix=p&patience=0.5&allow_eviction=yes")
    assert (store.url, store._target.patience, store._allow_eviction) == (
        "rediss://x:1/2?prefix=p",
        0.5,
        True,
    )


async def test_it_keeps_no_log(redis):
    """Whoever asks for a port that it does not offer is told where that is to be had; it is not packed."""
    store = open_store(redis.url.replace("unix://", "redis://"))
    assert isinstance(store, RedisStore)
    for port in ("log", "runs", "blobs", "presence", "transactions"):
        with pytest.raises(ConfigurationError, match=r"Redis keeps no .* Runs live in sqlite"):
            getattr(store, port)
    with pytest.raises(ConfigurationError, match="Redis keeps no"):
        async with Reprise(store=RedisStore(redis.url)):
            pass


async def test_doctor_tells_how_the_server_is_set(redis):
    shown = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "reprise", "doctor", "--store", f"{redis.url}?prefix=doctor"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "append-only file, synced before each answer" in shown.stdout
    assert "nothing is thrown away" in shown.stdout
    assert shown.returncode == 0
