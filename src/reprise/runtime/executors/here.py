"""Executors of this process: on the event loop, and in threads."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from reprise.runtime.branch import RUN
from reprise.runtime.host import STEP, Job


class Inline:
    """Calls functions on the loop of the worker. What does not await holds up everything else there."""

    capacity = None

    async def execute(self, job: Job) -> Any:
        """Call the function; in the caller's context, if that holds something."""
        step = job.step
        if step.is_sync:
            if job.context is None:
                return step.function(*job.args, **job.kwargs)
            return outside(job.context, job).run(step.function, *job.args, **job.kwargs)
        if job.context is None:
            return await step.function(*job.args, **job.kwargs)
        calling = step.function(*job.args, **job.kwargs)
        return await asyncio.get_running_loop().create_task(calling, context=outside(job.context, job))

    def statistics(self) -> dict[str, int]:
        """Return nothing: there is nothing to count."""
        return {}

    async def close(self) -> None:
        """Do nothing: the loop is not ours."""


class Threads:
    """Calls synchronous functions in threads. A thread cannot be stopped: who cancels only waits no longer."""

    capacity = None

    def __init__(self, most: int) -> None:
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="reprise-step")

    async def execute(self, job: Job) -> Any:
        """Call the function in a thread, in a copy of the caller's context."""
        step = job.step
        context = contextvars.copy_context() if job.context is None else outside(job.context, job)
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: context.run(step.function, *job.args, **job.kwargs)
        )

    def statistics(self) -> dict[str, int]:
        """Return nothing: there is nothing to count."""
        return {}

    async def close(self) -> None:
        """Take no more calls; those that run are left to end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def outside(context: contextvars.Context, job: Job) -> contextvars.Context:
    """Return the caller's context without the run, so that what the step calls is not taken for the body."""
    context = context.copy()
    context.run(RUN.set, None)
    context.run(STEP.set, job)
    return context
