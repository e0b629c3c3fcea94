"""Workers of queues, in virtual time."""

import asyncio
import threading
from contextvars import ContextVar

import pytest
from tests.unit.coordination.test_queue import make, named, virtual

from reprise.coordination.queue import TaskQueue
from reprise.coordination.tasks import Task
from reprise.kernel.errors import ConfigurationError, StoreUnreachable
from reprise.kernel.limit import Limit
from reprise.stores.memory import MemoryStore


def now():
    return asyncio.get_running_loop().time()


async def ended(queue, count):
    """Wait until so many tasks are completed or dead."""
    bell = queue.bell("/ended")
    while True:
        heard = bell.rings
        stats = await queue.get_queue_stats()
        if stats.completed + stats.dead >= count:
            return stats
        await bell.wait(heard, 1)


@virtual
async def test_tasks_are_done_side_by_side_and_their_results_kept():
    queue, most, running = make(), 0, 0

    async def double(task):
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1
        return 2 * task.payload

    numbers = await queue.enqueue([Task(task_type="double", payload=n) for n in range(100)])
    async with queue.worker({"double": double}, concurrency=20) as worker:
        assert [await queue.result(id) for id in numbers] == [2 * n for n in range(100)]
        assert (await queue.get_queue_stats()).workers == 1
    assert (most, now()) == (20, pytest.approx(5, abs=0.1))
    counts = worker.statistics()
    assert (counts["claimed"], counts["completed"], counts["running"]) == (100, 100, 0)
    assert counts["took_mean"] == pytest.approx(1, abs=0.1)
    assert (await queue.get_queue_stats()).workers == 0


@virtual
async def test_an_idle_worker_is_woken():
    """By a task, by its time, and by the end of another's claim."""
    queue, times = make(visibility_timeout=30), {}

    async def note(task):
        times[task.task_id] = now()

    async with queue.worker(note):
        await asyncio.sleep(100.5)
        await queue.enqueue(named("now"))
        await queue.enqueue(named("later", delay=33))
        await asyncio.sleep(50)
        await queue.pause()
        await queue.enqueue(named("claimed"))
        await asyncio.sleep(20)
        assert times == {"now": pytest.approx(100.5, abs=0.01), "later": pytest.approx(133.5, abs=0.01)}
        await queue.resume()
        await asyncio.sleep(0.1)
        assert times["claimed"] == pytest.approx(170.5, abs=0.01)


@virtual
async def test_what_dead_workers_held_comes_back_when_its_time_is_over():
    store = MemoryStore()
    dead, queue, times = make(store, visibility_timeout=30), make(store), []
    await dead.enqueue(named("a", "b"))
    await dead.dequeue()
    await dead.dequeue()

    async def note(task):
        times.append((task.task_id, task.attempt, now()))

    async with queue.worker(note):
        await ended(queue, 2)
    assert times == [("a", 2, pytest.approx(30, abs=0.01)), ("b", 2, pytest.approx(30, abs=0.01))]


@virtual
async def test_claims_are_renewed_while_tasks_are_done():
    store = MemoryStore()
    one, other = make(store, visibility_timeout=3), make(store, visibility_timeout=3)
    tries = []

    async def long(task):
        tries.append(task.attempt)
        await asyncio.sleep(100)

    await one.enqueue(named("a", "b"))
    async with one.worker(long, concurrency=1, name="one"), other.worker(long, concurrency=1, name="other"):
        await ended(one, 2)
    assert tries == [1, 1]
    assert now() <= 201


@virtual
async def test_who_lost_a_claim_is_cancelled():
    store = MemoryStore()
    queue = make(store, visibility_timeout=3)
    seen = []

    async def stubborn(task):
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append(now())
            raise

    await queue.enqueue(named("a"))
    extend = store.queue.extend
    async with queue.worker(stubborn, concurrency=1) as worker:

        async def cut_off(rows, ttl):
            raise StoreUnreachable("cut off")

        store.queue.extend = cut_off
        await asyncio.sleep(4)
        other = make(store)
        task = await other.dequeue(0)
        assert task.attempt == 2
        store.queue.extend = extend
        await asyncio.sleep(1.1)
        assert len(seen) == 1
        await other.complete_task(task, "mine")
        assert worker.statistics()["lost"] == 1
    assert await queue.result("a") == "mine"


@virtual
async def test_errors_are_tried_again_and_then_given_up():
    queue, tries = make(), []

    async def work(task):
        tries.append((task.task_type, task.attempt))
        if task.task_type == "bad" or task.attempt < 3:
            raise ValueError(f"try {task.attempt}")
        return "well"

    await queue.enqueue([Task(task_id=kind, task_type=kind, max_retries=2) for kind in ("good", "bad")])
    async with queue.worker(work) as worker:
        stats = await ended(queue, 2)
        assert await queue.result("good") == "well"
    assert (stats.completed, stats.dead, stats.failed) == (1, 1, 5)
    assert sorted(tries) == [(kind, n) for kind in ("bad", "good") for n in (1, 2, 3)]
    [letter] = await queue.dead_letters.list()
    assert [attempt.error for attempt in letter.attempts] == [f"ValueError: try {n}" for n in (1, 2, 3)]
    assert letter.attempts[0].worker == worker.name
    assert worker.statistics()["failed"] == 4


@virtual
async def test_a_try_may_take_as_long_as_its_type_may():
    queue = make()

    async def sleep(task):
        await asyncio.sleep(10)
        raise TimeoutError("its own")

    await queue.enqueue([Task(task_id=kind, task_type=kind, max_retries=0) for kind in ("short", "long")])
    async with queue.worker({"*": sleep}, timeout={"short": 2, "*": 20}):
        await ended(queue, 2)
    reasons = {letter.task_id: letter.reason for letter in await queue.dead_letters.list()}
    assert reasons == {"short": "TimeoutError: it took longer than 2 s", "long": "TimeoutError: its own"}


@virtual
async def test_a_task_that_cancels_itself_or_gives_what_cannot_be_kept_has_failed():
    queue = make(payload_limit=100)

    async def odd(task):
        if task.task_id == "cancels":
            raise asyncio.CancelledError
        return "x" * 200 if task.task_id == "large" else object()

    await queue.enqueue(named("cancels", "large", "object", max_retries=0))
    async with queue.worker(odd, concurrency=1):
        await ended(queue, 3)
    reasons = [letter.reason for letter in await queue.dead_letters.list()]
    assert [reason.split(":")[0] for reason in reasons] == [
        "it cancelled itself",
        "PayloadTooLarge",
        "CodecError",
    ]


async def test_plain_functions_are_called_in_threads():
    """In the context of their task; as many at once as tasks."""
    which, seen = ContextVar("which", default=""), []
    barrier = threading.Barrier(20, timeout=30)

    def work(task):
        seen.append(which.get())
        which.set(task.task_id)
        barrier.wait()
        return threading.current_thread() is not threading.main_thread()

    async with TaskQueue("memory://", "q") as queue:
        names = await queue.enqueue(named(*map(str, range(20))))
        async with queue.worker({"t": work}, concurrency=20):
            assert [await queue.result(id, timeout=30) for id in names] == [True] * 20
    assert seen == [""] * 20


@virtual
async def test_stop_drains_what_runs_and_gives_back_the_rest():
    queue, done = make(), []

    async def work(task):
        await asyncio.sleep(5 if task.task_id != "endless" else 1e6)
        done.append(task.task_id)

    await queue.enqueue(named("endless", "a", "b", "c", "d", max_retries=0))
    worker = queue.worker(work, concurrency=3, prefetch=10, grace=60)
    worker._mean = 0.01
    await worker.start()
    await asyncio.sleep(1)
    assert (await queue.get_queue_stats()).processing == 5
    await worker.stop()
    await worker.stop()
    assert (done, now()) == (["a", "b"], pytest.approx(61, abs=0.1))
    stats = await queue.get_queue_stats()
    assert (stats.pending, stats.processing, stats.completed, stats.failed) == (3, 0, 2, 0)
    assert [(info.task_id, info.tries) for info in await queue.peek()] == [("endless", 0), ("c", 0), ("d", 0)]


@virtual
async def test_it_claims_no_more_than_it_can_do_soon():
    queue = make()

    async def slow(task):
        await asyncio.sleep(10)

    await queue.enqueue([Task(task_type="t") for _ in range(300)])
    async with queue.worker(slow, concurrency=10, grace=0):
        await asyncio.sleep(55)
        assert (await queue.get_queue_stats()).processing <= 12


@virtual
async def test_what_nobody_here_can_do_is_left_to_others():
    store = MemoryStore()
    one, other = make(store), make(store)

    async def work(task):
        return "done"

    await one.enqueue(Task(task_id="a", task_type="new", max_retries=0))
    async with one.worker({"old": work}):
        await asyncio.sleep(60)
        assert (await one.get_task("a")).tries == 0
        async with other.worker({"new": work}):
            assert await one.result("a", timeout=60) == "done"


@virtual
async def test_limits_hold_over_workers_and_others_go_on():
    store = MemoryStore()
    limits = {"one": Limit(concurrency=1), "rated": Limit(rate=(3, 10)), "few": Limit(concurrency=2, per=str)}
    queues = [make(store, limits=limits) for _ in range(2)]
    running, most, begun, free_at = {}, {}, [], []

    async def work(task):
        key = (task.task_type, str(task.payload) if task.task_type == "few" else "")
        running[key] = running.get(key, 0) + 1
        most[key] = max(most.get(key, 0), running[key])
        if task.task_type == "rated":
            begun.append(now())
        await asyncio.sleep(1)
        running[key] -= 1
        if task.task_type == "free":
            free_at.append(now())

    tasks = [Task(task_type=kind, payload=n % 2) for n in range(20) for kind in ("one", "rated", "few")]
    await queues[0].enqueue([*tasks, *(Task(task_type="free") for _ in range(10))])
    async with queues[0].worker(work), queues[1].worker(work):
        await ended(queues[0], 70)
    assert (most["one", ""], most["few", "0"], most["few", "1"]) == (1, 2, 2)
    assert max(free_at) < 5
    assert all(later - earlier >= 10 for earlier, later in zip(begun, begun[3:], strict=False))
    assert now() < 75


@virtual
async def test_the_keeper_may_be_away_for_a_while():
    store = MemoryStore()
    queue, claim, settle = make(store), store.queue.claim, store.queue.settle
    is_away = False

    def away(method):
        async def called(*args):
            if is_away:
                raise StoreUnreachable("away")
            return await method(*args)

        return called

    store.queue.claim, store.queue.settle = away(claim), away(settle)

    async def work(task):
        await asyncio.sleep(10)
        return task.attempt

    await queue.enqueue(named("a"))
    async with queue.worker(work):
        await asyncio.sleep(1)
        is_away = True
        await asyncio.sleep(30)
        is_away = False
        assert await queue.result("a", timeout=30) == 1


@virtual
async def test_old_results_are_purged_now_and_then():
    store = MemoryStore()
    queue = make(store, result_ttl=100, dedupe_window=0, purge_interval=3600)

    async def work(task):
        return 1

    await queue.enqueue(named("a"))
    async with queue.worker(work):
        await asyncio.sleep(3500)
        assert len(store.queue._lines["q"].entries) == 1
        await asyncio.sleep(120)
        assert not store.queue._lines["q"].entries


@virtual
async def test_run_works_until_it_is_stopped():
    queue = make()

    async def work(task):
        return 1

    worker = queue.worker(work)
    await worker.stop()
    running = asyncio.create_task(worker.run())
    await worker.ready()
    await queue.enqueue(named("a"))
    assert await queue.result("a") == 1
    await worker.stop()
    await running
    again = asyncio.create_task(worker.run())
    await worker.ready()
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again
    assert (await queue.get_queue_stats()).workers == 0


def test_a_worker_needs_handlers_and_hands():
    queue = make()
    for wrong in ({"handlers": {}}, {"concurrency": 0}, {"prefetch": -1}, {"timeout": -1}):
        with pytest.raises(ConfigurationError):
            queue.worker(**{"handlers": print, **wrong})


@virtual
async def test_what_is_claimed_while_it_stops_is_given_back():
    store = MemoryStore()
    queue, claim = make(store), store.queue.claim

    async def slowly(*args):
        rows = await claim(*args)
        await asyncio.sleep(3 if rows else 0)
        return rows

    async def work(task):
        return 1

    store.queue.claim = slowly
    worker = queue.worker(work)
    await worker.start()
    await queue.enqueue(named("a", "b"))
    await asyncio.sleep(1)
    await worker.stop()
    assert now() == pytest.approx(3, abs=0.1)
    assert [(info.task_id, info.tries) for info in await queue.peek()] == [("a", 0), ("b", 0)]


@virtual
async def test_a_worker_that_cannot_go_on_says_so():
    store = MemoryStore()
    queue = make(store)

    async def broken(*args):
        raise RuntimeError("a bug")

    store.queue.claim = broken
    with pytest.raises(RuntimeError, match="a bug"):
        await queue.worker({"t": print}).run()


@virtual
async def test_places_are_given_back_when_the_task_has_ended():
    store = MemoryStore()
    queue = make(store, visibility_timeout=1000)

    async def work(task):
        return now()

    ids = await queue.enqueue(named("a", "b", "c", concurrency_key="k"))
    async with queue.worker(work):
        assert [await queue.result(id) for id in ids] == [pytest.approx(0, abs=0.1)] * 3
        await asyncio.sleep(0.1)
        assert await store.lease.holder("queue/q/slot/key=k") == []


@virtual
async def test_many_who_wait_for_one_place_hold_up_nobody_and_are_not_asked_for_all_the_time():
    store = MemoryStore()
    queue, claims = make(store), 0
    claim = store.queue.claim

    async def counted(*args):
        nonlocal claims
        rows = await claim(*args)
        claims += len(rows)
        return rows

    async def work(task):
        await asyncio.sleep(0.1)
        return now()

    store.queue.claim = counted
    await queue.enqueue([Task(task_type="t", concurrency_key=f"k{n % 2}") for n in range(600)])
    last = await queue.enqueue(Task(task_type="t"))
    async with queue.worker(work, concurrency=4):
        assert await queue.result(last) < 2
        await ended(queue, 601)
        assert now() < 600 / 2 * 0.1 * 1.5
    assert claims < 600 * 8


@virtual
async def test_what_ends_meanwhile_does_not_hold_up_what_is_due():
    queue, times = make(), {}

    async def work(task):
        await asyncio.sleep(task.payload)
        times[task.task_id] = now()

    async with queue.worker(work):
        await queue.enqueue([*named("long", payload=0.5), *named("due", payload=0, delay=1)])
        await queue.result("due")
    assert times == {"long": pytest.approx(0.5, abs=0.01), "due": pytest.approx(1, abs=0.01)}
