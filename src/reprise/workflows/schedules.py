"""The schedules of a store: added, looked at, paused, triggered, removed by anybody who can open it.

A schedule is the last record of its stream ``schedule/<name>``, and every change is an append that holds only at the
version that was read. So what people change and what workers fire never overwrite each other. A schedule that is removed
keeps its stream: a worker that slept meanwhile could otherwise take the next one of that name for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypedDict, Unpack

import msgspec

from reprise.kernel.budget import Budget
from reprise.kernel.clock import MICROSECONDS, Clock
from reprise.kernel.errors import (
    CodecError,
    ConfigurationError,
    PayloadTooLarge,
    ScheduleNotFound,
    StaleVersion,
    nearest,
)
from reprise.kernel.events import SCHEDULES, Event, Kind, Started, schedule_stream
from reprise.kernel.ids import Counter, Ids
from reprise.kernel.policy import Duration, seconds
from reprise.kernel.settings import WorkflowSettings
from reprise.kernel.tags import as_tags, moment_text
from reprise.runtime.registry import Registry
from reprise.runtime.starting import PYTHON, first_group
from reprise.runtime.step import check_options
from reprise.runtime.workflow import Workflow
from reprise.stores.log import Group, Log, append, last_record
from reprise.stores.store import Store
from reprise.workflows.calendar import count, moment, timing
from reprise.workflows.schedule import (
    FIRE_TIME_TAG,
    SCHEDULE_TAG,
    BackfillOverlap,
    CatchUp,
    Overlap,
    Schedule,
    ScheduleState,
    Span,
    check_choice,
    check_name,
)

LARGEST_INPUT = 64 << 10
"""Bytes: what a schedule gives its runs is written with each of them, and with each of its own records."""
MOST_COUNTED = 100_000
"""Fire times that a backfill is counted up to."""
AT_ONCE = 100
"""Schedules that are read together."""


class ScheduleOptions(TypedDict, total=False):
    """Options of :meth:`Reprise.schedule`."""

    cron: str
    every: Duration | None
    at: datetime | Sequence[datetime] | None
    timezone: str
    jitter: Duration
    start: datetime | None
    end: datetime | None
    overlap: Overlap
    catch_up: CatchUp
    window: Duration | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any] | None
    tags: Mapping[str, Any] | None
    deadline: Duration | None
    budget: Budget | None
    paused: bool


class Kept(NamedTuple):
    """A schedule, and at which version of its stream it is so."""

    state: ScheduleState
    version: int


async def read_schedule(log: Log, name: str) -> Kept | None:
    """Return a schedule as the log has it, also one that was removed; None if there never was one.

    Raises:
        CodecError: a later Reprise wrote it.
    """
    last = await last_record(log, schedule_stream(name))
    if last is None:
        return None
    try:
        return Kept(msgspec.json.decode(last.data, type=ScheduleState), last.version)
    except msgspec.MsgspecError as error:
        raise CodecError(
            f"The schedule {name!r} cannot be read ({error}).",
            hint="A later Reprise wrote it: bring this one up to date.",
        ) from error


def state_group(kind: Kind, state: ScheduleState, version: int, now: int) -> Group:
    """Return the group that puts a schedule into a state, if it still is at that version."""
    name = state.schedule.name
    return Group(
        schedule_stream(name), [Event(kind, now, name, msgspec.json.encode(state))], expected=version
    )


def run_group(
    schedule: Schedule, id: str, at: int, now: int, defaults: WorkflowSettings | None = None
) -> Group:
    """Return the group that starts the run of a schedule for a fire time; any worker may take it."""
    tags = schedule.tags | {SCHEDULE_TAG: schedule.name, FIRE_TIME_TAG: moment_text(at)}
    started = Started(
        schedule.workflow,
        schedule.input,
        PYTHON,
        deadline=now + schedule.deadline if schedule.deadline else 0,
        tags=tags,
        budget=schedule.budget,
        defaults=defaults,
    )
    return first_group(id, started, now, schedule.slots)


class Schedules:
    """The schedules of one store; :attr:`Reprise.schedules`."""

    def __init__(self, store: Store, clock: Clock, registry: Registry) -> None:
        self._store = store
        self._clock = clock
        self._registry = registry
        self._numbers = Counter()
        self._ids = Ids(clock.now)

    # ---------------------------------------------------------------- look

    async def get(self, name: str) -> ScheduleState:
        """Return a schedule.

        Raises:
            ScheduleNotFound: there is none of that name.
        """
        return (await self._kept(name)).state

    async def list(self) -> list[ScheduleState]:
        """Return all schedules, by name."""
        names = sorted(await self._names())
        found: list[ScheduleState] = []
        for first in range(0, len(names), AT_ONCE):
            some = names[first : first + AT_ONCE]
            kept = await asyncio.gather(*(read_schedule(self._store.log, name) for name in some))
            found += [each.state for each in kept if each is not None and not each.state.removed]
        return found

    async def _names(self) -> set[str]:
        return {record.key for record in await self._store.log.read(SCHEDULES)}

    async def _kept(self, name: str) -> Kept:
        kept = await read_schedule(self._store.log, name)
        if kept is None or kept.state.removed:
            near = nearest(name, [state.schedule.name for state in await self.list()])
            raise ScheduleNotFound(
                f"There is no schedule {name!r}.",
                hint=f"Did you mean {near!r}?" if near else "List them: reprise schedule list",
            )
        return kept

    # ---------------------------------------------------------------- change

    async def add(
        self,
        name: str,
        workflow: Workflow[..., Any],
        /,
        **options: Unpack[ScheduleOptions],
    ) -> ScheduleState:
        """Add a schedule, or change the one of that name; the same again changes nothing.

        Options and errors as of :meth:`Reprise.schedule`.
        """
        check_options("schedule()", {**options}, ScheduleOptions.__annotations__)
        schedule = declared(check_name(name), workflow, self._registry, **options)
        return await self._put(schedule, paused=options.get("paused", False))

    async def _put(self, schedule: Schedule, *, paused: bool) -> ScheduleState:
        while True:
            kept = await read_schedule(self._store.log, schedule.name)
            now = self._clock.now()
            state = ScheduleState(schedule, now - 1, paused)  # what is due in this very moment is due
            if kept is not None and not kept.state.removed:
                before = kept.state.schedule
                if msgspec.json.encode(before) == msgspec.json.encode(schedule):
                    return kept.state
                through = kept.state.through if before.timing == schedule.timing else now - 1
                state = msgspec.structs.replace(kept.state, schedule=schedule, through=through)
            try:
                return await self._write(state, kept.version if kept is not None else 0)
            except StaleVersion:
                continue  # somebody changed it, or it fired

    async def pause(self, name: str, note: str = "") -> ScheduleState:
        """Let a schedule fire no more until it is resumed; runs that it started go on.

        Raises:
            ScheduleNotFound: there is none of that name.
        """
        return await self._change(
            name, lambda state: msgspec.structs.replace(state, paused=True, note=note or state.note)
        )

    async def resume(self, name: str) -> ScheduleState:
        """Let a paused schedule fire again, from now on; what it did not fire meanwhile is not made up for.

        Raises:
            ScheduleNotFound: there is none of that name.
        """
        now = self._clock.now()

        def resumed(state: ScheduleState) -> ScheduleState:
            if not state.paused:
                return state
            return msgspec.structs.replace(state, paused=False, note="", through=max(state.through, now - 1))

        return await self._change(name, resumed)

    async def remove(self, name: str) -> None:
        """Remove a schedule; runs that it started go on.

        Raises:
            ScheduleNotFound: there is none of that name.
        """
        await self._change(
            name, lambda state: msgspec.structs.replace(state, removed=True, waiting=(), backfills=())
        )

    async def trigger(self, name: str) -> str:
        """Start a run of a schedule now, whatever it waits for and also while it is paused; return the run's id.

        Raises:
            ScheduleNotFound: there is none of that name.
        """
        id = f"{check_name(name)}@{self._ids.new()}"
        now = self._clock.now()

        def triggered(state: ScheduleState) -> ScheduleState:
            alone = (id,) if state.schedule.overlap != "allow" else ()
            return msgspec.structs.replace(
                state, active=state.active + alone, started=state.started + 1, runs=(id,)
            )

        await self._change(
            name, triggered, lambda state: run_group(state.schedule, id, now, now, self._registry.defaults)
        )
        self._store.signal.wake(["runs"])
        return id

    async def backfill(
        self, name: str, since: datetime, until: datetime | None = None, *, overlap: BackfillOverlap = "queue"
    ) -> int:
        """Make up for fire times from ``since`` to before ``until`` (default now); return how many these are.

        Those for which there was a run are left out when their turn comes, so that a backfill may be asked for twice.
        ``overlap``: "queue" = one run after the other, the oldest first; "allow" = as soon as there is room for them.
        Moments without a time zone are those of the schedule.

        Raises:
            ScheduleNotFound: there is none of that name.
            ConfigurationError: there is no fire time in that time; nothing was changed.
        """
        check_choice(overlap, BackfillOverlap, "overlap=")
        timing = (await self.get(name)).schedule.timing
        first = moment(since, timing.timezone)
        now = self._clock.now()
        before = now if until is None else min(now, moment(until, timing.timezone))
        number = count(timing, first - 1, before, MOST_COUNTED)
        if not number:
            raise ConfigurationError(
                f"The schedule {name!r} has no fire time in that time.",
                hint="Look at its times: reprise schedule next NAME",
            )
        span = Span(first - 1, before, overlap)
        await self._change(
            name, lambda state: msgspec.structs.replace(state, backfills=(*state.backfills, span))
        )
        return number

    async def _change(
        self,
        name: str,
        change: Callable[[ScheduleState], ScheduleState],
        also: Callable[[ScheduleState], Group] | None = None,
    ) -> ScheduleState:
        """Change a schedule, whatever fires meanwhile; what is so already is not written."""
        while True:
            kept = await self._kept(name)
            state = change(kept.state)
            if state == kept.state:
                return state
            try:
                more = (also(state),) if also is not None else ()
                return await self._write(state, kept.version, *more)
            except StaleVersion:
                continue

    async def _write(self, state: ScheduleState, version: int, *more: Group) -> ScheduleState:
        now = self._clock.now()
        group = state_group(Kind.SCHEDULE_CHANGED, state, version, now)
        news = Group(SCHEDULES, [Event(Kind.SCHEDULE_CHANGED, now, state.schedule.name)])
        await append(self._store.log, self._numbers.new(), group, news, *more)
        self._store.signal.wake([SCHEDULES])
        return state


def declared(
    name: str,
    workflow: Workflow[..., Any],
    registry: Registry,
    /,
    *,
    overlap: Overlap = "skip",
    catch_up: CatchUp = "one",
    window: Duration | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    deadline: Duration | None = None,
    budget: Budget | None = None,
    paused: bool = False,
    **times: Any,
) -> Schedule:
    """Return what somebody declares; ``registry`` knows the limits that the runs are under.

    Raises as :meth:`Reprise.schedule`.
    """
    check_choice(overlap, Overlap, "overlap=")
    check_choice(catch_up, CatchUp, "catch_up=")
    known, named = as_tags(tags or {}), dict(kwargs or {})
    return Schedule(
        name,
        workflow.name,
        msgspec.Raw(_input(workflow, args, named)),
        timing(**times),
        overlap,
        catch_up,
        _microseconds(window, "window"),
        known,
        _microseconds(deadline, "deadline"),
        budget or workflow.budget,
        registry.slots(workflow, args, named, known | {SCHEDULE_TAG: name}),
    )


def _input(workflow: Workflow[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    try:
        data = workflow.arguments.encode(tuple(args), kwargs)
    except TypeError as error:
        raise ConfigurationError(
            f"The workflow {workflow.name!r} cannot be started so: {error}.", hint="Mend args= and kwargs=."
        ) from None
    if len(data) > LARGEST_INPUT:
        raise PayloadTooLarge(
            f"The input that a schedule is to give {workflow.name!r} has {len(data):,} bytes; it may have "
            f"{LARGEST_INPUT:,}.",
            hint="Keep it elsewhere (a file, an object store) and hand on its name.",
        )
    return data


def _microseconds(value: Duration | None, name: str) -> int:
    return 0 if value is None else round(seconds(value, name) * MICROSECONDS)
