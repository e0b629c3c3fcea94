"""Signals, timers, cancellation, deadlines, pause and resume, and what starts a run."""

import asyncio
import uuid
from contextvars import ContextVar
from datetime import timedelta

import pytest
from tests.unit.runtime.scenes import history, kinds, opened, recorded, row_when, status_is, until

from reprise import (
    DeadlineExceeded,
    Kind,
    ResultTimeout,
    Retry,
    RunCancelled,
    RunConflict,
    RunEnded,
    RunNotFound,
    RunPaused,
    SignalTypeError,
    VirtualClock,
    current_run,
    current_step,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import inbox_stream
from reprise.runtime.parking import due_at, park
from reprise.stores.memory import MemoryStore
from reprise.stores.runs import RunFilter


@step
async def one(n: int = 1) -> int:
    return n


@workflow
async def takes_two() -> list[int]:
    return [await wait_for_signal("go", int), await wait_for_signal("go", int)]


@workflow
async def waits() -> str:
    return await wait_for_signal("go", str)


# ---------------------------------------------------------------- signals


async def test_a_signal_before_and_one_after_the_wait_are_both_taken_in_order():
    @workflow
    async def slow_to_ask(n: int) -> list[int]:
        first = await wait_for_signal("first")
        return [first, await wait_for_signal("go", int), await wait_for_signal("go", int)]

    async with opened() as app:
        handle = await app.start(slow_to_ask, 1)
        await handle.signal("go", 10)
        await handle.signal("go", 20)
        await handle.signal("first", 5)
        assert await handle.result(5) == [5, 10, 20]


async def test_the_same_signal_twice_is_taken_once_also_after_a_restart():
    store = MemoryStore()
    async with opened(store) as app:
        handle = await app.start(takes_two, id="one")
        await handle.signal("go", 1, id="a")
        await recorded(app, "one", Kind.SIGNAL_RECEIVED)
        await handle.signal("go", 1, id="a")
    async with opened(store, workflows=[takes_two]) as app:
        await app.client.signal("one", "go", 1, id="a")
        await app.client.signal("one", "go", 2, id="b")
        assert await app.handle("one").result(5) == [1, 2]


async def test_a_signal_of_another_type_is_an_error_at_the_wait_and_consumed():
    @workflow
    async def careful() -> list[object]:
        try:
            await wait_for_signal("go", int)
        except SignalTypeError as error:
            return [await wait_for_signal("go", int), "go" in str(error), "wait again" in str(error)]
        return []

    async with opened() as app:
        handle = await app.start(careful)
        await handle.signal("go", "text")
        await handle.signal("go", 3)
        assert await handle.result(5) == [3, True, True]


async def test_a_signal_to_nobody_or_to_a_run_that_ended_is_an_error():
    async with opened() as app:
        with pytest.raises(RunNotFound, match="reprise ps"):
            await app.client.signal("nobody", "go")
        assert await app.store.log.read(inbox_stream("nobody")) == []
        await app.run(workflow(one.function, name="short"), id="one")
        for send in (app.client.signal("one", "go"), app.client.cancel("one"), app.client.pause("one")):
            with pytest.raises(RunEnded, match="has ended"):
                await send


async def test_a_signal_sent_with_the_start_is_in_the_same_commit():
    async with opened() as app:
        handle = await app.start(waits, id="one", signal=("go", "hello"))
        assert await handle.result(5) == "hello"
        (letter,) = await app.store.log.read(inbox_stream("one"))
        assert letter.position == (await handle.events())[1].position + 1
        again = await app.start(waits, id="one", signal=("go", "hello"))
        assert await again.result(5) == "hello"
        assert len(await app.store.log.read(inbox_stream("one"))) == 1


async def test_a_wait_that_timed_out_leaves_the_signal_for_the_next():
    @workflow
    async def patient() -> list[str]:
        try:
            await wait_for_signal("go", str, timeout=timedelta(milliseconds=1))
        except TimeoutError:
            return ["late", await wait_for_signal("go", str)]
        return []

    async with opened() as app:
        handle = await app.start(patient, id="one")
        await recorded(app, "one", Kind.TIMER_FIRED)
        await handle.signal("go", "x")
        assert await handle.result(5) == ["late", "x"]


async def test_a_signal_that_comes_while_the_inbox_is_read_is_taken_at_once():
    store = MemoryStore()
    async with opened(store) as app:
        handle = await app.start(takes_two, id="one")
        read = store.log.read

        async def slowly(stream, after=0, limit=None):
            found = await read(stream, after, limit)
            if stream == inbox_stream("one") and not found:
                store.log.read = read
                await handle.signal("go", 2)
                await asyncio.sleep(0.001)  # the tap comes before the answer of the read
            return found

        store.log.read = slowly
        await handle.signal("go", 1)
        assert await handle.result(0.9) == [1, 2], "without waiting for the next look"


# ---------------------------------------------------------------- time


async def test_a_sleep_ends_when_it_was_due_although_the_process_was_away():
    clock = VirtualClock()
    store = MemoryStore(clock)

    @workflow
    async def sleeps() -> float:
        began = current_run().now()
        await asyncio.sleep(3600)
        return (current_run().now() - began).total_seconds()

    async with opened(store, clock=clock) as app:
        await app.start(sleeps, id="one")
        await until(app.engine.idle)
    for away in range(1, 4):
        clock.advance(1000)
        async with opened(store, workflows=[sleeps], clock=clock) as app:
            await until(app.engine.idle)
            assert due_at(app.engine.executions["one"]) == clock.now() + (3600 - away * 1000) * 1_000_000
    clock.advance(700)
    async with opened(store, workflows=[sleeps], clock=clock) as app:
        assert await app.handle("one").result(5) == 3700, "it woke when somebody was there"


async def test_random_and_uuid_belong_to_their_place():
    async def branch() -> list[str]:
        return [str(current_run().uuid()), str(current_run().random().random())]

    @workflow(name="chancy")
    async def before() -> list[list[str]]:
        return [await branch(), *await asyncio.gather(branch(), branch())]

    @workflow(name="chancy")
    async def with_one_more() -> list[list[str]]:
        first = await branch()
        current_run().uuid()
        await one()
        return [first, *await asyncio.gather(branch(), branch())]

    found = []
    for flow in (before, before, with_one_more):
        async with opened() as app:
            found.append(await app.run(flow, id="one"))
    assert found[0] == found[1] == found[2]
    values = [value for pair in found[0] for value in pair]
    assert len(set(values)) == 6
    assert uuid.UUID(values[0]).version == 8
    async with opened() as app:
        assert not set(values) & {v for pair in await app.run(before, id="two") for v in pair}


async def test_an_idempotency_key_is_the_same_over_attempts_and_take_overs():
    seen = []

    @step(retry=Retry(3, backoff=0))
    async def pay() -> str:
        seen.append((current_step().idempotency_key, current_step().attempt))
        if len(seen) < 2:
            raise ConnectionError
        if len(seen) == 2:
            await asyncio.sleep(60)
        return current_step().idempotency_key

    @workflow
    async def buys() -> list[str]:
        return [await pay(), await pay()]

    store = MemoryStore()
    async with opened(store) as app:
        await app.start(buys, id="one")
        await until(lambda: len(seen) == 2)
    async with opened(store, workflows=[buys]) as app:
        first, second = await app.handle("one").result(5)
    assert {key for key, _ in seen[:3]} == {first}
    assert [attempt for _, attempt in seen[:3]] == [1, 2, 2]
    assert second != first


# ---------------------------------------------------------------- cancel, deadline


async def test_a_cancel_reaches_any_await_with_its_reason_and_finally_may_use_steps():
    reached = []

    @step
    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            reached.append("the step")

    @workflow
    async def child() -> None:
        try:
            await wait_for_signal("never")
        finally:
            reached.append(f"the child {await one(1)}")

    async def place(number: int) -> None:
        match number:
            case 0:
                await forever()
            case 1:
                await asyncio.sleep(60)
            case 2:
                await wait_for_signal("never")
            case 3:
                await child()
            case 4:
                await asyncio.gather(forever(), asyncio.sleep(60))
            case 5:
                lock = asyncio.Lock()
                await asyncio.gather(lock.acquire(), lock.acquire(), asyncio.sleep(60))

    @workflow
    async def body(number: int) -> None:
        try:
            await place(number)
        except asyncio.CancelledError as error:
            reached.append(str(error))
            raise
        finally:
            reached.append(await one(number))

    async with opened() as app:
        for number in range(6):
            handle = await app.start(body, number)
            execution = app.engine.executions[handle.id]
            await until(lambda e=execution: e.live and not (e.out or e.acks) and (e.in_flight or e.idle))
            await handle.cancel("enough")
            with pytest.raises(RunCancelled, match="enough"):
                await handle.result(5)
            assert await handle.status() == "cancelled"
            assert reached[-1] == number
        assert reached.count("the step") == 2
        assert reached.count("the child 1") == 1
        assert reached.count("enough") == 6


async def test_a_body_may_answer_a_cancel_with_a_result():
    @workflow
    async def stubborn() -> str:
        try:
            await wait_for_signal("never")
        except asyncio.CancelledError:
            return await workflow_result()
        return ""

    async def workflow_result() -> str:
        return f"made the best of it {await one(1)}"

    async with opened() as app:
        handle = await app.start(stubborn)
        await handle.cancel("enough")
        assert await handle.result(5) == "made the best of it 1"


async def test_a_deadline_ends_the_run_also_one_that_left_memory():
    async with opened() as app:
        handle = await app.start(waits, id="here", deadline=0.01)
        with pytest.raises(DeadlineExceeded, match="here did not end before its deadline"):
            await handle.result(5)
        assert await handle.status() == "failed"
        parked = await app.start(waits, id="parked", deadline=timedelta(milliseconds=60))
        execution = app.engine.executions["parked"]
        await until(lambda: execution.live and execution.idle)
        assert await park(app.engine, [execution])
        assert "parked" not in app.engine.executions
        with pytest.raises(DeadlineExceeded):
            await parked.result(5)


# ---------------------------------------------------------------- pause and resume


async def test_a_paused_run_rests_until_it_is_resumed():
    gate = asyncio.Event()
    ran = []

    @step
    async def slow(n: int) -> int:
        ran.append(n)
        await gate.wait()
        return n

    @workflow
    async def flow() -> list[int]:
        return [await slow(1), await slow(2)]

    store = MemoryStore()
    async with opened(store) as app:
        handle = await app.start(flow, id="one")
        await until(lambda: ran)
        await handle.pause()
        await until(lambda: app.engine.executions["one"].holding)
        gate.set()  # what executes is recorded; what follows is not begun
        row = await status_is(app, "one", "paused")
        assert row.owner is None
        with pytest.raises(RunPaused, match="reprise resume one"):
            await handle.result(5)
        await handle.signal("whatever")
        await row_when(app, "one", lambda row: row.due_at is None)
        assert (await status_is(app, "one", "paused")).owner is None
        assert ran == [1]
    async with opened(store, workflows=[flow]) as app:
        await app.handle("one").resume()
        assert await app.handle("one").result(5) == [1, 2]
    assert ran == [1, 2]
    noted = kinds(await history(store, "one"))
    assert noted.count("RUN_PAUSED") == noted.count("RUN_RESUMED") == 1


async def test_a_wish_to_resume_that_comes_while_it_settles_is_not_lost():
    gate = asyncio.Event()

    @step
    async def slow() -> int:
        await gate.wait()
        return 1

    @workflow
    async def flow() -> int:
        return await slow()

    async with opened() as app:
        handle = await app.start(flow, id="one")
        execution = app.engine.executions["one"]
        await until(lambda: execution.in_flight)
        await handle.pause()
        await until(lambda: execution.holding)
        await handle.resume()
        gate.set()
        await recorded(app, "one", Kind.RUN_FINISHED)
        assert await app.handle("one").result(5) == 1


async def test_asked_to_pause_twice_it_is_resumed_once():
    async with opened() as app:
        handle = await app.start(waits, id="one")
        await handle.pause()
        await status_is(app, "one", "paused")
        await handle.pause()
        await handle.resume()
        await handle.signal("go", "x")
        assert await handle.result(5) == "x"


async def test_an_old_wish_to_resume_does_not_wake_a_run_that_was_paused_later():
    async with opened() as app:
        handle = await app.start(waits, id="one")
        await handle.resume()
        await handle.pause()
        await status_is(app, "one", "paused")
        await handle.signal("go", "x")
        await row_when(app, "one", lambda row: row.due_at is None)
        assert await handle.status() == "paused"


async def test_a_paused_run_can_be_cancelled():
    cleaned = []

    @workflow
    async def flow() -> None:
        try:
            await wait_for_signal("never")
        finally:
            cleaned.append(await one(1))

    async with opened() as app:
        handle = await app.start(flow, id="one")
        await handle.pause()
        await status_is(app, "one", "paused")
        await handle.cancel("enough")
        await status_is(app, "one", "cancelled")
        with pytest.raises(RunCancelled, match="enough"):
            await handle.result(5)
    assert cleaned == [1]


async def test_a_paused_parent_takes_what_its_child_did_meanwhile():
    @workflow
    async def child() -> str:
        return await wait_for_signal("go", str)

    @workflow
    async def parent() -> str:
        return await child()

    async with opened() as app:
        handle = await app.start(parent, id="one")
        await until(lambda: "one:1.child" in app.engine.executions)
        await handle.pause()
        await status_is(app, "one", "paused")
        await app.client.signal("one:1.child", "go", "x")
        await status_is(app, "one:1.child", "completed")
        assert await handle.status() == "paused"
        await handle.resume()
        await status_is(app, "one", "completed")
        assert await app.handle("one").result(5) == "x"


# ---------------------------------------------------------------- starting


async def test_starting_is_idempotent_by_id_and_another_input_is_a_conflict():
    @workflow
    async def flow(names: set[str]) -> int:
        await wait_for_signal("go")
        return len(names)

    async with opened() as app:
        first = await app.start(flow, {"a", "b"}, id="one")
        await app.start(flow, {"b", "a"}, id="one")
        with pytest.raises(RunConflict, match="exists with another input"):
            await app.start(flow, {"a"}, id="one")
        with pytest.raises(RunConflict, match="is a run of 'flow', not of 'waits'"):
            await app.start(waits, id="one")
        await first.signal("go")
        assert await first.result(5) == 2
        assert await (await app.start(flow, {"a", "b"}, id="one")).result(5) == 2
        assert app.engine.counters["started"] == 1


async def test_many_starts_of_one_id_at_once_are_one_run():
    async with opened() as app:
        handles = await asyncio.gather(*(app.start(waits, id="one", signal=("go", "x")) for _ in range(20)))
        assert await asyncio.gather(*(handle.result(5) for handle in handles)) == ["x"] * 20
        assert len(await app.store.runs.find()) == 1


async def test_a_result_may_be_waited_for_with_a_limit():
    async with opened() as app:
        handle = await app.start(waits, id="one")
        with pytest.raises(ResultTimeout, match="still going on"):
            await handle.result(0.01)
        await handle.signal("go", "x")
        assert await handle.result(5) == "x"


COLOUR: ContextVar[str] = ContextVar("colour")


async def test_declared_variables_enter_bodies_steps_and_children_also_after_a_restart():
    @step
    async def seen() -> str:
        return COLOUR.get("none")

    @workflow
    async def child() -> str:
        return f"{COLOUR.get('none')} {await seen()}"

    @workflow
    async def flow() -> list[str]:
        first = [COLOUR.get("none"), await seen(), await child()]
        await wait_for_signal("go")
        COLOUR.set("green")
        return [*first, COLOUR.get("none"), await seen(), await child()]

    store = MemoryStore()
    token = COLOUR.set("red")
    async with opened(store, variables={"colour": COLOUR}) as app:
        await app.start(flow, id="one", tags={"team": "a"})
        await until(app.engine.idle)
    COLOUR.reset(token)
    COLOUR.set("blue")
    async with opened(store, workflows=[flow, child], variables={"colour": COLOUR}) as app:
        await app.client.signal("one", "go")
        found = await app.handle("one").result(5)
        assert found == ["red", "red", "red red", "green", "green", "green green"]
        (row,) = await app.store.runs.find(RunFilter(tags={"team": "a"}), limit=1, newest_first=False)
        assert row.id == "one"
