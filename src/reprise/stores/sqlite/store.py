"""The store over one SQLite file: opens everything, closes everything."""

from __future__ import annotations

import asyncio
import os
import weakref
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from reprise.kernel.clock import Clock
from reprise.kernel.errors import ConfigurationError, StoreCorrupt, unknown_option
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.progress import Report, nobody
from reprise.stores.sqlite import backup, database, faults
from reprise.stores.sqlite.blobs import SQLiteBlobs
from reprise.stores.sqlite.cells import SQLiteCells
from reprise.stores.sqlite.crew import MACHINE, Crew
from reprise.stores.sqlite.database import Connect, Connection
from reprise.stores.sqlite.leases import SQLiteLease
from reprise.stores.sqlite.log import SQLiteLog
from reprise.stores.sqlite.meta import KeeperClock
from reprise.stores.sqlite.presence import SQLitePresence
from reprise.stores.sqlite.queue import SQLiteQueue
from reprise.stores.sqlite.readers import Readers
from reprise.stores.sqlite.runs import SQLiteRuns
from reprise.stores.sqlite.signal import SQLiteSignal
from reprise.stores.sqlite.transactions import SQLiteTransactions
from reprise.stores.sqlite.turnstile import Turnstile
from reprise.stores.sqlite.verify import find_problems
from reprise.stores.sqlite.watch import Watch
from reprise.stores.sqlite.writer import Transaction, Writer
from reprise.stores.store import Schema

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

    writer_type = Writer
    """Commits; a simulation watches over its own."""

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
        crew: Crew = MACHINE,
    ) -> None:
        if synchronous not in SYNCHRONOUS:
            raise ConfigurationError(
                f"synchronous cannot be {synchronous!r}.", hint="Use FULL, NORMAL or OFF."
            )
        if busy <= 0 or readers < 1:
            raise ConfigurationError(f"busy={busy} and readers={readers} must be positive.")
        # Companions lie beside the file itself, whatever link it was named by; SQLite does the same.
        self.path = Path(path).resolve()
        self._synchronous, self._busy, self._unsafe_fs, self._connect = synchronous, busy, unsafe_fs, connect
        self._crew = crew
        self._turnstile: Turnstile | None = None
        self._changing = asyncio.Lock()
        clock = clock or SURROUNDINGS.get().clock
        keeper_clock = KeeperClock(clock)
        self._writer = self.writer_type(self.path, busy, keeper_clock, self._open_writer, crew)
        self._readers = Readers(self.path, self._open_reader, readers, crew)
        self.signal = SQLiteSignal(_beside(self.path, ".wake"), clock, crew.open_post)
        self._watch = Watch(self._open_reader, self.signal.tap_all)
        self.log = SQLiteLog(self._writer, self._readers)
        self.blobs = SQLiteBlobs(self._writer, self._readers)
        self.runs = SQLiteRuns(self._writer, self._readers, keeper_clock)
        self.lease = SQLiteLease(self._writer, self._readers, self.signal, keeper_clock)
        self.queue = SQLiteQueue(self._writer, self._readers, self.signal, keeper_clock)
        self.cells = SQLiteCells(self._writer, self._readers, self.signal, keeper_clock)
        self.transactions = SQLiteTransactions(self._writer)
        self.presence = SQLitePresence(_beside(self.path, ".workers"))
        _stores.add(self)

    @property
    def url(self) -> str:
        """The URL of the file."""
        options = "" if self._synchronous == "FULL" else f"?synchronous={self._synchronous}"
        return f"sqlite:///{quote(str(self.path))}{options}"

    @property
    def epoch(self) -> int:
        """How many epochs began before the one we are in; as this process last saw it."""
        return self._writer.epoch

    async def begin_epoch(self, above: int = 0) -> int:
        """Begin an epoch higher than the present one and than ``above``; return its number."""

        def work(transaction: Transaction) -> int:
            epoch = transaction.counters.begin_epoch(above)
            transaction.ledger.begin_epoch(epoch)
            self.lease.begin_epoch(transaction)
            return epoch

        return await self._writer.submit(work)

    async def start(self) -> None:
        """Open; idempotent. Creates or upgrades the schema.

        Raises ``StoreUnreachable``, ``StoreReadOnly``, ``StoreLocked``, ``StoreCorrupt``, ``SchemaTooNew`` or
        ``UnsupportedFileSystem``.
        """
        async with self._changing:
            if self._turnstile is not None:
                return
            turnstile, connection = await self._crew.call(self._prepare)
            loop = asyncio.get_running_loop()
            self._turnstile = turnstile
            self._writer.start(connection, turnstile, loop)
            self._readers.start()
            self.signal.start(loop)
            if not self.signal.address:
                self._watch.start()
        try:
            await self.log.clear_dropped()
            await self.lease.forget_ended()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Write what was handed over, then close; idempotent, safe before start."""
        async with self._changing:
            turnstile, self._turnstile = self._turnstile, None
            if turnstile is None:
                return
            await self._watch.stop()
            self.signal.stop()
            # The writer last: only it can move what is left of the write-ahead log into the file.
            await self._crew.call(self._readers.close())
            self._writer.close()
            await self._crew.call(self._writer.join)
            await self._crew.call(turnstile.close)

    async def schema(self) -> Schema:
        """Return of what version the tables are, without changing anything; also before ``start``."""
        newest = database.migrations()[-1][0]
        return Schema(
            await asyncio.to_thread(database.version_of, self.path) if self.path.exists() else 0, newest
        )

    async def back_up(self, to: Path, report: Report = nobody) -> int:
        """Write the file, as it is at one moment, to another one, whoever works with it; return the size of that.

        Raises ``ConfigurationError`` when there is such a file, ``StoreCorrupt`` when what is copied is damaged.
        """
        return await asyncio.to_thread(backup.back_up, self.path, to, report)

    async def restore(self, copy: Path, *, replace: bool = False, report: Report = nobody) -> int:
        """Put a backup in the place of the file, whoever works with it, and begin an epoch; return that.

        Call it before ``start``. Processes that have the file open go on with what it holds then; what they still
        wanted to write about runs is refused. With ``replace`` what the file holds now is lost.

        Raises ``ConfigurationError`` when the file holds something and that is not to be replaced; ``StoreCorrupt``,
        ``SchemaTooNew`` or ``StoreUnreachable`` when the backup is none that can be used. Then nothing was changed.
        """
        above = backup.UNSEEN
        if self.path.exists():
            await self.start()
            try:
                above = self.epoch
                if not replace:
                    await self._readers.read(partial(backup.check_free, path=self.path))
            finally:
                await self.stop()
        with backup.Workshop(self.path) as folder:
            unpacked = await asyncio.to_thread(backup.unpack, copy, folder)
            restored = SQLiteStore(unpacked, unsafe_fs=self._unsafe_fs)
            await restored.start()
            try:
                if problems := await restored.verify():
                    raise StoreCorrupt(f"{copy} is damaged: {problems[0]}", hint="Take another backup.")
                epoch = await restored.begin_epoch(max(above, restored.epoch))
            finally:
                await restored.stop()
            await asyncio.to_thread(
                partial(backup.put_in_place, replace=replace),
                unpacked,
                self.path,
                _beside(self.path, ".wake"),
                self._busy,
                report,
            )
        return epoch

    async def verify(self) -> list[str]:
        """Check the whole file and return what is wrong with it, in words; empty = sound.

        Reads everything, at about 200,000 records a second, beside whatever else goes on.
        """
        return await self._readers.read(find_problems)

    def statistics(self) -> dict[str, int | float | str]:
        """Return counters: appends, commits, records, refused, bytes, jobs, waits for a turn, size of the file."""
        files = (self.path, database.wal_of(self.path))
        size = sum(file.stat().st_size for file in files if file.exists())
        waits = self._turnstile.waits if self._turnstile else 0
        return {**self._writer.counters, "turn_waits": waits, "file_bytes": size, "url": self.url}

    def _prepare(self) -> tuple[Turnstile, Connection]:
        """Create and upgrade the file under the turnstile; return it and the connection that writes."""
        database.check_library()
        if not self._unsafe_fs:
            database.check_file_system(self.path)
        database.create_file(self.path)
        wake = _beside(self.path, ".wake")
        for folder in (wake, _beside(self.path, ".workers")):
            folder.mkdir(mode=0o700, exist_ok=True)
        turnstile = Turnstile(wake, self._crew)
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
        turnstile, self._turnstile = self._turnstile, None
        if turnstile is not None:
            _left_by_parent.append((self._writer, self._readers))
            self._writer.abandon()
            self._readers.abandon()
            self.signal.abandon()
            self.presence.abandon()
            turnstile.abandon()


def open_sqlite(url: str, clock: Clock | None = None) -> SQLiteStore:
    """Return the store of a URL: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, with options behind ``?``.

    Raises ``ConfigurationError`` for a URL without a path and for an option's value, ``UnknownOption`` for its name.

    >>> open_sqlite("sqlite:////srv/my%20runs.db?synchronous=normal").url
    'sqlite:////srv/my%20runs.db?synchronous=NORMAL'
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
            raise unknown_option(name, OPTIONS, "The URL of an SQLite store")
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
_left_by_parent: list[object] = []
"""Kept for ever: letting go of a connection would close it."""


def _after_fork() -> None:
    for store in list(_stores):
        store.forked()


os.register_at_fork(after_in_child=_after_fork)
