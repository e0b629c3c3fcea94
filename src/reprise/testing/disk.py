"""A disk that may lose power: what SQLite asks of it passes, and what no sync has covered may be lost or torn.

It stands between SQLite and the file system as a VFS of ``apsw``. What is taken for granted is what SQLite takes for
granted: a sync keeps its word, and a write damages nothing outside of its own range ("powersafe overwrite").
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import msgspec

from reprise.kernel.chance import Random
from reprise.stores.sqlite.database import FUNCTIONS

SECTOR = 512
STYLES = ("nothing", "everything", "in order", "any writes", "torn", "garbage")
"""What becomes of the writes that no sync covered."""


class Write(msgspec.Struct, frozen=True):
    """Bytes were handed to the system."""

    file: str
    offset: int
    data: bytes


class Truncate(msgspec.Struct, frozen=True):
    """A file was cut."""

    file: str
    size: int


class Sync(msgspec.Struct, frozen=True):
    """A sync of a file has returned; ``folder``: and of the folder it is in."""

    file: str
    folder: bool


class Created(msgspec.Struct, frozen=True):
    """A name now leads to a new, empty file."""

    file: str


class Deleted(msgspec.Struct, frozen=True):
    """A name was removed; ``sync``: durably."""

    file: str
    sync: bool


Op = Write | Truncate | Sync | Created | Deleted


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write | Truncate] = field(default_factory=list[Write | Truncate])


class Disk:
    """The files of a folder: what is durable of them, and what is not yet."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = {name: _File(bytearray(content)) for name, content in files.items()}
        self._durable = dict(self._files)
        """The folder as it would be after a crash at the latest sync of it."""
        self._entries: list[tuple[str, _File | None]] = []
        """What was done to the folder since."""

    @property
    def pending(self) -> int:
        """How many writes no sync has covered yet."""
        return sum(len(file.pending) for file in self._files.values())

    def play(self, op: Op) -> None:
        """Let one thing happen."""
        if isinstance(op, Created):
            if op.file not in self._files:
                self._files[op.file] = _File()
                self._entries.append((op.file, self._files[op.file]))
        elif isinstance(op, Write | Truncate):
            self._files[op.file].pending.append(op)
        elif isinstance(op, Sync):
            file = self._files[op.file]
            for write in file.pending:
                _apply(file.durable, write)
            file.pending.clear()
            if op.folder:
                self._sync_folder()
        else:
            del self._files[op.file]
            self._entries.append((op.file, None))
            if op.sync:
                self._sync_folder()

    def after_power_loss(self, dice: Random, style: str) -> dict[str, bytes]:
        """Return the files as they may be found when power fails now; ``style`` is one of :data:`STYLES`."""
        most = len(self._entries)
        happened = {"nothing": 0, "everything": most}.get(style, dice.randint(0, most))
        return {name: _torn(file, dice, style) for name, file in self._names(happened).items()}

    def _sync_folder(self) -> None:
        self._durable = self._names(len(self._entries))
        self._entries.clear()

    def _names(self, happened: int) -> dict[str, _File]:
        names = dict(self._durable)
        for name, file in self._entries[:happened]:
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file
        return names


def _torn(file: _File, dice: Random, style: str) -> bytes:
    content = bytearray(file.durable)
    for op in _survivors(file.pending, dice, style):
        _apply(content, op)
    return bytes(content)


def _survivors(pending: Sequence[Write | Truncate], dice: Random, style: str) -> Iterator[Write | Truncate]:
    if style == "everything":
        yield from pending
    elif style == "in order":
        last = dice.randint(0, len(pending))
        yield from pending[:last]
        if last < len(pending) and isinstance(write := pending[last], Write):
            yield Write(write.file, write.offset, write.data[: dice.randint(0, len(write.data))])
    elif style != "nothing":
        share = dice.random()
        for op in pending:
            if isinstance(op, Truncate) or style == "any writes":
                if dice.random() < share:
                    yield op
            else:
                yield from _sectors(op, dice, share, style)


def _sectors(write: Write, dice: Random, share: float, style: str) -> Iterator[Write]:
    """Yield the sectors of a write that reached the disk; of those in between, some as garbage."""
    start = write.offset
    end = start + len(write.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        if dice.random() < share:
            yield Write(write.file, start, write.data[start - write.offset : stop - write.offset])
        elif style == "garbage" and dice.random() < 0.1:
            yield Write(write.file, start, dice.randbytes(stop - start))
        start = stop


def _apply(content: bytearray, op: Write | Truncate) -> None:
    if isinstance(op, Truncate):
        if len(content) > op.size:
            del content[op.size :]
        else:
            content.extend(bytes(op.size - len(content)))
        return
    if len(content) < op.offset:
        content.extend(bytes(op.offset - len(content)))
    content[op.offset : op.offset + len(op.data)] = op.data


# ---------------------------------------------------------------- between SQLite and the file system


class Drive(apsw.VFS):
    """Hands everything on, and tells ``note`` of it; nothing is really synced."""

    _numbers = itertools.count()

    def __init__(self, note: Callable[[Op], None]) -> None:
        self.name = f"reprise-drive-{next(self._numbers)}"
        self._note = note
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        """Open a file."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            return apsw.VFSFile("", name, flags)
        self._note(Created(Path(path).name))
        return _DrivenFile(name, Path(path).name, flags, self._note)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        """Delete a file."""
        try:
            super().xDelete(filename, syncdir)
        except apsw.IOError as error:
            result: int = getattr(error, "extendedresult", 0)
            if result == apsw.SQLITE_IOERR_DELETE_NOENT:
                return
            raise
        self._note(Deleted(Path(filename).name, syncdir))


class _DrivenFile(apsw.VFSFile):
    def __init__(self, name: Any, file: str, flags: list[int], note: Callable[[Op], None]) -> None:
        journal = flags[0] & (apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL)
        self._file, self._note = file, note
        self._folder = bool(journal and flags[0] & apsw.SQLITE_OPEN_CREATE)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        system: Any = super()
        system.xWrite(data, offset)
        self._note(Write(self._file, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._note(Truncate(self._file, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._note(Sync(self._file, self._folder))
        self._folder = False


class Rows(list[Any]):
    """The rows of a statement."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return self.pop(0) if self else None

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return self


class DrivenConnection:
    """A connection of ``apsw`` in the clothes of one of ``sqlite3``.

    ``keeps_log``: it leaves its write-ahead log as it is when it is closed.
    """

    def __init__(self, uri: str, drive: Drive, *, keeps_log: bool = False) -> None:
        access = apsw.SQLITE_OPEN_READONLY if uri.endswith("mode=ro") else apsw.SQLITE_OPEN_READWRITE
        self._connection: Any = apsw.Connection(uri, flags=access | apsw.SQLITE_OPEN_URI, vfs=drive.name)
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(keeps_log))
        for name, function in FUNCTIONS.items():
            self._connection.create_scalar_function(name, function, deterministic=True)

    @property
    def in_transaction(self) -> bool:
        """Return whether a transaction is open."""
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: Any = (), /) -> Rows:
        """Execute one statement to its end and return its rows."""
        return Rows(self._connection.execute(sql, parameters))

    def close(self) -> None:
        """Close the connection. SQLite tries the lock of the last one, which a read-only file refuses."""
        with suppress(apsw.IOError):
            self._connection.close()
