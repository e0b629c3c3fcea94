"""Documents that others wrote: read without doing what they ask, and without becoming larger than they may.

Each reader takes the text of a document and gives JSON values. None resolves anything outside of the text, makes an object of
a class, or follows a reference without counting what it stands for. What two readers could take for different things
(a key that stands twice, a row that is too short) is refused, with its place.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, NoReturn, cast

from reprise.kernel.errors import ToolError

NotFinite = Literal["refuse", "null"]
"""What becomes of NaN and infinity, which JSON has not."""


class Limits(NamedTuple):
    """How large a document may be."""

    depth: int = 100
    """Lists and objects in each other."""
    values: int = 3_000_000
    """Values, each counted wherever it stands."""
    characters: int = 32 << 20
    """Characters of texts and keys, counted likewise."""
    rows: int = 100_000
    columns: int = 5_000
    cell: int = 1 << 17
    """Characters of a cell of CSV."""
    toml: int = 1 << 20
    """Characters of TOML, whose reader is slow."""
    key_parts: int = 1_000
    """Dots in a line of TOML: the reader takes time by the square of the parts of a key."""


LIMITS = Limits()
_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse(what: str, *, hint: str = "", code: str = "invalid_input") -> NoReturn:
    raise ToolError(code, what, hint=hint, field="$.content")


def _too_large(what: str) -> NoReturn:
    _refuse(what, code="too_large", hint="Give it less at a time.")


# ---------------------------------------------------------------- values


def checked(value: Any, limits: Limits = LIMITS, not_finite: NotFinite = "refuse") -> Any:
    """Return a value that is JSON and not too large; NaN and infinity are refused or become null.

    Lists and objects may stand in several places: each place counts. Raises ``ToolError`` with the place of what is wrong.

    >>> checked({"a": [1, float("nan")]}, not_finite="null")
    {'a': [1, None]}
    >>> checked({"a": [1, float("nan")]})
    Traceback (most recent call last):
    reprise.kernel.errors.ToolError: $.a[1] is nan, which JSON has not. Ask for null instead with not_finite="null".
    """
    return _Check(limits, not_finite).value(value, 0)


class _Check:
    """Looks at all of a value. Its places are made up on the way out: only what is refused pays for them."""

    def __init__(self, limits: Limits, not_finite: NotFinite) -> None:
        self.limits, self.not_finite = limits, not_finite
        self.values, self.characters = limits.values, limits.characters

    def value(self, value: Any, depth: int) -> Any:
        try:
            return self._value(value, depth)
        except _Fault as fault:
            what = fault.what.format(place="$" + "".join(reversed(fault.place)))
            raise ToolError(fault.code, what, hint=fault.hint, field="$.content") from None

    def _value(self, value: Any, depth: int) -> Any:
        self.values -= 1
        if self.values < 0:
            raise _Fault(f"It has more than {self.limits.values:,} values.", code="too_large")
        kind = cast("type[Any]", type(value))
        if kind is str:
            self._text(value)
        elif kind is float:
            if not math.isfinite(value):
                if self.not_finite == "null":
                    return None
                raise _Fault(
                    f"{{place}} is {value}, which JSON has not.",
                    hint='Ask for null instead with not_finite="null".',
                )
        elif kind is dict or kind is list:
            if depth >= self.limits.depth:
                raise _Fault(f"It is nested more than {self.limits.depth} deep.", code="too_large")
            items: Any = value.items() if kind is dict else enumerate(value)
            for key, item in items:
                try:
                    if kind is dict:
                        self._text(key)
                    made = self._value(item, depth + 1)
                except _Fault as fault:
                    fault.place.append(f"[{key}]" if kind is list else f".{key}")
                    raise
                if made is not item:
                    value[key] = made
        return value

    def _text(self, text: str) -> None:
        self.characters -= len(text)
        if self.characters < 0:
            raise _Fault(f"Its texts have more than {self.limits.characters:,} characters.", code="too_large")
        if not text.isascii() and _SURROGATE.search(text):
            raise _Fault("{place} has half of a character, which cannot be written as UTF-8.")


class _Fault(Exception):
    def __init__(self, what: str, *, hint: str = "", code: str = "invalid_input") -> None:
        super().__init__(what)
        self.what, self.hint, self.code = what, hint, code
        self.place: list[str] = []


# ---------------------------------------------------------------- JSON


def read_json(text: str, where: str = "") -> Any:
    """Return what a JSON text holds. NaN and infinity, which some write, come as floats: see :func:`checked`.

    Raises ``ToolError``: it is no JSON, nested too deep, has a key twice, or a number that is too long.
    """
    at = f"{where}: " if where else ""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if where else f"line {error.lineno}, column {error.colno}"
        _refuse(f"{at}{place}: this is no JSON: {error.msg}.")
    except RecursionError:
        _too_large(f"{at}it is nested too deep.")
    except ValueError as error:
        _refuse(f"{at}{str(error).partition(';')[0]}.")


def read_json_lines(text: str, limits: Limits = LIMITS) -> list[Any]:
    """Return what the lines of a text hold, each of which is JSON; empty lines are left out.

    Raises ``ToolError`` as :func:`read_json`, with the line.
    """
    found: list[Any] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            if len(found) == limits.rows:
                _too_large(f"It has more than {limits.rows:,} lines.")
            found.append(read_json(line, f"line {number}"))
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set[str]()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice!r:.100} stands there twice")
    return found


# ---------------------------------------------------------------- TOML


def read_toml(text: str, limits: Limits = LIMITS) -> dict[str, Any]:
    """Return what a TOML text holds; dates and times as ISO 8601.

    Raises ``ToolError``: it is no TOML, nested too deep, or has a key of very many parts.
    """
    # Its patterns take longer to compile than registering all tools of a group may.
    import tomllib  # noqa: PLC0415

    if len(text) > limits.toml:
        _too_large(f"It has more than {limits.toml:,} characters.")
    if any(line.count(".") > limits.key_parts for line in text.split("\n")):
        _too_large(f"A line has more than {limits.key_parts:,} dots.")
    try:
        return _iso(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        _refuse(f"This is no TOML: {error}.")
    except RecursionError:
        _too_large("It is nested too deep.")
    except ValueError as error:
        _refuse(f"This cannot be read: {str(error).partition(';')[0]}.")


def _iso(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _iso(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_iso(item) for item in cast("list[Any]", value)]
    return value.isoformat() if hasattr(value, "isoformat") else value


# ---------------------------------------------------------------- CSV


def read_csv(text: str, delimiter: str, limits: Limits = LIMITS) -> tuple[list[str], list[list[str]]]:
    """Return the columns of a CSV text with a header, and its rows. Empty lines are left out.

    Raises ``ToolError``: a column has no name or that of another, a row has more or fewer cells than there are columns,
    a quote is not closed, or it is too large.
    """
    lines = _lines(text, delimiter, limits)
    header = next((cells for _, cells in lines if cells), list[str]())
    if len(header) > limits.columns:
        _too_large(f"It has more than {limits.columns:,} columns.")
    for place, name in enumerate(header):
        if not name or name in header[:place]:
            what = f"is called {name!r:.100} as another" if name else "has no name"
            _refuse(f"Column {place + 1} {what}.", hint="The first row has the names of the columns.")
    rows: list[list[str]] = []
    for line, cells in lines:
        if not cells:
            continue
        if len(rows) == limits.rows:
            _too_large(f"It has more than {limits.rows:,} rows.")
        if len(cells) != len(header):
            _refuse(
                f"The row that ends in line {line} has {len(cells)} cells; there are {len(header)} columns.",
                hint="Put what has a delimiter in it in quotes.",
            )
        rows.append(cells)
    return header, rows


def _lines(text: str, delimiter: str, limits: Limits) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(len(cell) > limits.cell for cell in cells):
                _too_large(f"Line {reader.line_num}: a cell has more than {limits.cell:,} characters.")
            yield reader.line_num, cells
    except csv.Error as error:
        _refuse(f"Line {reader.line_num}: this is no CSV: {error}.")


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula begins with; the last four are the wide forms, which some programs take for the same."""


def no_formula(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: behind an apostrophe if it begins like one.

    >>> no_formula("=HYPERLINK(1)"), no_formula("plain"), no_formula("  @SUM(1)")
    ("'=HYPERLINK(1)", 'plain', "'  @SUM(1)")
    """
    return f"'{text}" if text.lstrip(" \n\u00a0\ufeff").startswith(_FORMULA) else text


# ---------------------------------------------------------------- XML


def read_xml(text: str, limits: Limits = LIMITS) -> dict[str, Any]:
    """Return the elements of an XML text: attributes as ``@name``, text as ``#text``, an element that repeats as a list.

    An element that has only text is that text. Namespaces keep their prefixes. Raises ``ToolError``: it is no XML, too deep, too large, or
    declares a document type, which is what entities and everything from outside come by.
    """
    # Nothing but who reads XML needs it.
    from xml.parsers import expat  # noqa: PLC0415

    tree = _Elements(limits)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = tree.start, tree.end
    parser.CharacterDataHandler = tree.text
    parser.StartDoctypeDeclHandler = tree.doctype
    try:
        parser.Parse(text, True)  # as text: whatever encoding it declares
    except expat.ExpatError as error:
        why = expat.ErrorString(error.code)
        _refuse(f"Line {error.lineno}, column {error.offset + 1}: this is no XML: {why}.")
    return tree.root


class _Elements:
    def __init__(self, limits: Limits) -> None:
        self.root: dict[str, Any] = {}
        self.open: list[tuple[dict[str, Any], list[str]]] = [(self.root, [])]
        self.limits = limits

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if len(self.open) > self.limits.depth // 2:
            _too_large(f"It is nested more than {self.limits.depth // 2} deep.")
        self.open.append(({f"@{key}": value for key, value in attributes.items()}, []))

    def end(self, name: str) -> None:
        parts, texts = self.open.pop()
        text = "".join(texts).strip()
        if text and parts:
            parts["#text"] = text
        made = parts or text or None
        above = self.open[-1][0]
        if name not in above:
            above[name] = made
        elif isinstance(before := above[name], list):
            cast("list[Any]", before).append(made)
        else:
            above[name] = [before, made]

    def text(self, text: str) -> None:
        self.open[-1][1].append(text)

    def doctype(self, name: str, *_: Any) -> None:
        _refuse(
            f"It declares a document type ({name:.100}), which could bring entities.",
            hint="Take the <!DOCTYPE …> out of it.",
        )
