"""Searching texts and comparing them: positions, lines, letters of all kinds."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tests.contract.tools.texts.calls import call, refusal

ANY = st.text(st.characters(codec="utf-8"), max_size=40)
TRICKY = st.text("aAbßẞſKkİıiéE\u0301\u200d😀👩🚀ש\u05b8\n ", max_size=30)


def found(text: str, query: str, **options: Any) -> list[str]:
    return [match["text"] for match in call("text_search", text=text, query=query, **options)["matches"]]


@pytest.mark.parametrize(
    ("text", "query", "options", "expected"),
    [
        ("Tea, tea and TEA", "tea", {}, ["Tea", "tea", "TEA"]),
        ("Tea, tea and TEA", "tea", {"case": True}, ["tea"]),
        ("aaaa", "aa", {}, ["aa", "aa"]),
        ("a.c abc", "a.c", {}, ["a.c"]),
        ("Die STRASSE, die Straße, die Strasse", "straße", {}, ["STRASSE", "Straße", "Strasse"]),
        ("ßs", "s", {}, ["s"]),  # not half of the ß
        ("ΣΊΣΥΦΟΣ σίσυφος", "Σίσυφος", {}, ["ΣΊΣΥΦΟΣ", "σίσυφος"]),
        ("caf\u00e9 cafe\u0301", "caf\u00e9", {}, ["caf\u00e9"]),  # normalize first to find both
        ("שלום עולם", "עולם", {}, ["עולם"]),
        ("👩\u200d🚀 and 👩", "👩\u200d🚀", {}, ["👩\u200d🚀"]),
        ("zero\u200bwidth", "zerowidth", {}, []),
        ("Order 17, order 218", r"\d+", {"mode": "regex"}, ["17", "218"]),
        ("one\ntwo", "(?m)^t.o$", {"mode": "regex"}, ["two"]),
        ("ONE", "one", {"mode": "regex"}, ["ONE"]),
        ("ONE", "one", {"mode": "regex", "case": True}, []),
        ("naïve 日本語", r"\pL+", {"mode": "regex"}, ["naïve", "日本語"]),
        ("The kettle is on", "kettel", {"mode": "fuzzy"}, ["kettle"]),
        ("colour, color and\na clr", "color", {"mode": "fuzzy"}, ["colour", "color"]),
        ("a", "abcdefg", {"mode": "fuzzy"}, []),
        ("Ärger mit Übermut", "Ubermut", {"mode": "fuzzy"}, ["Übermut"]),
        ("", "x", {}, []),
    ],
)
def test_a_query_is_found_where_it_stands(text, query, options, expected):
    assert found(text, query, **options) == expected


def test_a_match_tells_its_line_and_what_is_around():
    text = "first\n" + "x" * 100 + " here " + "y" * 100 + "\nlast"
    match = call("text_search", text=text, query="here")["matches"][0]
    assert match["line"] == 2
    assert match["context"] == "x" * 59 + " here " + "y" * 59
    assert match["score"] == 1.0


def test_what_is_over_the_limit_is_said():
    assert call("text_search", text="a a a", query="a", limit=3)["more"] is False
    assert call("text_search", text="a a a", query="a", limit=2)["more"] is True
    assert (
        len(call("text_search", text="a" * 5_000, query="a", mode="fuzzy", limit=1_000)["matches"]) == 1_000
    )


@pytest.mark.parametrize(
    ("arguments", "code", "field", "says"),
    [
        ({"query": ""}, "invalid_input", "$.query", "length >= 1"),
        ({"query": "(a", "mode": "regex"}, "invalid_input", "$.query", "at character 1"),
        ({"query": r"(?<=a)b", "mode": "regex"}, "invalid_input", "$.query", "no look-around"),
        ({"query": "x" * 201, "mode": "fuzzy"}, "too_large", "$.query", "at most 200"),
        ({"query": "x", "mode": "glob"}, "invalid_input", "$.mode", "glob"),
        ({"query": "x", "limit": 1_001}, "invalid_input", "$.limit", "1000"),
        ({"query": "x", "text": "x" * 1_000_001}, "invalid_input", "$.text", "1000000"),
    ],
)
def test_what_cannot_be_searched_for_is_said(arguments, code, field, says):
    error = refusal("text_search", **{"text": "text", **arguments})
    assert (error.code, error.field) == (code, field)
    assert says in str(error)


@settings(deadline=None)
@given(
    TRICKY,
    st.text("aAßsi éİK😀\n", min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from(["plain", "fuzzy"]),
)
def test_positions_slice_to_the_match(text: str, query: str, case: bool, mode: str):
    last = 0
    for match in call("text_search", text=text, query=query, case=case, mode=mode)["matches"]:
        assert text[match["start"] : match["end"]] == match["text"]
        assert last <= match["start"] < match["end"] <= len(text)
        assert match["line"] == text.count("\n", 0, match["start"]) + 1
        assert match["text"].split("\n")[0] in match["context"]
        if mode == "plain":
            assert match["text"] == query if case else match["text"].casefold() == query.casefold()
        last = match["end"]


@settings(deadline=None)
@given(ANY, ANY.filter(bool), ANY)
def test_what_stands_in_a_text_is_found(before: str, query: str, after: str):
    assert query in found(before + query + after, query, case=True)
    assert call("text_search", text=before + query + after, query=query)["matches"]


@pytest.mark.parametrize(
    ("a", "b", "method", "score"),
    [
        ("", "", "ratio", 1.0),
        ("", "a", "ratio", 0.0),
        ("Same", "same", "ratio", 1.0),
        ("kitten", "sitting", "ratio", 0.615),
        ("fox, quick", "the quick fox", "token_set", 1.0),
        ("Dwayne", "Duane", "jaro_winkler", 0.84),
        ("日本", "日本語", "ratio", 0.8),
    ],
)
def test_likeness_is_from_0_to_1(a, b, method, score):
    assert call("text_similarity", a=a, b=b, method=method) == score


@settings(deadline=None)
@given(ANY, ANY, st.sampled_from(["ratio", "token_set", "jaro_winkler"]))
def test_likeness_is_that_of_both_and_whole_only_of_the_same(a: str, b: str, method: str):
    there, back = (call("text_similarity", a=x, b=y, method=method, case=True) for x, y in ((a, b), (b, a)))
    assert there == back
    assert 0 <= there <= 1
    assert call("text_similarity", a=a, b=a, method=method) == 1
    if method == "ratio" and there == 1:
        assert a == b
