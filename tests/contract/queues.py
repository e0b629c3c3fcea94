"""Task queues over every keeper of queues: what users rely on, with real time, and with two stores where the keeper has two."""

import asyncio

import pytest

from reprise import ClaimLost, Limit, Retry, Task, TaskFailed, TaskQueue
from reprise.testing.suites.keeper import soon, until

QUICK = Retry(backoff=0.01, retry_on=Exception)


class TaskQueueScenes:
    """Mixed into a class that knows how to make a keeper whose time passes by itself."""

    async def test_from_the_first_task_to_the_statistics(self, keeper):
        one, other = TaskQueue(await keeper.open(), "q"), TaskQueue(await keeper.open(), "q")
        ids = await one.enqueue(
            [Task(task_type="t", payload={"n": n}, priority="low" if n else "high") for n in range(50)]
        )
        await asyncio.gather(
            *(other.enqueue(Task(task_id=f"x{n}", task_type="t", payload={"n": n})) for n in range(50))
        )
        first = await one.dequeue(timeout=10)
        assert (first.task_id, first.priority.name) == (ids[0], "HIGH")
        assert (await other.get_queue_stats()).by_priority["low"] == 49
        await one.complete_task(first.task_id, {"n": 0})
        with pytest.raises(ClaimLost):
            await one.complete_task(first)

        async def work(task):
            return task.payload

        async with one.worker(work, concurrency=5), other.worker(work, concurrency=5):
            results = [await soon(other.result(id)) for id in ids]
            assert results == [{"n": n} for n in range(50)]
            await until(lambda: _has_completed(one, 100), "all are completed")
            assert (await one.get_queue_stats()).workers == 2
        stats = await one.get_queue_stats()
        assert (stats.completed, stats.pending, stats.processing, stats.failed, stats.workers) == (
            100,
            0,
            0,
            0,
            0,
        )

    async def test_dead_letters_have_their_history_and_live_again(self, keeper):
        queue = TaskQueue(await keeper.open(), "q", retry=QUICK)
        works = False

        async def work(task):
            if not works:
                raise OSError(f"no {task.attempt}")
            return "well"

        await queue.enqueue([Task(task_id=id, task_type="t", payload=id, max_retries=0) for id in "abc"])
        async with queue.worker(work):
            for id in "abc":
                with pytest.raises(TaskFailed, match="no 1"):
                    await soon(queue.result(id))
            letters = await queue.dead_letters.list()
            assert {letter.payload for letter in letters} == set("abc")
            assert [attempt.error for attempt in letters[0].attempts] == ["OSError: no 1"]
            assert await queue.dead_letters.purge("b") == 1
            works = True
            assert await queue.dead_letters.requeue(all=True) == 2
            assert [await soon(queue.result(id)) for id in "ac"] == ["well", "well"]
        assert (await queue.get_task("a")).attempts[0].number == 1

    async def test_limits_and_pauses_hold_for_all(self, keeper):
        limits = {"one": Limit(concurrency=1)}
        queues = [TaskQueue(await keeper.open(), "q", limits=limits) for _ in range(2)]
        running, most = 0, 0

        async def work(task):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.005)
            running -= 1

        await queues[0].pause()
        ids = await queues[0].enqueue([Task(task_type="one", payload=n) for n in range(12)])
        async with queues[0].worker(work), queues[1].worker(work):
            await asyncio.sleep(0.05)
            assert (await queues[1].get_queue_stats()).pending == 12
            await queues[1].resume()
            for id in ids:
                await soon(queues[0].result(id))
        assert most == 1

    async def test_a_unique_task_and_a_known_id_are_in_it_once(self, keeper):
        queue = TaskQueue(await keeper.open(), "q")
        for _ in range(2):
            await queue.enqueue(
                [Task(task_type="t", payload=[1], unique=True), Task(task_id="a", task_type="t")]
            )
        assert (await queue.get_queue_stats()).pending == 2
        for _ in range(2):
            await queue.complete_task(await queue.dequeue(timeout=0))
        await queue.enqueue([Task(task_type="t", payload=[1], unique=True), Task(task_id="a", task_type="t")])
        assert [info.payload for info in await queue.peek()] == [[1]]
        assert await queue.cancel((await queue.peek())[0].task_id) == 1


async def _has_completed(queue, count):
    return (await queue.get_queue_stats()).completed == count
