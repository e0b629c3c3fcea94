"""How far long work is, on the screen: one line that changes on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from reprise.cli.output import Screen
from reprise.kernel.clock import Clock, SystemClock
from reprise.stores.progress import Report

EVERY = 5.0
"""Seconds between two lines where nobody can be shown one line that changes."""


@contextmanager
def ticker(screen: Screen, clock: Clock | None = None) -> Generator[Report]:
    """Show how far the work in the block is."""
    if screen.err.is_terminal:
        with screen.err.status("") as status:
            yield lambda what, done, total: status.update(words(what, done, total))
        return
    now = (clock or SystemClock()).monotonic
    next_at = now() + EVERY

    def tell(what: str, done: int, total: int) -> None:
        nonlocal next_at
        if now() >= next_at:
            next_at = now() + EVERY
            screen.say(words(what, done, total))

    yield tell


def words(what: str, done: int, total: int) -> str:
    """Return how far work is.

    >>> words("records", 12345, 0), words("pages", 10, 40)
    ('records  12,345', 'pages  10 of 40 (25 %)')
    """
    if not total:
        return f"{what}  {done:,}"
    return f"{what}  {done:,} of {total:,} ({100 * done // total} %)"
