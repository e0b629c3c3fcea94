"""The promise of the lease: who may act, until when, under which fencing token.

Time is the keeper's clock, never the client's. A token only grows: over holders, restarts and restores (its high bits
are the store's epoch). A lease is not mutual exclusion by itself; the token is, wherever it is checked at the write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

NEVER = 2**62
"""When a lease ends that its holder has to give back: the place of a run that executes under a limit."""


class Grant(msgspec.Struct, frozen=True):
    """A lease that was given."""

    name: str
    holder: str
    token: int
    expires_at: int
    """Microseconds since the epoch by the keeper's clock."""


class Lease(Protocol):
    """Leases by name."""

    async def take(
        self,
        name: str,
        holder: str,
        ttl: float,
        *,
        limit: int = 1,
        shared: bool = False,
        wait: float | None = 0,
    ) -> Grant | None:
        """Take the lease for ``ttl`` seconds, or return None when it is not free within ``wait`` seconds.

        ``limit`` holders at most at one time. ``shared`` holders exclude only exclusive ones (readers and a writer).
        ``wait`` None = for ever; waiters are served first come, first served. Taking a lease one already holds renews
        it under the same token.
        """
        ...

    async def renew(self, grants: Sequence[Grant], ttl: float) -> list[Grant | None]:
        """Extend grants by ``ttl`` seconds from now; None in the place of each that was lost."""
        ...

    async def drop(self, grants: Sequence[Grant]) -> None:
        """Give grants back; those already lost are ignored."""
        ...

    async def holder(self, name: str) -> list[Grant]:
        """Return the live grants of a name (empty = free)."""
        ...

    async def find(self, prefix: str = "") -> list[Grant]:
        """Return the live grants of all names that begin with ``prefix``, by name, then oldest first.

        For people who look: it may go through all that is kept.
        """
        ...

    async def lift(self, grant: Grant, token: int) -> Grant | None:
        """Give a grant a token that is at least ``token``, and every later one a higher; None when it was lost.

        So several keepers can agree on one token. How far a keeper can be lifted at once may be bounded: see what the
        grant then has.
        """
        ...
