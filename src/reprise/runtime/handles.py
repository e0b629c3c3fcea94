"""What the run's loop hands out: handles, tasks and the futures of steps.

Tasks and step futures hash by their number in the run, not by their address, so that sets of them (``asyncio.wait``,
``TaskGroup``) iterate alike in replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from reprise.runtime.loop import RunLoop
    from reprise.runtime.step import Recorded


class Handle(msgspec.Struct, eq=False, weakref=True):
    """A callback in its context, waiting in the ready queue; ``dead`` once it was cancelled."""

    callback: Callable[..., Any]
    args: tuple[Any, ...]
    context: Context
    dead: bool = False

    def cancel(self) -> None:
        """Let the callback not be called."""
        self.dead = True

    def cancelled(self) -> bool:
        """Tell whether it was cancelled."""
        return self.dead


class TimerHandle(Handle, kw_only=True, eq=False):
    """A callback that a durable timer calls; ``due`` is absolute, in seconds of the run's time."""

    due: float
    loop: RunLoop
    key: str

    def when(self) -> float:
        """Return the due time."""
        return self.due

    def cancel(self) -> None:
        """Let the timer not fire; its record may already be on the way and is then ignored."""
        if not self.dead:
            Handle.cancel(self)
            self.loop.timer_cancelled(self)


class RunTask(asyncio.Task[Any]):
    """A task of a body. Its number must be set before ``__init__``, which hashes it."""

    __slots__ = ("context", "number")

    number: int
    context: Context

    @classmethod
    def make(
        cls, coro: Coroutine[Any, Any, Any], loop: RunLoop, name: str, context: Context, number: int
    ) -> RunTask:
        """Create the task; its first step is put into the loop's ready queue."""
        task = cls.__new__(cls)
        task.number = number
        task.context = context
        task.__init__(coro, loop=loop, name=name, context=context)
        return task

    def __hash__(self) -> int:
        return self.number

    __eq__ = object.__eq__


class StepFuture(asyncio.Future[Any]):
    """What came, or will come, of a step. Also stands in for the task where a step is started by ``create_task``.

    With ``on_cancel="wait"`` a cancellation asks the step to stop and lets the body go on when the log says what came of
    it, as plain asyncio does with a task; else the body goes on at once and the late record is ignored.
    """

    __slots__ = ("_name", "ask", "asked", "key", "message", "number", "step")

    number: int
    key: str
    step: Recorded[..., Any]
    ask: Callable[[str], None]
    asked: bool
    message: Any
    """What the cancellation said; anyio knows its own cancellations by it."""
    _name: str | None

    @staticmethod
    def make(
        loop: RunLoop, key: str, step: Recorded[..., Any], number: int, ask: Callable[[str], None]
    ) -> StepFuture:
        """Create the future of the step ``key``; ``ask`` is called once with the key when it shall stop."""
        future = StepFuture(loop=loop)
        future.number = number
        future.key = key
        future.step = step
        future.ask = ask
        future.asked = False
        future.message = future._name = None
        return future

    def __hash__(self) -> int:
        return self.number

    __eq__ = object.__eq__

    def cancel(self, msg: Any = None) -> bool:
        """Ask the step to stop."""
        if self.done():
            return False
        if msg is not None:
            self.message = msg
        if not self.asked:
            self.asked = True
            self.ask(self.key)
        return True if self.step.on_cancel == "wait" else super().cancel(msg)

    def settle_cancelled(self) -> None:
        """Become cancelled: the log says that the step stopped."""
        super().cancel(self.message)

    # What callers of create_task() expect of a task.

    def get_name(self) -> str:
        """Return the name given, or the step's key."""
        return self._name or self.key

    def set_name(self, value: object) -> None:
        """Name it."""
        self._name = str(value)

    def cancelling(self) -> int:
        """Return 1 when it was asked to stop."""
        return int(self.asked)

    def uncancel(self) -> int:
        """Exist for the interface of tasks; a step that was asked to stop stays asked."""
        return int(self.asked)
