"""Cells over one SQLite file: every change is a job of the writer and shares its commits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from reprise.kernel.clock import MICROSECONDS
from reprise.stores.cells import KEEP, Cell, Change, Changed, View, check_changes, conflict, feed_gone, tap_of
from reprise.stores.conditions import floor_of
from reprise.stores.signal import Signal
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.meta import KeeperClock, stored
from reprise.stores.sqlite.readers import Readers, at_once
from reprise.stores.sqlite.rows import check_row, sealed
from reprise.stores.sqlite.statements import Statements
from reprise.stores.sqlite.writer import Transaction, Writer

SQL = Statements("cells.sql")

FORGOTTEN_AT_ONCE = 1000
"""Entries of a feed that one commit forgets."""


class SQLiteCells:
    """Cells by space and name."""

    def __init__(self, writer: Writer, readers: Readers, signal: Signal, clock: KeeperClock) -> None:
        self._writer = writer
        self._readers = readers
        self._signal = signal
        self._clock = clock

    async def get(self, space: str, names: Sequence[str]) -> View:
        """Return cells by their names, in that order; with no names only how far the feed has come."""

        def look(connection: Connection) -> View:
            now = self._now(connection)
            position, _ = _space(connection, space)
            found = [_cell(connection, space, name) for name in names]
            return View([cell for cell in found if cell and not _has_ended(cell, now)], position, now)

        return await self._readers.read(at_once(look))

    async def apply(self, space: str, changes: Sequence[Change], *, origin: str = "") -> View:
        """Make all changes in one commit, or none; return the cells that these names have now.

        Raises ``CellConflict``, and ``ConfigurationError`` for changes that contradict each other.
        """
        check_changes(space, changes)
        return await self._change(space, lambda transaction: _apply(transaction, space, changes, origin))

    async def scan(self, space: str, prefix: str = "", *, after: str = "", limit: int = 1000) -> View:
        """Return cells in the order of their names, those behind the name ``after``."""

        def look(connection: Connection) -> View:
            now = self._now(connection)
            position, _ = _space(connection, space)
            rows = connection.execute(SQL["page"], (space, prefix, after, now, limit)).fetchall()
            page = [_to_cell(row) for row in rows if row[1].startswith(prefix)]
            return View(page, position, now)

        await self._let_end(space)
        return await self._readers.read(at_once(look))

    async def feed(self, space: str, after: int, limit: int = 1000) -> list[Changed]:
        """Return what was changed behind a position, oldest first; raises ``FeedGone``."""

        def look(connection: Connection) -> list[Changed]:
            rows = connection.execute(SQL["feed"], (space, after, limit)).fetchall()
            if connection.execute(SQL["is_kept"], (space, after)).fetchone() is None:
                _, kept_after = _space(connection, space)
                if after != kept_after:
                    raise feed_gone(space, after, kept_after)
            return [_to_changed(row) for row in rows]

        await self._let_end(space)
        return await self._readers.read(at_once(look))

    async def prune(self, space: str, keep: int) -> int:
        """Forget the oldest entries of the feed but ``keep`` of them; return how many went."""
        gone = 0
        while some := await self._writer.submit(lambda transaction: _forget(transaction, space, keep)):
            gone += some
        return gone

    async def spaces(self) -> list[str]:
        """Return the names of the spaces that have cells."""
        rows = await self._readers.read(lambda connection: connection.execute(SQL["spaces"]).fetchall())
        return [name for (name,) in rows]

    def _now(self, connection: Connection) -> int:
        return self._clock.read(stored(connection, "clock"))

    async def _let_end(self, space: str) -> None:
        """Enter into the feed what has ended, if anything has."""

        def look(connection: Connection) -> bool:
            now = self._now(connection)
            return connection.execute(SQL["any_ended"], (space, now)).fetchone() is not None

        if await self._readers.read(look):
            await self._change(space, lambda transaction: _apply(transaction, space, (), ""))

    async def _change(self, space: str, work: Callable[[Transaction], tuple[View, bool]]) -> View:
        """Do a job that says whether it changed something; then those who follow are tapped, also if nobody waits."""
        future: asyncio.Future[tuple[View, bool]] = self._writer.submit(work)

        def tap(future: asyncio.Future[tuple[View, bool]]) -> None:
            if not future.cancelled() and future.exception() is None and future.result()[1]:
                self._signal.wake([tap_of(space)])

        future.add_done_callback(tap)
        view, _ = await asyncio.shield(future)
        return view


# ---------------------------------------------------------------- jobs of the writer


class _Open:
    """A space within a transaction: entries are made one after the other, and written at the end."""

    def __init__(self, transaction: Transaction, space: str, origin: str) -> None:
        self.connection, self.now = transaction.connection, transaction.counters.now()
        self.head, self._kept_after = _space(self.connection, space)
        self._before = self.head
        self._space, self._origin = space, origin
        self._entries: list[Any] = []
        self._cells: list[Any] = []

    def enter(self, name: str, data: bytes | None, expires_at: int, origin: str = "") -> int:
        """Let a cell be what it becomes; return its version."""
        if self.head == self._before:
            self.head = max(self.head, floor_of(stored(self.connection, "epoch")))
        self.head += 1
        entry = (self._space, self.head, name, data, expires_at, origin, self.now)
        self._entries += sealed(entry)
        if data is None:
            self.connection.execute(SQL["delete_cell"], (self._space, name))
        else:
            self._cells += sealed((self._space, name, data, self.head, expires_at))
        return self.head

    def let_end(self) -> None:
        """Remove what has ended."""
        for (name,) in self.connection.execute(SQL["ended"], (self._space, self.now)).fetchall():
            self.enter(name, None, 0)

    def flush(self) -> bool:
        """Write what was entered; return whether there was anything."""
        SQL.write(self.connection, "enter", self._entries, 8)
        SQL.write(self.connection, "put_cells", self._cells, 6)
        if self._entries:
            row = sealed((self._space, self.head, self._kept_after))
            self.connection.execute(SQL["put_space"], row)
        return bool(self._entries)


def _apply(transaction: Transaction, space: str, changes: Sequence[Change], origin: str) -> tuple[View, bool]:
    opened = _Open(transaction, space, origin)
    opened.let_end()
    known = [_cell(opened.connection, space, change.name) for change in changes]
    for change, cell in zip(changes, known, strict=True):
        version = cell.version if cell else 0
        if change.expected is not None and change.expected != version:
            raise conflict(space, change.name, change.expected, version)
    cells: list[Cell] = []
    for change, cell in zip(changes, known, strict=True):
        if change.data is not None:
            expires_at = _end_of(change, cell, opened.now)
            version = opened.enter(change.name, change.data, expires_at, origin)
            cells.append(Cell(change.name, change.data, version, expires_at))
        elif cell is not None:
            opened.enter(change.name, None, 0, origin)
    changed = opened.flush()
    return View(cells, opened.head, opened.now), changed


def _end_of(change: Change, cell: Cell | None, now: int) -> int:
    if change.ttl is None:
        return 0
    if change.ttl == KEEP:
        return cell.expires_at if cell else 0
    return now + round(change.ttl * MICROSECONDS)


def _forget(transaction: Transaction, space: str, keep: int) -> int:
    connection = transaction.connection
    head, _ = _space(connection, space)
    newest = connection.execute(SQL["newest_to_go"], (space, keep)).fetchone()
    if newest is None:
        return 0
    last = connection.execute(SQL["nth"], (space, FORGOTTEN_AT_ONCE - 1)).fetchone()
    through = min(newest[0], last[0]) if last else newest[0]
    connection.execute(SQL["forget"], (space, through))
    (gone,) = connection.execute(SQL["gone"]).fetchone()
    connection.execute(SQL["put_space"], sealed((space, head, through)))
    return gone


# ---------------------------------------------------------------- rows


def _space(connection: Connection, space: str) -> tuple[int, int]:
    """Return the newest position of a space, and the one behind which its feed is kept."""
    row = connection.execute(SQL["space"], (space,)).fetchone()
    if row is None:
        return 0, 0
    check_row("spaces", space, row)
    return row[1], row[2]


def _cell(connection: Connection, space: str, name: str) -> Cell | None:
    row = connection.execute(SQL["cell"], (space, name)).fetchone()
    return _to_cell(row) if row else None


def _to_cell(row: tuple[Any, ...]) -> Cell:
    check_row("cells", row[1], row)
    _, name, data, version, expires_at, _ = row
    return Cell(name, data, version, expires_at)


def _to_changed(row: tuple[Any, ...]) -> Changed:
    check_row("cell_changes", row[2], row)
    _, position, name, data, expires_at, origin, at, _ = row
    return Changed(position, name, data, expires_at, origin, at)


def _has_ended(cell: Cell, now: int) -> bool:
    return 0 < cell.expires_at <= now
