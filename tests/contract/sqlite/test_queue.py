"""What a row of the queue says before and after it is claimed."""

import pytest

from reprise.stores.queue import Task
from reprise.stores.sqlite import SQLiteStore


async def test_an_offered_task_was_never_claimed_whatever_its_giver_says(store: SQLiteStore) -> None:
    await store.queue.offer([Task("a", "q", claims=7, token=7, until=7, worker="w", state="done")])
    [task] = await store.queue.find("q")
    assert (task.claims, task.token, task.until, task.worker, task.state) == (0, 0, 0, "", "ready")
    [task] = await store.queue.claim("q", "w", 1, 60)
    assert (task.claims, task.worker, task.state) == (1, "w", "claimed")


@pytest.mark.parametrize("limit", [0, -1])
async def test_who_wants_none_gets_none(store: SQLiteStore, limit: int) -> None:
    await store.queue.offer([Task("a", "q"), Task("b", "q")])
    assert await store.queue.claim("q", "w", limit, 60) == []
    assert [task.state for task in await store.queue.find("q")] == ["ready", "ready"]
