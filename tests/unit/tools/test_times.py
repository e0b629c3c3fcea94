"""Tools for time and dates: changes of clocks, ends of months, and what is no date."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from reprise import ToolError, ToolRegistry, create_builtin_tools_library
from reprise.testing import run


def call(name: str, **arguments: Any) -> Any:
    return run(lambda: ToolRegistry(create_builtin_tools_library()).execute_tool(name, arguments), seed=1)


def refusal(name: str, **arguments: Any) -> ToolError:
    with pytest.raises(ToolError) as caught:
        call(name, **arguments)
    return caught.value


def test_now_is_what_the_clock_around_says():
    told = call("time_now", tz="Asia/Tokyo")
    assert told["tz"] == "Asia/Tokyo"
    assert told["offset"] == "+09:00"
    assert call("time_diff", a=told["iso"], b=call("time_now")["iso"])["seconds"] == 0


@pytest.mark.parametrize(
    ("text", "options", "iso"),
    [
        ("2026-11-22", {}, "2026-11-22T00:00:00+00:00"),
        ("2026-11-22T09:30:00+01:00", {"tz": "Asia/Tokyo"}, "2026-11-22T09:30:00+01:00"),
        ("2026-11-22 09:30", {"tz": "Europe/Paris"}, "2026-11-22T09:30:00+01:00"),
        ("1795336200", {}, "2026-11-22T08:30:00+00:00"),
        ("3/4/2026", {"order": "DMY"}, "2026-04-03T00:00:00+00:00"),
        ("3/4/2026", {"order": "MDY"}, "2026-03-04T00:00:00+00:00"),
        ("22. November 2026 17:00", {"languages": ["de"]}, "2026-11-22T17:00:00+00:00"),
        ("le 22 novembre 2026", {"tz": "Europe/Paris"}, "2026-11-22T00:00:00+01:00"),
    ],
)
def test_moments_are_read_as_people_write_them(text, options, iso):
    assert call("time_parse", text=text, **options)["iso"] == iso


def test_words_are_counted_from_now():
    now, then = call("time_now"), call("time_parse", text="in 3 days")
    assert call("time_diff", a=now["iso"], b=then["iso"], unit="days")["value"] == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize(
    ("name", "arguments", "field", "says"),
    [
        ("time_parse", {"text": "not a date"}, "$.text", "is no moment"),
        ("time_parse", {"text": ""}, "$.text", "length >= 1"),
        ("time_parse", {"text": "1" * 201}, "$.text", "length <= 200"),
        ("time_parse", {"text": "tomorrow", "languages": ["xx"]}, "$.languages", "xx"),
        ("time_now", {"tz": "Paris"}, "$.tz", "Did you mean 'Europe/Paris'?"),
        ("time_now", {"tz": "Europe/Pariss"}, "$.tz", "Did you mean 'Europe/Paris'?"),
        ("time_now", {"tz": "../../etc/passwd"}, "$.tz", "There is no time zone"),
        ("time_now", {"tz": "/etc/localtime"}, "$.tz", "There is no time zone"),
        ("time_now", {"tz": ""}, "$.tz", "There is no time zone"),
        ("time_format", {"value": "soon", "pattern": "%Y"}, "", "is no moment as ISO 8601"),
        ("time_add", {"value": "9999-12-31", "days": 1}, "", "There is no such date"),
        ("time_add", {"value": "2026-01-01", "years": 9000}, "", "There is no such date"),
        ("time_add", {"value": "2026-01-01", "years": -3000}, "", "There is no such date"),
        ("time_add", {"value": "2026-01-01", "days": 10**9}, "$.days", "<= 100000"),
        ("time_age", {"birth_date": "2026-13-01"}, "$.birth_date", "is no date"),
        ("time_age", {"birth_date": "2026-01-02", "on": "2026-01-01"}, "$.on", "is before"),
        ("time_business_days", {"start": "2026-01-01"}, "$.end", "either end or days"),
        ("time_business_days", {"start": "2026-01-01", "days": 1, "end": "2026-01-02"}, "$.end", "either"),
        ("time_business_days", {"start": "2026-01-01", "days": 1, "country": "XX"}, "$.country", "Known: AD"),
        (
            "time_business_days",
            {"start": "2026-01-01", "days": 1, "country": "DE", "subdivision": "QQ"},
            "$.subdivision",
            "BY",
        ),
        (
            "time_business_days",
            {"start": "2026-01-01", "days": 1, "weekend": [0, 1, 2, 3, 4, 5, 6]},
            "$.weekend",
            "left",
        ),
        ("time_business_days", {"start": "2026-01-01", "end": "2226-01-01"}, "$.end", "hundred years"),
        ("time_cron", {"expression": "99 * * * *"}, "$.expression", "is no cron expression"),
        ("time_cron", {"expression": "* * * * *", "count": 0}, "$.count", ">= 1"),
        (
            "time_range",
            {"start": "2026-01-01", "end": "2027-01-01", "every": "1m"},
            "$.every",
            "more than 1000",
        ),
        (
            "time_range",
            {"start": "2026-01-01", "end": "2027-01-01", "every": "0d"},
            "$.every",
            "leads nowhere",
        ),
        (
            "time_range",
            {"start": "2026-01-01", "end": "2027-01-01", "every": "often"},
            "$.every",
            "no length of time",
        ),
    ],
)
def test_what_is_no_date_is_said_with_its_field(name, arguments, field, says):
    error = refusal(name, **arguments)
    assert error.code in ("invalid_input", "too_large")
    assert error.field == field
    assert says in str(error)


@pytest.mark.parametrize(
    ("value", "added", "iso"),
    [
        # The clocks go forward in Paris at 02:00 on 2024-03-31, and back at 03:00 on 2024-10-27.
        ("2024-03-31T01:30:00", {"hours": 1}, "2024-03-31T03:30:00+02:00"),
        ("2024-03-30T02:30:00", {"days": 1}, "2024-03-31T03:30:00+02:00"),
        ("2024-03-30T12:00:00", {"days": 1}, "2024-03-31T12:00:00+02:00"),
        ("2024-03-30T12:00:00", {"hours": 24}, "2024-03-31T13:00:00+02:00"),
        ("2024-10-27T01:30:00+02:00", {"hours": 2}, "2024-10-27T03:30:00+02:00"),
        ("2024-01-31", {"months": 1}, "2024-02-29T00:00:00+01:00"),
        ("2024-03-31", {"months": -1}, "2024-02-29T00:00:00+01:00"),
        ("2024-02-29", {"years": 1}, "2025-02-28T00:00:00+01:00"),
        ("2024-01-31", {"months": 1, "days": 1, "minutes": -1}, "2024-02-29T23:59:00+01:00"),
    ],
)
def test_days_are_counted_by_the_wall_and_hours_by_what_passes(value, added, iso):
    assert call("time_add", value=value, tz="Europe/Paris", **added)["iso"] == iso


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)),
    st.integers(-10_000, 10_000),
    st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata"]),
)
def test_hours_added_are_hours_passed(moment, hours, zone):
    start = moment.replace(tzinfo=ZoneInfo(zone))
    end = datetime.fromisoformat(call("time_add", value=moment.isoformat(), hours=hours, tz=zone)["iso"])
    assert end.astimezone(UTC) - start.astimezone(UTC) == timedelta(hours=hours)


@given(st.dates(), st.dates())
def test_an_age_leads_from_birth_to_today(born, today):
    if today < born:
        born, today = today, born
    age = call("time_age", birth_date=born.isoformat(), on=today.isoformat())
    assert age["total_days"] == (today - born).days
    assert 0 <= age["months"] < 12
    assert 0 <= age["days"] < 31


@given(st.dates(datetime(2000, 1, 1).date(), datetime(2030, 1, 1).date()), st.integers(-300, 300))
def test_working_days_lead_there_and_back(start, days):
    there = call("time_business_days", start=start.isoformat(), days=days)
    counted = call("time_business_days", start=start.isoformat(), end=there["end"])
    assert counted["business_days"] == days


def test_a_days_range_keeps_the_hour_over_a_change_of_clocks():
    found = call(
        "time_range", start="2024-03-30T08:00", end="2024-04-01T08:00", every="1d", tz="Europe/Paris"
    )
    assert found == ["2024-03-30T08:00:00+01:00", "2024-03-31T08:00:00+02:00", "2024-04-01T08:00:00+02:00"]
    found = call(
        "time_range", start="2024-03-31T00:00", end="2024-03-31T04:00", every="1h", tz="Europe/Paris"
    )
    assert len(found) == 4  # 00, 01, 03, 04
