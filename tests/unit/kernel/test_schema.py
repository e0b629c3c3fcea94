"""What does not fit a JSON schema is said with its place; what the codec reads always fits the schema of its type."""

import re
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given, strategies

from reprise.kernel.codec import standard
from reprise.kernel.errors import CodecError
from reprise.kernel.schema import misfits, schema_of


class Colour(Enum):
    RED = "red"


@dataclass
class Tree:
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=3, pattern="^a")]
    kids: list["Tree"] = field(default_factory=list)


class Both(NamedTuple):
    a: int
    b: str


class Keyed(TypedDict, total=False):
    x: int


@pytest.mark.parametrize(
    ("type", "good", "bad", "why"),
    [
        (bool, True, 1, "1 is no boolean"),
        (int, 3, True, "true is no integer"),
        (float, 3, "x", '"x" is no number'),
        (int | None, None, "x", "no"),
        (Literal["a", 1], 1, True, "none of"),
        (Colour, "red", "blue", '"blue" is none of "red"'),
        (list[int], [1], [1, "x"], r'\$\[1\]: "x" is no integer'),
        (tuple[int, str], [1, "x"], [1], "too few"),
        (Both, [1, "x"], [1, "x", 2], "too many"),
        (dict[str, int], {"a": 1}, {"a": "b"}, r"\$.a"),
        (Keyed, {"x": 1}, {"x": "1"}, r"\$.x"),
        (
            Tree,
            {"name": "a", "kids": [{"name": "ab"}]},
            {"name": "a", "kids": [{}]},
            r"\$.kids\[0\]: name is missing",
        ),
        (Tree, {"name": "abc"}, {"name": "abcd"}, "longer than 3"),
        (Tree, {"name": "abc"}, {"name": "b"}, "does not match"),
        (Tree, {"name": "abc"}, {"name": ""}, "shorter than 1"),
        (Annotated[int, msgspec.Meta(gt=1, le=5)], 5, 1, "is not > 1"),
        (Annotated[int, msgspec.Meta(gt=1, le=5)], 5, 6, "is not <= 5"),
        (date, "2026-01-01", 3, "no string"),
        (Path, "x", 3, "no string"),
        (Any, {"a": [1]}, None, None),
    ],
)
def test_fits_and_misfits(type, good, bad, why):
    schema = schema_of(type)
    assert misfits(good, schema) == []
    if why is not None:
        with pytest.raises(CodecError):
            standard.decode(msgspec.json.encode(bad), type)
        (reason, *_) = misfits(bad, schema)
        assert re.search(why, reason)


@given(
    strategies.recursive(
        strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
        lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    )
)
def test_what_the_codec_reads_is_never_refused(value):
    data = msgspec.json.encode(value)
    for type in (int, str, list[int], dict[str, bool], Tree, Both, Literal["a", 0], int | str | None):
        try:
            standard.decode(data, type)
        except CodecError:
            continue
        assert misfits(value, schema_of(type)) == []


def test_a_schema_from_elsewhere_never_breaks_the_check():
    loop = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert misfits(1, loop) == []
    assert misfits({"a": 1}, {"type": ["object", "null"], "additionalProperties": False, "properties": {}})
    assert misfits(1, {"oneOf": [True, {"const": 2}]}) == []
    assert misfits(1, {"const": 2}) == ["$: 1 is not 2"]
