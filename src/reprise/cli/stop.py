"""Ctrl-C and SIGTERM: once = stop in order, twice = leave at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from reprise.kernel.machine import ExitCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 0.5
"""Seconds that an idle thread may take to end."""
_SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def stopping() -> Generator[asyncio.Future[int]]:
    """Give a future that the first signal resolves with its number; the second ends the process.

    These are handlers of the interpreter, not of the loop: also a program whose loop is blocked by a step can be left.
    """
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[int] = loop.create_future()
    count = 0

    def resolve(number: int) -> None:
        if not asked.done():
            asked.set_result(number)

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count == 1:
            loop.call_soon_threadsafe(resolve, number)
            return
        if sys.stderr.isatty():
            os.write(2, _SHOW_CURSOR.encode())
        os._exit(ExitCode.INTERRUPTED)

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int) -> int:
    """Return an exit code; if steps still run in threads, which nothing can stop, end the process here.

    The interpreter would wait for them, and what they return is refused by the log anyway. Call it when all is closed.
    """
    for thread in threading.enumerate():
        if thread.name.startswith("reprise-step"):
            thread.join(_PATIENCE)
            if thread.is_alive():
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    return code
