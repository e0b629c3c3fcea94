"""What a queue in PostgreSQL does when answers are lost and claimers meet."""

import asyncio

from reprise.stores.postgres import queue
from reprise.stores.queue import Task


async def test_a_settle_whose_answer_was_lost_is_told_what_it_did(wire, wired):
    await wired.queue.offer([Task("a", "q")])
    [task] = await wired.queue.claim("q", "w", 1, 60)
    wire.cut_at, wire.when = (lambda data: b"needle" in data), "after"
    assert await wired.queue.settle(task, "done", note="needle") is True
    assert wire.cut.is_set()
    assert await wired.queue.settle(task, "done", note="needle") is False


async def test_claimers_pass_over_what_another_is_at(keeper, store, neighbour):
    """And do not wait for it."""
    await store.queue.offer([Task(id, "q") for id in "abc"])
    async with neighbour.transaction():
        await neighbour.execute("SELECT FROM tasks WHERE id = 'a' FOR UPDATE")
        async with asyncio.timeout(20):
            assert [task.id for task in await store.queue.claim("q", "w", 5, 60)] == ["b", "c"]
    assert [task.id for task in await store.queue.claim("q", "w", 5, 60)] == ["a"]


async def test_old_finished_tasks_are_forgotten(store, monkeypatch):
    monkeypatch.setattr(queue, "KEPT_DONE", 5)
    await store.queue.offer([Task(f"{n}", "q") for n in range(10)])
    for task in await store.queue.claim("q", "w", 10, 60):
        assert await store.queue.settle(task, "done")
    assert [task.id for task in await store.queue.find("q", "done")] == ["5", "6", "7", "8", "9"]
