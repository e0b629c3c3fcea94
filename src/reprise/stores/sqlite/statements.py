"""Statements by name: SQL stands in commented ``.sql`` files, Python only says which one.

A file is a list of statements, each after a line ``-- name: <name>``. In a statement ``/* rows: n */`` stands for rows
of n values; :meth:`Statements.many` writes as many as are needed, in sizes that repeat, so that the connection's
cache of prepared statements is hit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from reprise.stores.sqlite.database import Connection

LARGEST_CHUNK = 128
"""Rows of the longest statement; shorter ones have half as many, and so on down to one."""

_ROWS = re.compile(r"/\* rows: (\d+) \*/")


class Statements(Mapping[str, str]):
    """The statements of one file."""

    def __init__(self, file: str) -> None:
        self._texts: dict[str, str] = {}
        text = resources.files("reprise.stores.sqlite").joinpath("sql", file).read_text("utf-8")
        for part in text.split("-- name: ")[1:]:
            name, _, body = part.partition("\n")
            lines = [line for line in body.splitlines() if not line.startswith("--")]
            self._texts[name.strip()] = "\n".join(lines).strip()
        self._sized = cache(self._write_rows)

    def __getitem__(self, name: str) -> str:
        """Return the text of a statement."""
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def many(self, name: str, count: int) -> Iterator[tuple[str, int, int]]:
        """Yield (text, first row, last row + 1) until ``count`` rows are covered."""
        first, size = 0, LARGEST_CHUNK
        while first < count:
            while size > count - first:
                size >>= 1
            yield self._sized(name, size), first, first + size
            first += size

    def write(self, connection: Connection, name: str, flat: Sequence[Any], width: int) -> None:
        """Execute a statement for rows that stand one after the other in ``flat``, ``width`` values each."""
        for text, first, last in self.many(name, len(flat) // width):
            connection.execute(text, flat[first * width : last * width])

    def _write_rows(self, name: str, count: int) -> str:
        return _ROWS.sub(
            lambda m: ", ".join(["(" + ",".join("?" * int(m[1])) + ")"] * count), self._texts[name]
        )
