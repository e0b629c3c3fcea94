"""Write an archive: a name that is not there before everything in it is, and is on the disk."""

from __future__ import annotations

import fcntl
import gzip
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import msgspec

from reprise.kernel.errors import ConfigurationError, StoreUnreachable
from reprise.stores.archive.lines import (
    FIRST,
    CellLine,
    End,
    FamilyLine,
    Line,
    RecordLine,
    RunLine,
    TaskLine,
)

_encode = msgspec.json.Encoder().encode
_COUNTED: dict[type[Line], str] = {
    FamilyLine: "families",
    RunLine: "runs",
    RecordLine: "records",
    TaskLine: "tasks",
    CellLine: "cells",
}


class ArchiveWriter:
    """Writes lines to ``path``, packed by gzip if its name ends in ``.gz``.

    Use it as a context manager: what is written stands in ``<path>.part`` until :meth:`close`; an error on the way
    leaves neither. The file is made for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: dict[str, int] = dict.fromkeys(_COUNTED.values(), 0)
        self.lines = 0
        self._part = path.with_name(path.name + ".part")
        self._last = FIRST
        self._file, self._out = self._open()

    def _open(self) -> tuple[BinaryIO, BinaryIO]:
        if self.path.exists():
            raise ConfigurationError(
                f"{self.path} exists already.", hint="Give another name; an archive is not added to."
            )
        try:
            file = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT, 0o600), "wb")
        except OSError as error:
            raise StoreUnreachable(
                f"{self._part} cannot be written ({error.strerror}).", hint="Give another folder."
            ) from error
        try:
            # One left by a process that died is free, and written anew.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ConfigurationError(
                f"Another process is writing {self.path}.", hint="Give another name."
            ) from None
        file.truncate()
        if self.path.suffix != ".gz":
            return file, file
        # No name and no time in it: the same runs make the same file.
        packed = gzip.GzipFile("", "wb", 6, file, mtime=0)
        return file, cast("BinaryIO", packed)

    def write(self, lines: Iterable[Line]) -> None:
        """Write lines."""
        for line in lines:
            kind = _COUNTED.get(type(line))
            if kind is not None:
                self.counts[kind] += 1
            self._put(b'{"prev":"%b",%b}\n' % (self._last.encode(), _encode(line)[1:-1]))

    def close(self) -> str:
        """Write the last line, make everything durable under the name it is to have, and return the last hash."""
        counts = self.counts
        end = End(
            lines=self.lines + 1,
            families=counts["families"],
            runs=counts["runs"],
            records=counts["records"],
            tasks=counts["tasks"],
            cells=counts["cells"],
        )
        body = b'{"prev":"%b",%b}' % (self._last.encode(), _encode(end)[1:-1])
        seal = sha256(body).hexdigest()
        self._put(with_hash(body, seal))
        if self._out is not self._file:
            self._out.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self.path)
        self._file.close()
        _sync_folder(self.path.parent)
        return seal

    def _put(self, line: bytes) -> None:
        self._out.write(line)
        self._last = sha256(line).hexdigest()
        self.lines += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._file.closed:
            self._part.unlink(missing_ok=True)
            self._file.close()


def with_hash(body: bytes, seal: str) -> bytes:
    """Return the last line: its body with its own hash behind it."""
    return b'%b,"hash":"%b"}\n' % (body[:-1], seal.encode())


def _sync_folder(folder: Path) -> None:
    """Make a new name durable."""
    handle: Any = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
