"""Keepers that were broken on purpose, and histories that were altered: each is refused, so the suite can see."""

import asyncio
from itertools import pairwise

import pytest
from msgspec.structs import replace

from reprise.kernel.clock import VirtualClock
from reprise.stores.cells import View, conflict
from reprise.stores.lease import Grant
from reprise.stores.memory import MemoryStore
from reprise.stores.memory.cells import MemoryCells
from reprise.stores.memory.lease import MemoryLease
from reprise.stores.memory.queue import MemoryQueue
from reprise.testing.linearizable import History, NotLinearizable
from reprise.testing.suites import Keeper, LinearizableSuite
from reprise.testing.suites.linearizable import beside, use_cells, use_leases, use_queue


class LooksThenTakes(MemoryLease):
    """A lease that looks who holds it, and writes later."""

    async def take(self, name, holder, ttl, *, limit=1, shared=False, wait=0):
        others = [grant for grant in await self.holder(name) if grant.holder != holder]
        await asyncio.sleep(0)
        if len(others) >= limit:
            return None
        return await super().take(name, holder, ttl, limit=99)


class TakesAnyToken(MemoryLease):
    """A lease that renews for a holder, whatever its token."""

    async def renew(self, grants, ttl):
        held = [await self.holder(grant.name) for grant in grants]
        return [
            next((g for g in of if g.holder == grant.holder), None)
            for of, grant in zip(held, grants, strict=True)
        ]


class DropsForOthers(MemoryLease):
    """A lease that gives back what a token of before is shown for."""

    async def drop(self, grants):
        for grant in grants:
            await super().drop([g for g in await self.holder(grant.name) if g.holder == grant.holder])


class UsesTokensAgain(MemoryLease):
    """A lease whose tokens begin anew when nobody holds it."""

    async def take(self, name, holder, ttl, **options):
        grant = await super().take(name, holder, ttl, **options)
        return grant and Grant(name, holder, 1 + grant.token % 5, grant.expires_at)


class ForgetsToLook(MemoryLease):
    """A lease that leaves one out when it is asked who holds it."""

    async def holder(self, name):
        return (await super().holder(name))[:1]


class ClaimsTwice(MemoryQueue):
    """A queue that looks what is ready, and marks it later."""

    async def claim(self, queue, worker, limit, ttl):
        ready = (await self.find(queue, "ready"))[:limit]
        await asyncio.sleep(0)
        claimed = []
        for task in ready:
            self._last_token += 1
            entry = self._lines[queue].entries[task.id]
            entry.task = replace(task, state="claimed", token=self._last_token)
            claimed.append(entry.task)
        return claimed


class SettlesWithoutToken(MemoryQueue):
    """A queue that settles for whoever asks."""

    def _claim_of(self, task):
        line = self._lines.get(task.queue)
        entry = line.entries.get(task.id) if line else None
        return entry if entry is not None and entry.task.state == "claimed" else None


class LosesTasks(MemoryQueue):
    """A queue that forgets what is put back."""

    async def settle(self, settlements):
        ends = {"ready": "done", "back": "gone"}
        return await super().settle(
            [replace(each, state=ends.get(each.state, each.state)) for each in settlements]
        )


class OfNoOrder(MemoryQueue):
    """A queue that serves the latest first."""

    async def offer(self, tasks):
        return await super().offer([replace(task, order=-task.order) for task in tasks])


class ComparesThenSets(MemoryCells):
    """Cells that compare versions, and set values later: the compare-and-set is lost."""

    async def apply(self, space, changes, *, origin=""):
        view = await self.get(space, [each.name for each in changes])
        found = {cell.name: cell.version for cell in view.cells}
        for each in changes:
            if each.expected not in (None, found.get(each.name, 0)):
                raise conflict(space, each.name, each.expected, found.get(each.name, 0))
        await asyncio.sleep(0)
        return await super().apply(space, [replace(each, expected=None) for each in changes])


class ChangesOneByOne(MemoryCells):
    """Cells of which a change of several is seen by half."""

    async def apply(self, space, changes, *, origin=""):
        views = []
        for each in changes:
            views.append(await super().apply(space, [each]))
            await asyncio.sleep(0)
        return View([cell for view in views for cell in view.cells], views[-1].position, views[-1].at)


class UsesVersionsAgain(MemoryCells):
    """Cells that give the version of what was removed to what comes next."""

    async def apply(self, space, changes, *, origin=""):
        view = await super().apply(space, changes, origin=origin)
        of = self._spaces[space]
        of.head = max((cell.version for cell in of.cells.values()), default=0)
        return view


class ShowsWhatWas(MemoryCells):
    """Cells that are read from a copy, which is now and then behind."""

    behind = None

    async def scan(self, space, prefix="", **options):
        seen, self.behind = self.behind, await super().scan(space, prefix, **options)
        return seen or self.behind


class BrokenKeeper(Keeper):
    def __init__(self, *, lease=None, queue=None, cells=None):
        super().__init__()
        self.store = MemoryStore(VirtualClock())
        if lease is not None:
            self.store.lease = lease(VirtualClock())
        if queue is not None:
            self.store.queue = queue(VirtualClock(), self.store.signal)
        if cells is not None:
            self.store.cells = cells(VirtualClock(), self.store.signal)

    async def open(self):
        await self.store.start()
        return self.store

    async def pass_time(self, seconds):
        raise NotImplementedError


LEASES = [LooksThenTakes, TakesAnyToken, DropsForOthers, UsesTokensAgain, ForgetsToLook]
QUEUES = [ClaimsTwice, SettlesWithoutToken, LosesTasks, OfNoOrder]
CELLS = [ComparesThenSets, ChangesOneByOne, UsesVersionsAgain, ShowsWhatWas]


@pytest.mark.parametrize("lease", LEASES, ids=lambda each: each.__name__)
async def test_a_broken_lease_is_refused(lease):
    history = await beside(BrokenKeeper(lease=lease), use_leases)
    with pytest.raises(NotLinearizable):
        LinearizableSuite().judge(history)


@pytest.mark.parametrize("queue", QUEUES, ids=lambda each: each.__name__)
async def test_a_broken_queue_is_refused(queue):
    history = await beside(BrokenKeeper(queue=queue), use_queue)
    with pytest.raises(NotLinearizable):
        LinearizableSuite().judge(history)


@pytest.mark.parametrize("cells", CELLS, ids=lambda each: each.__name__)
async def test_broken_cells_are_refused(cells):
    history = await beside(BrokenKeeper(cells=cells), use_cells)
    with pytest.raises(NotLinearizable):
        LinearizableSuite().judge(history)


@pytest.mark.parametrize("client", [use_leases, use_queue, use_cells])
async def test_an_altered_history_is_refused(client):
    """Two answers change places; alike ones aside, no order explains the rest."""
    history = await beside(BrokenKeeper(), client)
    LinearizableSuite().judge(history)
    operations = history.operations
    refused = tried = 0
    for one, other in pairwise(each for each in operations if each.name in ("take", "claim", "get")):
        if one.key != other.key or one.result == other.result:
            continue
        swapped = {id(one): other.result, id(other): one.result}
        altered = [replace(each, result=swapped.get(id(each), each.result)) for each in operations]
        tried += 1
        try:
            LinearizableSuite().judge(History(altered))
        except NotLinearizable:
            refused += 1
    assert tried > 10
    assert refused > tried * 0.8, f"{refused} of {tried}"  # some answers mattered to nobody later
