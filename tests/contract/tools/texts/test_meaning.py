"""Language, mood and keywords; and that nothing is made up where nothing can be known."""

import pytest
from hypothesis import given, settings, strategies as st
from tests.contract.tools.texts.calls import call, warnings


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("Where is the station, please? I am looking for the train to London.", "en"),
        ("Wo ist der Bahnhof, bitte? Ich suche den Zug nach Berlin.", "de"),
        ("Où est la gare, s'il vous plaît? Je cherche le train pour Paris.", "fr"),
        ("¿Dónde está la estación, por favor? Busco el tren a Madrid.", "es"),
        ("駅はどこですか。東京行きの電車を探しています。", "ja"),
        ("Где находится вокзал? Я ищу поезд в Москву.", "ru"),
        ("أين المحطة من فضلك؟ أبحث عن القطار إلى القاهرة.", "ar"),
        ("", "und"),
        ("!?", "und"),
        ("12 34 56", "und"),
        ("ab", "und"),
        ("😀😀😀", "und"),
    ],
)
def test_a_language_is_found_out(text, lang):
    found = call("text_language", text=text, top=2)
    assert found[0]["lang"] == lang
    assert found[0]["p"] > 0.8


@settings(deadline=None)
@given(st.text(max_size=50), st.integers(1, 5))
def test_probabilities_descend(text: str, top: int):
    found = call("text_language", text=text, top=top)
    shares = [each["p"] for each in found]
    assert 1 <= len(found) <= top
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1.01


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I love it!", "positive"),
        ("This is not good at all.", "negative"),
        ("The box is on the table.", "neutral"),
        ("great!!!", "positive"),
        ("😀😀", "positive"),
        ("It was bad, but the ending was GREAT.", "positive"),
        ("I love it. I love it. I love it. It is horrible.", "positive"),
    ],
)
def test_the_mood_of_english_is_told(text, label):
    told = call("text_sentiment", text=text)
    assert told["label"] == label
    assert told["lang_supported"]
    assert told["pos"] + told["neu"] + told["neg"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    "text",
    [
        "Das war ein schöner Tag, und wir waren sehr zufrieden.",  # war is a bad word, in English
        "C'était une journée horrible pour tout le monde.",
        "Привет",
        "今日はいい天気ですね。",
    ],
)
def test_no_mood_is_made_up_for_other_languages(text):
    told = call("text_sentiment", text=text)
    assert (told["label"], told["compound"], told["lang_supported"]) == ("unknown", 0, False)
    assert "Only English" in warnings("text_sentiment", text=text)[0]


def test_who_knows_the_language_says_so():
    assert call("text_sentiment", text="war", lang="de")["label"] == "unknown"
    assert call("text_sentiment", text="war", lang="en")["label"] == "negative"


def test_an_empty_text_has_no_mood():
    assert call("text_sentiment", text="")["label"] == "unknown"


def test_a_long_text_has_the_mean_of_its_sentences():
    one = call("text_sentiment", text="The food was good.")["compound"]
    many = call("text_sentiment", text="The food was good. " * 50)["compound"]
    assert many == pytest.approx(one)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_a_mood_is_between_its_ends(text: str):
    told = call("text_sentiment", text=text, lang="en")
    assert -1 <= told["compound"] <= 1
    assert (told["label"] == "positive") == (told["compound"] >= 0.05)


def test_keywords_are_what_is_repeated_as_a_whole():
    text = (
        "Leader election picks one of many workers. When the leader dies, leader election starts again. "
        "Workers that lose the election wait; workers that win it write."
    )
    found = call("text_keywords", text=text, top=3)
    assert [each["term"] for each in found] == ["leader election", "workers", "leader"]
    assert found[0] == {"term": "leader election", "score": 1.0, "count": 2}
    assert all(" " not in each["term"] for each in call("text_keywords", text=text, max_ngram=1))


@pytest.mark.parametrize("text", ["", "the of and", "12 34", "...", "a b c", "x" * 65])
def test_what_says_nothing_has_no_keywords(text):
    assert call("text_keywords", text=text) == []


def test_a_term_does_not_go_over_punctuation_or_paragraphs():
    terms = [
        each["term"] for each in call("text_keywords", text="red, green; blue\n\nyellow. black", max_ngram=3)
    ]
    assert sorted(terms) == ["black", "blue", "green", "red", "yellow"]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["tea", "pot", "the", "of", ",", ".", "hot water", "Ärger"]), max_size=30),
    st.integers(1, 4),
)
def test_keywords_stand_in_the_text_as_often_as_is_said(pieces: list[str], max_ngram: int):
    text = " ".join(pieces)
    found = call("text_keywords", text=text, max_ngram=max_ngram)
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True)
    for each in found:
        assert sum(text.lower().startswith(each["term"], at) for at in range(len(text))) >= each["count"] > 0
        assert len(each["term"].split()) <= max_ngram
