"""Handlers of tasks: coroutine functions, plain functions in threads, each for as long as its type may take."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeAlias, cast

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


class _Limit:
    """For how long each of many may take at most; one timer for all, where ``asyncio.timeout`` has one for each."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[asyncio.Task[Any], float] = {}
        """Who is at it, and until when: who began first is the first, and the first whose time is over."""
        self._late: dict[asyncio.Task[Any], int] = {}
        """Whose time is over, and how often somebody had cancelled them before."""
        self._timer: asyncio.TimerHandle | None = None

    async def hold(self, work: Awaitable[Any]) -> Any:
        """Await something for as long as it may take. Raises ``TimeoutError``; one call at a time in a task."""
        me = cast("asyncio.Task[Any]", asyncio.current_task())
        loop = asyncio.get_running_loop()
        self._until[me] = until = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(until, self._look, loop)
        try:
            return await work
        except asyncio.CancelledError as error:
            # Only a cancel of ours is ours to take back: whoever else cancels means what waits for this, too.
            if me in self._late and me.uncancel() <= self._late[me]:
                raise TimeoutError(f"it took longer than {self._seconds:g} s") from error
            raise
        finally:
            self._until.pop(me, None)
            self._late.pop(me, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel those whose time is over, and come again for the next."""
        self._timer = None
        for task, until in tuple(self._until.items()):
            if until > loop.time():
                self._timer = loop.call_at(until, self._look, loop)
                return
            del self._until[task]
            self._late[task] = task.cancelling()
            task.cancel()


class Hands:
    """Those who do the tasks of a worker, ``count`` at one time."""

    def __init__(self, handlers: Handlers, timeouts: Limits, count: int, name: str) -> None:
        by_type = {"*": handlers} if callable(handlers) else handlers
        self._handlers = {type: self._awaited(handler) for type, handler in by_type.items()}
        limits = timeouts if isinstance(timeouts, Mapping) else {} if timeouts is None else {"*": timeouts}
        self._limits = {type: _Limit(seconds(limit, f"timeout of {type}")) for type, limit in limits.items()}
        self._count, self._name = count, name
        self._threads: ThreadPoolExecutor | None = None

    def can_do(self, task: Task) -> bool:
        """Return whether there is a handler for a task."""
        return task.task_type in self._handlers or "*" in self._handlers

    async def do(self, task: Task) -> Any:
        """Do a task and return its result; raises what its handler raises, and ``TimeoutError``."""
        handler = self._handlers.get(task.task_type) or self._handlers["*"]
        limit = self._limits.get(task.task_type) or self._limits.get("*")
        return await handler(task) if limit is None else await limit.hold(handler(task))

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
