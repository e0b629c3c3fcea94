"""What a lease must prove."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reprise.kernel.errors import ConfigurationError
from reprise.stores.lease import Grant
from reprise.stores.store import Store
from reprise.testing.suites.keeper import LONG, Keeper, KeeperSuite, soon, until
from reprise.testing.suites.lease_model import LeaseMachine


async def taken(store: Store, name: str, holder: str, ttl: float = LONG, **how: Any) -> Grant:
    """Take a lease that must be free."""
    grant = await soon(store.lease.take(name, holder, ttl, **how))
    assert grant is not None, f"{holder} did not get {name}"
    return grant


class LeaseSuite(KeeperSuite):
    """Tests of the port ``Lease``."""

    async def queue_up(
        self, keeper: Keeper, store: Store, holder: str, ttl: float = LONG, **how: Any
    ) -> asyncio.Task[Grant | None]:
        """Start to wait for the lease ``x`` and return when the keeper knows of it."""
        before = await keeper.waiting("x")
        how.setdefault("wait", None)
        task = asyncio.create_task(store.lease.take("x", holder, ttl, **how))

        async def known() -> bool:
            return await keeper.waiting("x") == before + 1 or task.done()

        await until(known, f"{holder} waits")
        return task

    # ------------------------------------------------------------ one holder

    async def test_one_holder_at_a_time(self, store: Store) -> None:
        """Who comes second gets nothing until the first gives it back; names do not disturb each other."""
        first = await taken(store, "x", "a")
        assert await store.lease.take("x", "b", LONG) is None
        await taken(store, "y", "b")
        assert await store.lease.holder("x") == [first]
        await store.lease.drop([first])
        assert await store.lease.holder("x") == []
        second = await taken(store, "x", "b")
        assert (second.name, second.holder) == ("x", "b")

    async def test_taking_what_one_holds_renews_it(self, store: Store) -> None:
        """Under the same token."""
        first = await taken(store, "x", "a", 60)
        again = await taken(store, "x", "a", LONG)
        assert again.token == first.token
        assert again.expires_at > first.expires_at
        assert await store.lease.holder("x") == [again]

    async def test_tokens_grow_over_holders(self, store: Store) -> None:
        """Each new grant of a name has a higher token, also for a holder that comes back."""
        tokens: list[int] = []
        for holder in "abab":
            grant = await taken(store, "x", holder)
            tokens.append(grant.token)
            await store.lease.drop([grant])
        assert tokens == sorted(set(tokens))
        assert 0 < tokens[0] < tokens[-1] < 2**63

    async def test_tokens_grow_over_a_restart(self, keeper: Keeper, store: Store) -> None:
        """Also when nobody holds the lease in between."""
        before = await taken(store, "x", "a")
        await store.lease.drop([before])
        fresh = await keeper.reopen(store)
        assert (await taken(fresh, "x", "b")).token > before.token

    async def test_a_grant_outlives_the_store_that_took_it(self, keeper: Keeper, store: Store) -> None:
        """A lease belongs to its holder, not to a connection."""
        grant = await taken(store, "x", "a")
        fresh = await keeper.reopen(store)
        assert await fresh.lease.holder("x") == [grant]
        assert await fresh.lease.take("x", "b", LONG) is None
        assert (await taken(fresh, "x", "a")).token == grant.token

    async def test_nonsense_is_refused(self, store: Store) -> None:
        """A lease without time or without room for anybody."""
        with pytest.raises(ConfigurationError):
            await store.lease.take("x", "a", 0)
        with pytest.raises(ConfigurationError):
            await store.lease.take("x", "a", 1, limit=0)

    # ------------------------------------------------------------ time

    async def test_a_lease_ends_by_the_keepers_clock(self, keeper: Keeper, store: Store) -> None:
        """Then others get it, under a higher token, and the old grant cannot be renewed or dropped any more."""
        old = await taken(store, "x", "a", keeper.short)
        await keeper.pass_time(keeper.short)
        assert await store.lease.holder("x") == []
        assert await store.lease.renew([old], LONG) == [None]
        new = await taken(store, "x", "b")
        assert new.token > old.token
        assert await store.lease.renew([old], LONG) == [None]
        await store.lease.drop([old])
        assert await store.lease.holder("x") == [new]

    async def test_who_lost_a_lease_takes_it_under_a_new_token(self, keeper: Keeper, store: Store) -> None:
        """Between its two grants another could have been; the old token is worth nothing."""
        old = await taken(store, "x", "a", keeper.short)
        await keeper.pass_time(keeper.short)
        new = await taken(store, "x", "a")
        assert new.token > old.token
        assert await store.lease.renew([old], LONG) == [None]
        await store.lease.drop([old])
        assert await store.lease.holder("x") == [new]

    async def test_renew_extends_many_and_tells_the_lost(self, keeper: Keeper, store: Store) -> None:
        """In the order asked; the time counts from now."""
        x, y = await taken(store, "x", "a", 60), await taken(store, "y", "a", 60)
        foreign = Grant("x", "b", x.token, x.expires_at)
        older = Grant("y", "a", y.token - 1, y.expires_at)
        renewed = await store.lease.renew([foreign, y, older, x], LONG)
        assert [grant and grant.token for grant in renewed] == [None, y.token, None, x.token]
        assert renewed[3] is not None
        assert renewed[3].expires_at > x.expires_at
        assert await store.lease.holder("x") == [renewed[3]]
        assert await store.lease.renew([], 1) == []
        await store.lease.renew([x], keeper.short)
        await keeper.pass_time(keeper.short)
        assert await store.lease.holder("x") == []
        assert len(await store.lease.holder("y")) == 1

    async def test_find_returns_all_that_is_held_of_names_that_begin_so(
        self, keeper: Keeper, store: Store
    ) -> None:
        """By name; what has ended is not among it, and no character of a name means anything."""
        b = [await taken(store, "lock/b", holder, limit=2) for holder in "yx"]
        a, odd = await taken(store, "lock/a", "z"), await taken(store, "lock/%_*[", "z")
        other = await taken(store, "lock", "z")
        await taken(store, "lock/ended", "z", keeper.short)
        await keeper.pass_time(keeper.short)
        assert await store.lease.find("lock/") == [odd, a, *b]
        assert await store.lease.find("lock/%") == [odd]
        assert await store.lease.find("lock/ended") == []
        assert await store.lease.find() == [other, odd, a, *b]

    async def test_lift_raises_a_token_and_all_that_come_after(self, keeper: Keeper, store: Store) -> None:
        """So several keepers agree on one token. What is as high already stays."""
        low = await taken(store, "x", "a")
        high = await store.lease.lift(low, low.token + 1000)
        assert high is not None
        assert (high.token >= low.token + 1000, high.expires_at) == (True, low.expires_at)
        assert await store.lease.holder("x") == [high]
        assert await store.lease.lift(high, low.token) == high
        assert await store.lease.renew([low], LONG) == [None]
        [renewed] = await store.lease.renew([high], LONG)
        assert renewed is not None
        assert renewed.token == high.token
        assert (await taken(store, "x", "a")).token == high.token
        await store.lease.drop([renewed])
        assert await store.lease.lift(renewed, 2 * high.token) is None
        again = await keeper.reopen(store)
        assert (await taken(again, "x", "b")).token > high.token
        assert (await taken(again, "y", "b")).token > high.token

    # ------------------------------------------------------------ several holders

    async def test_at_most_limit_holders(self, keeper: Keeper, store: Store) -> None:
        """A place is free when one drops or ends."""
        a = await taken(store, "x", "a", limit=2)
        b = await taken(store, "x", "b", limit=2)
        assert await store.lease.take("x", "c", LONG, limit=2) is None
        assert [grant.holder for grant in await store.lease.holder("x")] == ["a", "b"]
        await store.lease.drop([a])
        await taken(store, "x", "c", limit=2)
        assert await store.lease.take("x", "d", LONG, limit=2) is None
        await store.lease.renew([b], keeper.short)
        await keeper.pass_time(keeper.short)
        await taken(store, "x", "d", limit=2)

    async def test_shared_holders_exclude_only_exclusive_ones(self, store: Store) -> None:
        """Many readers or one writer."""
        readers = [await taken(store, "x", name, shared=True) for name in "abc"]
        assert await store.lease.take("x", "w", LONG) is None
        await store.lease.drop(readers[:2])
        assert await store.lease.take("x", "w", LONG) is None
        await store.lease.drop(readers[2:])
        writer = await taken(store, "x", "w")
        assert await store.lease.take("x", "a", LONG, shared=True) is None
        await store.lease.drop([writer])
        await taken(store, "x", "a", shared=True)

    async def test_a_lone_holder_may_change_between_shared_and_exclusive(self, store: Store) -> None:
        """Under its token; with others beside it, it may not."""
        mine = await taken(store, "x", "a", shared=True)
        assert (await taken(store, "x", "a")).token == mine.token
        assert await store.lease.take("x", "b", LONG, shared=True) is None
        await taken(store, "x", "a", shared=True)
        await taken(store, "x", "b", shared=True)
        assert await store.lease.take("x", "a", LONG) is None

    # ------------------------------------------------------------ waiting

    async def test_waiters_are_served_in_their_order(self, keeper: Keeper) -> None:
        """First come, first served, also over several stores."""
        here, there = await keeper.open(), await keeper.open()
        grant = await taken(here, "x", "a")
        tasks = [await self.queue_up(keeper, (here, there)[n % 2], f"w{n}") for n in range(6)]
        for n, task in enumerate(tasks):
            await here.lease.drop([grant])
            served = await soon(task)
            assert served is not None
            assert (served.holder, served.token > grant.token) == (f"w{n}", True)
            assert not any(later.done() for later in tasks[n + 1 :])
            grant = served

    async def test_nobody_overtakes_a_waiter(self, keeper: Keeper, store: Store) -> None:
        """Not in the moment in which the lease has ended either."""
        await taken(store, "x", "a", keeper.short)
        waiter = await self.queue_up(keeper, store, "b")
        await keeper.pass_time(keeper.short)
        assert await store.lease.take("x", "c", LONG) is None
        served = await soon(waiter)
        assert served is not None
        assert [grant.holder for grant in await store.lease.holder("x")] == ["b"]

    async def test_a_waiter_is_served_when_the_lease_ends(self, keeper: Keeper, store: Store) -> None:
        """Nobody has to give it back."""
        old = await taken(store, "x", "a", keeper.short)
        waiter = await self.queue_up(keeper, store, "b")
        await keeper.pass_time(keeper.short)
        await store.lease.holder("x")
        served = await soon(waiter)
        assert served is not None
        assert served.token > old.token

    async def test_waiting_has_an_end(self, keeper: Keeper, store: Store) -> None:
        """Who waited in vain gets None and stands in nobody's way."""
        grant = await taken(store, "x", "a")
        assert await store.lease.take("x", "b", LONG, wait=0.02) is None
        waiter = await self.queue_up(keeper, store, "c")
        await store.lease.drop([grant])
        served = await soon(waiter)
        assert served is not None
        assert served.holder == "c"

    async def test_who_waits_for_some_time_is_served_within_it(self, keeper: Keeper, store: Store) -> None:
        """As one who waits for ever is."""
        grant = await taken(store, "x", "a")
        waiter = await self.queue_up(keeper, store, "b", wait=LONG)
        assert not waiter.done()
        await store.lease.drop([grant])
        served = await soon(waiter)
        assert served is not None
        assert served.holder == "b"

    async def test_a_cancelled_waiter_leaves_no_trace(self, keeper: Keeper, store: Store) -> None:
        """Those behind it move up."""
        grant = await taken(store, "x", "a")
        gone = await self.queue_up(keeper, store, "b")
        waiter = await self.queue_up(keeper, store, "c")
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await store.lease.drop([grant])
        served = await soon(waiter)
        assert served is not None
        assert [grant.holder for grant in await store.lease.holder("x")] == ["c"]

    async def test_a_waiter_cancelled_while_it_is_served_gives_the_lease_back(
        self, keeper: Keeper, store: Store
    ) -> None:
        """Else nobody would hold it and nobody could have it."""
        grant = await taken(store, "x", "a")
        gone = await self.queue_up(keeper, store, "b")
        dropping = asyncio.create_task(store.lease.drop([grant]))
        await asyncio.sleep(0)
        gone.cancel()
        await dropping
        with pytest.raises(asyncio.CancelledError):
            await gone

        async def free() -> bool:
            return await store.lease.take("x", "c", LONG) is not None

        await until(free, "c gets the lease")

    async def test_readers_enter_together_but_not_past_a_waiting_writer(
        self, keeper: Keeper, store: Store
    ) -> None:
        """So neither side starves."""
        first = await taken(store, "x", "r0", shared=True)
        writer = await self.queue_up(keeper, store, "w")
        readers = [await self.queue_up(keeper, store, f"r{n}", shared=True) for n in (1, 2)]
        assert await store.lease.take("x", "r3", LONG, shared=True) is None
        await store.lease.drop([first])
        writing = await soon(writer)
        assert writing is not None
        assert not any(reader.done() for reader in readers)
        await store.lease.drop([writing])
        assert all(await soon(asyncio.gather(*readers)))

    async def test_readers_enter_when_the_writer_before_them_gives_up(
        self, keeper: Keeper, store: Store
    ) -> None:
        """Nobody gave anything back; yet there is room now."""
        await taken(store, "x", "r0", shared=True)
        writer = await self.queue_up(keeper, store, "w")
        reader = await self.queue_up(keeper, store, "r1", shared=True)
        writer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writer
        assert await soon(reader)

    async def test_many_rivals_never_meet(self, keeper: Keeper) -> None:
        """Under contention of several stores: one at a time, tokens in the order of holding."""
        stores = [await keeper.open() for _ in range(3)]
        inside, tokens = 0, list[int]()

        async def rival(number: int) -> None:
            nonlocal inside
            for _ in range(4):
                grant = await taken(stores[number % 3], "x", f"r{number}", wait=None)
                inside += 1
                assert inside == 1
                tokens.append(grant.token)
                await asyncio.sleep(0)
                inside -= 1
                await stores[number % 3].lease.drop([grant])

        await soon(asyncio.gather(*(rival(number) for number in range(6))))
        assert len(tokens) == 24
        assert tokens == sorted(set(tokens))

    # ------------------------------------------------------------ model

    def test_random_histories_agree_with_the_model(self) -> None:
        """Hypothesis looks for a history in which the keeper and a dictionary disagree."""
        self.compare(LeaseMachine)
