"""Timeouts of running steps: one wheel instead of a timer each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

TICK = 0.05
"""Seconds between two slots of the wheel."""
PRECISE = 1.0
"""Timeouts shorter than this get a timer of their own."""

Cancel = Callable[[Any], None]


class Timeouts:
    """Call back once when something has taken too long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[Any], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._slots: dict[int, set[Any]] = {}
        self._ticking = False

    def add(self, item: Any, seconds: float) -> Cancel:
        """Watch ``item``; the function returned, called with the item, ends the watch."""
        if seconds < PRECISE:
            timer = self._loop.call_later(seconds, self._expired, item)
            return lambda _: timer.cancel()
        number = int((self._loop.time() + seconds) / TICK) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = set()
        slot.add(item)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK, self._tick)
        return slot.discard

    def _tick(self) -> None:
        now = self._loop.time() / TICK
        for number in [number for number in self._slots if number <= now or not self._slots[number]]:
            for item in self._slots.pop(number):
                self._expired(item)
        if self._slots:
            self._loop.call_later(TICK, self._tick)
        else:
            self._ticking = False
