"""Versions of the code: whose runs a worker takes."""

from __future__ import annotations

from collections.abc import Callable, Collection

from reprise.kernel.errors import ConfigurationError
from reprise.stores.runs import RunRow

Accepts = Collection[str] | Callable[[str], bool] | None
"""Builds whose runs a worker takes besides those of its own: these, those for which the function is true, None = all."""


class Builds:
    """The build of a worker, and its mind about others.

    A run that no named build has had is anybody's. With ``accepts`` None a worker tries the runs of any build: what it
    cannot replay it gives back, untouched, and does not try again.
    """

    def __init__(self, own: str, accepts: Accepts) -> None:
        if isinstance(accepts, str):
            raise ConfigurationError(f"accepts is {accepts!r}.", hint=f"Give a collection: [{accepts!r}].")
        self.own = own
        self.shunned: list[str] = []
        """Builds that were met and are not accepted."""
        self._accepts = accepts
        self._met = {"", own}

    def admits(self, row: RunRow) -> bool:
        """Tell whether a run may be tried here."""
        if row.pinned:
            return row.pinned == self.own
        if row.build not in self._met:
            self._met.add(row.build)
            if not self._accepted(row.build):
                self.shunned.append(row.build)
        return row.build not in self.shunned and not (self.own and self.own in row.refused)

    def _accepted(self, build: str) -> bool:
        if self._accepts is None:
            return True
        return self._accepts(build) if callable(self._accepts) else build in self._accepts
