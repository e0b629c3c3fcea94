"""Finding something in a text, and how alike two texts are."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.extras import library
from reprise.tools.guards.patterns import Pattern
from reprise.tools.library.texts.words import Span, Text
from reprise.tools.tool import Example, tool

AROUND = 60
"""Characters of its line that are shown before and after a match."""
ALIKE = 80.0
"""How alike, of 100, what is found fuzzily is at least."""
FUZZY = 200
"""Characters of what is looked for fuzzily."""
_PIECE = 1_000
"""Characters in which something alike is looked for at a time."""


class Found(TypedDict):
    """A part of a text that was searched for."""

    start: int
    end: int
    """``text[start:end]``, in characters."""
    line: int
    """Number of its line, from 1."""
    text: str
    context: str
    """The same with what stands before and after it in its line."""
    score: float
    """1 = just that."""


class FoundAll(TypedDict):
    """What a search found."""

    matches: list[Found]
    more: bool
    """There are more than the limit."""


@tool(
    effects="pure",
    tags=["text"],
    examples=[
        Example(
            {"text": "Tea is hot.\nI like tea.", "query": "TEA", "limit": 1},
            {
                "matches": [
                    {"start": 0, "end": 3, "line": 1, "text": "Tea", "context": "Tea is hot.", "score": 1.0}
                ],
                "more": True,
            },
        ),
        Example({"text": "Order 17 and order 218", "query": r"\d+", "mode": "regex"}),
        Example({"text": "The kettle is on the stove.", "query": "kettel", "mode": "fuzzy"}),
    ],
)
def text_search(
    text: Text,
    query: Annotated[str, Meta(min_length=1, max_length=1_000), "What to look for."],
    mode: Annotated[
        Literal["plain", "regex", "fuzzy"],
        "regex is RE2: as usual, without look-around and back-references; (?m) has ^ and $ mean lines. fuzzy allows typos.",
    ] = "plain",
    case: Annotated[bool, "Capital letters are to be the same."] = False,
    limit: Annotated[int, Meta(ge=1, le=1_000), "Matches, at most."] = 50,
) -> FoundAll:
    """Find all places in a text where a query stands, with positions, lines and what is around."""
    if mode == "plain":
        spans = ((span, 1.0) for span in _plain(text, query, case))
    elif mode == "regex":
        pattern = Pattern(query, ignore_case=not case, field="$.query")
        spans = ((Span(*match), 1.0) for match in pattern.find(text, limit + 1))
    else:
        spans = _fuzzy(text, query, case)
    found = list(islice(spans, limit + 1))
    return {"matches": list(_shown(text, found[:limit])), "more": len(found) > limit}


@tool(
    effects="pure",
    tags=["text"],
    extra="text",
    examples=[
        Example({"a": "the quick fox", "b": "fox, the quick", "method": "token_set"}, 1.0),
        Example({"a": "Martha", "b": "Marhta", "method": "jaro_winkler"}, 0.961),
    ],
)
def text_similarity(
    a: Annotated[str, Meta(max_length=100_000), "A text."],
    b: Annotated[str, Meta(max_length=100_000), "Another one."],
    method: Annotated[
        Literal["ratio", "token_set", "jaro_winkler"],
        "ratio compares letters in their order, token_set words in any order, jaro_winkler is for names.",
    ] = "ratio",
    case: Annotated[bool, "Capital letters are to be the same."] = False,
) -> float:
    """Say how alike two texts are by their letters, from 0 to 1; what they mean does not count."""
    if not case:
        a, b = a.casefold(), b.casefold()
    if a == b:
        return 1.0
    if method == "jaro_winkler":
        return round(library("rapidfuzz.distance", "text").JaroWinkler.similarity(a, b), 3)
    fuzz: Any = library("rapidfuzz.fuzz", "text")
    if method == "token_set":
        return round(fuzz.token_set_ratio(_bare(a), _bare(b)) / 100, 3)
    return round(fuzz.ratio(a, b) / 100, 3)


def _bare(text: str) -> str:
    return "".join(c if c.isalnum() else " " for c in text)


# ---------------------------------------------------------------- plain


def _plain(text: str, query: str, case: bool) -> Iterator[Span]:
    """Yield where a query stands, letter by letter, or as Unicode folds capital letters (ß is ss)."""
    if case:
        yield from _literal(text, query)
        return
    folded, query = text.casefold(), query.casefold()
    if len(folded) == len(text):  # no character became two, nor can one become none
        yield from _literal(folded, query)
        return
    ends = list(accumulate(len(c.casefold()) for c in text))
    for start, end in _literal(folded, query):
        first = bisect_right(ends, start)
        last = bisect_left(ends, end)
        if (ends[first - 1] if first else 0) == start and ends[last] == end:  # not within an ß
            yield Span(first, last + 1)


def _literal(text: str, query: str) -> Iterator[Span]:
    at = text.find(query)
    while at >= 0:
        yield Span(at, at + len(query))
        at = text.find(query, at + len(query))


# ---------------------------------------------------------------- fuzzy


def _fuzzy(text: str, query: str, case: bool) -> Iterator[tuple[Span, float]]:
    """Yield what is like the query, from left to right: the best of a line, then the best of what is left of it."""
    if len(query) > FUZZY:
        raise ToolError(
            "too_large", f"What is looked for fuzzily has at most {FUZZY} characters.", field="$.query"
        )
    fuzz: Any = library("rapidfuzz.fuzz", "text")
    query = query if case else _folded(query)
    text = text if case else _folded(text)
    taken = 0
    for start, end in _pieces(text, 2 * len(query)):
        for span, score in _alike(fuzz, text, query, Span(max(start, taken), end)):
            taken = span.end
            yield span, score


def _alike(fuzz: Any, text: str, query: str, within: Span) -> Iterator[tuple[Span, float]]:
    # With a score it was found, and is told after what is before it.
    todo: list[tuple[Span, float]] = [(within, 0.0)]
    while todo:
        (start, end), score = todo.pop()
        if score:
            yield Span(start, end), score
            continue
        if end - start <= len(query) // 2:  # a part of the query would be found in it
            continue
        best = fuzz.partial_ratio_alignment(query, text[start:end], score_cutoff=ALIKE)
        if best is None:
            continue
        raw = Span(start + best.dest_start, start + best.dest_end)
        for span in (_whole(text, raw, Span(start, end)), raw):
            score = fuzz.ratio(query, text[slice(*span)])
            if score >= ALIKE:
                after, before = Span(span.end, end), Span(start, span.start)
                todo += [(after, 0.0), (span, round(score / 100, 3)), (before, 0.0)]
                break


def _whole(text: str, span: Span, within: Span) -> Span:
    """Return a part of a text without space around it, and with all of its words."""
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    while start > within.start and start < end and text[start].isalnum() and text[start - 1].isalnum():
        start -= 1
    while start < end < within.end and text[end].isalnum() and text[end - 1].isalnum():
        end += 1
    return Span(start, end)


def _pieces(text: str, overlap: int) -> Iterator[Span]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        while end - start > _PIECE + overlap:
            yield Span(start, start + _PIECE + overlap)
            start += _PIECE
        if end > start:
            yield Span(start, end)
        start = end + 1


def _folded(text: str) -> str:
    """Return a text in small letters, as many as before."""
    low = text.lower()
    return low if len(low) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


# ---------------------------------------------------------------- showing


def _shown(text: str, found: list[tuple[Span, float]]) -> Iterator[Found]:
    line, counted = 1, 0
    for (start, end), score in found:
        line += text.count("\n", counted, start)
        counted = start
        before = max(text.rfind("\n", 0, start) + 1, start - AROUND)
        after = text.find("\n", end)
        after = min(len(text) if after < 0 else after, end + AROUND)
        yield {
            "start": start,
            "end": end,
            "line": line,
            "text": text[start:end],
            "context": text[before:after],
            "score": score,
        }


TOOLS = [text_search, text_similarity]
