"""Queues as users see them, in virtual time: hours pass in no time, and everything waits on the clock of the test."""

import asyncio
from datetime import timedelta
from functools import wraps

import pytest

from reprise.coordination import dead_letters
from reprise.coordination.queue import TaskQueue
from reprise.coordination.tasks import Task
from reprise.kernel.clock import to_datetime
from reprise.kernel.errors import (
    ClaimLost,
    CodecError,
    ConfigurationError,
    PayloadTooLarge,
    ResultTimeout,
    TaskFailed,
    TaskNotFound,
    UnknownOption,
)
from reprise.kernel.limit import Limit
from reprise.kernel.policy import Retry
from reprise.stores.memory import MemoryStore
from reprise.testing import run

PLAIN = Retry(backoff=1.0, max_delay=300.0, jitter="none", retry_on=Exception)


def virtual(test):
    """Run a test in virtual time."""

    @wraps(test)
    def on_loop(*args, **kwargs):
        return run(lambda: test(*args, **kwargs), seed=None)

    return on_loop


def make(store=None, **options):
    return TaskQueue(store or MemoryStore(), "q", **{"retry": PLAIN, **options})


def named(*ids, **more):
    return [Task(task_id=id, task_type="t", **more) for id in ids]


async def ids(queue, count):
    return [(await queue.dequeue(timeout=0)).task_id for _ in range(count)]


@virtual
async def test_as_the_document_says():
    task_queue = make()
    task = Task(
        task_id="task_123",
        task_type="data_processing",
        payload={"data": "..."},
        priority="high",
        max_retries=3,
    )
    assert await task_queue.enqueue(task) == "task_123"
    got = await task_queue.dequeue(timeout=30)
    assert (got.task_id, got.task_type, got.payload, got.priority.name) == (
        "task_123",
        "data_processing",
        {"data": "..."},
        "HIGH",
    )
    assert (got.attempt, got.idempotency_key, got.token > 0) == (1, "task_123", True)
    await task_queue.complete_task(got.task_id, [1, 2])
    assert await task_queue.result("task_123") == [1, 2]
    stats = await task_queue.get_queue_stats()
    assert (stats.pending, stats.processing, stats.completed, stats.failed, stats.dead) == (0, 0, 1, 0, 0)
    assert stats.by_priority == {"critical": 0, "high": 0, "normal": 0, "low": 0, "background": 0}
    assert (stats.paused, stats.workers, stats.oldest_age_seconds) == (False, 0, 0)
    assert await task_queue.dequeue(timeout=30) is None
    assert asyncio.get_running_loop().time() == 30


@virtual
async def test_the_more_urgent_first_and_nobody_starves():
    queue = make(visibility_timeout=100_000)
    for priority in ("background", "low", "normal", "high", "critical"):
        await queue.enqueue(named(f"{priority}1", f"{priority}2", priority=priority))
    got = await ids(queue, 10)
    assert got == [f"{p}{n}" for p in ("critical", "high", "normal", "low", "background") for n in (1, 2)]
    await queue.enqueue(named("old", priority="background"))
    await asyncio.sleep(4 * 60 + 1)
    await queue.enqueue(named("new", priority="critical"))
    assert await ids(queue, 2) == ["old", "new"]
    await queue.enqueue(named("older", priority="low"))
    await asyncio.sleep(59)
    await queue.enqueue(named("normal"))
    assert await ids(queue, 2) == ["normal", "older"]


@virtual
async def test_a_failed_task_comes_again_after_longer_and_longer_and_dies_with_its_history():
    queue = make()
    await queue.enqueue(Task(task_id="a", task_type="t", payload=[1], max_retries=3))
    began, times = asyncio.get_running_loop().time(), []
    for number in range(1, 5):
        task = await queue.dequeue(timeout=None)
        times.append(asyncio.get_running_loop().time() - began)
        assert (task.attempt, [each.error for each in task.attempts]) == (
            number,
            [f"no {n}" for n in range(1, number)],
        )
        assert await queue.fail_task("a", f"no {number}", retry=True) is (number < 4)
    assert times == pytest.approx([0, 1, 3, 7], abs=0.1)
    assert await queue.dequeue(timeout=3600) is None
    with pytest.raises(TaskFailed, match="no 4") as failed:
        await queue.result("a")
    assert [each.number for each in failed.value.attempts] == [1, 2, 3, 4]
    [letter] = await queue.dead_letters.list()
    assert (letter.task_id, letter.payload, letter.reason, letter.tries) == ("a", [1], "no 4", 4)
    assert (await queue.get_queue_stats()).failed == 4


@virtual
async def test_jitter_is_a_part_of_the_wait_that_chance_decides():
    queue = make(retry=Retry(backoff=100.0, retry_on=Exception))
    await queue.enqueue(named(*map(str, range(50))))
    for _ in range(50):
        await queue.fail_task(await queue.dequeue(0), "no")
    due = [
        info.due_at - (await queue.get_task("0")).enqueued_at for info in await queue.peek("scheduled", 100)
    ]
    waits = [wait.total_seconds() for wait in due]
    assert len(waits) == 50
    assert max(waits) <= 60.1
    assert max(waits) - min(waits) > 20
    assert len(set(waits)) > 40


@virtual
async def test_retry_may_be_refused_by_the_caller_and_by_the_policy():
    queue = make(retry=Retry(jitter="none", give_up_on=KeyError))
    await queue.enqueue(named("a", "b", "c"))
    assert await queue.fail_task(await queue.dequeue(0), "no", retry=False) is False
    assert await queue.fail_task(await queue.dequeue(0), KeyError("x")) is False
    assert await queue.fail_task(await queue.dequeue(0), OSError("x")) is True
    assert [letter.reason for letter in await queue.dead_letters.list()] == ["no", "KeyError: 'x'"]


@virtual
async def test_a_claim_ends_and_a_late_completion_is_refused():
    store = MemoryStore()
    slow, quick = make(store, visibility_timeout=300), make(store)
    await slow.enqueue(named("a"))
    old = await slow.dequeue()
    await asyncio.sleep(299)
    await slow.extend(old)
    assert await quick.dequeue(timeout=299) is None
    new = await quick.dequeue(timeout=5)
    assert (new.task_id, new.attempt) == ("a", 2)
    for late in (old, "a"):
        with pytest.raises(ClaimLost, match="'a'"):
            await slow.complete_task(late, 1)
    with pytest.raises(ClaimLost):
        await slow.extend(old)
    await quick.complete_task(new, 2)
    assert await slow.result("a") == 2
    with pytest.raises(ClaimLost):
        await quick.complete_task("a")
    with pytest.raises(ClaimLost):
        await quick.fail_task("never", "x")


@virtual
async def test_a_task_whose_workers_die_is_given_up():
    queue = make(visibility_timeout=10)
    await queue.enqueue(named("poison", max_retries=2))
    for attempt in (1, 2, 3):
        assert (await queue.dequeue(timeout=60)).attempt == attempt
    assert await queue.dequeue(timeout=60) is None
    assert "3 times" in (await queue.get_task("poison")).reason


@virtual
async def test_who_waits_is_woken_by_a_task_and_by_its_time():
    queue = make(visibility_timeout=100_000)
    clock = asyncio.get_running_loop().time
    waits = asyncio.create_task(queue.dequeue())
    await asyncio.sleep(1.25)
    await queue.enqueue(Task(task_type="t"))
    await waits
    assert clock() == pytest.approx(1.25, abs=0.01)
    await queue.enqueue(
        [Task(task_type="t", delay=timedelta(seconds=7)), Task(task_id="x", task_type="t", delay=100)]
    )
    assert (await queue.get_queue_stats()).scheduled == 2
    await queue.dequeue()
    assert clock() == pytest.approx(8.25, abs=0.1)
    await queue.dequeue(timeout=None)
    assert clock() == pytest.approx(101.25, abs=0.1)
    await queue.enqueue(Task(task_type="t", run_at=to_datetime(queue.clerk.now()) + timedelta(hours=2)))
    await queue.dequeue(timeout=None)
    assert clock() == pytest.approx(101.25 + 7200, abs=0.1)


@virtual
async def test_an_id_is_done_once_within_its_window():
    queue = make()
    for _ in range(2):
        await queue.enqueue(named("a"))
    await queue.enqueue(named("a"))
    await queue.complete_task(await queue.dequeue(0))
    await asyncio.sleep(599)
    await queue.enqueue(named("a"))
    assert await queue.dequeue(0) is None
    await asyncio.sleep(2)
    await queue.enqueue(named("a"))
    assert (await queue.dequeue(0)).attempt == 1


@virtual
async def test_of_a_unique_task_one_lives():
    queue = make()
    first = await queue.enqueue(Task(task_type="t", payload={"a": 1, "b": 2}, unique=True))
    assert await queue.enqueue(Task(task_type="t", payload={"b": 2, "a": 1}, unique=True)) == first
    assert await queue.enqueue(Task(task_type="t", payload={"a": 2}, unique=True)) != first
    assert await queue.enqueue(Task(task_type="t", payload=1, unique="k")) == await queue.enqueue(
        Task(task_type="t", payload=2, unique="k")
    )
    assert (await queue.get_queue_stats()).pending == 3
    task = await queue.dequeue(0)
    await queue.complete_task(task)
    await asyncio.sleep(1)
    await queue.enqueue(Task(task_type="t", payload={"a": 1, "b": 2}, unique=True))
    [again] = [t for t in [await queue.dequeue(0) for _ in range(3)] if t.task_id == first]
    assert again.idempotency_key != task.idempotency_key


@virtual
async def test_what_has_ended_is_kept_for_its_time_and_purged():
    queue = make(result_ttl=1000, dead_letter_ttl=2000)
    await queue.enqueue(named("good", "bad"))
    await queue.complete_task(await queue.dequeue(0), "well")
    await queue.fail_task(await queue.dequeue(0), "no", retry=False)
    await asyncio.sleep(990)
    assert await queue.result("good") == "well"
    await asyncio.sleep(20)
    with pytest.raises(TaskNotFound):
        await queue.result("good")
    assert await queue.purge() == 1
    assert len(await queue.dead_letters.list()) == 1
    await asyncio.sleep(1000)
    assert await queue.purge() == 1
    assert await queue.dead_letters.list() == []


@virtual
async def test_a_task_that_nobody_needs_any_more_is_not_done():
    queue = make()
    await queue.enqueue(named("a", expires_in=60))
    await asyncio.sleep(61)
    assert await queue.dequeue(0) is None
    assert "expired" in (await queue.get_task("a")).reason


@virtual
async def test_no_dead_letter_is_left_out_where_others_go_meanwhile(monkeypatch):
    """Those behind one that goes move up, also from the page that comes to the one that was."""
    monkeypatch.setattr(dead_letters, "_PAGE", 3)
    for gone in range(1, 7):
        queue = make()
        await queue.enqueue(named(*"abcdef", max_retries=0))
        for _ in "abcdef":
            await queue.fail_task(await queue.dequeue(timeout=0), "no")
        peek, looks = queue.peek, []

        async def watched(*args, peek=peek, looks=looks, queue=queue, gone=gone, **options):
            looks.append(args)
            if len(looks) == 2:
                await queue.cancel(*"abcdef"[:gone])
            return await peek(*args, **options)

        queue.peek = watched
        assert await queue.dead_letters.requeue(all=True) == 6 - gone
        assert {letter.task_id for letter in await peek("pending")} == set("abcdef"[gone:])


@virtual
async def test_dead_letters_are_looked_at_and_live_again_or_go():
    queue = make()
    await queue.enqueue(
        [Task(task_id=str(n), task_type="mail" if n % 2 else "sms", payload=n) for n in range(6)]
    )
    for n in range(6):
        await queue.fail_task(await queue.dequeue(0), f"because of {n // 2}", retry=False)
        await asyncio.sleep(10)
    letters = queue.dead_letters
    assert [letter.task_id for letter in await letters.list()] == list("012345")
    assert [letter.task_id for letter in await letters.list(2, task_type="mail")] == ["1", "3"]
    assert [letter.task_id for letter in await letters.list(reason="of 2")] == ["4", "5"]
    assert [letter.task_id for letter in await letters.list(older_than=35)] == ["0", "1", "2"]
    assert await letters.requeue("0", "nobody") == 1
    assert await letters.requeue(where=lambda letter: letter.payload == 3) == 1
    assert await letters.purge(task_type="mail") == 2
    for both in ((), ("2",)):
        with pytest.raises(ConfigurationError, match="not clear"):
            await letters.requeue(*both, all=bool(both))
    assert await letters.requeue(all=True) == 2
    assert sorted(await ids(queue, 4)) == ["0", "2", "3", "4"]
    again = await queue.get_task("0")
    assert (again.tries, [each.error for each in again.attempts]) == (1, ["because of 0"])
    assert await letters.purge(all=True) == 0


@virtual
async def test_pause_and_resume():
    store = MemoryStore()
    one, other = make(store), make(store)
    await one.enqueue(named("a"))
    await one.pause()
    assert await other.dequeue(timeout=60) is None
    assert (await other.get_queue_stats()).paused
    waits = asyncio.create_task(other.dequeue(timeout=60))
    await asyncio.sleep(1)
    await one.resume()
    assert (await waits).task_id == "a"
    assert asyncio.get_running_loop().time() == pytest.approx(61, abs=0.1)


@virtual
async def test_limits_hold_for_those_who_work_by_hand():
    queue = make(limits={"rated": Limit(rate=(2, 10)), "few": Limit(concurrency=1, per=lambda who: who)})
    await queue.enqueue([Task(task_type="rated", payload=n) for n in range(5)])
    times = []
    for _ in range(5):
        await queue.complete_task(await queue.dequeue(timeout=None))
        times.append(asyncio.get_running_loop().time())
    assert all(later - earlier >= 10 for earlier, later in zip(times, times[2:], strict=False))
    await queue.enqueue([Task(task_type="few", payload=who) for who in ("ada", "ada", "bob")])
    ada, bob = await queue.dequeue(0), await queue.dequeue(timeout=0)
    assert {ada.payload, bob.payload} == {"ada", "bob"}
    assert await queue.dequeue(timeout=5) is None
    await queue.complete_task(ada)
    assert (await queue.dequeue(timeout=5)).attempt == 1
    await queue.enqueue(named("x", "y", concurrency_key="k"))
    first = await queue.dequeue(timeout=0)
    assert await queue.dequeue(timeout=2) is None
    await queue.fail_task(first, "no")
    assert await queue.dequeue(timeout=10) is not None


@virtual
async def test_what_cannot_be_queued_is_refused_at_once():
    queue = make(payload_limit=100)
    with pytest.raises(PayloadTooLarge, match="payload_limit"):
        await queue.enqueue(Task(task_type="t", payload="x" * 100))
    with pytest.raises(CodecError):
        await queue.enqueue(Task(task_type="t", payload=object()))
    await queue.enqueue(named("a"))
    task = await queue.dequeue(0)
    with pytest.raises(PayloadTooLarge):
        await queue.complete_task(task, "x" * 100)
    await queue.complete_task(task, "x")
    for wrong in (
        {"max_retries": -1}, {"concurrency": 0}, {"task_type": ""}, {"priority": "hihg"},
        {"delay": 1, "run_at": to_datetime(1)},
    ):  # fmt: skip
        with pytest.raises(ConfigurationError):
            Task(**{"task_type": "t", **wrong})
    with pytest.raises(UnknownOption):
        await queue.peek("ready")
    with pytest.raises(ConfigurationError):
        TaskQueue(MemoryStore(), "")
    with pytest.raises(ClaimLost, match="not dequeued"):
        await queue.complete_task(Task(task_type="t", task_id="never"))


@virtual
async def test_results_are_waited_for():
    queue = make()
    await queue.enqueue(named("a"))
    with pytest.raises(ResultTimeout):
        await queue.result("a", timeout=60)
    waits = [asyncio.create_task(queue.result("a")) for _ in range(3)]
    await asyncio.sleep(1)
    await queue.complete_task(await queue.dequeue(0), {"n": 1})
    assert await asyncio.gather(*waits) == [{"n": 1}] * 3
    assert asyncio.get_running_loop().time() == pytest.approx(61, abs=0.1)
    with pytest.raises(TaskNotFound):
        await queue.result("nobody")


@virtual
async def test_a_pending_task_can_be_cancelled_and_peeked_at():
    queue = make()
    await queue.enqueue(named("a", "b", payload={"n": 1}))
    assert [info.task_id for info in await queue.peek()] == ["a", "b"]
    await queue.dequeue(0)
    assert await queue.cancel("a", "b", "c") == 1
    [info] = await queue.peek("processing")
    assert (info.task_id, info.state, info.payload, info.tries) == ("a", "processing", {"n": 1}, 1)
    with pytest.raises(TaskNotFound):
        await queue.get_task("b")


@virtual
async def test_only_an_id_that_was_made_for_its_task_needs_no_look():
    clerk = make(MemoryStore()).clerk
    assert clerk.row_of(Task(task_type="t")).is_new
    for task in (Task(task_type="t", task_id="a"), Task(task_type="t", unique=True)):
        assert not clerk.row_of(task).is_new


@virtual
async def test_a_row_that_cannot_be_read_dies_and_holds_up_nobody():
    store = MemoryStore()
    queue = make(store)
    [row] = [queue.clerk.row_of(task) for task in named("broken")]
    await queue.offer([type(row)("broken", "q", b"\xff", order=-1.0)])
    await queue.enqueue(named("a"))
    assert (await queue.dequeue(0)).task_id == "a"
    assert "cannot be read" in (await store.queue.find("q", "dead"))[0].note


@virtual
async def test_concurrent_callers_share_commits():
    sent = []

    class Counting(MemoryStore):
        def __init__(self):
            super().__init__()
            offer = self.queue.offer

            async def counted(rows):
                sent.append(len(rows))
                await asyncio.sleep(0.01)
                return await offer(rows)

            self.queue.offer = counted

    queue = make(Counting())
    await asyncio.gather(*(queue.enqueue(named(str(n))[0]) for n in range(100)))
    assert sum(sent) == 100
    assert len(sent) <= 2
