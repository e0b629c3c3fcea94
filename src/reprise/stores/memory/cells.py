"""Cells in memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from heapq import heappop, heappush
from operator import attrgetter

from reprise.kernel.clock import MICROSECONDS, Clock
from reprise.stores.cells import KEEP, Cell, Change, Changed, View, check_changes, conflict, feed_gone, tap_of
from reprise.stores.conditions import floor_of
from reprise.stores.signal import Signal

_position = attrgetter("position")


class _Space:
    """One space."""

    def __init__(self) -> None:
        self.cells: dict[str, Cell] = {}
        self.names: list[str] = []
        """Sorted."""
        self.feed: list[Changed] = []
        self.head = 0
        self.kept_after = 0
        self._ends: list[tuple[int, str]] = []
        """When cells end; what was changed since has another time, or none."""

    def enter(self, cell: Cell | None, name: str, origin: str, at: int, floor: int) -> None:
        """Let a cell be what it becomes, and say so in the feed."""
        self.head = max(self.head, floor) + 1
        data, expires_at = (cell.data, cell.expires_at) if cell else (None, 0)
        self.feed.append(Changed(self.head, name, data, expires_at, origin, at))
        if data is None:
            del self.cells[name]
            self.names.pop(bisect_left(self.names, name))
            return
        if name not in self.cells:
            insort(self.names, name)
        self.cells[name] = Cell(name, data, self.head, expires_at)
        if expires_at:
            heappush(self._ends, (expires_at, name))

    def let_end(self, now: int, floor: int) -> bool:
        """Remove what has ended; return whether there was any."""
        before = self.head
        while self._ends and self._ends[0][0] <= now:
            expires_at, name = heappop(self._ends)
            cell = self.cells.get(name)
            if cell is not None and cell.expires_at == expires_at:
                self.enter(None, name, "", now, floor)
        return self.head > before


class MemoryCells:
    """Cells by space and name."""

    def __init__(self, clock: Clock, signal: Signal) -> None:
        self._clock = clock
        self._signal = signal
        self._spaces: dict[str, _Space] = {}
        self._floor = 0

    async def get(self, space: str, names: Sequence[str]) -> View:
        """Return cells by their names, in that order; with no names only how far the feed has come."""
        at, found = self._clock.now(), self._spaces.get(space)
        if found is None:
            return View([], 0, at)
        cells = [cell for name in names if (cell := found.cells.get(name)) and not _has_ended(cell, at)]
        return View(cells, found.head, at)

    async def apply(self, space: str, changes: Sequence[Change], *, origin: str = "") -> View:
        """Make all changes in one commit, or none; return the cells that these names have now.

        Raises ``CellConflict``, and ``ConfigurationError`` for changes that contradict each other.
        """
        check_changes(space, changes)
        found, at = self._touch(space)
        for change in changes:
            known = found.cells.get(change.name)
            version = known.version if known else 0
            if change.expected is not None and change.expected != version:
                raise conflict(space, change.name, change.expected, version)
        before = found.head
        self._spaces[space] = found
        for change in changes:
            self._make(found, change, origin, at)
        if found.head > before:
            self._signal.wake([tap_of(space)])
        return View([found.cells[each.name] for each in changes if each.data is not None], found.head, at)

    async def scan(self, space: str, prefix: str = "", *, after: str = "", limit: int = 1000) -> View:
        """Return cells in the order of their names, those behind the name ``after``."""
        found, at = self._touch(space)
        names = found.names
        first = max(bisect_left(names, prefix), bisect_right(names, after) if after else 0)
        page = [name for name in names[first : first + limit] if name.startswith(prefix)]
        return View([found.cells[name] for name in page], found.head, at)

    async def feed(self, space: str, after: int, limit: int = 1000) -> list[Changed]:
        """Return what was changed behind a position, oldest first; raises ``FeedGone``."""
        found, _ = self._touch(space)
        feed = found.feed
        first = bisect_right(feed, after, key=_position)
        known = feed[first - 1].position if first else found.kept_after
        if after != known:
            raise feed_gone(space, after, found.kept_after)
        return feed[first : first + limit]

    async def prune(self, space: str, keep: int) -> int:
        """Forget the oldest entries of the feed but ``keep`` of them; return how many went."""
        found = self._spaces.get(space)
        gone = max(len(found.feed) - keep, 0) if found else 0
        if found and gone:
            found.kept_after = found.feed[gone - 1].position
            del found.feed[:gone]
        return gone

    async def spaces(self) -> list[str]:
        """Return the names of the spaces that have cells."""
        return sorted(name for name, space in self._spaces.items() if space.cells)

    def begin_epoch(self, epoch: int) -> None:
        """Give from now on only positions that are higher than any before."""
        self._floor = max(self._floor, floor_of(epoch))

    def _touch(self, space: str) -> tuple[_Space, int]:
        """Return a space without what has ended, and the time."""
        found, at = self._spaces.get(space) or _Space(), self._clock.now()
        if found.let_end(at, self._floor):
            self._signal.wake([tap_of(space)])
        return found, at

    def _make(self, found: _Space, change: Change, origin: str, at: int) -> None:
        known = found.cells.get(change.name)
        if change.data is None:
            cell = None
            if known is None:
                return
        elif change.ttl is None:
            cell = Cell(change.name, change.data, 0)
        elif change.ttl == KEEP:
            cell = Cell(change.name, change.data, 0, known.expires_at if known else 0)
        else:
            cell = Cell(change.name, change.data, 0, at + round(change.ttl * MICROSECONDS))
        found.enter(cell, change.name, origin, at, self._floor)


def _has_ended(cell: Cell, now: int) -> bool:
    return 0 < cell.expires_at <= now
