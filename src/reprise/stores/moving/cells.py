"""Cells from one store to another: as they are now, not what became of them; versions are the target's own."""

from __future__ import annotations

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import FeedGone
from reprise.stores.cells import Cell, Cells, Change, View, whole_space

ORIGIN = "copy"
"""Who changed them, in the feeds of the target."""
_PAGE = 500
_MOST_BYTES = 4 << 20
_SAME_END = MICROSECONDS
"""How far the ends of two cells may lie apart, by the clocks of two stores, to be the same."""


async def copy_cells(source: Cells, target: Cells) -> tuple[int, list[str]]:
    """Copy all cells and compare; return how many were written, and what is not the same, in words.

    A space of the target that somebody else has changed, too, is left as it is.
    """
    written, differences = 0, list[str]()
    for space in sorted({*await source.spaces(), *await target.spaces()}):
        changes = await _missing(source, target, space)
        if changes and await _is_a_copy(target, space):
            for some in pieces(changes):
                await target.apply(space, some, origin=ORIGIN)
            written += len(changes)
            changes = await _missing(source, target, space)
        differences += [f"the cell {change.name} of {space} is not the same" for change in changes]
    return written, differences


async def _is_a_copy(target: Cells, space: str) -> bool:
    """Return whether nobody but copies ever changed a space."""
    position = 0
    try:
        while page := await target.feed(space, position):
            if any(entry.origin != ORIGIN and entry.data is not None for entry in page):
                return False
            position = page[-1].position
    except FeedGone:
        return False
    return True


async def _missing(source: Cells, target: Cells, space: str) -> list[Change]:
    """Return what makes a space of the target like that of the source."""
    here, there = await whole_space(target, space, _PAGE), await whole_space(source, space, _PAGE)
    left = {cell.name: cell for cell in here.cells}
    changes: list[Change] = []
    for cell in there.cells:
        known = left.pop(cell.name, None)
        if known is None or not _is_same(cell, there, known, here):
            changes.append(Change(cell.name, cell.data, ttl=left_of(cell, there.at)))
    return [*changes, *(Change(name, None) for name in left)]


def _is_same(cell: Cell, there: View, known: Cell, here: View) -> bool:
    if cell.data != known.data or bool(cell.expires_at) != bool(known.expires_at):
        return False
    return abs((cell.expires_at - there.at) - (known.expires_at - here.at)) < _SAME_END or not cell.expires_at


def left_of(cell: Cell, at: int) -> float | None:
    """Return for how many seconds a cell is to live, None = it does not end."""
    return (cell.expires_at - at) / MICROSECONDS if cell.expires_at else None


def pieces(changes: list[Change]) -> list[list[Change]]:
    """Return changes in pieces that one commit takes."""
    cut: list[list[Change]] = [[]]
    size = 0
    for change in changes:
        size += len(change.data or b"")
        if cut[-1] and (len(cut[-1]) == _PAGE or size > _MOST_BYTES):
            cut.append([])
            size = len(change.data or b"")
        cut[-1].append(change)
    return cut if changes else []
