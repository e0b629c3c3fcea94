"""Queues for code without an event loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from reprise import ClaimLost, ConfigurationError, Task, TaskFailed, TaskQueue


def test_a_script_uses_a_queue(tmp_path):
    url = f"sqlite:///{tmp_path}/queue.db"
    with TaskQueue(url, "q").sync as queue:
        ids = queue.enqueue([Task(task_type="t", payload=n, max_retries=0) for n in range(3)])
        assert queue.enqueue(Task(task_id="x", task_type="t", payload=3)) == "x"
        for _ in range(4):
            task = queue.dequeue(timeout=1)
            queue.extend(task, 60)
            if task.payload == 1:
                assert queue.fail_task(task, "no") is False
            else:
                queue.complete_task(task, task.payload * 2)
        assert queue.dequeue(timeout=0) is None
        assert queue.result("x") == 6
        with pytest.raises(TaskFailed):
            queue.result(ids[1])
        with pytest.raises(ClaimLost):
            queue.complete_task("x")
        stats = queue.get_queue_stats()
        assert (stats.completed, stats.dead) == (3, 1)
        assert [letter.task_id for letter in queue.dead_letters.list()] == [ids[1]]
        assert queue.dead_letters.requeue(ids[1]) == 1
        assert queue.get_task(ids[1]).state == "pending"
        queue.pause()
        assert queue.dequeue(timeout=0) is None
        queue.resume()
        assert queue.cancel(ids[1]) == 1
        assert queue.peek() == []
        assert (queue.purge(), queue.dead_letters.purge(all=True)) == (0, 0)


def test_threads_share_it():
    with TaskQueue("memory://", "q").sync as queue, ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(queue.enqueue, [Task(task_type="t", payload=n) for n in range(40)]))
        got = list(pool.map(lambda _: queue.dequeue(timeout=5).task_id, ids))
        assert sorted(got) == sorted(ids)
        assert sum(1 for _ in pool.map(queue.complete_task, got)) == 40


def test_on_a_loop_it_is_refused():
    queue = TaskQueue("memory://", "q").sync

    async def main():
        queue.enqueue(Task(task_type="t"))

    with pytest.raises(ConfigurationError, match="event loop"):
        asyncio.run(main())
