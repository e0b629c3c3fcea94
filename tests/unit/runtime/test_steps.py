"""How steps are executed: retries, middleware, observers, progress, logs, and how many at once."""

import asyncio
import logging
import threading
from contextvars import ContextVar

import msgspec
import pytest
from tests.unit.runtime.scenes import history, kinds, opened, recorded, until

from reprise import Kind, Retry, current_step, progress, step, wait_for_signal, workflow
from reprise.kernel.events import LogLine, progress_stream
from reprise.stores.memory import MemoryStore


@step
async def one(n: int = 1) -> int:
    return n


# ---------------------------------------------------------------- retries


class Busy(Exception):
    """The other side says when to come back."""

    retry_after = 0.002


def flow_of(call):
    @workflow
    async def flow() -> object:
        return await call()

    return flow


@pytest.mark.parametrize(
    ("error", "tries"),
    [(ConnectionError, 3), (Busy, 3), (ValueError, 1), (KeyError, 1), (AssertionError, 1), (OSError, 3)],
)
async def test_what_may_pass_is_tried_again_and_what_cannot_is_not(error, tries):
    seen = []

    @step(retry=Retry(3, backoff=0))
    async def moody() -> None:
        seen.append(current_step().attempt)
        raise error("x")

    store = MemoryStore()
    async with opened(store) as app:
        finished = await (await app.start(flow_of(moody), id="one")).finished(5)
    assert finished.status == "failed"
    assert seen == list(range(1, tries + 1))
    records = await history(store, "one")
    assert kinds(records).count("STEP_RETRYING") == tries - 1
    assert kinds(records).count("STEP_FAILED") == 1


async def test_a_retry_waits_as_long_as_the_other_side_wishes():
    seen = []

    @step(retry=Retry(2, backoff=0))
    async def moody() -> None:
        seen.append(asyncio.get_running_loop().time())
        raise Busy

    async with opened() as app:
        await (await app.start(flow_of(moody))).finished(5)
    assert seen[1] - seen[0] >= 0.002


async def test_attempts_are_counted_over_a_take_over():
    seen = []
    started = asyncio.Event()

    @step(retry=Retry(3, backoff=0))
    async def moody() -> None:
        seen.append(current_step().attempt)
        if len(seen) == 2:
            started.set()
            await asyncio.sleep(60)
        raise ConnectionError

    others = []

    @step
    async def other() -> None:
        others.append(current_step().attempt)
        await started.wait()
        if len(others) == 1:
            await asyncio.sleep(60)

    @workflow
    async def flow() -> None:
        await asyncio.gather(moody(), other())

    store = MemoryStore()
    async with opened(store) as app:
        await app.start(flow, id="one")
        await started.wait()
        await recorded(app, "one", Kind.STEP_RETRYING)
    async with opened(store, workflows=[flow]) as app:
        assert (await app.handle("one").finished(5)).status == "failed"
    assert seen == [1, 2, 2, 3], "the second attempt was cut off and is made again"
    assert others == [1, 1], "each step has its own count"


async def test_a_retry_that_waits_is_cancelled_at_once():
    @step(retry=Retry(3, backoff=60, jitter="none"))
    async def moody() -> None:
        raise ConnectionError

    async with opened() as app:
        handle = await app.start(flow_of(moody), id="one")
        await recorded(app, "one", Kind.STEP_RETRYING)
        await handle.cancel()
        assert (await handle.finished(5)).status == "cancelled"


async def test_sys_exit_in_a_step_fails_the_step_only():
    @step
    async def leaves() -> None:
        raise SystemExit(3)

    async with opened() as app:
        finished = await (await app.start(flow_of(leaves))).finished(5)
        assert "sys.exit(3)" in finished.error.message


# ---------------------------------------------------------------- how many at once


async def test_so_many_execute_at_once_and_completions_do_not_wait_for_a_place():
    now, most, done = [0], [0], []
    gate = asyncio.Event()

    @step
    async def held(n: int) -> int:
        now[0] += 1
        most[0] = max(most[0], now[0])
        if n >= 3:
            await gate.wait()
        now[0] -= 1
        return n

    @step
    async def after(n: int) -> int:
        done.append(n)
        return n

    @workflow
    async def flow() -> list[int]:
        async def both(n: int) -> int:
            return await after(await held(n))

        return await asyncio.gather(*(both(n) for n in range(8)))

    async with opened(concurrency=3) as app:
        handle = await app.start(flow, id="one")
        await until(lambda: now[0] == 3)
        records = await recorded(app, "one", Kind.STEP_COMPLETED, 3)
        assert len(records) >= 3, "recorded although every place is taken"
        gate.set()
        assert await handle.result(5) == list(range(8))
    assert most[0] == 3
    assert sorted(done) == list(range(8))


async def test_a_step_that_waits_for_a_place_is_cancelled_at_once():
    gate = asyncio.Event()
    ran = []

    @step
    async def held(n: int) -> int:
        ran.append(n)
        await gate.wait()
        return n

    @workflow
    async def flow() -> str:
        first, second = asyncio.create_task(held(1)), asyncio.create_task(held(2))
        await wait_for_signal("go")
        second.cancel()
        try:
            await second
        except asyncio.CancelledError:
            await wait_for_signal("then")
        return f"{await first}"

    async with opened(concurrency=1) as app:
        handle = await app.start(flow, id="one")
        await until(lambda: ran)
        await handle.signal("go")
        await recorded(app, "one", Kind.STEP_CANCELLED)
        gate.set()
        await handle.signal("then")
        assert await handle.result(5) == "1"
    assert ran == [1]


async def test_no_step_meets_what_its_predecessor_left():
    left: ContextVar[int] = ContextVar("left")

    @step
    async def leaves() -> int:
        found = left.get(0)
        left.set(found + 1)
        return found

    @workflow
    async def flow() -> list[int]:
        return [await leaves() for _ in range(4)]

    async with opened(concurrency=1) as app:
        assert await app.run(flow) == [0, 0, 0, 0]


# ---------------------------------------------------------------- around steps


async def test_middleware_surrounds_every_attempt_the_first_outermost():
    seen = []

    def layer(name):
        async def around(call, next):
            seen.append((name, call.name, call.key, call.attempt, call.args, call.kwargs))
            return (await next(call)) + name

        return around

    @step(retry=Retry(2, backoff=0))
    async def moody(text: str, *, mark: str) -> str:
        if current_step().attempt == 1:
            raise ConnectionError
        return text + mark

    @step
    def threaded() -> str:
        return threading.current_thread().name[:7]

    @workflow
    async def flow() -> list[str]:
        return [await moody("x", mark="!"), await threaded()]

    async with opened(middleware=[layer("a"), layer("b")]) as app:
        assert await app.run(flow) == ["x!ba", "repriseba"]
    assert [entry[0] for entry in seen] == ["a", "b"] * 3
    assert seen[2] == ("a", "moody", ":1.moody", 2, ("x",), {"mark": "!"})


async def test_observers_see_what_is_durable_and_may_fail():
    seen = []
    complaints = []

    def broken(run, events):
        raise ValueError("no")

    def observe(run, events):
        seen.extend((run, Kind(event.kind).name) for event in events)

    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: complaints.append(context["message"])
    )
    store = MemoryStore()
    async with opened(store, observers=[broken, observe]) as app:
        await app.run(flow_of(one), id="one")
    assert [kind for _, kind in seen] == kinds(await history(store, "one"))
    assert complaints
    assert "run one goes on" in complaints[0]


# ---------------------------------------------------------------- side streams


async def test_progress_is_gathered_and_never_replayed():
    @step
    async def works() -> None:
        for n in range(100):
            progress(n + 1, 100, f"file {n}")

    @workflow
    async def flow() -> None:
        progress(1, 2)
        await works()

    store = MemoryStore()
    async with opened(store) as app:
        await app.run(flow, id="one")
    await store.start()
    records = await store.log.read(progress_stream("one"))
    assert {(r.key, r.data) for r in records} == {
        ("", b'{"key":"","done":1,"total":2}'),
        (":1.works", b'{"key":":1.works","done":100,"total":100,"note":"file 99"}'),
    }
    assert "PROGRESS" not in kinds(await history(store, "one"))
    async with opened(store) as app:
        assert set(await app.client.progress("one")) == {"", ":1.works"}
    progress(1)  # outside of a run: nothing


async def test_log_lines_are_captured_once_and_not_in_replay():
    logger = logging.getLogger("tests.flow")
    logger.setLevel(logging.INFO)

    @step
    async def works() -> None:
        logger.info("in the step")

    @workflow
    async def flow() -> None:
        logger.info("in the body")
        await works()
        await wait_for_signal("go")

    store = MemoryStore()
    async with opened(capture_logs=True):
        async with opened(store, capture_logs=True) as app:
            await app.start(flow, id="one")
            await until(app.engine.idle)
        async with opened(store, workflows=[flow], capture_logs=True) as app:
            await app.client.signal("one", "go")
            await app.handle("one").result(5)
            logger.info("nobody's")
    await store.start()
    async with opened(store) as app:
        lines = [msgspec.json.decode(r.data, type=LogLine) async for r in app.client.logs("one")]
    assert [(line.text, line.key) for line in lines] == [("in the body", ""), ("in the step", ":1.works")]
