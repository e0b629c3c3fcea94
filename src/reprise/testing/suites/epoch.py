"""What a store must prove of its epochs: whoever worked with what was before a restore writes nothing more."""

from __future__ import annotations

import pytest

from reprise.kernel.errors import StaleToken
from reprise.stores.conditions import floor_of
from reprise.stores.log import Group, RunChange
from reprise.stores.queue import Task
from reprise.stores.store import Store
from reprise.testing.suites.keeper import LONG, Keeper, KeeperSuite, fact, put, write


class EpochSuite(KeeperSuite):
    """Tests of ``Store.epoch`` and ``Store.begin_epoch``."""

    async def test_an_epoch_is_higher_than_the_last_and_than_any_named(self, store: Store) -> None:
        """Also than that of the store whose data came here."""
        before = store.epoch
        assert await store.begin_epoch() == before + 1
        assert await store.begin_epoch(above=before + 7) == before + 8
        assert await store.begin_epoch(above=before) == store.epoch == before + 9

    async def test_an_epoch_outlives_a_restart(self, keeper: Keeper, store: Store) -> None:
        """It is part of the data."""
        epoch = await store.begin_epoch(above=3)
        assert (await keeper.reopen(store)).epoch == epoch

    async def test_a_token_of_an_earlier_epoch_writes_nothing(self, store: Store) -> None:
        """Though the stream still has it; and nobody takes or begins a stream with such a token."""
        await put(store.log, Group("run/a", [fact()], 0, token=5, takes=True))
        floor = floor_of(await store.begin_epoch())
        for group in (
            Group("run/a", [fact()], 1, token=5),
            Group("run/a", [fact()], 1, token=6, takes=True),
            Group("run/a", token=floor - 1, takes=True),
            Group("run/a", token=5, closes=True),
            Group("run/b", [fact()], 0, token=1, takes=True),
        ):
            with pytest.raises(StaleToken, match="older than the restore"):
                await put(store.log, group)
        await put(store.log, Group("run/a", [fact()], 1, token=floor, takes=True), Group("side", [fact()]))
        await put(store.log, Group("run/a", [fact()], 2, token=floor))
        assert (await store.log.head("run/a")).version == 3

    async def test_a_run_of_an_earlier_epoch_can_be_pointed_out(self, store: Store) -> None:
        """To change its row is no write of its owner."""
        start = RunChange("a", "running", "w", owner="gone", at=1)
        await put(store.log, Group("run/a", [fact()], 0, token=5, takes=True, run=start))
        await store.begin_epoch()
        await put(store.log, Group("run/a", (), 1, token=5, run=RunChange("a", "stranded", at=2)))
        assert [row.status for row in await store.runs.find()] == ["stranded"]

    async def test_who_opened_the_store_before_is_refused_too(self, keeper: Keeper, store: Store) -> None:
        """And knows the epoch from then on, so that it can begin anew."""
        other = await keeper.open() if keeper.factory else store
        await put(other.log, Group("run/a", [fact()], 0, token=5, takes=True))
        epoch = await store.begin_epoch()
        with pytest.raises(StaleToken):
            await put(other.log, Group("run/a", [fact()], 1, token=5))
        assert other.epoch == epoch
        await put(other.log, Group("run/a", [fact()], 1, token=floor_of(epoch), takes=True))

    async def test_positions_go_on_above_all_that_were_given(self, keeper: Keeper, store: Store) -> None:
        """Whoever remembers how far it read of what was before the restore misses nothing that comes after it."""
        await write(store.log, "side", b"1", b"2")
        floor = floor_of(await store.begin_epoch())
        assert await store.log.end() >= floor
        store = await keeper.reopen(store)
        done = await write(store.log, "side", b"3")
        assert done.position > floor
        assert [row.data for row in await store.log.scan(after=floor)] == [b"3"]
        assert [row.version for row in await store.log.read("side")] == [1, 2, 3]

    async def test_leases_end_and_their_tokens_go_on_above(self, store: Store) -> None:
        """A lease is somebody's who may not know of the restore."""
        old = await store.lease.take("x", "a", LONG)
        assert old is not None
        floor = floor_of(await store.begin_epoch())
        assert await store.lease.renew([old], LONG) == [None]
        assert await store.lease.holder("x") == []
        new = await store.lease.take("x", "b", LONG)
        assert new is not None
        assert new.token > max(floor, old.token)

    async def test_claims_of_tasks_go_on_above(self, store: Store) -> None:
        """A settle with a token of before cannot hit a claim of after."""
        await store.queue.offer([Task("1", "q"), Task("2", "q")])
        (old,) = await store.queue.claim("q", "a", 1, LONG)
        floor = floor_of(await store.begin_epoch())
        (new,) = await store.queue.claim("q", "b", 1, LONG)
        assert new.token > max(floor, old.token)
