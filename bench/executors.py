"""What a step costs inline, in a thread and in a process, warm and cold, beside `concurrent.futures.ProcessPoolExecutor`.

One step after another in one run on a memory store, so that the log costs little. The pool of the standard library is
called from a step, with pickle, and can neither be cancelled nor limited.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from time import perf_counter

from bench.measure.report import Floors, figure, table
from bench.programs import calls
from reprise import Reprise, step, workflow

Call = Callable[[str], Awaitable[str]]

SIZES = {"16 B": 16, "100 kB": 100_000}
ROUNDS, STEPS = 7, 300
MOST_RATIO = 2.0
"""A warm process may cost this many times what the standard library's costs; what it adds is in the guide."""


def main(*, once: bool) -> bool:
    """Print the table; return whether the floors were kept."""
    return asyncio.run(_main(once=once))


async def _main(*, once: bool) -> bool:
    rounds, steps = (1, 5) if once else (ROUNDS, STEPS)
    floors = Floors()
    pool = _pool()

    @step
    async def standard_library(value: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(pool, calls.same, value)

    called: dict[str, Call] = {
        "inline, async": calls.inline_async,
        "inline, sync": calls.inline_sync,
        "thread": calls.thread,
        "process": calls.process,
        "process with limits": calls.limited,
        "ProcessPoolExecutor": standard_library,
    }
    costs: dict[tuple[str, str], list[float]] = {}
    async with Reprise("memory://", processes=1) as app:
        for _ in range(rounds + 1):  # the first one warms up
            for size, bytes in SIZES.items():
                for name, call in called.items():
                    costs.setdefault((name, size), []).append(await _cost(app, call, "x" * bytes, steps))
    pool.shutdown()
    costs = {key: each[1:] for key, each in costs.items()}
    cold = [await _cold_process() for _ in range(rounds)]
    theirs = [await asyncio.to_thread(_cold_pool) for _ in range(rounds)]
    rows = [(name, *(_spread(costs[name, size]) for size in SIZES)) for name in called]
    table(("a step, µs (least – most)", *SIZES), rows)
    print()
    cold_rows = [("process", _spread(cold)), ("ProcessPoolExecutor", _spread(theirs))]
    table(("first step of a fresh pool, ms", ""), cold_rows)
    for size in SIZES:
        ours = [
            a / b for a, b in zip(costs["process", size], costs["ProcessPoolExecutor", size], strict=True)
        ]
        floors.most(f"process / ProcessPoolExecutor, {size}", median(ours), MOST_RATIO, unit="times")
    floors.print()
    return once or floors.kept


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


async def _cost(app: Reprise, call: Call, value: str, steps: int) -> float:
    """Return microseconds of a step."""

    @workflow(name=f"chain-{id(call)}-{len(value)}")
    async def chain() -> float:
        for _ in range(steps):
            await call(value)
        return 0.0

    known = app.registry.get(chain.name)
    begun = perf_counter()
    await app.run(known or chain)
    return (perf_counter() - begun) / steps * 1e6


async def _cold_process() -> float:
    async with Reprise("memory://", processes=1) as app:
        return await _cost(app, calls.process, "x", 1) / 1000


def _cold_pool() -> float:
    begun = perf_counter()
    with _pool() as pool:
        pool.submit(calls.same, "x").result()
        return (perf_counter() - begun) * 1000


def _spread(values: list[float]) -> str:
    return f"{figure(median(values))} ({figure(min(values))} – {figure(max(values))})"
