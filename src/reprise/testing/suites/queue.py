"""What a queue must prove."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from reprise.kernel.errors import ConfigurationError
from reprise.stores.queue import QueueStats, Settlement, Task, tap_of
from reprise.stores.store import Store
from reprise.testing.suites.keeper import LONG, Keeper, KeeperSuite, soon, until
from reprise.testing.suites.queue_model import QueueMachine

FAR = 2**52
"""A time that does not come within a test, in microseconds."""


def tasks(*ids: str, queue: str = "q") -> list[Task]:
    """Return tasks of one order."""
    return [Task(id, queue, id.encode()) for id in ids]


async def claimed(store: Store, limit: int = 100, ttl: float = LONG, worker: str = "w") -> list[str]:
    """Claim and return the ids."""
    return [task.id for task in await store.queue.claim("q", worker, limit, ttl)]


async def settled(store: Store, task: Task, state: str, **how: Any) -> bool:
    """Settle one task."""
    [answer] = await store.queue.settle([Settlement(task, state, **how)])
    return answer


class QueueSuite(KeeperSuite):
    """Tests of the port ``Queue``."""

    async def ids(self, found: Sequence[Task]) -> list[str]:
        """Return ids."""
        return [task.id for task in found]

    # ------------------------------------------------------------ offer and claim

    async def test_a_task_goes_through_the_queue_whole(self, store: Store) -> None:
        """What is claimed is what was offered, with the claim on it."""
        assert await store.queue.offer([Task("a", "q", bytes(range(256)), order=1.5, due_at=7)]) == [True]
        [task] = await store.queue.claim("q", "w1", 10, LONG)
        assert (task.id, task.queue, task.data, task.order, task.due_at) == (
            "a",
            "q",
            bytes(range(256)),
            1.5,
            7,
        )
        assert (task.state, task.claims, task.worker) == ("claimed", 1, "w1")
        assert 0 < task.token < 2**63
        assert task.until > 0
        assert await store.queue.find("q") == [task]

    async def test_how_it_was_offered_is_not_kept_with_a_task(self, store: Store) -> None:
        """When it is due is."""
        await store.queue.offer([Task("a", "q", delay=30, again=30)])
        [task] = await store.queue.find("q")
        assert (task.delay, task.again, task.due_at > 0) == (0, 0, True)

    async def test_order_first_then_the_time_of_the_offer(self, store: Store) -> None:
        """Smaller first; among equals who came first."""
        await store.queue.offer(tasks("c", "a"))
        await store.queue.offer([Task("late", "q", order=2.0), Task("early", "q", order=-1.0)])
        await store.queue.offer(tasks("b"))
        expected = ["early", "c", "a", "b", "late"]
        assert await self.ids(await store.queue.find("q")) == expected
        assert await claimed(store, 2) == expected[:2]
        assert await claimed(store) == expected[2:]
        assert await claimed(store) == []

    async def test_offering_a_live_id_again_changes_nothing(self, store: Store) -> None:
        """Whether it is ready or claimed, in the same offer or a later one."""
        assert await store.queue.offer([*tasks("a", "b"), Task("a", "q", b"other")]) == [True, True, False]
        await claimed(store, 1)
        again = [Task("a", "q", b"other"), Task("b", "q", order=-9.0), Task("c", "q")]
        assert await store.queue.offer(again) == [False, False, True]
        assert [(task.id, task.data, task.order) for task in await store.queue.find("q")] == [
            ("a", b"a", 0.0),
            ("b", b"b", 0.0),
            ("c", b"", 0.0),
        ]

    async def test_queues_do_not_share(self, store: Store) -> None:
        """The same id may be in two queues."""
        assert await store.queue.offer([*tasks("a"), *tasks("a", queue="other")]) == [True, True]
        assert await claimed(store) == ["a"]
        assert [task.id for task in await store.queue.claim("other", "w", 5, LONG)] == ["a"]
        assert await store.queue.claim("none", "w", 5, LONG) == []

    async def test_a_task_that_is_not_due_waits(self, store: Store) -> None:
        """By the keeper's clock."""
        await store.queue.offer([Task("far", "q", order=-1.0, due_at=FAR), *tasks("now")])
        assert await claimed(store) == ["now"]
        assert await store.queue.find("q", "ready") == []
        assert await self.ids(await store.queue.find("q", "later")) == ["far"]
        assert await store.queue.change("q", ["far"], due_at=0) == 1
        assert await claimed(store) == ["far"]

    async def test_one_claimer_at_a_time(self, keeper: Keeper) -> None:
        """However many claim at once, each task is claimed once."""
        stores = [await keeper.open() for _ in range(3)]
        names = [f"{n:03}" for n in range(120)]
        await stores[0].queue.offer(tasks(*names))

        async def drain(store: Store, worker: str) -> list[str]:
            mine: list[str] = []
            while got := await claimed(store, 7, worker=worker):
                mine += got
            return mine

        shares = await soon(asyncio.gather(*(drain(s, f"w{n}") for n, s in enumerate(stores))))
        assert sorted(id for share in shares for id in share) == names

    async def test_what_was_offered_is_there_after_a_restart(self, keeper: Keeper, store: Store) -> None:
        """Ready tasks and claims alike."""
        await store.queue.offer(tasks("a", "b"))
        [task] = await store.queue.claim("q", "w", 1, LONG)
        fresh = await keeper.reopen(store)
        assert await claimed(fresh) == ["b"]
        assert await settled(fresh, task, "done")

    # ------------------------------------------------------------ claims end

    async def test_nothing_is_lost_when_a_claimer_dies(self, keeper: Keeper, store: Store) -> None:
        """After its time the task goes to another, in its old place in the order."""
        await store.queue.offer(tasks("a", "b"))
        [old] = await store.queue.claim("q", "dead", 1, keeper.short)
        await keeper.pass_time(keeper.short)
        new, other = await store.queue.claim("q", "w", 5, LONG)
        assert (new.id, new.claims, new.worker, other.id) == ("a", 2, "w", "b")
        assert new.token > old.token

    async def test_an_old_token_settles_and_extends_nothing(self, keeper: Keeper, store: Store) -> None:
        """Whoever was too slow is told; the new claim stands."""
        await store.queue.offer(tasks("a"))
        [old] = await store.queue.claim("q", "slow", 1, keeper.short)
        await keeper.pass_time(keeper.short)
        [new] = await store.queue.claim("q", "w", 1, LONG)
        for state in ("done", "dead", "ready"):
            assert await settled(store, old, state) is False
        assert await store.queue.extend([old], LONG) == [None]
        assert await store.queue.find("q") == [new]

    async def test_an_extended_claim_holds(self, keeper: Keeper, store: Store) -> None:
        """From now, each by itself; the lost are told in their places."""
        await store.queue.offer(tasks("a", "b"))
        a, b = await store.queue.claim("q", "w", 2, 60)
        await settled(store, a, "done")
        lost, kept = await store.queue.extend([a, b], LONG)
        assert lost is None
        assert kept is not None
        assert kept.until > b.until
        assert kept.token == b.token
        await store.queue.extend([b], keeper.short)
        await keeper.pass_time(keeper.short)
        assert await claimed(store) == ["b"]

    # ------------------------------------------------------------ settle and change

    async def test_done_is_done(self, store: Store) -> None:
        """It is claimed never again and settled only once."""
        await store.queue.offer(tasks("a"))
        [task] = await store.queue.claim("q", "w", 1, LONG)
        assert await settled(store, task, "done") is True
        assert await settled(store, task, "done") is False
        assert await claimed(store) == []

    async def test_what_is_done_is_kept_with_its_outcome(self, store: Store) -> None:
        """But not what was to be done; until somebody removes it."""
        await store.queue.offer([Task("a", "q", b"work", level=3)])
        [task] = await store.queue.claim("q", "w", 1, LONG)
        await settled(store, task, "done", note="well", outcome=bytes(range(256)))
        [found] = await store.queue.find("q", "done")
        assert (found.id, found.state, found.note, found.worker, found.until) == ("a", "done", "well", "", 0)
        assert (found.data, found.outcome, found.level) == (b"", bytes(range(256)), 3)
        assert 0 < found.offered_at <= found.ended_at
        assert await store.queue.find("q", ids=["a", "nobody"]) == [found]
        assert await store.queue.change("q", ["a"], state="ready") == 0
        assert await store.queue.change("q", ["a"], state="gone") == 1
        assert await store.queue.find("q") == []

    async def test_what_has_ended_is_kept_for_a_time(self, keeper: Keeper, store: Store) -> None:
        """After it, it is there for nobody, swept or not."""
        await store.queue.offer(tasks("a", "b", "c", "d", "e"))
        for task, state, keep in zip(
            await store.queue.claim("q", "w", 5, LONG),
            ("done", "dead", "done", "dead", "done"),
            (keeper.short, keeper.short, LONG, None, keeper.short),
            strict=True,
        ):
            assert await settled(store, task, state, keep=keep)
        assert await store.queue.sweep("q") == 0
        await keeper.pass_time(keeper.short)
        assert await self.ids(await store.queue.find("q")) == ["c", "d"]
        assert await store.queue.find("q", "dead", ids=["b"]) == []
        assert await store.queue.change("q", ["b"], state="ready") == 0
        stats = await store.queue.stats("q")
        assert (stats.done, stats.dead, stats.finished, stats.failed) == (1, 1, 3, 2)
        assert await store.queue.offer(tasks("a", "b", "d")) == [True, True, False]
        assert await store.queue.sweep("q", 0) == 0
        assert await store.queue.sweep("q") == 1
        assert await store.queue.sweep("q") == 0
        assert await claimed(store) == ["a", "b"]

    async def test_an_id_may_be_closed_for_a_time_after_it_was_done(
        self, keeper: Keeper, store: Store
    ) -> None:
        """As whoever offers it wishes; what is not kept is not known."""
        await store.queue.offer(tasks("a", "b"))
        a, b = await store.queue.claim("q", "w", 5, LONG)
        await store.queue.settle([Settlement(a, "done"), Settlement(b, "gone")])
        assert await store.queue.offer([Task("a", "q", again=LONG), Task("b", "q", again=LONG)]) == [
            False,
            True,
        ]
        await keeper.pass_time(keeper.short)
        assert await store.queue.offer([Task("a", "q", again=keeper.short)]) == [True]

    async def test_a_claim_may_end_as_if_it_never_was(self, store: Store) -> None:
        """What was not tried has no fewer tries left, and is no failure."""
        await store.queue.offer(tasks("a", "b", "c"))
        await store.queue.settle(
            [Settlement(task, "back") for task in await store.queue.claim("q", "w", 2, LONG)]
        )
        [a] = await store.queue.claim("q", "w", 1, LONG)
        assert (a.id, a.claims) == ("a", 1)
        assert await settled(store, a, "ready", note="in vain", outcome=b"1")
        [a] = await store.queue.claim("q", "w", 1, LONG)
        assert (a.id, a.claims, a.note, a.outcome) == ("a", 2, "in vain", b"1")
        assert await settled(store, a, "back", delay=LONG)
        stats = await store.queue.stats("q")
        assert (stats.ready, stats.later, stats.failed) == (2, 1, 1)
        [later] = await store.queue.find("q", "later")
        assert (later.claims, later.outcome) == (1, b"1")

    async def test_many_are_settled_at_once(self, store: Store) -> None:
        """Each for itself; an old claim among them does not harm the rest."""
        await store.queue.offer([*tasks("a", "b", "c"), *tasks("a", queue="p")])
        a, b, c = await store.queue.claim("q", "w", 3, LONG)
        [p] = await store.queue.claim("p", "w", 3, LONG)
        await settled(store, b, "ready")
        ends = [Settlement(a, "done"), Settlement(b, "done"), Settlement(c, "dead"), Settlement(p, "gone")]
        assert await store.queue.settle([*ends, ends[0]]) == [True, False, True, True, False]
        assert await store.queue.settle([]) == []
        assert await self.ids(await store.queue.find("q", "dead")) == ["c"]
        assert await store.queue.names() == ["q"]

    async def test_a_done_id_may_be_offered_anew(self, store: Store) -> None:
        """Only a live id is the same work."""
        await store.queue.offer(tasks("a"))
        [first] = await store.queue.claim("q", "w", 1, LONG)
        await settled(store, first, "done")
        assert await store.queue.offer([Task("a", "q", b"new")]) == [True]
        [second] = await store.queue.claim("q", "w", 1, LONG)
        assert (second.data, second.claims) == (b"new", 1)
        assert second.token > first.token
        assert await settled(store, first, "done") is False

    async def test_put_back_at_once_or_later(self, store: Store) -> None:
        """With a note why; in its old place in the order."""
        await store.queue.offer(tasks("a", "b"))
        a, b = await store.queue.claim("q", "w", 2, LONG)
        await settled(store, b, "ready", note="busy")
        await settled(store, a, "ready", delay=LONG)
        [again] = await store.queue.claim("q", "w", 5, LONG)
        assert (again.id, again.note, again.claims) == ("b", "busy", 2)
        [later] = await store.queue.find("q", "later")
        assert (later.id, later.worker, later.until) == ("a", "", 0)
        assert later.due_at > a.until - LONG * 1_000_000

    async def test_dead_letters_are_kept_and_can_be_redriven(self, store: Store) -> None:
        """They are not claimed, block their id, and live again when told so."""
        await store.queue.offer(tasks("a"))
        [task] = await store.queue.claim("q", "w", 1, LONG)
        assert await settled(store, task, "dead", note="poison")
        assert await claimed(store) == []
        assert await store.queue.offer(tasks("a")) == [False]
        [dead] = await store.queue.find("q", "dead")
        assert (dead.id, dead.note, dead.claims) == ("a", "poison", 1)
        assert dead.ended_at > 0
        assert await store.queue.change("q", ["a"], state="ready") == 1
        [again] = await store.queue.claim("q", "w", 5, LONG)
        assert (again.id, again.data, again.claims, again.ended_at) == ("a", b"a", 1, 0)

    async def test_change_leaves_claimed_tasks_alone(self, store: Store) -> None:
        """And counts what it changed; unknown ids are ignored."""
        await store.queue.offer(tasks("a", "b", "c"))
        [a] = await store.queue.claim("q", "w", 1, LONG)
        assert await store.queue.change("q", ["a", "c", "nobody", "c"], order=-5.0) == 1
        assert await self.ids(await store.queue.find("q", "ready")) == ["c", "b"]
        assert await store.queue.change("q", ["b"], state="dead") == 1
        assert await claimed(store) == ["c"]
        assert await settled(store, a, "done")

    async def test_states_are_checked(self, store: Store) -> None:
        """A typo does not lose a task."""
        await store.queue.offer(tasks("a"))
        [task] = await store.queue.claim("q", "w", 1, LONG)
        with pytest.raises(ConfigurationError):
            await store.queue.settle([Settlement(task, "done"), Settlement(task, "doen")])
        with pytest.raises(ConfigurationError):
            await store.queue.change("q", ["a"], state="claimed")
        assert await settled(store, task, "done")

    # ------------------------------------------------------------ looking

    async def test_find_by_state_and_limit(self, store: Store) -> None:
        """In order."""
        await store.queue.offer(tasks("a", "b", "c"))
        await claimed(store, 1)
        assert await self.ids(await store.queue.find("q", limit=2)) == ["a", "b"]
        assert await self.ids(await store.queue.find("q", "claimed")) == ["a"]
        assert await self.ids(await store.queue.find("q", "ready", 1)) == ["b"]
        assert await self.ids(await store.queue.find("q", "ready", 5, skip=1)) == ["c"]
        assert await self.ids(await store.queue.find("q", ids=["c", "a", "c", "x"])) == ["a", "c"]
        assert await self.ids(await store.queue.find("q", "ready", ids=["c", "a"])) == ["c"]
        assert await store.queue.find("none") == []

    async def test_what_has_ended_is_found_in_that_order(self, keeper: Keeper, store: Store) -> None:
        """Whatever their order was before; page by page."""
        await store.queue.offer([Task(str(n), "q", order=float(-n)) for n in range(5)])
        tasks = {task.id: task for task in await store.queue.claim("q", "w", 5, LONG)}
        died = ["2", "4", "0", "1", "3"]
        for id in died:
            await settled(store, tasks[id], "dead")
            await keeper.pass_time(0.001)
        assert await self.ids(await store.queue.find("q", "dead", 3)) == died[:3]
        assert await self.ids(await store.queue.find("q", "dead", 3, skip=3)) == died[3:]

    async def test_when_there_will_be_something(self, keeper: Keeper, store: Store) -> None:
        """When a task is due or a claim ends, whatever comes first."""
        assert await store.queue.due("q") is None
        await store.queue.offer([*tasks("a"), Task("b", "q", delay=LONG)])
        assert await store.queue.due("q") == 0
        [task] = await store.queue.claim("q", "w", 5, LONG / 2)
        first = await store.queue.due("q")
        assert first is not None
        assert LONG / 4 < first <= LONG / 2
        await settled(store, task, "done")
        then = await store.queue.due("q")
        assert then is not None
        assert first < then <= LONG
        await store.queue.offer([Task("c", "q", delay=keeper.short)])
        assert await claimed(store) == []
        await keeper.pass_time(keeper.short)
        assert await store.queue.due("q") == 0
        assert await claimed(store) == ["c"]

    async def test_a_paused_queue_gives_nothing(self, keeper: Keeper, store: Store) -> None:
        """Whoever asks, also after a restart; claims that there are may end."""
        await store.queue.offer(tasks("a", "b"))
        [task] = await store.queue.claim("q", "w", 1, LONG)
        await store.queue.pause("q", paused=True)
        await store.queue.pause("q", paused=True)
        assert await claimed(store) == []
        assert await store.queue.due("q") is None
        assert await settled(store, task, "done")
        assert await store.queue.offer([*tasks("c"), *tasks("x", queue="p")]) == [True, True]
        assert (await store.queue.stats("q")).paused
        assert [task.id for task in await store.queue.claim("p", "w", 1, LONG)] == ["x"]
        if "one_process" not in self.exceptions:
            store = await keeper.reopen(store)
        assert await claimed(store) == []
        await store.queue.pause("q", paused=False)
        assert await claimed(store) == ["b", "c"]
        assert not (await store.queue.stats("q")).paused

    async def test_stats(self, keeper: Keeper, store: Store) -> None:
        """What is there, what went through, and for how long the oldest waits."""
        assert await store.queue.stats("q") == QueueStats()
        names = [Task(id, "q", level=2) for id in "abcdef"]
        await store.queue.offer([*names, Task("g", "q", level=5), Task("later", "q", delay=LONG, level=2)])
        for state in ("dead", "claimed", "done", "ready"):
            [task] = await store.queue.claim("q", "w", 1, LONG)
            if state != "claimed":
                await settled(store, task, state)
        await keeper.pass_time(keeper.short)
        stats = await store.queue.stats("q")
        assert (stats.ready, stats.later, stats.claimed, stats.done, stats.dead) == (4, 1, 1, 1, 1)
        assert (stats.finished, stats.failed, dict(stats.levels)) == (1, 2, {2: 3, 5: 1})
        assert keeper.short * 1_000_000 <= stats.oldest_us < LONG * 1_000_000

    async def test_an_offer_taps_who_waits_for_tasks(self, keeper: Keeper) -> None:
        """In other stores, too, whatever the name of the queue."""
        here, there = await keeper.open(), await keeper.open()
        felt: list[str] = []
        names = ("mail", "ä {x}%2F:y")
        for name in names:
            there.signal.listen(tap_of(name), felt.append)
        for number, name in enumerate(names):

            async def tapped(name: str = name, number: int = number) -> bool:
                await here.queue.offer([Task(f"{number}.{len(await here.queue.find(name))}", name)])
                return tap_of(name) in felt

            await until(tapped, "the other store's listener is tapped")
        assert felt[-1] == tap_of(names[1])

    async def test_queues_are_known_by_name(self, store: Store) -> None:
        """As long as they have a task, of whatever state."""
        assert await store.queue.names() == []
        await store.queue.offer([Task("1", "b"), Task("1", "a"), Task("2", "b"), Task("1", "ä")])
        [task] = await store.queue.claim("a", "w", 1, LONG)
        await settled(store, task, "dead")
        assert await store.queue.names() == ["a", "b", "ä"]

    # ------------------------------------------------------------ model

    def test_random_histories_agree_with_the_model(self) -> None:
        """Hypothesis looks for a history in which the keeper and a list disagree."""
        self.compare(QueueMachine)
