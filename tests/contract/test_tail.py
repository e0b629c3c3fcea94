"""Following a log while several write to it."""

import asyncio
from contextlib import aclosing

import pytest

from reprise.kernel.events import Event, Kind
from reprise.kernel.ids import Counter
from reprise.stores.log import Group, append
from reprise.stores.memory import MemoryStore
from reprise.stores.sqlite import SQLiteStore
from reprise.stores.tail import tail

WRITERS, EACH = 4, 60


@pytest.fixture(params=["memory", "sqlite"])
async def stores(request, tmp_path):
    """One writer's store for each of two processes' worth of writers, and the reader's own."""
    if request.param == "memory":
        one = MemoryStore()
        opened = [one, one]
    else:
        opened = [SQLiteStore(tmp_path / "tail.db") for _ in range(2)]
    for store in opened:
        await store.start()
    yield opened
    for store in opened:
        await store.stop()


async def write(store, stream, numbers):
    for n in range(EACH):
        await append(store.log, numbers.new(), Group(stream, [Event(Kind.LOG_LINE, n, str(n))]))
        store.signal.wake([stream])


async def follow(store, count, after=0, prefix=""):
    found = []
    async with aclosing(tail(store, after, prefix, batch=7)) as records:
        async for record in records:
            found.append(record)
            if len(found) == count:
                return found
    return found


async def test_a_tail_sees_every_record_once_and_in_order_while_others_write(stores):
    numbers = Counter()
    reader = asyncio.create_task(follow(stores[0], WRITERS * EACH))
    await asyncio.gather(*(write(stores[n % 2], f"log/{n}", numbers) for n in range(WRITERS)))
    found = await reader
    assert found == await stores[0].log.scan(limit=WRITERS * EACH + 1)
    assert [r.position for r in found] == sorted({r.position for r in found})
    for n in range(WRITERS):
        assert [r.key for r in found if r.stream == f"log/{n}"] == [str(k) for k in range(EACH)]


async def test_a_tail_goes_on_where_the_last_one_stopped_and_keeps_to_its_streams(stores):
    numbers = Counter()
    await write(stores[0], "log/a", numbers)
    await write(stores[0], "log/b", numbers)
    first = await follow(stores[1], 10, prefix="log/b")
    rest = await follow(stores[1], EACH - 10, after=first[-1].position, prefix="log/b")
    assert [r.key for r in first + rest] == [str(k) for k in range(EACH)]


async def test_a_lost_tap_only_makes_the_tail_look_later(stores, monkeypatch):
    numbers = Counter()
    monkeypatch.setattr(type(stores[0].signal), "wake", lambda self, names: None)
    reader = asyncio.create_task(follow(stores[0], 2 * EACH))
    await asyncio.gather(write(stores[1], "log/a", numbers), write(stores[1], "log/b", numbers))
    assert len(await reader) == 2 * EACH
