"""What is Redis's own in taps, and in what the server says unasked."""

from fnmatch import fnmatchcase

from reprise.stores.redis.lease import RedisLease
from reprise.testing.suites import until


async def test_what_nobody_listens_to_any_more_the_server_does_not_send(keeper, store):
    channel = f"{keeper.prefix}:1:tap:news"

    async def known():
        return await keeper.ask("PUBSUB", "CHANNELS", channel)

    ends = [store.signal.listen("news", print) for _ in range(2)]
    await until(known, "it is subscribed")
    ends[0]()
    await store.queue.names()  # what was sent before is done
    assert await known()
    ends[1]()
    await store.queue.names()
    assert not await known()


async def test_what_the_server_says_of_other_things_is_passed_over(store):
    told = []
    store.signal.listen("news", told.append)
    store._wire._link.data_received(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n")
    assert await store.lease.holder("x") == []
    assert store.statistics()["connections"] == 1
    assert not told


async def test_a_name_that_the_server_says_twice_is_found_once():
    """A scan may give a key again where the server moves its tables meanwhile."""

    class Twice:
        async def send(self, name, cursor, _, pattern, *__):
            page = [key for key in pages[cursor] if fnmatchcase(key.decode(), pattern)]
            return b"1" if cursor == b"0" else b"0", page

    a, b, c = (f"p:lease:{{{name}}}:held".encode() for name in "abc")
    pages = {b"0": [a, b], b"1": [b, c]}
    lease = RedisLease(Twice(), "p:", "to")
    assert sorted([name async for name in lease._all("")]) == ["a", "b", "c"]
