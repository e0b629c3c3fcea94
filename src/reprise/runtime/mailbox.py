"""Signals that were received and not yet taken, by name; in log order, none lost."""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from reprise.kernel.events import Event, Record, Signal
from reprise.runtime.loop import RunLoop


class Mailboxes:
    """The buffered signals of one run."""

    def __init__(self, loop: RunLoop) -> None:
        self._loop = loop
        self._values: dict[str, deque[Event | Record]] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self.waiting = 0
        """How many waits are under way."""

    def put(self, name: str, received: Event | Record) -> None:
        """Buffer a signal and wake the one that has waited longest."""
        values = self._values.get(name)
        if values is None:
            values = self._values[name] = deque()
        values.append(received)
        self._wake(name)

    def _wake(self, name: str) -> None:
        for waiter in self._waiters.get(name, ()):
            if not waiter.done():
                waiter.set_result(None)
                return

    async def take(self, name: str) -> bytes:
        """Return the oldest value of that name, waiting for one if there is none."""
        while (values := self._values.get(name)) is None:
            await self._put(name)
        received = values.popleft()
        if not values:
            del self._values[name]
        return bytes(msgspec.json.decode(received.data, type=Signal).value)

    async def _put(self, name: str) -> None:
        """Wait until a value of that name was put."""
        waiter = self._loop.create_future()
        waiters = self._waiters.setdefault(name, [])
        waiters.append(waiter)
        self.waiting += 1
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and name in self._values:
                self._wake(name)
            raise
        finally:
            self.waiting -= 1
            waiters.remove(waiter)
            if not waiters:
                self._waiters.pop(name, None)

    def awaited(self) -> list[str]:
        """Return the names that are waited for."""
        return [
            name for name, waiters in self._waiters.items() if any(not waiter.done() for waiter in waiters)
        ]

    def left(self) -> list[Event | Record]:
        """Return the signals that nobody took, in the order in which they came."""
        return sorted((one for values in self._values.values() for one in values), key=lambda one: one.at)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._waiters.clear()
