"""Tools for time and dates.

A moment is written as ISO 8601 with its offset, such as ``2026-11-22T09:30:00+01:00``. Time zones are those of the IANA
database. What is said in days and longer is counted by the calendar and the clock on the wall, what is said in hours and
shorter by the time that passes: the day after a change of clocks begins at the same hour, 24 hours later is another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Annotated, Any, Literal, TypedDict
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from msgspec import Meta

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import ConfigurationError, ToolError, nearest
from reprise.kernel.policy import seconds_in
from reprise.tools.context import ToolContext
from reprise.tools.extras import library
from reprise.tools.tool import Example, tool

Moment = Annotated[str, Meta(max_length=100), "A moment as ISO 8601; without an offset it is in tz, or UTC."]
Day = Annotated[str, Meta(max_length=40), "A date: 2026-11-22."]
Zone = Annotated[str, Meta(max_length=64), "An IANA time zone, such as Europe/Paris, or UTC."]
Count = Annotated[int, Meta(ge=-100_000, le=100_000)]
Unit = Literal["seconds", "minutes", "hours", "days", "weeks"]

MANY = 1000
"""Moments that are returned at most."""
_SECONDS: dict[Unit, int] = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400, "weeks": 604_800}
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Told(TypedDict):
    """A moment, in several ways."""

    iso: str
    date: str
    time: str
    weekday: str
    tz: str
    offset: str
    unix: float
    """Seconds since 1970."""


@tool(effects="pure", where="inline", tags=["time"], examples=[Example({"tz": "Europe/Paris"})])
def time_now(ctx: ToolContext, tz: Zone = "UTC") -> Told:
    """Say what time it is, in a time zone."""
    return _told(_now(ctx).astimezone(_zone(tz)))


@tool(
    effects="pure",
    tags=["time"],
    extra="time",
    examples=[
        Example(
            {"text": "Sun, 22 Nov 2026 09:30:00 +0100"},
            {
                "iso": "2026-11-22T09:30:00+01:00", "date": "2026-11-22", "time": "09:30:00", "weekday": "Sunday",
                "tz": "UTC+01:00", "offset": "+01:00", "unix": 1795336200.0,
            },
        ),
        Example({"text": "in three days", "tz": "Europe/Paris"}),
    ],
)  # fmt: skip
def time_parse(
    ctx: ToolContext,
    text: Annotated[
        str, Meta(min_length=1, max_length=200), "A moment as people write it: 22/11/2026, next friday 5pm."
    ],
    tz: Zone = "UTC",
    order: Annotated[Literal["DMY", "MDY", "YMD"], "Which of 3/4/2026 is the day."] = "DMY",
    prefer: Annotated[Literal["past", "future"], "What 'friday' or 'march' means."] = "future",
    languages: Annotated[
        list[str] | None, "Codes of the languages it may be in, such as ['fr']; none = find out."
    ] = None,
) -> Told:
    """Read a moment from a text: ISO 8601, RFC 2822, seconds since 1970, or words in some two hundred languages."""
    zone, text = _zone(tz), text.strip()
    found = _by_standard(text, zone)
    if found is None:
        dates = library("dateparser", "time")
        base = _now(ctx).astimezone(zone).replace(tzinfo=None)
        settings = {
            "TIMEZONE": tz, "RETURN_AS_TIMEZONE_AWARE": True, "DATE_ORDER": order, "PREFER_DATES_FROM": prefer,
            "RELATIVE_BASE": base,
        }  # fmt: skip
        try:
            found = dates.parse(text, languages=languages, settings=settings)
        except ValueError as error:
            raise ToolError("invalid_input", f"{error}", field="$.languages") from None
    if found is None:
        raise ToolError(
            "invalid_input", f"{text!r} is no moment.", hint="Write 2026-11-22 17:00.", field="$.text"
        )
    return _told(found)


@tool(
    effects="pure",
    where="inline",
    tags=["time"],
    examples=[
        Example({"value": "2026-11-22T09:30:00Z", "pattern": "%A, %d %B %Y"}, "Sunday, 22 November 2026")
    ],
)
def time_format(
    value: Moment,
    pattern: Annotated[
        str, Meta(min_length=1, max_length=200), "As of strftime: %Y-%m-%d %H:%M, %A, %B, %j, %V."
    ],
    tz: Annotated[
        Annotated[str, Meta(max_length=64)] | None, "A time zone to show it in; none = as it is."
    ] = None,
) -> str:
    """Write a moment by a pattern; names of days and months are English."""
    moment = _moment(value, UTC)
    if tz is not None:
        moment = moment.astimezone(_zone(tz))
    return moment.strftime(pattern)


@tool(
    effects="pure",
    where="inline",
    tags=["time"],
    examples=[
        Example(
            {"value": "2026-07-01T12:00:00", "to": "America/New_York", "tz": "Europe/Paris"},
            {
                "iso": "2026-07-01T06:00:00-04:00", "date": "2026-07-01", "time": "06:00:00", "weekday": "Wednesday",
                "tz": "America/New_York", "offset": "-04:00", "unix": 1782900000.0,
            },
        )
    ],
)  # fmt: skip
def time_convert_tz(value: Moment, to: Zone, tz: Zone = "UTC") -> Told:
    """Say what a moment is called in another time zone."""
    return _told(_moment(value, _zone(tz)).astimezone(_zone(to)))


@tool(
    effects="pure",
    where="inline",
    tags=["time"],
    examples=[
        Example(
            {"value": "2024-01-31", "months": 1},
            {
                "iso": "2024-02-29T00:00:00+00:00", "date": "2024-02-29", "time": "00:00:00", "weekday": "Thursday",
                "tz": "UTC", "offset": "+00:00", "unix": 1709164800.0,
            },
        )
    ],
)  # fmt: skip
def time_add(
    value: Moment,
    years: Count = 0,
    months: Count = 0,
    weeks: Count = 0,
    days: Count = 0,
    hours: Count = 0,
    minutes: Count = 0,
    seconds: Annotated[float, Meta(ge=-1e11, le=1e11)] = 0,
    tz: Zone = "UTC",
) -> Told:
    """Add to a moment, or take from it: a month after the 31st of January is the last of February."""
    moment = _moment(value, _zone(tz))
    try:
        wall = _later(moment, 12 * years + months) + timedelta(weeks=weeks, days=days)
        passed = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        return _told((_existing(wall).astimezone(UTC) + passed).astimezone(moment.tzinfo))
    except (OverflowError, ValueError) as error:
        raise ToolError("invalid_input", f"There is no such date: {error}.") from None


class Difference(TypedDict):
    """What lies between two moments."""

    seconds: float
    value: float
    """The same in ``unit``."""
    unit: Unit
    text: str


@tool(
    effects="pure",
    where="inline",
    tags=["time"],
    examples=[
        Example(
            {"a": "2026-11-22T09:00:00Z", "b": "2026-11-24T15:00:00Z", "unit": "hours"},
            {"seconds": 194400.0, "value": 54.0, "unit": "hours", "text": "2 days 6 hours"},
        )
    ],
)
def time_diff(a: Moment, b: Moment, unit: Unit | None = None, tz: Zone = "UTC") -> Difference:
    """Say how long it is from one moment to another; negative if the second comes first."""
    zone = _zone(tz)
    length = (_moment(b, zone) - _moment(a, zone)).total_seconds()
    size = abs(length)
    fits: list[Unit] = [each for each in _SECONDS if size >= _SECONDS[each] and each != "weeks"]
    unit = unit or (fits[-1] if fits else "seconds")
    return {"seconds": length, "value": length / _SECONDS[unit], "unit": unit, "text": _in_words(length)}


class Age(TypedDict):
    """How old somebody is."""

    years: int
    months: int
    days: int
    total_days: int


@tool(
    effects="pure",
    where="inline",
    tags=["time"],
    examples=[
        Example({"birth_date": "2000-02-29", "on": "2026-02-28"}, {"years": 26, "months": 0, "days": 0, "total_days": 9496})
    ],
)  # fmt: skip
def time_age(
    ctx: ToolContext,
    birth_date: Day,
    on: Annotated[Annotated[str, Meta(max_length=40)] | None, "A date; none = today."] = None,
) -> Age:
    """Say how old somebody is who was born on a date, in years, months and days."""
    born = _day(birth_date, "$.birth_date")
    today = _now(ctx).date() if on is None else _day(on, "$.on")
    if today < born:
        raise ToolError("invalid_input", f"{today} is before {born}.", field="$.on")
    months = 12 * (today.year - born.year) + today.month - born.month
    if _later(born, months) > today:
        months -= 1
    return {
        "years": months // 12,
        "months": months % 12,
        "days": (today - _later(born, months)).days,
        "total_days": (today - born).days,
    }


class BusinessDays(TypedDict):
    """A number of working days, and where it leads."""

    start: str
    end: str
    business_days: int
    holidays: dict[str, str]
    """Holidays on working days in between, by date."""


@tool(
    effects="pure",
    tags=["time"],
    extra="time",
    examples=[
        Example(
            {"start": "2026-12-24", "days": 2, "country": "DE"},
            {"start": "2026-12-24", "end": "2026-12-29", "business_days": 2, "holidays": {"2026-12-25": "Christmas Day"}},
        ),
        Example(
            {"start": "2026-11-20", "end": "2026-11-30"},
            {"start": "2026-11-20", "end": "2026-11-30", "business_days": 6, "holidays": {}},
        ),
    ],
)  # fmt: skip
def time_business_days(
    start: Day,
    end: Annotated[
        Annotated[str, Meta(max_length=40)] | None,
        "Count working days up to this date; it counts, start does not.",
    ] = None,
    days: Annotated[
        Annotated[int, Meta(ge=-10_000, le=10_000)] | None, "Or go so many working days on, or back."
    ] = None,
    country: Annotated[
        str, Meta(max_length=10), "Leave out holidays of a country (ISO code: DE, US); '' = only weekends."
    ] = "",
    subdivision: Annotated[str, Meta(max_length=10), "A state of it, such as BY or CA."] = "",
    weekend: Annotated[list[Annotated[int, Meta(ge=0, le=6)]], "Days off: 0 = Monday, 6 = Sunday."]
    | None = None,
) -> BusinessDays:
    """Count working days between two dates, or find the date that is so many working days away."""
    first = _day(start, "$.start")
    if (end is None) == (days is None):
        raise ToolError("invalid_input", "Give either end or days.", field="$.end")
    off = {5, 6} if weekend is None else set(weekend)
    if len(off) > 6:
        raise ToolError("invalid_input", "No day of the week is left to work.", field="$.weekend")
    known = _holidays(country, subdivision)
    if end is not None:
        last = _day(end, "$.end")
        step = 1 if last >= first else -1
        if abs((last - first).days) > 40_000:
            raise ToolError("too_large", "That is more than a hundred years.", field="$.end")
        passed = [first + timedelta(days=step * n) for n in range(1, abs((last - first).days) + 1)]
        worked = sum(day.weekday() not in off and day not in known for day in passed)
        return _business(first, last, step * worked, passed, off, known)
    assert days is not None
    step, left, day = (1 if days >= 0 else -1), abs(days), first
    passed: list[date] = []
    while left:
        day += timedelta(days=step)
        passed.append(day)
        left -= day.weekday() not in off and day not in known
    return _business(first, day, days, passed, off, known)


@tool(
    effects="pure",
    where="inline",
    tags=["time"],
    examples=[
        Example(
            {"expression": "0 9 * * 1-5", "count": 2, "after": "2026-11-20T10:00:00", "tz": "Europe/Berlin"},
            ["2026-11-23T09:00:00+01:00", "2026-11-24T09:00:00+01:00"],
        )
    ],
)
def time_cron(
    ctx: ToolContext,
    expression: Annotated[str, Meta(max_length=200), "Five fields: minute hour day month weekday."],
    count: Annotated[int, Meta(ge=1, le=MANY)] = 5,
    after: Annotated[Annotated[str, Meta(max_length=100)] | None, "A moment; none = now."] = None,
    tz: Zone = "UTC",
) -> list[str]:
    """Say when a cron expression is due next."""
    zone = _zone(tz)
    since = _now(ctx).astimezone(zone) if after is None else _moment(after, zone).astimezone(zone)
    try:
        return [due.isoformat() for due in islice(CronSim(expression, since), count)]
    except CronSimError as error:
        raise ToolError(
            "invalid_input", f"{expression!r} is no cron expression: {error}.", field="$.expression"
        ) from None


@tool(
    effects="pure",
    where="inline",
    tags=["time"],
    examples=[
        Example(
            {"start": "2026-11-22", "end": "2026-11-24", "every": "1d"},
            ["2026-11-22T00:00:00+00:00", "2026-11-23T00:00:00+00:00", "2026-11-24T00:00:00+00:00"],
        )
    ],
)
def time_range(
    start: Moment,
    end: Moment,
    every: Annotated[
        str, Meta(max_length=20), "A length of time: 15m, 6h, 1d, 2w; days keep the hour of the day."
    ] = "1d",
    tz: Zone = "UTC",
    limit: Annotated[int, Meta(ge=1, le=MANY)] = MANY,
) -> list[str]:
    """List the moments from one to another, both included, at equal distances; refuses more than limit."""
    zone = _zone(tz)
    first, last = _moment(start, zone), _moment(end, zone)
    try:
        step = seconds_in(every)
    except ConfigurationError as error:
        raise ToolError("invalid_input", error.what, hint=error.hint, field="$.every") from None
    if step <= 0:
        raise ToolError("invalid_input", f"{every!r} leads nowhere.", field="$.every")
    found = list(islice(_each(first, last, step), limit + 1))
    if len(found) > limit:
        raise ToolError(
            "too_large", f"There are more than {limit} moments.", hint="Take a longer every.", field="$.every"
        )
    return [moment.isoformat() for moment in found]


# ---------------------------------------------------------------- reading


def _now(ctx: ToolContext) -> datetime:
    return datetime.fromtimestamp(ctx.clock.now() / MICROSECONDS, UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        near = nearest(name, available_timezones()) or next(
            (
                zone
                for zone in sorted(available_timezones())
                if zone.lower().endswith("/" + name.lower().replace(" ", "_"))
            ),
            "",
        )
        raise ToolError(
            "invalid_input",
            f"There is no time zone {name!r}.",
            hint=f"Did you mean {near!r}?" if near else "Write it as Europe/Paris.",
            field="$.tz",
        ) from None


def _moment(text: str, zone: Any) -> datetime:
    found = _by_iso(text.strip(), zone)
    if found is None:
        raise ToolError(
            "invalid_input",
            f"{text!r} is no moment as ISO 8601.",
            hint="Write 2026-11-22T09:30, or ask time_parse.",
        )
    return found


def _day(text: str, field: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise ToolError(
            "invalid_input", f"{text!r} is no date.", hint="Write 2026-11-22.", field=field
        ) from None


def _by_iso(text: str, zone: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment


def _by_standard(text: str, zone: Any) -> datetime | None:
    """Return a moment that is written by a standard, None = it is not."""
    if text.lstrip("-").replace(".", "", 1).isdecimal() and len(text) > 8:
        try:
            return datetime.fromtimestamp(float(text), UTC)
        except (OverflowError, ValueError, OSError):
            return None
    if (found := _by_iso(text, zone)) is not None:
        return found
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)


def _holidays(country: str, subdivision: str) -> Any:
    if not country:
        return {}
    calendars = library("holidays", "time")
    try:
        return calendars.country_holidays(country.upper(), subdiv=subdivision or None, language="en_US")
    except NotImplementedError:
        known = {code: at for code, at in calendars.list_supported_countries().items() if len(code) == 2}
        places = known.get(country.upper())
        what = f"{subdivision!r} of {country}" if places is not None and subdivision else repr(country)
        raise ToolError(
            "invalid_input",
            f"No holidays of {what} are known.",
            hint=f"Known: {', '.join(places if places and subdivision else sorted(known))[:400]}.",
            field="$.subdivision" if places is not None and subdivision else "$.country",
        ) from None


# ---------------------------------------------------------------- reckoning


def _later(day: Any, months: int) -> Any:
    """Return a date, or a moment, so many months later: the same day of the month, or its last."""
    year, month = divmod(12 * day.year + day.month - 1 + months, 12)
    for last in (day.day, 30, 29, 28):
        if last <= day.day:
            try:
                return day.replace(year=year, month=month + 1, day=last)
            except ValueError:
                if not date.min.year <= year <= date.max.year:
                    raise
    raise AssertionError("every month has 28 days")


def _existing(wall: datetime) -> datetime:
    """Return a moment that a change of clocks leaves out as it is called after it: 02:30 becomes 03:30."""
    return wall.astimezone(UTC).astimezone(wall.tzinfo)


def _each(first: datetime, last: datetime, step: float) -> Iterator[datetime]:
    days, rest = divmod(step, _SECONDS["days"])
    number = 0
    while True:
        if rest:
            moment = (first.astimezone(UTC) + timedelta(seconds=step * number)).astimezone(first.tzinfo)
        else:
            moment = _existing(first + timedelta(days=days * number))
        if moment > last:
            return
        yield moment
        number += 1


# ---------------------------------------------------------------- telling


def _told(moment: datetime) -> Told:
    whole = moment.isoformat()
    zone = moment.tzinfo
    return {
        "iso": whole,
        "date": moment.date().isoformat(),
        "time": moment.timetz().replace(tzinfo=None).isoformat(),
        "weekday": _WEEKDAYS[moment.weekday()],
        "tz": zone.key if isinstance(zone, ZoneInfo) else str(moment.tzname()),
        "offset": whole[19:][-6:] if "." not in whole else whole[26:],
        "unix": moment.timestamp(),
    }


def _in_words(length: float) -> str:
    left, words = abs(length), list[str]()
    for unit in ("days", "hours", "minutes", "seconds"):
        count, left = divmod(left, _SECONDS[unit])
        if count:
            words.append(f"{count:g} {unit.removesuffix('s') if count == 1 else unit}")
    return ("minus " if length < 0 else "") + (" ".join(words) or "0 seconds")


def _business(
    first: date, last: date, count: int, passed: list[date], off: set[int], known: Any
) -> BusinessDays:
    within = {day.isoformat(): str(known[day]) for day in passed if day in known and day.weekday() not in off}
    return {"start": first.isoformat(), "end": last.isoformat(), "business_days": count, "holidays": within}


TOOLS = (
    time_now, time_parse, time_format, time_convert_tz, time_add, time_diff, time_age, time_business_days, time_cron,
    time_range,
)  # fmt: skip
