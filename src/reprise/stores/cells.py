"""The promise of the cells: small values with versions that change together, and the feed of what changed.

A space is a set of cells that change in one commit, all or none. Its feed has an entry for each change of a cell, in
one order, and nobody who reads it misses or skips one. The version of a cell is the position of the entry that made
it: so versions only grow, also over removal, re-creation and restore, and who knows a version knows from where to read
on. A cell may end at a time by the keeper's clock; then it is gone, and whoever touches, scans or follows its space
enters that into the feed.

After changes a keeper taps those who listen to :func:`tap_of` the space. As every tap that may be lost, so whoever
follows a feed looks again after a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from reprise.kernel.errors import CellConflict, ConfigurationError, FeedGone

ABSENT = 0
"""As the version that is expected: there must be no such cell."""
KEEP = 0.0
"""As the time that a cell is to live: it ends when it would have ended anyway."""


class Cell(msgspec.Struct, frozen=True):
    """One value."""

    name: str
    data: bytes
    version: int
    expires_at: int = 0
    """Microseconds by the keeper's clock; 0 = it does not end."""


class Change(msgspec.Struct, frozen=True):
    """What is to become of one cell."""

    name: str
    data: bytes | None
    """None = remove it; where there is none, that changes nothing."""
    expected: int | None = None
    """Version that it must have, ``ABSENT`` = there must be none; None = whatever is there."""
    ttl: float | None = None
    """Seconds that it is to live; None = it does not end, ``KEEP`` = as before."""


class Changed(msgspec.Struct, frozen=True):
    """One entry of the feed."""

    position: int
    """Also the version of the cell from here on."""
    name: str
    data: bytes | None
    """None = it was removed, or its time was over."""
    expires_at: int
    origin: str
    """Who changed it, in the words of that caller; '' = nobody said, or its time was over."""
    at: int
    """Microseconds by the keeper's clock."""


class View(msgspec.Struct, frozen=True):
    """Cells as they were at one moment; what is not in it did not exist."""

    cells: list[Cell]
    position: int
    """All that the feed says up to here is in it; of what comes later, some may be."""
    at: int
    """Microseconds by the keeper's clock."""


class Cells(Protocol):
    """Cells by space and name."""

    async def get(self, space: str, names: Sequence[str]) -> View:
        """Return cells by their names, in that order; with no names only how far the feed has come."""
        ...

    async def apply(self, space: str, changes: Sequence[Change], *, origin: str = "") -> View:
        """Make all changes in one commit, or none; return the cells that these names have now.

        The position is that of the last entry made, so it is also the version at which what was removed has gone.

        Raises ``CellConflict`` when a cell does not have the version that is expected, ``ConfigurationError`` when a
        name comes twice or a time to live is negative.
        """
        ...

    async def scan(self, space: str, prefix: str = "", *, after: str = "", limit: int = 1000) -> View:
        """Return cells in the order of their names (of code points), those behind the name ``after``.

        A space of several pages may change between them: read on in the feed from the position of the first.
        """
        ...

    async def feed(self, space: str, after: int, limit: int = 1000) -> list[Changed]:
        """Return what was changed behind a position, oldest first.

        Raises ``FeedGone`` when entries behind it are no longer kept, and when it is no position of this feed: the
        store was restored, and what was read behind its copy never happened.
        """
        ...

    async def prune(self, space: str, keep: int) -> int:
        """Forget the oldest entries of the feed but ``keep`` of them; return how many went. Cells stay."""
        ...

    async def spaces(self) -> list[str]:
        """Return the names of the spaces that have cells."""
        ...


async def whole_space(cells: Cells, space: str, page: int = 1000) -> View:
    """Return all cells of a space, in the order of their names, as of one position exactly; read in pages.

    What changes between two pages is in the feed, which is read from the position of the first of them on.
    """
    while True:
        view = await cells.scan(space, limit=page)
        position, some = view.position, view.cells
        found = {cell.name: cell for cell in some}
        while len(some) == page:
            view = await cells.scan(space, after=some[-1].name, limit=page)
            some = view.cells
            found.update({cell.name: cell for cell in some})
        try:
            position = await _catch_up(cells, space, found, position, page)
        except FeedGone:
            continue  # so much was changed meanwhile that it is no longer kept
        return View([found[name] for name in sorted(found)], position, view.at)


async def _catch_up(cells: Cells, space: str, found: dict[str, Cell], position: int, page: int) -> int:
    """Let cells be as the feed says behind a position; return how far that goes."""
    while entries := await cells.feed(space, position, page):
        for entry in entries:
            found.pop(entry.name, None)
            if entry.data is not None:
                found[entry.name] = Cell(entry.name, entry.data, entry.position, entry.expires_at)
        position = entries[-1].position
        if len(entries) < page:
            break
    return position


def tap_of(space: str) -> str:
    """Return the name by which those are tapped who follow a space.

    >>> tap_of("app")
    'cells/app'
    """
    return f"cells/{space}"


def check_changes(space: str, changes: Sequence[Change]) -> None:
    """Raise ``ConfigurationError`` for changes that contradict each other or themselves."""
    names = [change.name for change in changes]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigurationError(
            f"The cell {twice} of {space} is to change twice at once.",
            hint="Say only what it is to be in the end.",
        )
    for change in changes:
        if not change.name:
            raise ConfigurationError(
                f"A cell of {space} has no name.", hint="Give it one of a letter or more."
            )
        if change.ttl is not None and change.ttl < 0:
            raise ConfigurationError(
                f"The cell {change.name} of {space} cannot live for {change.ttl} s.",
                hint="Give a positive number of seconds, or None for ever.",
            )


def conflict(space: str, name: str, expected: int, found: int) -> CellConflict:
    """Return the error for a cell that does not have the version expected."""
    has = f"has version {found}" if found else "does not exist"
    wanted = f"not {expected}" if expected else "and should not exist"
    return CellConflict(
        f"The cell {name} of {space} {has}, {wanted}; nothing was changed.",
        hint="Read it again, and decide anew.",
        name=name,
        expected=expected,
        found=found,
    )


def feed_gone(space: str, after: int, kept_after: int) -> FeedGone:
    """Return the error for a position behind which the feed does not go on."""
    return FeedGone(
        f"The feed of {space} does not go on behind position {after}: it is kept from behind {kept_after} on, or the"
        " store was restored.",
        hint="Scan the cells anew, and read on from there.",
        kept_after=kept_after,
    )
