"""Taps between stores that share nothing but a channel of the server."""

import asyncio

import pytest
from tests.contract.postgres.keeper import KILL

from reprise.stores.listeners import EVERYTHING
from reprise.stores.postgres import taps
from reprise.stores.postgres.taps import payloads
from reprise.testing.suites import until

LONG = "inbox/" + "x" * 9000


class Heard:
    """What a store's listener heard, to be waited for."""

    def __init__(self, store, name):
        self.names = []
        self._tapped = asyncio.Event()
        store.signal.listen(name, self._note)

    def _note(self, name):
        self.names.append(name)
        self._tapped.set()

    async def next(self):
        async with asyncio.timeout(20):
            await self._tapped.wait()
        self._tapped.clear()
        return self.names[-1]


@pytest.fixture
async def other(keeper):
    return await keeper.open()


async def test_a_name_that_no_payload_holds_makes_everybody_look(store, other):
    heard = Heard(other, LONG)
    store.signal.wake([LONG])
    assert await heard.next() == LONG


async def test_many_names_arrive_in_pieces(store, other):
    wanted = {f'inbox/{n}-"\n\x00\u00fc' for n in range(3000)}
    heard = Heard(other, "inbox/*")
    store.signal.wake(sorted(wanted))

    async def all_heard():
        return set(heard.names) == wanted

    await until(all_heard, "every name is heard")


def test_more_names_than_anybody_reads_become_one_word():
    assert payloads([f"run/{n:0100}" for n in range(10_000)]) == [f'["{EVERYTHING}"]']
    assert payloads(["\ud800"]) == ['["?"]']
    assert payloads([]) == []


async def test_one_tap_is_felt_once_at_home(store, other):
    """The server also tells the process that tapped; that does not count."""
    here, there = Heard(store, "x"), Heard(other, "*")
    store.signal.wake(["x"])
    await there.next()
    other.signal.wake(["y"])
    assert here.names == ["x"]


async def test_the_last_taps_of_a_store_that_stops_are_sent(store, other):
    heard = Heard(other, "x")
    store.signal.wake(["x"])
    await store.stop()
    await heard.next()


async def test_everybody_looks_when_the_line_was_cut(keeper, store, other):
    """What was said meanwhile is lost, so whoever listens is tapped with what it listens to; then taps come again."""
    exact, prefix = Heard(other, "x"), Heard(other, "run/*")
    await keeper.ask(KILL)
    assert await exact.next() == "x"
    assert await prefix.next() == "run/"

    async def felt():
        store.signal.wake(["run/a"])
        return "run/a" in prefix.names

    await until(felt, "taps come again")


async def test_a_tap_during_an_outage_is_sent_after_it(wire, wired, store):
    heard = Heard(store, "x")
    wire.refuse = True
    wire.cut_all()

    async def noticed():
        return not wired._taps._listening.is_set()

    await until(noticed, "the line is gone")
    wired.signal.wake(["x"])
    wire.refuse = False
    await heard.next()


async def test_a_tap_that_was_on_its_way_when_the_line_broke_is_sent_again(wire, wired, store):
    heard = Heard(store, "needle")
    wire.cut_at, wire.when = (lambda data: b"needle" in data), "before"
    wired.signal.wake(["needle"])
    await heard.next()
    assert wire.cut.is_set()


async def test_a_silent_line_is_tried_now_and_then(wire, wired, monkeypatch):
    """A server that vanished says nothing; so a line that nobody used for a while is used."""
    monkeypatch.setattr(taps, "BEAT", 0.01)
    wired.signal.wake(["x"])  # ends the wait that began before
    heard = Heard(wired, "x")
    wire.cut_at, wire.when = (lambda data: b"pg_notify" in data or data[:1] == b"B"), "before"
    await wire.cut.wait()
    assert await heard.next() == "x"


async def test_what_a_line_heard_last_is_told_after_its_end(store, monkeypatch):
    """The driver calls back on the loop's next turn; by then the connection may know nothing of itself."""
    loop, broken = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: broken.append(context))
    heard = Heard(store, "x")
    line = store._taps._connection
    [callback] = line._listeners[f"reprise {store._target.schema}"]
    line.terminate()
    loop.call_soon(callback.cb, line, 0, "", '["x"]')
    await heard.next()
    assert broken == []


async def test_what_is_not_ours_is_ignored(keeper, store):
    heard = Heard(store, "x")
    for garbage in ("", "hello", "[1]", "123", '{"x": 1}', '["x"]'):
        await keeper.ask("SELECT pg_notify($1, $2)", f"reprise {keeper.schema}", garbage)
    assert await heard.next() == "x"
