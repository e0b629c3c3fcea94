"""What cells must prove."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from reprise.kernel.errors import CellConflict, ConfigurationError, FeedGone
from reprise.stores.cells import ABSENT, KEEP, Cell, Cells, Change, View, tap_of
from reprise.stores.conditions import floor_of
from reprise.stores.store import Store
from reprise.testing.suites.cells_model import CellsMachine
from reprise.testing.suites.keeper import LONG, Keeper, KeeperSuite, soon, until

WRITERS, ROUNDS = 4, 15


async def put(cells: Cells, name: str, data: bytes | None = b"x", ttl: float | None = None) -> View:
    """Change one cell of the space ``s``, whatever it is."""
    return await soon(cells.apply("s", [Change(name, data, ttl=ttl)]))


async def one(cells: Cells, name: str) -> Cell | None:
    """Return one cell of the space ``s``."""
    return next(iter((await soon(cells.get("s", [name]))).cells), None)


class CellsSuite(KeeperSuite):
    """Tests of the port ``Cells``."""

    # ------------------------------------------------------------ changes

    async def test_what_was_put_is_there_until_it_is_removed(self, store: Store) -> None:
        """Data of any bytes, also none; names of any letters; spaces do not disturb each other."""
        name = "ключ / \U0001f511 '\"%_*"
        view = await put(store.cells, name, bytes(range(256)))
        assert view.cells == [Cell(name, bytes(range(256)), view.position)]
        await store.cells.apply("t", [Change(name, b"")])
        assert await one(store.cells, name) == view.cells[0]
        assert (await store.cells.get("t", [name])).cells[0].data == b""
        assert await store.cells.spaces() == ["s", "t"]
        gone = await put(store.cells, name, None)
        assert gone.cells == []
        assert gone.position > view.position
        assert await one(store.cells, name) is None
        assert await store.cells.spaces() == ["t"]

    async def test_a_version_is_a_position_and_never_comes_again(self, keeper: Keeper, store: Store) -> None:
        """Also over removal, re-creation, a feed that was forgotten, and a restart."""
        versions: list[int] = []
        for data in (b"1", b"2", None, b"3"):
            versions.append((await put(store.cells, "a", data)).position)
            await store.cells.prune("s", 0)
            store = await keeper.reopen(store)
        assert versions == sorted(set(versions))
        cell = await one(store.cells, "a")
        assert cell is not None
        assert cell.version == versions[-1]

    async def test_all_changes_are_made_or_none(self, store: Store) -> None:
        """One that does not find what it expects keeps the others from being made, and says what it found."""
        first = (await put(store.cells, "a")).position
        for changes, name, found in (
            ([Change("b", b"1"), Change("a", b"2", ABSENT)], "a", first),
            ([Change("a", b"2", first), Change("b", None, 7)], "b", 0),
            ([Change("a", b"2", first + 1), Change("c", b"1", ABSENT)], "a", first),
        ):
            with pytest.raises(CellConflict) as refused:
                await store.cells.apply("s", changes)
            assert (refused.value.name, refused.value.found) == (name, found)
        assert [cell.name for cell in (await store.cells.scan("s")).cells] == ["a"]
        changes = [Change("a", b"2", first), Change("b", b"1", ABSENT), Change("none", None, ABSENT)]
        view = await store.cells.apply("s", changes, origin="me")
        assert [(cell.name, cell.data) for cell in view.cells] == [("a", b"2"), ("b", b"1")]
        assert view.cells[-1].version == view.position
        feed = await store.cells.feed("s", first)
        assert [(c.name, c.data, c.origin) for c in feed] == [("a", b"2", "me"), ("b", b"1", "me")]
        assert feed[0].at == feed[1].at

    async def test_nonsense_is_refused(self, store: Store) -> None:
        """A name that comes twice, and a life that was over before it began."""
        with pytest.raises(ConfigurationError, match="twice"):
            await store.cells.apply("s", [Change("a", b""), Change("a", None)])
        with pytest.raises(ConfigurationError, match="-1"):
            await store.cells.apply("s", [Change("a", b"", ttl=-1)])
        assert (await store.cells.apply("s", [])).cells == []
        assert await store.cells.spaces() == []

    async def test_no_update_is_lost(self, keeper: Keeper) -> None:
        """Writers in several stores that each write what they read, plus one, if nobody else wrote since."""
        stores = [await keeper.open() for _ in range(2)]
        refused = 0

        async def count(cells: Cells) -> None:
            nonlocal refused
            for _ in range(ROUNDS):
                while True:
                    cell = await one(cells, "n")
                    number = int(cell.data) if cell else 0
                    change = Change("n", b"%d" % (number + 1), cell.version if cell else ABSENT)
                    try:
                        await cells.apply("s", [change])
                        break
                    except CellConflict:
                        refused += 1

        await soon(asyncio.gather(*(count(stores[n % 2].cells) for n in range(WRITERS))))
        cell = await one(stores[0].cells, "n")
        assert cell is not None
        assert int(cell.data) == WRITERS * ROUNDS
        feed = await stores[1].cells.feed("s", 0)
        assert [int(entry.data or b"0") for entry in feed] == list(range(1, WRITERS * ROUNDS + 1))

    # ------------------------------------------------------------ time

    async def test_a_cell_ends_by_the_keepers_clock(self, keeper: Keeper, store: Store) -> None:
        """It is gone for everybody at once; who follows the feed learns it, and is tapped."""
        view = await put(store.cells, "a", ttl=keeper.short)
        assert view.cells[0].expires_at > view.at
        await put(store.cells, "b", ttl=LONG)
        await keeper.pass_time(keeper.short)
        assert await one(store.cells, "a") is None
        tapped = asyncio.create_task(store.signal.wait(tap_of("s"), LONG))
        await asyncio.sleep(0)
        seen = await store.cells.scan("s")
        assert [cell.name for cell in seen.cells] == ["b"]
        await soon(tapped)
        (last,) = await store.cells.feed("s", view.position + 1)
        assert (last.name, last.data, last.origin) == ("a", None, "")
        assert last.position == seen.position
        assert last.at >= view.cells[0].expires_at

    async def test_who_follows_or_changes_learns_of_what_has_ended(
        self, keeper: Keeper, store: Store
    ) -> None:
        """A cell that has ended is none: it can be made anew, and nobody finds its old version."""
        first = (await put(store.cells, "a", ttl=keeper.short)).position
        await keeper.pass_time(keeper.short)
        assert [entry.data for entry in await store.cells.feed("s", first)] == [None]
        second = (await put(store.cells, "a", ttl=keeper.short)).position
        await keeper.pass_time(keeper.short)
        with pytest.raises(CellConflict) as refused:
            await store.cells.apply("s", [Change("a", b"2", second)])
        assert refused.value.found == 0
        third = await store.cells.apply("s", [Change("a", b"3", ABSENT)])
        assert third.cells[0].expires_at == 0
        assert [entry.data for entry in await store.cells.feed("s", second)] == [None, b"3"]

    async def test_a_time_to_live_is_replaced_taken_away_or_kept(self, keeper: Keeper, store: Store) -> None:
        """By each change, as it says."""
        for name in "abc":
            await put(store.cells, name, ttl=keeper.short)
        await put(store.cells, "a", b"2", ttl=KEEP)
        await put(store.cells, "b", b"2")
        await put(store.cells, "c", b"2", ttl=LONG)
        assert (await put(store.cells, "d", ttl=KEEP)).cells[0].expires_at == 0
        await keeper.pass_time(keeper.short)
        assert [cell.name for cell in (await store.cells.scan("s")).cells] == ["b", "c", "d"]

    # ------------------------------------------------------------ feed

    async def test_a_feed_is_read_in_pages_without_gaps(self, store: Store) -> None:
        """By everybody who goes on from the last position seen."""
        for number in range(7):
            await put(store.cells, "ab"[number % 2], b"%d" % number)
        read: list[bytes | None] = []
        position = 0
        while page := await store.cells.feed("s", position, 3):
            read += [entry.data for entry in page]
            position = page[-1].position
        assert read == [b"%d" % number for number in range(7)]
        assert position == (await store.cells.get("s", ())).position

    async def test_a_feed_that_is_forgotten_says_so(self, store: Store) -> None:
        """And from where it is whole; cells stay."""
        positions = [(await put(store.cells, "a", b"%d" % number)).position for number in range(5)]
        assert await store.cells.prune("s", 2) == 3
        assert await store.cells.prune("s", 2) == 0
        assert await store.cells.prune("nobody", 0) == 0
        for after in (0, positions[1]):
            with pytest.raises(FeedGone) as gone:
                await store.cells.feed("s", after)
            assert gone.value.kept_after == positions[2]
        assert [e.position for e in await store.cells.feed("s", positions[2])] == positions[3:]
        assert await store.cells.prune("s", 0) == 2
        assert await store.cells.feed("s", positions[-1]) == []
        cell = await one(store.cells, "a")
        assert cell is not None
        assert cell.data == b"4"

    async def test_a_position_that_never_was_is_gone(self, store: Store) -> None:
        """It comes from a store that was restored from an older copy, where other things happened since."""
        assert await store.cells.feed("s", 0) == []
        with pytest.raises(FeedGone):
            await store.cells.feed("s", 1)
        last = (await put(store.cells, "a")).position
        with pytest.raises(FeedGone):
            await store.cells.feed("s", last + 1)
        floor = floor_of(await store.begin_epoch())
        fresh = (await put(store.cells, "a")).position
        assert fresh > floor
        assert [e.position for e in await store.cells.feed("s", last)] == [fresh]
        with pytest.raises(FeedGone):
            await store.cells.feed("s", last + 1)

    async def test_who_follows_sees_what_others_do_in_order(self, keeper: Keeper) -> None:
        """Writers in one store, a reader in another that is tapped: nothing is missed, nothing skipped."""
        here, there = await keeper.open(), await keeper.open()
        seen: list[int] = []
        tapped = asyncio.Event()
        there.signal.listen(tap_of("s"), lambda _: tapped.set())

        async def follow() -> None:
            position = 0
            while len(seen) < WRITERS * ROUNDS:
                with suppress(TimeoutError):  # a tap may be lost
                    async with asyncio.timeout(0.05):
                        await tapped.wait()
                tapped.clear()
                for entry in await there.cells.feed("s", position):
                    assert entry.position > position
                    position = entry.position
                    seen.append(int(entry.data or b"0"))

        async def write(writer: int) -> None:
            for number in range(ROUNDS):
                await put(here.cells, f"w{writer}", b"%d" % (writer * ROUNDS + number))

        await soon(asyncio.gather(follow(), *(write(n) for n in range(WRITERS))))
        for writer in range(WRITERS):
            own = [number for number in seen if number // ROUNDS == writer]
            assert own == list(range(writer * ROUNDS, (writer + 1) * ROUNDS))

    async def test_a_change_taps_who_follows(self, keeper: Keeper) -> None:
        """In other stores, too; what changes nothing taps nobody, which nobody may rely on."""
        here, there = await keeper.open(), await keeper.open()
        felt: list[str] = []
        there.signal.listen(tap_of("s"), felt.append)

        async def tapped() -> bool:
            await put(here.cells, "a")
            return bool(felt)

        await until(tapped, "the other store's listener is tapped")

    # ------------------------------------------------------------ the model

    def test_cells_behave_like_a_dictionary(self) -> None:
        """In random histories."""
        self.compare(CellsMachine)
