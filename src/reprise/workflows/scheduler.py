"""Firing: what a worker does about schedules beside its runs.

Every worker has a scheduler, and none is in charge. What a schedule does next follows from its state (see
:func:`~reprise.workflows.schedule.decide`); whoever comes first writes the next state *and* the runs that it starts in one
commit, which holds only at the version that was read. So each fire time has one run, whoever dies and whoever is late.
Who has lost to another stands by: it looks a little later, as long as the other one is there to fire.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import msgspec

from reprise.kernel.clock import MICROSECONDS, Clock
from reprise.kernel.errors import AppendRefused, CodecError, StoreError
from reprise.kernel.events import (
    SCHEDULES,
    CancelRequest,
    Event,
    Kind,
    inbox_stream,
    run_stream,
    schedule_stream,
)
from reprise.kernel.ids import Counter
from reprise.kernel.settings import WorkflowSettings
from reprise.kernel.surroundings import Rhythm
from reprise.stores.log import Group, RunChange, append
from reprise.stores.store import Store
from reprise.workflows.schedule import Move, ScheduleState, decide, fire_id, wakes_at
from reprise.workflows.schedules import Kept, read_schedule, run_group, state_group

_LOG = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks when nothing is due and nobody taps: taps may be lost, and clocks are set."""
_STAND_BY = 200_000
"""Microseconds that somebody who lost to another leaves to that one."""
PENANCE = 60 * MICROSECONDS
"""Microseconds until somebody looks again at a schedule that cannot be followed here."""
AT_ONCE = 50
"""Schedules that are dealt with together, so that what they write shares commits."""
KEPT = 100
"""Records of a schedule that are kept for people, about."""


class Entry:
    """A schedule in memory."""

    def __init__(self, kept: Kept) -> None:
        self.state, self.version = kept
        self.looks_at: int | None = 0
        """When to look at it next (microseconds), None = when it changes."""
        self.stands_by = False
        self.failed = False
        self.ears: dict[str, Callable[[], None]] = {}
        """How to stop listening to the ends of runs that others wait for."""

    def hear_only(self, runs: Iterable[str]) -> list[str]:
        """Listen to no other runs than these; return to which of them it does not listen yet."""
        wanted = dict.fromkeys(runs)
        for run in self.ears.keys() - wanted.keys():
            self.ears.pop(run)()
        return [run for run in wanted if run not in self.ears]


class Scheduler:
    """Starts the runs that the schedules of a store want."""

    def __init__(self, store: Store, clock: Clock, defaults: WorkflowSettings | None = None) -> None:
        self._store = store
        self._clock = clock
        self._defaults = defaults
        """What the runs take where they do not say otherwise."""
        self._numbers = Counter()
        self._entries: dict[str, Entry] = {}
        self._seen = 0
        """Version of the stream of changes up to which they were seen."""
        self._tapped = asyncio.Event()
        self._rhythm = Rhythm(clock)
        self._blind = False
        self._task: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], None] | None = None
        self.fired = 0
        """Runs started here."""

    async def start(self) -> None:
        """Begin to look; idempotent."""
        if self._task is None:
            self._unlisten = self._store.signal.listen(SCHEDULES, lambda _: self._tapped.set())
            self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Fire nothing more; idempotent, safe before start."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if self._unlisten is not None:
            self._unlisten()
        for entry in self._entries.values():
            entry.hear_only(())
        self._entries.clear()
        self._seen = 0

    def statistics(self) -> dict[str, int]:
        """Return how many schedules are known here, and how many runs were started."""
        return {"schedules": len(self._entries), "fired": self.fired}

    # ---------------------------------------------------------------- looking

    async def _serve(self) -> None:
        while True:
            self._tapped.clear()
            pause = await self._try_to_look()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._tapped.wait()

    async def _try_to_look(self) -> float:
        """Look, and say when the store begins to fail and when it is well again; return when to look again."""
        try:
            pause = await self.look()
        except StoreError as error:
            if not self._blind:
                _LOG.warning("Schedules cannot be looked at, which is tried again. %s", error)
            self._blind = True
            return LOOK
        if self._blind:
            _LOG.warning("Schedules can be looked at again.")
        self._blind = False
        return pause

    async def look(self) -> float:
        """Look once: learn what people changed, start what is due; return the seconds until the next look."""
        await self._learn()
        now = self._clock.now()
        due = [
            entry for entry in self._entries.values() if entry.looks_at is not None and entry.looks_at <= now
        ]
        for first in range(0, len(due), AT_ONCE):
            some = [self._deal(entry) for entry in due[first : first + AT_ONCE]]
            for error in await asyncio.gather(*some, return_exceptions=True):
                if isinstance(error, BaseException):
                    raise error
        looks = [entry.looks_at for entry in self._entries.values() if entry.looks_at is not None]
        if due:
            self._rhythm.news()
        later = self._rhythm.next(LOOK)
        soonest = (min(looks) - self._clock.now()) / MICROSECONDS if looks else later
        return min(later, max(0.0, soonest))

    async def _learn(self) -> None:
        """Read again what people have changed."""
        news = await self._store.log.read(SCHEDULES, self._seen)
        names = list(dict.fromkeys(record.key for record in news))
        for first in range(0, len(names), AT_ONCE):
            some = names[first : first + AT_ONCE]
            read = (read_schedule(self._store.log, name) for name in some)
            for name, kept in zip(some, await asyncio.gather(*read, return_exceptions=True), strict=True):
                if isinstance(kept, CodecError):
                    _LOG.warning("%s", kept)
                elif isinstance(kept, BaseException):
                    raise kept
                self._take_in(name, None if isinstance(kept, CodecError) else kept)
        if news:
            self._seen = news[-1].version

    def _take_in(self, name: str, kept: Kept | None) -> None:
        entry = self._entries.get(name)
        if kept is None or kept.state.removed:
            if entry is not None:
                entry.hear_only(())
                del self._entries[name]
        elif entry is None:
            self._entries[name] = Entry(kept)
        else:
            entry.state, entry.version = kept
            entry.looks_at = 0

    # ---------------------------------------------------------------- one schedule

    async def _deal(self, entry: Entry) -> None:
        """Let a schedule do what it does now; what is wrong with it must not keep the others waiting."""
        try:
            await self._advance(entry)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, it is this schedule's
            entry.looks_at = self._clock.now() + PENANCE
            if not entry.failed:
                _LOG.warning("The schedule %r cannot be followed here. %s", entry.state.schedule.name, error)
            entry.failed = True

    async def _advance(self, entry: Entry) -> None:
        there: set[str] = set()
        """Runs of ours that exist already: from a life of the schedule before it was removed, or from a backfill."""
        if entry.stands_by and not await self._is_left_to_us(entry):
            self._rest(entry, entry.state, self._clock.now())
            return
        while True:
            state = await self._as_it_is(entry.state)
            now = self._clock.now()
            move = decide(state, now)
            if move is None:
                self._rest(entry, state, now)
                return
            try:
                await self._commit(entry, move, there, now)
            except AppendRefused:
                name = state.schedule.name
                kept = await read_schedule(self._store.log, name)
                if kept is not None and kept.version == entry.version:
                    # Not the schedule: a run that exists already, or one that ended before it could be cancelled.
                    there |= await self._existing(fire_id(name, at) for at in move.fires)
                    continue
                self._take_in(name, kept)
                entry.stands_by = True
                self._rest(entry, entry.state, now)
                return
            entry.stands_by = False

    async def _is_left_to_us(self, entry: Entry) -> bool:
        """Learn what others have fired; tell whether something is due for so long that nobody else seems to be there."""
        name = entry.state.schedule.name
        kept = await read_schedule(self._store.log, name)
        if kept is None:
            return False
        entry.state, entry.version = kept
        looks_at = wakes_at(entry.state)
        return looks_at is not None and looks_at + _STAND_BY <= self._clock.now()

    async def _as_it_is(self, state: ScheduleState) -> ScheduleState:
        """Return a state without those active runs that have ended."""
        if not state.active:
            return state
        heads = await asyncio.gather(*(self._store.log.head(run_stream(run)) for run in state.active))
        goes_on = [
            run for run, head in zip(state.active, heads, strict=True) if head.version and not head.closed
        ]
        return msgspec.structs.replace(state, active=tuple(goes_on))

    async def _existing(self, runs: Iterable[str]) -> set[str]:
        return {run for run in runs if (await self._store.log.head(run_stream(run))).version}

    def _rest(self, entry: Entry, state: ScheduleState, now: int) -> None:
        """Look again when the schedule is due, or a run ends that something of it waits for."""
        entry.failed = False
        blocked = bool(state.active and (state.waiting or state.backfills))
        for run in entry.hear_only(state.active if blocked else ()):
            entry.ears[run] = self._store.signal.listen(run_stream(run), partial(self._ended, entry))
        entry.looks_at = wakes_at(state)
        if entry.looks_at is not None and entry.stands_by:
            entry.looks_at += _STAND_BY
        later = now + round(LOOK * MICROSECONDS)
        if entry.looks_at is not None and entry.looks_at <= now:
            entry.looks_at = later  # it cannot be now, else it would have been
        elif blocked:
            entry.looks_at = min(later, entry.looks_at or later)

    def _ended(self, entry: Entry, _: str) -> None:
        entry.looks_at = 0
        self._tapped.set()

    async def _commit(self, entry: Entry, move: Move, there: set[str], now: int) -> None:
        """Write the next state with the runs that begin and the requests to stop, all or nothing."""
        schedule = move.state.schedule
        starts = [(fire_id(schedule.name, at), at) for at in move.fires]
        groups = [state_group(Kind.SCHEDULE_FIRED, move.state, entry.version, now)]
        groups += [
            run_group(schedule, run, at, now, self._defaults) for run, at in starts if run not in there
        ]
        groups += [_cancel_group(schedule.name, run, now) for run in move.cancels]
        written = await append(self._store.log, self._numbers.new(), *groups)
        entry.state, entry.version = move.state, written.versions[0]
        self.fired += len(groups) - 1 - len(move.cancels)
        self._store.signal.wake(["runs", *map(inbox_stream, move.cancels)])
        if entry.version % KEPT == 0:
            await self._store.log.trim(schedule_stream(schedule.name), entry.version - KEPT)


def _cancel_group(schedule: str, run: str, now: int) -> Group:
    """Return a request to stop; the same again is dropped by the run."""
    request = CancelRequest(f"the next run of the schedule {schedule!r} is due", f"schedule {schedule}")
    mail = Event(Kind.CANCEL_SENT, now, f"schedule-{schedule}", msgspec.json.encode(request))
    return Group(inbox_stream(run), [mail], guard=run_stream(run), run=RunChange(run, due_at=now, at=now))
