"""Ids: sortable by time, unique without coordination, usable by any unique prefix."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from reprise.kernel.surroundings import SURROUNDINGS

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: no i, l, o, u, so an id read aloud is not misread."""

Randomness = Callable[[int], bytes]


_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


def _base32(number: int, length: int) -> str:
    """Write a number in base 32, ``length`` digits (an even count), two at a time."""
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(5 * length - 10, -1, -10)])


class Ids:
    """Make ids of 26 characters: 48 bits of milliseconds, then 80 random bits.

    The layout is that of ULID (UUIDv7 differs only in version bits and spelling). Within one millisecond the
    random part is counted up, so ids of one process sort in the order they were made.

    ``now`` gives microseconds since the epoch; ``randomness`` gives n random bytes, None = that around us.
    """

    def __init__(self, now: Callable[[], int], randomness: Randomness | None = None) -> None:
        self._now = now
        self._randomness = randomness or SURROUNDINGS.get().randomness
        self._last_ms = -1
        self._tail = 0
        self._head = ""
        """The id of now without its last two digits, as long as only those count up."""

    def new(self) -> str:
        """Return a new id."""
        ms = self._now() // 1000
        if ms > self._last_ms:
            self._last_ms = ms
            self._tail = int.from_bytes(self._randomness(10), "big") >> 1
            self._head = ""
        else:
            self._tail += 1
        last = self._tail & 1023
        if not (last and self._head):
            self._head = _base32(self._last_ms, 10) + _base32(self._tail >> 10, 14)
        return self._head + _PAIRS[last]


class Counter:
    """Make 63-bit numbers for appends: a random start per process, then counted, so two never meet in practice."""

    def __init__(self, randomness: Randomness | None = None) -> None:
        randomness = randomness or SURROUNDINGS.get().randomness
        first = (int.from_bytes(randomness(5), "big") << 23) & 0x7FFF_FFFF_FF80_0000
        self.new: Callable[[], int] = count(first + 1).__next__
        """Returns the next number."""
