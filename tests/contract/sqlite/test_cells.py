"""What cells in a file do with what is large, damaged, or no longer waited for."""

import asyncio
import sqlite3

import pytest

from reprise.kernel.errors import StoreCorrupt
from reprise.stores.cells import Change, tap_of
from reprise.stores.sqlite import cells


async def test_a_long_feed_is_forgotten_in_pieces(store, other, monkeypatch):
    """No commit does it all; readers find it whole from where it is kept."""
    monkeypatch.setattr(cells, "FORGOTTEN_AT_ONCE", 3)
    await store.cells.apply("s", [Change(f"{n}", b"") for n in range(10)])
    commits = store.statistics()["commits"]
    assert await store.cells.prune("s", 2) == 8
    assert store.statistics()["commits"] >= commits + 3
    assert [each.position for each in await other.cells.feed("s", 8)] == [9, 10]
    assert await store.verify() == []


async def test_who_follows_is_tapped_though_the_writer_went_away(store, other):
    """The change is made all the same."""
    tapped = asyncio.create_task(other.signal.wait(tap_of("s"), 30))
    await asyncio.sleep(0)
    writes = asyncio.create_task(store.cells.apply("s", [Change("a", b"1")]))
    await asyncio.sleep(0)
    writes.cancel()
    assert await tapped
    assert [cell.data for cell in (await other.cells.scan("s")).cells] == [b"1"]


@pytest.mark.parametrize("table", ["cells", "spaces", "cell_changes"])
async def test_a_damaged_row_is_told_by_those_who_read_it(store, path, table):
    await store.cells.apply("s", [Change("a", b"1")])
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE {table} SET crc = crc + 1")
    connection.commit()
    connection.close()
    read = store.cells.feed("s", 0) if table == "cell_changes" else store.cells.get("s", ["a"])
    with pytest.raises(StoreCorrupt, match=f"in the table {table}"):
        await read
