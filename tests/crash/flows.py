"""Workflows of several shapes, what each must come to, and a ledger of what their steps executed."""

from __future__ import annotations

import asyncio
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.crash.ledger import Began, Ended, Ledger

from reprise import Retry, WorkflowOrchestrator, WorkflowStep, step, wait_for_signal, workflow
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


async def agent(agent_type: str, task: int, context: dict[str, Any]) -> int:
    """Do the steps of a plan: square, but for those who fail twice, and those who always do."""
    with executing() as attempt:
        await asyncio.sleep(seconds_of(task, 0.01))
        if agent_type == "broken" or (agent_type == "flaky" and attempt < 3):
            raise ValueError(task) if agent_type == "broken" else ConnectionError(task)
        return task * task


def _layered() -> WorkflowOrchestrator:
    made = WorkflowOrchestrator("layered", max_concurrent=3, output={"each": "${steps.each.result}",
        "best": "${steps.best.result}", "last": "${steps.last.result}"})  # fmt: skip
    any: dict[str, Any] = {"agent_type": "any", "task": "${inputs.n}", "retry": Retry(4, backoff=0.005)}
    flaky = any | {"agent_type": "flaky"}
    broken = any | {"agent_type": "broken"}
    steps = (
        WorkflowStep(name="first", **any),
        WorkflowStep(name="flaky", **flaky),
        WorkflowStep(name="never", **any, dependencies=("first",), condition="steps.first.result < 0"),
        WorkflowStep(name="passed", **broken, dependencies=("flaky",), on_error="continue"),
        WorkflowStep(name="best", **broken, on_error="fallback", fallback="second"),
        WorkflowStep(name="second", **any, priority="critical"),
        WorkflowStep(
            name="each",
            **any | {"task": "${item}"},
            for_each="inputs.rows",
            concurrency=3,
            dependencies=("never",),
        ),
        WorkflowStep(
            name="last",
            **any | {"task": "${steps.best.result}"},
            dependencies=("best", "passed", "each", "never"),
        ),
    )
    for each in steps:
        made.add_step(each)
    return made


layered = _layered()


@workflow
async def planned(n: int) -> list[object]:
    """A plan, executed in a body: a child run with a map, a skipped step, a fallback, and a failure passed over."""
    result = await layered.execute(agent, inputs={"n": n, "rows": [n + i for i in range(6)]})
    return [result.status, result.output, sorted(result.skipped), sorted(result.errors)]


def _plan_output(n: int) -> dict[str, object]:
    return {"each": [(n + i) ** 2 for i in range(6)], "best": n**2, "last": n**4}


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
    "layered": _plan_output,
    "planned": lambda n: ["partial", _plan_output(n), ["never"], ["best", "passed"]],
    "wide": lambda n: (n - 1) * n * (2 * n - 1) // 6,
}
"""What each shape must return, by a way that has nothing to do with runs."""
WORKFLOWS = (
    chain,
    fan,
    timers,
    child,
    parent,
    letters,
    pool,
    ahead,
    slow_fan,
    wide,
    planned,
    layered.flow(agent),
)
BY_NAME = {flow.name: flow for flow in WORKFLOWS}
MIX = ("chain", "fan", "timers", "parent", "letters", "pool", "ahead", "planned")
"""Shapes that the client starts in turn."""
LETTERS = 4


def is_noted(key: str) -> bool:
    """Tell whether a record under a key is the product's own, which keeps no ledger: a note of a plan, what a service says."""
    return key in ("never", "each") or key.endswith(("/outcome", "/said"))


def id_of(index: int) -> str:
    """Return the id of the client's run of that number; its shape and argument follow from it."""
    return f"{MIX[index % len(MIX)]}-{index}"


def shape_of(run: str) -> str:
    """Return the workflow of one of the client's runs."""
    return run.rpartition("-")[0]
