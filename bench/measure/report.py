"""Tables of plain text, and floors: figures that must be kept."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns; the first is a name, the others are figures."""
    filled = [[*row, *[""] * (len(head) - len(row))] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    for first, *others in filled:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([f"{first:{widths[0]}}", *cells]).rstrip(), flush=True)


def figure(value: float, digits: int = 1) -> str:
    """Write a figure, or a dash for NaN: it was not measured."""
    return "-" if isnan(value) else f"{value:,.{digits}f}"


class Floors:
    """Figures with the least, or the most, that they may be. A figure that could not be measured is not kept."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str, str]] = []
        self.kept = True

    def most(self, name: str, value: float, limit: float, digits: int = 2) -> None:
        """Ask for a figure of ``limit`` or less."""
        self._add(name, value, f"<= {limit:g}", value <= limit, digits)

    def least(self, name: str, value: float, limit: float, digits: int = 1) -> None:
        """Ask for a figure of ``limit`` or more."""
        self._add(name, value, f">= {limit:g}", value >= limit, digits)

    def _add(self, name: str, value: float, limit: str, kept: bool, digits: int) -> None:
        self._rows.append((name, figure(value, digits), limit, "kept" if kept else "MISSED"))
        self.kept = self.kept and kept

    def print(self) -> None:
        """Print all of them."""
        print()
        table(("floor", "figure", "limit", ""), self._rows)
