"""What the faces count and measure is what happened; and the guide names all of it."""

import asyncio
from pathlib import Path

import pytest

from reprise import (
    METRICS,
    LeaderElection,
    LeadershipLost,
    LockLost,
    LockManager,
    LockNotAcquired,
    StateSync,
    Task,
    TaskQueue,
)
from reprise.kernel.metrics import Sample
from reprise.stores.memory import MemoryStore
from reprise.testing import run

GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "metrics.md"
NOTHING = Sample("", "counter", "", "", {}, 0)


def sample(name, **labels):
    return next((s for s in METRICS.snapshot() if (s.name, s.labels) == (name, labels)), NOTHING)


async def losing(held, taken_away):
    async with held:
        await taken_away
        await asyncio.sleep(3600)


def test_the_guide_names_all_of_them():
    lines = [line for line in GUIDE.read_text().splitlines() if line.startswith("| `")]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    assert rows == [
        [each.name, each.kind, each.unit, ", ".join(each.labels), each.text]
        for each in METRICS.families()
        if each.name.startswith("reprise.")
    ]


def test_locks():
    names = ("wait", "hold", "lost", "refused")
    before = [sample(f"reprise.lock.{name}") for name in names]

    async def main():
        async with LockManager(MemoryStore()) as manager:
            async with manager.lock("a"):
                with pytest.raises(LockNotAcquired):
                    async with manager.lock("a", timeout=2):
                        raise AssertionError
            with pytest.raises(LockLost):
                await losing(manager.lock("a"), manager.break_lock("a"))

    run(main)
    wait, hold, lost, refused = [sample(f"reprise.lock.{name}") for name in names]
    assert wait.count - before[0].count == 3
    assert wait.value - before[0].value == pytest.approx(2, abs=0.1)
    assert hold.count - before[1].count == 2
    assert hold.value - before[1].value == pytest.approx(2, abs=0.1)
    assert (lost.value - before[2].value, refused.value - before[3].value) == (1, 1)


def test_queues():
    async def main():
        store = MemoryStore()
        async with TaskQueue(store, "measured") as queue:
            await queue.enqueue([Task(task_type="a"), Task(task_type="b", delay=3600)])
            await asyncio.sleep(20)
            await queue.get_queue_stats()
            assert sample("reprise.queue.depth", queue="measured", state="pending").value == 1
            assert sample("reprise.queue.depth", queue="measured", state="scheduled").value == 1
            assert sample("reprise.queue.oldest_age", queue="measured").value == pytest.approx(20, abs=1)
            for _ in range(2):
                task = await queue.dequeue()
                await queue.fail_task(task, "no")
            await queue.complete_task(await queue.dequeue())
            await queue.complete_task(await queue.dequeue(timeout=4000))
            await queue.get_queue_stats()

    run(main)
    assert sample("reprise.queue.retries", queue="measured").value == 2
    latency = sample("reprise.queue.claim_latency", queue="measured")
    # One waited for 20 s, the other was taken when it was due.
    assert (latency.count, latency.value) == (2, pytest.approx(20, abs=1))
    assert sample("reprise.queue.depth", queue="measured", state="pending").value == 0


def test_leaders():
    async def main():
        async with LeaderElection(MemoryStore(), "measured") as election:
            async with election.campaign():
                pass
            with pytest.raises(LeadershipLost):
                await losing(election.campaign(), election.depose())

    run(main)
    assert sample("reprise.leader.changes", election="measured").value == 2
    assert sample("reprise.leader.lost", election="measured").value == 1


def test_shared_state():
    async def main():
        store = MemoryStore()
        one, other = (StateSync(store, "measured") for _ in range(2))
        async with one, other:
            await one.set("a", 1)
            for each in (one, one, other):
                await each.get("a", fresh=each is other)
            await one.get("none")
            assert sample("reprise.state.cache.hits", namespace="measured").value == 2
            assert 0 <= sample("reprise.state.cache.staleness", namespace="measured").value < 5
        async with one:
            await one.get("a")

    run(main)
    assert sample("reprise.state.cache.hits", namespace="measured").value == 3
    assert sample("reprise.state.cache.misses", namespace="measured").value == 1
    assert sample("reprise.state.cache.staleness", namespace="measured") is NOTHING
