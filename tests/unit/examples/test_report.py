import dataclasses
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from crew import publicist
from crew.facts import BINARY, CODE, TEST, TEXT
from crew.markup import el, style, text
from crew.page import page
from crew.publicist import publish
from crew.reviewers import REVIEWERS

SAMPLE = {
    "pkg/__init__.py": "from .a import f\n",
    "pkg/a.py": "def f(a, b=[]):\n    if a and b:\n        return eval(a)\n    return 'x'\n",
    "pkg/b.py": "\n".join(f"def g{n}(x):\n    for y in x:\n        print(y, {n})" for n in range(9)) + "\n",
    "pkg/copy_of_b.py": "\n".join(f"def g{n}(x):\n    for y in x:\n        print(y, {n})" for n in range(9)),
    "web/x.js": "function f(a) { return a ? eval(a) : 1 }\n",
    "tests/test_a.py": "from pkg import f\ndef test_f(): assert f(1)\n",
    "broken.py": "def f(:\n",
    "logo.png": b"\0\1",
}
KEPT = {CODE, TEST, TEXT, BINARY, *(reviewer.name for reviewer in REVIEWERS)}
HOSTILE = [
    "<script>alert(1)</script>",
    '" onload="alert(1)',
    "' onmouseover='alert(1)",
    "]]><img src=x onerror=alert(1)>",
    "</title></style></svg></p><iframe>",
    "&lt;&amp;\0\x1b[31m\u202egnp.exe\u2028\r\n",
    "javascript:alert(1)",
    "{{7*7}}${7*7}",
]


class Seen(HTMLParser):
    """Everything that a browser would find in a page."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.data = set(), set(), []
        self.open = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.data += [value or "" for _, value in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.data.append(data)


def infect(value, poison):
    """Put hostile text into every text of the facts, the same everywhere, so that they still fit together."""
    if isinstance(value, str):
        return value if value in KEPT else poison + value
    if isinstance(value, Path):
        return value
    if isinstance(value, list):
        return [infect(each, poison) for each in value]
    if isinstance(value, dict):
        return {infect(key, poison): infect(each, poison) for key, each in value.items()}
    if dataclasses.is_dataclass(value):
        fields = {f.name: infect(getattr(value, f.name), poison) for f in dataclasses.fields(value)}
        return type(value)(**fields)
    return value


@pytest.fixture
def sample(made, review):
    made.commit(SAMPLE)
    made.commit({"pkg/a.py": SAMPLE["pkg/a.py"] + "# more\n"}, day=9, author="Bob")
    return review(made.root)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(poison=st.sampled_from(HOSTILE) | st.text(max_size=20))
def test_nothing_that_was_read_becomes_markup(sample, poison):
    clean, seen = Seen(page(sample)), Seen(page(infect(sample, poison)))
    assert seen.tags == clean.tags
    assert seen.attributes == clean.attributes
    assert not seen.open
    assert not {name for name in seen.attributes if name.startswith("on")} | (
        seen.attributes & {"src", "href"}
    )


def test_hostile_names_are_shown_as_they_are(sample):
    shown = " ".join(Seen(page(infect(sample, HOSTILE[0]))).data)
    assert HOSTILE[0] + "pkg/a.py" in shown


def test_hostile_files_go_all_the_way(made, review):
    name = "<img src=x onerror=alert(1)>\n\"'&.py"
    made.commit(
        {name: 'eval("</td><script>alert(1)</script>")\ndef f():\n    if 1: pass\n', "b\u202e.py": "x = 1"}
    )
    found = review(made.root)
    seen = Seen(page(found))
    assert not {"img", "script"} & seen.tags
    assert "onerror" not in seen.attributes
    assert found.settlement.order[0] == name
    assert "b[202e].py" in "".join(seen.data)
    assert "\u202e" not in page(found)


def test_the_report_needs_nothing_but_itself(sample):
    html = page(sample)
    seen = Seen(html)
    assert not seen.tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert any("default-src 'none'" in each for each in seen.data)
    assert "@import" not in html
    assert "url(" not in html.replace("url(#glow)", "")
    assert "prefers-color-scheme: dark" in html


def test_the_report_says_what_was_found(sample):
    shown = " ".join(Seen(page(sample)).data)
    for expected in ("pkg/a.py", "eval", "mutable default", "syntax error in line 1", "The timeline", "2 commits",
                     "Standing twice", "maintainability", "Round 1"):  # fmt: skip
        assert expected in shown
    security = next(opinion for opinion in sample.opinions if opinion.reviewer == "security")
    assert {place.path for place in security.ranking[:2]} == {"pkg/a.py", "web/x.js"}
    assert sample.settlement.order[0] in shown


@pytest.mark.parametrize(
    "files", [{}, {"README.md": "# only words"}, {"empty.py": ""}, {"one.py": "x = 1\n"}]
)
def test_next_to_nothing_is_reported_too(made, review, files):
    made.write(files)
    found = review(made.root)
    assert "Nothing to review" in page(found)
    assert publish(found).top == []


def test_publishing_twice_writes_the_same_bytes_and_leaves_nothing_else(sample):
    first = publish(sample)
    before = first.report.read_bytes(), first.data.read_bytes()
    assert publish(sample) == first
    assert (first.report.read_bytes(), first.data.read_bytes()) == before
    assert sorted(path.name for path in first.report.parent.iterdir()) == ["report.html", "report.json"]
    facts = json.loads(first.data.read_text())
    assert [contest["winner"] for contest in facts["settlement"]["contests"]] == first.top
    assert (first.files, first.risky) == (len(SAMPLE), 3)


def test_a_write_that_fails_leaves_the_old_report_whole(sample, monkeypatch):
    target = publish(sample).report
    old = target.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(publicist, "page", lambda _: "new")
    with pytest.raises(OSError, match="No space"):
        publish(sample)
    assert target.read_bytes() == old
    assert sorted(path.name for path in target.parent.iterdir()) == ["report.html", "report.json"]


def test_elements_escape_whatever_is_not_made_here():
    assert el("a", "<b>", title='"x"') == '<a title="&quot;x&quot;">&lt;b&gt;</a>'
    assert text(text("<")) == "&lt;"
    with pytest.raises(ValueError, match="closing tag"):
        style("</style><script>")
