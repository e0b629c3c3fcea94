"""Start and stop: one contract for everything that runs in the background."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Service(Protocol):
    """What can be started and stopped.

    Whoever starts several stops them in reverse order.
    """

    async def start(self) -> None:
        """Start and return when ready to serve; again, it changes nothing.

        A start that fails leaves nothing running.
        """
        ...

    async def stop(self, timeout: float | None = None) -> None:
        """Stop and return when nothing runs any more; safe before start, and again.

        What still runs after ``timeout`` seconds is cancelled; None takes the service's own limit, which always exists.
        """
        ...

    async def ready(self) -> None:
        """Wait until it serves; returns at once while it does."""
        ...
