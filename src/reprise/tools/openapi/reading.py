"""Text of a specification to plain values: JSON, or YAML as its core schema has it, which is JSON's.

Nothing that a text says is ever called. What YAML repeats by reference is shared, not copied, and counted as often as it
stands there; what holds itself is refused.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, cast

import msgspec

from reprise.kernel.errors import ConfigurationError
from reprise.tools.library.extras import library

Format = Literal["json", "yaml"]
MOST_BYTES = 64 << 20
"""Bytes of a document: the largest in public use has 47 MB."""
MOST_VALUES = 20_000_000
"""Values of a YAML document, each counted wherever it stands."""
MOST_DEPTH = 200
_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    "merge": (r"<<", "<"),
}


class SpecInvalid(ConfigurationError):
    """A specification, or a part of it, cannot be made into tools."""


def read_text(text: str | bytes, format: Format | None = None, source: str = "the specification") -> Any:
    """Return what a document holds; without a format, one that begins with ``{`` or ``[`` is JSON, if it can be.

    Raises ``ConfigurationError`` for what cannot be read; says where. ``MissingExtra`` for YAML without PyYAML.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > MOST_BYTES:
        raise SpecInvalid(f"{source} has {len(data):,} bytes; {MOST_BYTES:,} are read at most.")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if format not in (None, "json", "yaml"):
        raise ConfigurationError(f"format={format!r}", hint="Give 'json' or 'yaml', or leave it out.")
    if format == "yaml":
        return _read_yaml(data, source)
    if format == "json" or data.lstrip()[:1] in (b"{", b"["):
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if format == "json":
                raise SpecInvalid(f"{source} is no JSON: {error}.") from None
        except RecursionError:
            raise SpecInvalid(f"{source} is nested too deeply.") from None
    return _read_yaml(data, source)


@cache
def _yaml() -> tuple[Any, Any]:
    """Return the package, and a loader that takes scalars for what JSON does."""
    package = library("yaml", "openapi")
    loader: Any = type(
        "Loader", (getattr(package, "CSafeLoader", package.SafeLoader),), {"yaml_implicit_resolvers": {}}
    )
    for name, (pattern, begins) in _SCALARS.items():
        firsts = ["" if each == "\0" else each for each in begins]
        loader.add_implicit_resolver(_TAG + name, re.compile(f"^(?:{pattern})$"), firsts)
    return package, loader


def _read_yaml(data: bytes, source: str) -> Any:
    package, loader = _yaml()
    try:
        node = package.compose(data, Loader=loader)
    except (package.YAMLError, UnicodeDecodeError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark is not None else ""
        raise SpecInvalid(f"{source} is no YAML{at}: {getattr(error, 'problem', None) or error}.") from None
    except RecursionError:
        raise SpecInvalid(f"{source} is nested too deeply.") from None
    if node is None:
        raise SpecInvalid(f"{source} is empty.")
    return _Nodes(source).read(node, 0)[0]


class _Nodes:
    """Turns the nodes of a YAML document into values. A node that stands in several places is one value."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._made: dict[int, tuple[Any, int]] = {}
        self._above: set[int] = set()

    def read(self, node: Any, depth: int) -> tuple[Any, int]:
        """Return a node's value, and how many values it holds."""
        made = self._made.get(id(node))
        if made is not None:
            return made
        if node.id == "scalar":
            made = (self._scalar(node), 1)
        else:
            if id(node) in self._above or depth > MOST_DEPTH:
                what = "holds itself" if id(node) in self._above else "is nested too deeply"
                raise self._refused(node, f"this {what}")
            self._above.add(id(node))
            made = self._sequence(node, depth) if node.id == "sequence" else self._mapping(node, depth)
            self._above.discard(id(node))
        if made[1] > MOST_VALUES:
            raise self._refused(node, f"this has more than {MOST_VALUES:,} values")
        self._made[id(node)] = made
        return made

    def _sequence(self, node: Any, depth: int) -> tuple[list[Any], int]:
        read = [self.read(item, depth + 1) for item in node.value]
        return [value for value, _ in read], sum(count for _, count in read) + 1

    def _mapping(self, node: Any, depth: int) -> tuple[dict[str, Any], int]:
        value: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        total = 1
        for key, item in node.value:
            read, count = self.read(item, depth + 1)
            total += count
            if key.tag == f"{_TAG}merge":
                for each in cast("list[Any]", read if isinstance(read, list) else [read]):
                    merged = {**each, **merged} if isinstance(each, dict) else merged
            elif key.id == "scalar":
                value[key.value] = read
            else:
                raise self._refused(key, "a key is no text")
        return ({**merged, **value} if merged else value), total

    def _scalar(self, node: Any) -> Any:
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) < 400 else text
            case "float":
                return float(text) if text.lstrip("+-")[:1] != "" else text
            case _:
                return text

    def _refused(self, node: Any, what: str) -> SpecInvalid:
        return SpecInvalid(f"{self._source}, line {node.start_mark.line + 1}: {what}.")


@contextmanager
def uncollected() -> Generator[None]:
    """Let no garbage be looked for while very many objects are made, all of which stay."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
