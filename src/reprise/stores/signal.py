"""The promise of the signal: a tap on the shoulder.

A tap may be lost and may come for nothing. Nobody relies on it for truth: whoever waits looks again after a while.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Signal(Protocol):
    """Wake others who wait for something, in this process and in others that use the same store."""

    def wake(self, names: Sequence[str]) -> None:
        """Tap everybody who listens to one of these names; never waits, never raises."""
        ...

    def listen(self, name: str, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back on the loop with the name at each tap; ``name`` ending in ``*`` listens to all that start so.

        Return the function that ends the listening.
        """
        ...

    async def wait(self, name: str, timeout: float) -> bool:
        """Wait for one tap; False when ``timeout`` seconds passed without one."""
        ...
