"""When a schedule fires: moments of a calendar, as pure functions of what was declared.

Every function asks for the moments after a given one, so that whoever remembers the last of them (in the log) needs to
remember nothing else, and two who ask the same are told the same.

Cron expressions are read by ``cronsim``. About hours that clocks skip or repeat we do as Debian's cron: a job at a fixed time that the clock skips in
spring is due right after the gap, one at a time that comes twice in autumn is due the first time only; what is due
every so many minutes or hours goes by real time, so it neither jumps nor stands still.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from cronsim import CronSim, CronSimError

from reprise.kernel.clock import MICROSECONDS, from_datetime, to_datetime
from reprise.kernel.errors import ConfigurationError, nearest
from reprise.kernel.policy import Duration, seconds

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOTHING = timedelta(0)
SHORTEST = 1_000
"""Microseconds from one moment of an interval to the next at least."""
LOOK_BACK = 60 * MICROSECONDS
"""How far the last moment of a cron expression is looked for at first."""
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Timing(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of ``cron``, ``every`` and ``at``, and what bounds and blurs it. All times in microseconds; made by
    :func:`timing`.
    """

    cron: str = ""
    every: int = 0
    """Moments are this far apart, counted from ``start``, or from the epoch."""
    at: tuple[int, ...] = ()
    """Exactly these moments, ascending."""
    timezone: str = "UTC"
    jitter: int = 0
    """What was due at a moment begins up to so much later."""
    start: int = 0
    """No moment is before this one."""
    end: int = 0
    """No moment is at or after this one, 0 = it goes on for ever."""

    def __str__(self) -> str:
        if self.cron:
            return f"{self.cron} {self.timezone}"
        if self.every:
            return f"every {timedelta(microseconds=self.every)}"
        return "at " + ", ".join(moment.isoformat(" ", "seconds") for moment in map(to_datetime, self.at))


def timing(
    *,
    cron: str = "",
    every: Duration | None = None,
    at: datetime | Sequence[datetime] | None = None,
    timezone: str = "UTC",
    jitter: Duration = 0,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Timing:
    """Return a timing; moments without a time zone are those of ``timezone``.

    Raises:
        ConfigurationError: not exactly one of ``cron``, ``every`` and ``at``; what one of them says cannot be read, or
            never comes; an unknown time zone.
    """
    if sum(given not in ("", None, []) for given in (cron, every, at)) != 1:
        raise ConfigurationError(
            "A schedule needs exactly one of cron=, every= and at=.",
            hint='For instance cron="0 2 * * *", or every=60.',
        )
    _zone(timezone)
    given = [] if at is None else [at] if isinstance(at, datetime) else at
    made = Timing(
        " ".join(NICKNAMES.get(cron.strip().lower(), cron).split()),
        0 if every is None else round(seconds(every, "every") * MICROSECONDS),
        tuple(sorted({moment(when, timezone) for when in given})),
        timezone,
        round(seconds(jitter, "jitter") * MICROSECONDS),
        0 if start is None else moment(start, timezone),
        0 if end is None else moment(end, timezone),
    )
    _check(made)
    return made


def _check(made: Timing) -> None:
    if not made.cron and not made.at and made.every < SHORTEST:
        raise ConfigurationError(
            f"every is {made.every / MICROSECONDS:g} s.",
            hint=f"Give at least {SHORTEST / MICROSECONDS:g} s.",
        )
    if made.end and made.end <= made.start:
        raise ConfigurationError(
            "The schedule ends before it starts.", hint="Give an end= after start=, or none."
        )
    if made.cron and len(made.cron.split()) != 5:
        raise ConfigurationError(
            f"The cron expression {made.cron!r} has {len(made.cron.split())} fields.",
            hint="Five are needed: minute hour day month weekday. For seconds use every=.",
        )
    try:
        never = bool(made.cron) and next(CronSim(made.cron, EPOCH), None) is None
    except CronSimError as error:
        raise ConfigurationError(
            f"The cron expression {made.cron!r} cannot be read: {error}.",
            hint="Five fields: minute hour day month weekday.",
        ) from None
    if never:
        raise ConfigurationError(
            f"The cron expression {made.cron!r} never fires.", hint="Check day and month."
        )


def moment(when: datetime, timezone: str) -> int:
    """Return a moment in microseconds; one without a time zone is that of ``timezone``."""
    return from_datetime(when if when.tzinfo else when.replace(tzinfo=_zone(timezone)))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        near = nearest(name, available_timezones())
        raise ConfigurationError(
            f"There is no time zone {name!r} on this machine.",
            hint=f"Did you mean {near}?" if near else "Give a name such as Europe/Berlin, or UTC.",
        ) from None


# ---------------------------------------------------------------- moments


def moments(timing: Timing, after: int) -> Iterator[int]:
    """Yield the moments later than ``after``, ascending.

    >>> quarter = timing(cron="*/15 * * * *")
    >>> [to_datetime(at).strftime("%H:%M") for at in islice(moments(quarter, 0), 3)]
    ['00:15', '00:30', '00:45']
    """
    after = max(after, timing.start - 1)
    if timing.cron:
        found = _by_cron(timing, after)
    elif timing.every:
        found = _by_interval(timing, after)
    else:
        found = iter(timing.at[bisect_right(timing.at, after) :])
    return takewhile(lambda at: at < timing.end, found) if timing.end else found


def _by_interval(timing: Timing, after: int) -> Iterator[int]:
    at = after - (after - timing.start) % timing.every
    while True:
        at += timing.every
        yield at


def _by_cron(timing: Timing, after: int) -> Iterator[int]:
    """Go by the wall clock: what it skips and what it shows twice is settled here, ``cronsim`` knows no time zones."""
    zone, here = _zone(timing.timezone), to_datetime(after)
    back = here.astimezone(zone).utcoffset() or NOTHING
    back -= (here + timedelta(days=1)).astimezone(zone).utcoffset() or NOTHING  # > 0: hours will come again
    goes_by_real_time = any(field.startswith("*") for field in timing.cron.split()[:2])
    again: list[int] = []
    wall = here.astimezone(zone).replace(tzinfo=None) - max(back, NOTHING)
    for wall in CronSim(timing.cron, wall):  # noqa: B020  from there on
        first, second = _both(wall, zone)
        if first == second:
            for at in again:
                if at > after:
                    after = at
                    yield at
            again.clear()
        elif first > second and goes_by_real_time:
            continue
        while first > second:
            wall += timedelta(minutes=1)  # noqa: PLW2901  up to the end of the gap
            first, second = _both(wall, zone)
        if first < second and goes_by_real_time:
            again.append(second)
        if first > after:
            after = first
            yield first


def _both(wall: datetime, zone: ZoneInfo) -> tuple[int, int]:
    """Return the moments at which clocks show a time: the same one twice, two if it comes twice; if never, the second
    is before the first.
    """
    return from_datetime(wall.replace(tzinfo=zone)), from_datetime(wall.replace(tzinfo=zone, fold=1))


def latest(timing: Timing, after: int, until: int) -> int | None:
    """Return the last moment later than ``after`` and not later than ``until``, None if there is none."""
    after = max(after, timing.start - 1)
    if timing.end:
        until = min(until, timing.end - 1)
    if timing.every:
        found = until - (until - timing.start) % timing.every
    elif timing.at:
        found = timing.at[place - 1] if (place := bisect_right(timing.at, until)) else after
    else:
        return _latest_by_cron(timing, after, until)
    return found if found > after else None


def _latest_by_cron(timing: Timing, after: int, until: int) -> int | None:
    """Look in stretches that grow: going backwards by cron would miss what was moved out of a gap."""
    back = LOOK_BACK
    while True:
        since = max(after, until - back)
        found = None
        for found in takewhile(lambda at: at <= until, moments(timing, since)):  # noqa: B007  the last is wanted
            pass
        if found is not None or since == after:
            return found
        back *= 8


def count(timing: Timing, after: int, before: int, most: int) -> int:
    """Return how many moments lie between two others, these not counted; ``most`` = no more are counted."""
    between = takewhile(lambda at: at < before, moments(timing, after))
    return sum(1 for _ in islice(between, most))


def begins(timing: Timing, name: str, at: int) -> int:
    """Return when what is due at a moment begins: later by a jitter that follows from the schedule's name and the moment.

    >>> ten = timing(every=60, jitter=10)
    >>> [begins(ten, "poll", at) - at for at in (0, 60_000_000)]
    [7193471, 7279742]
    """
    if not timing.jitter:
        return at
    return at + int.from_bytes(blake2b(f"{name}@{at}".encode(), digest_size=8).digest()) % timing.jitter
