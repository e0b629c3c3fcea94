"""The promise of the queue: work that somebody will do, one claimer at a time.

Order is by ``order`` (smaller first), a number that one pure function computes when the task is offered
(``kernel.order``: strict priority, weighted fair, earliest deadline), then by the time of the offer. A claim is a
lease: it has a token, ends after its time, and a settle with an old token is refused. Dead letters are a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Task(msgspec.Struct, frozen=True):
    """One piece of queued work."""

    id: str
    """Also its idempotency key: offering a live id again changes nothing."""
    queue: str
    data: bytes = b""
    order: float = 0.0
    due_at: int = 0
    """Not before this time (microseconds); 0 = at once."""
    state: str = "ready"
    """ready, claimed, done, dead."""
    claims: int = 0
    """How often it was claimed."""
    token: int = 0
    worker: str = ""
    until: int = 0
    """End of the claim (microseconds)."""
    note: str = ""
    """Why it was put back or died."""


class Queue(Protocol):
    """Queues by name."""

    async def offer(self, tasks: Sequence[Task]) -> int:
        """Add tasks and return how many were new."""
        ...

    async def claim(self, queue: str, worker: str, limit: int, ttl: float) -> list[Task]:
        """Claim up to ``limit`` ready, due tasks (and claimed ones whose claim ended) for ``ttl`` seconds."""
        ...

    async def extend(self, tasks: Sequence[Task], ttl: float) -> list[Task | None]:
        """Extend claims; None in the place of each that was lost."""
        ...

    async def settle(self, task: Task, state: str, *, due_at: int = 0, note: str = "") -> bool:
        """End a claim: ``done``, ``dead``, or ``ready`` again at ``due_at``. False = the token is old, nothing changed."""
        ...

    async def names(self) -> list[str]:
        """Return the names of the queues that have tasks of any state."""
        ...

    async def find(self, queue: str, state: str = "", limit: int = 100) -> list[Task]:
        """Return tasks in their order, of one state if given."""
        ...

    async def change(
        self,
        queue: str,
        ids: Sequence[str],
        *,
        order: float | None = None,
        due_at: int | None = None,
        state: str | None = None,
    ) -> int:
        """Change unclaimed tasks (redrive dead ones, delay, re-order); return how many."""
        ...

    async def stats(self, queue: str) -> dict[str, int]:
        """Return counts by state, and ``oldest_us`` = age of the oldest ready task."""
        ...
