"""Workflows of several shapes, what each must come to, and a ledger of what their steps executed."""

from __future__ import annotations

import asyncio
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.crash.ledger import Began, Ended, Ledger

from reprise import Retry, step, wait_for_signal, workflow
from reprise.runtime.pool import STEP

EXECUTED = "executed.jsonl"

_ledger: list[Ledger] = []


def keep_ledger(folder: Path) -> None:
    """Let the steps of this process write what they execute."""
    _ledger[:] = [Ledger(folder / EXECUTED)]


@contextmanager
def executing() -> Iterator[int]:
    """Write that a step began and ended; gives the number of the attempt."""
    job = STEP.get()
    fields = (job.execution.id, job.key, job.attempt, job.execution.token, os.getpid())
    _ledger[0].write(Began(*fields))
    try:
        yield job.attempt
    finally:
        _ledger[0].write(Ended(*fields))


def seconds_of(n: int, most: float) -> float:
    """Return a time that differs from call to call and is the same in every process."""
    return zlib.crc32(b"%d" % n) / 2**32 * most


@step
async def square(n: int) -> int:
    with executing():
        await asyncio.sleep(seconds_of(n, 0.02))
        return n * n


@step
def cube(n: int) -> int:
    with executing():
        time.sleep(seconds_of(n, 0.01))
        return n**3


@step(pure=True)
async def pure_square(n: int) -> int:
    with executing():
        await asyncio.sleep(seconds_of(n, 0.002))
        return n * n


@step(retry=Retry(5, backoff=0.005))
async def flaky(n: int) -> int:
    with executing() as attempt:
        await asyncio.sleep(seconds_of(n, 0.005))
        if attempt <= n % 3:
            raise ConnectionError(f"attempt {attempt} of {n}")
        return n + 1000


@step
async def slow(n: int) -> int:
    with executing():
        await asyncio.sleep(0.3 + seconds_of(n, 0.2))
        return -n


@workflow
async def chain(n: int) -> list[int]:
    values = [await square(n + i) for i in range(4)]
    values.append(await cube(n))
    values += [await flaky(n + i) for i in range(3)]
    return values


@workflow
async def fan(n: int) -> int:
    squares = await asyncio.gather(*(square(n + i) for i in range(12)), *(cube(n + i) for i in range(4)))
    return sum(squares) + await flaky(n)


@workflow
async def timers(n: int) -> list[int]:
    values = [await square(n)]
    await asyncio.sleep(0.01)
    try:
        async with asyncio.timeout(0.02):
            await asyncio.sleep(3600)
    except TimeoutError:
        values.append(-1)
    async with asyncio.timeout(3600):
        values.append(await flaky(n))
    await asyncio.gather(*(asyncio.sleep(0.001 * i) for i in range(5)))
    return values


@workflow
async def child(n: int) -> int:
    return await square(n) + await flaky(n)


@workflow
async def parent(n: int) -> list[int]:
    first = await child(n)
    return [first, *await asyncio.gather(*(child(n + i) for i in range(1, 4)))]


@workflow
async def letters(n: int) -> list[int]:
    """Four signals: the first comes with the start, one before a step, two around it."""
    values = [await wait_for_signal("go", int), await wait_for_signal("go", int), await square(n)]
    return [*values, await wait_for_signal("go", int), await wait_for_signal("go", int)]


@workflow
async def pool(n: int) -> dict[str, int]:
    """Three workers of the body's own take work from a queue."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    done: dict[str, int] = {}

    async def work() -> None:
        while True:
            item = await queue.get()
            done[str(item)] = await square(item)
            queue.task_done()

    for i in range(8):
        queue.put_nowait(n + i)
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work()) for _ in range(3)]
        await queue.join()
        for worker in workers:
            worker.cancel()
    return dict(sorted(done.items()))


@workflow
async def ahead(n: int) -> list[int]:
    """Results that run ahead of the log, beside and before plain steps."""
    first, *rest = await asyncio.gather(square(n), *(pure_square(n + i) for i in range(4)))
    values = [await pure_square(n + i) for i in range(6)]
    return [first, *rest, *values, await flaky(n), await pure_square(n), await cube(n)]


@workflow
async def slow_fan(n: int) -> int:
    return sum(await asyncio.gather(*(slow(i) for i in range(n))))


@workflow
async def wide(n: int) -> int:
    return sum(await asyncio.gather(*(square(i) for i in range(n))))


def _child(n: int) -> int:
    return n * n + n + 1000


EXPECTED: dict[str, Callable[[int], object]] = {
    "chain": lambda n: [*((n + i) ** 2 for i in range(4)), n**3, *(n + i + 1000 for i in range(3))],
    "fan": lambda n: sum((n + i) ** 2 for i in range(12)) + sum((n + i) ** 3 for i in range(4)) + n + 1000,
    "timers": lambda n: [n * n, -1, n + 1000],
    "child": _child,
    "parent": lambda n: [_child(n + i) for i in range(4)],
    "letters": lambda n: [n, n + 1, n * n, n + 2, n + 3],
    "pool": lambda n: {str(i): i * i for i in sorted(range(n, n + 8), key=str)},
    "ahead": lambda n: [
        *((n + i) ** 2 for i in (0, *range(4), *range(6))),
        n + 1000,
        n * n,
        n**3,
    ],
    "slow_fan": lambda n: -sum(range(n)),
    "wide": lambda n: (n - 1) * n * (2 * n - 1) // 6,
}
"""What each shape must return, by a way that has nothing to do with runs."""
WORKFLOWS = (chain, fan, timers, child, parent, letters, pool, ahead, slow_fan, wide)
BY_NAME = {flow.name: flow for flow in WORKFLOWS}
MIX = ("chain", "fan", "timers", "parent", "letters", "pool", "ahead")
"""Shapes that the client starts in turn."""
LETTERS = 4


def id_of(index: int) -> str:
    """Return the id of the client's run of that number; its shape and argument follow from it."""
    return f"{MIX[index % len(MIX)]}-{index}"


def shape_of(run: str) -> str:
    """Return the workflow of one of the client's runs."""
    return run.rpartition("-")[0]
