"""What simulated code must not do: wait for real time, threads, sockets. Here it is noticed and said, not waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from inspect import currentframe
from typing import Any

from reprise.kernel.errors import RepriseError

_WAITING = {"threading", "concurrent", "queue", "asyncio"}
"""Packages that wait on behalf of others."""


class RealWait(RepriseError):
    """Simulated code waits for something that does not pass in virtual time."""

    hint = "Use asyncio.sleep, or do it in a thread with asyncio.to_thread: there it costs virtual time."


class NoOutside(RepriseError):
    """Simulated code reaches for sockets, processes or signals, which a seed cannot repeat."""

    hint = "Hand the code a fake of what is outside, or run this test on a plain loop."


class Reality:
    """What was met of the real world in one simulation.

    ``slept`` counts the seconds that code in a (simulated) thread slept; ``waits`` names places outside of threads.
    """

    def __init__(self) -> None:
        self.slept = 0.0
        self.waits: dict[str, float] = {}
        self.in_thread = False

    def sleep(self, seconds: float) -> None:
        """Take the place of ``time.sleep``."""
        if self.in_thread:
            self.slept += seconds
        else:
            place = _place()
            self.waits[place] = self.waits.get(place, 0.0) + seconds

    def check(self) -> None:
        """Raise the waits that were met.

        Raises:
            RealWait: there were some.
        """
        if self.waits:
            places = ", ".join(f"{place} ({seconds:g} s)" for place, seconds in self.waits.items())
            raise RealWait(f"time.sleep() was called on the event loop: {places}.")

    @contextmanager
    def kept_out(self) -> Generator[None]:
        """Keep code of this thread from real waiting; that of other threads is let alone."""
        here = threading.get_ident()
        sleep, wait = time.sleep, threading.Condition.wait

        def sleep_here(seconds: float, /) -> None:
            (self.sleep if threading.get_ident() == here else sleep)(seconds)

        def wait_here(self: threading.Condition, timeout: float | None = None) -> bool:
            if threading.get_ident() != here:
                return wait(self, timeout)
            raise RealWait(f"{_place()} waits for another thread.")

        time.sleep, threading.Condition.wait = sleep_here, wait_here
        try:
            yield
        finally:
            time.sleep, threading.Condition.wait = sleep, wait


def refusal(name: str) -> Callable[..., Any]:
    """Return what takes the place of a method that leads outside."""

    def refuse(self: object, *args: Any, **kwargs: Any) -> Any:
        raise NoOutside(f"{name}() was called at {_place()}: it leads out of the simulation.")

    refuse.__name__ = name
    return refuse


def _place() -> str:
    """Return file and line of the nearest caller outside of this module and of what waits on behalf of others."""
    frame: Any = currentframe()
    while frame.f_back is not None and (
        frame.f_globals.get("__name__") == __name__
        or frame.f_globals.get("__name__", "").partition(".")[0] in _WAITING
    ):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
