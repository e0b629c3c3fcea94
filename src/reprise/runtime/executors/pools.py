"""Which pool executes a step: that of all, or one of its executor's own capacity."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from reprise.kernel.settings import ProcessSettings
from reprise.runtime.executors.executor import Executor
from reprise.runtime.executors.here import Inline, Threads
from reprise.runtime.executors.processes import Processes
from reprise.runtime.host import Job
from reprise.runtime.payloads import Payloads
from reprise.runtime.pool import Pool


def all_executors(
    concurrency: int,
    processes: ProcessSettings | None,
    payloads: Payloads,
    variables: Mapping[str, ContextVar[Any]],
) -> dict[str, Executor]:
    """Return the executors that are always there, by the names that steps declare."""
    return {
        "inline": Inline(),
        "thread": Threads(concurrency),
        "process": Processes(processes or ProcessSettings(), payloads, variables),
    }


class Pools:
    """The pools of one engine, to be used as one.

    A step that waits for a process must not hold up others, nor should its timeout run: an executor with a capacity has a
    pool of as many drivers, made when a step first needs it. ``make`` makes a pool of so many drivers.
    """

    def __init__(
        self, executors: Mapping[str, Executor], concurrency: int, make: Callable[[int], Pool]
    ) -> None:
        self._executors = executors
        self._make = make
        self._own: dict[str, Pool] = {}
        self.shared = make(concurrency)

    def start(self, jobs: Sequence[Job]) -> None:
        """Execute jobs as soon as drivers of their pools are free, in order."""
        start = self.shared.start
        for job in jobs:
            if job.step.elsewhere:
                self._of(job).start(job)
            else:
                start(job)

    def stop(self, job: Job) -> None:
        """Ask a job to stop. One that waits for a driver or a retry ends at once."""
        self._of(job).stop(job)

    def _of(self, job: Job) -> Pool:
        name: str = job.step.executor
        pool = self._own.get(name)
        if pool is not None:
            return pool
        executor = self._executors.get(name)
        if executor is None or executor.capacity is None:
            return self.shared
        pool = self._own[name] = self._make(executor.capacity)
        return pool

    def _each(self) -> Sequence[Pool]:
        return (self.shared, *self._own.values())

    @property
    def executing(self) -> int:
        """How many drivers execute steps, or are about to."""
        return self.shared.executing + sum([pool.executing for pool in self._own.values()])

    async def close(self, grace: float) -> None:
        """Let running steps end within ``grace`` seconds, stop the others, and release everything."""
        await asyncio.gather(*(pool.close(grace) for pool in self._each()))
        await asyncio.gather(*(executor.close() for executor in self._executors.values()))

    def statistics(self) -> dict[str, int]:
        """Return counts of steps, and those of the executors."""
        counts = {
            "steps": sum(pool.executed for pool in self._each()),
            "retries": sum(pool.retried for pool in self._each()),
        }
        for executor in self._executors.values():
            counts |= executor.statistics()
        return counts
