"""Changing texts, and what was changed: patches apply, and what is to be done once does nothing the second time."""

import re
import shutil
import subprocess
import unicodedata
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings, strategies as st
from tests.contract.tools.texts.calls import call, refusal

from reprise.tools.library.texts.changing import Operation
from reprise.tools.library.texts.comparing import parts

ANY = st.text(st.characters(codec="utf-8"), max_size=60)
LINES = st.text("ab\n", max_size=30)
WORDS = st.lists(st.sampled_from(["a", "b", " ", "\n", "<b>", "&", "é"]), max_size=20).map("".join)


@pytest.mark.parametrize(
    ("text", "ops", "expected"),
    [
        (" Crème  Brûlée! ", ["slug"], "creme-brulee"),
        ("Straße Łódź Ærø", ["slug"], "strasse-lodz-aero"),
        ("Привет, мир", ["slug"], "привет-мир"),
        ("日本語 テスト", ["slug"], "日本語-テスト"),
        ("नमस्ते दुनिया", ["slug"], "नमस्ते-दुनिया"),
        ("it's done -- really", ["slug"], "its-done-really"),
        ("--- ??? ---", ["slug"], ""),
        ("Ångström naïve Ελλάδα", ["strip_accents"], "Angstrom naive Ελλαδα"),
        ("हिन्दी עִבְרִית", ["strip_accents"], "हिन्दी עִבְרִית"),  # there, marks are vowels
        ("ﬁ ① Ｆｕｌｌ", ["nfkc"], "fi 1 Full"),
        ("cafe\u0301", ["nfc"], "caf\u00e9"),
        ("a\u200bb\ufeffc\u202ed\x07e\x1b[31m", ["strip_invisible"], "abcde[31m"),
        ("\U000e0069\U000e0067nore", ["strip_invisible"], "nore"),
        ("👩\u200d🚀 می\u200cخواهم a\u200db", ["strip_invisible"], "👩\u200d🚀 می\u200cخواهم ab"),
        (" a \n\t b\u00a0 ", ["collapse_spaces"], "a b"),
        ("Weiß", ["fold_case", "upper"], "WEISS"),
        ("b\na\nb", ["unique_lines", "sort_lines"], "a\nb"),
        ("    a\n      b", ["dedent"], "a\n  b"),
        ("“a” ‘b’ «c»", ["straight_quotes"], '"a" \'b\' "c"'),
        ("", ["slug", "wrap", "redact_pii"], ""),
        (
            "Ada, ada@example.org, +49 30 1234567, DE89 3704 0044 0532 0130 00, 4111 1111 1111 1111, 192.168.0.1",
            ["redact_pii"],
            "Ada, [email], [phone], [iban], [card], [ip]",
        ),
    ],
)
def test_a_text_is_changed_step_by_step(text, ops, expected):
    assert call("text_transform", text=text, ops=ops) == expected


def test_paragraphs_are_filled_anew():
    text = "one two three\nfour\n\n\nfive https://example.org/a/very/long/address six"
    assert call("text_transform", text=text, ops=["wrap"], width=12) == (
        "one two\nthree four\n\nfive\nhttps://example.org/a/very/long/address\nsix"
    )


def test_what_is_no_operation_is_refused():
    assert refusal("text_transform", text="a", ops=["explode"]).field == "$.ops[0]"
    assert refusal("text_transform", text="a", ops=[]).field == "$.ops"


ONCE = [each for each in get_args(Operation) if each not in ("upper",)]


@pytest.mark.parametrize("operation", ONCE)
@settings(deadline=None)
@given(text=ANY | st.text("a1@.+- \n\u200d\u200b\u0301ßé👩🚀‘(:", max_size=60))
def test_what_is_done_is_not_done_again(operation: str, text: str):
    done = call("text_transform", text=text, ops=[operation])
    assert call("text_transform", text=done, ops=[operation]) == done


@settings(deadline=None)
@given(ANY)
def test_a_slug_has_letters_digits_and_single_hyphens_only(text: str):
    slug = call("text_transform", text=text, ops=["slug"])
    assert not slug.startswith("-")
    assert not slug.endswith("-")
    assert "--" not in slug
    assert all(c == "-" or unicodedata.category(c)[0] in "LNM" for c in slug)


# ---------------------------------------------------------------- differences


def applied(text: str, patch: str) -> str:
    """Return a text with a patch applied: by what the format says, not by the code that wrote it."""
    old = re.findall(r"[^\n]*\n|[^\n]+\Z", text)
    rows = patch.split("\n")[2:-1] if patch else []
    new: list[str] = []
    at = 0
    for number, row in enumerate(rows):
        whole = number + 1 == len(rows) or rows[number + 1] != "\\ No newline at end of file"
        line = row[1:] + ("\n" if whole else "")
        if row.startswith("@@"):
            first, count = re.findall(r"-(\d+)(?:,(\d+))?", row)[0]
            start = int(first) - (count != "0")
            new += old[at:start]
            at = start
        elif row[0] in " -":
            assert old[at] == line
            at += 1
        if row[0] in " +":
            new.append(line)
    return "".join([*new, *old[at:]])


@settings(deadline=None)
@given(LINES | ANY, LINES | ANY, st.integers(0, 3))
def test_a_patch_makes_the_second_of_the_first(a: str, b: str, context: int):
    told = call("text_diff", a=a, b=b, context=context)
    assert applied(a, told["diff"]) == b
    rows = told["diff"].split("\n")[2:]
    assert told["added"] == sum(row.startswith("+") for row in rows)
    assert told["removed"] == sum(row.startswith("-") for row in rows)


@pytest.mark.skipif(shutil.which("patch") is None, reason="there is no patch(1) here")
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("one\ntwo\nthree\n", "one\n2\nthree\n"),
        ("one\ntwo", "one\ntwo\n"),
        ("one\ntwo\n", "one\ntwo"),
        ("a\nb", "a\nc"),
        ("\n".join(map(str, range(50))), "\n".join(str(n * 10 if n % 11 == 0 else n) for n in range(50))),
        ("x\n", "x\ny\n"),
        ("form\x0cfeed\u2028one\n", "form\x0cfeed\u2028two\n"),
    ],
)
def test_patch_applies_it(a, b, tmp_path: Path):
    (tmp_path / "a").write_text(a)
    diff = call("text_diff", a=a, b=b)["diff"]
    subprocess.run(["patch", "-s", "a"], input=diff.encode(), cwd=tmp_path, check=True)
    assert (tmp_path / "a").read_text() == b


@settings(deadline=None)
@given(WORDS, WORDS)
def test_a_difference_of_words_has_both_texts_in_it(a: str, b: str):
    told = call("text_diff", a=a, b=b, format="html")
    if a == b:
        assert told == {"diff": "", "added": 0, "removed": 0}
        return
    before = re.sub(r"<ins>.*?</ins>", "", told["diff"], flags=re.DOTALL)
    after = re.sub(r"<del>.*?</del>", "", told["diff"], flags=re.DOTALL)
    assert unescape(re.sub("</?del>", "", before)) == a
    assert unescape(re.sub("</?ins>", "", after)) == b


def test_words_are_marked():
    told = call("text_diff", a="the quick brown fox", b="the brown fox jumps", format="words")
    assert told == {"diff": "the [-quick -]brown fox{+ jumps+}", "added": 1, "removed": 1}


def test_what_is_marked_up_stays_text():
    told = call("text_diff", a="<script>", b="<script>alert(1)</script>", format="html")
    assert "<script" not in told["diff"]


def common(a: str, b: str) -> int:
    """Return the length of a longest common subsequence, as it is defined."""
    row = [0] * (len(b) + 1)
    for x in a:
        row = [0, *row]
        for at, y in enumerate(b):
            row[at + 1] = row[at + 1] + 1 if x == y else max(row[at], row[at + 2])
        row.pop()
    return row[-1]


@settings(deadline=None)
@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_no_difference_is_shorter(a: str, b: str):
    found = list(parts(a, b))
    assert "".join(a[part.a_from : part.a_to] for part in found) == a
    assert "".join(b[part.b_from : part.b_to] for part in found) == b
    assert all(a[part.a_from : part.a_to] == b[part.b_from : part.b_to] for part in found if part.same)
    assert sum(part.a_to - part.a_from for part in found if part.same) == common(a, b)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), max_size=30), st.lists(st.sampled_from("abcdefgh"), max_size=30))
def test_what_is_too_large_to_compare_is_true_all_the_same(a: list[str], b: list[str]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reprise.tools.library.texts.comparing.TABLE", 12)
        found = list(parts(a, b))
    assert [token for part in found for token in a[part.a_from : part.a_to]] == a
    assert [token for part in found for token in b[part.b_from : part.b_to]] == b
    assert all(a[part.a_from : part.a_to] == b[part.b_from : part.b_to] for part in found if part.same)
    assert all(one.same != two.same for one, two in pairwise(found))
