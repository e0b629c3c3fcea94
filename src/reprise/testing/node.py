"""Simulated processes: started, paused, killed, and started again, all on one loop.

A process is the set of callbacks that run in it. Killing it means that none of them runs again: nothing is closed, no
``finally`` is reached, what was in memory is gone. Pausing it means that they wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

from reprise.kernel.errors import RepriseError
from reprise.kernel.surroundings import SURROUNDINGS, Surroundings
from reprise.testing.loop import EVERYWHERE, PLACE, SimulatedLoop

T = TypeVar("T")


class Crashed(RepriseError):
    """The simulated process was killed."""


class Life:
    """A process from its start to its end; where its callbacks run."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.dead = False
        self.is_paused = False
        self._held: list[asyncio.Handle] = []

    def admits(self, handle: asyncio.Handle) -> bool:
        """Drop the callbacks of the dead, keep those of the paused."""
        if self.dead:
            return False
        if self.is_paused:
            self._held.append(handle)
        return not self.is_paused

    def pause(self) -> None:
        """Keep callbacks."""
        self.is_paused = True

    def resume(self) -> None:
        """Run what was kept, and go on."""
        self.is_paused = False
        held, self._held = self._held, []
        for handle in held:
            self._loop.take(handle)


class Node:
    """A machine on which one process runs at a time."""

    def __init__(self, loop: SimulatedLoop, name: str, around: Surroundings) -> None:
        self._loop = loop
        self.name = name
        self.around = around
        """Its clock and chance."""
        self.life = Life(loop)
        self._ended: asyncio.Future[Any] | None = None
        self.on_crash: list[Callable[[], None]] = []

    async def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function in a new process of this machine and return what it returns.

        Raises:
            Crashed: the process was killed. And whatever ``main`` raises.
        """
        self.life = life = Life(self._loop)
        self._ended = ended = self._loop.create_future()
        context = copy_context()
        context.run(PLACE.set, life)
        context.run(SURROUNDINGS.set, self.around)
        task = self._loop.create_task(main(), name=self.name, context=context)
        outside = copy_context()
        outside.run(PLACE.set, EVERYWHERE)
        task.add_done_callback(lambda task: _tell(ended, task), context=outside)
        return await ended

    @property
    def is_up(self) -> bool:
        """Tell whether a process runs here."""
        return self._ended is not None and not self._ended.done()

    def crash(self) -> None:
        """Kill the process: nothing of it runs again, nothing is closed."""
        self.life.dead = True
        self.life.resume()
        for tell in self.on_crash:
            tell()
        self.on_crash.clear()
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(Crashed(f"The process of {self.name} was killed."))

    def pause(self, seconds: float | None = None) -> None:
        """Let the process stand still, for a while or until :meth:`resume`; time goes on."""
        self.life.pause()
        if seconds is not None:
            context = copy_context()
            context.run(PLACE.set, EVERYWHERE)
            self._loop.call_later(seconds, self.life.resume, context=context)

    def resume(self) -> None:
        """Let a paused process go on."""
        self.life.resume()


def _tell(ended: asyncio.Future[Any], task: asyncio.Task[Any]) -> None:
    if ended.done():
        return
    if task.cancelled():
        ended.cancel()
    elif (error := task.exception()) is not None:
        ended.set_exception(error)
    else:
        ended.set_result(task.result())
