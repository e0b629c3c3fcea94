"""An append that is alone is committed on the loop, without the way to the thread and back; everything else is not."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reprise import Reprise, step, workflow
from reprise.kernel.events import Event
from reprise.stores.log import Append, Group, append
from reprise.stores.sqlite import SQLiteStore, database, writer
from reprise.stores.sqlite.turnstile import Turnstile

FAR = 60.0
"""Seconds that no commit of these tests takes: every disk is fast."""


class Watched:
    """A connection that tells which thread commits."""

    def __init__(self, uri: str, commits: list[str]) -> None:
        self._inner = database.connect(uri)
        self._commits = commits

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def execute(self, sql, parameters=(), /):
        if sql == "COMMIT":
            self._commits.append(threading.current_thread().name)
        return self._inner.execute(sql, parameters)


@pytest.fixture
def commits() -> list[str]:
    return []


@pytest.fixture
async def store(path: Path, commits, monkeypatch) -> AsyncIterator[SQLiteStore]:
    monkeypatch.setattr(writer, "HOLDS_UP", FAR)
    store = SQLiteStore(path, synchronous="OFF", connect=lambda uri: Watched(uri, commits))
    await store.start()
    for number in range(1, 9):  # until it is known how fast the disk is
        await append(store.log, number, Group("warm", [Event(16, 1)]))
    commits.clear()
    yield store
    await store.stop()


def sent(store: SQLiteStore, *ids: int, alone: bool = True) -> list[Append]:
    """Hand appends over to be answered at once, and return those that were."""
    answered: list[Append] = []
    appends = [Append(id, (Group("a", [Event(16, 1)]),), answered.append) for id in ids]
    store.log.settle(appends, lambda: alone)
    return answered


async def until(found: list[Append], count: int) -> None:
    async with asyncio.timeout(5):
        while True:
            if len(found) >= count:
                return
            await asyncio.sleep(0.001)


async def test_one_that_is_alone_is_written_and_answered_before_the_call_returns(store, commits):
    (done,) = sent(store, 100)
    assert (done.error, done.versions) == (None, (1,))
    assert commits == ["MainThread"]
    assert len(await store.log.read("a")) == 1


async def test_what_is_refused_there_is_told_there(store):
    answered: list[Append] = []
    store.log.settle([Append(100, (Group("a", [Event(16, 1)], expected=7),), answered.append)], lambda: True)
    assert type(answered[0].error).__name__ == "StaleVersion"
    assert sent(store, 101)


async def test_several_or_one_of_a_caller_that_is_not_alone_go_by_the_thread(store, commits):
    several, single = sent(store, 100, 101), sent(store, 102, alone=False)
    assert several == single == []
    await until(single, 1)
    assert len(several) == 2
    assert set(commits) == {"reprise-writer"}


async def test_nothing_overtakes_what_the_thread_has(store, commits):
    first = asyncio.ensure_future(append(store.log, 100, Group("a", [Event(16, 1)])))
    await asyncio.sleep(0)
    second = sent(store, 101)
    assert second == []
    assert (await first).versions == (1,)
    await until(second, 1)
    assert second[0].versions == (2,)
    assert set(commits) == {"reprise-writer"}


async def test_a_slow_disk_holds_nobody_up_and_a_disk_that_got_fast_again_does(store, commits, monkeypatch):
    monkeypatch.setattr(writer, "HOLDS_UP", 0.0)
    slow = sent(store, 100)
    assert slow == []
    await until(slow, 1)
    monkeypatch.setattr(writer, "HOLDS_UP", FAR)
    assert sent(store, 101)
    assert commits == ["reprise-writer", "MainThread"]


async def test_the_turn_of_another_process_is_not_waited_for(store, path, commits):
    other = Turnstile(path.with_name(path.name + ".wake"))
    other.enter(1)
    waits = sent(store, 100)
    assert waits == []
    other.leave()
    await until(waits, 1)
    other.close()
    assert commits == ["reprise-writer"]


async def test_a_tool_that_locks_the_file_is_waited_for_by_the_thread(store, path, commits):
    tool = sqlite3.connect(path, isolation_level=None)
    tool.execute("BEGIN IMMEDIATE")
    began = asyncio.get_running_loop().time()
    waits = sent(store, 100)
    assert waits == []
    assert asyncio.get_running_loop().time() - began < 10  # it may wait 30 s in the thread
    tool.execute("ROLLBACK")
    tool.close()
    await until(waits, 1)
    assert waits[0].error is None
    assert commits == ["reprise-writer"]
    assert sent(store, 101)


async def test_a_store_that_stopped_refuses(path, store):
    await store.stop()
    answered = sent(store, 100)
    await until(answered, 1)
    assert type(answered[0].error).__name__ == "StoreClosed"


@step
async def add(n: int) -> int:
    await asyncio.sleep(0)
    return n + 1


@step(pure=True)
async def double(n: int) -> int:
    return 2 * n


@workflow
async def doubles(steps: int) -> int:
    n = 1
    for _ in range(steps):
        n = await double(n)
    return n


@workflow
async def count(steps: int) -> int:
    n = 0
    for _ in range(steps):
        n = await add(n)
    return n


async def test_the_steps_of_one_run_are_committed_on_the_loop_those_of_several_are_not(store, commits):
    async with Reprise(store, capture_logs=False) as app:
        await app.run(count, 1)
        commits.clear()
        assert await app.run(count, 50) == 50
        assert commits.count("MainThread") == 50
        commits.clear()
        await asyncio.gather(*(app.run(count, 20) for _ in range(8)))
        assert commits.count("MainThread") < 20 < len(commits)


async def test_a_body_that_goes_on_before_its_steps_are_durable_is_not_held_up(store, commits):
    async with Reprise(store, capture_logs=False) as app:
        await app.run(count, 1)
        commits.clear()
        assert await app.run(doubles, 50) == 2**50
        assert len(commits) < 25
