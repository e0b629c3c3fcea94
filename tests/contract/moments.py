"""Answers that are of one moment: between every two statements of a read, another store commits something.

What is answered then must be what was true before that, or after it. A mixture was never true.
"""

from functools import partial

import pytest

from reprise.kernel.errors import FeedGone
from reprise.kernel.limit import Slot
from reprise.kernel.query import Is
from reprise.stores.cells import Change, whole_space
from reprise.stores.queue import Settlement, Task
from reprise.stores.runs import RunFilter
from reprise.stores.searching import plan
from reprise.testing.suites.keeper import LONG
from reprise.testing.suites.limits import alter, claim, line_up
from reprise.testing.suites.runs import change, start

STATUSES = (["pending", "running"], ["running", "pending"])
KEPT = partial(Change, data=b"")
MOST = 100
"""Statements of a read, at most."""


class Steps:
    """Counts the statements of reads; before one of them, lets something else happen first."""

    def __init__(self):
        self.left, self.meanwhile, self.happened = -1, None, False

    def arm(self, number, meanwhile):
        """Let ``meanwhile`` happen before the statement of this number; the first one is 0."""
        self.left, self.meanwhile, self.happened = number, meanwhile, False

    def is_now(self):
        """Tell of the next statement whether it is the one."""
        self.left -= 1
        self.happened |= self.left == -1
        return self.left == -1


class Moments:
    """Mixed into a class with the fixtures ``store``, ``other`` on the same data, and ``steps`` of ``store``."""

    async def hold(self, steps, scene):
        """Do a scene again and again, each time with the commit one statement later; return how often."""
        for number in range(1, MOST):
            read, write = await scene(number)
            before = await read()
            steps.arm(number, write)
            answer = await read()
            if not steps.happened:
                return number - 1
            after = await read()
            assert answer in (before, after), f"{answer} was never true: it was {before}, and then {after}"
        pytest.fail(f"it goes on after {MOST} statements")

    async def test_two_reads_are_of_two_moments(self, store, other, steps):
        """The control: here the answer is a mixture, and that is noticed."""

        async def scene(number):
            queue = f"q{number}"
            await other.queue.offer([Task("a", queue)])

            async def read():
                return [len(await store.queue.find(queue, state)) for state in ("claimed", "ready")]

            return read, lambda: other.queue.claim(queue, "w", 1, LONG)

        with pytest.raises(AssertionError, match="was never true"):
            await self.hold(steps, scene)


class MomentsOfRuns(Moments):
    """What is asked of the index of runs."""

    @pytest.mark.parametrize("statuses", STATUSES)
    async def test_a_run_that_goes_from_one_wanted_state_to_another_is_found(
        self, store, other, steps, statuses
    ):
        await start(other, "a")

        async def scene(_):
            await change(other, "a", status="pending")

            async def read():
                return [(row.id, row.status) for row in await store.runs.find(RunFilter(status=statuses))]

            return read, lambda: change(other, "a", status="running")

        assert await self.hold(steps, scene)

    @pytest.mark.parametrize("statuses", STATUSES)
    async def test_a_run_that_goes_from_one_wanted_state_to_another_is_counted_once(
        self, store, other, steps, statuses
    ):
        """Whoever moves a store looks for the owners of runs that have not ended, to know that nobody works there."""
        await start(other, "a", owner="w")

        async def scene(_):
            await change(other, "a", status="pending")
            wanted = RunFilter(status=statuses)
            return lambda: store.runs.count(wanted, by="owner"), lambda: change(other, "a", status="running")

        assert await self.hold(steps, scene)

    async def test_what_is_counted_by_subtraction(self, store, other, steps, monkeypatch):
        monkeypatch.setattr(plan, "FEW", 1)
        for id in "ab":
            await start(other, id)
            await change(other, id, status="completed")

        async def scene(number):
            wanted = Is("workflow", "survey")
            return lambda: store.runs.count(wanted), lambda: start(other, f"{number}")

        assert await self.hold(steps, scene)

    async def test_a_page_where_nothing_is_rare(self, store, other, steps, monkeypatch):
        """The newest run begins to be wanted before the oldest; no page has that one without the other."""
        for name in ("FEW", "MANY", "WINDOW", "FIRST"):
            monkeypatch.setattr(plan, name, 1)
        for at, id in enumerate("abcd", 1):
            await start(other, id, at=at, tags={"env": "prod"}, status="waiting" if id == "b" else "running")

        async def scene(_):
            await change(other, "d", status="running")
            await change(other, "a", status="running")
            wanted = RunFilter(status=["waiting"], tags={"env": "prod"})

            async def read():
                return [row.id for row in await store.runs.find(wanted, limit=3)]

            async def write():
                for id in "da":
                    await change(other, id, status="waiting")

            return read, write

        assert await self.hold(steps, scene)

    async def test_a_run_that_goes_from_one_reason_to_act_on_it_to_another_is_due(self, store, other, steps):
        """It is its dead owner's at first; then somebody has given it back, and it is due."""
        await start(other, "a")

        async def scene(_):
            await change(other, "a", owner="dead", due_at=None)

            async def read():
                rows = await store.runs.due(9, owner="me", dead=["dead"])
                return [(row.id, row.owner) for row in rows]

            return read, lambda: change(other, "a", owner=None, due_at=5)

        await self.hold(steps, scene)

    async def test_the_places_of_a_line(self, store, other, steps):
        slots = (Slot("flow", "", 1), Slot("tenant", "acme", 1))
        for id in "ab":
            await line_up(other, id, *slots)
        await claim(other, "a", *slots)

        async def scene(_):
            await alter(other, "a", slots=slots)

            async def read():
                return [line.taken for line in await store.runs.lines()]

            return read, lambda: alter(other, "a", slots=())

        assert await self.hold(steps, scene)


class MomentsOfQueues(Moments):
    """What is asked of queues."""

    async def test_when_there_will_be_something_to_claim(self, keeper, store, other, steps):
        """A claim puts what has become due into the order; whoever asks in between must not be sent to sleep."""

        async def scene(number):
            queue = f"q{number}"
            await other.queue.offer([Task(id, queue, delay=keeper.short) for id in "ab"])
            await keeper.pass_time(keeper.short)
            return lambda: store.queue.due(queue), lambda: other.queue.claim(queue, "w", 1, LONG)

        await self.hold(steps, scene)

    async def test_the_counts_of_a_queue(self, store, other, steps):
        async def scene(number):
            queue = f"q{number}"
            await other.queue.offer([Task("a", queue)])
            [task] = await other.queue.claim(queue, "w", 1, LONG)

            async def read():
                stats = await store.queue.stats(queue)
                return stats.claimed, stats.finished

            return read, lambda: other.queue.settle([Settlement(task, "gone")])

        await self.hold(steps, scene)

    @pytest.mark.parametrize("how", [{}, {"ids": ["a", "b"]}, {"state": "ready"}])
    async def test_tasks_that_are_found(self, store, other, steps, how):
        async def scene(number):
            queue = f"q{number}"
            await other.queue.offer([Task(id, queue) for id in "ab"])

            async def read():
                return [task.id for task in await store.queue.find(queue, **how)]

            return read, lambda: other.queue.change(queue, ["a", "b"], state="gone")

        await self.hold(steps, scene)


class MomentsOfCells(Moments):
    """What is asked of cells."""

    async def test_cells_and_how_far_their_feed_has_come(self, store, other, steps):
        async def scene(number):
            changes = [Change(name, f"{number}".encode()) for name in "ab"]

            async def read():
                got, scanned = (
                    await store.cells.get("s", ["a", "b"]) if number % 2 else None,
                    await store.cells.scan("s") if not number % 2 else None,
                )
                view = got or scanned
                return [(cell.name, cell.data) for cell in view.cells], view.position

            return read, lambda: other.cells.apply("s", changes)

        for offset in (0, 1):  # each number of statements with both ways to read
            await self.hold(steps, lambda number, offset=offset: scene(number + offset))

    async def test_a_page_of_cells_is_full_though_one_of_them_ends(self, keeper, store, other, steps):
        """Whoever walks a space takes a page that is not full for its last."""

        async def scene(number):
            space = f"s{number}"
            await other.cells.apply(space, [Change("a", b"", ttl=keeper.short), *map(KEPT, "bc")])

            async def read():
                return [cell.name for cell in (await store.cells.scan(space, limit=2)).cells]

            return read, lambda: keeper.pass_time(keeper.short)

        await self.hold(steps, scene)

    async def test_a_whole_space_though_it_has_several_pages(self, store, other, steps):
        """What changes in one commit is in a copy of the space together, or not at all."""

        async def scene(number):
            space = f"s{number}"
            await other.cells.apply(space, [Change(name, b"1") for name in "abcd"])
            changes = [Change("a", b"2"), Change("b", None), Change("d", b"2"), Change("e", b"2")]

            async def read():
                view = await whole_space(store.cells, space, page=2)
                return [(cell.name, cell.data) for cell in view.cells], view.position

            return read, lambda: other.cells.apply(space, changes)

        assert await self.hold(steps, scene) > 1

    async def test_the_feed_of_cells(self, store, other, steps):
        async def scene(number):
            space = f"s{number}"
            first = await other.cells.apply(space, [Change("a", b"1")])
            for data in (b"2", b"3"):
                await other.cells.apply(space, [Change("a", data)])

            async def read():
                try:
                    return [entry.data for entry in await store.cells.feed(space, first.position)]
                except FeedGone as gone:
                    return gone.kept_after

            return read, lambda: other.cells.prune(space, 1)

        await self.hold(steps, scene)


class MomentsScenes(MomentsOfRuns, MomentsOfQueues, MomentsOfCells):
    """All of them."""
