"""Cells whose values are sealed; names, versions and times are not."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from reprise.stores.cells import Cell, Cells, Change, Changed, View
from reprise.stores.packing.envelope import SEALED
from reprise.stores.packing.writing import Keys

_SEALED = bytes((SEALED,))


class SealedCells:
    """The cells of a keeper, opened with ``keys``."""

    def __init__(self, cells: Cells, keys: Keys) -> None:
        self._cells = cells
        self._keys = keys

    async def get(self, space: str, names: Sequence[str]) -> View:
        """Return cells by their names; raises ``KeyMissing`` or ``StoreCorrupt`` for what cannot be opened."""
        return self._opened(space, await self._cells.get(space, names))

    async def apply(self, space: str, changes: Sequence[Change], *, origin: str = "") -> View:
        """Make all changes in one commit, or none; return the cells that these names have now."""
        sealed = [
            change
            if change.data is None
            else replace(change, data=self._keys.seal(change.data, _place(space, change.name)))
            for change in changes
        ]
        return self._opened(space, await self._cells.apply(space, sealed, origin=origin))

    async def scan(self, space: str, prefix: str = "", *, after: str = "", limit: int = 1000) -> View:
        """Return cells in the order of their names; errors as of :meth:`get`."""
        return self._opened(space, await self._cells.scan(space, prefix, after=after, limit=limit))

    async def feed(self, space: str, after: int, limit: int = 1000) -> list[Changed]:
        """Return what was changed behind a position; errors as of :meth:`get`."""
        feed = await self._cells.feed(space, after, limit)
        return [
            each if each.data is None else replace(each, data=self._open(space, each.name, each.data))
            for each in feed
        ]

    async def prune(self, space: str, keep: int) -> int:
        """Forget the oldest entries of the feed but ``keep`` of them."""
        return await self._cells.prune(space, keep)

    async def spaces(self) -> list[str]:
        """Return the names of the spaces that have cells."""
        return await self._cells.spaces()

    def _opened(self, space: str, view: View) -> View:
        cells = [self._opened_cell(space, cell) for cell in view.cells]
        return View(cells, view.position, view.at)

    def _opened_cell(self, space: str, cell: Cell) -> Cell:
        return Cell(cell.name, self._open(space, cell.name, cell.data), cell.version, cell.expires_at)

    def _open(self, space: str, name: str, data: bytes) -> bytes:
        # What was written before there were keys stays readable.
        return self._keys.open(data, _place(space, name)) if data[:1] == _SEALED else data


def _place(space: str, name: str) -> bytes:
    """Return what a sealed value is bound to, so that it cannot be moved to another cell."""
    return f"cell\0{space}\0{name}".encode()
