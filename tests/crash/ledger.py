"""Files to which processes append what they did, and which survive ``kill -9``.

One line is one ``write`` to a file opened for appending, so lines of several processes never mix. A killed process
loses nothing that it wrote: the pages belong to the kernel. What it was writing may be torn where the line crosses a
page: the next line begins with a newline of its own, and the torn one is passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class Began(msgspec.Struct, frozen=True, tag="began"):
    """An attempt of a step began to execute. ``token`` is the one under which its run was owned."""

    run: str
    key: str
    attempt: int
    token: int
    pid: int


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The attempt came to its end; whether it will be recorded is another matter."""

    run: str
    key: str
    attempt: int
    token: int
    pid: int


class Crowd(msgspec.Struct, frozen=True, tag="crowd"):
    """So many executed at once when one more began."""

    group: str
    number: int
    pid: int


class Durable(msgspec.Struct, frozen=True, tag="durable"):
    """The log acknowledged an event of a run's history."""

    run: str
    kind: int
    key: str
    data: bytes


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The log refused what an owner wanted to write."""

    run: str
    append: int
    error: str
    keys: list[str]


class Started(msgspec.Struct, frozen=True, tag="started"):
    """``start`` returned."""

    run: str
    workflow: str
    input: bytes


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """``signal`` returned."""

    run: str
    id: str
    value: int


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The end of a run was seen."""

    run: str
    status: str
    value: bytes


class Helped(msgspec.Struct, frozen=True, tag="helped"):
    """A run rested (poisoned by many crashes) and a person let it go on."""

    run: str
    status: str


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """What a store that was stopped politely had counted."""

    counts: dict[str, int]


Line = Began | Ended | Crowd | Durable | Refused | Started | Sent | Finished | Helped | Counted


def open_lines(path: Path) -> int:
    """Open a file to append lines to."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def write_line(file: int, value: Any) -> None:
    """Append a value as a line."""
    os.write(file, b"\n" + msgspec.json.encode(value) + b"\n")


def read_lines(path: Path, type: type[T], offset: int = 0) -> tuple[list[T], int]:
    """Return the values of the whole lines after ``offset``, and the offset after them."""
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        text = file.read()
    end = text.rfind(b"\n") + 1
    found: list[T] = []
    for line in filter(None, text[:end].splitlines()):
        try:
            found.append(msgspec.json.decode(line, type=type))
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            continue  # torn
    return found, offset + end


class Ledger:
    """One file of lines. ``fsync`` for those who promise something to the outside."""

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path = path
        self._fsync = fsync
        self._fd = open_lines(path)

    def write(self, line: Line) -> None:
        """Append a line."""
        write_line(self._fd, line)
        if self._fsync:
            os.fsync(self._fd)


class Reader:
    """Reads a ledger piece by piece while others write it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def new(self) -> list[Line]:
        """Return the whole lines since the last call."""
        found, self._offset = read_lines(self.path, Line, self._offset)
        return found


def lines(*paths: Path) -> Iterator[Line]:
    """Yield all lines of some ledgers."""
    for path in paths:
        yield from Reader(path).new()
