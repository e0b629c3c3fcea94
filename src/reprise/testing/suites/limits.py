"""What a keeper must prove about limits: the places of runs, and the lines in which runs wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from msgspec.structs import replace

from reprise.kernel.errors import NoRoom, StaleToken
from reprise.kernel.events import run_stream
from reprise.kernel.limit import Slot
from reprise.stores.log import Append, Group, RunChange, enlist
from reprise.stores.runs import RunFilter
from reprise.stores.store import Store
from reprise.testing.suites.keeper import IDS, LONG, Keeper, KeeperSuite, fact, put, soon
from reprise.testing.suites.limits_model import LimitsMachine

FLOW = Slot("flow", "", 2)
TENANT = Slot("tenant", "acme", 1)
SECOND = 1_000_000
ABREAST = 25
"""Runs of one line that are asked for."""


def rate(keeper: Keeper, most: int = 2, seconds: float = 0) -> Slot:
    """Return a place that ends by itself, after the keeper's short time where no other is given."""
    return Slot("flow", "", most, round((seconds or keeper.short) * SECOND))


async def line_up(store: Store, id: str, *slots: Slot, at: int = 1, **fields: Any) -> None:
    """Start a run that waits for places."""
    known: dict[str, Any] = {
        "status": "pending",
        "workflow": "flow",
        "slots": slots,
        "in_line": True,
        **fields,
    }
    await put(store.log, Group(run_stream(id), [fact()], 0, run=RunChange(id, at=at, **known)))


async def claim(store: Store, id: str, *slots: Slot, token: int = 1, owner: str = "w") -> None:
    """Take a run over, with places."""
    change = RunChange(id, "running", owner=owner, due_at=None, at=2)
    group = Group(run_stream(id), [fact()], token=token, takes=True, run=change, slots=slots or None)
    await put(store.log, group)


async def alter(
    store: Store, id: str, token: int = 1, slots: Sequence[Slot] | None = None, **fields: Any
) -> None:
    """Change a run's row and places without an event; a final status ends it."""
    ends = fields.get("status") == "completed"
    group = Group(run_stream(id), [fact()] if ends else (), token=token, closes=ends)
    group.run, group.slots = RunChange(id, at=3, **fields), None if slots is None else tuple(slots)
    await put(store.log, group)


async def holders(store: Store, slot: Slot) -> list[str]:
    """Return who has a place of a lane."""
    return sorted(grant.holder for grant in await store.lease.holder(slot.lease))


class LimitsSuite(KeeperSuite):
    """Tests of ``Group.slots``, ``RunChange.slots`` and ``in_line``, ``Runs.lines`` and ``Runs.due``."""

    # ------------------------------------------------------------ places

    async def test_as_many_as_there_are_places(self, store: Store) -> None:
        """One more is refused as a whole: nothing of its append is written."""
        for id in "abc":
            await line_up(store, id, FLOW)
        await claim(store, "a", FLOW)
        await claim(store, "b", FLOW)
        with pytest.raises(NoRoom, match="flow"):
            await claim(store, "c", FLOW)
        assert await holders(store, FLOW) == ["a", "b"]
        assert (await store.log.head("run/c")).token == 0
        assert [row.owner for row in await store.runs.find(RunFilter(prefix="c"))] == [None]

    async def test_all_places_or_none(self, store: Store) -> None:
        """Who cannot have the second lane's place has not the first one's either."""
        await line_up(store, "a", FLOW, TENANT)
        await line_up(store, "b", FLOW, TENANT)
        await claim(store, "a", FLOW, TENANT)
        with pytest.raises(NoRoom, match="tenant=acme"):
            await claim(store, "b", FLOW, TENANT)
        assert await holders(store, FLOW) == ["a"]

    async def test_an_append_refused_for_another_reason_takes_none(self, store: Store) -> None:
        """The places are part of the commit."""
        await line_up(store, "a", FLOW)
        await claim(store, "a", token=5)
        with pytest.raises(StaleToken):
            await claim(store, "a", FLOW, token=5)
        assert await holders(store, FLOW) == []

    @pytest.mark.parametrize("how", ["nobody's", "waits", "ended", "dropped"])
    async def test_places_are_given_back(self, store: Store, how: str) -> None:
        """By a change after which nobody owns the run, by the run itself, at its end, with it."""
        await line_up(store, "a", TENANT)
        await line_up(store, "b", TENANT)
        await claim(store, "a", TENANT)
        if how == "nobody's":
            await alter(store, "a", owner=None)
        elif how == "waits":
            await alter(store, "a", slots=())
        elif how == "ended":
            await alter(store, "a", status="completed", owner=None)
        else:
            await store.log.drop("run/a")
        assert await holders(store, TENANT) == []
        await claim(store, "b", TENANT)

    async def test_a_place_stays_with_its_run_through_take_overs_and_restarts(
        self, keeper: Keeper, store: Store
    ) -> None:
        """Its next owner needs no room, also where fewer are allowed by then."""
        two = Slot("tenant", "acme", 2)
        for id in "ab":
            await line_up(store, id, two)
            await claim(store, id, two)
        store = await keeper.reopen(store)
        await claim(store, "a", TENANT, token=2, owner="heir")
        assert await holders(store, TENANT) == ["a", "b"]
        await alter(store, "a", 2, owner=None)
        with pytest.raises(NoRoom):
            await claim(store, "a", TENANT, token=3)

    async def test_the_number_of_the_one_who_asks_counts(self, store: Store) -> None:
        """Limits may change between two versions of the code."""
        for id in "abc":
            await line_up(store, id, TENANT)
        await claim(store, "a", TENANT)
        await claim(store, "b", Slot("tenant", "acme", 2))
        with pytest.raises(NoRoom):
            await claim(store, "c", Slot("tenant", "acme", 2))

    async def test_a_place_with_a_period_ends_by_the_keepers_clock(
        self, keeper: Keeper, store: Store
    ) -> None:
        """Then others have room, and so has who had it, beside them."""
        brief, slot = rate(keeper), rate(keeper, seconds=LONG)
        for id in "abc":
            await line_up(store, id, slot)
        await claim(store, "a", brief)
        await claim(store, "b", brief)
        await keeper.pass_time(keeper.short)
        await claim(store, "c", slot)
        await claim(store, "b", slot, token=2)
        assert await holders(store, slot) == ["b", "c"]

    async def test_a_place_with_a_period_does_not_end_with_its_run(
        self, keeper: Keeper, store: Store
    ) -> None:
        """Nor can it be given back: by nothing but time."""
        slot = rate(keeper, seconds=LONG)
        for id in "abc":
            await line_up(store, id, slot)
        await claim(store, "a", slot)
        await alter(store, "a", status="completed", owner=None)
        await claim(store, "b", slot)
        await alter(store, "b", slots=())
        with pytest.raises(NoRoom):
            await claim(store, "c", slot)

    async def test_in_one_burst_the_first_have_places(self, store: Store) -> None:
        """Appends of one commit see what those before them took and gave back."""
        ids = [f"r{n}" for n in range(9)]
        for id in ids:
            await line_up(store, id, FLOW)
        groups = [
            Group(run_stream(id), token=1, takes=True, run=RunChange(id, owner="w", at=2), slots=(FLOW,))
            for id in ids
        ]
        back = Group("run/r0", token=1, run=RunChange("r0", owner=None, at=3))
        appends = [Append(IDS.new(), (group,)) for group in [*groups[:4], back, *groups[4:]]]
        await soon(asyncio.gather(*(_answered(store, append) for append in appends)))
        refused = [append.groups[0].stream[4:] for append in appends if append.error is not None]
        assert refused == ["r2", "r3", "r5", "r6", "r7", "r8"]
        assert await holders(store, FLOW) == ["r1", "r4"]

    async def test_two_runs_of_one_append_need_two_places(self, store: Store) -> None:
        """They do not share one."""
        await line_up(store, "a", TENANT)
        await line_up(store, "b", TENANT)
        groups = [
            Group(run_stream(id), token=1, takes=True, run=RunChange(id, owner="w", at=2), slots=(TENANT,))
            for id in "ab"
        ]
        with pytest.raises(NoRoom):
            await put(store.log, *groups)
        assert await holders(store, TENANT) == []

    async def test_rivals_never_have_more_places_than_there_are(self, keeper: Keeper) -> None:
        """Over several stores at once."""
        stores = [await keeper.open() for _ in range(3)]
        for n in range(12):
            await line_up(stores[0], f"r{n}", FLOW)
        most = 0

        async def rival(n: int) -> None:
            nonlocal most
            store, token = stores[n % 3], 0
            for _ in range(5):
                with suppress(NoRoom):
                    await claim(store, f"r{n}", FLOW, token=token + 1)
                    token += 1
                    most = max(most, len(await holders(store, FLOW)))
                    await alter(store, f"r{n}", token, owner=None)

        await soon(asyncio.gather(*(rival(n) for n in range(12))))
        assert most == 2
        assert await holders(stores[0], FLOW) == []

    # ------------------------------------------------------------ lines

    async def test_a_row_says_what_it_needs(self, keeper: Keeper, store: Store) -> None:
        """Also after a restart; who is owned or has ended stands in no line."""
        await line_up(store, "a", FLOW, TENANT)
        store = await keeper.reopen(store)
        (row,) = await store.runs.find()
        assert (row.slots, row.in_line, row.refused) == ((FLOW, TENANT), True, ())
        await claim(store, "a")
        (row,) = await store.runs.find()
        assert (row.slots, row.in_line) == ((FLOW, TENANT), False)
        await alter(store, "a", owner=None, slots=(), in_line=True, refused=("v1", "v2"))
        (row,) = await store.runs.find()
        assert (row.in_line, row.refused) == (True, ("v1", "v2"))
        await alter(store, "a", status="completed")
        (row,) = await store.runs.find()
        assert (row.slots, row.in_line, row.refused) == ((), False, ())
        assert await store.runs.lines() == []

    async def test_who_took_places_that_end_by_themselves_stands_in_no_line(
        self, keeper: Keeper, store: Store
    ) -> None:
        """It has none that it would give back, and nobody else is told to take it."""
        slot = rate(keeper)
        await line_up(store, "a", slot)
        change = RunChange("a", "running", owner="w", slots=(), at=2)
        await put(store.log, Group(run_stream("a"), [fact()], token=1, takes=True, run=change, slots=(slot,)))
        (row,) = await store.runs.find()
        assert (row.slots, row.in_line, await store.runs.lines()) == ((), False, [])

    async def test_lines_say_who_waits_and_what_is_taken(self, keeper: Keeper, store: Store) -> None:
        """One line for those that need the same; how long until a place ends by itself."""
        timed = rate(keeper)
        for id, at in (("a", 5), ("b", 4), ("c", 3)):
            await line_up(store, id, FLOW, timed, at=at)
        await line_up(store, "d", TENANT, at=2)
        assert [(line.slots, line.taken, line.oldest) for line in await self.lines(store)] == [
            ((FLOW, timed), (0, 0), 3),
            ((TENANT,), (0,), 2),
        ]
        await claim(store, "c", FLOW, timed)
        line, _ = await self.lines(store)
        assert (line.taken, line.oldest, line.free_in[0]) == ((1, 1), 4, 0)
        assert 0 < line.free_in[1] <= timed.period
        await claim(store, "d", TENANT)
        assert [line.slots for line in await self.lines(store)] == [(FLOW, timed)]

    async def lines(self, store: Store) -> Any:
        """Return the lines in a stable order."""
        return sorted(await store.runs.lines(), key=lambda line: line.slots[0].limit)

    async def test_of_each_line_the_oldest_are_due(self, store: Store) -> None:
        """A long line hides neither another nor what is due; a line that is not asked for is left out."""
        for n in range(ABREAST + 5):
            await line_up(store, f"a{n:02}", TENANT, at=n)
        other = Slot("tenant", "other", 1)
        await line_up(store, "b", other, at=90)
        await line_up(store, "free", at=1, slots=(), due_at=95)
        lines = {line.slots: replace(line, asked=ABREAST) for line in await store.runs.lines()}
        assert await self.due(store, 99) == ["free"]
        assert await self.due(store, 99, lines=[lines[other,]]) == ["b", "free"]
        everybody = await self.due(store, 99, lines=list(lines.values()))
        assert everybody == [*(f"a{n:02}" for n in range(ABREAST)), "b", "free"]
        assert await self.due(store, 99, lines=list(lines.values()), limit=3) == ["a00", "a01", "a02"]
        one_each = [replace(line, asked=1) for line in lines.values()]
        assert await self.due(store, 99, lines=one_each) == ["a00", "b", "free"]

    async def due(self, store: Store, now: int, **how: Any) -> list[str]:
        """Return the ids that ``due`` gives."""
        return [row.id for row in await store.runs.due(now, owner="me", **how)]

    async def test_mail_makes_due_who_stands_in_line(self, store: Store) -> None:
        """It may say that the run shall end; it comes once."""
        await line_up(store, "a", TENANT)
        letter = Group("inbox/a", [fact()], guard="run/a", run=RunChange("a", due_at=50, at=2))
        await put(store.log, letter)
        lines = await store.runs.lines()
        assert await self.due(store, 49) == []
        assert await self.due(store, 50) == ["a"]
        assert await self.due(store, 50, lines=lines) == ["a"]
        assert [row.in_line for row in await store.runs.find()] == [True]

    async def test_lines_of_other_workflows_hide_nobody(self, store: Store) -> None:
        """Nor do those of other builds."""
        for n in range(ABREAST + 1):
            await line_up(store, f"a{n}", FLOW, at=1, workflow="stranger")
            await line_up(store, f"b{n}", FLOW, at=1, build="v0")
        await line_up(store, "c", FLOW, at=2)
        lines = await store.runs.lines()
        assert await self.due(store, 9, lines=lines, workflows=["flow"], shunned=["v0"]) == ["c"]

    # ------------------------------------------------------------ builds

    async def test_a_pinned_run_is_shown_to_its_build_alone(self, keeper: Keeper, store: Store) -> None:
        """Also after a restart, and where its owner died; who asks for no build in particular sees it."""
        await line_up(store, "a", slots=(), in_line=False, due_at=1, build="v0")
        await alter(store, "a", token=0, pinned="v1")
        store = await keeper.reopen(store)
        for build, seen in (("v1", ["a"]), ("v2", []), ("", []), (None, ["a"])):
            assert await self.due(store, 9, build=build) == seen, build
        await alter(store, "a", token=0, refused=("v3",))
        (row,) = await store.runs.find()
        assert (row.pinned, row.refused) == ("v1", ("v3",))
        await claim(store, "a", owner="gone")
        assert await self.due(store, 9, dead=["gone"], build="v2") == []
        assert await self.due(store, 9, dead=["gone"], build="v1") == ["a"]
        await alter(store, "a", owner=None, due_at=5, pinned="", refused=())
        assert await self.due(store, 9, build="v2") == ["a"]
        await alter(store, "a", pinned="v1")
        await alter(store, "a", status="completed")
        (row,) = await store.runs.find()
        assert row.pinned == ""

    async def test_a_build_is_not_shown_what_it_refused(self, store: Store) -> None:
        """Others are, also where its owner died; mail for what one holds is always shown."""
        await line_up(store, "a", slots=(), in_line=False, due_at=1)
        await claim(store, "a", owner="gone")
        await alter(store, "a", refused=("v1",))
        assert await self.due(store, 9, dead=["gone"], build="v1") == []
        assert await self.due(store, 9, dead=["gone"], build="v2") == ["a"]
        await alter(store, "a", owner=None, due_at=5)
        assert await self.due(store, 9, build="v1") == []
        assert await self.due(store, 9, build="v") == ["a"]
        assert await self.due(store, 9) == ["a"]
        await alter(store, "a", owner="me")
        assert await self.due(store, 9, build="v1") == ["a"]
        await alter(store, "a", owner=None, refused=())
        assert await self.due(store, 9, build="v1") == ["a"]

    async def test_runs_of_shunned_builds_are_left_out(self, store: Store) -> None:
        """A page of them hides nothing."""
        for n in range(3):
            await line_up(store, f"old-{n}", slots=(), due_at=n, build="v1")
        await line_up(store, "new", slots=(), due_at=9, build="v2")
        await line_up(store, "mine", slots=(), due_at=9, build="v1", owner="me")
        assert await self.due(store, 9, shunned=["v1"], limit=2) == ["mine", "new"]
        assert await self.due(store, 9, shunned=["v1"], build="v2") == ["mine", "new"]

    # ------------------------------------------------------------ model

    def test_random_histories_agree_with_the_model(self) -> None:
        """Hypothesis looks for a history in which the keeper and a dictionary disagree."""
        self.compare(LimitsMachine)


async def _answered(store: Store, append: Append) -> None:
    with suppress(NoRoom):
        await enlist(store.log, [append])
