"""Tools for text: finding, comparing, changing, summarizing, and what a text is like.

Positions are characters of the text as it is given. What each tool takes is bounded by the length of its text, whatever
is in it; ``tests/unit/tools/texts/test_hostile.py`` has the texts that were tried.
"""

from __future__ import annotations

from reprise.tools.library.texts import changing, extracting, meaning, searching, summaries, translation
from reprise.tools.tool import Tool

TOOLS: list[Tool] = [
    *searching.TOOLS,
    *summaries.TOOLS,
    *translation.TOOLS,
    *meaning.TOOLS,
    *extracting.TOOLS,
    *changing.TOOLS,
]
