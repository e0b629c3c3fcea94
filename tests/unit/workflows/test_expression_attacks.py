"""Expressions that take long, or make much: classes × cases, each beside what the library does with it alone."""

import threading
import time
from itertools import pairwise
from random import Random
from typing import Any

import cel
import pytest
from hypothesis import given, settings, strategies as st

from reprise import ExpressionInvalid
from reprise.workflows import evaluating
from reprise.workflows.comprehensions import LARGEST, MOST, pattern_size
from reprise.workflows.expressions import Expression, compile as read

KNOWN: dict[str, Any] = {
    "inputs": {
        "text": "".join(Random(1).choices("xy", k=200_000)),
        "list": list(range(10_000)),
        "few": list(range(1_000)),
        "rows": [{"id": n, "name": "x" * 10, "tags": ["a", "b"]} for n in range(2_000)],
        "names": {f"k{n}": n for n in range(10_000)},
        "pattern": r"(x[xy]{40}){100}z",
    }
}
TEN = "[0,0,0,0,0,0,0,0,0,0]"


def nested(depth: int, macro: str = "map", leaf: str = "0") -> str:
    return leaf if depth == 0 else f"{TEN}.{macro}(x{depth}, {nested(depth - 1, macro, leaf)})"


def bound(depth: int, leaf: str = "true") -> str:
    """Each binds twice what the one before bound."""
    return (
        leaf
        if depth == 0
        else f"[a{depth + 1} + a{depth + 1}].all(a{depth}, {bound(depth - 1, f'size(a{depth}) > 0')})"
    )


ATTACKS: list[tuple[str, str, str]] = [
    ("nested comprehensions", "six maps", nested(6)),
    ("nested comprehensions", "six of all", nested(6, "all", "true")),
    ("nested comprehensions", "six of exists", nested(6, "exists", "false")),
    ("nested comprehensions", "six of exists_one", nested(6, "exists_one", "false")),
    ("nested comprehensions", "six filters", nested(6, "filter", "false").replace("filter", "map", 5)),
    ("nested comprehensions", "in the list that is gone through", f"{nested(6)}.all(x, true)"),
    ("nested comprehensions", "in a condition of a map", f"{TEN}.map(a, {nested(6, 'all', 'true')}, a)"),
    ("nested comprehensions", "in brackets and a choice", f"true ? ({nested(6)})[0] : 1"),
    ("nested comprehensions", "in has()", f"has({{'a': {nested(6)}}}.a)"),
    ("nested comprehensions", "behind a call", f"size({nested(6)}) > 0"),
    ("pairs of long lists", "all of all", "inputs.list.all(a, inputs.list.all(b, a + b >= 0))"),
    ("pairs of long lists", "paths alone", "inputs.few.map(a, inputs.few.map(b, inputs.few.map(c, c)))"),
    ("pairs of long lists", "what is not looked at", "inputs.few.map(a, inputs.list.filter(b, true))"),
    ("pairs of long lists", "what is in one", "inputs.list.all(a, a in inputs.list)"),
    ("pairs of long lists", "what is by name in one", "inputs.list.all(a, inputs.names['k' + string(a)] == a)"),
    ("pairs of long lists", "what is the same", "inputs.list.all(a, inputs.list == inputs.list)"),
    ("pairs of long lists", "hidden behind or", "inputs.list.all(a, inputs.list.all(b, a + b >= 0)) || true"),
    ("pairs of long lists", "copies in a result", "inputs.few.map(a, inputs.list)"),
    ("what doubles", "texts in a chain", "['xxxxxxxx']" + ".map(a, a + a)" * 35),
    ("what doubles", "lists in a chain", "[[1]]" + ".map(a, [a, a])" * 35),
    ("what doubles", "lists that are joined", "[[1]]" + ".map(a, a + a)" * 35),
    ("what doubles", "objects in a chain", "[{'a': 1}]" + ".map(a, {'a': a, 'b': a})" * 35),
    ("what doubles", "bytes in a chain", "[b'xxxxxxxx']" + ".map(a, a + a)" * 35),
    ("what doubles", "by names in each other", f"['xxxxxxxx'].all(a31, {bound(30)})"),
    ("what doubles", "as text", "['xxxxxxxx']" + ".map(a, string(a) + string(a))" * 35),
    ("what is copied again and again", "a text", "size(" + "+".join(["inputs.text"] * 300) + ") > 0"),
    ("what is copied again and again", "a list", "size(" + "+".join(["inputs.list"] * 300) + ") > 0"),
    ("what is copied again and again", "in a list", f"[{','.join(['inputs.list'] * 300)}]"),
    ("what is copied again and again", "to compare it", "&&".join(["inputs.list == inputs.list"] * 130)),
    ("what is copied again and again", "at each item", "inputs.list.all(x, (inputs.text + 'x') != '')"),
    ("patterns that are large", "classes", " || ".join([r"inputs.text.matches(r'\w{90}z')"] * 100)),
    ("patterns that are large", "counts in counts", "inputs.text.matches('(x[xy]{40}){100}z')"),
    ("patterns that are large", "a count behind a star", "inputs.text.matches('(x[xy]{40})+{100}z')"),
    ("patterns that are large", "in brackets that are letters", r"inputs.text.matches(r'(x[(]?[xy]{40}\(?){100}z')"),
    ("patterns that are large", "brackets by their numbers", r"inputs.text.matches('\x28x[xy]{40}\x29{100}z')"),
    ("patterns that are large", "with spaces that do not count", "inputs.text.matches('(?x)(x[xy]{40}) {100}z')"),
    ("patterns that are large", "up to a count", "inputs.text.matches('x[xy]{1,1000}z')"),
    ("patterns that are large", "given", "inputs.text.matches(inputs.pattern)"),
    ("patterns that are large", "put together", "inputs.text.matches('(x[xy]{40}){' + '100}z')"),
    ("patterns that are large", "at each item", r"inputs.list.all(x, 'a'.matches(r'^\w\w\w\w$') || true)"),
    ("long rules", "at each item", "inputs.list.all(x, " + " && ".join(["x == x"] * 300) + ")"),
    ("long rules", "a list at each item", "inputs.list.map(x, [" + "1," * 900 + "1])"),
    ("too many", "comprehensions", "[1]" + ".filter(a, true)" * (MOST + 1)),
    ("too many", "brackets", "(" * 100 + "1" + ")" * 100),
    ("too many", "letters", "1+" * 2_500 + "1"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _less_patience(monkeypatch):
    """Let a fifth of the cost be allowed, which takes a fifth of the time to see."""
    monkeypatch.setattr(evaluating, "COST", evaluating.COST // 5)


@pytest.mark.parametrize("text", [pytest.param(a[2], id=f"{a[0]}: {a[1]}") for a in ATTACKS])
def test_an_attack_ends_in_a_refusal(text):
    before = time.process_time()
    with pytest.raises(ExpressionInvalid) as caught:
        Expression(text).evaluate(KNOWN)
    assert any(
        says in str(caught.value) for says in ("looks at too many values", "has more than", "more than 60 deep", "are the most")
    )  # fmt: skip
    assert caught.value.hint or "deep" in str(caught.value) or "are the most" in str(caught.value)
    assert len(str(caught.value)) < 5_000
    assert time.process_time() - before < 20, "it is the library that does it"


def test_the_table_is_as_large_as_it_is_said_to_be():
    assert len({attack[0] for attack in ATTACKS}) == 7
    assert len(ATTACKS) == 45


# ---------------------------------------------------------------- controls: the library alone


def alone(text: str) -> Any:
    return cel.compile(text).execute(KNOWN)


def flat(value: Any) -> int:
    return sum(map(flat, value)) if isinstance(value, list) else 1


def test_control_nested_comprehensions_and_pairs_multiply():
    assert [flat(alone(nested(depth))) for depth in (1, 2, 3, 4)] == [10, 100, 1_000, 10_000]
    assert flat(alone("[1,2,3].map(a, inputs.few.map(b, a * b))")) == 3_000


def test_control_what_doubles_doubles():
    assert len(alone("['xxxxxxxx']" + ".map(a, a + a)" * 16)[0]) == 8 << 16
    assert flat(alone("[[1]]" + ".map(a, [a, a])" * 12)) == 1 << 12
    assert (
        alone(f"['x'].all(a6, {bound(5, 'size(a1) > 0').replace('size(a1) > 0', 'size(a1) == 32')})") is True
    )


def test_control_what_is_copied_is_there_again_and_again():
    assert len(alone("+".join(["inputs.text"] * 30))) == 30 * 200_000
    assert flat(alone(f"[{','.join(['inputs.list'] * 30)}]")) == 300_000


def test_control_large_patterns_take_long():
    def took(text: str) -> float:
        began = time.process_time()
        cel.compile(text).execute({"text": KNOWN["inputs"]["text"]})
        return time.process_time() - began

    assert took("text.matches('x[xy]{1000}z')") > 10 * took("text.matches('^[xy]+z')")


def test_control_a_long_rule_is_done_at_each_item():
    assert flat(alone("[1,2,3].map(x, [" + "1," * 899 + "1])")) == 2_700


def test_control_the_library_lets_nobody_else_run_and_we_do():
    """What part of an evaluation another thread waits in one piece."""

    def waits(evaluate: Any) -> float:
        ticks: list[float] = [time.perf_counter()]
        done = threading.Event()

        def tick() -> None:
            while not done.wait(0.001):
                ticks.append(time.perf_counter())

        thread = threading.Thread(target=tick)
        thread.start()
        began = time.perf_counter()
        evaluate()
        took = time.perf_counter() - began
        done.set()
        thread.join()
        ticks.append(time.perf_counter())
        return max(later - before for before, later in pairwise(ticks)) / took

    def refused() -> None:
        with pytest.raises(ExpressionInvalid):
            read(nested(6)).evaluate({})

    assert waits(lambda: alone(nested(5))) > 0.8
    assert waits(refused) < 0.8


# ---------------------------------------------------------------- what is allowed stays what it was


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("size(inputs.rows.filter(r, r.id > 9 && r.name.startsWith('x')))", 1_990),
        ("inputs.rows.exists(r, r.tags.exists(t, t == 'b') && r.id == 1999)", True),
        ("inputs.rows.map(r, r.id).filter(n, n % 500 == 0)", [0, 500, 1_000, 1_500]),
        ("size(inputs.list) + inputs.list.size() + size(inputs.text) + size(inputs.names)", 230_000),
        ("inputs.rows.all(r, r.name.matches('^[a-z]{2,12}$'))", True),
        ("inputs.list.filter(n, n in [1, 2])", [1, 2]),
    ],
)
def test_what_plans_ask_for_is_allowed(text, value):
    """Of a fifth of what is allowed; the library alone takes seconds for some: it copies what it has at each item."""
    assert read(text).evaluate(KNOWN) == value


def test_only_what_is_read_is_given_to_the_library(monkeypatch):
    """By the least that a comparison of two numbers costs, beside lists of thousands."""
    monkeypatch.setattr(evaluating, "COST", 30)
    assert read("inputs.n > 0").evaluate({"inputs": {**KNOWN["inputs"], "n": 1}}) is True
    with pytest.raises(ExpressionInvalid, match="too many values"):
        read("inputs.list == []").evaluate(KNOWN)


def test_what_is_not_needed_is_not_gone_through():
    assert read("inputs.few.all(a, a / 0 > 1) || inputs.few.exists(a, a == 7)").evaluate(KNOWN) is True
    assert read("false && inputs.list.all(a, inputs.list.all(b, a < b))").evaluate(KNOWN) is False
    assert (
        read("size(inputs.rows) < 100 ? inputs.list.all(a, a in inputs.list) : true").evaluate(KNOWN) is True
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("inputs.text.map(a, a)", "map() goes through a list or an object, not '"),
        ("inputs.few.filter(a, a)", "the rule of filter() gives 0, not true or false."),
        ("inputs.few.filter(a, a > 1)[5000]", "filter has no 5000."),
        ("inputs.few.map(a, a.nme)", "a has no 'nme'."),
        ("inputs.few.map(a, [a / 0])", "division by zero in CEL expression."),
        ("inputs.few.map(a, a + nobody)", "there is no 'nobody' here."),
        ("inputs.rows.map(r, r.nme + '')", "there is no 'nme'."),
        ("size(inputs.few[0]) > 1", "size() is of a list, an object or a text, not 0."),
    ],
)
def test_what_goes_wrong_within_says_why(text, why):
    with pytest.raises(ExpressionInvalid) as caught:
        read(text).evaluate(KNOWN)
    assert why in str(caught.value)
    assert caught.value.query == text


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("abc", 3),
        ("a{10}", 10),
        ("(ab){3}{4}", 36),
        ("(a+){10,20}", 40),
        ("a{,7}b{3,}", 10),
        (r"\w", 200),
        ("[a-z]{3}", 12),
        ("[^a]", 4),
        ("(a{1000}){1000}", LARGEST),
        ("[a[b]]", LARGEST),
        ("(?x)a", LARGEST),
        ("(?:a){5}(?i)b", 18),
    ],
)
def test_how_large_a_pattern_is(pattern, size):
    assert pattern_size(pattern) == size


class _Writer:
    """Writes an expression by chance, not too large: the library alone is slow."""

    def __init__(self, chance: Random):
        self.chance = chance

    def number(self, depth: int) -> str:
        forms = ["1", "2", "-3", "n", "rows[0].n", "size(xs)", "xs[1]"]
        if depth:
            forms += [
                f"({self.number(depth - 1)} {self.chance.choice('+-*/%')} {self.number(depth - 1)})",
                f"size({self.list(depth - 1)})",
                f"{self.list(depth - 1)}.size()",
                f"{self.list(depth - 1)}[0]",
            ] * 2
        return self.chance.choice(forms)

    def rule(self, depth: int) -> str:
        forms = [
            f"{self.number(depth)} {self.chance.choice(['<', '==', '>=', '!='])} {self.number(depth)}",
            "rows.exists(r, r.n == n)",
            "has(rows[0].m)",
        ]
        if depth:
            macro = self.chance.choice(["all", "exists", "exists_one"])
            forms += [
                f"({self.rule(depth - 1)} {self.chance.choice(['&&', '||'])} {self.rule(depth - 1)})",
                f"!{self.list(depth - 1)}.{macro}(n, {self.rule(depth - 1)})",
                f"{self.number(depth - 1)} in {self.list(depth - 1)}",
            ] * 2
        return self.chance.choice(forms)

    def list(self, depth: int) -> str:
        forms = ["xs", "[]", "[n, 2]", "rows.map(r, r.n)", "rows.filter(r, r.n > 1).map(r, r.n)"]
        if depth:
            forms += [
                f"{self.list(depth - 1)}.filter(n, {self.rule(depth - 1)})",
                f"({self.list(depth - 1)}).map(n, {self.number(depth - 1)})",
                f"{self.list(depth - 1)}.map(m, {self.rule(depth - 1)}, {self.number(depth - 1)} + m)",
                f"({self.list(depth - 1)} + {self.list(depth - 1)})",
                f"({self.rule(depth - 1)} ? {self.list(depth - 1)} : {self.list(depth - 1)})",
            ] * 2
        return self.chance.choice(forms)


@settings(max_examples=500)
@given(st.integers(0, 2**32))
def test_it_gives_what_the_library_gives(seed):
    known = {"n": 2, "xs": [3, 1, 2], "rows": [{"n": 1}, {"n": 2, "m": 5}, {"n": 3}]}
    writer = _Writer(Random(seed))
    text = writer.chance.choice([writer.number, writer.rule, writer.list])(2)
    try:
        expected = cel.compile(text).execute(known)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        expected = ExpressionInvalid
    try:
        found = Expression(text).evaluate(known)
    except ExpressionInvalid as error:
        assert "too many" not in str(error)
        found = ExpressionInvalid
    assert found == expected, text
