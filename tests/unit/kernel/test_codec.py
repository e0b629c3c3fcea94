"""The codec gives back what was written, by its declared type, or refuses before anything is written."""

from __future__ import annotations

import dataclasses
import enum
import math
import uuid
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import given, strategies as st

from reprise.kernel.codec import Codec
from reprise.kernel.errors import CodecError, ConfigurationError

codec = Codec()


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.StrEnum):
    FAST = "fast"


class Pair(enum.Enum):
    AB = ("a", "b")


@dataclasses.dataclass
class Page:
    url: str
    seen: datetime
    links: list[Page] = dataclasses.field(default_factory=list)
    extra: Any = None


@dataclasses.dataclass
class LongPage(Page):
    length: int = 0


class Point(msgspec.Struct, frozen=True):
    x: float
    y: float = 0.0


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    owner: str


class Span(NamedTuple):
    start: date
    days: int


class Options(TypedDict, total=False):
    depth: int
    root: Path


class Whole(TypedDict):
    name: str
    depth: int


T = TypeVar("T")


@dataclasses.dataclass
class Box(Generic[T]):
    item: T


class Invoice(pydantic.BaseModel):
    number: int = pydantic.Field(alias="no")
    total: Decimal
    paid: datetime | None = None


class Leaky(pydantic.BaseModel):
    secret: str = pydantic.Field(exclude=True, default="")


NOW = datetime(2026, 3, 1, 12, 30, 5, 123456, tzinfo=UTC)

CASES: list[tuple[Any, Any]] = [
    ("text", str),
    (3, int),
    (2**200, int),
    (True, bool),
    (1.5, float),
    (None, None),
    (b"\x00\xff", bytes),
    (NOW, datetime),
    (NOW.replace(tzinfo=None), datetime),
    (datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=-5, minutes=-30))), datetime),
    (date(1, 1, 1), date),
    (time(23, 59, 59, 999999), time),
    (timedelta(days=-3, microseconds=7), timedelta),
    (Decimal("1.10"), Decimal),
    (uuid.UUID(int=7), uuid.UUID),
    (Colour.RED, Colour),
    (Level.LOW, Level),
    (Mode.FAST, Mode),
    ({1, 2}, set[int]),
    (frozenset({"a"}), frozenset[str]),
    ((1, "a", NOW), tuple[int, str, datetime]),
    ((1, 2, 3), tuple[int, ...]),
    ((), tuple[()]),
    (Path("a/b"), Path),
    (PurePosixPath("/x"), PurePosixPath),
    (Path("a"), Path | None),
    ({"a": Path("b")}, dict[str, Path]),
    ({3: NOW, 4: NOW}, dict[int, datetime]),
    ({Colour.RED: 1}, dict[Colour, int]),
    (Page("u", NOW, [Page("v", NOW)], {"a": [1, None]}), Page),
    ([Point(1.0, 2.0)], list[Point]),
    ([Cat(9), Dog("me")], list[Cat | Dog]),
    (Span(date(2026, 1, 1), 3), Span),
    ({"depth": 3, "root": Path("r")}, Options),
    (Box(NOW), Box[datetime]),
    ({"a": 1}, Mapping[str, int]),
    ("b", Literal["a", "b"]),
    (5, Annotated[int, msgspec.Meta(gt=3)]),
    ([1, "a", None, 2.5], list[int | str | float | None]),
    (Invoice(no=3, total=Decimal("1.50"), paid=NOW), Invoice),
    ([Invoice(no=3, total=Decimal(1))], list[Invoice]),
    ({"a": [1, 2.5, "x", None, True, {"b": []}]}, Any),
    ([1, {"k": 2}], object),
    ({"k": [1]}, dict[str, object]),
]


@pytest.mark.parametrize(("value", "declared"), CASES, ids=[f"{d}-{i}" for i, (_, d) in enumerate(CASES)])
def test_round_trips_by_declared_type(value: Any, declared: Any) -> None:
    back = codec.decode(codec.encode(value, declared), declared)
    assert back == value
    assert type(back) is type(value)


REFUSED: list[tuple[Any, Any, str]] = [
    # nothing declared: what plain JSON would change
    ({"items": [0, 1, 2, {"when": NOW}]}, Any, "$.items[3].when"),
    ([(1, 2)], Any, "$[0]"),
    (Page("u", NOW), object, "$,"),
    ({"a": {1: 2}}, Any, "the key 1 is a int"),
    ([Level.LOW], Any, "$[0]"),
    ({"a": Mode.FAST}, Any, "$.a"),
    (OrderedDict(a=1), Any, "declared type"),
    ({"a": {"b c": {1, 2}}}, Any, "$.a['b c']"),
    ([math.nan], Any, "nan has no JSON form"),
    (math.inf, Any, "inf has no JSON form"),
    # declared, and something else given
    (math.nan, float | None, "nan has no JSON form"),
    (1, str, "int where str is declared"),
    ("2026-01-01", date, "str where datetime.date is declared"),
    (True, int, "bool where int is declared"),
    (NOW, date, "datetime.datetime where datetime.date is declared"),
    (2**2000, float, "no equal float"),
    (2**53 + 1, float, "no equal float"),
    ([1, "x"], list[int], "$[1], str where int is declared"),
    ({"a": 1}, list[int], "dict where list is declared"),
    ([1], tuple[int, ...], "list where tuple is declared"),
    ((1,), tuple[int, int], "1 items where 2 are declared"),
    (LongPage("u", NOW), Page, "LongPage where"),
    (Page("u", "today"), Page, "$.seen"),  # type: ignore[arg-type]
    (Page("u", NOW, [Page("v", NOW, extra=NOW)]), Page, "$.links[0].extra"),
    (Span(date(2026, 1, 1), "3"), Span, "$[1]"),  # type: ignore[arg-type]
    ({"depth": 1, "dept": 2}, Options, "no key 'dept'"),
    ({"depth": "1"}, Options, "$.depth"),
    ({}, Whole, "Whole without depth, name"),
    ("1", float, "str where float is declared"),
    ({"a": 1}, dict[int, int], "str where int is declared"),
    ("c", Literal["a", "b"], "one of 'a', 'b'"),
    (["x"], Literal["a", 1], "one of"),
    ([1, b"x"], list[int | str], "$[1], bytes where int | str is declared"),
    (NOW.astimezone(timezone(timedelta(seconds=3601))), datetime, "whole minutes"),
    (time(1, tzinfo=ZoneInfo("Europe/Paris")), time, "no offset"),
    (Decimal("sNaN"), Decimal, "signalling NaN"),
    (2, Annotated[int, msgspec.Meta(gt=3)], ">= 4"),
    (Leaky(secret="x"), Leaky, "does not come back equal"),
    (3, Path, "Path is declared"),
    # not writable at all
    ("\ud800", str, "surrogates"),
    (3 + 1j, complex, "register"),
    ([object()], Any, "declared type"),
]


@pytest.mark.parametrize(
    ("value", "declared", "said"), REFUSED, ids=[f"{s}-{i}" for i, (_, _, s) in enumerate(REFUSED)]
)
def test_refuses_what_would_come_back_different(value: Any, declared: Any, said: str) -> None:
    with pytest.raises(CodecError) as caught:
        codec.encode(value, declared)
    assert said in str(caught.value)


def test_refusal_without_a_declared_type_says_what_to_declare() -> None:
    with pytest.raises(CodecError, match="Declare the return type"):
        codec.encode((1, 2))


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CodecError, match="contains itself"):
        codec.encode(loop)


@pytest.mark.parametrize("declared", [Page | Box[int], Pair, datetime | str, "int"])
def test_a_type_that_cannot_be_told_apart_is_refused_at_once(declared: Any) -> None:
    with pytest.raises(CodecError, match="cannot be written"):
        codec.encoder(declared)


def test_containers_come_back_as_declared() -> None:
    assert codec.decode(codec.encode((1, 2), Sequence[int]), Sequence[int]) == [1, 2]
    assert codec.decode(codec.encode(Counter("aab"), dict[str, int]), dict[str, int]) == {"a": 2, "b": 1}
    assert codec.decode(codec.encode(3, float), float) == 3.0
    assert codec.decode(codec.encode(Mode.FAST, str), str) == "fast"


def test_data_of_another_type_is_a_codec_error() -> None:
    with pytest.raises(CodecError, match=r"Cannot read .*list\[int\]"):
        codec.decode(b'["x"]', list[int])


def test_a_registered_class_is_written_wherever_it_stands() -> None:
    own = Codec()
    with pytest.raises(CodecError, match="register"):
        own.encode([1j], list[complex])
    own.register(complex, lambda z: [z.real, z.imag], lambda pair: complex(*pair))
    assert own.decode(own.encode({"z": 1j}, dict[str, complex]), dict[str, complex]) == {"z": 1j}
    with pytest.raises(CodecError, match="int where complex"):
        own.encode(1, complex)


def test_what_is_known_natively_cannot_be_registered() -> None:
    for known in (int, Page, Path):
        with pytest.raises(ConfigurationError, match="knows it already"):
            Codec().register(known, str, str)  # type: ignore[type-var]


def test_what_a_conversion_raises_is_a_codec_error() -> None:
    own = Codec()
    own.register(complex, lambda z: {}[z], complex)
    with pytest.raises(CodecError, match="1j"):
        own.encode(1j, complex)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
anything = st.recursive(
    plain
    | st.binary()
    | st.datetimes()
    | st.decimals()
    | st.floats()
    | st.sampled_from([Level.LOW, Mode.FAST]),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner)
    ),
)


def same(left: Any, right: Any) -> bool:
    """Equal and of the same types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@given(plain)
def test_every_plain_value_comes_back_the_same(value: Any) -> None:
    assert same(codec.decode(codec.encode(value)), value)


@given(anything)
def test_what_is_accepted_without_a_type_comes_back_the_same(value: Any) -> None:
    try:
        data = codec.encode(value)
    except CodecError:
        return
    assert same(codec.decode(data), value)


@pytest.mark.parametrize(
    "declared",
    [datetime, date, time, timedelta, uuid.UUID, Decimal, bytes, int, Page, tuple[int, set[str]], Colour],
)
def test_every_value_of_a_type_comes_back_or_is_refused(declared: Any) -> None:
    strategy = st.from_type(declared)
    if declared is Page:
        strategy = st.builds(Page, st.text(), st.datetimes(), st.just([]), plain)

    @given(strategy)
    def check(value: Any) -> None:
        try:
            data = codec.encode(value, declared)
        except CodecError:
            return
        back = codec.decode(data, declared)
        assert back == value or (declared is Decimal and value.is_nan() and back.is_nan())

    check()


class Inner(msgspec.Struct, frozen=True):
    items: list[Any]


INNER = Inner([])


class Outer(msgspec.Struct):
    inner: Inner = INNER


def test_a_default_that_can_change_is_asked_each_time():
    assert codec.encode(Outer(), Outer) == b'{"inner":{"items":[]}}'
    INNER.items.append((1, 2))
    with pytest.raises(CodecError, match="a tuple needs a declared type"):
        codec.encode(Outer(), Outer)
    INNER.items.clear()
