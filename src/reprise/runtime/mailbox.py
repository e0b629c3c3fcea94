"""Signals that were received and not yet taken, by name; in log order, none lost."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

import msgspec

from reprise.kernel.events import Event, Record, Signal
from reprise.runtime.loop import RunLoop


class Mailboxes:
    """The buffered signals of one run."""

    def __init__(self, loop: RunLoop) -> None:
        self._loop = loop
        self._values: defaultdict[str, deque[Event | Record]] = defaultdict(deque)
        self._waiters: defaultdict[str, deque[asyncio.Future[None]]] = defaultdict(deque)
        self.waiting = 0
        """How many waits are under way."""

    def put(self, name: str, received: Event | Record) -> None:
        """Buffer a signal and wake the one that has waited longest."""
        self._values[name].append(received)
        self._wake(name)

    def _wake(self, name: str) -> None:
        waiters = self._waiters[name]
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def take(self, name: str) -> bytes:
        """Return the oldest value of that name, waiting for one if there is none."""
        values = self._values[name]
        while not values:
            waiter = self._loop.create_future()
            self._waiters[name].append(waiter)
            self.waiting += 1
            try:
                await waiter
            except BaseException:
                if waiter.done() and not waiter.cancelled() and values:
                    self._wake(name)
                raise
            finally:
                self.waiting -= 1
        return bytes(msgspec.json.decode(values.popleft().data, type=Signal).value)

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
