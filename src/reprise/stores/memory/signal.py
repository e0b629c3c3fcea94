"""Signals inside one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from reprise.stores.listeners import next_tap

Listener = tuple[asyncio.AbstractEventLoop, Callable[[str], None]]


class MemorySignal:
    """Listeners by name and by prefix; a tap reaches each on its loop's next turn."""

    def __init__(self) -> None:
        self._exact: dict[str, list[Listener]] = {}
        self._prefix: dict[str, list[Listener]] = {}

    def wake(self, names: Sequence[str]) -> None:
        """Tap everybody who listens to one of these names; never waits, never raises."""
        for name in names:
            for listener in self._exact.get(name, ()):
                _tap(listener, name)
            for prefix, listeners in self._prefix.items():
                if name.startswith(prefix):
                    for listener in listeners:
                        _tap(listener, name)

    def listen(self, name: str, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back on the running loop with the name at each tap; return the function that ends the listening."""
        table, key = (self._prefix, name[:-1]) if name.endswith("*") else (self._exact, name)
        listener = (asyncio.get_running_loop(), callback)
        table.setdefault(key, []).append(listener)

        def end() -> None:
            listeners = table.get(key, [])
            with suppress(ValueError):
                listeners.remove(listener)
            if not listeners:
                table.pop(key, None)

        return end

    async def wait(self, name: str, timeout: float) -> bool:
        """Wait for one tap; False when ``timeout`` seconds passed without one."""
        return await next_tap(self.listen, name, timeout)


def _tap(listener: Listener, name: str) -> None:
    loop, callback = listener
    # A loop that has ended has nobody left to wake.
    with suppress(RuntimeError):
        loop.call_soon(callback, name)
