"""A disk that loses power: record what SQLite asks of a file system, then build what a crash would have left.

``kill -9`` proves recovery, not durability: the pages of a dead process are still written. Here the keeper runs, by
its ``connect=``, over an ``apsw`` VFS that lets everything pass and writes down each write, truncation, sync, creation
and deletion. From one such trace the disk is built as it may be after power failed between any two of them: what a
sync had returned for is there; of the rest a random part, in whole or torn at sectors, in order or not.

What is taken for granted is what SQLite takes for granted: a sync keeps its word, and a write damages nothing outside
of its own range ("powersafe overwrite"). A new journal's first sync makes the folder durable, as SQLite's own does.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import msgspec

from reprise.stores.sqlite.database import FUNCTIONS

SECTOR = 512
STYLES = ("nothing", "everything", "in order", "any writes", "torn", "garbage")
"""What becomes of the writes that no sync covered."""


class Created(msgspec.Struct, frozen=True):
    """A name now leads to a new, empty file."""

    file: str


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


class Delete(msgspec.Struct, frozen=True):
    """A name was removed; ``sync``: durably."""

    file: str
    sync: bool


class Promise(msgspec.Struct, frozen=True):
    """The keeper acknowledged something to somebody."""

    what: Any


Op = Created | Write | Truncate | Sync | Delete | Promise


# ---------------------------------------------------------------- recording


class Trace:
    """Everything that one or more connections asked of the file system, in order."""

    _numbers = itertools.count()

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.known: set[str] = set()
        """Files that exist, by name."""
        self._vfs = _RecordingVFS(f"power-loss-{next(self._numbers)}", self)

    def promise(self, what: Any) -> None:
        """Note that something was acknowledged now."""
        self.ops.append(Promise(what))

    def connect(self, uri: str) -> Connection:
        """Open a recorded connection; what the keeper wants of its ``connect=``."""
        return Connection(uri, self._vfs.vfs_name)

    def created(self, file: str) -> None:
        """Note that a file exists, if that is news."""
        if file not in self.known:
            self.known.add(file)
            self.ops.append(Created(file))


class _RecordingVFS(apsw.VFS):
    def __init__(self, name: str, trace: Trace) -> None:
        self.vfs_name = name
        self._trace = trace
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            return apsw.VFSFile("", name, flags)
        return _RecordingFile(name, Path(path).name, flags, self._trace)

    def xDelete(self, path: str, sync: bool) -> None:  # noqa: N802
        try:
            super().xDelete(path, sync)
        except apsw.IOError as error:
            if error.extendedresult == apsw.SQLITE_IOERR_DELETE_NOENT:
                return
            raise
        self._trace.known.discard(Path(path).name)
        self._trace.ops.append(Delete(Path(path).name, sync))


class _RecordingFile(apsw.VFSFile):
    def __init__(self, name: Any, file: str, flags: list[int], trace: Trace) -> None:
        journal = flags[0] & (apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL)
        self._file, self._trace = file, trace
        self._folder = bool(journal and flags[0] & apsw.SQLITE_OPEN_CREATE)
        super().__init__("", name, flags)
        trace.created(file)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._trace.ops.append(Write(self._file, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._trace.ops.append(Truncate(self._file, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._trace.ops.append(Sync(self._file, self._folder))
        self._folder = False


class Connection:
    """An ``apsw`` connection in the clothes of one of ``sqlite3``."""

    def __init__(self, uri: str, vfs: str) -> None:
        access = apsw.SQLITE_OPEN_READONLY if uri.endswith("mode=ro") else apsw.SQLITE_OPEN_READWRITE
        self._connection = apsw.Connection(uri, flags=access | apsw.SQLITE_OPEN_URI, vfs=vfs)
        for name, function in FUNCTIONS.items():
            self._connection.create_scalar_function(name, function, deterministic=True)

    @property
    def in_transaction(self) -> bool:
        """Return whether a transaction is open."""
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = (), /) -> Rows:
        """Execute one statement to its end."""
        rows = list(self._connection.execute(sql, parameters))
        return Rows(rows, self._connection.changes())

    def close(self) -> None:
        """Close the connection. SQLite tries the lock of the last one, which a read-only file refuses."""
        with suppress(apsw.IOError):
            self._connection.close()


class Rows:
    """The rows of a statement."""

    def __init__(self, rows: list[Any], changed: int) -> None:
        self.rowcount = changed
        self._rows = iter(rows)

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return list(self._rows)


# ---------------------------------------------------------------- the disk after the crash


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write | Truncate] = field(default_factory=list)


class Disk:
    """The state of the file system while a trace is played."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}
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
        elif isinstance(op, Delete):
            del self._files[op.file]
            self._entries.append((op.file, None))
            if op.sync:
                self._sync_folder()

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

    def after_power_loss(self, dice: random.Random, style: str) -> dict[str, bytes]:
        """Return the files as they may be found when power fails now."""
        most = len(self._entries)
        happened = {"nothing": 0, "everything": most}.get(style, dice.randint(0, most))
        return {name: _torn(file, dice, style) for name, file in self._names(happened).items()}


def _torn(file: _File, dice: random.Random, style: str) -> bytes:
    content = bytearray(file.durable)
    for op in _survivors(file.pending, dice, style):
        _apply(content, op)
    return bytes(content)


def _survivors(
    pending: Sequence[Write | Truncate], dice: random.Random, style: str
) -> Iterator[Write | Truncate]:
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


def _sectors(write: Write, dice: random.Random, share: float, style: str) -> Iterator[Write]:
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


def crashes(
    ops: Sequence[Op], count: int, dice: random.Random
) -> Iterator[tuple[int, str, dict[str, bytes]]]:
    """Yield (how many things had happened, style, files) for ``count`` power cuts, half of them beside a sync."""
    syncs = [n for n, op in enumerate(ops) if isinstance(op, Sync)] or range(len(ops))
    cuts = [dice.randint(0, len(ops)) for _ in range(count - count // 2)]
    cuts += [min(len(ops), dice.choice(syncs) + dice.randint(0, 2)) for _ in range(count // 2)]
    disk, played = Disk(), 0
    for cut in sorted(cuts):
        while played < cut:
            disk.play(ops[played])
            played += 1
        style = dice.choice(STYLES)
        yield cut, style, disk.after_power_loss(dice, style)
