"""Texts made to take long: each tool ends in a few times what it takes for a plain text, and the way it could have been done does not.

A case may use so many seconds of a processor, measured by its own clock, so that a busy machine changes nothing. What takes
the square of the length takes minutes here: the controls show it for four of these texts.
"""

import json
import subprocess
import sys
from typing import Any

SIZE = 20_000
SECONDS = 1.0
CASES = """
import json, random, signal, sys
from reprise.tools.library import texts

SIZE, SECONDS = int(sys.argv[2]), float(sys.argv[3])
chance = random.Random(1)
rows = [str(n) for n in range(SIZE // 6)]
TEXTS = {
    "one word": "a" * SIZE, "two letters": "ab" * (SIZE // 2), "spaces": " " * SIZE, "lines": "\\n" * SIZE, "dots": "." * SIZE,
    "short words": "a " * (SIZE // 2), "sentences": "Go. " * (SIZE // 4), "initials": "A b c. " * (SIZE // 7),
    "opening quotes": "«a. " * (SIZE // 4), "quotes": '"' * SIZE, "brackets": "(" * SIZE, "ats": "a@" * (SIZE // 2),
    "labels": "a@" + "a." * (SIZE // 2), "hyphens": "a@" + "a-" * (SIZE // 2), "digits": "1" * SIZE, "pairs": "1 " * (SIZE // 2),
    "thousands": "1,234." * (SIZE // 6), "colons": ":" * SIZE, "hex": "a:" * (SIZE // 2), "account": "DE89" + "A" * SIZE,
    "accounts": "DE89 " * (SIZE // 5), "URLs": "http://" * (SIZE // 7), "closing": "http://a" + ")" * SIZE,
    "dates": "1 may " * (SIZE // 6), "emoji": "😀" * (SIZE // 4), "families": "👩\\u200d👩\\u200d👧" * (SIZE // 18),
    "marks": "e" + "\\u0301" * (SIZE // 2), "right to left": "שלום " * (SIZE // 9), "Han": "語" * (SIZE // 3),
    "joiners": "\\u200d" * (SIZE // 3), "sharp s": "ß" * (SIZE // 2), "controls": "\\x00\\x1b" * (SIZE // 2),
    "mood": "good bad but VERY not " * (SIZE // 22), "numbers": "\\n".join(rows),
    "chance": "".join(chance.choice("ab \\n.") for _ in range(SIZE)),
}
def search(mode, query): return lambda text: texts.searching.text_search(text, query, mode, limit=1000)
class Context:
    def warn(self, what): pass
def transform(text): return texts.changing.text_transform(text, ["nfkc", "strip_invisible", "strip_accents", "wrap", "slug"])
TOOLS = {
    "plain": search("plain", "a" * 400 + "b"), "plain, sharp s": search("plain", "ss" * 100 + "t"),
    "regex": search("regex", "(a+)+b|(.*)*c"), "fuzzy": search("fuzzy", "a" * 100 + "b" * 100),
    "fuzzy, short": search("fuzzy", "a"),
    "lexrank": lambda text: texts.summaries.text_summarize(Context(), text, max_length=500),
    "luhn": lambda text: texts.summaries.text_summarize(Context(), text, method="luhn"),
    "sentiment": lambda text: texts.meaning.text_sentiment(Context(), text, lang="en"),
    "keywords": lambda text: texts.meaning.text_keywords(text, max_ngram=5),
    "language": texts.meaning.text_language, "extract": texts.extracting.text_extract,
    "redact": lambda text: texts.changing.text_transform(text, ["redact_pii"]), "transform": transform,
    "similarity": lambda text: texts.searching.text_similarity(text, text[::-1], "token_set"),
    "diff": lambda text: texts.changing.text_diff(text, "\\n".join(text.split("\\n")[::-1])),
    "diff of words": lambda text: texts.changing.text_diff(text, text[::-1], "words"),
}
def difflib_alone(text):
    import difflib
    words = [chance.choice("abcdefgh") for _ in range(len(text))]
    difflib.SequenceMatcher(None, words, words[::-1], autojunk=False).get_opcodes()
def vader_alone(text):
    texts.meaning._vader().polarity_scores(text)
def backtracking(text):
    import re
    re.search(r"([\\w.]+)+@(\\w+\\.)+\\w+!", text)
def looking_back(text):
    import re
    re.findall(r"[\\w.]+@\\d", text)
CONTROLS = {
    "difflib alone": (difflib_alone, TEXTS["one word"]), "VADER at once": (vader_alone, TEXTS["mood"] * 4),
    "a pattern that goes back": (backtracking, TEXTS["labels"]), "a pattern that begins anywhere": (looking_back, "a" * 40_000),
}
class Late(BaseException): pass
def late(*_): raise Late
signal.signal(signal.SIGVTALRM, late)
def is_late(function, text):
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        function(text)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return False
    except Late:
        return True
texts.meaning.text_sentiment(Context(), "Warm up. It is good.")
if sys.argv[1] == "controls":
    found = [name for name, (function, text) in CONTROLS.items() if is_late(function, text)]
else:
    tried = [(tool, which) for tool in TOOLS for which in TEXTS]
    found = [f"{tool}: {which}" for tool, which in tried if is_late(TOOLS[tool], TEXTS[which])] or len(tried)
print(json.dumps(found))
"""


def late(what: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", CASES, what, str(SIZE), str(SECONDS)],
        capture_output=True,
        text=True,
        timeout=58,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_texts_are_what_they_are_said_to_be():
    assert late("controls") == [
        "difflib alone", "VADER at once", "a pattern that goes back", "a pattern that begins anywhere",
    ]  # fmt: skip


def test_no_text_makes_a_tool_slow():
    assert late("tools") == 16 * 35, "late, or not all were tried"
