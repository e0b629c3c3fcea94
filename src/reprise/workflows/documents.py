"""YAML and JSON documents with the place of each value, so that a fault can be pointed at.

YAML is read as its core schema has it, which is JSON's: ``yes`` and ``2024-01-01`` are texts. Nothing that a document
says is ever called, and what it repeats by reference is counted as often as it stands there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, cast

from reprise.kernel.errors import MissingExtra, PlanInvalid
from reprise.workflows.scanning import Part, Place

MOST_VALUES = 1_000_000
"""Values of a document, each counted wherever it stands."""
_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
_JSON = re.compile(r'"(?:\\.|[^"\\])*"|[{}\[\],:]|[^\s{}\[\],:"]+')


class Spot(NamedTuple):
    """Where a value stands; lines and columns from 1."""

    line: int
    column: int
    key: tuple[int, int]
    """Line and column of its key; its own where it has none."""
    first: tuple[int, int] | None
    """Line and column of the first character of a text whose characters stand one after the other, else None."""
    parts: Mapping[Part, Spot]

    def find(self, place: Place, words: Mapping[str, tuple[str, ...]], at: int = -1) -> tuple[int, int]:
        """Return line and column of a place as far as it is there; ``words`` are other words for keys."""
        spot, is_there = self, True
        for part in place:
            spellings = (part, *words.get(part, ())) if isinstance(part, str) else (part,)
            found = next((spot.parts[each] for each in spellings if each in spot.parts), None)
            if found is None:
                is_there = False
                break
            spot = found
        if at >= 0 and is_there and spot.first is not None:
            return spot.first[0], spot.first[1] + at
        return spot.key if at < 0 or not is_there else (spot.line, spot.column)


def read_document(text: str, source: str) -> tuple[Any, Spot]:
    """Return what a document holds, and where; one that begins with ``{`` is read as JSON.

    Raises:
        PlanInvalid: it cannot be read; says where.
        MissingExtra: it is YAML, and PyYAML is not installed.
    """
    return _read_json(text, source) if text.lstrip().startswith("{") else _read_yaml(text, source)


def _refuse(source: str, line: int, column: int, what: str) -> PlanInvalid:
    return PlanInvalid(f"{source} cannot be read.", faults=[f"{source}:{line}:{column}: {what}"])


# ---------------------------------------------------------------- YAML


@cache
def _yaml() -> tuple[Any, Any]:
    """Return the package and a loader that takes scalars for what JSON does."""
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra(
            "Plans in YAML need the package PyYAML, which is not installed.",
            hint="Run: pip install 'reprise-agents[definitions]', or write them in JSON.",
        ) from error
    package: Any = yaml
    loader: Any = type(
        "Loader", (getattr(package, "CSafeLoader", package.SafeLoader),), {"yaml_implicit_resolvers": {}}
    )
    for name, (pattern, begins) in _SCALARS.items():
        firsts = ["" if each == "\0" else each for each in begins]
        loader.add_implicit_resolver(_TAG + name, re.compile(f"^(?:{pattern})$"), firsts)
    return package, loader


def _read_yaml(text: str, source: str) -> tuple[Any, Spot]:
    package, loader = _yaml()
    try:
        node = package.compose(text, Loader=loader)
    except package.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        why = " ".join(filter(None, (getattr(error, name, None) for name in ("context", "problem"))))
        raise _refuse(source, line, column, f"this is not YAML: {why or error}.") from error
    if node is None:
        raise _refuse(source, 1, 1, "it is empty.")
    return _Nodes(text, source).read(node)


class _Nodes:
    """Turns the nodes of a YAML document into values."""

    def __init__(self, text: str, source: str) -> None:
        self.lines = text.split("\n")
        self.source = source
        self.count = 0
        self.above: set[int] = set()

    def read(self, node: Any, key: Any = None) -> tuple[Any, Spot]:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        at = (key.start_mark.line + 1, key.start_mark.column + 1) if key is not None else (line, column)
        self.count += 1
        if self.count > MOST_VALUES:
            raise _refuse(self.source, line, column, f"it has more than {MOST_VALUES:,} values.")
        if id(node) in self.above:
            raise _refuse(self.source, line, column, "this holds itself.")
        if node.id == "scalar":
            return self._scalar(node, line, column), Spot(line, column, at, self._first(node), {})
        if node.tag not in (f"{_TAG}seq", f"{_TAG}map"):
            raise self._unknown(node, line, column)
        self.above.add(id(node))
        value, parts = self._sequence(node) if node.id == "sequence" else self._mapping(node)
        self.above.discard(id(node))
        return value, Spot(line, column, at, None, parts)

    def _sequence(self, node: Any) -> tuple[list[Any], dict[Part, Spot]]:
        both = [self.read(item) for item in node.value]
        return [value for value, _ in both], {number: spot for number, (_, spot) in enumerate(both)}

    def _mapping(self, node: Any) -> tuple[dict[str, Any], dict[Part, Spot]]:
        values: dict[str, Any] = {}
        spots: dict[Part, Spot] = {}
        for key, item in node.value:
            line, column = key.start_mark.line + 1, key.start_mark.column + 1
            if key.id != "scalar" or key.tag != f"{_TAG}str":
                raise _refuse(self.source, line, column, "a key is text: put it in quotes.")
            if key.value in values:
                raise _refuse(self.source, line, column, f"the key {key.value!r} stands there twice.")
            values[key.value], spots[key.value] = self.read(item, key)
        return values, spots

    def _scalar(self, node: Any, line: int, column: int) -> Any:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        if kind == "str":
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text[0] in "tT"
        if kind == "int":
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        if kind == "float":
            return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1:].isalpha() else text)
        raise self._unknown(node, line, column)

    def _unknown(self, node: Any, line: int, column: int) -> PlanInvalid:
        return _refuse(self.source, line, column, f"the tag {node.tag} is not known.")

    def _first(self, node: Any) -> tuple[int, int] | None:
        """Return where the first character of a text stands, where the others follow it on its line."""
        mark = node.start_mark
        if node.style in ("|", ">"):
            if node.value.rstrip("\n").count("\n"):
                return None
            content = self.lines[int(mark.line) + 1]
            return mark.line + 2, len(content) - len(content.lstrip()) + 1
        quoted = node.style in ("'", '"')
        if (
            node.end_mark.line != mark.line
            or node.end_mark.column - mark.column != len(node.value) + 2 * quoted
        ):
            return None
        return mark.line + 1, mark.column + 1 + quoted


# ---------------------------------------------------------------- JSON


def _read_json(text: str, source: str) -> tuple[Any, Spot]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice.append(next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number])))
        return found

    twice: list[str] = []
    try:
        value = json.loads(text, object_pairs_hook=once)
    except (json.JSONDecodeError, RecursionError) as error:
        line, column = (getattr(error, name, 1) for name in ("lineno", "colno"))
        raise _refuse(
            source, line, column, f"this is not JSON: {getattr(error, 'msg', 'too deep')}."
        ) from error
    scan = _Json(text)
    spot = scan.value(None)
    if twice:
        line, column = scan.twice
        raise _refuse(source, line, column, f"the key {twice[0]!r} stands there twice.")
    return value, spot


class _Json:
    """Finds the places of the values of a text that is JSON."""

    def __init__(self, text: str) -> None:
        self.marks = list(_JSON.finditer(text))
        self.here = 0
        self.starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self.line = 0
        self.twice = (1, 1)

    def value(self, key: tuple[int, int] | None) -> Spot:
        mark, at = self._next()
        parts: dict[Part, Spot] = {}
        if mark in ("{", "["):
            while True:
                inner, place = self._next()
                if inner in ("}", "]"):
                    break
                if inner == ",":
                    continue
                if mark == "{":
                    self._next()  # the colon
                    name = cast("str", json.loads(inner))
                    self.twice = place if name in parts else self.twice
                    parts[name] = self.value(place)
                else:
                    self.here -= 1
                    parts[len(parts)] = self.value(None)
        simple = mark.startswith('"') and "\\" not in mark
        return Spot(*at, key or at, (at[0], at[1] + 1) if simple else None, parts)

    def _next(self) -> tuple[str, tuple[int, int]]:
        found = self.marks[self.here]
        self.here += 1
        while self.line and self.starts[self.line] > found.start():
            self.line -= 1
        while self.line + 1 < len(self.starts) and self.starts[self.line + 1] <= found.start():
            self.line += 1
        return found[0], (self.line + 1, found.start() - self.starts[self.line] + 1)
