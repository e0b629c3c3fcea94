"""The way for code without an event loop: one thread with a loop, to which calls are handed and whose answers are waited for."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from reprise.kernel.errors import ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")


class Portal:
    """One thread with an event loop, begun by the first call and shared by all threads that call.

    >>> portal = Portal("example")
    >>> portal.call(asyncio.sleep, 0, "done")
    'done'
    >>> portal.stop()
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = 0

    def call(self, function: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **options: P.kwargs) -> T:
        """Call an async function over there; return or raise what it does. Ctrl-C here cancels it there.

        Raises:
            ConfigurationError: called from an event loop, which it would hold up, or in a child of the process that
                began it.
        """
        _refuse_loop(self._name)
        loop = self._running()
        future = asyncio.run_coroutine_threadsafe(function(*args, **options), loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the thread; idempotent. A later call begins another one."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None or self._process != os.getpid():
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is not None and self._process != os.getpid():
                raise ConfigurationError(
                    f"{self._name} was used before this process was forked off, and its thread is not here.",
                    hint="Make it in the child, after the fork.",
                )
            if self._loop is None:
                self._process = os.getpid()
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop,), name=f"reprise-{self._name}", daemon=True
                )
                self._thread.start()
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()


def _refuse_loop(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigurationError(
        f"{name} was called from an event loop, which would stand still meanwhile.",
        hint="Await the same method of the object itself, without .sync.",
    )
