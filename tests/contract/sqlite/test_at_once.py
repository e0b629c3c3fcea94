"""What is read together is as of one moment, though others commit in between."""

import asyncio
import sqlite3
import threading

import pytest

from reprise.kernel.errors import StoreError
from reprise.stores.cells import Change
from reprise.stores.queue import Task
from reprise.stores.sqlite import SQLiteStore, cells, database, queue


class Pause:
    """A function that waits after its first call in a reader, until it may go on."""

    def __init__(self, function):
        self.function = function
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *args):
        found, me = self.function(*args), threading.current_thread()
        if me.name.startswith("reprise-reader") and not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(10)
        return found


@pytest.fixture
async def store(tmp_path):
    store = SQLiteStore(tmp_path / "store.db")
    await store.start()
    yield store
    await store.stop()


async def test_cells_that_are_read_together(store, monkeypatch):
    await store.cells.apply("s", [Change("a", b"1"), Change("b", b"1")])
    monkeypatch.setattr(cells, "_cell", pause := Pause(cells._cell))
    seen = asyncio.create_task(store.cells.get("s", ["a", "b"]))
    assert await asyncio.to_thread(pause.reached.wait, 10)
    changed = await store.cells.apply("s", [Change("a", b"2"), Change("b", b"2")])
    pause.go_on.set()
    view = await seen
    assert [each.data for each in view.cells] == [b"1", b"1"]
    assert view.position < changed.position
    assert [each.data for each in (await store.cells.get("s", ["a", "b"])).cells] == [b"2", b"2"]


async def test_tasks_that_are_found_together(store, monkeypatch):
    """Between the two conditions for tasks that are ready, one is claimed that only the second would have seen."""
    await store.queue.offer([Task("a", "q", delay=0.01)])
    while await store.queue.due("q"):  # noqa: ASYNC110 - it is the keeper's clock that we wait for
        await asyncio.sleep(0.002)
    monkeypatch.setattr(queue, "_select", pause := Pause(queue._select))
    found = asyncio.create_task(store.queue.find("q", "ready"))
    assert await asyncio.to_thread(pause.reached.wait, 10)
    assert [task.id for task in await store.queue.claim("q", "w", 1, 60)] == ["a"]
    pause.go_on.set()
    assert [task.id for task in await found] == ["a"]
    assert await store.queue.find("q", "ready") == []


class Failing:
    """A connection that reads and fails once, at a statement that a test names."""

    def __init__(self, uri, faults):
        self._inner, self._faults = database.connect(uri), faults
        self._reads = "mode=ro" in uri

    @property
    def in_transaction(self):
        return self._inner.in_transaction

    def execute(self, sql, parameters=(), /):
        if self._reads and self._faults and sql.startswith(self._faults[0]):
            if self._faults.pop(0) != "COMMIT":
                self._inner.execute("ROLLBACK")  # as SQLite does where the disk fails
            raise sqlite3.OperationalError("disk I/O error")
        return self._inner.execute(sql, parameters)

    def close(self):
        self._inner.close()


@pytest.mark.parametrize("statement", ["SELECT space", "COMMIT"])
async def test_a_read_that_fails_says_why_and_the_next_one_sees_what_is_there_by_then(tmp_path, statement):
    faults = []
    store = SQLiteStore(tmp_path / "store.db", connect=lambda uri: Failing(uri, faults), readers=1)
    await store.start()
    await store.cells.apply("s", [Change("a", b"1")])
    faults.append(statement)
    with pytest.raises(StoreError, match="disk I/O error"):
        await store.cells.get("s", ["a"])
    await store.cells.apply("s", [Change("a", b"2")])
    assert [row.data for row in (await store.cells.get("s", ["a"])).cells] == [b"2"]
    await store.stop()
