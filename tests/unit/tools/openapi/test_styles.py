"""How parameters are written: the specification's own table of styles, and what no value may do."""

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given, strategies as st

from reprise.kernel.errors import ToolError
from reprise.tools.openapi.styles import in_cookie, in_header, in_path, in_query

LIST = ["blue", "black", "brown"]
OBJECT = {"R": 100, "G": 200, "B": 150}


@pytest.mark.parametrize(
    ("style", "explode", "empty", "string", "array", "object"),
    [
        ("matrix", False, ";color", ";color=blue", ";color=blue,black,brown", ";color=R,100,G,200,B,150"),
        (
            "matrix",
            True,
            ";color",
            ";color=blue",
            ";color=blue;color=black;color=brown",
            ";R=100;G=200;B=150",
        ),
        ("label", False, ".", ".blue", ".blue,black,brown", ".R,100,G,200,B,150"),
        ("label", True, ".", ".blue", ".blue.black.brown", ".R=100.G=200.B=150"),
        ("simple", False, "", "blue", "blue,black,brown", "R,100,G,200,B,150"),
        ("simple", True, "", "blue", "blue,black,brown", "R=100,G=200,B=150"),
    ],
)
def test_styles_of_paths(style, explode, empty, string, array, object):
    written = [in_path("color", value, style, explode=explode) for value in ("", "blue", LIST, OBJECT)]
    assert written == [empty, string, array, object]


@pytest.mark.parametrize(
    ("style", "explode", "value", "expected"),
    [
        ("form", False, "", "color="),
        ("form", False, "blue", "color=blue"),
        ("form", False, LIST, "color=blue,black,brown"),
        ("form", False, OBJECT, "color=R,100,G,200,B,150"),
        ("form", True, LIST, "color=blue&color=black&color=brown"),
        ("form", True, OBJECT, "R=100&G=200&B=150"),
        ("spaceDelimited", False, LIST, "color=blue%20black%20brown"),
        ("spaceDelimited", False, OBJECT, "color=R%20100%20G%20200%20B%20150"),
        ("pipeDelimited", False, LIST, "color=blue%7Cblack%7Cbrown"),
        ("pipeDelimited", False, OBJECT, "color=R%7C100%7CG%7C200%7CB%7C150"),
        ("tabDelimited", False, LIST, "color=blue%09black%09brown"),
        ("deepObject", True, OBJECT, "color%5BR%5D=100&color%5BG%5D=200&color%5BB%5D=150"),
        (
            "deepObject",
            True,
            {"a": {"b": [1, 2]}},
            "color%5Ba%5D%5Bb%5D%5B0%5D=1&color%5Ba%5D%5Bb%5D%5B1%5D=2",
        ),
        ("deepObject", True, [{"a": 1}], "color%5B0%5D%5Ba%5D=1"),
        ("form", True, [], ""),
        ("form", True, None, ""),
        ("form", True, True, "color=true"),
        ("form", True, 1.5, "color=1.5"),
        ("form", True, [{"a": 1}], "color=%7B%22a%22%3A1%7D"),
    ],
)
def test_styles_of_queries(style, explode, value, expected):
    pairs = in_query("color", value, style, explode=explode)
    assert "&".join(f"{name}={each}" for name, each in pairs) == expected


def test_styles_of_headers_and_cookies():
    assert in_header("X", LIST, explode=False) == "blue,black,brown"
    assert in_header("X", OBJECT, explode=False) == "R,100,G,200,B,150"
    assert in_header("X", OBJECT, explode=True) == "R=100,G=200,B=150"
    assert in_cookie("c", "a b", "form", explode=True) == ["c=a%20b"]
    assert in_cookie("c", ["a", "b"], "cookie", explode=True) == ["c=a", "c=b"]


def test_reserved_characters_stay_where_they_may():
    assert in_query("q", "a/b?c=d:e", "form", explode=True, reserved=True) == [("q", "a/b?c=d:e")]
    assert in_query("q", "a&b#c+d%", "form", explode=True, reserved=True) == [("q", "a%26b%23c%2Bd%25")]


@given(st.text(max_size=30))
def test_a_value_of_a_path_stays_in_its_segment(value):
    try:
        written = in_path("id", value, "simple", explode=False)
    except ToolError as error:
        assert error.code == "invalid_input"
        return
    parts = urlsplit(f"https://a.test/users/{written}/pets?x=1")
    assert parts.path.split("/") == ["", "users", written, "pets"]
    assert parts.query == "x=1"
    assert unquote(written) == value
    assert unquote(written) not in (".", "..")
    assert "/" not in unquote(written)


@given(st.text(max_size=30), st.booleans())
def test_a_value_of_a_query_is_one_value(value, reserved):
    ((name, written),) = in_query("q[]", value, "form", explode=True, reserved=reserved)
    query = urlsplit(f"https://a.test/?{name}={written}&end=1").query
    assert parse_qsl(query, keep_blank_values=True) == [("q[]", value), ("end", "1")]


@given(st.text(max_size=30))
def test_a_value_of_a_header_is_one_line(value):
    try:
        written = in_header("X", value, explode=False)
    except ToolError:
        return
    assert not set(written) & set("\r\n\0")
