"""Time: one protocol, the system's clock and a virtual one for tests."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

MICROSECONDS = 1_000_000
"""Microseconds in a second: the unit in which the log writes time."""


class Clock(Protocol):
    """What tells the time."""

    def now(self) -> int:
        """Return microseconds since the epoch (UTC)."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, from an unnamed start."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Return microseconds since the epoch (UTC)."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()


class VirtualClock:
    """A clock that moves only when told to.

    >>> clock = VirtualClock(start=0)
    >>> clock.advance(1.5); clock.now()
    1500000
    """

    def __init__(self, start: int = 1_700_000_000 * MICROSECONDS) -> None:
        self._now = start

    def now(self) -> int:
        """Return microseconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Return the same time in seconds."""
        return self._now / MICROSECONDS

    def advance(self, seconds: float) -> None:
        """Move forward by ``seconds``."""
        if seconds < 0:
            raise ValueError(f"a clock does not go back (asked for {seconds} s)")
        self._now += round(seconds * MICROSECONDS)


def to_datetime(at: int) -> datetime:
    """Return the log's microseconds as an aware datetime in UTC."""
    return datetime.fromtimestamp(at / MICROSECONDS, UTC)


def from_datetime(when: datetime) -> int:
    """Return a datetime as the log's microseconds; a naive one is taken as local time."""
    return round(when.timestamp() * MICROSECONDS)
