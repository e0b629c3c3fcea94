"""Patterns made for one rule each of the ready queue; they are part of the corpus."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

from tests.replay.patterns import TICK, abandoned, at_once, echo, gives, nap, pattern, stubborn

from reprise import current_run, current_step, step

CHOICE: ContextVar[int] = ContextVar("choice")
running: set[str] = set()
shared: dict[str, list[int]] = {}


@step
async def slow_to_stop(i: int) -> int:
    """Is busy until it has cleaned up."""
    me = f"{current_step().run} {i}"
    running.add(me)
    try:
        await asyncio.sleep(1)
    finally:
        await asyncio.sleep(nap())
        running.discard(me)
    return i


@step
async def still_running(i: int) -> bool:
    return f"{current_step().run} {i}" in running


@step
async def the_shared_list() -> list[int]:
    return shared.setdefault(current_step().run, [1])


@step
async def asks_another_step() -> int:
    return CHOICE.get() + await at_once(1)


@step
async def collect() -> None:
    gc.collect()


@pattern(lambda status, value: status == "completed" and value in (0, 1))
async def late_record_after_the_end() -> int:
    """Two are asked and one answers: the other's record may stand behind the one that ended the body."""
    calls = [asyncio.create_task(abandoned.options(timeout=None)(i)) for i in range(2)]
    done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return min(task.result() for task in done)


@pattern(gives(["cancelled", False]))
async def cancelled_step_has_stopped() -> list[Any]:
    number = current_run().random().getrandbits(32)
    task = asyncio.create_task(slow_to_stop(number))
    await echo(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return ["cancelled", await still_running(number)]
    return []


@pattern(gives([2, 1, 1]))
async def results_are_nobody_elses() -> list[int]:
    first = await the_shared_list()
    first.append(2)
    second = await the_shared_list()
    return [len(first), len(second), await at_once(len(second))]


@pattern(gives([4, 4]))
async def steps_see_the_callers_variables() -> list[int]:
    async def one() -> int:
        CHOICE.set(3)
        return await asks_another_step()

    return await asyncio.gather(one(), one())


@pattern(lambda status, value: status == "completed" and value >= 1)
async def time_decides() -> int:
    loop = asyncio.get_running_loop()
    until = loop.time() + TICK * 2
    count = 0
    while loop.time() < until:
        await echo(count)
        count += 1
    return count


@pattern(lambda status, value: status == "completed" and sorted(value) == [0, 1, 2, 3, 4, 5])
async def sets_in_order() -> list[int]:
    """What a set of tasks gives first decides which step is called first."""
    out: list[int] = []

    async def one(i: int) -> int:
        await echo(0)
        return i

    tasks = {asyncio.create_task(one(i)) for i in range(6)}
    await asyncio.wait(tasks)
    for task in tasks:
        out.append(await echo(task.result()))
    return out


@pattern(lambda status, value: status == "completed" and sorted(value) == ["spun", "step"])
async def long_drain() -> list[str]:
    """A drain longer than its slice pauses; what is recorded meanwhile must wait."""
    out: list[str] = []

    async def spins() -> None:
        await at_once(0)
        for _ in range(400):
            await asyncio.sleep(0)
        out.append("spun")

    async def steps() -> None:
        await echo(1)
        out.append("step")

    await asyncio.gather(spins(), steps())
    await at_once(len(out[0]))
    return out


@pattern(gives([0, 8, 9]))
async def lost_generator() -> list[int]:
    out: list[int] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for i in range(3):
                yield await echo(i)
        finally:
            await stubborn(1)

    async for i in numbers():
        out.append(i)
        break
    out.append(await echo(8))
    return [*out, await at_once(9)]


@pattern(gives(7))
async def starts_with_nothing() -> int:
    return await at_once(CHOICE.get(7))
