"""Expressions: what they read, what they give, and where they are wrong."""

import builtins

import pytest
from hypothesis import given, strategies as st

from reprise import ExpressionInvalid, MissingExtra
from reprise.workflows.comprehensions import compiler
from reprise.workflows.expressions import DEEPEST, Expression, Template, compile as read

KNOWN = {
    "inputs": {"n": 3, "who": "Ada", "tags": ["a", "b"]},
    "steps": {
        "read": {"result": {"rows": [1, 2, 3], "ok": True}, "status": "completed", "error": None},
        "my-step": {"result": 7, "status": "completed", "error": None},
    },
    "context": {},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("steps.read.result.rows[1]", 2),
        ('steps["my-step"].result', 7),
        ("  inputs.n ", 3),
        ("${inputs.n}", 3),
        ("${ inputs.n > 2 }", True),
        ("steps.read.result.rows.filter(x, x > 1).map(x, x * 10)", [20, 30]),
        ("inputs.who.startsWith('A') && size(inputs.tags) == 2", True),
        ("has(steps.read.result.nothing)", False),
        ("inputs.n > 1.5 ? 'much' : 'little'", "much"),
        ("{'a}': inputs.n}", {"a}": 3}),
        ("steps.read.result.rows // all of them\n.size()", 3),
    ],
)
def test_an_expression_gives_a_value(text, value):
    assert read(text).evaluate(KNOWN) == value


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("steps.a.result > inputs.n", ["steps.a.result", "inputs.n"]),
        ("steps['a b'].result[0].c", ['steps["a b"].result[0].c']),
        ("steps.a.result.exists(step, step.ok) && step == 1", ["steps.a.result", "step"]),
        ("[1].map(x, [2].map(y, x + y + z))", ["z"]),
        ("inputs.rows[index].name + item.name", ["inputs.rows", "index", "item.name"]),
        ("'steps.a' == \"inputs.b\" // inputs.c", []),
        ("size(context.rows) == int(context.n) && type(1) == int", ["context.rows", "context.n"]),
        ("inputs.text.contains('x')", ["inputs.text"]),
    ],
)
def test_what_an_expression_reads_is_found(text, reads):
    assert [str(reference) for reference in read(text).references] == reads


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("steps.a.result.rows", ["a"]),
        ("size(steps.a.result) > steps.b.result", ["a", "b"]),
        ("steps.a.status == 'skipped'", []),
        ("steps.a.status == 'completed' ? steps.a.result : steps.b.result", []),
        ("has(steps.a.result)", []),
        ("inputs.n > 1 || steps.a.result", []),
        ("'?' + steps.a.result", ["a"]),
    ],
)
def test_what_an_expression_cannot_do_without(text, needs):
    assert sorted(read(text).needs) == needs


def test_a_reference_says_where_it_stands():
    text = "1 < 2 && steps.a.result"
    [reference] = read(text).references
    assert text[reference.at : reference.end] == "steps.a.result"
    [reference] = read("${ item }").references
    assert reference.at == 3


@pytest.mark.parametrize(
    ("text", "start", "message"),
    [
        ("a +", 3, "it ends where more is expected."),
        ("inputs.n = 3", 9, "'=' is not understood. Write == for =."),
        ("inputs.a and inputs.b", 9, "'and' is not expected. Write && for and."),
        ("size(inputs.a", 13, "')' is missing."),
        ("${ 1 +* 2 }", 6, "'*' is not expected."),
        ("1 +\n  * 2", 6, "'*' is not expected."),
        ("", 0, "it ends where more is expected."),
    ],
)
def test_what_cannot_be_read_says_where(text, start, message):
    with pytest.raises(ExpressionInvalid) as caught:
        read(text)
    assert str(caught.value).endswith(f"cannot be read: {message}")
    assert caught.value.start == start
    assert caught.value.query == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps.read.reslt", "steps.read has no 'reslt'. Did you mean 'result'?"),
        ("inputs.tags[5]", "inputs.tags has no 5."),
        ("inputs.n.deeper", "inputs.n has no 'deeper'."),
        ("item", "what is known has no 'item'."),
        ("item + 1", "there is no 'item' here."),
        ("inputs.none + 1", "there is no 'none'."),
        ("inputs.n + 'a'", "no such overload: the operation is not defined for the given operand types."),
        ("inputs.n / 0", "division by zero in CEL expression."),
    ],
)
def test_what_cannot_be_evaluated_says_why(text, message):
    with pytest.raises(ExpressionInvalid) as caught:
        read(text).evaluate(KNOWN)
    assert str(caught.value) == f"The expression {text!r} cannot be evaluated: {message}"


def test_a_condition_is_true_or_false_and_nothing_else():
    assert read("inputs.n == 3").holds(KNOWN) is True
    with pytest.raises(ExpressionInvalid, match="gives 3, not true or false"):
        read("inputs.n").holds(KNOWN)


def test_only_the_steps_that_are_read_are_looked_at():
    class Steps(dict):
        def __getitem__(self, name):
            asked.append(name)
            return super().__getitem__(name)

    asked = []
    steps = Steps({f"s{n}": {"result": n} for n in range(100)})
    assert read("steps.s7.result + 1").evaluate({"steps": steps}) == 8
    assert asked == ["s7"]


def test_depth_is_bounded_before_the_language_reads_it():
    with pytest.raises(ExpressionInvalid, match=f"more than {DEEPEST} deep"):
        Expression("(" * 100_0 + "1" + ")" * 100_0)
    with pytest.raises(ExpressionInvalid, match="5,000 characters"):
        Expression("1+" * 2500)


@given(st.text("ab.[](){}'\"\\$&|=<>!?:,+-*/% 012\nsteps", max_size=40))
def test_whatever_is_written_is_read_or_refused(text):
    try:
        read(text)
        Template(text)
    except ExpressionInvalid as error:
        assert 0 <= error.start <= len(error.query)


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        ("${steps.read.result.rows}", [1, 2, 3]),
        (
            "n is ${inputs.n}, ok ${steps.read.result.ok}, rows ${steps.read.result.rows}",
            "n is 3, ok true, rows [1,2,3]",
        ),
        ("$${inputs.n} costs $5", "${inputs.n} costs $5"),
        ("${inputs.who}${inputs.who}", "AdaAda"),
        ("${{'a': 1}}", {"a": 1}),
        ("${'}' + inputs.who}", "}Ada"),
        ({"a": ["${inputs.n}", {"b": "${inputs.who}!"}], "c": 1}, {"a": [3, {"b": "Ada!"}], "c": 1}),
        ("", ""),
        (None, None),
    ],
)
def test_a_template_is_filled(value, filled):
    assert Template(value).fill(KNOWN) == filled


def test_a_value_without_expressions_is_itself():
    value = {"a": [1, {"b": "text"}]}
    assert Template(value).fill({}) is value


def test_any_type_comes_through_a_reference_alone():
    thing = object()
    assert Template({"x": ["${inputs.thing}"]}).fill({"inputs": {"thing": thing}})["x"][0] is thing


def test_a_template_says_where_its_expressions_stand():
    made = Template({"a": ["x ${inputs.n} y", "${item}"]})
    assert [(one.place, one.at, one.expression.text) for one in made.expressions] == [
        (("a", 0), 4, "inputs.n"),
        (("a", 1), 2, "item"),
    ]
    with pytest.raises(ExpressionInvalid, match="has no end") as caught:
        Template("a ${inputs.n")
    assert caught.value.start == 2
    with pytest.raises(ExpressionInvalid) as caught:
        Template("ab ${1 +}")
    assert (caught.value.query, caught.value.start) == ("ab ${1 +}", 8)


def test_without_the_extra_paths_still_work_and_the_rest_names_it(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "cel":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    compiler.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    assert Expression("inputs.n").evaluate(KNOWN) == 3
    with pytest.raises(MissingExtra, match=r"pip install 'reprise-agents\[definitions\]'"):
        Expression("inputs.n > 1")
    compiler.cache_clear()
