"""A schedule: what was declared, up to where it has fired, and what it does next. Values and pure functions only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice, takewhile
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from reprise.kernel.budget import Budget
from reprise.kernel.clock import MICROSECONDS, to_datetime
from reprise.kernel.errors import ConfigurationError, unknown_option
from reprise.kernel.limit import Slot
from reprise.kernel.tags import Tag
from reprise.workflows.calendar import Timing, begins, count, latest, moments

Overlap = Literal["skip", "queue", "allow", "cancel"]
CatchUp = Literal["all", "one", "none"]
BackfillOverlap = Literal["queue", "allow"]

SCHEDULE_TAG = "reprise.schedule"
"""Tag of a run that names the schedule which started it."""
FIRE_TIME_TAG = "reprise.fire_time"
"""Tag of such a run: the moment for which it was started."""
AT_ONCE = 100
"""Runs that one commit starts at most."""
MOST_WAITING = 1_000
"""Fire times that wait for earlier runs at most; what is due after them waits in the calendar."""
MOST_COUNTED = 1_000
"""Fire times that are counted as missed at once; of more it is not worth to know how many."""
ON_TIME = 10 * MICROSECONDS
"""How late something begins that is not made up for (``catch_up="none"``): workers are busy at times."""

_NAME = re.compile(r"\w[\w\-.]{0,99}")


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was declared; see :meth:`Reprise.schedule`. Durations in microseconds."""

    name: str
    workflow: str
    input: msgspec.Raw
    """Encoded positional and keyword arguments: ``[args, kwargs]``."""
    timing: Timing
    overlap: Overlap = "skip"
    catch_up: CatchUp = "one"
    window: int = 0
    """How late is made up for at most, 0 = however late."""
    tags: dict[str, Tag] = {}
    deadline: int = 0
    """After its start, a run is cancelled; 0 = never."""
    budget: Budget | None = None
    slots: tuple[Slot, ...] = ()


class Span(msgspec.Struct, frozen=True, omit_defaults=True):
    """Fire times that somebody asked to make up for: later than ``after``, before ``until``."""

    after: int
    until: int
    overlap: BackfillOverlap = "queue"


class ScheduleState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A schedule as its last record in the log says."""

    schedule: Schedule
    through: int
    """Fire times up to this one were met (microseconds)."""
    paused: bool = False
    note: str = ""
    """Why it is paused."""
    removed: bool = False
    waiting: tuple[int, ...] = ()
    """Fire times that wait for the end of ``active``."""
    active: tuple[str, ...] = ()
    """Runs that others wait for, as far as they had not ended when last looked at."""
    backfills: tuple[Span, ...] = ()
    started: int = 0
    """Runs that it started so far."""
    skipped: int = 0
    """Fire times at which none was started because an earlier one had not ended."""
    missed: int = 0
    """Fire times that passed while nobody looked, and were not made up for."""
    runs: tuple[str, ...] = ()
    """Runs that it started last, in one commit."""

    def next(self, count: int = 1) -> list[int]:
        """Return its next fire times, none while it is paused; without jitter."""
        if self.paused or self.removed:
            return []
        return list(islice(moments(self.schedule.timing, self.through), count))


def check_name(name: str) -> str:
    """Return a name that a schedule may have.

    Raises:
        ConfigurationError: it may not.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(
            f"A schedule cannot be named {name[:100]!r}.",
            hint="Use up to 100 letters, digits and - _ . without spaces.",
        )
    return name


def check_choice(value: str, choices: Any, owner: str) -> None:
    """Check that a word is one of those of a ``Literal``.

    Raises:
        UnknownOption: it is not; with the nearest one.
    """
    if value not in get_args(choices):
        raise unknown_option(value, get_args(choices), owner)


def fire_id(name: str, at: int) -> str:
    """Return the id of the run for a fire time; no id that users give to runs has an ``@``.

    >>> fire_id("nightly", 1_772_330_400_000_000), fire_id("poll", 50_000)
    ('nightly@20260301T020000Z', 'poll@19700101T000000.050000Z')
    """
    return f"{name}@{to_datetime(at):{'%Y%m%dT%H%M%S.%fZ' if at % MICROSECONDS else '%Y%m%dT%H%M%SZ'}}"


# ---------------------------------------------------------------- what it does next


class Move(NamedTuple):
    """What a schedule does: starts runs for fire times, asks runs to stop, and is in another state then."""

    state: ScheduleState
    fires: tuple[int, ...]
    cancels: tuple[str, ...]


def decide(state: ScheduleState, now: int) -> Move | None:
    """Return what a schedule does now, None = nothing. Those of its ``active`` runs have not ended.

    Follows from the state and the time alone: whoever comes first does it, in a commit that holds only if the state is
    still that one.
    """
    turn = _Turn(state)
    if not state.paused:
        turn.fire(now)
        turn.go_on()
    turn.backfill()
    after = turn.state()
    if after == state:
        return None
    return Move(after, tuple(turn.fires), tuple(turn.cancels))


def wakes_at(state: ScheduleState) -> int | None:
    """Return when to look at a schedule next, 0 = at once, None = when something of it changes."""
    if state.backfills and (not state.active or state.backfills[0].overlap == "allow"):
        return 0
    if state.waiting and not state.active and not state.paused:
        return 0
    schedule = state.schedule
    return next((begins(schedule.timing, schedule.name, at) for at in state.next()), None)


class _Turn:
    """One move in the making."""

    def __init__(self, state: ScheduleState) -> None:
        self.before = state
        self.schedule = state.schedule
        self.through = state.through
        self.waiting = list(state.waiting)
        self.active = list(state.active)
        self.backfills = list(state.backfills)
        self.skipped = self.missed = 0
        self.fires: list[int] = []
        self.cancels: list[str] = []

    def state(self) -> ScheduleState:
        before = self.before
        runs = tuple(fire_id(self.schedule.name, at) for at in self.fires)
        return msgspec.structs.replace(
            before,
            through=self.through,
            waiting=tuple(self.waiting),
            active=tuple(self.active),
            backfills=tuple(self.backfills),
            started=before.started + len(runs),
            skipped=before.skipped + self.skipped,
            missed=before.missed + self.missed,
            runs=runs or before.runs,
        )

    def _start(self, at: int, *, alone: bool) -> None:
        """Start the run for a fire time; ``alone`` = others wait for its end."""
        self.fires.append(at)
        if alone:
            self.active.append(fire_id(self.schedule.name, at))

    # ------------------------------------------------------------ what is due

    def fire(self, now: int) -> None:
        """Meet the fire times that have come."""
        due = self._all_due(now) if self.schedule.catch_up == "all" else self._last_due(now)
        if self.schedule.overlap == "cancel" and due:
            self.skipped += len(due) - 1  # they would be cancelled in the moment in which they start
            due = due[-1:]
        for at in due:
            self._meet(at)

    def _all_due(self, now: int) -> Sequence[int]:
        schedule, after = self.schedule, self.through
        if schedule.window and (oldest := now - schedule.window - schedule.timing.jitter) > after:
            self.missed += count(schedule.timing, after, oldest, MOST_COUNTED)
            after = max(after, latest(schedule.timing, after, oldest - 1) or after)
        room = MOST_WAITING - len(self.waiting) if schedule.overlap == "queue" else AT_ONCE
        due = list(
            islice(takewhile(lambda at: self._has_come(at, now), moments(schedule.timing, after)), room)
        )
        self.through = due[-1] if due else after
        return due

    def _last_due(self, now: int) -> Sequence[int]:
        """Return the latest fire time that has come, unless it is too late for it."""
        schedule, timing = self.schedule, self.schedule.timing
        last = latest(timing, self.through, now - timing.jitter)
        for at in takewhile(
            lambda at: self._has_come(at, now), moments(timing, self.through if last is None else last)
        ):
            last = at
        if last is None:
            return ()
        self.missed += count(timing, self.through, last, MOST_COUNTED)
        self.through = last
        window = schedule.window or (ON_TIME if schedule.catch_up == "none" else 0)
        if window and now - begins(timing, schedule.name, last) > window:
            self.missed += 1
            return ()
        return (last,)

    def _has_come(self, at: int, now: int) -> bool:
        return begins(self.schedule.timing, self.schedule.name, at) <= now

    def _meet(self, at: int) -> None:
        overlap = self.schedule.overlap
        if overlap == "allow":
            self._start(at, alone=False)
        elif overlap == "queue" and (self.active or self.waiting):
            self.waiting.append(at)
        elif overlap == "cancel":
            if self.active and not self.waiting:
                self.cancels = list(self.active)
            self.skipped += len(self.waiting)
            self.waiting = [at]
        elif not self.active:
            self._start(at, alone=True)
        else:
            self.skipped += 1

    # ------------------------------------------------------------ what waits

    def go_on(self) -> None:
        """Start what waited for runs that have ended by now."""
        if self.waiting and not self.active:
            self._start(self.waiting.pop(0), alone=True)

    # ------------------------------------------------------------ what somebody asked to make up for

    def backfill(self) -> None:
        """Start runs for fire times of the past, as far as there is room."""
        while self.backfills and len(self.fires) < AT_ONCE:
            span = self.backfills[0]
            alone = span.overlap == "queue"
            if alone and self.active:
                return
            at = next(moments(self.schedule.timing, span.after), None)
            if at is None or at >= span.until:
                self.backfills.pop(0)
                continue
            self._start(at, alone=alone)
            self.backfills[0] = msgspec.structs.replace(span, after=at)
