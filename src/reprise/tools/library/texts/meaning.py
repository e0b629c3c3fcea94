"""What a text is like: its language, its mood, what it is about."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from heapq import nlargest
from math import log
from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from reprise.tools.context import ToolContext
from reprise.tools.extras import library
from reprise.tools.library.texts.words import Language, Text, guessed, sentences, small_words, words
from reprise.tools.tool import Example, tool

UNKNOWN = "und"
"""ISO 639 code of a language that is not known."""
LETTERS = 3
"""With fewer, a text could be of any language."""
_LONGEST = 64
"""Letters of a word: what is longer is none."""
_SURE = 0.7
"""Probability from which on a language is taken for granted."""
_WINDOW = 50
"""Words whose mood is looked at together: what does it takes the square of their number."""
_PIECE = re.compile(r"\S{1,20}")
_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]|_|\n\s*\n")


Mood = Literal["positive", "neutral", "negative", "unknown"]
_LABELS: tuple[Mood, Mood, Mood] = ("neutral", "positive", "negative")
"""By 0, 1, -1."""
_MILD = 0.05
"""Below, a mood is neutral."""


class LanguageOf(TypedDict):
    """A language that a text may be in."""

    lang: str
    """ISO 639 code, und = unknown."""
    p: float
    """Probability."""


@tool(
    effects="pure",
    tags=["text"],
    extra="text",
    examples=[
        Example({"text": "Wo ist der Bahnhof, bitte?"}),
        Example({"text": "?!"}, [{"lang": "und", "p": 1.0}]),
    ],
)
def text_language(
    text: Text, top: Annotated[int, Meta(ge=1, le=20), "How many to tell."] = 3
) -> list[LanguageOf]:
    """Find out which language a text is in, of 140 or so; und = unknown, such as of less than three letters.

    Of a few words only, the probability says little: names and loan words are at home in many languages.
    """
    if sum(c.isalpha() for c in text[:1_000]) < LETTERS:
        return [{"lang": UNKNOWN, "p": 1.0}]
    return [{"lang": lang, "p": round(p, 3)} for lang, p in _identifier().rank(text)[:top]]


class Sentiment(TypedDict):
    """The mood of a text."""

    label: Mood
    """unknown = it is not English, or empty."""
    compound: float
    """From -1, most negative, to 1, most positive."""
    pos: float
    neu: float
    neg: float
    """Shares of the text."""
    lang: str
    lang_supported: bool
    """False = it is not English."""


@tool(
    effects="pure",
    tags=["text"],
    extra="text",
    examples=[
        Example(
            {"text": "The movie was not good, but the acting was superb!"},
            {
                "label": "positive", "compound": 0.7383, "pos": 0.38, "neu": 0.511, "neg": 0.109, "lang": "en",
                "lang_supported": True,
            },
        ),
        Example(
            {"text": "Das war ein sehr schöner Tag, vielen Dank dafür."},
            {
                "label": "unknown", "compound": 0.0, "pos": 0.0, "neu": 0.0, "neg": 0.0, "lang": "de",
                "lang_supported": False,
            },
        ),
    ],
)  # fmt: skip
def text_sentiment(
    ctx: ToolContext, text: Annotated[str, Meta(max_length=200_000), "A text."], lang: Language = "auto"
) -> Sentiment:
    """Say whether an English text is in a positive or a negative mood, by its words (VADER); long ones by the mean.

    Knows negation, but, emphasis and emoji; not irony, and no other language: look at lang_supported.
    """
    language = _language(text) if lang == "auto" else lang
    supported = language == "en" or (language == UNKNOWN and _is_latin(text))
    if not supported:
        ctx.warn(f"Only English is known, and this is not: {language}.")
    scores = [_vader().polarity_scores(part) for part in _parts(text)] if supported else []
    size = max(1, len(scores))
    mean = {name: sum(score[name] for score in scores) / size for name in ("compound", "pos", "neu", "neg")}
    compound = mean["compound"]
    return {
        "label": "unknown" if not scores else _LABELS[(compound >= _MILD) - (compound <= -_MILD)],
        "compound": round(compound, 4),
        "pos": round(mean["pos"], 3),
        "neu": round(mean["neu"], 3),
        "neg": round(mean["neg"], 3),
        "lang": language,
        "lang_supported": supported,
    }


class Keyword(TypedDict):
    """A term that a text is about."""

    term: str
    score: float
    """1 = that of the first."""
    count: int


@tool(
    effects="pure",
    tags=["text"],
    examples=[
        Example(
            {
                "text": "A durable workflow survives a crash. When a crash ends the process, the durable workflow goes on.",
                "top": 1,
            },
            [{"term": "durable workflow", "score": 1.0, "count": 2}],
        )
    ],
)
def text_keywords(
    text: Text,
    top: Annotated[int, Meta(ge=1, le=1_000), "How many."] = 10,
    max_ngram: Annotated[int, Meta(ge=1, le=5), "Words of a term, at most."] = 2,
    lang: Language = "auto",
) -> list[Keyword]:
    """Find the terms that a text is about: words and phrases it repeats, between its small words."""
    language = guessed(text) if lang == "auto" else lang
    return _keywords(text, language, top, max_ngram)


def _keywords(text: str, language: str, top: int, max_ngram: int) -> list[Keyword]:
    """Return the terms that are said most, and early.

    After C-value (K. Frantzi and others, 2000): what is said as part of a longer term does not count for the shorter one.
    Of the words in the titles of 80 texts of 4,000 words, ten terms found so have 62 %, those of YAKE 57 %, of RAKE 39 %.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for run in _runs(text, small_words(language)):
        for size in range(1, max_ngram + 1):
            for at in range(len(run) - size + 1):
                counts[run[at : at + size]] += 1
    within: dict[tuple[str, ...], int] = {}
    for term, count in counts.items():
        for part in {term[:-1], term[1:]}:
            within[part] = max(within.get(part, 0), count)
    scores = {
        term: (count - within.get(term, 0))
        * 3 ** (len(term) if count > 1 else 1)
        / (1 + log(1 + 10 * at / len(counts)))
        for at, (term, count) in enumerate(counts.items())
    }
    best = nlargest(top, scores, key=lambda term: (scores[term], counts[term]))
    first = scores[best[0]] if best else 1
    return [
        {"term": " ".join(term), "score": round(scores[term] / first, 3), "count": counts[term]}
        for term in best
        if scores[term] > 0
    ]


def _runs(text: str, small: frozenset[str]) -> Iterator[tuple[str, ...]]:
    """Yield words that follow each other, without punctuation and small words between them."""
    run: list[str] = []
    for token in _TOKEN.findall(text.lower()):
        if token in small or not token[0].isalnum() or token.isdigit() or not 1 < len(token) <= _LONGEST:
            if run:
                yield tuple(run)
            run = []
        else:
            run += words(token)
    if run:
        yield tuple(run)


def _language(text: str) -> str:
    """Return the language of a text; that of a few words often cannot be said."""
    best = text_language.function(text, top=1)[0]
    return best["lang"] if best["p"] > _SURE else guessed(text) or UNKNOWN


def _is_latin(text: str) -> bool:
    letters = [c for c in text[:1_000] if c.isalpha()]
    return sum(c.isascii() for c in letters) >= 0.9 * len(letters)


def _parts(text: str) -> list[str]:
    """Return the sentences of a text, long ones in pieces."""
    parts: list[str] = []
    for start, end in sentences(text, "en"):
        piece, weight = list[str](), 0
        for token in _PIECE.findall(text[start:end]):
            weight += (
                1 if token.isascii() else 1 + 3 * sum(not c.isalnum() for c in token)
            )  # emoji are read as words
            if weight > _WINDOW and piece:
                parts.append(" ".join(piece))
                piece, weight = [], 0
            piece.append(token)
        parts.append(" ".join(piece))
    return parts


@cache
def _identifier() -> Any:
    names: Any = library("py3langid.langid", "text")
    return names.LanguageIdentifier.from_model_file(names.MODEL_FILE, norm_probs=True)


@cache
def _vader() -> Any:
    return library("vaderSentiment.vaderSentiment", "text").SentimentIntensityAnalyzer()


TOOLS = [text_language, text_sentiment, text_keywords]
