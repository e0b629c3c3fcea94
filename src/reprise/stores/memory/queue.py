"""Queues in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from reprise.kernel.clock import MICROSECONDS, Clock
from reprise.stores.conditions import floor_of
from reprise.stores.queue import QueueStats, Settlement, Task, check_change, check_settlements, taps
from reprise.stores.signal import Signal
from reprise.stores.tasks import (
    blocks,
    changed,
    claimed,
    is_over,
    may_change,
    micros,
    offered,
    place,
    settled,
    shown,
)


class _Entry(msgspec.Struct, eq=False):
    """A task and its place. Heaps hold (key, stamp, id); an item whose stamp is not the entry's is out of date."""

    task: Task
    number: int
    """Counts offers; the tie-break of the order."""
    stamp: int = 0


class _Line:
    """One queue."""

    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}
        self.ready: list[tuple[tuple[float, int], int, str]] = []
        self.later: list[tuple[int, int, str]] = []
        """Not ready before a time: due in the future, or claimed until then."""
        self.is_paused = False
        self.finished = self.failed = 0
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

    def promote(self, now: int) -> None:
        """Let what has become due, or whose claim ended, take its place in the order; drop what is out of date."""
        while self.later and (self.later[0][0] <= now or self._current(self.later[0]) is None):
            item = heappop(self.later)
            if (entry := self._current(item)) is not None:
                heappush(self.ready, ((entry.task.order, entry.number), entry.stamp, entry.task.id))
        while self.ready and self._current(self.ready[0]) is None:
            heappop(self.ready)

    def claimable(self) -> Iterator[_Entry]:
        """Yield entries that may be claimed, in order, each taken off the heap."""
        while self.ready:
            if (entry := self._current(heappop(self.ready))) is not None:
                yield entry

    def count(self, state: str) -> None:
        """Count how a claim ended."""
        self.finished += state in ("done", "gone")
        self.failed += state in ("ready", "dead")

    def _current(self, item: tuple[object, int, str]) -> _Entry | None:
        entry = self.entries.get(item[2])
        return entry if entry is not None and entry.stamp == item[1] else None


class MemoryQueue:
    """Queues by name."""

    claims_at_once: ClassVar[int] = 1

    def __init__(self, clock: Clock, signal: Signal) -> None:
        self._clock = clock
        self._signal = signal
        self._lines: dict[str, _Line] = {}
        self._offers = 0
        self._last_token = 0

    async def offer(self, tasks: Sequence[Task]) -> list[bool]:
        """Add tasks and return of each whether it is new."""
        now = self._clock.now()
        new = [self._offer(task, now) for task in tasks]
        self._signal.wake(taps(tasks, new))
        return new

    def _offer(self, task: Task, now: int) -> bool:
        line = self._lines.setdefault(task.queue, _Line())
        if (known := line.entries.get(task.id)) is not None and blocks(known.task, task, now):
            return False
        self._offers += 1
        line.entries[task.id] = entry = _Entry(offered(task, now), self._offers)
        line.file(entry, now)
        return True

    async def claim(self, queue: str, worker: str, limit: int, ttl: float) -> list[Task]:
        """Claim up to ``limit`` ready, due tasks (and claimed ones whose claim ended) for ``ttl`` seconds."""
        line = self._lines.get(queue)
        if line is None or line.is_paused or limit < 1:
            return []
        now, mine = self._clock.now(), list[Task]()
        line.promote(now)
        for entry in line.claimable():
            self._last_token += 1
            entry.task = claimed(entry.task, self._last_token, worker, now + micros(ttl))
            line.file(entry, now)
            mine.append(entry.task)
            if len(mine) == limit:
                break
        return mine

    async def due(self, queue: str) -> float | None:
        """Return in how many seconds there will be something to claim; None = not by the passing of time."""
        line = self._lines.get(queue)
        if line is None or line.is_paused:
            return None
        now = self._clock.now()
        line.promote(now)
        if line.ready:
            return 0.0
        return (line.later[0][0] - now) / MICROSECONDS if line.later else None

    async def extend(self, tasks: Sequence[Task], ttl: float) -> list[Task | None]:
        """Extend claims; None in the place of each that was lost."""
        now, extended = self._clock.now(), list[Task | None]()
        for task in tasks:
            entry = self._claim_of(task)
            if entry is not None:
                entry.task = replace(entry.task, until=now + micros(ttl))
                self._lines[task.queue].file(entry, now)
            extended.append(entry and entry.task)
        return extended

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """End claims; return of each whether it was ended: its token is not old.

        A late settle still counts as long as nobody else has claimed the task. Raises ``ConfigurationError`` for
        a state that is none.
        """
        check_settlements(settlements)
        return [self._settle(each, self._clock.now()) for each in settlements]

    def _settle(self, settlement: Settlement, now: int) -> bool:
        entry = self._claim_of(settlement.task)
        if entry is None:
            return False
        line = self._lines[settlement.task.queue]
        line.count(settlement.state)
        if settlement.state == "gone":
            del line.entries[entry.task.id]
        else:
            entry.task = settled(entry.task, settlement, now)
            line.file(entry, now)
        return True

    async def names(self) -> list[str]:
        """Return the names of the queues that have tasks of any state."""
        return sorted(name for name, line in self._lines.items() if line.entries)

    async def find(
        self,
        queue: str,
        state: str = "",
        limit: int = 100,
        *,
        ids: Sequence[str] | None = None,
        skip: int = 0,
    ) -> list[Task]:
        """Return tasks of one state if given, of ``ids`` if given, after the first ``skip``."""
        now = self._clock.now()
        entries = self._lines[queue].entries if queue in self._lines else {}
        chosen = (
            entries.values() if ids is None else [entries[id] for id in dict.fromkeys(ids) if id in entries]
        )
        found = [e for e in chosen if not is_over(e.task, now) and state in ("", shown(e.task, now))]
        found.sort(key=lambda entry: (place(entry.task, state), entry.number))
        return [entry.task for entry in found[skip : skip + limit]]

    async def change(
        self,
        queue: str,
        ids: Sequence[str],
        *,
        order: float | None = None,
        due_at: int | None = None,
        state: str | None = None,
    ) -> int:
        """Change tasks that are ready or dead (redrive, delay, re-order, remove); return how many.

        Raises ``ConfigurationError`` for a state other than ready, dead, gone.
        """
        check_change(state)
        now, line = self._clock.now(), self._lines.get(queue) or _Line()
        found = [line.entries[id] for id in dict.fromkeys(ids) if id in line.entries]
        free = [entry for entry in found if may_change(entry.task, state, now)]
        for entry in free:
            if state == "gone":
                del line.entries[entry.task.id]
            else:
                entry.task = changed(entry.task, order, due_at, state, now)
                line.file(entry, now)
        return len(free)

    async def pause(self, queue: str, paused: bool) -> None:
        """Let nobody claim until it is resumed."""
        self._lines.setdefault(queue, _Line()).is_paused = paused

    def begin_epoch(self, epoch: int) -> None:
        """Give from now on only tokens that are higher than any before."""
        self._last_token = max(self._last_token, floor_of(epoch))

    async def stats(self, queue: str) -> QueueStats:
        """Return counts."""
        line = self._lines.get(queue)
        if line is None:
            return QueueStats()
        now = self._clock.now()
        tasks = [entry.task for entry in line.entries.values() if not is_over(entry.task, now)]
        counts = Counter(shown(task, now) for task in tasks)
        ready = [task for task in tasks if shown(task, now) == "ready"]
        return QueueStats(
            **counts,
            finished=line.finished,
            failed=line.failed,
            oldest_us=max((now - max(task.offered_at, task.due_at) for task in ready), default=0),
            levels=Counter(task.level for task in ready),
            paused=line.is_paused,
        )

    async def sweep(self, queue: str, limit: int = 1000) -> int:
        """Remove up to ``limit`` tasks that were kept for as long as they should; return how many."""
        now = self._clock.now()
        entries = self._lines[queue].entries if queue in self._lines else {}
        over = [id for id, entry in entries.items() if is_over(entry.task, now)][:limit]
        for id in over:
            del entries[id]
        return len(over)

    def _claim_of(self, task: Task) -> _Entry | None:
        line = self._lines.get(task.queue)
        entry = line.entries.get(task.id) if line else None
        if entry is None or entry.task.state != "claimed" or entry.task.token != task.token:
            return None
        return entry
