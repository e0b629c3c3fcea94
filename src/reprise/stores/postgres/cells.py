"""Cells in PostgreSQL: changed by the server in one statement, one caller at a time in a space."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import StoreCorrupt
from reprise.kernel.ids import Counter
from reprise.stores.cells import Cell, Change, Changed, View, check_changes, conflict, feed_gone, tap_of
from reprise.stores.postgres.connections import Pool
from reprise.stores.postgres.driver import Connection, Row
from reprise.stores.postgres.rows import checksum
from reprise.stores.postgres.statements import statements
from reprise.stores.signal import Signal

SQL = statements("cells.sql")

_LOW = 0xFFFFFFFF


class PostgresCells:
    """Cells by space and name.

    When a connection breaks before the server's answer came, the changes are sent again; the server knows them by
    their mark, and makes them once.
    """

    def __init__(self, pool: Pool, signal: Signal) -> None:
        self._pool = pool
        self._signal = signal
        self._marks = Counter()

    async def get(self, space: str, names: Sequence[str]) -> View:
        """Return cells by their names, in that order; with no names only how far the feed has come."""
        rows = await self._pool.run(lambda c: c.fetch(SQL["get"], space, list(names)))
        view = _to_view(space, rows)
        found = {cell.name: cell for cell in view.cells}
        return View([found[name] for name in names if name in found], view.position, view.at)

    async def apply(self, space: str, changes: Sequence[Change], *, origin: str = "") -> View:
        """Make all changes in one commit, or none; return the cells that these names have now.

        Raises ``CellConflict``, and ``ConfigurationError`` for changes that contradict each other.
        """
        check_changes(space, changes)
        columns = _columns(space, changes)
        mark, attempts = self._marks.new(), count()

        async def attempt(connection: Connection) -> Row:
            again = next(attempts) > 0
            [row] = await connection.fetch(SQL["apply"], space, *columns, origin, mark, again)
            return row

        done = await self._pool.run(attempt)
        if done["changed"]:
            self._signal.wake([tap_of(space)])
        if done["refused"] is not None:
            expected = next(c.expected for c in changes if c.name == done["refused"])
            raise conflict(space, done["refused"], expected or 0, done["has"])
        cells = [
            Cell(change.name, change.data, version, ends)
            for change, version, ends in zip(changes, done["versions"], done["ends"], strict=True)
            if change.data is not None
        ]
        return View(cells, done["head"], done["now"])

    async def scan(self, space: str, prefix: str = "", *, after: str = "", limit: int = 1000) -> View:
        """Return cells in the order of their names, those behind the name ``after``."""
        rows = await self._pool.run(lambda c: c.fetch(SQL["scan"], space, prefix, after, limit))
        self._tap_if(rows[0]["ended"], space)
        return _to_view(space, rows)

    async def feed(self, space: str, after: int, limit: int = 1000) -> list[Changed]:
        """Return what was changed behind a position, oldest first; raises ``FeedGone``."""
        rows = await self._pool.run(lambda c: c.fetch(SQL["feed"], space, after, limit))
        self._tap_if(rows[0]["ended"], space)
        if not rows[0]["known"]:
            raise feed_gone(space, after, rows[0]["kept_after"])
        return [_to_changed(space, row) for row in rows if row["position"] is not None]

    async def prune(self, space: str, keep: int) -> int:
        """Forget the oldest entries of the feed but ``keep`` of them; return how many went."""
        return await self._pool.run(lambda c: c.fetchval(SQL["prune"], space, keep))

    async def spaces(self) -> list[str]:
        """Return the names of the spaces that have cells."""
        return [row["first"] for row in await self._pool.run(lambda c: c.fetch(SQL["spaces"]))]

    def _tap_if(self, ended: bool, space: str) -> None:
        if ended:
            self._signal.wake([tap_of(space)])


def _columns(space: str, changes: Sequence[Change]) -> tuple[list[Any], ...]:
    return (
        [change.name for change in changes],
        [change.data for change in changes],
        [change.expected for change in changes],
        [None if change.ttl is None else round(change.ttl * MICROSECONDS) for change in changes],
        [None if change.data is None else checksum(space, change.name, change.data) for change in changes],
    )


def _to_view(space: str, rows: Sequence[Row]) -> View:
    """Return rows that all say how far the feed has come and what time it is; one may have no cell."""
    cells: list[Cell] = []
    for row in rows:
        if row["name"] is not None:
            _check(space, row, row["version"])
            cells.append(Cell(row["name"], row["data"], row["version"], row["expires_at"]))
    return View(cells, rows[0]["head"], rows[0]["now"])


def _to_changed(space: str, row: Row) -> Changed:
    if row["data"] is not None:
        _check(space, row, row["position"])
    return Changed(row["position"], row["name"], row["data"], row["expires_at"], row["origin"], row["at"])


def _check(space: str, row: Row, version: int) -> None:
    given = checksum(space, row["name"], row["data"])
    if row["checksum"] != given ^ (version & _LOW) ^ (row["expires_at"] & _LOW):
        raise StoreCorrupt(
            f"Version {version} of the cell {row['name']} of {space} does not match its checksum.",
            hint="The table was changed outside of Reprise: restore a backup.",
        )
