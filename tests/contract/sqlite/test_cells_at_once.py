"""Cells that are read together are as of one moment, though others commit in between."""

import asyncio
import threading

from reprise.stores.cells import Change
from reprise.stores.sqlite import SQLiteStore, cells as module


async def test_cells_that_are_read_together_are_of_one_moment(tmp_path, monkeypatch):
    store = SQLiteStore(tmp_path / "cells.db")
    await store.start()
    await store.cells.apply("s", [Change("a", b"1"), Change("b", b"1")])
    one, go_on, plain = threading.Event(), threading.Event(), module._cell
    reading = set()

    def cell(connection, space, name):
        found = plain(connection, space, name)
        if threading.get_ident() in reading or not threading.current_thread().name.startswith(
            "reprise-reader"
        ):
            return found
        reading.add(threading.get_ident())
        one.set()
        assert go_on.wait(10)
        return found

    monkeypatch.setattr(module, "_cell", cell)
    seen = asyncio.create_task(store.cells.get("s", ["a", "b"]))
    assert await asyncio.to_thread(one.wait, 10)
    changed = await store.cells.apply("s", [Change("a", b"2"), Change("b", b"2")])
    go_on.set()
    view = await seen
    assert [each.data for each in view.cells] == [b"1", b"1"]
    assert view.position < changed.position
    assert [each.data for each in (await store.cells.get("s", ["a", "b"])).cells] == [b"2", b"2"]
    await store.stop()
