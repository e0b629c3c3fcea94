"""The corpus: what bodies of plain asyncio do. Each pattern states what must come out, however the steps are timed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import anyio
import tenacity

from reprise import Retry, current_run, step, wait_for_signal, workflow
from reprise.runtime.client import Client
from reprise.runtime.workflow import Workflow

TICK = 0.0015
"""Seconds: the scale of steps and timers, so that they race."""

Check = Callable[[str, Any], bool]
Drive = Callable[[Client, str], Awaitable[None]]
dice = random.Random()


@dataclass(frozen=True)
class Pattern:
    """A workflow, what must come out (status, value), and who disturbs it."""

    workflow: Workflow[..., Any]
    check: Check
    drive: Drive | None = None
    drives_on: bool = False
    """Whoever disturbs it goes on when the run is resumed."""


CORPUS: dict[str, Pattern] = {}
KIDS: dict[str, Workflow[..., Any]] = {}
"""Children by name."""


def pattern(check: Check, drive: Drive | None = None, *, drives_on: bool = False) -> Callable[[Any], Any]:
    """Add a function to the corpus."""

    def add(function: Any) -> Any:
        CORPUS[function.__name__] = Pattern(workflow(function), check, drive, drives_on)
        return function

    return add


def gives(expected: Any) -> Check:
    """Return the check that the run completed with just this value."""
    return lambda status, value: status == "completed" and value == expected


def nap(scale: float = 1.0) -> float:
    """Return a random time to sleep."""
    return dice.random() * TICK * scale


# ---------------------------------------------------------------- steps


@step
async def echo(i: int) -> int:
    await asyncio.sleep(nap())
    return i


@step
async def at_once(i: int) -> int:
    return i


@step(retry=Retry(1))
async def fails(i: int) -> int:
    await asyncio.sleep(nap())
    raise ValueError(i)


@step(retry=Retry(1))
async def moody(i: int) -> int:
    await asyncio.sleep(nap(0.3))
    if dice.random() < 0.6:
        raise ConnectionError(f"mood {i}")
    return i


@step
async def stubborn(i: int) -> int:
    """Goes on for a while after it was asked to stop."""
    try:
        await asyncio.sleep(nap(2))
    except asyncio.CancelledError:
        await asyncio.sleep(nap(2))
    return i


@step
async def tidy(i: int) -> int:
    """Takes its time to clean up when it is asked to stop."""
    try:
        await asyncio.sleep(nap(2))
    finally:
        await asyncio.sleep(nap())
    return i


@step(on_cancel="abandon")
async def abandoned(i: int) -> int:
    try:
        await asyncio.sleep(nap(2))
    except asyncio.CancelledError:
        await asyncio.sleep(nap())
    return i


@step
def threaded(i: int) -> int:
    return i * 10


@step
async def fans_out_inside(n: int) -> int:
    """A step is free inside: its tasks are its own."""

    async def one(i: int) -> int:
        await asyncio.sleep(nap(0.2))
        return await at_once(i)

    return sum(await asyncio.gather(*(one(i) for i in range(n))))


# ---------------------------------------------------------------- the basics


@pattern(gives([0, 1, 2, 3, 40]))
async def chain_of_steps() -> list[int]:
    return [*[await echo(i) for i in range(4)], await threaded(4)]


@pattern(gives([0, 2, 4, 6, 8, 10]))
async def two_stage_gather() -> list[int]:
    async def pair(i: int) -> int:
        return await at_once(await echo(i) * 2)

    return await asyncio.gather(*(pair(i) for i in range(6)))


@pattern(gives([[0, 1, 2], [10, 11, 12], [20, 21, 22]]))
async def nested_gather() -> list[list[int]]:
    async def row(r: int) -> list[int]:
        return await asyncio.gather(*(echo(r * 10 + c) for c in range(3)))

    return await asyncio.gather(*(row(r) for r in range(3)))


@pattern(gives([0, 1, 4, 9]))
async def task_group() -> list[int]:
    async def square(i: int) -> int:
        return await at_once(await echo(i) * i)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(square(i)) for i in range(4)]
    return [task.result() for task in tasks]


@pattern(gives([["caught", 0], ["caught", 1], ["caught", 2]]))
async def steps_that_raise() -> list[list[Any]]:
    seen: list[list[Any]] = []
    for i in range(3):
        try:
            await fails(i)
        except ValueError as error:
            seen.append(["caught", await at_once(error.args[0])])
    return seen


@pattern(lambda status, value: status == "completed" and value[0] == 2 and value[1:] == [7, 8])
async def gather_with_a_failure() -> list[int]:
    out: list[int] = []
    try:
        await asyncio.gather(echo(1), fails(2), echo(3), stubborn(4))
    except ValueError as error:
        out.append(error.args[0])
    return out + await asyncio.gather(echo(7), echo(8))


@pattern(lambda status, value: status == "completed" and value[-2:] == ["group", 9])
async def task_group_with_a_failing_child() -> list[Any]:
    out: list[Any] = []

    async def one(i: int) -> None:
        try:
            out.append(await (fails(i) if i == 3 else stubborn(i) if i % 2 else tidy(i)))
        except asyncio.CancelledError:
            out.append(-i)
            raise

    try:
        async with asyncio.TaskGroup() as group:
            for i in range(6):
                group.create_task(one(i))
    except* ValueError:
        out.append("group")
    return [*out, await echo(9)]


@pattern(lambda status, value: status == "failed" and value in ("ExceptionGroup",))
async def task_group_uncaught() -> None:
    async with asyncio.TaskGroup() as group:
        for i in range(3):
            group.create_task(echo(i))
        group.create_task(fails(1))
        group.create_task(fails(2))


@pattern(gives([0, 1, 2, 3, 4, 5]))
async def step_with_inner_fan_out() -> list[int]:
    return [*await asyncio.gather(*(echo(i) for i in range(5))), await fans_out_inside(3) + 2]


@pattern(lambda status, value: status == "completed" and 1 <= len(value) <= 12 and value == sorted(value))
async def loop_of_varying_count() -> list[int]:
    out: list[int] = []
    while len(out) < 12:
        try:
            out.append(await moody(len(out)))
        except ConnectionError:
            if out:
                break
    return out or [await at_once(0)]


# ---------------------------------------------------------------- cancelling


@pattern(
    lambda status, value: status == "completed" and len(value) == 4 and all(len(pair) == 2 for pair in value)
)
async def cancelled_tasks() -> list[list[str]]:
    out: list[list[str]] = []
    for call in (stubborn, tidy, echo, abandoned):
        first, second = asyncio.create_task(call(1)), asyncio.create_task(call(2))
        await echo(0)
        first.cancel()
        both = await asyncio.gather(first, second, return_exceptions=True)
        out.append([type(x).__name__ if isinstance(x, BaseException) else str(x) for x in both])
    return out


@pattern(lambda status, value: status == "completed" and value[-1] == 5 and value.count(-1) <= 3)
async def shielded() -> list[int]:
    out: list[int] = []
    task = asyncio.create_task(stubborn(5))
    for _ in range(3):
        try:
            out.append(await asyncio.wait_for(asyncio.shield(task), TICK / 2))
        except TimeoutError:
            out.append(await at_once(-1))
    return [*out, await task]


@pattern(lambda status, value: status == "completed" and len(value) >= 4)
async def nested_timeouts() -> list[str]:
    out: list[str] = []
    for i in range(4):
        try:
            async with asyncio.timeout(TICK):
                try:
                    async with asyncio.timeout(TICK / 2):
                        out.append(f"done {await stubborn(i)}")
                except TimeoutError:
                    out.append(f"inner {await echo(i)} {await tidy(i)}")
        except TimeoutError:
            out.append(f"outer {await at_once(i)}")
    return out


@pattern(lambda status, value: status == "completed" and sorted(value) == ["far", "far", "fired", "fired"])
async def timeouts_fire_and_do_not() -> list[str]:
    out: list[str] = []
    for seconds in (TICK / 10, 30.0):
        for call in (tidy, echo):
            try:
                async with asyncio.timeout(seconds):
                    await call(1)
                    if seconds < 1:
                        await asyncio.sleep(1)
                out.append("far")
            except TimeoutError:
                out.append("fired")
    return out


@pattern(lambda status, value: status == "completed" and len(value) == 12 and value.count(None) == 0)
async def nearly_firing_wait_for() -> list[int]:
    async def one(i: int) -> int:
        try:
            return await asyncio.wait_for(echo(i), TICK / 2)
        except TimeoutError:
            return await at_once(100 + i)

    return await asyncio.gather(*(one(i) for i in range(12)))


@pattern(lambda status, value: status == "completed" and len(value) >= 4 and value.count(50) <= 4)
async def finally_with_steps() -> list[int]:
    out: list[int] = []

    async def one(i: int) -> None:
        try:
            out.append(await stubborn(i))
        finally:
            out.append(await at_once(50))
            try:
                await fails(i)
            except ValueError:
                pass

    tasks = [asyncio.create_task(one(i)) for i in range(4)]
    for task in tasks:
        await echo(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return out


@pattern(gives("main is done first"))
async def leftover_tasks() -> str:
    async def background(i: int) -> None:
        try:
            for k in range(3):
                await echo(i + 10 * k)
        finally:
            await at_once(i)

    tasks = [asyncio.create_task(background(i)) for i in range(3)]
    tasks.append(asyncio.create_task(stubborn(7)))
    await echo(1)
    return "main is done first"


async def _cancel_twice(client: Client, run: str) -> None:
    await asyncio.sleep(nap(5))
    await client.cancel(run, "first")
    await asyncio.sleep(nap(2))
    await client.cancel(run, "second")


@pattern(lambda status, value: status in ("completed", "cancelled"), drive=_cancel_twice)
async def cancelled_from_outside() -> list[int]:
    out: list[int] = []

    async def one(i: int) -> None:
        try:
            async with asyncio.timeout(TICK * 3):
                out.append(await (stubborn(i) if i % 2 else tidy(i)))
        finally:
            out.append(await at_once(i))

    try:
        async with asyncio.TaskGroup() as group:
            for i in range(5):
                group.create_task(one(i))
        for i in range(3):
            out.append(await echo(i))
    except* TimeoutError:
        out.append(-1)
    finally:
        for i in range(3):
            out.append(await echo(i + 100))
    return out


# ---------------------------------------------------------------- what bodies hold


@pattern(gives(list(range(12))))
async def queue_pool() -> list[int]:
    queue: asyncio.Queue[int] = asyncio.Queue()
    out: list[int] = []

    async def worker() -> None:
        while True:
            i = await queue.get()
            out.append(await echo(i))
            queue.task_done()

    for i in range(12):
        queue.put_nowait(i)
    workers = [asyncio.create_task(worker()) for _ in range(3)]
    await queue.join()
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return sorted(out)


@pattern(gives([5, 5]))
async def lock_and_semaphore() -> list[int]:
    lock, semaphore = asyncio.Lock(), asyncio.Semaphore(2)
    total = [0]
    inside: list[int] = []

    async def one(i: int) -> None:
        async with semaphore:
            inside.append(1)
            assert len(inside) <= 2
            async with lock:
                before = total[0]
                await echo(i)
                total[0] = before + 1
            inside.pop()

    await asyncio.gather(*(one(i) for i in range(5)))
    return [total[0], await at_once(total[0])]


@pattern(gives([0, 1, 2, "all"]))
async def event_condition_barrier() -> list[Any]:
    event, condition, barrier = asyncio.Event(), asyncio.Condition(), asyncio.Barrier(3)
    out: list[Any] = []

    async def member(i: int) -> None:
        await echo(i)
        await barrier.wait()
        async with condition:
            out.append(i)
            condition.notify_all()
        if len(out) == 3:
            event.set()

    async def watcher() -> None:
        async with condition:
            await condition.wait_for(lambda: len(out) >= 3)
        await echo(9)

    async with asyncio.TaskGroup() as group:
        for i in range(3):
            group.create_task(member(i))
        group.create_task(watcher())
        await event.wait()
    return sorted(out) + ["all"] if await at_once(1) else []


@pattern(lambda status, value: status == "completed" and len(value) >= 4)
async def sets_of_tasks() -> list[list[int]]:
    out: list[list[int]] = []
    pending: set[asyncio.Task[int]] = {asyncio.create_task(echo(i)) for i in range(6)}
    while pending:
        done, pending = await asyncio.wait(pending, timeout=TICK / 3)
        for task in done:
            out.append([task.result(), await at_once(len(out))])
        if len(out) > 3:
            for task in pending:
                task.cancel()
            break
    return out


@pattern(lambda status, value: status == "completed" and sorted(value) == [0, 1, 2, 3, 4])
async def as_completed_over_tasks() -> list[int]:
    async def one(i: int) -> int:
        return await at_once(await echo(i))

    return [await first for first in asyncio.as_completed([asyncio.create_task(one(i)) for i in range(5)])]


@pattern(gives([0, 1, 2, "fin", 0, 1, 8, "fin"]))
async def async_generators() -> list[Any]:
    out: list[Any] = []

    async def numbers(n: int) -> AsyncIterator[int]:
        try:
            for i in range(n):
                yield await echo(i)
        finally:
            await at_once(1)
            out.append("fin")

    async with aclosing(numbers(4)) as source:
        async for i in source:
            out.append(i)
            if i == 2:
                break
    lazy = numbers(3)
    async for i in lazy:
        out.append(i)
        if i == 1:
            break
    out.append(await echo(8))
    await lazy.aclose()
    return list(out)


# ---------------------------------------------------------------- time, signals, children


@pattern(gives(True))
async def durable_sleep() -> bool:
    start = current_run().now()
    await asyncio.gather(*(asyncio.sleep(nap()) for _ in range(3)), echo(1))
    await asyncio.sleep(TICK)
    return (current_run().now() - start).total_seconds() >= TICK * 0.999


@pattern(
    lambda status, value: (
        status == "completed"
        and sorted(x for x in value if x != "gave up") == [i for i in range(4) if i in value]
    )
)
async def retry_with_durable_backoff() -> list[Any]:
    async def patient(i: int) -> Any:
        for k in range(6):
            try:
                return await moody(i)
            except ConnectionError:
                await asyncio.sleep(TICK / 4 * 2**k * current_run().random().random())
        return "gave up"

    return await asyncio.gather(*(patient(i) for i in range(4)))


async def _send_eight(client: Client, run: str) -> None:
    for i in range(8):
        await asyncio.sleep(nap())
        for _ in range(2):  # every signal twice: the id drops the second
            await client.signal(run, "ab"[i % 2], i, id=f"m{i}")


@pattern(gives([[0, 2, 4, 6], [1, 3, 5, 7], 12]), drive=_send_eight)
async def signals_in_order() -> list[Any]:
    async def four(name: str) -> list[int]:
        return [await wait_for_signal(name, int) for _ in range(4)]

    even, odd = await asyncio.gather(four("a"), four("b"))
    return [even, odd, await at_once(sum(even))]


@pattern(
    lambda status, value: status == "completed" and [x for x in value if x >= 0] == [0, 2, 4, 6],
    drive=_send_eight,
)
async def signal_against_timeout() -> list[int]:
    out: list[int] = []
    while len([x for x in out if x >= 0]) < 4:
        try:
            out.append(await wait_for_signal("a", int, timeout=TICK / 2))
        except TimeoutError:
            out.append(await at_once(-1))
    return out


@pattern(lambda status, value: status == "completed" and len(value) == 4, drive=_send_eight)
async def signal_step_and_timer_race() -> list[list[str]]:
    out: list[list[str]] = []
    for i in range(4):
        racers: list[asyncio.Task[Any]] = [
            asyncio.create_task(wait_for_signal("a", int)),
            asyncio.create_task(stubborn(i)),
            asyncio.create_task(asyncio.sleep(TICK / 2, "timer")),
        ]
        done, pending = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        out.append([str(task.result()) for task in done])
    return out


@workflow
async def small_child(n: int) -> int:
    parts = await asyncio.gather(*(echo(i) for i in range(n)))
    await asyncio.sleep(TICK / 4)
    return sum(parts)


@workflow
async def failing_child() -> int:
    return await fails(1)


@workflow
async def middle_child() -> list[Any]:
    total = await small_child(2)
    try:
        await failing_child()
    except ValueError as error:
        return [total, error.args[0]]
    return []


KIDS |= {kid.name: kid for kid in (small_child, failing_child, middle_child)}


@pattern(gives([[1, 3, 6], [1, 1]]))
async def children() -> list[Any]:
    return [await asyncio.gather(small_child(2), small_child(3), small_child(4)), await middle_child()]


@pattern(lambda status, value: status == "completed" and len(value) == 3 and set(value) <= {3, -1})
async def child_under_timeout() -> list[int]:
    out: list[int] = []
    for _ in range(3):
        try:
            out.append(await asyncio.wait_for(small_child(3), TICK * 3))
        except TimeoutError:
            out.append(await at_once(-1))
    return out


# ---------------------------------------------------------------- libraries


@pattern(lambda status, value: status == "completed" and value[-1] == [0, 1, 10, 11, 20, 21])
async def anyio_groups_and_scopes() -> list[Any]:
    out: list[Any] = []

    async def one(i: int) -> None:
        try:
            out.append(await (fails(i) if i == 2 else stubborn(i)))
        except BaseException:
            out.append(-i)
            raise
        finally:
            with anyio.CancelScope(shield=True):
                out.append(await at_once(i))
                await anyio.sleep(TICK / 5)

    try:
        async with anyio.create_task_group() as group:
            for i in range(4):
                group.start_soon(one, i)
    except* ValueError:
        out.append("group")
    for i in range(3):
        with anyio.move_on_after(TICK / 2) as scope:
            out.append(await tidy(i))
        out.append(scope.cancelled_caught)
    sender, receiver = anyio.create_memory_object_stream[int](2)
    received: list[int] = []

    async def produce(mine: Any, k: int) -> None:
        async with mine:
            for i in range(2):
                await mine.send(await echo(k * 10 + i))

    async with anyio.create_task_group() as group, receiver:
        for k in range(3):
            group.start_soon(produce, sender.clone(), k)
        sender.close()
        async for i in receiver:
            received.append(i)
    return [*out, sorted(received)]


@pattern(lambda status, value: status == "completed" and value[-1] == 3 and "f" in value)
async def anyio_unshielded_finally() -> list[Any]:
    out: list[Any] = []
    with anyio.move_on_after(TICK):
        try:
            await stubborn(1)
            await anyio.sleep(10)
        finally:
            try:
                out.append(await stubborn(2))
            finally:
                out.append("f")
    return [*out, await echo(3)]


@pattern(lambda status, value: status == "completed" and len(value) == 3)
async def tenacity_retries() -> list[Any]:
    out: list[Any] = []
    for i in range(3):
        try:
            async for attempt in tenacity.AsyncRetrying(
                stop=tenacity.stop_after_attempt(4), wait=tenacity.wait_fixed(TICK / 4)
            ):
                with attempt:
                    out.append(await moody(i))
        except tenacity.RetryError:
            out.append("gave up")
    return out
