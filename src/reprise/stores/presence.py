"""The promise of presence: who is there, known sooner than a lease ends.

A process that is killed loses what the kernel or the server held for it at once; one that only stopped answering
(paused, out of reach) does not, and for that one the lease decides. So a sign of death is always true or harmless: what
a worker may write is decided by its token, never by this.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol


class Presence(Protocol):
    """Who is there of the workers of one store."""

    async def enter(self, worker: str) -> None:
        """Be seen as ``worker`` until :meth:`leave`, or the end of the process; idempotent."""
        ...

    async def leave(self, worker: str) -> None:
        """Be seen no more, after what was owned was given back."""
        ...

    async def died(self, workers: Collection[str]) -> set[str]:
        """Return those of ``workers`` that were here and are no more. Of the others nothing is known."""
        ...

    async def forget(self, worker: str) -> None:
        """Remove what is left of a worker that died and owns nothing more."""
        ...

    async def seen(self) -> Sequence[str]:
        """Return the workers of which there is a sign, dead or alive, where the keeper can list them."""
        ...
