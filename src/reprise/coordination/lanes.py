"""Tasks that wait for a place under a limit, in the worker that has claimed them.

Those that need the same places stand in one line, and its head waits at the lease: first come, first served over all workers,
woken by whoever gives a place back. They take no hand from others meanwhile. A line is short; what finds it full is given back to
the queue for a while.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from reprise.coordination.places import Place, take
from reprise.kernel.errors import StoreError
from reprise.stores.lease import Lease

if TYPE_CHECKING:
    from reprise.coordination.worker import Job

LONGEST = 16
"""Tasks in one line."""
AGAIN = 1.0
"""Seconds after which the keeper is asked again that could not be reached."""

_Waiting = tuple["Job", str]


class Lanes:
    """The lines of a worker. ``begin`` takes a task that has its places, ``give_back`` one that waited in vain."""

    def __init__(
        self, lease: Lease, ttl: float, begin: Callable[[Job], None], give_back: Callable[[Job], None]
    ) -> None:
        self._lease, self._ttl = lease, ttl
        self._begin, self._give_back = begin, give_back
        self._lines: dict[tuple[Place, ...], deque[_Waiting]] = {}
        self._servers: dict[tuple[Place, ...], asyncio.Task[None]] = {}

    @property
    def waiting(self) -> int:
        """How many tasks stand in line."""
        return sum(map(len, self._lines.values()))

    def line_up(self, job: Job, places: tuple[Place, ...], holder: str) -> bool:
        """Let a task wait for its places; False when the line is too long."""
        line = self._lines.setdefault(places, deque())
        if len(line) >= LONGEST:
            return False
        line.append((job, holder))
        if places not in self._servers:
            self._servers[places] = asyncio.create_task(self._serve(places, line))
        return True

    async def close(self) -> list[Job]:
        """Serve nobody any more; return who stood in line."""
        servers = list(self._servers.values())
        for server in servers:
            server.cancel()
        if servers:
            await asyncio.wait(servers)
        return [job for line in self._lines.values() for job, _ in line if not job.is_lost]

    async def _serve(self, places: tuple[Place, ...], line: deque[_Waiting]) -> None:
        try:
            while line:
                job, holder = line[0]
                if job.is_lost:
                    line.popleft()
                    continue
                try:
                    taken = await take(self._lease, places, holder, self._ttl, wait=None)
                except StoreError:
                    await asyncio.sleep(AGAIN)
                    continue
                line.popleft()
                if isinstance(taken, Place):
                    self._give_back(job)
                else:
                    job.places = taken
                    self._begin(job)
            del self._lines[places]
        finally:
            del self._servers[places]
