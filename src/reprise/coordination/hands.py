"""Handlers of tasks: coroutine functions, plain functions in threads, each for as long as its type may take."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeAlias

from reprise.coordination.tasks import Task
from reprise.kernel.policy import Duration, seconds

Handler: TypeAlias = "Callable[[Task], Any]"
"""Does a task and returns its result; a plain function is called in a thread."""
Handlers: TypeAlias = "Mapping[str, Handler] | Handler"
"""By task type (``"*"`` = all others), or one for all."""
Limits: TypeAlias = "Duration | Mapping[str, Duration] | None"
"""Seconds that a try may take, for all types or by type (``"*"`` = all others)."""
Called: TypeAlias = "Callable[[Task], Awaitable[Any]]"
"""A handler as it is called."""


class Hands:
    """Those who do the tasks of a worker, ``count`` at one time."""

    def __init__(self, handlers: Handlers, timeouts: Limits, count: int, name: str) -> None:
        by_type = {"*": handlers} if callable(handlers) else handlers
        self._handlers = {type: self._awaited(handler) for type, handler in by_type.items()}
        limits = timeouts if isinstance(timeouts, Mapping) else {} if timeouts is None else {"*": timeouts}
        self._timeouts = {type: seconds(limit, f"timeout of {type}") for type, limit in limits.items()}
        self._count, self._name = count, name
        self._threads: ThreadPoolExecutor | None = None

    def can_do(self, task: Task) -> bool:
        """Return whether there is a handler for a task."""
        return task.task_type in self._handlers or "*" in self._handlers

    async def do(self, task: Task) -> Any:
        """Do a task and return its result; raises what its handler raises, and ``TimeoutError``."""
        handler = self._handlers.get(task.task_type) or self._handlers["*"]
        limit = self._timeouts.get(task.task_type, self._timeouts.get("*"))
        if limit is None:
            return await handler(task)
        within = asyncio.timeout(limit)
        try:
            async with within:
                return await handler(task)
        except TimeoutError as error:
            if within.expired():
                raise TimeoutError(f"it took longer than {limit:g} s") from error
            raise

    def close(self) -> None:
        """Begin no more threads; what still runs in one goes on."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    def _awaited(self, handler: Handler) -> Called:
        """Return a handler that is awaited; a plain function is called in a thread, in the context of its task."""
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
            return handler

        async def in_thread(task: Task) -> Any:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
            context, loop = copy_context(), asyncio.get_running_loop()
            result = await loop.run_in_executor(self._threads, lambda: context.run(handler, task))
            return await result if inspect.isawaitable(result) else result

        return in_thread
