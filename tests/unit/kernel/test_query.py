"""The language of queries: what it says, and what it says where it cannot be read."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from reprise.kernel.clock import from_datetime
from reprise.kernel.errors import ConfigurationError, QueryError
from reprise.kernel.query import EVERY, AnyOf, Compare, Is, Says, fields, matcher, words
from reprise.kernel.query_text import FIELDS, parse
from reprise.kernel.tags import as_tags
from reprise.stores.runs import RunRow

NOW = from_datetime(datetime(2026, 11, 21, 12, tzinfo=UTC))
HOUR = 3_600_000_000
DAY = 24 * HOUR

RUNS = [
    RunRow("order-1", "order", "failed", NOW - 30 * DAY, NOW - 30 * DAY + HOUR, None, None, None, "v1",
           {"env": "prod", "amount": 120, "since": "2026-11-01T10:00:00.000000Z"}, "Timeout: connection reset by peer"),
    RunRow("order-1:1.ship", "ship", "completed", NOW - 30 * DAY, NOW - 30 * DAY, "order-1", None, None, "v1",
           {"env": "prod", "amount": 99.5, "vip": True}),
    RunRow("survey-7", "survey", "waiting", NOW - HOUR, NOW - 60, None, "w1", NOW + HOUR // 2, "",
           {"env": "dev", "amount": "100", "status": "odd", "text": 'a, (b) "c"'}),
    RunRow("x", "survey", "running", NOW - 1, NOW, None, "w2", None, "v2", {}, "", warning="long"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "0123"),
        ("status:failed", "0"),
        ("status:failed,waiting", "02"),
        ("status:open", "23"),
        ("status:ended", "01"),
        ("status!=failed,completed", "23"),
        ("workflow:survey status:running", "3"),
        ("workflow:s*", "123"),
        ("id:order-1", "0"),
        ("id:order-1*", "01"),
        ("id:order-1:1.ship", "1"),
        ("parent:none", "023"),
        ("parent:*", "1"),
        ("parent:order-1", "1"),
        ("owner:none", "01"),
        ("owner:w1,w2", "23"),
        ("build:none", "2"),
        ("build:v*", "013"),
        ("age<2h", "23"),
        ("age>2h", "01"),
        ("age > 1d12h", "01"),
        ("idle<1s", "23"),
        ("due<1h", "2"),
        ("due>1h", ""),
        ("due:none", "013"),
        ("due:*", "2"),
        ("created>2026-11-01", "23"),
        ("created<2026-11-01", "01"),
        ("created:2026-10-22", "01"),
        ("created<=2026-10-22", "01"),
        ("created>=2026-10-23", "23"),
        ("created:today", "23"),
        ("created<yesterday", "01"),
        ("created>=2026-11-21T11:00 created<2026-11-21T12:00:00.5Z", "23"),
        ("env:prod", "01"),
        ("env!=prod", "23"),
        ("env:prod,dev", "012"),
        ("env:p*", "01"),
        ("env:none", "3"),
        ("env:*", "012"),
        ("amount>100", "0"),
        ("amount>=99.5 amount<1e3", "01"),
        ("amount:100", "2"),
        ('amount:"100"', "2"),
        ("amount:120", "0"),
        ('amount:"120"', ""),
        ("amount=120.0", "0"),
        ('amount>="1"', "2"),
        ("vip:true", "1"),
        ("vip:none", "023"),
        ("since:2026-11-01*", "0"),
        ("since>=2026-11-01 since<2026-11-02", "0"),
        ("since>2026-11-01", ""),
        ("tag.status:odd", "2"),
        ("""text:'a, (b) "c"'""", "2"),
        (r'text:"a, (b) \"c\""', "2"),
        ("error:timeout", "0"),
        ('error:"connection reset"', "0"),
        ('error:"reset connection"', ""),
        ("error:CONN*", "0"),
        ('error:"reset by pe*"', "0"),
        ("error:time", ""),
        ("error:none", "123"),
        ("error:*", "0"),
        ("error!=timeout", "123"),
        ("warning:*", "3"),
        ("warning:none", "012"),
        ("not status:failed", "123"),
        ("not (status:failed or env:dev)", "13"),
        ("not not env:prod", "01"),
        ("status:failed or status:running and owner:w1", "0"),
        ("(status:failed or status:running) and owner:w2", "3"),
        ("env:prod AND Not vip:true", "0"),
        ("env:prod and(amount>100)", "0"),
    ],
)
def test_what_a_query_finds(query, found):
    matches = matcher(parse(query, NOW, UTC))
    assert "".join(str(n) for n, run in enumerate(RUNS) if matches(run)) == found


@pytest.mark.parametrize(
    ("query", "place", "said"),
    [
        ("stauts:failed", "stauts", "There is no field 'stauts'.*Did you mean 'status'.*tag.stauts"),
        ("Status:failed", "Status", "Did you mean 'status'"),
        ("env:prod failed", "failed", "alone is no condition.*Did you mean status:failed?"),
        ("survey", "survey", "workflow:survey, error:survey or id:survey"),
        ('"connection reset"', '"connection reset"', "alone is no condition"),
        ("age", "age", "Write age: and a value"),
        ("status:faild", "faild", "No run is ever 'faild'.*Did you mean 'failed'"),
        ("status:x9", "x9", "States: pending, running"),
        ("status>failed", "status", "status has no order"),
        ("env: ", "", "A value is missing after 'env:'"),
        ("amount:>5", ">", "A value is missing"),
        ("env:a,", "", "A value is missing"),
        ("(env:a", "(", "not closed"),
        ("env:a)", ")", "This closes nothing"),
        ("env:a or", "", "Nothing follows 'or'"),
        ("env:a and", "", "Nothing follows 'and'"),
        ("not", "", "Nothing follows 'not'"),
        ("()or(not)", ")", "Nothing follows 'not'"),
        ('env:"a', '"', "This quote is not closed"),
        ("created>2h", "2h", "'2h' is no moment.*Did you mean age<2h"),
        ("updated<2h", "2h", "Did you mean idle>2h"),
        ("created>2026-13-01", "2026-13-01", "is no moment.*today, yesterday"),
        ("age:2h", "age", "Write age<2h or age>2h"),
        ("age<2x", "2x", "'2x' is no length of time"),
        ("amount>1,2", "2", "amount> takes one value"),
        ("amount:1e999", "1e999", "too large"),
        ("error:--", "--", "There is no word in it"),
        ("env:a\0", "\0", "cannot have this character"),
    ],
)
def test_what_cannot_be_read_is_pointed_at(query, place, said):
    with pytest.raises(QueryError, match=said) as caught:
        parse(query, NOW, UTC)
    error = caught.value
    assert query[error.start : error.end] == place
    shown, pointer = error.pointer().split("\n")
    assert len(shown) == len(query)
    assert pointer == " " * error.start + "^" * max(1, error.end - error.start)
    assert isinstance(error, ConfigurationError)


def test_moments_without_an_offset_are_those_of_the_zone():
    east = timezone(timedelta(hours=2))
    assert parse("created>=2026-11-01", NOW, east) == Compare(
        "created", ">=", from_datetime(datetime(2026, 10, 31, 22, tzinfo=UTC))
    )
    assert parse("created>=2026-11-01T00:00Z", NOW, east) == parse("created>=2026-11-01", NOW, UTC)
    assert parse("created:today", NOW + 11 * HOUR, east) == parse("created:2026-11-22", NOW, east)
    here = datetime(2026, 11, 1).astimezone()
    assert parse("created>=2026-11-01", NOW) == Compare("created", ">=", from_datetime(here))


def test_a_day_is_all_of_it():
    (first, last) = parse("created:2026-11-01", NOW, UTC).parts
    assert last.value - first.value == DAY
    assert parse("created>2026-11-01", NOW, UTC) == Compare("created", ">=", last.value)
    assert parse("created<=2026-11-01", NOW, UTC) == last


def test_fields_that_are_asked_of():
    assert fields(parse("status:failed not (env:a or error:x)", NOW)) == {"status", "tag.env", "error"}
    assert fields(EVERY) == set()


def test_every_field_has_a_line_and_a_reader():
    values = {
        "age": "age<1h",
        "idle": "idle<1h",
        "created": "created:today",
        "updated": "updated:today",
        "due": "due:none",
    }
    for field, line in FIELDS.items():
        assert line
        parse(values.get(field, f"{field}:" + ("failed" if field == "status" else "x")), NOW)


def test_numbers_of_any_size_are_exact():
    assert parse("n:9007199254740993", NOW) == AnyOf(
        (Is("tag.n", "9007199254740993"), Is("tag.n", 2**53 + 1))
    )
    assert parse("n<99999999999999999999", NOW) == Compare("tag.n", "<", 1e20)
    assert parse("n:007", NOW) == AnyOf((Is("tag.n", "007"), Is("tag.n", 7)))


def test_words_are_alike_whatever_their_form():
    assert words("\uff34imeout STRASSE straße \ufb01le") == ["timeout", "strasse", "strasse", "file"]
    assert words("a_b-c.d'e\n") == list("abcde")
    assert parse('error:"KeyError: user_id"', NOW) == Says(("keyerror", "user", "id"))


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_place_in_it(text):
    try:
        parse(text, NOW, UTC)
    except QueryError as error:
        assert 0 <= error.start <= len(text)
        assert error.hint or error.what


@given(
    st.lists(
        st.sampled_from(
            ["not", "and", "or", "(", ")", "env:a", "age<1h", ",", '"', "created", ":", "*", "é:"]
        ),
        max_size=12,
    )
)
def test_any_order_of_its_parts_is_read_or_refused(parts):
    for text in ("".join(parts), " ".join(parts)):
        try:
            matcher(parse(text, NOW, UTC))
        except QueryError as error:
            assert 0 <= error.start <= len(text)


# ---------------------------------------------------------------- tags


def test_what_tags_may_be():
    east = timezone(timedelta(hours=2))
    given = {
        "a": "x",
        "b_1.c-d": True,
        "é": -(2**63),
        "f": 0.5,
        "at": datetime(2026, 11, 1, tzinfo=east),
        "day": datetime(2026, 11, 1).date(),
    }
    assert as_tags(given) == {
        "a": "x", "b_1.c-d": True, "é": -(2**63), "f": 0.5, "at": "2026-10-31T22:00:00.000000Z", "day": "2026-11-01",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["", "1a", "a b", "a:b", "a*", "-a", "a" * 101, 'a"'])
def test_names_that_a_query_could_not_say_are_refused(name):
    with pytest.raises(ConfigurationError, match="A tag cannot be named"):
        as_tags({name: 1})


@pytest.mark.parametrize(
    "value", [None, 2**63, float("nan"), float("inf"), [1], b"x", "x" * 1001, "é" * 501, "\0", "\ud800"]
)
def test_values_that_no_index_takes_are_refused(value):
    with pytest.raises(ConfigurationError, match="tag 'size'"):
        as_tags({"size": value})
