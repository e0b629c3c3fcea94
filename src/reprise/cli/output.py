"""What is printed and where: data to stdout, everything else to stderr, nothing that could drive a terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TextIO

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[P^_X][^\x1b]*(?:\x1b\\)?|.)?|\x9b[0-?]*[ -/]*[@-~]"
)
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters but tab and newline, marks that turn the direction of text, lone surrogates."""


class Format(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def clean(text: str) -> str:
    r"""Return text that a terminal only shows: what came from a run must not move the cursor or set a title.

    >>> clean("done\x1b[2J\x07 \x1b]0;title\x07ok")
    'done ok'
    """
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def line(text: str, width: int = 0) -> str:
    r"""Return text as one clean line, cut to ``width`` characters (0 = as long as it is).

    >>> line("one\n  two", 6)
    'one t…'
    """
    text = " ".join(clean(text).split())
    return text if not width or len(text) <= width else text[: width - 1] + "…"


class Screen:
    """Where one command writes to."""

    def __init__(
        self, out: TextIO | None = None, err: TextIO | None = None, *, color: bool | None = None
    ) -> None:
        plain = color is False or bool(os.environ.get("NO_COLOR"))
        # ``no_color`` keeps bold and dim, which NO_COLOR allows; the terminal type "dumb" takes none of them.
        self.out = Console(file=out or sys.stdout, no_color=plain, highlight=False, markup=False, emoji=False)
        self.err = Console(file=err or sys.stderr, no_color=plain, highlight=False, markup=False, emoji=False)

    # ---------------------------------------------------------------- not data

    def say(self, text: str | Text = "", style: str = "") -> None:
        """Write a line for people to stderr."""
        self.err.print(text if isinstance(text, Text) else Text(clean(text), style), soft_wrap=True)

    def hint(self, text: str) -> None:
        """Write a line that says what can be done next."""
        self.say(text, "dim")

    def fail(self, what: str, hint: str = "", quote: str = "") -> None:
        """Write an error: one line, what was given with the place in it, and one line with what to do about it."""
        self.say(Text.assemble(("error: ", "bold red"), line(what)))
        for quoted in quote.splitlines():
            self.say(f"  {quoted}")
        if hint:
            self.say(Text.assemble(("hint: ", "bold"), line(hint)))

    # ---------------------------------------------------------------- data

    def raw(self, text: str) -> None:
        """Write a line of data to stdout: to a program as it is, to a terminal without what could drive it."""
        self.out.file.write((clean(text) if self.out.is_terminal else text) + "\n")
        self.out.file.flush()

    def write(self, text: str) -> None:
        """Write a part of a line of data to stdout, at once; see :meth:`raw`."""
        self.out.file.write(clean(text) if self.out.is_terminal else text)
        self.out.file.flush()

    def line(self, text: Text) -> None:
        """Write one styled line to stdout; it is wrapped on a terminal and never cut."""
        if self.out.is_terminal:
            self.out.print(text)
        else:
            self.raw(text.plain.rstrip())

    def lines(self, texts: Iterable[Text]) -> None:
        """Write styled lines to stdout."""
        for text in texts:
            self.line(text)

    def json(self, data: bytes) -> None:
        """Write one JSON value: indented for people, on one line for programs."""
        indent = 2 if self.out.is_terminal else -1
        self.raw(msgspec.json.format(data, indent=indent).decode())

    def data(self, format: Format, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write many values for programs: as one JSON array, or as a JSON value per line."""
        if format is Format.JSON:
            self.json(msgspec.json.encode(rows))
        else:
            for row in rows:
                self.row(row)

    def fact(self, format: Format, fact: Mapping[str, Any]) -> None:
        """Write one value for programs."""
        if format is Format.JSON:
            self.json(msgspec.json.encode(fact))
        else:
            self.row(fact)

    def row(self, row: Mapping[str, Any]) -> None:
        """Write one JSON value on one line."""
        self.raw(msgspec.json.encode(row).decode())

    def table(self, table: Table) -> None:
        """Write a table: fitted to a terminal, or in full width where nobody looks."""
        if self.out.is_terminal:
            self.out.print(table)
            return
        for text in plain_table(table):
            self.raw(text)


def table(*columns: str, right: Iterable[str] = (), fold: str = "") -> Table:
    """Return an empty table; ``right`` are columns of numbers, ``fold`` the one that may take several lines."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        made.add_column(
            name.upper(),
            justify="right" if name in right else "left",
            overflow="fold",
            no_wrap=name != fold,
        )
    return made


def plain_table(table: Table) -> list[str]:
    """Return a table as lines of text in which nothing is cut."""
    columns = [[str(column.header), *(str(cell) for cell in column.cells)] for column in table.columns]
    widths = [max(map(len, cells)) for cells in columns]
    sides = [column.justify for column in table.columns]
    return [
        "  ".join(
            cell.rjust(width) if side == "right" else cell.ljust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        ).rstrip()
        for row in zip(*columns, strict=True)
    ]
