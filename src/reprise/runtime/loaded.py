"""The runs in memory: which of them only wait, how much room they take, and who leaves when it gets tight.

A waiting run stays as long as there is room, so that whatever wakes it finds it ready; those that were active last stay
longest. Leaving is one append for many runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from reprise.runtime.execution import Execution
from reprise.runtime.parking import park

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine

TASK_BYTES = 5_000
"""Room that a task of a body takes with its coroutine, context and what it waits for; measured."""
BATCH = 500
"""Runs that leave with one commit."""


class Loaded:
    """The runs in the memory of one engine, at most ``most`` that only wait, of about ``most_bytes`` bytes."""

    def __init__(self, engine: Engine, most: int, most_bytes: int) -> None:
        self._engine = engine
        self.most = most
        self.most_bytes = most_bytes
        self.runs: dict[str, Execution] = {}
        self.idle: dict[str, Execution] = {}
        """Those that only wait, the longest first."""
        self.bytes = 0
        """Room that all take, each as it was when it last only waited."""
        self._sizes: dict[str, int] = {}
        self.leaver: asyncio.Task[None] | None = None
        """What lets runs go now, None while there is room."""

    def rests(self, execution: Execution) -> None:
        """Remember that a run only waits now; when it gets tight, let others go."""
        id = execution.id
        self.idle.pop(id, None)
        self.idle[id] = execution
        size = TASK_BYTES * (1 + len(execution.loop.tasks)) + execution.bytes
        self.bytes += size - self._sizes.get(id, 0)
        self._sizes[id] = size
        if self.leaver is None and self._excess():
            self.leaver = self._engine.spawn(self._make_room())

    def goes_on(self, execution: Execution) -> None:
        """Remember that a run does not only wait any more."""
        self.idle.pop(execution.id, None)

    def left(self, execution: Execution) -> None:
        """Forget a run."""
        self.runs.pop(execution.id, None)
        self.idle.pop(execution.id, None)
        self.bytes -= self._sizes.pop(execution.id, 0)

    def _excess(self, coming: int = 0) -> bool:
        return len(self.runs) + coming > self.most or self.bytes > self.most_bytes

    def _longest_idle(self, coming: int) -> Iterator[Execution]:
        """Yield those that must leave, so that the others and those that come have room."""
        runs, size = len(self.runs) + coming, self.bytes
        for execution in self.idle.values():
            if runs <= self.most and size <= self.most_bytes:
                return
            runs -= 1
            size -= self._sizes[execution.id]
            yield execution

    async def _make_room(self, coming: int = 0) -> None:
        try:
            while leaving := list(islice(self._longest_idle(coming), BATCH)):
                left = await park(self._engine, leaving)
                for execution in leaving:
                    if execution.id in self.idle:  # mail came: it will go on, or be the last to leave
                        self.idle[execution.id] = self.idle.pop(execution.id)
                if not left:
                    return
        finally:
            self.leaver = None

    async def make_room(self, coming: int) -> int:
        """Let waiting runs go so that others can come, as far as that is possible; return how many can, at least one."""
        if self.leaver is not None:
            await asyncio.wait([self.leaver])
        if self._excess(coming):
            self.leaver = self._engine.spawn(self._make_room(coming))
            await asyncio.wait([self.leaver])
        return max(1, self.most - len(self.runs))

    async def until_room_to_start(self) -> None:
        """Wait while a batch more than allowed is loaded, or about to be, and some of it is leaving."""
        while self.leaver is not None and len(self.runs) + len(self._engine.starting) >= self.most + BATCH:
            await asyncio.wait([self.leaver])
