"""Very many runs that wait: `waiting STORE FOLDER RUNS SIGNALLED`.

Each waits in a nested gather on a timer and a signal. Prints a line of JSON: seconds (and seconds of CPU) until all wait,
bytes of memory per run above what the process took before them, seconds until the signalled ones were sent for and until
each had answered. What they answered is compared.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from bench.engines.reprise_jobs import url
from reprise import Reprise, step, wait_for_signal, workflow

AT_ONCE = 1000
"""Starts under way at one time."""
FIRST = 10
"""Runs before the memory that the process takes without them is looked at: what is loaded once is loaded then."""


@step
async def settle(n: int) -> int:
    """Do what was waited for."""
    return n + 1


@workflow
async def order(n: int) -> list[Any]:
    """Wait for a signal, and no longer than a day."""
    came = asyncio.Event()

    async def signal() -> int:
        value = await wait_for_signal("go", int)
        came.set()
        return value

    async def timer() -> str:
        try:
            async with asyncio.timeout(86_400):
                await came.wait()
        except TimeoutError:
            return "late"
        return "in time"

    async def both() -> tuple[int, str]:
        return await asyncio.gather(signal(), timer())

    ((value, when),) = await asyncio.gather(both())
    return [n, await settle(value), when]


def memory() -> int:
    """Return the bytes of memory that this process has."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def every(numbers: range, count: int) -> Iterator[int]:
    """Yield some of the numbers, spread over all."""
    yield from numbers[:: max(1, len(numbers) // count)][:count]


async def start(app: Reprise, numbers: range) -> None:
    """Start runs and wait until all of them wait and no more are in memory than may be."""
    for first in range(0, len(numbers), AT_ONCE):
        wave = numbers[first : first + AT_ONCE]
        await asyncio.gather(*(app.start(order, n, id=f"order-{n}") for n in wave))
    loaded = app.engine.loaded
    while len(loaded.idle) < len(loaded.runs) or len(loaded.runs) > loaded.most:  # noqa: ASYNC110  nobody tells
        await asyncio.sleep(0.01)


async def wake(app: Reprise, numbers: list[int]) -> tuple[float, float]:
    """Signal runs at once; return the seconds until that was done, and until all had answered rightly."""
    began = perf_counter()
    await asyncio.gather(*(app.client.signal(f"order-{n}", "go", 10 * n) for n in numbers))
    sent = perf_counter() - began
    answers = await asyncio.gather(*(app.handle(f"order-{n}", order).result() for n in numbers))
    assert answers == [[n, 10 * n + 1, "in time"] for n in numbers], "wrong answers"
    return sent, perf_counter() - began


async def main(store: str, folder: Path, count: int, signalled: int) -> dict[str, float]:
    """Measure."""
    async with Reprise(url(store, folder), workflows=[order], capture_logs=False) as app:
        await start(app, range(-FIRST, 0))
        await wake(app, list(range(-FIRST, 0)))
        before, began, cpu = memory(), perf_counter(), process_time()
        await start(app, range(count))
        waiting, waiting_cpu = perf_counter() - began, process_time() - cpu
        after = memory()
        statuses = await app.store.runs.count()
        assert statuses.get("waiting", 0) + len(app.engine.executions) == count, statuses
        cpu = process_time()
        sent, answered = await wake(app, list(every(range(count), signalled)))
        return {
            "waiting": waiting,
            "waiting_cpu": waiting_cpu,
            "bytes": (after - before) / count,
            "sent": sent,
            "answered": answered,
            "answered_cpu": process_time() - cpu,
            "loaded": app.engine.loaded.most,
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))))
