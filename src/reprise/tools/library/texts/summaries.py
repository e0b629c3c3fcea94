"""Summaries: sentences of the text that say most, or what a model writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.context import ToolContext
from reprise.tools.library.texts.ranking import lexrank, luhn
from reprise.tools.library.texts.words import Language, Text, guessed, sentences, words
from reprise.tools.tool import Example, tool

SENTENCES = 3
"""Sentences of a summary where nothing is said."""
_TEA = (
    "Tea is made from the leaves of a bush that grows in the hills. Water that is too hot makes tea bitter. "
    "Green tea is made from leaves that are dried at once. My neighbour has a dog. "
    "Black tea is made from leaves that are left to wither."
)
_RANKS = {"lexrank": lexrank, "luhn": luhn}
_SHORTEST = 20
"""Characters of what a cut sentence is at least."""

MaxSentences = Annotated[Annotated[int, Meta(ge=1, le=1_000)] | None, "Sentences, at most."]
MaxLength = Annotated[
    Annotated[int, Meta(ge=_SHORTEST, le=100_000)] | None, "Characters of the summary, at most."
]


class Summary(TypedDict):
    """A text in few of its sentences."""

    summary: str
    sentences: list[str]
    """The same, as they stand in the text."""
    ratio: float
    """Characters of the summary by those of the text."""


@tool(
    effects="pure",
    tags=["text"],
    extra="text",
    examples=[
        Example(
            {"text": _TEA, "max_sentences": 1},
            {
                "summary": "Tea is made from the leaves of a bush that grows in the hills.",
                "sentences": ["Tea is made from the leaves of a bush that grows in the hills."],
                "ratio": 0.264,
            },
        ),
        Example({"text": _TEA, "max_length": 100, "method": "luhn"}),
    ],
)
def text_summarize(
    ctx: ToolContext,
    text: Text,
    max_sentences: MaxSentences = None,
    max_length: MaxLength = None,
    method: Annotated[
        Literal["lexrank", "luhn"],
        "lexrank takes sentences that are like many others, luhn those dense with words that are repeated.",
    ] = "lexrank",
    lang: Language = "auto",
) -> Summary:
    """Summarize a text by those of its sentences that say most, in their order; nothing is written anew.

    Without a limit it is three sentences. ``text_abstract`` has a model write a summary.
    """
    language = guessed(text) if lang == "auto" else lang
    spans = [span for span in sentences(text, language) if words(text[slice(*span)])]
    if not spans:
        return {"summary": "", "sentences": [], "ratio": 0.0}
    plain = [" ".join(text[start:end].split()) for start, end in spans]
    ranks = _RANKS[method](plain, language)
    if max_sentences is None:
        max_sentences = SENTENCES if max_length is None else len(spans)
    chosen = _chosen(plain, ranks, max_sentences, max_length or len(text) + len(spans))
    if chosen:
        summary = _joined([plain[at] for at in chosen])
    else:
        assert max_length is not None
        chosen = [max(range(len(plain)), key=lambda at: ranks[at])]
        summary = _cut(plain[chosen[0]], max_length)
        ctx.warn(f"No sentence has {max_length} characters or fewer: the first is cut.")
    return {
        "summary": summary,
        "sentences": [text[slice(*spans[at])] for at in chosen],
        "ratio": round(len(summary) / len(text), 3),
    }


def _chosen(plain: list[str], ranks: list[float], number: int, length: int) -> list[int]:
    """Return which sentences are taken: the best that fit, in the order of the text, none twice."""
    chosen: list[int] = []
    seen: set[str] = set()
    for at in sorted(range(len(plain)), key=lambda at: (-ranks[at], at)):
        space = len(plain[at]) + bool(chosen)
        if space <= length and plain[at] not in seen:
            chosen.append(at)
            seen.add(plain[at])
            length -= space
        if len(chosen) == number or length < 2:
            break
    return sorted(chosen)


def _joined(plain: list[str]) -> str:
    return "".join(
        sentence if not before or before[-1] in "。！？" else f" {sentence}"
        for before, sentence in zip(["", *plain], plain, strict=False)
    )


def _cut(sentence: str, length: int) -> str:
    """Return the words of a sentence that fit."""
    head, following = sentence[: length - 1], sentence[length - 1]
    return (head if following == " " else head.rpartition(" ")[0] or head) + "…"


# ---------------------------------------------------------------- by a model


class Summarizer(ABC):
    """Who writes summaries for ``text_abstract``: a model, most often. Provide one: ``registry.provide(…)``."""

    @abstractmethod
    async def summarize(self, ctx: ToolContext, text: str, max_length: int, language: str) -> str:
        """Return a summary of so many characters, about; ``language`` is a code, '' = that of the text."""


class FunctionSummarizer(Summarizer):
    """A function as a :class:`Summarizer`, such as a call of a model: async or not, with ``(text, max_length, language)``.

    >>> shortest = FunctionSummarizer(lambda text, max_length, language: text[:max_length])
    """

    def __init__(self, function: Callable[[str, int, str], str | Awaitable[str]]) -> None:
        self.function = function

    async def summarize(self, ctx: ToolContext, text: str, max_length: int, language: str) -> str:
        """Return what the function does."""
        given = self.function(text, max_length, language)
        return await given if isawaitable(given) else given


class Abstract(TypedDict):
    """What a model wrote of a text."""

    summary: str
    ratio: float
    """Characters of the summary by those of the text."""


@tool(
    effects="network",
    idempotent=True,
    timeout=120,
    tags=["text"],
    examples=[Example({"text": _TEA, "max_length": 100})],
)
async def text_abstract(
    ctx: ToolContext,
    text: Annotated[str, Meta(min_length=1, max_length=1_000_000), "A text."],
    max_length: Annotated[int, Meta(ge=_SHORTEST, le=100_000), "Characters of the summary, about."] = 500,
    language: Annotated[
        str, Meta(max_length=10), "Language to write in, such as en; '' = that of the text."
    ] = "",
) -> Abstract:
    """Have a model summarize a text in its own words; it may get things wrong, which text_summarize cannot."""
    summarizer = ctx.need(
        Summarizer,
        hint="Provide one: registry.provide(FunctionSummarizer(function)), where function asks your model.",
    )
    summary = (await summarizer.summarize(ctx, text, max_length, language)).strip()
    if not summary:
        raise ToolError("upstream", f"{type(summarizer).__name__} wrote nothing.")
    if len(summary) > 2 * max_length:
        ctx.warn(f"It has {len(summary):,} characters; {max_length:,} were asked for.")
    return {"summary": summary, "ratio": round(len(summary) / len(text), 3)}


TOOLS = [text_summarize, text_abstract]
