"""Changing a text, and what was changed between two."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Callable
from html import escape
from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from reprise.tools.library.texts.comparing import parts, unified
from reprise.tools.library.texts.extracting import redacted
from reprise.tools.library.texts.words import Text
from reprise.tools.tool import Example, tool

Operation = Literal[
    "lower", "upper", "fold_case", "trim", "collapse_spaces", "strip_accents", "strip_invisible", "nfc", "nfkc", "slug",
    "redact_pii", "wrap", "dedent", "sort_lines", "unique_lines", "straight_quotes",
]  # fmt: skip

_ACCENTS = re.compile("[\u0300-\u036f]")
"""Marks over and under letters of Latin, Greek and Cyrillic; in other scripts marks are vowels."""
_SPELLED = str.maketrans({
    "ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ł": "l", "ı": "i", "ŋ": "n", "ĸ": "k",
})  # fmt: skip
"""Letters of which no accent can be taken, in a slug."""
_QUOTES = str.maketrans("‘’‚‛“”„‟«»", "''''" + '"' * 6)
_JOINERS = "\u200c\u200d"
"""They shape letters of Persian and Indian scripts, and make one emoji of several; anywhere else they hide something."""


@tool(
    effects="pure",
    tags=["text"],
    examples=[
        Example({"text": "  Crème Brûlée, für 2! ", "ops": ["slug"]}, "creme-brulee-fur-2"),
        Example({"text": "Write to ada@example.org.", "ops": ["redact_pii"]}, "Write to [email]."),
        Example({"text": "one  two\tthree", "ops": ["collapse_spaces", "upper"]}, "ONE TWO THREE"),
    ],
)
def text_transform(
    text: Text,
    ops: Annotated[list[Operation], Meta(min_length=1, max_length=16), "What to do, in this order."],
    width: Annotated[int, Meta(ge=10, le=1_000), "Characters of a line, for wrap."] = 80,
) -> str:
    """Change a text: letters, spaces, accents, Unicode forms, lines; or make it a slug, or take personal data out.

    redact_pii puts [email], [phone], [iban], [card] and [ip] for what looks like it; names stay. strip_invisible takes
    out what nobody sees: control and zero-width characters, directions, tags. wrap fills paragraphs anew.
    """
    for operation in ops:
        text = _wrapped(text, width) if operation == "wrap" else _OPERATIONS[operation](text)
    return text


class Difference(TypedDict):
    """What was changed."""

    diff: str
    """'' = nothing."""
    added: int
    removed: int
    """Lines, or words."""


@tool(
    effects="pure",
    tags=["text"],
    examples=[
        Example(
            {"a": "one\ntwo\n", "b": "one\n2\n"},
            {"diff": "--- a\n+++ b\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n", "added": 1, "removed": 1},
        ),
        Example(
            {"a": "the quick fox", "b": "the slow fox", "format": "words"},
            {"diff": "the [-quick-]{+slow+} fox", "added": 1, "removed": 1},
        ),
        Example(
            {"a": "a < b", "b": "a > b", "format": "html"},
            {"diff": "a <del>&lt;</del><ins>&gt;</ins> b", "added": 1, "removed": 1},
        ),
    ],
)
def text_diff(
    a: Annotated[str, Meta(max_length=500_000), "The text before."],
    b: Annotated[str, Meta(max_length=500_000), "The text after."],
    format: Annotated[
        Literal["unified", "words", "html"],
        "unified is a patch of lines, words shows [-old-]{+new+}, html the same as <del> and <ins>.",
    ] = "unified",
    context: Annotated[int, Meta(ge=0, le=1_000), "Lines around a change, for unified."] = 3,
) -> Difference:
    """Show what was changed from one text to another, by lines as a patch that can be applied, or by words."""
    diff, added, removed = (
        unified(a, b, context) if format == "unified" else _by_words(a, b, format == "html")
    )
    return {"diff": diff, "added": added, "removed": removed}


def _by_words(a: str, b: str, as_html: bool) -> tuple[str, int, int]:
    if a == b:
        return "", 0, 0
    old, new = _tokens(a), _tokens(b)
    gone, come = ("<del>{}</del>", "<ins>{}</ins>") if as_html else ("[-{}-]", "{{+{}+}}")
    shown: list[str] = []
    added = removed = 0
    for same, a_from, a_to, b_from, b_to in parts(old, new):
        before, after = "".join(old[a_from:a_to]), "".join(new[b_from:b_to])
        if as_html:
            before, after = escape(before), escape(after)
        if same:
            shown.append(before)
            continue
        shown += [gone.format(before)] if before else []
        shown += [come.format(after)] if after else []
        removed += sum(not token.isspace() for token in old[a_from:a_to])
        added += sum(not token.isspace() for token in new[b_from:b_to])
    return "".join(shown), added, removed


def _tokens(text: str) -> list[str]:
    """Return words, spaces between them, and everything else one by one."""
    return re.findall(r"\w+|\s+|[^\w\s]", text)


# ---------------------------------------------------------------- operations


def _stripped_accents(text: str) -> str:
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))


def _slug(text: str) -> str:
    """Return words in small letters, joined by hyphens; letters that are not Latin stay."""
    text = _stripped_accents(unicodedata.normalize("NFKC", text).lower().translate(_SPELLED))
    text = re.sub(r"['’]", "", text)
    kept = (
        c if unicodedata.category(c)[0] in "LN" or unicodedata.category(c) in ("Mn", "Mc") else "-"
        for c in text
    )
    return re.sub("-+", "-", "".join(kept)).strip("-")


def _visible(text: str) -> str:
    kept = [
        c
        for c in text
        if c in "\n\t" + _JOINERS or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    ]
    return "".join(
        c
        for at, c in enumerate(kept)
        if c not in _JOINERS or (0 < at < len(kept) - 1 and _joins(kept[at - 1], kept[at + 1]))
    )


def _joins(before: str, after: str) -> bool:
    """Return whether a joiner between two characters changes how they look."""
    return all(c >= "\u0600" and not c.isspace() and c not in _JOINERS for c in (before, after))


def _wrapped(text: str, width: int) -> str:
    paragraphs = (
        textwrap.fill(" ".join(paragraph.split()), width, break_long_words=False, break_on_hyphens=False)
        for paragraph in re.split(r"\n\s*\n", text)
    )
    return "\n\n".join(filter(None, paragraphs))


_OPERATIONS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "fold_case": str.casefold,
    "trim": str.strip,
    "collapse_spaces": lambda text: " ".join(text.split()),
    "strip_accents": _stripped_accents,
    "strip_invisible": _visible,
    "nfc": lambda text: unicodedata.normalize("NFC", text),
    "nfkc": lambda text: unicodedata.normalize("NFKC", text),
    "slug": _slug,
    "redact_pii": redacted,
    "dedent": textwrap.dedent,
    "sort_lines": lambda text: "\n".join(sorted(text.split("\n"))),
    "unique_lines": lambda text: "\n".join(dict.fromkeys(text.split("\n"))),
    "straight_quotes": lambda text: text.translate(_QUOTES),
}


TOOLS = [text_transform, text_diff]
