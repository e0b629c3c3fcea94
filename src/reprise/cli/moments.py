"""Durations and moments as people read them."""

from __future__ import annotations

from reprise.kernel.clock import MICROSECONDS, to_datetime
from reprise.kernel.policy import seconds_in

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


def duration(microseconds: int) -> str:
    """Return a length of time in two units at most.

    >>> [duration(n) for n in (450, 12_000, 1_234_000, 75_000_000, 7_260_000_000, 200_000_000_000)]
    ['0 ms', '12 ms', '1.2 s', '1m 15s', '2h 1m', '2d 7h']
    """
    seconds = max(0, microseconds) / MICROSECONDS
    if seconds < 1:
        return f"{int(seconds * 1000)} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    left = int(seconds)
    for at, (size, unit) in enumerate(_UNITS):
        if left >= size:
            next_size, next_unit = (*_UNITS, (1, "s"))[at + 1]
            rest = left % size // next_size
            return f"{left // size}{unit}" + (f" {rest}{next_unit}" if rest else "")
    return f"{left}s"


def microseconds(text: str) -> int:
    """Return a length of time that a person wrote.

    Raises ``ConfigurationError`` for what is none.

    >>> microseconds("90m") == microseconds("1h30m") == 5_400 * MICROSECONDS
    True
    """
    return round(seconds_in(text) * MICROSECONDS)


def ago(at: int, now: int) -> str:
    """Return a moment seen from now.

    >>> ago(0, 90 * MICROSECONDS), ago(90 * MICROSECONDS, 0), ago(5, 7)
    ('1m 30s ago', 'in 1m 30s', 'now')
    """
    apart = now - at
    if abs(apart) < MICROSECONDS:
        return "now"
    return f"{duration(apart)} ago" if apart > 0 else f"in {duration(-apart)}"


def local(at: int) -> str:
    """Return a moment in local time, to the second and with its offset from UTC."""
    return to_datetime(at).astimezone().isoformat(" ", "seconds")


def clock_time(at: int) -> str:
    """Return the time of the day in local time, to the millisecond."""
    return to_datetime(at).astimezone().strftime("%H:%M:%S.%f")[:-3]


def iso(at: int) -> str:
    """Return a moment for programs: ISO 8601 in UTC, to the microsecond."""
    return to_datetime(at).isoformat(timespec="microseconds").replace("+00:00", "Z")
