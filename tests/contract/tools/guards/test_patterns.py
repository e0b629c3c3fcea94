"""Regular expressions of strangers: none hangs, all find what `re` finds, and what cannot be one is said with its place."""

import json
import re
import subprocess
import sys
from itertools import islice

import pytest
from hypothesis import given, settings, strategies as st

from reprise import ToolError
from reprise.tools.guards import patterns
from reprise.tools.guards.patterns import Pattern

A = "a" * 60 + "!"
HOSTILE = {
    "nested plus": (r"(a+)+$", A),
    "nested star": (r"^(a*)*$", A),
    "alternatives that overlap": (r"^(a|a)*$", A),
    "alternative and its double": (r"^(a|aa)+$", A),
    "whitespace and words": (r"^(\s*\w+\s*)*$", "a " * 40 + "!"),
    "dot star, counted": (r"(.*a){25}$", A),
    "a class of Java": (r"^(([a-z])+.)+[A-Z]([a-z])+$", A),
    "mail, by OWASP": (
        r"^([a-zA-Z0-9])(([\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}(([a-z]{2,3})|([a-z]{2,3}[.]{1}[a-z]{2,3}))$",
        A,
    ),
    "mail, nested": (r"^([a-zA-Z0-9_\.\-])+\@(([a-zA-Z0-9\-])+\.?)+([a-zA-Z0-9]{2,4})+$", "a@" + A),
    "trim": (r"^\s+|\s+$", "x" + " " * 100_000 + "x"),
    "spaces at the end": (r"[\s\x0b]+$", " " * 100_000 + "x"),
    "digits and dots": (r"^(\d+\.?)+$", "1" * 60 + "x"),
    "digits and commas": (r"^(\d+,?)*$", "1" * 60 + "x"),
    "HTML tag": (r"<([a-z]+)([^<]+)*(?:>(.*)</[a-z]+>|\s+/>)", "<a" + " a" * 30),
    "Markdown, bold": (r"^(\*\*|__)(?:(.+)+)\*\*$", "**" + A),
    "URL": (r"^((https?:)?(//)?(\w+\.?)+/?)+$", A),
    "address": (r"^((25[0-5]|2[0-4]\d|1?\d?\d)\.?)+$", "1" * 70 + "x"),
    "date": (r"^((\d{1,4})[-/]?)+$", "1" * 60 + "x"),
    "path": (r"^(([\w.-]+)*/?)*$", A),
    "string of JSON": (r'^"(\\.|[^"\\]|.)*"$', '"' + A),
    "CSV": (r"^(([^,]*,?)*)*;$", A),
    "polynomial of five": (r"^\d*\d*\d*\d*\d*$", "1" * 3_000 + "x"),
    "polynomial, far": (r"a.*b.*c.*d.*e.*f$", "abcde" * 3_000),
    "lazy": (r"^(.*?,){20}P", "1," * 60),
    "counted, nested": (r"^((a{1,9}){1,9}){1,9}$", "a" * 200 + "!"),
    "from every start": (r"(x+x+)+y", "x" * 60),
    "class and its member": (r"^([a-z]|a|aa)*$", A),
    "number of Java": (r"^[\x00-\x20]*[+-]?(NaN|((((\d+)(\.)?((\d+)?)([eE][+-]?(\d+))?)+)))$", "1" * 60 + "x"),
    "letters of any language": (r"^([éa-z]+)*$", "é" * 60 + "!"),
    "empty or not": (r"^(a?|b?a)*$", A),
}  # fmt: skip
EACH = """
import json, re, signal, sys
from reprise.tools.guards.patterns import Pattern
find = {"re": lambda p, t: re.search(p, t), "ours": lambda p, t: next(Pattern(p).find(t), None)}[sys.argv[1]]
class Late(Exception): pass
def late(*_): raise Late
signal.signal(signal.SIGVTALRM, late)
hung = []
for name, (pattern, text) in json.load(sys.stdin).items():
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.1)
        find(pattern, text)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except Late:
        hung.append(name)
print(json.dumps(hung))
"""


@pytest.mark.parametrize(("engine", "hang"), [("re", set(HOSTILE)), ("ours", set())])
def test_patterns_that_hang_others_do_not_hang_ours(engine, hang):
    """Each may use a tenth of a second of a processor; the first case shows that the patterns are what they are said to be."""
    done = subprocess.run(
        [sys.executable, "-c", EACH, engine],
        input=json.dumps(HOSTILE),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == hang


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("(abc", "invalid_input", "missing ), at character 1"),
        ("(a)[)](b", "invalid_input", "missing ), at character 7"),
        (r"\(a)", "invalid_input", "unexpected ), at character 4"),
        ("x[abc", "invalid_input", "missing ], at character 2"),
        ("a*b**c*", "invalid_input", "bad repetition operator, at character 4"),
        ("[z-a]", "invalid_input", "at character 2"),
        ("a\\", "invalid_input", "trailing \\"),
        ("ab(?=x)c", "invalid_input", "at character 3. There is no look-around"),
        ("ab(?!x)c", "invalid_input", "at character 3. There is no look-around"),
        ("(?<=a)b", "invalid_input", "at character 1. There is no look-around"),
        (r"(a)\1", "invalid_input", "at character 4. There are no back-references"),
        ("(?P<n>a)(?P=n)", "invalid_input", "at character 9. There are no back-references"),
        ("(?>a)", "invalid_input", "at character 1. It never goes back"),
        ("a++", "invalid_input", "at character 2. It never goes back"),
        (r"a\Z", "invalid_input", r"at character 2. Write \z"),
        (r"\u20ac", "invalid_input", r"Write \x{20AC}"),
        ("(?x) a", "invalid_input", "without comments"),
        ("(a{30}){40}", "invalid_input", "at character 8. What is repeated"),
        ("x{1001}", "invalid_input", "at character 2. What is repeated"),
        ("a\ud800", "invalid_input", "half a character, at character 2"),
        (r"\pL{1000}", "too_large", "is too large a pattern"),
        ("a" * 1_001, "too_large", "1,001 characters"),
        (r"(?:\pL\pN){450}", "too_large", "is too large a pattern"),
    ],
)
def test_what_is_no_pattern_is_said_with_its_place(source, code, says):
    with pytest.raises(ToolError) as caught:
        Pattern(source, field="$.query")
    assert caught.value.code == code
    assert caught.value.field == "$.query"
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "source", ["(\\pL" * 200, "\\pL" * 330 + "**", "(" * 999, "\\pL" * 300 + ")", "(?P<n>a)" * 120 + "(?P=n)"]
)
def test_the_place_of_a_fault_is_found_in_long_patterns_too(source):
    with pytest.raises(ToolError, match="at character"):
        Pattern(source)


def test_a_text_that_is_too_long_for_a_large_pattern_is_refused():
    large = Pattern("(.?){1000}!")
    assert list(large.find("a" * 1_000 + "!")) == [(0, 1_001)]
    with pytest.raises(ToolError, match="1,000,000 bytes of text are too many") as caught:
        next(large.find("a" * 1_000_000))
    assert caught.value.code == "too_large"
    assert list(Pattern("[a-z]+!").find("a" * 1_000_000 + "!")) == [(0, 1_000_001)]


def test_many_matches_are_bounded_in_number_and_time(monkeypatch: pytest.MonkeyPatch):
    every = Pattern("a.*b|a")  # each match looks as far as the end of the text
    assert len(list(every.find("a" * 5_000, limit=3))) == 3
    assert list(every.find("a" * 5_000, limit=0)) == []
    clock = iter(range(100))
    monkeypatch.setattr(patterns, "monotonic", lambda: next(clock))
    with pytest.raises(ToolError, match="longer than 4 s to find 5 matches") as caught:
        list(every.find("a" * 5_000, seconds=4))
    assert caught.value.code == "timeout"


def test_half_a_character_in_a_text_is_one_that_nothing_is_known_of():
    assert list(Pattern(".").find("a\ud800é")) == [(0, 1), (1, 2), (2, 3)]
    assert list(Pattern("é").find("\udfffé")) == [(1, 2)]


def test_what_is_empty_is_found_once():
    assert list(Pattern(r"\b").find("aé b")) == [(0, 0), (1, 1), (3, 3), (4, 4)]
    assert list(Pattern("$").find("ab")) == [(2, 2)]


def test_case_is_folded_as_unicode_says():
    found = [match.start for match in Pattern("é|ß|k", ignore_case=True).find("ÉẞK\u212a")]
    assert found == [0, 1, 2, 3]


def test_no_pattern_outlives_its_user():
    import re2

    Pattern("something")
    with pytest.raises(ToolError):
        Pattern("(")
    assert re2._Regexp._make.cache_info().currsize == 0


ATOMS = ["a", "b", "é", "[ab]", "[^a]", ".", "(?:ab|a)", "(?:a|ab)", "(a|é)", r"\n"]
PARTS = st.sampled_from(
    [atom + times for atom in ATOMS for times in ("", "*", "+", "?", "*?", "+?", "{2}", "{1,2}")]
)
BRANCHES = st.tuples(st.lists(PARTS, min_size=1, max_size=3), st.lists(PARTS, max_size=2))
SOURCES = BRANCHES.map(lambda found: "|".join("".join(branch) for branch in found if branch))


def found_by_re(source: str, text: str) -> list[tuple[int, int]]:
    """`finditer`, but for one thing: where that finds nothing, it looks for something at the same place once more."""
    at, found = 0, []
    while at <= len(text) and (match := re.compile(source).search(text, at)):
        found.append(match.span())
        at = match.end() + (match.start() == match.end())
    return found


@settings(deadline=None)
@given(SOURCES, st.text("abéc\n😀", max_size=12))
def test_it_finds_what_re_finds(source: str, text: str):
    assert list(Pattern(source).find(text)) == found_by_re(source, text)


@settings(deadline=None)
@given(SOURCES, st.text(max_size=30), st.integers(0, 5))
def test_positions_are_within_the_text_and_never_overlap(source: str, text: str, limit: int):
    found = list(Pattern(source).find(text, limit))
    assert len(found) <= limit
    assert all(0 <= start <= end <= len(text) for start, end in found)
    assert all(
        one.end <= two.start and one != two for one, two in zip(found, islice(found, 1, None), strict=False)
    )
