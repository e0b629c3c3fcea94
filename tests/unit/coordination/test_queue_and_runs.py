"""Tasks and runs: a step's commit takes tasks along, a step waits for a task, a task starts a run."""

import sqlite3

import pytest

from reprise import BodyError, Reprise, Retry, Task, TaskFailed, TaskQueue, current_step, step, workflow
from reprise.kernel.errors import ConfigurationError
from reprise.runtime.branch import idempotency_key
from reprise.stores.memory import MemoryStore

QUEUES = {}


@step(transaction=True)
def book(connection, order: str, fails: bool) -> str:
    connection.execute("INSERT INTO shop_orders VALUES (?)", (order,))
    QUEUES["q"].enqueue_in_transaction(Task(task_type="pack", payload=order))
    QUEUES["q"].enqueue_in_transaction(
        Task(task_id=f"tell-{order}", task_type="tell", payload=order, priority="low")
    )
    if fails:
        raise ValueError("no")
    return order


@workflow
async def checkout(order: str, fails: bool = False) -> str:
    return await book(order, fails)


@step
async def resize(image: str) -> str:
    return await QUEUES["q"].call(Task(task_type="resize", payload=image))


@workflow
async def gallery(images: list[str]) -> list[str]:
    return [await resize(image) for image in images]


@workflow
async def shipped(order: str) -> str:
    return f"{order} is on its way"


@step(retry=Retry(2, backoff=0))
async def orders() -> None:
    for payload in (1, 2):
        await QUEUES["q"].enqueue(Task(task_type="t", payload=payload))
    if current_step().attempt == 1:
        raise OSError("once more")


@workflow
async def ordering() -> None:
    await orders()


@step(pure=True)
async def peeks() -> None:
    await QUEUES["q"].enqueue(Task(task_type="t"))


@workflow
async def peeking() -> None:
    await peeks()


@pytest.fixture(params=["same store", "same file", "another keeper"])
async def shop(request, tmp_path):
    """An app with tables of its own, and a queue that is here or elsewhere."""
    url = f"sqlite:///{tmp_path}/shop.db"
    async with Reprise(url, workflows=[checkout, gallery, shipped], capture_logs=False, grace=0) as app:
        with sqlite3.connect(tmp_path / "shop.db") as file:
            file.execute("CREATE TABLE shop_orders (id TEXT)")
        file.close()
        source = {"same store": app, "same file": url, "another keeper": MemoryStore()}[request.param]
        async with TaskQueue(source, "q") as queue:
            QUEUES["q"] = queue
            yield app, queue, request.param == "another keeper"


async def test_tasks_leave_in_the_commit_of_a_step(shop):
    app, queue, is_elsewhere = shop
    await app.run(checkout, "o-1")
    with pytest.raises(ValueError, match="no"):
        await app.run(checkout, "o-2", True)
    if is_elsewhere:
        assert await queue.dequeue(timeout=0) is None
        async with queue.relay(app) as relay:
            first = await queue.dequeue(timeout=30)
            assert relay.carried <= 2
        assert await queue.relay(app).carry() == 0
    else:
        first = await queue.dequeue(timeout=30)
    second = await queue.dequeue(timeout=0)
    assert [(task.task_type, task.payload) for task in (first, second)] == [("pack", "o-1"), ("tell", "o-1")]
    assert second.task_id == "tell-o-1"
    assert await queue.dequeue(timeout=0) is None


async def test_a_relay_that_died_before_it_said_so_carries_nothing_twice(shop):
    app, queue, is_elsewhere = shop
    if not is_elsewhere:
        return
    relay = queue.relay(app)
    append, relay._numbers = relay._numbers, None
    await app.run(checkout, "o-1")
    with pytest.raises(AttributeError):
        await relay.carry()
    relay._numbers = append
    assert await relay.carry() == 2
    await app.run(checkout, "o-2")
    assert await relay.carry() == 2
    assert (await queue.get_queue_stats()).pending == 4
    assert len(await app.store.log.read("tasks/q")) == 1


async def test_outside_of_a_transaction_there_is_no_commit_to_go_along_with(shop):
    _, queue, _ = shop
    with pytest.raises(BodyError, match="transaction"):
        queue.enqueue_in_transaction(Task(task_type="t"))


async def test_a_run_waits_for_tasks_and_a_task_starts_a_run(shop, monkeypatch):
    app, queue, _ = shop
    tries, looked_up, row_of = [], [], queue.clerk.row_of

    def watched(task):
        row = row_of(task)
        looked_up.append(not row.is_new)
        return row

    monkeypatch.setattr(queue.clerk, "row_of", watched)

    async def work(task):
        if task.task_type == "ship":
            return await (await app.start(shipped, task.payload, id=task.idempotency_key)).result()
        tries.append(task.task_id)
        if task.payload == "bad":
            raise OSError("unreadable")
        return f"small {task.payload}"

    async with queue.worker(work):
        assert await app.run(gallery, ["a", "b"], id="g") == ["small a", "small b"]
        assert len(set(tries)) == 2
        assert all(id.startswith(idempotency_key("g", f":{n}.resize")) for n, id in enumerate(tries, 1))
        assert looked_up == [True, True]  # a step that is executed again makes the same ids
        assert await queue.call(Task(task_id="ship-1", task_type="ship", payload="o-1"), timeout=30) == (
            "o-1 is on its way"
        )
    assert (await app.handle("ship-1").result()) == "o-1 is on its way"


async def test_a_step_that_is_executed_again_puts_in_nothing_new(shop):
    app, queue, _ = shop
    await app.run(ordering)
    assert sorted([info.payload for info in await queue.peek()]) == [1, 2]


async def test_a_pure_step_puts_in_nothing(shop):
    app, _, _ = shop
    with pytest.raises(ConfigurationError, match="pure"):
        await app.run(peeking)


async def test_what_died_fails_the_call(shop):
    _, queue, _ = shop

    async def work(task):
        raise OSError("unreadable")

    async with queue.worker(work):
        with pytest.raises(TaskFailed, match="unreadable"):
            await queue.call(Task(task_type="t", max_retries=0), timeout=30)
