"""Finding tools by what they are for.

Ranked by BM25 (S. Robertson and H. Zaragoza, The Probabilistic Relevance Framework, 2009) over the words of names, tags
and descriptions; a word of a name counts as much as several of a description. A word that is the beginning of another
counts half.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from math import log

from reprise.tools.tool import Tool

_WORD = re.compile(r"[a-z0-9]+")
_SATURATION, _LENGTH = 1.2, 0.75
"""BM25's k1 and b, as usual."""
_NAME, _TAG = 5, 3
"""How often a word of a name and of a tag counts."""
_BEGINNING = 0.5


class Index:
    """Words of tools, and how often they occur."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools = list(tools)
        self._words = [_words_of(tool) for tool in self._tools]
        self._lengths = [words.total() for words in self._words]
        self._usual = sum(self._lengths) / len(self._lengths) if self._tools else 1
        self._in = Counter(word for words in self._words for word in words)

    def search(self, query: str, limit: int) -> list[Tool]:
        """Return the tools that fit a query best, the best first; none that share no word with it."""
        wanted = set(_split(query))
        ranked = [(self._weight(at, wanted), -at) for at in range(len(self._tools))]
        return [self._tools[-at] for weight, at in sorted(ranked, reverse=True)[:limit] if weight > 0]

    def _weight(self, at: int, wanted: set[str]) -> float:
        words, length = self._words[at], self._lengths[at] / self._usual
        total = 0.0
        for word in sorted(wanted):
            for known, share in self._known(word, words):
                count = words[known] * share
                rare = log(1 + (len(self._tools) - self._in[known] + 0.5) / (self._in[known] + 0.5))
                total += (
                    rare
                    * count
                    * (_SATURATION + 1)
                    / (count + _SATURATION * (1 - _LENGTH + _LENGTH * length))
                )
        return total

    @staticmethod
    def _known(word: str, words: Counter[str]) -> list[tuple[str, float]]:
        if word in words:
            return [(word, 1.0)]
        if len(word) < 3:
            return []
        return [
            (known, _BEGINNING)
            for known in words
            if known.startswith(word) or (len(known) > 3 and word.startswith(known))
        ]


def _words_of(tool: Tool) -> Counter[str]:
    words = Counter(_split(tool.description))
    for word in _split(tool.name):
        words[word] += _NAME
    for tag in tool.tags:
        for word in _split(tag):
            words[word] += _TAG
    return words


def _split(text: str) -> list[str]:
    return [_stem(word) for word in _WORD.findall(text.lower())]


def _stem(word: str) -> str:
    """Return a word without the endings that English puts on verbs and plurals; coarse, and the same on both sides.

    >>> [_stem(word) for word in ("files", "summarizing", "converted", "is")]
    ['file', 'summariz', 'convert', 'is']
    """
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word.removesuffix("s") if ending == "es" else word.removesuffix(ending)
    return word.removesuffix("e") if len(word) > 6 else word
