"""What cells in PostgreSQL do when answers are lost, and when somebody changes their tables."""

import pytest

from reprise.kernel.errors import CellConflict, StoreCorrupt
from reprise.stores.cells import ABSENT, Change


@pytest.mark.parametrize("when", ["before", "during", "after"])
async def test_changes_whose_answer_was_lost_are_made_once(wire, wired, store, when):
    await wired.cells.apply("s", [Change("gone", b"1"), Change("a", b"1")])
    wire.cut_at, wire.when = (lambda data: b"needle" in data), when
    changes = [Change("a", b"needle", 2), Change("gone", None), Change("b", b"2", ABSENT, ttl=60)]
    view = await wired.cells.apply("s", changes)
    assert wire.cut.is_set()
    assert [(cell.name, cell.data, cell.version) for cell in view.cells] == [
        ("a", b"needle", 3),
        ("b", b"2", 5),
    ]
    assert view.position == 5
    assert (await store.cells.get("s", ["a", "b"])).cells == view.cells
    assert [each.name for each in await store.cells.feed("s", 2)] == ["a", "gone", "b"]


async def test_who_is_refused_is_refused_again(wire, wired):
    await wired.cells.apply("s", [Change("a", b"1")])
    wire.cut_at = lambda data: b"needle" in data
    with pytest.raises(CellConflict):
        await wired.cells.apply("s", [Change("a", b"needle", 7)])
    assert wire.cut.is_set()


@pytest.mark.parametrize(
    "damage", ["data = 'x'", "version = 9", "name = 'b'", "expires_at = 5000000000000000123"]
)
async def test_a_cell_that_was_changed_by_others_is_told(store, neighbour, damage):
    await store.cells.apply("s", [Change("a", b"1")])
    await neighbour.execute(f"UPDATE cells SET {damage}")
    with pytest.raises(StoreCorrupt, match="does not match its checksum"):
        await store.cells.scan("s")


async def test_an_entry_that_was_changed_by_others_is_told(store, neighbour):
    await store.cells.apply("s", [Change("a", b"1")])
    await neighbour.execute("UPDATE cell_changes SET data = 'x'")
    with pytest.raises(StoreCorrupt, match="Version 1 of the cell a of s"):
        await store.cells.feed("s", 0)
