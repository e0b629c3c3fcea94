"""Who is there in memory: nobody but this process, so nobody is seen to die."""

from __future__ import annotations

from collections.abc import Collection, Sequence


class MemoryPresence:
    """Says nothing of anybody; leases decide."""

    async def enter(self, worker: str) -> None:
        """Do nothing."""

    async def leave(self, worker: str) -> None:
        """Do nothing."""

    async def died(self, workers: Collection[str]) -> set[str]:
        """Return nobody."""
        return set()

    async def forget(self, worker: str) -> None:
        """Do nothing."""

    async def seen(self) -> Sequence[str]:
        """Return nobody."""
        return ()
