"""Open an engine, do the jobs that are asked for on standard input, answer what they cost."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TextIO

from bench.engines.work import Work
from bench.measure.counters import counters, peak_mb

_numbers = count(1)


class Jobs(Protocol):
    """An open engine."""

    async def chain(self, run: str, steps: int, pause: float) -> None:
        """Execute one run whose steps follow each other."""
        ...

    async def fan(self, run: str, steps: int, pause: float) -> None:
        """Execute one run whose steps start at once."""
        ...


async def do(jobs: Jobs, job: str, steps: int, pause: float, runs: int) -> None:
    """Do a job once."""
    names = [f"run-{next(_numbers)}" for _ in range(runs)]
    work: list[Coroutine[Any, Any, None]] = [getattr(jobs, job)(name, steps, pause) for name in names]
    await (work[0] if len(work) == 1 else asyncio.gather(*work))


async def measured(
    jobs: Jobs,
    work: Work,
    *,
    job: str,
    steps: int,
    pause: float = 0.0,
    runs: int = 1,
    marks: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Do a job once and return what it cost."""
    gc.collect()
    before = len(work.made)
    work.clocks = dict.fromkeys(marks)
    start = (*counters(), time.process_time(), time.thread_time(), time.perf_counter())
    await do(jobs, job, steps, pause, runs)
    end = (*counters(), time.process_time(), time.thread_time(), time.perf_counter())
    assert len(work.made) - before == steps * runs, f"{len(work.made) - before} steps were executed"
    syncs, written, process, loop, seconds = (b - a for a, b in zip(start, end, strict=True))
    return {
        "steps": steps * runs,
        "seconds": seconds,
        "loop_cpu": loop,
        "other_cpu": process - loop,
        "syncs": syncs,
        "written": written,
        "rss": peak_mb(),
        "clocks": work.clocks,
    }


async def serve(engine: str, store: str, folder: Path, answers: TextIO) -> None:
    """Answer until standard input ends; then leave the values behind."""
    work = Work()
    opened: AbstractAsyncContextManager[Jobs] = import_module(f"bench.engines.{engine}_jobs").opened(
        store, folder, work
    )
    async with opened as jobs:
        print(json.dumps("ready"), file=answers, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            times = command.pop("times")
            print(
                json.dumps([await measured(jobs, work, **command) for _ in range(times)]),
                file=answers,
                flush=True,
            )
    work.save(folder)


def main() -> None:
    """Keep standard output for answers: whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine, store, folder = sys.argv[1:]
    asyncio.run(serve(engine, store, Path(folder), answers))


if __name__ == "__main__":
    main()
