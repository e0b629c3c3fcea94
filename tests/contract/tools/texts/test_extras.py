"""Without the extra: what needs no library works, the rest says which command installs it."""

import sys

import pytest
from tests.contract.tools.texts.calls import call, refusal

LIBRARIES = ("re2", "sentencex", "rapidfuzz", "rapidfuzz.fuzz", "rapidfuzz.distance", "py3langid", "py3langid.langid",
             "vaderSentiment", "vaderSentiment.vaderSentiment")  # fmt: skip


@pytest.fixture(autouse=True)
def without_the_extra(monkeypatch: pytest.MonkeyPatch):
    from reprise.tools.library.texts import meaning

    for name in LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)
    for kept in (meaning._identifier, meaning._vader):
        kept.cache_clear()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("text_search", {"text": "a", "query": "a"}),
        ("text_extract", {"text": "a"}),
        ("text_keywords", {"text": "tea pot"}),
        ("text_transform", {"text": "a", "ops": ["slug", "redact_pii"]}),
        ("text_diff", {"a": "a", "b": "b"}),
    ],
)
def test_what_needs_no_library_works(name, arguments):
    assert call(name, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("text_search", {"text": "a", "query": "a", "mode": "regex"}),
        ("text_search", {"text": "a", "query": "a", "mode": "fuzzy"}),
        ("text_similarity", {"a": "a", "b": "b"}),
        ("text_similarity", {"a": "a", "b": "b", "method": "jaro_winkler"}),
        ("text_summarize", {"text": "Some text."}),
        ("text_language", {"text": "Some text."}),
        ("text_sentiment", {"text": "Some text.", "lang": "en"}),
    ],
)
def test_what_needs_one_says_how_it_is_installed(name, arguments):
    error = refusal(name, **arguments)
    assert error.code == "unavailable"
    assert "pip install 'reprise-agents[text]'" in str(error)
