"""What a queue in PostgreSQL does when answers are lost and claimers meet."""

import asyncio

from reprise.stores.queue import Settlement, Task


async def test_a_settle_whose_answer_was_lost_is_told_what_it_did(wire, wired):
    await wired.queue.offer([Task("a", "q")])
    [task] = await wired.queue.claim("q", "w", 1, 60)
    wire.cut_at, wire.when = (lambda data: b"needle" in data), "after"
    ends = [Settlement(task, "done", note="needle")]
    assert await wired.queue.settle(ends) == [True]
    assert wire.cut.is_set()
    assert await wired.queue.settle(ends) == [False]


async def test_claimers_pass_over_what_another_is_at(keeper, store, neighbour):
    """And do not wait for it."""
    await store.queue.offer([Task(id, "q") for id in "abc"])
    async with neighbour.transaction():
        await neighbour.execute("SELECT FROM tasks WHERE id = 'a' FOR UPDATE")
        async with asyncio.timeout(20):
            assert [task.id for task in await store.queue.claim("q", "w", 5, 60)] == ["b", "c"]
    assert [task.id for task in await store.queue.claim("q", "w", 5, 60)] == ["a"]
