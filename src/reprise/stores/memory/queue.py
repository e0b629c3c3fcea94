"""Queues in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

import msgspec
from msgspec.structs import replace

from reprise.kernel.clock import MICROSECONDS, Clock
from reprise.kernel.errors import ConfigurationError
from reprise.stores.conditions import floor_of
from reprise.stores.queue import Task

KEPT_DONE = 1000
"""Finished tasks that a queue remembers for people to look at; older ones are forgotten."""

STATES = ("ready", "claimed", "done", "dead")


class _Entry(msgspec.Struct, eq=False):
    """A task and its place. Heaps hold (key, stamp, id); an item whose stamp is not the entry's is out of date."""

    task: Task
    number: int
    """Counts offers; the tie-break of the order."""
    offered_at: int
    stamp: int = 0


class _Line:
    """One queue."""

    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}
        self.ready: list[tuple[tuple[float, int], int, str]] = []
        self.later: list[tuple[int, int, str]] = []
        """Not ready before a time: due in the future, or claimed until then."""
        self.done: deque[str] = deque()
        self._stamps = 0

    def file(self, entry: _Entry, now: int) -> None:
        """Put an entry where its state says, and outdate the places where it was."""
        task = entry.task
        self._stamps += 1
        entry.stamp = self._stamps
        if task.state == "ready" and task.due_at <= now:
            heappush(self.ready, ((task.order, entry.number), entry.stamp, task.id))
        elif task.state in ("ready", "claimed"):
            at = task.due_at if task.state == "ready" else task.until
            heappush(self.later, (at, entry.stamp, task.id))
        elif task.state == "done":
            self.done.append(task.id)
            self._forget_old()

    def claimable(self, now: int) -> Iterator[_Entry]:
        """Yield entries that may be claimed, in order, each taken off the heap."""
        while self.later and self.later[0][0] <= now:
            _, stamp, id = heappop(self.later)
            entry = self.entries.get(id)
            if entry is not None and entry.stamp == stamp:
                heappush(self.ready, ((entry.task.order, entry.number), stamp, id))
        while self.ready:
            _, stamp, id = heappop(self.ready)
            entry = self.entries.get(id)
            if entry is not None and entry.stamp == stamp:
                yield entry

    def _forget_old(self) -> None:
        while len(self.done) > KEPT_DONE:
            id = self.done.popleft()
            if id in self.entries and self.entries[id].task.state == "done":
                del self.entries[id]


class MemoryQueue:
    """Queues by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._offers = 0
        self._last_token = 0

    async def offer(self, tasks: Sequence[Task]) -> int:
        """Add tasks and return how many were new; an id that is done may be offered anew."""
        now, new = self._clock.now(), 0
        for task in tasks:
            line = self._lines.setdefault(task.queue, _Line())
            known = line.entries.get(task.id)
            if known is not None and known.task.state != "done":
                continue
            self._offers += 1
            fresh = replace(task, state="ready", claims=0, token=0, worker="", until=0)
            line.entries[task.id] = entry = _Entry(fresh, self._offers, now)
            if known is not None:
                line.done.remove(task.id)
            line.file(entry, now)
            new += 1
        return new

    async def claim(self, queue: str, worker: str, limit: int, ttl: float) -> list[Task]:
        """Claim up to ``limit`` ready, due tasks (and claimed ones whose claim ended) for ``ttl`` seconds."""
        line = self._lines.get(queue)
        if line is None or limit < 1:
            return []
        now, claimed = self._clock.now(), list[Task]()
        for entry in line.claimable(now):
            self._last_token += 1
            entry.task = replace(
                entry.task,
                state="claimed",
                claims=entry.task.claims + 1,
                token=self._last_token,
                worker=worker,
                until=now + round(ttl * MICROSECONDS),
            )
            line.file(entry, now)
            claimed.append(entry.task)
            if len(claimed) == limit:
                break
        return claimed

    async def extend(self, tasks: Sequence[Task], ttl: float) -> list[Task | None]:
        """Extend claims; None in the place of each that was lost."""
        now, extended = self._clock.now(), list[Task | None]()
        for task in tasks:
            entry = self._claim_of(task)
            if entry is not None:
                entry.task = replace(entry.task, until=now + round(ttl * MICROSECONDS))
                self._lines[task.queue].file(entry, now)
            extended.append(entry and entry.task)
        return extended

    async def settle(self, task: Task, state: str, *, due_at: int = 0, note: str = "") -> bool:
        """End a claim: ``done``, ``dead``, or ``ready`` again at ``due_at``. False = the token is old.

        A late settle still counts as long as nobody else has claimed the task. Raises ``ConfigurationError`` for
        another state.
        """
        _check_state(state)
        entry = self._claim_of(task)
        if entry is None:
            return False
        entry.task = replace(
            entry.task, state=state, due_at=due_at or entry.task.due_at, note=note, worker="", until=0
        )
        self._lines[task.queue].file(entry, self._clock.now())
        return True

    async def names(self) -> list[str]:
        """Return the names of the queues that have tasks of any state."""
        return sorted(name for name, line in self._lines.items() if line.entries)

    async def find(self, queue: str, state: str = "", limit: int = 100) -> list[Task]:
        """Return tasks in their order, of one state if given."""
        line = self._lines.get(queue)
        entries = line.entries.values() if line else ()
        found = [entry for entry in entries if not state or entry.task.state == state]
        found.sort(key=lambda entry: (entry.task.order, entry.number))
        return [entry.task for entry in found[:limit]]

    async def change(
        self,
        queue: str,
        ids: Sequence[str],
        *,
        order: float | None = None,
        due_at: int | None = None,
        state: str | None = None,
    ) -> int:
        """Change unclaimed tasks (redrive dead ones, delay, re-order); return how many.

        Raises ``ConfigurationError`` for a state other than ready, done, dead.
        """
        if state is not None:
            _check_state(state)
        line = self._lines.get(queue)
        entries = [line.entries[id] for id in dict.fromkeys(ids) if id in line.entries] if line else []
        unclaimed = [entry for entry in entries if entry.task.state != "claimed"]
        for entry in unclaimed:
            task = entry.task
            entry.task = replace(
                task,
                order=task.order if order is None else order,
                due_at=task.due_at if due_at is None else due_at,
                state=task.state if state is None else state,
            )
            self._lines[queue].file(entry, self._clock.now())
        return len(unclaimed)

    def begin_epoch(self, epoch: int) -> None:
        """Give from now on only tokens that are higher than any before."""
        self._last_token = max(self._last_token, floor_of(epoch))

    async def stats(self, queue: str) -> dict[str, int]:
        """Return counts by state, and ``oldest_us`` = age of the oldest ready task."""
        counts: dict[str, int] = dict.fromkeys(STATES, 0)
        line = self._lines.get(queue)
        oldest = now = self._clock.now()
        for entry in line.entries.values() if line else ():
            counts[entry.task.state] += 1
            if entry.task.state == "ready":
                oldest = min(oldest, entry.offered_at)
        return {**counts, "oldest_us": now - oldest}

    def _claim_of(self, task: Task) -> _Entry | None:
        line = self._lines.get(task.queue)
        entry = line.entries.get(task.id) if line else None
        if entry is None or entry.task.state != "claimed" or entry.task.token != task.token:
            return None
        return entry


def _check_state(state: str) -> None:
    if state not in ("ready", "done", "dead"):
        raise ConfigurationError(f"A task cannot be put in state {state!r}.", hint="Use ready, done or dead.")
