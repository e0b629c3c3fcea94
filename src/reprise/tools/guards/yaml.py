"""YAML read from the events of its parser: nothing is called, nothing grows by being referred to, no stack is used up.

Plain scalars are what YAML 1.2's core schema takes them for, which is JSON's: ``yes``, ``12:30`` and ``2024-01-01`` are
texts. Keys are the texts that stand there. ``<<`` merges, as most readers of YAML still have it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn, cast

from reprise.kernel.errors import ToolError
from reprise.tools.guards.documents import LIMITS, Limits

_TAG = "tag:yaml.org,2002:"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
SCALARS = {
    "int": re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"),
    "float": re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"),
}
"""What plain scalars are numbers."""
_OWN_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map"))
_MERGE = object()
"""Stands for the key ``<<``."""


def read_yaml(package: Any, text: str, limits: Limits = LIMITS) -> Any:
    """Return what the one document of a YAML text holds, as PyYAML (``package``) parses it; infinity and NaN come as floats.

    Raises ``ToolError``, with the line: it is no YAML, has a tag of its own, a key twice or one that is no scalar, holds
    itself, is nested too deep, or is too large with all that it refers to.
    """
    reader = _Reader(limits)
    try:
        for event in package.parse(text, Loader=getattr(package, "CSafeLoader", package.SafeLoader)):
            reader.take(event)
    except package.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        at = f"Line {mark.line + 1}, column {mark.column + 1}: t" if mark is not None else "T"
        why = " ".join(filter(None, (getattr(error, name, None) for name in ("context", "problem"))))
        raise ToolError("invalid_input", f"{at}his is no YAML: {why or error}.", field="$.content") from None
    return reader.document


class _Open:
    """A list or an object whose end has not come."""

    __slots__ = ("anchor", "key", "merged", "value", "weight")

    def __init__(self, value: dict[str, Any] | list[Any], anchor: str | None) -> None:
        self.value, self.anchor = value, anchor
        self.key: Any = None
        self.merged: list[Any] = []
        self.weight: tuple[int, int] = (1, 0)


class _Reader:
    """Takes events, has the document. A value's weight is how many values and characters it stands for."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.document: Any = None
        self.documents = 0
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Any, tuple[int, int]] | None] = {}
        self.line = 0

    def take(self, event: Any) -> None:
        self.line = event.start_mark.line + 1
        handle = _HANDLERS.get(type(event).__name__)
        if handle is not None:
            handle(self, event)

    def started(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            self.refuse("a second document begins", hint="Give one document at a time.")

    def sequence(self, event: Any) -> None:
        self._begin(event, [])

    def mapping(self, event: Any) -> None:
        self._begin(event, {})

    def _begin(self, event: Any, value: dict[str, Any] | list[Any]) -> None:
        self._check_tag(event)
        self._check_key()
        if len(self.open) >= self.limits.depth:
            self.refuse(f"it is nested more than {self.limits.depth} deep", code="too_large")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.open.append(_Open(value, event.anchor))

    def ended(self, _: Any) -> None:
        done = self.open.pop()
        if isinstance(done.value, dict):
            for source in done.merged:
                for key, item in source.items():
                    done.value.setdefault(key, item)
        self._place(done.value, done.weight, done.anchor)

    def scalar(self, event: Any) -> None:
        self._check_tag(event)
        text: str = event.value
        weight = (1, len(text))
        above = self.open[-1] if self.open else None
        if above is not None and isinstance(above.value, dict) and above.key is None:
            if event.anchor is not None:
                self.anchors[event.anchor] = (text, weight)
            self._key(above, text, plain=event.implicit[0])
        else:
            value = self._plain(text) if event.implicit[0] else self._tagged(event)
            self._place(value, weight, event.anchor)

    def alias(self, event: Any) -> None:
        known = self.anchors.get(event.anchor, ())
        if known is None:
            self.refuse(f"*{event.anchor:.100} holds itself")
        if known == ():
            self.refuse(f"there is no &{event.anchor:.100} before it")
        value, weight = cast("tuple[Any, tuple[int, int]]", known)
        above = self.open[-1] if self.open else None
        if above is not None and isinstance(above.value, dict) and above.key is None:
            if not isinstance(value, str):
                self._check_key()
            self._key(above, value, plain=False)
        else:
            self._place(value, weight, None)

    def _key(self, above: _Open, text: str, *, plain: bool) -> None:
        if plain and text == "<<":
            above.key = _MERGE
            return
        if text in above.value:
            self.refuse(f"the key {text!r:.100} stands there twice")
        above.key = text
        self._weigh(above, (0, len(text)))

    def _place(self, value: Any, weight: tuple[int, int], anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = (value, weight)
        if not self.open:
            self.document = value
            return
        above = self.open[-1]
        self._weigh(above, weight)
        if isinstance(above.value, list):
            above.value.append(value)
        elif above.key is _MERGE:
            self._merge(above, value)
            above.key = None
        else:
            above.value[above.key] = value
            above.key = None

    def _merge(self, above: _Open, value: Any) -> None:
        sources = cast("list[Any]", value if isinstance(value, list) else [value])
        if not all(isinstance(each, dict) for each in sources):
            self.refuse("<< merges objects, and this is none")
        above.merged += sources

    def _weigh(self, above: _Open, weight: tuple[int, int]) -> None:
        values, characters = above.weight[0] + weight[0], above.weight[1] + weight[1]
        if values > self.limits.values:
            self.refuse(
                f"with all it refers to it has more than {self.limits.values:,} values", code="too_large"
            )
        if characters > self.limits.characters:
            what = f"with all it refers to it has more than {self.limits.characters:,} characters"
            self.refuse(what, code="too_large")
        above.weight = (values, characters)

    def _check_key(self) -> None:
        above = self.open[-1] if self.open else None
        if above is not None and isinstance(above.value, dict) and above.key is None:
            self.refuse("a key is a list or an object", hint="Keys are texts.")

    def _check_tag(self, event: Any) -> None:
        if event.tag is not None and event.tag not in _OWN_TAGS and event.tag != "!":
            self.refuse(f"the tag {event.tag!r:.100} is not known", hint="Only those of JSON's values are.")

    def _plain(self, text: str) -> Any:
        """Return what a plain scalar is taken for."""
        if text in _NULL:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if SCALARS["int"].match(text):
            return self._int(text)
        if SCALARS["float"].match(text):
            return float(text)
        if _NOT_FINITE.fullmatch(text):
            return float(text.replace(".", ""))
        return text

    def _int(self, text: str) -> int:
        try:
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        except ValueError:
            self.refuse(f"a number has {len(text):,} digits")

    def _tagged(self, event: Any) -> Any:
        """Return what a scalar in quotes, or with a tag, is."""
        kind = str(event.tag or "!").removeprefix(_TAG)
        if kind in ("!", "str"):
            return event.value
        value = self._plain(event.value)
        wanted: tuple[type, ...] = {"int": (int,), "float": (float, int), "bool": (bool,)}.get(
            kind, (type(None),)
        )
        if type(value) not in wanted:
            self.refuse(f"{event.value!r:.100} is no {kind}")
        return float(value) if kind == "float" else value

    def refuse(self, what: str, *, hint: str = "", code: str = "invalid_input") -> NoReturn:
        raise ToolError(code, f"Line {self.line}: {what}.", hint=hint, field="$.content")


_HANDLERS: dict[str, Callable[[_Reader, Any], None]] = {
    "DocumentStartEvent": _Reader.started,
    "SequenceStartEvent": _Reader.sequence,
    "MappingStartEvent": _Reader.mapping,
    "SequenceEndEvent": _Reader.ended,
    "MappingEndEvent": _Reader.ended,
    "ScalarEvent": _Reader.scalar,
    "AliasEvent": _Reader.alias,
}
