"""Ending the body of a scope from outside, as ``asyncio.timeout`` does."""

from __future__ import annotations

import asyncio


class Guard:
    """Cancels the task that made it, and tells its own cancellation from anybody else's."""

    __slots__ = ("_before", "_fired", "_soon", "_task")

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a body can only be guarded in a task")
        self._task = task
        self._before = task.cancelling()
        self._fired = False
        self._soon: asyncio.Handle | None = None

    @property
    def fired(self) -> bool:
        """Whether the body was told to end."""
        return self._fired or self._soon is not None

    def end(self) -> None:
        """Cancel the body where it waits, or at the next place where it waits if it is what calls."""
        if self.fired:
            return
        if asyncio.current_task() is self._task:
            # A task that cancels itself would carry that out of the scope if it does not wait before its end.
            self._soon = asyncio.get_running_loop().call_soon(self._cancel)
        else:
            self._cancel()

    def _cancel(self) -> None:
        self._fired = True
        self._task.cancel()

    def leave(self, error: BaseException | None) -> bool:
        """Return whether what comes out of the body is our cancellation and nothing else; call it once, at its end.

        A cancellation by somebody else goes on, also when it came together with ours.
        """
        if self._soon is not None:
            self._soon.cancel()
        if not self._fired:
            return False
        return self._task.uncancel() <= self._before and isinstance(error, asyncio.CancelledError)
