"""Tasks that wait for a place under a limit, in the worker that has claimed them.

Those that need the same places stand in one line, and its head waits at the lease: first come, first served over all workers,
woken by whoever gives a place back. They take no hand from others meanwhile. A line is short; what finds it full is given back to
the queue until about the time when it would be its turn, so that many who wait for one place do not keep everybody busy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from reprise.coordination.places import Place, take
from reprise.kernel.errors import StoreError
from reprise.stores.lease import Grant, Lease

if TYPE_CHECKING:
    from reprise.coordination.worker import Job

LONGEST = 16
"""Tasks in one line."""
AGAIN = 1.0
"""Seconds after which the keeper is asked again that could not be reached."""

FIRST = 0.05
"""Seconds that a place is taken to need for one task, before it is known."""

_Waiting = tuple["Job", str]


class _Line:
    """Who waits for the same places, and who found the line full and is away."""

    def __init__(self, now: float) -> None:
        self.tasks: deque[_Waiting] = deque()
        self.away: set[str] = set()
        self._pace = FIRST
        self._served_at = now

    def served(self, now: float) -> None:
        """Note that one got its places."""
        self._pace += (now - self._served_at - self._pace) / 8
        self._served_at = now

    def turn(self, id: str) -> float:
        """Return in about how many seconds it would be the turn of a task that is sent away."""
        self.away.add(id)
        return self._pace * (len(self.tasks) + len(self.away))


class Lanes:
    """The lines of a worker. ``begin`` takes a task that has its places, ``give_back`` one that waited in vain."""

    def __init__(
        self,
        lease: Lease,
        ttl: float,
        most: int,
        begin: Callable[[Job], None],
        give_back: Callable[[Job], None],
    ) -> None:
        self._lease, self._ttl, self._most = lease, ttl, most
        self._now = asyncio.get_running_loop().time
        self._waiting = 0
        self._begin, self._give_back = begin, give_back
        self._lines: dict[tuple[Place, ...], _Line] = {}
        self._servers: dict[tuple[Place, ...], asyncio.Task[None]] = {}

    def line_up(self, job: Job, places: tuple[Place, ...], holder: str) -> float:
        """Let a task wait for its places; return 0, or for how many seconds to give it back when there is no room."""
        line = self._lines.get(places)
        if line is None:
            line = self._lines[places] = _Line(self._now())
        line.away.discard(job.row.id)
        if len(line.tasks) >= LONGEST or self._waiting >= self._most:
            return line.turn(job.row.id)
        line.tasks.append((job, holder))
        self._waiting += 1
        if places not in self._servers:
            self._servers[places] = asyncio.create_task(self._serve(places, line))
        return 0.0

    async def close(self) -> list[Job]:
        """Serve nobody any more; return who stood in line."""
        servers = list(self._servers.values())
        for server in servers:
            server.cancel()
        if servers:
            await asyncio.wait(servers)
        return [job for line in self._lines.values() for job, _ in line.tasks if not job.is_lost]

    async def _serve(self, places: tuple[Place, ...], line: _Line) -> None:
        try:
            while line.tasks:
                await self._serve_one(places, line)
            del self._lines[places]
        finally:
            del self._servers[places]

    async def _serve_one(self, places: tuple[Place, ...], line: _Line) -> None:
        job, holder = line.tasks[0]
        taken: list[Grant] | Place = []
        if not job.is_lost:
            try:
                taken = await take(self._lease, places, holder, self._ttl, wait=None)
            except StoreError:
                await asyncio.sleep(AGAIN)
                return
        line.tasks.popleft()
        self._waiting -= 1
        if isinstance(taken, Place):
            self._give_back(job)
        elif job.is_lost:
            await self._lease.drop(taken)
        else:
            line.served(self._now())
            job.places = taken
            self._begin(job)
