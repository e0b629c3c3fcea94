"""Where a step may be called from, and what a body is told when it does what only a step may do."""

import asyncio
import contextvars
import inspect
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass

import pytest
from tests.unit.runtime.scenes import cut, history, keys, kinds, opened, recorded

import reprise.runtime.loop
from reprise import (
    BodyError,
    BusyBodyError,
    CodecError,
    ConfigurationError,
    Kind,
    OutcomeUnknownStep,
    Retry,
    StepTimeout,
    StuckBodyError,
    UnknownOption,
    current_run,
    current_step,
    step,
    wait_for_signal,
    workflow,
)
from reprise.stores.memory import MemoryStore


@step
async def one(n: int = 1) -> int:
    return n


# ---------------------------------------------------------------- keys


@workflow
async def in_branches() -> list[int]:
    async def branch(n: int) -> int:
        return await one(n) + await one(n)

    first = await one()
    results = await asyncio.gather(branch(1), branch(2), one(3), one(4))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(branch(5))
    keyed = await one.options(key="front-page")(6)
    return [first, *results, task.result(), keyed]


async def test_a_step_is_keyed_by_its_branch_and_its_place_in_it():
    store = MemoryStore()
    async with opened(store) as app:
        assert await app.run(in_branches, id="one") == [1, 2, 4, 3, 4, 10, 6]
    branch = "/in_branches.<locals>.branch"
    assert sorted(keys(await history(store, "one"))) == sorted(
        [":1.one", f"{branch}:1.one", f"{branch}:2.one", f"{branch}.2:1.one", f"{branch}.2:2.one", "/one:1"]
        + ["/one.2:1", f"{branch}.3:1.one", f"{branch}.3:2.one", "front-page"]
    )


async def test_one_key_for_two_calls_fails_the_run():
    @workflow
    async def twice() -> None:
        keyed = one.options(key="same")
        await keyed(1)
        with suppress(BodyError):
            await keyed(2)

    async with opened() as app:
        with pytest.raises(BodyError, match="Two calls under the one key 'same'"):
            await app.run(twice)


# ---------------------------------------------------------------- a step inside a step

attempts = []


@step(retry=Retry(3, backoff=0))
async def inner(n: int) -> int:
    attempts.append(n)
    if len(attempts) < 2:
        raise ConnectionError("not yet")
    return n


@step(retry=Retry(2, backoff=0))
async def outer(n: int) -> int:
    return await inner(n) + sum(await asyncio.gather(one(n), asyncio.create_task(one(n))))


@step
def in_thread(n: int) -> int:
    return n * 10


@step
async def calls_a_thread(n: int) -> int:
    return await in_thread(n)


async def test_a_step_inside_a_step_is_a_plain_call_and_is_not_retried():
    attempts.clear()
    store = MemoryStore()

    @workflow
    async def nesting() -> list[int]:
        return [await outer(7), await calls_a_thread(2)]

    async with opened(store) as app:
        assert await app.run(nesting, id="one") == [21, 20]
    records = await history(store, "one")
    assert keys(records) == [":1.outer", ":2.calls_a_thread"]
    retried = [r.key for r in records if r.kind == Kind.STEP_RETRYING]
    assert retried == [":1.outer"], "the outer step is tried again as a whole, the inner not by itself"
    assert attempts == [7, 7]


async def test_random_values_follow_from_the_run_and_the_place_of_the_call_for_ever():
    """Also a later version of Reprise must come to these: a replayed body would go another way."""

    @workflow
    async def body() -> list[str]:
        run = current_run()
        return [f"{run.random().random():.6f}", str(run.uuid()), str(run.uuid())]

    async with opened() as app:
        assert await app.run(body, id="fixed") == [
            "0.829448",
            "07f1e7c1-1958-8e7f-87f6-7359ff753492",
            "8827891f-c0f6-858b-bce7-c26010aa3526",
        ]


async def test_a_call_that_is_made_a_task_has_a_name_as_tasks_have():
    @workflow
    async def body() -> list[str]:
        plain, named = asyncio.create_task(one(1)), asyncio.create_task(one(2), name="second")
        names = [plain.get_name(), named.get_name()]
        named.set_name(2)
        await asyncio.gather(plain, named)
        return [*names, named.get_name()]

    async with opened() as app:
        names = await app.run(body)
    assert names[1:] == ["second", "2"]
    assert "one" in names[0]


async def test_what_a_step_spawns_knows_nothing_of_the_run():
    @step
    async def asks() -> str:
        with pytest.raises(BodyError, match="There is no run here"):
            current_run()
        with pytest.raises(BodyError, match="only in the body"):
            await wait_for_signal("x")
        return current_step().key

    @workflow
    async def body() -> str:
        current_run().random()
        with pytest.raises(BodyError, match="No run executes a step here"):
            current_step()
        return await asks()

    async with opened() as app:
        assert await app.run(body) == ":1.asks"


async def test_outside_of_a_run_everything_is_plain():
    @workflow
    async def doubled(n: int) -> int:
        return await one(n) + await in_thread(n)

    assert await one(4) == 4
    assert await doubled(4) == 44
    assert await asyncio.to_thread(in_thread, 3) == 30
    assert await asyncio.gather(one(1), one(2)) == [1, 2]


async def test_a_call_that_is_never_awaited_says_so():
    with pytest.warns(RuntimeWarning, match="the call of step one was never awaited"):
        one(1)


# ---------------------------------------------------------------- what only a step may do

FORBIDDEN = {}
home: list[asyncio.AbstractEventLoop] = []


def forbidden(cure):
    def add(body):
        FORBIDDEN[body.__name__] = (body, cure)
        return body

    return add


@forbidden(r"run_in_executor\(\) cannot run in the body of run one.*Put it into a @step")
async def an_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


@forbidden(r"run_in_executor\(\).*Put it into a @step")
async def to_thread() -> None:
    await asyncio.to_thread(print)


@forbidden(r"create_connection\(\).*Put it into a @step")
async def a_connection() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


@forbidden(r"create_server\(\).*Put it into a @step")
async def a_server() -> None:
    await asyncio.start_server(print, "127.0.0.1", 0)


@forbidden(r"sock_recv\(\).*Put it into a @step")
async def a_raw_socket() -> None:
    with socket.socket() as sock:
        await asyncio.get_running_loop().sock_recv(sock, 1)


@forbidden(r"getaddrinfo\(\).*Put it into a @step")
async def a_name() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


@forbidden(r"subprocess_exec\(\).*Put it into a @step")
async def a_subprocess() -> None:
    await asyncio.create_subprocess_exec("true")


@forbidden(r"subprocess_shell\(\).*Put it into a @step")
async def a_shell() -> None:
    await asyncio.create_subprocess_shell("true")


@forbidden(r"add_signal_handler\(\).*Put it into a @step")
async def a_signal_handler() -> None:
    asyncio.get_running_loop().add_signal_handler(10, print)


@forbidden(r"as_completed over bare coroutines.*asyncio.create_task\(\) first")
async def as_completed_over_coroutines() -> None:
    calls = [nothing(), nothing()]
    try:
        for first in asyncio.as_completed(calls):
            await first
    finally:
        for call in calls:
            call.close()


@forbidden(r"as_completed over bare coroutines.*asyncio.create_task\(\) first")
async def as_completed_over_steps() -> None:
    calls = [one(1), one(2)]
    try:
        for first in asyncio.as_completed(calls):
            await first
    finally:
        for call in calls:
            call.close()


@forbidden("Step one was called from outside of the loop of run one.*threaded work belongs into a @step")
async def a_step_in_a_thread() -> None:
    context = contextvars.copy_context()

    def thread() -> None:
        with suppress(BodyError):
            context.run(asyncio.run, awaited(one(1)))

    started = threading.Thread(target=thread)
    started.start()
    started.join()


@forbidden("Step in_thread was called from outside of the loop of run one")
async def a_threaded_step_in_a_thread() -> None:
    context = contextvars.copy_context()

    def thread() -> None:
        with suppress(BodyError):
            context.run(in_thread, 1)

    started = threading.Thread(target=thread)
    started.start()
    started.join()


@forbidden("A thread called back into the body of run one.*Put the threaded work into a @step")
async def a_thread_that_calls_back() -> None:
    loop = asyncio.get_running_loop()

    def thread() -> None:
        with suppress(BodyError):
            loop.call_soon_threadsafe(print)

    started = threading.Thread(target=thread)
    started.start()
    started.join()
    await wait_for_signal("never")


@forbidden("Step one was called from outside of the loop of run one")
async def a_step_in_a_foreign_task() -> None:
    async def foreign() -> None:
        with suppress(BodyError):
            await one(1)

    home[0].create_task(foreign())
    await wait_for_signal("never")


@forbidden(r"wait_for_signal\('x'\) was called from outside of the loop of run one")
async def a_signal_in_a_foreign_task() -> None:
    async def foreign() -> None:
        with suppress(BodyError):
            await wait_for_signal("x")

    home[0].create_task(foreign())
    await wait_for_signal("never")


async def nothing() -> None:
    """Do nothing."""


async def awaited(call) -> None:
    await call


@pytest.mark.parametrize("after", ["at once", "after a step"])
@pytest.mark.parametrize("name", FORBIDDEN)
async def test_what_only_a_step_may_do_fails_the_run_although_the_body_swallows_the_error(name, after):
    body, cure = FORBIDDEN[name]

    @workflow
    async def swallowing() -> str:
        if after == "after a step":
            await one()
        with suppress(BaseException):
            await body()
        return "all is well"

    home[:] = [asyncio.get_running_loop()]
    async with opened() as app:
        handle = await app.start(swallowing, id="one")
        with pytest.raises(BodyError, match=cure):
            await handle.result(5)
        assert await handle.status() == "failed"


@pytest.mark.parametrize("what", ["future", "task", "gather"])
async def test_a_foreign_future_is_an_error_that_names_the_cure(what):
    outside = asyncio.get_running_loop()

    @workflow
    async def waits_for_another_loop() -> None:
        if what == "task":
            await outside.create_task(nothing())
        future = outside.create_future()
        outside.call_soon(future.set_result, None)
        await (asyncio.gather(future) if what == "gather" else future)

    async with opened() as app:
        with pytest.raises(BodyError, match=r"task or future of another event loop.*into a @step"):
            await app.run(waits_for_another_loop)


async def test_waiting_for_bare_coroutines_is_an_error():
    @workflow
    async def waits() -> None:
        calls = [one(1), one(2)]
        try:
            await asyncio.wait(calls)
        finally:
            for call in calls:
                call.close()

    async with opened() as app:
        with pytest.raises(TypeError, match="use tasks explicitly"):
            await app.run(waits)


# ---------------------------------------------------------------- bodies that never get on


@workflow
async def stuck() -> None:
    async def holder(lock: asyncio.Lock) -> None:
        async with lock:
            await asyncio.Event().wait()  # never set

    lock = asyncio.Lock()
    async with asyncio.TaskGroup() as group:
        group.create_task(holder(lock), name="the holder")
        await one()
        await lock.acquire()


async def test_a_stuck_body_fails_with_its_tasks_and_their_lines():
    async with opened() as app:
        with pytest.raises(StuckBodyError) as caught:
            await app.run(stuck, id="one")
    source, first = inspect.getsourcelines(stuck.function)
    held = first + next(n for n, line in enumerate(source) if "never set" in line)
    acquired = first + next(n for n, line in enumerate(source) if "lock.acquire" in line)
    assert f"the holder at holder, line {held}" in str(caught.value)
    assert f"one at stuck, line {acquired}" in str(caught.value)


async def test_what_the_body_left_behind_and_cannot_end_is_stuck_too():
    @workflow
    async def leaves() -> int:
        async def stays() -> None:
            while True:
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

        task = asyncio.create_task(stays(), name="the one that stays")
        await one()
        return len(task.get_name())

    async with opened() as app:
        with pytest.raises(StuckBodyError, match="the one that stays at stays"):
            await app.run(leaves)


async def test_a_body_that_is_never_quiet_fails(monkeypatch):
    monkeypatch.setattr(reprise.runtime.loop, "BUSY", 1_000)

    @workflow
    async def spins() -> None:
        while True:  # noqa: ASYNC110 - that is the fault
            await asyncio.sleep(0)

    async with opened() as app:
        busy = await app.start(spins)
        with pytest.raises(BusyBodyError, match=r"asyncio.sleep\(0\)"):
            await busy.result(5)
        assert await busy.status() == "failed"


# ---------------------------------------------------------------- async generators


async def test_closing_an_async_generator_late_does_not_touch_the_counters():
    """Left to the collector it ends whenever it ends: the keys of what comes after are the same."""

    async def numbers():
        try:
            for n in range(3):
                yield await one(n)
        finally:
            await one(100)

    @workflow(name="counting")
    async def left() -> int:
        async for _ in numbers():
            break
        return await one(7)

    @workflow(name="counting")
    async def kept() -> int:
        source = numbers()
        async for _ in source:
            break
        last = await one(7)
        del source
        return last

    found = []
    for flow in (left, kept):
        store = MemoryStore()
        async with opened(store) as app:
            assert await app.run(flow, id="one") == 7
        found.append(keys(await history(store, "one")))
    assert found[0] == found[1]
    assert found[0][:2] == [":1.one", ":2.one"]
    assert len(found[0]) == 3, "its finally ran"


# ---------------------------------------------------------------- declarations


def test_a_workflow_must_be_async():
    with pytest.raises(ConfigurationError, match=r"needs an async function.*Write 'async def'"):

        @workflow
        def plain() -> None: ...


def test_declarations_are_checked():
    with pytest.raises(UnknownOption, match="Did you mean 'timeout'"):
        step(timout=3)
    with pytest.raises(UnknownOption, match="Did you mean 'retry'"):
        one.options(retries=3)
    with pytest.raises(UnknownOption, match="on_parent_end"):
        workflow(on_parents_end="wait")
    with pytest.raises(ConfigurationError, match="one call has one outcome"):

        @step
        async def generator():
            yield 1

    with pytest.raises(ConfigurationError, match="'wait' or 'abandon'"):
        step(on_cancel="leave")(nothing)
    with pytest.raises(ConfigurationError, match="'cancel', 'wait' or 'abandon'"):
        workflow(on_parent_end="leave")(nothing)
    with pytest.raises(ConfigurationError, match="is a step already"):
        step(one)


# ---------------------------------------------------------------- timeouts


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_threaded_step_that_times_out_has_an_unknown_outcome(idempotent):
    calls = []
    let_go = threading.Event()

    @step(timeout=0.2, idempotent=idempotent, retry=Retry(3, backoff=0))
    def slow() -> int:
        calls.append(1)
        if len(calls) == 1:
            let_go.wait(5)
        return len(calls)

    @workflow
    async def waits() -> int:
        return await slow()

    try:
        async with opened() as app:
            if idempotent:
                assert await app.run(waits) == 2
            else:
                with pytest.raises(
                    OutcomeUnknownStep, match=r"whether it happened is unknown.*idempotent=True"
                ):
                    await app.run(waits)
                assert len(calls) == 1
    finally:
        let_go.set()


async def test_an_async_step_that_times_out_is_cancelled_and_tried_again():
    seen = []

    @step(timeout=0.02, retry=Retry(2, backoff=0))
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("stopped")

    @workflow
    async def waits() -> None:
        await slow()

    store = MemoryStore()
    async with opened(store) as app:
        with pytest.raises(StepTimeout, match=r"slow ran longer than 0.02 s"):
            await app.run(waits, id="one")
    assert seen == ["stopped", "stopped"]
    noted = [kind for kind in kinds(await history(store, "one")) if kind != "STEP_STARTED"]
    assert noted == ["RUN_STARTED", "RUN_OWNED", "STEP_RETRYING", "STEP_FAILED", "RUN_FINISHED"]


async def test_what_was_started_and_has_no_result_runs_again():
    ran = []
    started = asyncio.Event()

    @step
    async def slow(n: int) -> int:
        ran.append(n)
        if len(ran) == 1:
            started.set()
            await asyncio.sleep(60)
        return n

    @workflow
    async def flow() -> int:
        return await slow(5)

    store = MemoryStore()
    async with opened(store) as app:
        await app.start(flow, id="one")
        records = await recorded(app, "one", Kind.STEP_STARTED)
    assert kinds(records)[-1] == "STEP_STARTED"
    dead = await cut(store, "one", len(records))
    async with opened(dead, workflows=[flow]) as app:
        assert await app.handle("one").result(5) == 5
    assert ran == [5, 5]


# ---------------------------------------------------------------- values


class Strange:
    """No codec knows it."""


@dataclass
class Page:
    title: str


async def test_a_value_that_cannot_be_written_is_an_error_at_the_call_and_nothing_is_written():
    @workflow
    async def takes(page) -> None: ...

    @workflow
    async def gives():
        return Strange()

    @step
    async def makes():
        return Strange()

    @workflow
    async def asks() -> str:
        try:
            await makes()
        except CodecError as error:
            return f"caught {'Strange' in str(error)}"
        return ""

    store = MemoryStore()
    async with opened(store) as app:
        with pytest.raises(CodecError, match="page"):
            await app.start(takes, Strange(), id="one")
        with pytest.raises(TypeError, match="misses 'page'"):
            await app.start(takes, id="one")
        assert await app.store.log.end() == 0
        with pytest.raises(CodecError, match="Strange"):
            await app.run(gives)
        assert await app.run(asks) == "caught True"
        waits = await app.start(stuck_for_a_signal, id="two")
        end = await app.store.log.end()
        with pytest.raises(CodecError):
            await waits.signal("go", Strange())
        assert await app.store.log.end() == end
        await waits.signal("go", Page("a"), type=Page)
        assert await waits.result(5) == "a"


@workflow
async def stuck_for_a_signal() -> str:
    return (await wait_for_signal("go", Page)).title


async def test_a_child_whose_input_cannot_be_written_fails_at_the_call():
    @workflow
    async def child(x) -> None: ...

    @workflow
    async def parent() -> str:
        try:
            await child(Strange())
        except CodecError as error:
            return str(error)
        return ""

    store = MemoryStore()
    async with opened(store) as app:
        assert "'x'" in await app.run(parent, id="one")
        assert [row.id for row in await app.store.runs.find()] == ["one"]


async def test_a_body_gets_what_was_recorded_and_not_the_object():
    made = []

    @step
    async def make() -> Page:
        made.append(Page("a"))
        return made[0]

    @workflow
    async def flow() -> bool:
        page = await make()
        return page == made[0] and page is not made[0]

    async with opened() as app:
        assert await app.run(flow)
