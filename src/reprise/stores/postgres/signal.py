"""Signals in PostgreSQL: taps by NOTIFY, which reaches every process that listens, on whatever machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from reprise.stores.listeners import Listeners
from reprise.stores.postgres.taps import Taps


class PostgresSignal:
    """Wake others who wait, here and in other processes. Use it on the loop on which the store was started."""

    def __init__(self, taps: Taps, listeners: Listeners) -> None:
        self._taps = taps
        self._listeners = listeners
        self._pending: dict[str, None] = {}

    def wake(self, names: Sequence[str]) -> None:
        """Tap everybody who listens to one of these names; never waits, never raises."""
        if names and not self._pending:
            asyncio.get_running_loop().call_soon(self.flush)
        self._pending.update(dict.fromkeys(names))

    def listen(self, name: str, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back on the loop with the name at each tap; ``name`` ending in ``*`` listens to all that start so."""
        return self._listeners.add(name, callback)

    async def wait(self, name: str, timeout: float) -> bool:
        """Wait for one tap; False when ``timeout`` seconds passed without one."""
        return await self._listeners.wait(name, timeout)

    def flush(self) -> None:
        """Tap this process now and the others soon."""
        names, self._pending = self._pending, {}
        if names:
            self._taps.send(names)
            self._listeners.tap(names)
