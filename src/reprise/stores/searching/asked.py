"""What a page is asked for, and between which bounds it is looked for."""

from __future__ import annotations

from collections.abc import Sequence

from reprise.kernel.query import Compare, Query
from reprise.stores.searching.sources import Source


class Asked:
    """The conditions of a page, its direction, and where it begins."""

    def __init__(self, parts: Sequence[Query], limit: int, newest_first: bool) -> None:
        self.parts, self.limit, self.newest_first = parts, limit, newest_first
        self.edge: tuple[int, str] | None = None
        """Age of the last run of the page before."""
        self.begins: int | None = None
        """Moment before which, in the order of the page, no run meets all conditions."""
        self._bounding = frozenset(
            at for at, part in enumerate(parts) if isinstance(part, Compare) and part.field == "created"
        )

    @property
    def bounds(self) -> list[Query]:
        """The conditions that bound the walk of any index."""
        return [self.parts[at] for at in sorted(self._bounding)]

    def left_by(self, source: Source) -> list[Query]:
        """Return the conditions that are still to be asked of what a source gives between the bounds."""
        return [
            part for at, part in enumerate(self.parts) if at not in source.covers and at not in self._bounding
        ]

    def is_met_by(self, source: Source) -> bool:
        """Tell whether nothing is left to be asked."""
        return not self.left_by(source)

    def start(self) -> int:
        """Return the moment at which the page begins."""
        known = [at for at in (self.begins, self.edge and self.edge[0]) if at is not None]
        if self.newest_first:
            return min(known, default=2**63 - 1)
        return max(known, default=-(2**63))

    def begin(self, first: Sequence[int]) -> None:
        """Take note that a condition is met first at one of these moments."""
        if not first:
            return
        if self.newest_first:
            self.begins = min(self.start(), max(first))
        else:
            self.begins = max(self.start(), min(first))

    def is_beyond(self, horizon: int | None) -> bool:
        """Tell whether the page begins beyond a moment."""
        return horizon is not None and (
            self.start() < horizon if self.newest_first else self.start() > horizon
        )

    def way(self, fragment: str) -> str:
        """Return the name of a fragment that has two directions."""
        return f"{fragment}_{'newest' if self.newest_first else 'oldest'}"

    @property
    def order(self) -> str:
        """The order of candidates in SQL."""
        return "c.created_at DESC, c.run DESC" if self.newest_first else "c.created_at, c.run"
