"""Summaries: sentences of the text in their order, within what was asked for; and what a model writes."""

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from tests.contract.tools.texts.calls import call, refusal, warnings

from reprise import ToolRegistry
from reprise.testing import run
from reprise.tools.library import texts
from reprise.tools.library.texts.ranking import lexrank, luhn
from reprise.tools.library.texts.summaries import FunctionSummarizer, Summarizer
from reprise.tools.library.texts.words import _blocks, guessed, sentences, words

STORY = (
    "The harbour of the town freezes every winter. Ships cannot leave the harbour while it is frozen. "
    "An icebreaker opens the harbour for the ships. My aunt likes oranges. "
    "Since the icebreaker came, ships leave the harbour all winter. Lunch was good."
)
SENTENCES = st.sampled_from([
    "The harbour freezes.", "Ships leave!", "Dr. Smith, who came at 3.14 p.m., left?", "И так далее.", "今日は寒い。",
    "no end", "“Really?” she said.", "\n\n", "\n", "...", "A b c.", "😀 ok.", "She said: «go».", "هل تفهم؟", "1. One",
])  # fmt: skip
TEXTS = st.lists(SENTENCES, max_size=20).map(" ".join)


def test_a_summary_is_what_most_of_the_text_is_about():
    told = call("text_summarize", text=STORY, max_sentences=2)
    assert told["sentences"] == [
        "An icebreaker opens the harbour for the ships.",
        "Since the icebreaker came, ships leave the harbour all winter.",
    ]
    assert told["summary"] == " ".join(told["sentences"])
    assert "oranges" not in call("text_summarize", text=STORY, max_sentences=4, method="luhn")["summary"]


def test_without_a_limit_it_is_three_sentences():
    assert len(call("text_summarize", text=STORY)["sentences"]) == 3


def test_the_length_is_kept_and_used():
    told = call("text_summarize", text=STORY, max_length=100)
    assert 40 < len(told["summary"]) <= 100
    assert len(call("text_summarize", text=STORY, max_length=100_000)["sentences"]) == 6


def test_a_sentence_that_is_too_long_is_cut_and_that_is_said():
    told = call(
        "text_summarize", text="This only sentence is quite a bit longer than it may be.", max_length=30
    )
    assert told["summary"] == "This only sentence is quite a…"
    assert (
        "is cut"
        in warnings("text_summarize", text="A sentence that is much too long for it.", max_length=20)[0]
    )


@pytest.mark.parametrize("text", ["", " \n ", "!!! ??? ...", "😀😀"])
def test_what_has_no_sentence_has_an_empty_summary(text):
    assert call("text_summarize", text=text) == {"summary": "", "sentences": [], "ratio": 0.0}


@pytest.mark.parametrize(
    "arguments",
    [{"max_sentences": 0}, {"max_length": 19}, {"method": "llm"}, {"lang": "English"}, {"lang": "../en"}],
)
def test_limits_and_methods_that_cannot_be_are_refused(arguments):
    assert refusal("text_summarize", text=STORY, **arguments).field == f"$.{next(iter(arguments))}"


def test_what_is_said_twice_is_summarized_once():
    assert call("text_summarize", text="Tea is hot. " * 5 + "Ice is cold.", max_sentences=3)["sentences"] == [
        "Tea is hot.", "Ice is cold.",
    ]  # fmt: skip


def test_sentences_of_scripts_without_spaces_are_joined_without():
    told = call("text_summarize", text="今日は寒い。明日も寒い。", max_sentences=2)
    assert told["summary"] == "今日は寒い。明日も寒い。"


@settings(deadline=None)
@given(TEXTS, st.integers(1, 5), st.sampled_from(["lexrank", "luhn"]))
def test_a_summary_is_sentences_of_the_text_in_its_order(text: str, number: int, method: str):
    told = call("text_summarize", text=text, max_sentences=number, method=method)
    assert len(told["sentences"]) <= number
    assert 0 <= told["ratio"] <= 1
    at = 0
    for sentence in told["sentences"]:
        at = text.index(sentence, at) + len(sentence)
    assert told["summary"].replace(" ", "") == "".join("".join(told["sentences"]).split())


@settings(deadline=None)
@given(TEXTS, st.integers(20, 200))
def test_a_summary_is_never_longer_than_it_may_be(text: str, length: int):
    assert len(call("text_summarize", text=text, max_length=length)["summary"]) <= length


@settings(deadline=None)
@given(TEXTS | st.text(max_size=100))
def test_sentences_hold_every_letter_of_a_text(text: str):
    found = sentences(text, "en")
    ends = [(0, 0), *found, (len(text), len(text))]
    assert all(not text[before:start].strip() for (_, before), (start, _) in pairwise(ends))
    assert all(text[start:end].strip() == text[start:end] != "" for start, end in found)


@pytest.mark.parametrize("text", ["a" * 9_000, "«a. " * 3_000, "word " * 3_000, "A b c. " * 2_000])
def test_sentences_are_looked_for_in_pieces_that_are_bounded(text: str):
    pieces = list(_blocks(text))
    assert all(0 < end - start <= 2_000 for start, end in pieces)
    assert "".join(text[start:end] for start, end in pieces) == text


@settings(deadline=None)
@given(st.lists(st.text("abc ", max_size=8), min_size=1, max_size=12))
def test_ranks_are_shares_of_one_walk(given_sentences: list[str]):
    ranks = lexrank(given_sentences, "en")
    assert sum(ranks) == pytest.approx(1)
    assert all(rank >= 0 for rank in ranks)
    assert len(luhn(given_sentences, "en")) == len(given_sentences)


def test_the_densest_cluster_counts():
    # Ship and ice are repeated: next to each other, too far from each other, both, or not there.
    both = "ship that rests on an old cliff ice ship ice"
    told = luhn(["ship ice harbour", "ship of a tug by the shore ice", both, "nothing here"], "en")
    assert told == [2.0, 1.0, 3.0, 0.0]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat sits on the roof and it looks at us.", "en"),
        ("Le chat est sur le toit et il nous regarde.", "fr"),
        ("El gato está en el tejado y nos mira.", "es"),
        ("Il gatto è sul tetto e ci guarda.", "it"),
        ("O gato está no telhado e olha para nós.", "pt"),
        ("De kat zit op het dak en kijkt naar ons.", "nl"),
        ("me gusta", ""),
        ("", ""),
        ("Кот сидит на крыше.", ""),
    ],
)
def test_a_language_is_guessed_by_its_small_words(text, language):
    assert guessed(text) == language


def test_words_of_scripts_without_spaces_are_pairs():
    assert words("ไทย") == ["ไท", "ทย"]
    assert words("語") == ["語"]


# ---------------------------------------------------------------- by a model


def abstract(summarizer: Summarizer, **arguments):
    registry = ToolRegistry(texts.TOOLS)
    registry.provide(summarizer)
    return run(lambda: registry.call_tool("text_abstract", {"text": STORY, **arguments}), seed=1)


def test_a_model_writes_what_it_is_asked_for():
    asked: list[object] = []

    async def model(text: str, max_length: int, language: str) -> str:
        asked.extend([text, max_length, language])
        return " Ships and ice. "

    told = abstract(FunctionSummarizer(model), max_length=80, language="de")
    assert told.value == {"summary": "Ships and ice.", "ratio": 0.057}
    assert asked == [STORY, 80, "de"]
    assert abstract(FunctionSummarizer(lambda text, *_: text), max_length=20).warnings


def test_without_a_model_nothing_is_made_up():
    error = refusal("text_abstract", text=STORY)
    assert error.code == "unavailable"
    assert "registry.provide(FunctionSummarizer(function))" in str(error)


def test_a_model_that_writes_nothing_or_fails_is_an_error():
    for function in (lambda *_: "  ", lambda *_: 1 / 0):
        with pytest.raises(Exception, match="text_abstract") as caught:
            abstract(FunctionSummarizer(function))
        assert caught.value.code == "upstream"
