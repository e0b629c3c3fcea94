"""The store over one SQLite file: opens everything, closes everything."""

from __future__ import annotations

import asyncio
import difflib
import os
import weakref
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from reprise.kernel.clock import Clock, SystemClock
from reprise.kernel.errors import ConfigurationError, StoreClosed, UnknownOption
from reprise.stores.sqlite import database, faults
from reprise.stores.sqlite.database import Connect, Connection
from reprise.stores.sqlite.log import SQLiteLog
from reprise.stores.sqlite.readers import Readers
from reprise.stores.sqlite.runs import SQLiteRuns
from reprise.stores.sqlite.signal import SQLiteSignal
from reprise.stores.sqlite.turnstile import Turnstile
from reprise.stores.sqlite.writer import Writer

SYNCHRONOUS = ("FULL", "NORMAL", "OFF")
OPTIONS = ("synchronous", "busy", "unsafe_fs")


class SQLiteStore:
    """All ports over one file, for any number of processes of one machine.

    ``synchronous``
        FULL (default): acknowledged = on the disk. NORMAL: a crash of the machine may lose the newest commits, never
        their order. OFF: for tests only; a crash of the machine may lose or damage the file.
    ``busy``
        Seconds that a commit waits for other processes before ``StoreLocked``.
    ``unsafe_fs``
        Open the file even on a network file system.

    Beside the file stand SQLite's own ``-wal`` and ``-shm``, the folder ``<file>.wake`` (turn of the writers, sockets
    of the processes) and ``<file>.workers`` (presence). All are made for their owner alone.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: str = "FULL",
        busy: float = 30.0,
        unsafe_fs: bool = False,
        clock: Clock | None = None,
        connect: Connect = database.connect,
        readers: int = 2,
    ) -> None:
        if synchronous not in SYNCHRONOUS:
            raise ConfigurationError(
                f"synchronous cannot be {synchronous!r}.", hint="Use FULL, NORMAL or OFF."
            )
        if busy <= 0 or readers < 1:
            raise ConfigurationError(f"busy={busy} and readers={readers} must be positive.")
        self.path = Path(path).absolute()
        self._synchronous, self._busy, self._unsafe_fs = synchronous, busy, unsafe_fs
        self._clock = clock or SystemClock()
        self._connect = connect
        self._reader_threads = readers
        self._open: _Open | None = None
        _stores.add(self)

    @property
    def url(self) -> str:
        """The URL of the file."""
        options = "" if self._synchronous == "FULL" else f"?synchronous={self._synchronous}"
        return f"sqlite:///{self.path}{options}"

    @property
    def log(self) -> SQLiteLog:
        """The log. Raises ``StoreClosed`` before ``start`` and after ``stop``."""
        return self._opened.log

    @property
    def runs(self) -> SQLiteRuns:
        """The index of runs. Raises ``StoreClosed`` before ``start`` and after ``stop``."""
        return self._opened.runs

    @property
    def signal(self) -> SQLiteSignal:
        """The signal. Raises ``StoreClosed`` before ``start`` and after ``stop``."""
        return self._opened.signal

    @property
    def presence(self) -> Path:
        """Folder in which the workers of this machine hold their lock files."""
        return _beside(self.path, ".workers")

    async def start(self) -> None:
        """Open; idempotent. Creates or upgrades the schema.

        Raises ``StoreUnreachable``, ``StoreReadOnly``, ``StoreLocked``, ``StoreCorrupt``, ``SchemaTooNew`` or
        ``UnsupportedFileSystem``.
        """
        if self._open is not None:
            return
        turnstile, connection = await asyncio.to_thread(self._prepare)
        loop = asyncio.get_running_loop()
        writer = Writer(connection, self._open_writer, turnstile, self.path, self._busy, loop)
        readers = Readers(self.path, self._open_reader, self._reader_threads)
        signal = SQLiteSignal(self._wake_folder, self._clock, loop)
        self._open = _Open(turnstile, writer, readers, signal)

    async def stop(self) -> None:
        """Write what was handed over, then close; idempotent, safe before start."""
        opened, self._open = self._open, None
        if opened is not None:
            await opened.stop()

    def statistics(self) -> dict[str, int | float | str]:
        """Return counters: appends, commits, records, refused, bytes, jobs, waits for a turn, size of the file."""
        opened = self._opened
        size = sum(p.stat().st_size for p in (self.path, _beside(self.path, "-wal")) if p.exists())
        return {
            **opened.writer.counters,
            "turn_waits": opened.turnstile.waits,
            "file_bytes": size,
            "url": self.url,
        }

    @property
    def _opened(self) -> _Open:
        if self._open is None:
            raise StoreClosed(
                f"The store {self.path} is not open.", hint="Call start() first, in this process."
            )
        return self._open

    @property
    def _wake_folder(self) -> Path:
        return _beside(self.path, ".wake")

    def _prepare(self) -> tuple[Turnstile, Connection]:
        """Create and upgrade the file under the turnstile; return it and the connection that writes."""
        database.check_library()
        if not self._unsafe_fs:
            database.check_file_system(self.path)
        database.create_file(self.path)
        for folder in (self._wake_folder, self.presence):
            folder.mkdir(mode=0o700, exist_ok=True)
        turnstile = Turnstile(self._wake_folder)
        try:
            turnstile.enter(self._busy)
            try:
                return turnstile, self._open_upgraded()
            finally:
                turnstile.leave()
        except Exception as error:
            turnstile.close()
            raise faults.translate(error, self.path) from error

    def _open_upgraded(self) -> Connection:
        connection = self._open_writer()
        try:
            database.upgrade(connection, self.path)
            if self._synchronous != "OFF":
                database.grow_wal(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_writer(self) -> Connection:
        return database.open_writer(self.path, self._connect, self._synchronous, self._busy)

    def _open_reader(self) -> Connection:
        return database.open_reader(self.path, self._connect, self._busy)

    def forked(self) -> None:
        """Be closed in a child of ``os.fork``: a connection must not be used, nor closed, in another process."""
        opened, self._open = self._open, None
        if opened is not None:
            opened.abandon()
            _left_by_parent.append(opened)


class _Open:
    """What exists between start and stop."""

    def __init__(self, turnstile: Turnstile, writer: Writer, readers: Readers, signal: SQLiteSignal) -> None:
        self.turnstile, self.writer, self.readers, self.signal = turnstile, writer, readers, signal
        self.log = SQLiteLog(writer, readers)
        self.runs = SQLiteRuns(writer, readers)

    async def stop(self) -> None:
        self.signal.stop()
        self.writer.close()
        await asyncio.to_thread(self.writer.join)
        await asyncio.to_thread(self.readers.stop)
        self.turnstile.close()

    def abandon(self) -> None:
        self.writer.abandon()
        self.turnstile.abandon()
        self.readers.abandon()
        self.signal.abandon()


def open_sqlite(url: str, clock: Clock | None = None) -> SQLiteStore:
    """Return the store of a URL: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, with options behind ``?``.

    Raises ``ConfigurationError`` for a URL without a path and for an option's value, ``UnknownOption`` for its name.

    >>> open_sqlite("sqlite:////tmp/x.db?synchronous=NORMAL").url
    'sqlite:////tmp/x.db?synchronous=NORMAL'
    """
    parts = urlsplit(url)
    path = unquote(parts.path.removeprefix("/"))
    if parts.scheme != "sqlite" or parts.netloc or not path:
        raise ConfigurationError(
            f"{url!r} names no SQLite file.", hint="Write sqlite:///file.db or sqlite:////dir/file.db."
        )
    options: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, 1, 0) or OPTIONS
            raise UnknownOption(
                f"{url!r} has the unknown option {name!r}.", hint=f"Did you mean {near[0]!r}?"
            )
        options[name] = _value(name, value)
    return SQLiteStore(path, clock=clock, **options)


def _value(name: str, text: str) -> Any:
    if name == "busy":
        try:
            return float(text)
        except ValueError:
            raise ConfigurationError(f"busy={text!r} is not a number of seconds.") from None
    return text.upper() if name == "synchronous" else text in ("1", "true", "yes")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


_stores: weakref.WeakSet[SQLiteStore] = weakref.WeakSet()
_left_by_parent: list[_Open] = []
"""Kept for ever: letting go of a connection would close it."""


def _after_fork() -> None:
    for store in list(_stores):
        store.forked()


os.register_at_fork(after_in_child=_after_fork)
