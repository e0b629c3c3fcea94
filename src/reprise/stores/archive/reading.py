"""Read an archive, and believe nothing of it that does not follow from its last line."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from reprise.kernel.errors import ArchiveCorrupt, SchemaTooNew, StoreUnreachable
from reprise.stores.archive.lines import (
    FIRST,
    FORMAT,
    AnyLine,
    CellLine,
    End,
    FamilyLine,
    Opening,
    RecordLine,
    RunLine,
    TaskLine,
)
from reprise.stores.archive.writing import with_hash

_decode = msgspec.json.Decoder(AnyLine).decode
_PAGE, _BYTES = 500, 4 << 20
"""Lines read on a thread at once, and bytes of payloads."""


def read_archive(path: Path) -> Iterator[AnyLine]:
    """Yield the lines of an archive, each checked against the one before; the last is the :class:`End`.

    A line is yielded before it is known whether what follows fits to it: who acts on lines verifies the archive first.

    Raises:
        ArchiveCorrupt: a line was changed, removed, added or moved, or the file was cut off; the line is named.
        SchemaTooNew: the archive was written by a newer Reprise.
        StoreUnreachable: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield from _Chain(path).follow(
                cast("BinaryIO", gzip.GzipFile(fileobj=file)) if is_packed else file
            )
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _corrupt(path, f"it cannot be unpacked ({error})") from error
    except OSError as error:
        raise StoreUnreachable(
            f"{path} cannot be read ({error.strerror}).", hint="Give the name of an archive."
        ) from error


async def read_pages(path: Path) -> AsyncIterator[list[AnyLine]]:
    """Yield the lines of an archive, many at once, read on another thread; raises as :func:`read_archive`."""
    lines = read_archive(path)
    while page := await asyncio.to_thread(_next_page, lines):
        yield page


def _next_page(lines: Iterator[AnyLine]) -> list[AnyLine]:
    page: list[AnyLine] = []
    size = 0
    for line in islice(lines, _PAGE):
        page.append(line)
        if isinstance(line, RecordLine | CellLine):
            size += len(line.base64) + (0 if line.data is msgspec.UNSET else memoryview(line.data).nbytes)
        if size > _BYTES:
            break
    return page


def verify_archive(path: Path) -> End:
    """Check a whole archive and return its last line.

    Whoever keeps that line's hash elsewhere can tell later that the archive is still the same one; the lines alone
    cannot say that nobody wrote all of them anew.

    Raises: as :func:`read_archive`.
    """
    (end,) = deque(read_archive(path), 1)
    assert isinstance(end, End)
    return end


class _Chain:
    """What is known of an archive up to a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = FIRST
        self._number = 0
        self._counts: dict[type, int] = dict.fromkeys(
            (FamilyLine, RunLine, RecordLine, TaskLine, CellLine), 0
        )

    def follow(self, file: BinaryIO) -> Iterator[AnyLine]:
        """Yield lines up to the last one, which nothing may follow."""
        for raw in file:
            self._number += 1
            line = self._read(raw)
            if isinstance(line, End):
                self._check_end(line, raw)
                if file.read(1):
                    raise self._corrupt("is the last one, and something follows it")
                yield line
                return
            if type(line) in self._counts:
                self._counts[type(line)] += 1
            self._last = sha256(raw).hexdigest()
            yield line
        self._number += 1
        raise self._corrupt("is missing: the file was cut off before its last line")

    def _read(self, raw: bytes) -> AnyLine:
        try:
            line = _decode(raw)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise self._corrupt("cannot be read: it was changed or cut off") from None
        if line.prev != self._last:
            raise self._corrupt(
                "does not follow the one before it: one of the two was changed, or a line was removed, added or moved"
            )
        if isinstance(line, Opening) != (self._number == 1):
            raise self._corrupt("is not in its place: an archive has one first line")
        if isinstance(line, Opening) and line.format > FORMAT:
            raise SchemaTooNew(
                f"{self._path} has format {line.format}; this Reprise knows {FORMAT}.",
                hint="Install the newer Reprise.",
            )
        return line

    def _check_end(self, end: End, raw: bytes) -> None:
        body = raw[: -len(with_hash(b"", FIRST))] + b"}"
        if raw != with_hash(body, sha256(body).hexdigest()):
            raise self._corrupt("was changed: it does not match its own hash")
        if (end.lines, end.families, end.runs, end.records, end.tasks, end.cells) != (
            self._number,
            *self._counts.values(),
        ):
            raise self._corrupt("counts other lines than there are")

    def _corrupt(self, what: str) -> ArchiveCorrupt:
        return _corrupt(self._path, f"line {self._number} {what}")


def _corrupt(path: Path, what: str) -> ArchiveCorrupt:
    return ArchiveCorrupt(
        f"{path}: {what}.", hint="Take another copy of the archive; nothing was done with this one."
    )
