"""The keeper's clock, and leases whose takers go away."""

import asyncio
from pathlib import Path

import pytest

from reprise.kernel.clock import MICROSECONDS
from reprise.stores.sqlite import SQLiteStore, leases
from reprise.stores.sqlite.meta import KeeperClock


class HostClock:
    """A host's clock that somebody can set; the monotonic one goes on."""

    def __init__(self) -> None:
        self.wall = 1_000 * MICROSECONDS
        self.ticks = 5.0

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def set(self, seconds: float) -> None:
        self.wall += round(seconds * MICROSECONDS)

    def run(self, seconds: float) -> None:
        self.ticks += seconds
        self.set(seconds)


def test_the_keepers_clock_never_goes_back_nor_stands_still() -> None:
    host = HostClock()
    clock = KeeperClock(host)
    start = clock.read(0)
    host.set(-500)
    assert clock.read(0) == start
    host.run(10)
    assert clock.read(0) == start + 10 * MICROSECONDS
    assert clock.read(start + 60 * MICROSECONDS) == start + 60 * MICROSECONDS
    host.run(1)
    assert clock.read(0) == start + 61 * MICROSECONDS


async def test_a_clock_set_back_neither_revives_nor_prolongs_a_lease(path: Path) -> None:
    host = HostClock()
    store = SQLiteStore(path, synchronous="OFF", clock=host)
    await store.start()
    old = await store.lease.take("x", "a", 10)
    assert old is not None
    host.run(11)
    new = await store.lease.take("x", "b", 10)
    assert new is not None
    host.set(-3600)
    await store.stop()
    # A process that starts now knows the time from the file alone.
    store = SQLiteStore(path, synchronous="OFF", clock=host)
    await store.start()
    assert await store.lease.renew([old], 10) == [None]
    assert await store.lease.holder("x") == [new]
    assert await store.lease.take("x", "c", 10) is None
    host.run(11)
    assert await store.lease.holder("x") == []
    assert await store.lease.take("x", "c", 10) is not None
    await store.stop()


async def test_a_take_that_is_cancelled_on_its_way_gives_the_lease_back(store: SQLiteStore) -> None:
    for wait in (0, None):
        taking = asyncio.ensure_future(store.lease.take("x", "gone", 600, wait=wait))
        await asyncio.sleep(0)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        async with asyncio.timeout(5):
            grant = await store.lease.take("x", "a", 600, wait=None)
        assert grant is not None
        await store.lease.drop([grant])
        assert await store.lease.waiting("x") == 0


async def test_a_renewal_that_is_cancelled_on_its_way_leaves_the_lease_to_its_holder(
    store: SQLiteStore,
) -> None:
    held = await store.lease.take("x", "a", 600)
    assert held is not None
    renewing = asyncio.ensure_future(store.lease.take("x", "a", 600))
    await asyncio.sleep(0)
    renewing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await renewing
    for _ in range(2):  # the second is written after what the cancelled one left to do
        await store.lease.take("y", "b", 600)
    assert [(grant.holder, grant.token) for grant in await store.lease.holder("x")] == [("a", held.token)]


async def test_who_waits_some_time_is_served_in_it(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LOOK_AGAIN", 3600.0)
    held = await store.lease.take("x", "a", 600)
    assert held is not None
    waits = asyncio.ensure_future(store.lease.take("x", "b", 600, wait=60))
    async with asyncio.timeout(10):
        while await store.lease.waiting("x") == 0:  # noqa: ASYNC110  it is written in the file
            await asyncio.sleep(0)
        await store.lease.drop([held])
        assert await waits is not None


async def test_grants_nobody_asks_for_are_swept_at_start(path: Path) -> None:
    host = HostClock()
    store = SQLiteStore(path, synchronous="OFF", clock=host)
    await store.start()
    await store.lease.take("old", "a", 1)
    host.run(leases.KEPT_ENDED + 2)
    await store.lease.take("new", "a", 1)
    await store.stop()
    await store.start()
    connection = store._writer._transaction.connection
    assert connection.execute("SELECT name FROM leases").fetchall() == [("new",)]
    await store.stop()
