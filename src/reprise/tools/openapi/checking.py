"""Whether values fit schemas that somebody else wrote.

The validator is ``jsonschema``, with three differences: nothing is ever fetched, a pattern is given up that takes long, and
so is a schema that takes long to check, or never ends.

Patterns are matched by ``regex`` with a time limit: of the 3,514 in public specifications it reads all but 4, and RE2, which
needs no limit, all but 246, those that look around or repeat more than 1,000 times.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple, cast

from reprise.kernel.errors import nearest
from reprise.tools.extras import library
from reprise.tools.guards.patterns import is_too_large
from reprise.tools.guards.schemas import (
    bounded,
    comparing,
    keywords_of,
    unchecked,
    validator_of,
    without_dialects,
)

_PATIENCE = 0.1
"""Seconds for one pattern on one text."""
_COST = 500_000
"""Rules that one check tries at most: some seconds at worst; 15,000 objects of ten values are within it."""
_LONGEST = 200
_MISSING = re.compile(r"^'(.*)' is a required property$", re.DOTALL)


class Misfit(NamedTuple):
    """What of a value does not fit."""

    what: str
    field: str
    """Its place, such as ``$.body.name``."""
    hint: str = ""


class _TooMuch(Exception):
    """A check does not end."""


class Checker:
    """Checks values against one schema, which stands by itself."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._validator: Any = None

    def check(self, value: Any) -> tuple[Misfit | None, str]:
        """Return what does not fit, None when all does; and why it could not be told, '' when it could."""
        best_match = _best_match()
        _COUNT.left = _COST
        try:
            if self._validator is None:
                self._validator = _validator(self._schema)
            found = best_match(self._validator.iter_errors(value))
        except (_TooMuch, RecursionError):
            return None, "its schema has no end, or takes too long to check"
        except Exception as error:  # noqa: BLE001 - a schema of others; the value is let pass, and that is said
            return None, f"its schema cannot be used ({type(error).__name__}: {error})"
        return (None if found is None else _misfit(found)), ""


class _Count(threading.local):
    """What is left of the check that goes on; checks do not wait, so there is one at a time in a thread."""

    left = 0


_COUNT = _Count()


def _spend(cost: int) -> None:
    _COUNT.left -= cost
    if _COUNT.left < 0:
        raise _TooMuch


def _validator(schema: Mapping[str, Any]) -> Any:
    plain = without_dialects(schema)
    # Which names are left over the library tells by patterns that it matches itself, without a limit of time.
    leaves_over = "patternProperties" not in keywords_of(plain)
    return validator_of(_class(leaves_over), plain, library("referencing", "openapi").Registry())


@cache
def _best_match() -> Any:
    """Return what chooses the error to tell: a name that is not known goes before one that is missing."""
    of: Any = library("jsonschema.exceptions", "openapi")
    return partial(of.best_match, key=of.by_relevance(strong=frozenset({"additionalProperties"})))


@cache
def _class(leaves_over: bool) -> Any:
    """Return the validator's class; ``leaves_over`` = it checks what no other rule has looked at."""
    jsonschema = library("jsonschema", "openapi")
    base: Any = jsonschema.Draft202012Validator
    additional = base.VALIDATORS["additionalProperties"]

    def others(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        known = schema.get("patternProperties")
        if known and isinstance(instance, dict):
            items = cast("dict[str, Any]", instance).items()
            instance = {
                name: value for name, value in items if all(matches(each, name) is False for each in known)
            }
            schema = {**schema, "patternProperties": {}}
        yield from additional(validator, wanted, instance, schema)

    def pattern(validator: Any, wanted: str, instance: Any, schema: Any) -> Iterator[Any]:
        if isinstance(instance, str) and matches(wanted, instance) is False:
            yield jsonschema.ValidationError(f"{instance!r} does not match {wanted!r}")

    def patterns(validator: Any, wanted: Mapping[str, Any], instance: Any, schema: Any) -> Iterator[Any]:
        if not isinstance(instance, dict):
            return
        for each, inner in wanted.items():
            for name, value in instance.items():  # pyright: ignore[reportUnknownVariableType]
                if matches(each, name):  # pyright: ignore[reportUnknownArgumentType]
                    yield from validator.descend(value, inner, path=name, schema_path=each)

    kinds = base.TYPE_CHECKER.redefine(
        "integer",
        lambda checker, value: isinstance(value, int) and not isinstance(value, bool),  # pyright: ignore[reportUnknownLambdaType]
    )
    rules = {
        **base.VALIDATORS,
        **comparing(jsonschema.ValidationError, _spend),
        "additionalProperties": others,
        "pattern": pattern,
        "patternProperties": patterns,
    }
    if not leaves_over:
        rules |= dict.fromkeys(("unevaluatedProperties", "unevaluatedItems"), unchecked)
    paid = {name: _errors_paid(rule) for name, rule in bounded(rules, _spend).items()}
    return jsonschema.validators.extend(base, paid, type_checker=kinds)


def _errors_paid(rule: Any) -> Any:
    """Return a rule whose errors are paid for: each says all that it is about."""

    def paid(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        for error in rule(validator, value, instance, schema) or ():
            _spend(10 + len(error.message) // 100)
            yield error

    return paid


def matches(pattern: str, text: str) -> bool | None:
    """Tell whether a text matches; None when the pattern is none, or takes too long."""
    compiled = None if pattern in _GIVEN_UP else _compiled(pattern)
    if compiled is None:
        return None
    try:
        return compiled.search(text, timeout=_PATIENCE) is not None
    except TimeoutError:
        _GIVEN_UP.add(pattern)
        return None


_GIVEN_UP = set[str]()
"""Patterns that took too long once: a list of texts would take that each time."""


@lru_cache(1024)
def _compiled(pattern: str) -> Any:
    regex = library("regex", "openapi")
    if is_too_large(pattern):
        return None
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError):
        return None


def _misfit(error: Any) -> Misfit:
    place = "$" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path
    )
    if error.validator == "required" and (missing := _MISSING.match(error.message)):
        return Misfit(f"{missing[1]} is missing", f"{place}.{missing[1]}")
    if error.validator == "additionalProperties" and error.schema.get("additionalProperties") is False:
        known = list(error.schema.get("properties", ()))
        unknown = next((name for name in error.instance if name not in known), "")
        near = nearest(unknown, known)
        hint = f"Did you mean {near!r}?" if near else f"It takes {', '.join(known[:20]) or 'nothing'}."
        return Misfit(f"There is no argument {unknown!r}", f"{place}.{unknown}", hint)
    text = str(error.message)
    return Misfit(
        text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}", place
    )
