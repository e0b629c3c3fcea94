"""What code has around it when nobody hands it a clock or chance: the machine's, or those of a simulation.

Whatever takes a clock or randomness by injection takes its default from here when it is made. So a program is simulated
without being changed: the simulation sets :data:`SURROUNDINGS`, and the program makes its ``Reprise`` as always.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple

from reprise.kernel.chance import uniform
from reprise.kernel.clock import Clock, SystemClock


class Surroundings(NamedTuple):
    """A clock and the sources of chance."""

    clock: Clock
    randomness: Callable[[int], bytes]
    """Gives n random bytes."""
    uniform: Callable[[], float]
    """Gives random numbers from 0 to 1."""
    patience: float = 0.0
    """How late a periodic look may come, as a part of the time for which nothing has happened. On a machine it comes
    when it is due; where a week passes in no time, most of the looks at nothing would be all that costs time."""


SURROUNDINGS = ContextVar("reprise_surroundings", default=Surroundings(SystemClock(), os.urandom, uniform))  # noqa: B039


class Rhythm:
    """How long somebody waits who looks again and again: a period, unless those around him have patience.

    >>> Rhythm(SystemClock()).next(15)
    15
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._patience = SURROUNDINGS.get().patience
        self._news_at = clock.monotonic()

    def news(self) -> None:
        """Note that something happened."""
        if self._patience:
            self._news_at = self._clock.monotonic()

    def next(self, period: float) -> float:
        """Return the seconds until the next look."""
        if not self._patience:
            return period
        return max(period, self._patience * (self._clock.monotonic() - self._news_at))
