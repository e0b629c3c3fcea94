"""Shared state over any keeper, with several stores on the same data, as several processes have them."""

import asyncio

from reprise import StateSync
from reprise.kernel.errors import FeedGone
from reprise.testing.suites import KeeperSuite
from reprise.testing.suites.keeper import soon

SPACE = "state/app"
KEPT = 50
MOST = KEPT + KEPT // 10 + 8
"""Entries of a feed at most: those that are kept, those until it is pruned again, those written while it is."""


async def length(cells):
    """Return how many entries the feed has, and at what position it begins; it may be pruned meanwhile."""
    begins = 0
    while True:
        try:
            return len(await cells.feed(SPACE, begins)), begins
        except FeedGone as gone:
            begins = gone.kept_after


class StateScenes(KeeperSuite):
    """What shared state does with this keeper."""

    async def test_the_feed_of_those_who_run_for_long_is_bounded(self, keeper):
        """Whoever writes; and who follows misses nothing."""
        stores = [await keeper.open() for _ in range(2)]
        syncs = [StateSync(store, "app", history=KEPT) for store in stores]
        heard = []
        syncs[1].on_update(heard.append)
        for sync in syncs:
            await sync.start()
        longest = 0
        for _ in range(10):
            for _ in range(10):
                await soon(asyncio.gather(*(sync.increment(key) for sync in syncs for key in "ab")))
            longest = max(longest, (await length(stores[0].cells))[0])
        for sync in syncs:
            await sync.get("a", fresh=True)
            await sync.stop()
        kept, begins = await length(stores[0].cells)
        assert begins > 0
        assert KEPT <= kept <= longest <= MOST
        assert sum(update.gap for update in heard) == 0
        assert {update.key: update.value for update in heard} == {"a": 200, "b": 200}

    async def test_the_feed_of_those_who_live_shortly_is_bounded(self, keeper):
        """Each writes too little to prune after so and so many of its own writes."""
        store = await keeper.open()
        for number in range(KEPT + 30):
            async with StateSync(store, "app", history=KEPT) as sync:
                await sync.set("a", number)
        kept, begins = await length(store.cells)
        assert KEPT <= kept <= MOST
        assert begins > 0

    async def test_what_ends_by_itself_counts_too(self, keeper):
        """Each entry of an end is one that nobody wrote."""
        store = await keeper.open()
        async with StateSync(store, "app", history=KEPT) as sync:
            for number in range(12):
                await sync.update({f"{number}.{n}": n for n in range(10)}, ttl=keeper.short)
                await keeper.pass_time(keeper.short)
        kept, begins = await length(store.cells)
        assert begins > 100
        assert kept <= KEPT + 20 + 8
