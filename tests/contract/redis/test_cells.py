"""What is Redis's own in cells: answers that get lost, and servers that are full."""

import asyncio

import pytest

from reprise.kernel.errors import CellConflict, StoreFull
from reprise.stores.cells import ABSENT, Change
from reprise.testing.suites.keeper import soon


async def test_a_change_that_is_asked_again_is_made_once(store):
    """Its answer was lost with the connection: it does not conflict with itself."""
    for version in range(3):
        link = store._wire._link
        link.data_received = lambda data, link=link: link.transport.abort()
        view = await soon(store.cells.apply("s", [Change("n", b"%d" % version, version)]))
        assert view.position == version + 1
    assert [entry.data for entry in await store.cells.feed("s", 0)] == [b"0", b"1", b"2"]
    assert store.statistics()["connections"] == 4


async def test_of_changes_in_one_turn_that_contradict_each_other_the_first_is_made(store):
    """They are one call, and each stands for itself."""
    before = store.statistics()["commands"]
    changes = [store.cells.apply("s", [Change("n", b"%d" % n, ABSENT)]) for n in range(20)]
    made, *refused = await asyncio.gather(*changes, return_exceptions=True)
    assert made.cells[0].data == b"0"
    assert all(isinstance(error, CellConflict) and error.found == 1 for error in refused)
    assert store.statistics()["commands"] <= before + 2


async def test_what_weighs_too_much_together_is_done_in_several_calls(store):
    """A script holds up everybody else."""
    before = store.statistics()["commands"]
    changes = [[Change(f"{n}/{m}", b"") for m in range(400)] for n in range(4)]
    await asyncio.gather(*(store.cells.apply("s", each) for each in changes))
    assert store.statistics()["commands"] >= before + 3  # the name of the space, and two by two


async def test_a_server_that_knows_nothing_any_more_is_told_the_names_of_spaces_again(keeper, store):
    """Before what was under way is asked again."""
    await store.cells.apply("s", [Change("n", b"1")])
    await keeper.ask("DEL", f"{keeper.prefix}:1:spaces", f"{keeper.prefix}:1:cells:{{s}}:cell")
    store._wire._link.transport.abort()
    await store.cells.apply("s", [Change("n", b"2")])
    assert await soon(store.cells.spaces()) == ["s"]


async def test_a_full_server_takes_no_more_and_lets_go_what_it_has(keeper, store):
    await store.cells.apply("s", [Change("a", b"1"), Change("b", b"2")])
    await keeper.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreFull):
            await store.cells.apply("s", [Change("c", b"3")])
        assert (await store.cells.apply("s", [Change("a", None)])).position == 3
        assert await store.cells.prune("s", 1) == 2
    finally:
        await keeper.ask("CONFIG", "SET", "maxmemory", "0")
    assert [cell.name for cell in (await store.cells.scan("s")).cells] == ["b"]


async def test_spaces_of_any_name_and_an_epoch_of_all(keeper, store):
    """Positions go on above it also for a process that does not know of it yet."""
    other = await keeper.open()
    for space in ("a{b}c", "ä/ b", "*"):
        await store.cells.apply(space, [Change("n", b"")])
    assert await store.begin_epoch() == 1
    for space in ("a{b}c", "ä/ b", "*"):
        assert (await other.cells.apply(space, [Change("n", b"")])).position == 2**40 + 1
    assert await store.cells.spaces() == ["*", "a{b}c", "ä/ b"]
