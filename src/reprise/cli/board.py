"""What ``reprise ps --watch`` shows: counts, rates and the newest runs. Pure, but for rich's text."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import msgspec
from rich.table import Table
from rich.text import Text

from reprise.cli.moments import clock_time
from reprise.cli.output import plain_table
from reprise.cli.paint import status
from reprise.kernel.machine import RUN, RunStatus

WINDOW = 10.0
"""Seconds over which rates are taken."""


class Look(msgspec.Struct, frozen=True):
    """What was so at one moment."""

    at: int
    """Microseconds since the epoch, for people."""
    seconds: float
    """By a clock that is never set, for rates."""
    counts: dict[str, int]
    """Runs that the query finds, by state."""
    position: int
    """Of the last record in the log."""
    workers: int = 0
    """Workers that are there."""


class Rates(NamedTuple):
    """What happened in a second, on average."""

    started: float = 0.0
    ended: float = 0.0
    failed: float = 0.0
    records: float = 0.0


class Window:
    """The looks of the last seconds."""

    def __init__(self, seconds: float = WINDOW) -> None:
        self._seconds = seconds
        self._looks: deque[Look] = deque()

    def add(self, look: Look) -> Rates:
        """Take in the latest look, and return the rates since the oldest that is kept.

        >>> window = Window(10)
        >>> window.add(Look(0, 0.0, {"running": 1}, 10)).started
        0.0
        >>> window.add(Look(0, 2.0, {"running": 2, "failed": 3}, 30))
        Rates(started=2.0, ended=1.5, failed=1.5, records=10.0)
        """
        looks = self._looks
        looks.append(look)
        while len(looks) > 2 and looks[1].seconds <= look.seconds - self._seconds:
            looks.popleft()
        first = looks[0]
        passed = look.seconds - first.seconds
        if passed <= 0:
            return Rates()
        # What was pruned meanwhile neither began nor ended.
        grown = (
            sum(look.counts.values()) - sum(first.counts.values()),
            _ended(look.counts) - _ended(first.counts),
            look.counts.get(RunStatus.FAILED, 0) - first.counts.get(RunStatus.FAILED, 0),
            look.position - first.position,
        )
        return Rates(*(max(0.0, each / passed) for each in grown))


def _ended(counts: dict[str, int]) -> int:
    return sum(count for state, count in counts.items() if state in RUN.final)


def board(look: Look, rates: Rates, runs: Table, width: int, height: int) -> list[Text]:
    """Return the picture of a moment, no line longer and no picture taller than the terminal."""
    lines = [head(look, rates), counts_line(look), Text()]
    lines += [Text(row, "bold" if at == 0 else "") for at, row in enumerate(plain_table(runs))]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines[:height]


def head(look: Look, rates: Rates) -> Text:
    """Return when it was and how fast things go."""
    shown = (
        f"{rates.started:.1f} started/s",
        f"{rates.ended:.1f} ended/s",
        f"{rates.failed:.1f} failed/s",
        f"{rates.records:,.0f} records/s",
        f"{look.workers} worker{'' if look.workers == 1 else 's'}",
    )
    return Text.assemble((f"{clock_time(look.at)[:8]}  ", "dim"), "  ".join(shown))


def counts_line(look: Look) -> Text:
    """Return how many runs are in which state, those under way first."""
    text = Text()
    for state in RUN.transitions:
        if count := look.counts.get(state):
            text.append("   " if text else "")
            text.append_text(status(state)).append(f" {count:,}")
    return text or Text("no run matches", "dim")


def plain(look: Look, rates: Rates) -> str:
    """Return a look as one line of text."""
    counts = "  ".join(f"{look.counts[state]} {state}" for state in RUN.transitions if look.counts.get(state))
    return f"{head(look, rates).plain}  {counts}".rstrip()


def fact(look: Look, rates: Rates, at: str) -> dict[str, Any]:
    """Return a look for programs."""
    return {
        "at": at,
        "counts": look.counts,
        "rates": {name: round(value, 3) for name, value in rates._asdict().items()},
        "workers": look.workers,
    }
