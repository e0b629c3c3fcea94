"""Tables of plain text, and floors: figures that must be kept."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from bench.measure.results import RESULTS

HEAD = ("floor", "figure", "", "limit", "", "goal", "")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, and keep them; the first is a name, the others are figures."""
    RESULTS.table(head, rows)
    _print(head, rows)


def _print(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    filled = [[*row, *[""] * (len(head) - len(row))] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    for first, *others in filled:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([f"{first:{widths[0]}}", *cells]).rstrip(), flush=True)


def figure(value: float, digits: int = 1) -> str:
    """Write a figure, or a dash for NaN: it was not measured."""
    return "-" if isnan(value) else f"{value:,.{digits}f}"


class Floors:
    """Figures with what they must be (a bench whose floor is not kept fails) and what they are to be (goals, shown only).

    One that could not be measured is neither.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[str, ...]] = []
        self.kept = True

    def most(
        self,
        name: str,
        value: float,
        limit: float | None,
        digits: int = 2,
        *,
        unit: str = "",
        goal: float | None = None,
    ) -> None:
        """Ask for a figure of ``limit`` or less; ``goal`` or less is wanted."""
        self._add(name, value, "<=", limit, goal, digits, unit)

    def least(
        self,
        name: str,
        value: float,
        limit: float | None,
        digits: int = 1,
        *,
        unit: str = "",
        goal: float | None = None,
    ) -> None:
        """Ask for a figure of ``limit`` or more; ``goal`` or more is wanted."""
        self._add(name, value, ">=", limit, goal, digits, unit)

    def _add(
        self,
        name: str,
        value: float,
        sense: str,
        limit: float | None,
        goal: float | None,
        digits: int,
        unit: str,
    ) -> None:
        kept, reached = (_holds(value, sense, bound) for bound in (limit, goal))
        RESULTS.note(name, value, unit, sense=sense, floor=limit, kept=kept, goal=goal, reached=reached)
        said = ["" if bound is None else f"{sense} {bound:g}" for bound in (limit, goal)]
        self._rows.append((
            name, figure(value, digits), unit,
            said[0], {True: "kept", False: "MISSED", None: ""}[kept],
            said[1], {True: "reached", False: "not yet", None: ""}[reached],
        ))  # fmt: skip
        self.kept = self.kept and kept is not False

    def print(self) -> None:
        """Print all of them."""
        print()
        columns = len(HEAD) if any(row[5] for row in self._rows) else 5
        _print(HEAD[:columns], [row[:columns] for row in self._rows])


def _holds(value: float, sense: str, bound: float | None) -> bool | None:
    if bound is None:
        return None
    return value <= bound if sense == "<=" else value >= bound
