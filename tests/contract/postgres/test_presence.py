"""Workers are seen to die on whatever machine, and not taken for dead when it is the server that was away."""

import asyncio

import pytest
from tests.contract.postgres.keeper import KILL

from reprise.stores.postgres import presence
from reprise.testing.suites import until


@pytest.fixture
async def other(keeper):
    return await keeper.open()


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(presence, "GRACE", 0.0)


def kill(store):
    """Do to a store's line what the end of its process does."""
    store._taps._task.cancel()
    store._taps._connection.terminate()


async def test_a_worker_that_is_there_is_not_dead(store, other, at_once):
    """Also to itself, and after it has entered twice."""
    await store.presence.enter("ada")
    await store.presence.enter("ada")
    for each in (store, other):
        assert await each.presence.died(["ada"]) == set()
    assert await other.presence.died([]) == set()


async def test_a_worker_whose_process_ends_is_seen_to_die(store, other, at_once):
    await store.presence.enter("ada")
    await other.presence.enter("bob")
    kill(store)

    async def seen():
        return await other.presence.died(["ada", "bob"]) == {"ada"}

    await until(seen, "its lock is free")


async def test_one_that_is_missing_for_a_moment_is_given_time(store, other, monkeypatch):
    """It may be connecting again; and whoever looks may itself have been away."""
    await store.presence.enter("ada")
    kill(store)

    async def missing():
        await other.presence.died(["ada"])
        return "ada" in other.presence._missing

    await until(missing, "its lock is free")
    assert await other.presence.died(["ada"]) == set()
    other.presence._missing["ada"] -= presence.GRACE
    assert await other.presence.died(["ada"]) == set()
    other._taps.connected_at -= presence.GRACE
    assert await other.presence.died(["ada"]) == {"ada"}


async def test_a_worker_whose_line_was_cut_is_there_again(keeper, store, other, at_once):
    await store.presence.enter("ada")
    await keeper.ask(KILL)
    await asyncio.gather(*(each._taps._listening.wait() for each in (store, other)))

    async def back():
        return await other.presence.died(["ada"]) == set()

    await until(back, "it holds its lock on a new connection")
    await store.presence.leave("ada")

    async def gone():
        return await other.presence.died(["ada"]) == {"ada"}

    await until(gone, "it has left")


async def test_who_enters_while_the_line_is_down_is_there_when_it_is_up(wire, wired, store, at_once):
    wire.refuse = True
    wire.cut_all()

    async def down():
        return wired._taps.connected_at is None

    await until(down, "the line is down")
    assert await wired._taps.hold("ada") is None
    wire.refuse = False
    await wired._taps._listening.wait()
    assert await store.presence.died(["ada"]) == set()
