"""Take a body out of memory without letting it do anything.

A body is never left to the garbage collector: its ``finally`` would run at some later moment, inside another run's
drain, with that run's identity. Instead each suspended coroutine is closed now, in its own context, with the loop of
the run refusing every call.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import events
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, cast

from reprise.runtime.handles import RunTask
from reprise.runtime.loop import REFUSALS, RunLoop

GRAVEYARD: list[Coroutine[Any, Any, Any]] = []
"""Coroutines that catch everything in a loop and so cannot be closed; kept, and counted, rather than collected."""


def unwind(loop: RunLoop, tasks: Sequence[RunTask], context: Context) -> None:
    """Close the coroutines of ``tasks`` (innermost last started first) and the loop's async generators."""
    loop.refuse()
    outer = events._get_running_loop()
    current = asyncio.current_task(outer) if outer is not None else None
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    if outer is not None and current is not None:
        asyncio.tasks._leave_task(outer, current)
    events._set_running_loop(loop)
    try:
        for task in reversed(tasks):
            if not task.done():
                _close_task(loop, task)
            elif not task.cancelled():
                task.exception()  # looked at, so that nobody is told that nobody did
        for generator in [*loop.lost_generators, *(loop.generators or ())]:
            _close_generator(generator, context)
    finally:
        events._set_running_loop(outer)
        sys.set_asyncgen_hooks(*hooks)
        if outer is not None and current is not None:
            asyncio.tasks._enter_task(outer, current)
    loop.refusals = REFUSALS
    for task in tasks:
        _loosen(task)
    loop.lost_generators.clear()
    loop.ready.clear()
    loop.timers.clear()
    loop.to_arm.clear()
    loop.tasks.clear()


def _close_task(loop: RunLoop, task: RunTask) -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coro = task.get_coro()
    assert coro is not None
    asyncio.tasks._enter_task(loop, task)
    try:
        # A ``finally`` that waits for a lock or for sleep(0) does not end at the first call: each stops one wait.
        if not any(_closed(task.context, coro.close) for _ in range(REFUSALS)):
            GRAVEYARD.append(coro)  # type: ignore[arg-type]
    finally:
        asyncio.tasks._leave_task(loop, task)


def _loosen(task: RunTask) -> None:
    """Let a task that will never end, and what it waits for, know each other no longer.

    They would hold each other in memory, and with them the whole body, until the cycle collector comes by: with ten
    thousand bodies that is late.
    """
    waits_for = cast("asyncio.Future[Any] | None", task._fut_waiter)  # type: ignore[attr-defined]
    if waits_for is not None:
        asyncio.Future[Any].cancel(waits_for)
    asyncio.Future[Any].cancel(task)


def _closed(context: Context, close: Callable[[], None]) -> bool:
    try:
        context.run(close)
    except RuntimeError as error:
        return "ignored GeneratorExit" not in str(error)
    except BaseException:  # noqa: S110  (what a body raises while it is unwound is nobody's news)
        pass
    return True


def _close_generator(generator: Any, context: Context) -> None:
    # Up to Python 3.12 closing a task does not unwind an async generator that is itself waiting.
    waiting = generator.ag_await
    for close in (getattr(waiting, "close", None), lambda: generator.aclose().send(None)):
        if close is None:
            continue
        try:
            context.run(close)
        except BaseException:  # noqa: S110
            pass
