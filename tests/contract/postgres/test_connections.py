"""Connections: when another is tried, what is closed, and a line for taps that breaks in the middle of a word."""

import asyncio
from itertools import islice
from types import SimpleNamespace

import pytest

from reprise.stores.log import Group, RunChange
from reprise.stores.postgres import driver
from reprise.stores.postgres.connections import FIRST_PAUSE, LONGEST_PAUSE, pauses
from reprise.stores.postgres.taps import Taps
from reprise.testing.suites.keeper import fact, put, soon, until


def test_pauses_grow_up_to_the_longest():
    found = list(islice(pauses(), 20))
    assert found[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert found == sorted(found)
    assert max(found) == LONGEST_PAUSE


async def test_a_connection_that_cannot_be_made_durable_is_none(store, monkeypatch):
    monkeypatch.setattr(driver, "DURABLE", "SELECT of_nobody()")
    with pytest.raises(Exception, match="of_nobody"):
        await store._target.connect()


async def test_what_was_connected_is_closed(store, monkeypatch):
    made = []
    connect = store._target.connect

    async def noted(**settings):
        made.append(await connect(**settings))
        return made[-1]

    monkeypatch.setattr(store._target, "connect", noted)
    schema = await store.schema()
    assert schema.found == schema.newest
    assert made.pop().is_closed()
    async with store._transactions.lend():
        pass
    await store.runs.find()
    await store.stop()
    assert len(made) >= 2
    assert all(connection.is_closed() for connection in made)


class Line:
    """What a connection does for taps; the first that is said on it does not get through."""

    def __init__(self, breaks=False):
        self.breaks, self.closed = breaks, False
        self.began, self.said, self._ended = asyncio.Event(), [], []

    async def execute(self, _, *said):
        if not self.began.is_set():
            self.began.set()
            if self.breaks:
                raise TimeoutError
            await asyncio.Event().wait()
        self.said.append(said[-1])

    async def add_listener(self, *_): ...

    def add_termination_listener(self, callback):
        self._ended.append(callback)

    def get_server_pid(self):
        return 1

    def is_closed(self):
        return self.closed

    async def close(self):
        self.closed = True

    def terminate(self):
        if not self.closed:
            self.closed = True
            for callback in self._ended:
                asyncio.get_running_loop().call_soon(callback, self)


def taps_over(*lines):
    left = iter(lines)

    async def connect():
        return next(left)

    return Taps(SimpleNamespace(schema="s", patience=1, connect=connect), lambda names: None)


async def test_a_tap_under_way_is_said_again_by_a_store_that_stops():
    line = Line()
    taps = taps_over(line)
    await taps.start()
    taps.send(["x"])
    await line.began.wait()
    await taps.close()
    assert line.said == [['["x"]']]
    assert line.closed


async def test_a_line_that_is_open_and_does_not_answer_is_followed_by_another():
    """The driver says that it has ended on the loop's next turn."""
    first, second = Line(breaks=True), Line()
    second.began.set()
    taps = taps_over(first, second)
    await taps.start()
    taps.send(["x"])
    await soon(first.began.wait())

    await until(lambda: asyncio.sleep(0, bool(second.said)), "it is said on the other")
    await taps.close()
    assert first.closed
    assert second.said[0] == ['["x"]']


async def test_a_tag_comes_back_as_the_number_that_it_was(store):
    """The server's own JSON would write out the digits of a large one."""
    tags = {"b": 1e300, "a": 1.0, "c": 2, "d": "1e300"}
    change = RunChange("r", status="running", workflow="w", tags=tags, at=1)
    await put(store.log, Group("run/r", [fact()], run=change))
    [row] = await store.runs.find()
    assert row.tags == tags
    assert {name: type(tag) for name, tag in row.tags.items()} == {
        name: type(tag) for name, tag in tags.items()
    }


async def test_who_does_not_wait_stands_in_no_line(store):
    await store.lease.take("x", "a", 60)
    before = store.lease._tickets.new()
    assert await store.lease.take("x", "b", 60) is None
    assert store.lease._tickets.new() == before + 1
