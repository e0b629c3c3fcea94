"""When a schedule fires: by the wall clock of a place, by real time, at moments; compared with going through all minutes."""

from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from reprise import ConfigurationError
from reprise.kernel.clock import from_datetime, to_datetime
from reprise.workflows.calendar import begins, count, latest, moments, timing

NEW_YORK, BERLIN, LORD_HOWE = "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"
MINUTE = 60_000_000


def local(zone, *when):
    return from_datetime(datetime(*when, tzinfo=ZoneInfo(zone)))


def times(declared, after, number):
    """Return the next moments as the wall clock of the schedule's place shows them, with the offset from UTC."""
    zone = ZoneInfo(declared.timezone)
    return [
        f"{to_datetime(at).astimezone(zone):%d %H:%M%z}" for at in islice(moments(declared, after), number)
    ]


# ---------------------------------------------------------------- the hours that are missing, and those that come twice


@pytest.mark.parametrize(
    ("zone", "after", "expected"),
    [
        (NEW_YORK, (2026, 3, 7, 12), ["08 03:00-0400", "09 02:30-0400"]),
        (BERLIN, (2026, 3, 28, 12), ["29 03:00+0200", "30 02:30+0200"]),
    ],
)
def test_a_fixed_time_that_spring_leaves_out_is_right_after_the_gap(zone, after, expected):
    assert times(timing(cron="30 2 * * *", timezone=zone), local(zone, *after), 2) == expected


@pytest.mark.parametrize(
    ("zone", "cron", "after", "expected"),
    [
        (NEW_YORK, "30 1 * * *", (2026, 10, 31, 12), ["01 01:30-0400", "02 01:30-0500"]),
        (BERLIN, "30 2 * * *", (2026, 10, 24, 12), ["25 02:30+0200", "26 02:30+0100"]),
    ],
)
def test_a_fixed_time_that_autumn_repeats_comes_once(zone, cron, after, expected):
    declared = timing(cron=cron, timezone=zone)
    assert times(declared, local(zone, *after), 2) == expected
    second = next(moments(declared, local(zone, *after))) + 40 * MINUTE  # in the hour as it comes again
    assert times(declared, second, 1) == expected[1:]


@pytest.mark.parametrize(
    ("zone", "after", "expected"),
    [
        (NEW_YORK, (2026, 3, 8, 1, 15), ["08 01:30-0500", "08 03:00-0400", "08 03:30-0400"]),
        (BERLIN, (2026, 3, 29, 1, 15), ["29 01:30+0100", "29 03:00+0200", "29 03:30+0200"]),
        (
            NEW_YORK,
            (2026, 11, 1, 0, 45),
            ["01 01:00-0400", "01 01:30-0400", "01 01:00-0500", "01 01:30-0500", "01 02:00-0500"],
        ),
        (NEW_YORK, (2026, 11, 1, 1, 40), ["01 01:00-0500", "01 01:30-0500", "01 02:00-0500"]),
        (
            BERLIN,
            (2026, 10, 25, 1, 45),
            ["25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100", "25 03:00+0100"],
        ),
    ],
)
def test_every_half_hour_goes_by_real_time(zone, after, expected):
    declared = timing(cron="*/30 * * * *", timezone=zone)
    assert times(declared, local(zone, *after), len(expected)) == expected


def test_the_29th_of_february_comes_every_four_years():
    declared = timing(cron="0 0 29 2 *")
    found = [to_datetime(at).date() for at in islice(moments(declared, local("UTC", 2096, 1, 1)), 2)]
    assert found == [date(2096, 2, 29), date(2104, 2, 29)]  # 2100 is none


def test_an_interval_is_real_time_whatever_the_clocks_do():
    declared = timing(every=timedelta(hours=12), timezone=BERLIN, start=datetime(2026, 3, 28, 9))
    assert times(declared, 0, 4) == ["28 09:00+0100", "28 21:00+0100", "29 10:00+0200", "29 22:00+0200"]


# ---------------------------------------------------------------- against going through all minutes


FIELDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}


@st.composite
def field(draw, name):
    low, high = FIELDS[name]
    kind = draw(st.sampled_from(["*", "*", "step", "one", "two", "range"]))
    one, other = sorted([draw(st.integers(low, high)), draw(st.integers(low, high))])
    step = draw(st.integers(1, max(2, high // 2)))
    return {
        "*": "*",
        "step": f"*/{step}",
        "one": f"{one}",
        "two": f"{other},{one}",
        "range": f"{one}-{other}",
    }[kind]


CRONS = st.tuples(*(field(name) for name in FIELDS)).map(" ".join)
CHANGES = [
    (NEW_YORK, datetime(2026, 3, 8, tzinfo=UTC)),
    (NEW_YORK, datetime(2026, 11, 1, tzinfo=UTC)),
    (BERLIN, datetime(2026, 3, 29, tzinfo=UTC)),
    (BERLIN, datetime(2026, 10, 25, tzinfo=UTC)),
    (LORD_HOWE, datetime(2026, 4, 4, tzinfo=UTC)),
    (LORD_HOWE, datetime(2026, 10, 3, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, tzinfo=UTC)),  # a day that never was
    ("UTC", datetime(2028, 2, 29, tzinfo=UTC)),
]


def values(text, name):
    low, high = FIELDS[name]
    found = set()
    for part in text.split(","):
        if part.startswith("*"):
            found.update(range(low, high + 1, int(part[2:] or 1)))
        else:
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return found


def by_all_minutes(cron, zone, first, last):
    """Return the moments of whole days, by trying every minute."""
    place, texts = ZoneInfo(zone), cron.split()
    minutes, hours, days, months, weekdays = (
        values(text, name) for text, name in zip(texts, FIELDS, strict=True)
    )
    both = texts[2].startswith("*") or texts[4].startswith("*")

    def on(day):
        fits = [day.day in days, day.isoweekday() % 7 in weekdays]
        return day.month in months and (all(fits) if both else any(fits))

    found = set()
    if cron.startswith("*") or texts[1].startswith("*"):
        for at in range(first, last, MINUTE):
            here = to_datetime(at).astimezone(place)
            if here.minute in minutes and here.hour in hours and on(here):
                found.add(at)
        return sorted(found)
    day = to_datetime(first).date() - timedelta(days=1)
    while day <= to_datetime(last).date() + timedelta(days=1):
        for hour in hours if on(day) else ():
            for minute in minutes:
                wall = datetime(day.year, day.month, day.day, hour, minute)
                at = from_datetime(wall.replace(tzinfo=place))
                while to_datetime(at).astimezone(place).replace(tzinfo=None) != wall:
                    wall += timedelta(minutes=1)  # it is in the gap
                    at = from_datetime(wall.replace(tzinfo=place))
                found.add(at)
        day += timedelta(days=1)
    return sorted(at for at in found if first <= at < last)


@settings(max_examples=150, deadline=None)
@given(CRONS, st.sampled_from(CHANGES), st.integers(0, 2 * 1440 - 1), st.integers(0, 59_999_999))
def test_the_moments_of_a_cron_expression_are_those_of_all_minutes(cron, change, minute, more):
    zone, day = change
    declared = try_timing(cron, zone)
    if declared is None:
        return
    first = from_datetime(day - timedelta(days=1))
    last = first + 3 * 1440 * MINUTE
    expected = by_all_minutes(cron, zone, first, last)
    assert list(takewhile(lambda at: at < last, moments(declared, first - 1))) == expected
    after = first + minute * MINUTE + more
    rest = [at for at in expected if at > after]
    assert list(takewhile(lambda at: at < last, moments(declared, after))) == rest
    before = [at for at in expected if at <= after]
    assert latest(declared, first - 1, after) == (before[-1] if before else None)
    assert count(declared, first - 1, after, 50) == min(50, sum(at < after for at in expected))


def try_timing(cron, zone):
    try:
        return timing(cron=cron, timezone=zone)
    except ConfigurationError:  # such as the 31st of June
        return None


@given(
    st.integers(1_000, 10**12),
    st.integers(0, 10**15),
    st.integers(0, 2 * 10**15),
    st.integers(0, 10**13),
)
def test_an_interval_counts_from_its_start(every, start, after, length):
    declared = timing(
        every=timedelta(microseconds=every), start=to_datetime(start) if start else None, timezone="UTC"
    )
    found = list(islice(moments(declared, after), 3))
    assert all((at - declared.start) % declared.every == 0 for at in found)
    assert found[0] > after
    assert found[0] - declared.every <= max(after, declared.start)
    assert found == [found[0], found[0] + declared.every, found[0] + 2 * declared.every]
    last = latest(declared, after, after + length)
    expected = list(islice(moments(declared, after + length - declared.every), 2))
    assert last == next((at for at in expected if after < at <= after + length), None)


# ---------------------------------------------------------------- bounds, moments, jitter


def test_nothing_is_before_the_start_or_at_the_end():
    start, end = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 13, tzinfo=UTC)
    for declared in (
        timing(every=1800, start=start, end=end),
        timing(cron="*/30 * * * *", start=start, end=end),
    ):
        found = [f"{to_datetime(at):%H:%M}" for at in moments(declared, 0)]
        assert found == ["12:00", "12:30"]
        assert latest(declared, 0, 2**60) == from_datetime(end) - 30 * MINUTE


def test_moments_without_a_zone_are_those_of_the_schedule():
    declared = timing(at=[datetime(2026, 7, 1, 8), datetime(2026, 1, 1, 8)], timezone=NEW_YORK)
    assert times(declared, 0, 5) == ["01 08:00-0500", "01 08:00-0400"]
    assert latest(declared, 0, declared.at[1] - 1) == declared.at[0]
    assert latest(declared, declared.at[1], 2**60) is None


def test_a_nickname_is_a_cron_expression():
    assert timing(cron="@daily") == timing(cron="0 0 * * *")


def test_jitter_follows_from_name_and_moment_and_stays_within_its_bound():
    declared = timing(every=60, jitter=30)
    ats = list(islice(moments(declared, 0), 500))
    first = [begins(declared, "poll", at) - at for at in ats]
    assert first == [begins(declared, "poll", at) - at for at in ats]
    assert first != [begins(declared, "other", at) - at for at in ats]
    assert all(0 <= late < 30_000_000 for late in first)
    assert len({late // 10_000_000 for late in first}) == 3
    assert begins(timing(every=60), "poll", 7) == 7


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "exactly one"),
        ({"cron": "* * * * *", "every": 5}, "exactly one"),
        ({"cron": "* * * *"}, "has 4 fields"),
        ({"cron": "0 * * * * *"}, "has 6 fields"),
        ({"cron": "61 * * * *"}, "cannot be read: Bad minute"),
        ({"cron": "0 0 30 2 *"}, "cannot be read"),
        ({"cron": "0 0 * * *", "timezone": "Europe/Berlim"}, "no time zone 'Europe/Berlim'"),
        ({"every": 0}, "every is 0 s"),
        ({"every": -1}, "every is -1"),
        ({"every": 5, "start": datetime(2026, 1, 2), "end": datetime(2026, 1, 1)}, "ends before it starts"),
    ],
)
def test_what_cannot_be_meant_is_said(options, text):
    with pytest.raises(ConfigurationError, match=text):
        timing(**options)


def test_a_misspelt_zone_is_answered_with_the_nearest():
    with pytest.raises(ConfigurationError) as refused:
        timing(every=1, timezone="Europe/Berlim")
    assert refused.value.hint == "Did you mean Europe/Berlin?"
