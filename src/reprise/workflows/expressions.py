"""Expressions in CEL, the Common Expression Language, and texts and values with ``${…}`` in them.

An expression only reads, ends soon, and gives the same in every replay. What is no more than a path, such as
``steps.collect.result.rows[0]``, is followed here and needs no package; comprehensions are gone through here; the rest is
done by ``common-expression-language`` (extra ``definitions``). Never ``eval``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

import msgspec

from reprise.kernel.errors import ExpressionInvalid
from reprise.workflows.comprehensions import MOST, Part, compiler, cut
from reprise.workflows.evaluating import FAULTS, CostsTooMuch, Evaluation, NotThere, Unfit, follow
from reprise.workflows.scanning import Place, Reference, closing, is_path, names_a_step, scan, tokens_of

LONGEST = 4_000
"""Characters of an expression."""
DEEPEST = 60
"""Brackets in brackets of an expression; the reader of the language has a stack that ends."""
FUNCTIONS = frozenset(
    "size contains startsWith endsWith matches int uint double string bytes duration timestamp type dyn has "
    "all exists exists_one map filter getFullYear getMonth getDate getDayOfMonth getDayOfWeek getDayOfYear getHours "
    "getMinutes getSeconds getMilliseconds".split()
)
_MEANT = {
    "=": "==", "and": "&&", "or": "||", "not": "!", "is": "==",
    "True": "true", "False": "false", "None": "null", "len": "size",
}  # fmt: skip
_FAULT = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?(.*)")
_FAULTS = (
    (re.compile(r"(?:mismatched|extraneous) input '<EOF>'"), "it ends where more is expected"),
    (re.compile(r"(?:mismatched|extraneous) input '(.+?)' expecting"), "{!r} is not expected"),
    (re.compile(r"token recognition error at: '(.+?)\s*'$", re.DOTALL), "{!r} is not understood"),
    (re.compile(r"missing '(.+?)' at"), "{!r} is missing"),
    (re.compile(r"unsupported syntax '(.+?)'"), "{!r} is not supported"),
)


class Expression:
    """An expression that can be read; make it with :func:`compile`.

    >>> rule = compile("steps.count.result > inputs.least")
    >>> sorted(rule.names), sorted(rule.steps)
    (['inputs', 'steps'], ['count'])
    >>> rule.evaluate({"steps": {"count": {"result": 3}}, "inputs": {"least": 2}})
    True
    """

    __slots__ = ("_parts", "_path", "functions", "names", "needs", "references", "steps", "text")

    def __init__(self, text: str) -> None:
        inner, start = _unwrapped(text)
        self.text = inner
        _check_size(inner)
        references, functions = scan(inner)
        self.references = tuple(
            reference._replace(at=reference.at + start, end=reference.end + start) for reference in references
        )
        """What it reads, in order."""
        self.functions = tuple((name, at + start) for name, at in functions)
        """What it calls, and where."""
        self.names = frozenset(str(reference.path[0]) for reference in references)
        """The variables it reads: ``inputs``, ``steps``, ``context``, ``item``, ``index``."""
        self.steps = frozenset(
            str(reference.path[1]) for reference in references if names_a_step(reference.path)
        )
        """Names of the steps it reads."""
        self.needs = frozenset[str]() if _chooses(inner, functions) else frozenset(_results(references))
        """Names of the steps without whose results it gives nothing; none where it looks first, or chooses."""
        self._path: Place | None = None
        self._parts: Part | None = None
        if is_path(inner, references):
            self._path = references[0].path
        else:
            _check_language(inner, start, text)
            self._parts = _parts(inner, start, text)

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """Return what it gives where ``variables`` are known; only those that it reads are looked at.

        Raises:
            ExpressionInvalid: it reads what is not there, does with it what cannot be done, or costs too much.
        """
        try:
            if self._path is not None:
                return follow(self._path, variables)
            return Evaluation().value(cast("Part", self._parts), variables)
        except CostsTooMuch:
            why = "it looks at too many values, or makes them"
            hint = "Do it in a step: a tool or a function; or give it less at a time."
        except FAULTS as error:
            why = _why(error, self.names, variables)
            hint = error.hint if isinstance(error, NotThere) else ""
        raise ExpressionInvalid(
            f"The expression {self.text!r} cannot be evaluated: {why}.",
            hint=hint,
            query=self.text,
            end=len(self.text),
        )

    def holds(self, variables: Mapping[str, Any]) -> bool:
        """Return whether it is true.

        Raises:
            ExpressionInvalid: as :meth:`evaluate`; or it gives something other than true or false.
        """
        value = self.evaluate(variables)
        if not isinstance(value, bool):
            raise ExpressionInvalid(
                f"The condition {self.text!r} gives {value!r:.60}, not true or false.",
                hint="Compare it: size(…) > 0, … != null, … == 'yes'.",
                query=self.text,
                end=len(self.text),
            )
        return value

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


@lru_cache(16_384)
def compile(text: str) -> Expression:
    """Return the expression of a text, which may stand in ``${…}``.

    Raises:
        ExpressionInvalid: it cannot be read; says where.
        MissingExtra: it is more than a path, and the package that reads it is not installed.
    """
    return Expression(text)


# ---------------------------------------------------------------- reading


def _unwrapped(text: str) -> tuple[str, int]:
    """Return what stands in ``${…}`` if that is all of the text, and where it begins."""
    bare = text.strip()
    if bare.startswith("${") and closing(bare, 2) == len(bare) - 1:
        return bare[2:-1], text.index("${") + 2
    return text, 0


def _chooses(text: str, functions: list[tuple[str, int]]) -> bool:
    """Return whether an expression may go without a part of what it reads: a ? b : c, &&, ||, has()."""
    return any(token.text in ("?", "&", "|") for token in tokens_of(text)) or ("has" in dict(functions))


def _results(references: list[Reference]) -> list[str]:
    return [
        str(each.path[1])
        for each in references
        if names_a_step(each.path) and each.path[2:3] in ((), ("result",))
    ]


def _check_size(text: str) -> None:
    depth = 0
    if len(text) > LONGEST:
        raise ExpressionInvalid(
            f"An expression has {len(text):,} characters; {LONGEST:,} are the most.", query=text[:80]
        )
    for token in tokens_of(text):
        depth += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}"))
        if depth > DEEPEST:
            raise ExpressionInvalid(
                f"The expression {text!r:.80} is nested more than {DEEPEST} deep.", query=text, start=token.at
            )


def _parts(text: str, start: int, whole: str) -> Part:
    try:
        return cut(text)
    except ValueError:
        raise ExpressionInvalid(
            f"The expression {text!r:.80} has more than {MOST} of map(), filter(), all(), exists(), size().",
            hint="Do it in several steps.",
            query=whole,
            start=start,
            end=start + len(text),
        ) from None


def _check_language(text: str, start: int, whole: str) -> None:
    try:
        compiler()(text)
    except ValueError as error:
        at, why, word = _fault(str(error), text)
        raise ExpressionInvalid(
            f"The expression {text!r} cannot be read: {why}.",
            hint=f"Write {_MEANT[word]} for {word}." if word in _MEANT else "",
            query=whole,
            start=at + start,
            end=at + start + max(1, len(word)),
        ) from error


def _fault(said: str, text: str) -> tuple[int, str, str]:
    """Return where the reader of the language stumbled, over what, in our words."""
    for line, column, what in cast("list[tuple[str, str, str]]", _FAULT.findall(said)):
        before = text.split("\n")[: int(line) - 1]
        at = sum(len(each) + 1 for each in before) + int(column) - 1
        for pattern, ours in _FAULTS:
            if found := pattern.match(what):
                word = found[1] if found.groups() else ""
                return at, ours.format(word), word
    return 0, "it is no expression", ""


# ---------------------------------------------------------------- evaluating


def _why(error: Exception, names: frozenset[str], known: Mapping[str, Any]) -> str:
    if isinstance(error, NotThere | Unfit):
        return str(error)
    if missing := sorted(names - known.keys()):
        return f"there is no {missing[0]!r} here"
    if isinstance(error, KeyError):
        return f"there is no {error.args[0]!r}" if error.args else "a key is not there"
    said = str(error).partition(".")[0]
    return said[:1].lower() + said[1:]


# ---------------------------------------------------------------- values with expressions in them


class Placed(NamedTuple):
    """An expression in a value: ``place`` leads to the text, ``at`` to the place in it."""

    place: Place
    at: int
    expression: Expression


class Template:
    """A JSON value with ``${…}`` in its texts, which is filled in with what is known.

    A text that is one expression becomes its value, of whatever type; in a longer text, text stands as it is and other
    values as JSON. ``$${`` is a plain ``${``.

    >>> made = Template({"rows": "${steps.read.result}", "title": "Report ${index} of ${inputs.n}"})
    >>> made.fill({"steps": {"read": {"result": [1, 2]}}, "index": 0, "inputs": {"n": 3}})
    {'rows': [1, 2], 'title': 'Report 0 of 3'}

    Raises:
        ExpressionInvalid: one cannot be read, or has no end.
        MissingExtra: one is more than a path, and the package that reads it is not installed.
    """

    __slots__ = ("_fill", "expressions")

    def __init__(self, value: Any) -> None:
        found: list[Placed] = []
        self._fill = _filler(value, (), found)
        self.expressions = tuple(found)

    def fill(self, variables: Mapping[str, Any]) -> Any:
        """Return the value with all that was to be filled in.

        Raises:
            ExpressionInvalid: an expression reads what is not there.
        """
        return self._fill(variables)


_Fill = Callable[[Mapping[str, Any]], Any]


def _filler(given: object, place: Place, found: list[Placed]) -> _Fill:
    before = len(found)
    value: Any = given
    if isinstance(value, str):
        if "${" in value:
            return _text_filler(value, place, found)
    elif isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        parts = {key: _filler(item, (*place, key), found) for key, item in items}
        if len(found) > before:
            return lambda v: {key: part(v) for key, part in parts.items()}
    elif isinstance(value, list | tuple):
        each = [_filler(item, (*place, n), found) for n, item in enumerate(cast("list[Any]", value))]
        if len(found) > before:
            return lambda v: [part(v) for part in each]
    return lambda _: given


def _text_filler(text: str, place: Place, found: list[Placed]) -> _Fill:
    parts: list[str | Expression] = []
    begin = 0
    while (at := text.find("${", begin)) >= 0:
        if text[at - 1 : at] == "$":
            parts.append(text[begin : at - 1] + "${")
            begin = at + 2
            continue
        end = closing(text, at + 2)
        if end < 0:
            raise ExpressionInvalid(
                f"In {text!r:.80} a ${{ has no end.", hint="Close it: ${…}.", query=text, start=at, end=at + 2
            )
        try:
            expression = compile(text[at + 2 : end])
        except ExpressionInvalid as error:
            error.query, error.start, error.end = text, error.start + at + 2, error.end + at + 2
            raise
        found.append(Placed(place, at + 2, expression))
        if not parts and at == begin == 0 and end == len(text) - 1:
            return expression.evaluate
        parts += [text[begin:at], expression]
        begin = end + 1
    parts.append(text[begin:])
    return lambda v: "".join(part if isinstance(part, str) else _as_text(part.evaluate(v)) for part in parts)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except TypeError:
        return str(value)
