"""A list that behaves like a queue, and random histories to compare with it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from reprise.stores.queue import Settlement, Task
from reprise.testing.suites.keeper import LONG, Keeper

_ids = st.sampled_from("abcde")
_orders = st.sampled_from((0.0, 0.0, 1.0, -1.0))
FAR = 2**52


class Item(msgspec.Struct, eq=False):
    """What the model knows of one task; ``ended`` = its claim's time is over."""

    id: str
    order: float
    far: bool
    state: str = "ready"
    token: int = 0
    claims: int = 0
    short: bool = False
    ended: bool = False


class QueueMachine(RuleBasedStateMachine):
    """Random offers, claims, settlements, changes, restarts and passing of time on one queue."""

    def __init__(self, make_keeper: Callable[[], Keeper]) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.keeper = make_keeper()
        self.store = self.runner.run(self.keeper.open())
        self.items: list[Item] = []
        """In the order of their offers."""
        self.past: list[Task] = []
        self.highest = 0
        self.counted: Counter[str] = Counter()
        """Claims by how they ended."""

    def _ordered(self) -> list[Item]:
        return sorted((item for item in self.items if item.state != "done"), key=lambda item: item.order)

    def _live(self, id: str) -> Item | None:
        return next((item for item in self._ordered() if item.id == id), None)

    @rule(id=_ids, order=_orders, far=st.sampled_from((False, False, True)))
    def offer(self, id: str, order: float, far: bool) -> None:
        """Offer one task."""
        new = self._live(id) is None
        task = Task(id, "q", id.encode(), order, due_at=FAR if far else 0, level=len(id))
        assert self.runner.run(self.store.queue.offer([task])) == [new]
        if new:
            self.items = [item for item in self.items if item.id != id]
            self.items.append(Item(id, order, far))

    @rule(limit=st.integers(1, 3), short=st.booleans())
    def claim(self, limit: int, short: bool) -> None:
        """Claim some."""
        free = [item for item in self._ordered() if item.ended or (item.state == "ready" and not item.far)]
        short = short and self.keeper.exact_time
        ttl = self.keeper.short if short else LONG
        tasks = self.runner.run(self.store.queue.claim("q", "w", limit, ttl))
        assert [task.id for task in tasks] == [item.id for item in free[:limit]]
        tokens = [task.token for task in tasks]
        assert len(set(tokens)) == len(tokens)
        assert all(token > self.highest for token in tokens)
        self.highest = max([self.highest, *tokens])
        for item, task in zip(free, tasks, strict=False):
            item.state, item.token, item.short, item.ended = "claimed", task.token, short, False
            item.claims += 1
            assert task.claims == item.claims
        self.past += tasks

    @precondition(lambda self: self.past)
    @rule(data=st.data(), state=st.sampled_from(("done", "gone", "dead", "ready", "back")), far=st.booleans())
    def settle(self, data: st.DataObject, state: str, far: bool) -> None:
        """Settle any claim there ever was, except one whose time is over and that nobody else took."""
        task = data.draw(st.sampled_from(self.past))
        item = self._live(task.id)
        if item is not None and item.ended:
            return
        live = item is not None and item.state == "claimed" and item.token == task.token
        settlement = Settlement(task, state, delay=LONG if far else 0)
        assert self.runner.run(self.store.queue.settle([settlement])) == [live]
        if item is not None and live:
            item.claims -= state == "back"
            item.state = {"back": "ready", "gone": "done"}.get(state, state)
            item.far = item.far or far
            self.counted[state] += 1

    @precondition(lambda self: self.past)
    @rule(data=st.data(), short=st.booleans())
    def extend(self, data: st.DataObject, short: bool) -> None:
        """Extend any claim there ever was, with the same exception."""
        task = data.draw(st.sampled_from(self.past))
        item = self._live(task.id)
        if item is not None and item.ended:
            return
        live = item is not None and item.state == "claimed" and item.token == task.token
        short = short and self.keeper.exact_time
        ttl = self.keeper.short if short else LONG
        [extended] = self.runner.run(self.store.queue.extend([task], ttl))
        assert (extended is not None) is live
        if item is not None and live:
            item.short = short

    @rule(
        id=_ids,
        order=st.none() | _orders,
        far=st.none() | st.booleans(),
        state=st.sampled_from((None, "ready", "dead", "gone")),
    )
    def change(self, id: str, order: float | None, far: bool | None, state: str | None) -> None:
        """Change one task that is not done."""
        item = self._live(id)
        if item is None or item.ended:
            return
        due_at = None if far is None else FAR if far else 0
        changed = self.runner.run(self.store.queue.change("q", [id], order=order, due_at=due_at, state=state))
        assert changed == (item.state != "claimed")
        if changed:
            item.order = item.order if order is None else order
            item.far = item.far if far is None else far
            item.claims = 0 if state == "ready" else item.claims
            item.state = "done" if state == "gone" else state or item.state

    @rule()
    def pass_time(self) -> None:
        """Let every short claim end."""
        if not self.keeper.exact_time:
            self.runner.run(self.store.queue.extend(self.past, self.keeper.short))
            for item in self.items:
                item.short = True
        self.runner.run(self.keeper.pass_time(self.keeper.short))
        for item in self.items:
            if item.state == "claimed" and item.short:
                item.ended = True

    @rule()
    def restart(self) -> None:
        """Close and open."""
        self.store = self.runner.run(self.keeper.reopen(self.store))

    @rule()
    def begin_epoch(self) -> None:
        """Begin an epoch: tokens go on above all that were given, claims stay."""
        self.runner.run(self.store.begin_epoch())

    @rule()
    def look(self) -> None:
        """Ask for the tasks of each state, and for the counts."""
        if any(item.ended for item in self.items):
            return
        items = self._ordered()
        ready = [item.id for item in items if item.state == "ready" and not item.far]
        assert self._found("ready") == ready
        assert set(self._found("later")) == {i.id for i in items if i.state == "ready" and i.far}
        for state in ("claimed", "dead"):
            assert set(self._found(state)) == {item.id for item in items if item.state == state}
        stats = self.runner.run(self.store.queue.stats("q"))
        assert (stats.ready, stats.later) == (len(ready), len(self._found("later")))
        assert stats.finished == self.counted["done"] + self.counted["gone"]
        assert stats.failed == self.counted["ready"] + self.counted["dead"]
        assert stats.levels == Counter(len(id) for id in ready)

    def _found(self, state: str) -> list[str]:
        found = self.runner.run(self.store.queue.find("q", state))
        assert len({task.id for task in found}) == len(found)
        return [task.id for task in found]

    def teardown(self) -> None:
        """Compare once more and close."""
        self.look()
        self.runner.run(self.keeper.close())
        self.runner.close()
