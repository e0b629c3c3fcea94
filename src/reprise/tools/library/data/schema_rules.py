"""The rules of JSON Schema as a library has them, each paid for; and our own in place of those that nobody can stop.

The library takes patterns to an engine that goes back and back, compares each item with each, says in each error all that
there is, and goes over to other rules at a ``$schema``. Here patterns have a time, items a key, errors a length, and nothing has a ``$schema``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, lru_cache
from time import perf_counter
from typing import Any, NamedTuple, TypedDict, cast

from reprise.kernel.errors import ToolError, nearest
from reprise.tools.extras import library
from reprise.tools.guards.patterns import is_too_large
from reprise.tools.guards.schemas import bounded, comparing, validator_of
from reprise.tools.library.data.formats import FORMATS

COST = 500_000
"""Rules that are tried at most; what they say in errors counts by its length."""
SECONDS = 2.0
"""For all regular expressions of a call."""
_PATTERN = 2_000
"""Characters of a regular expression."""
_SHOWN = 200
"""Characters of a message."""
_DIALECTS = {
    "2020-12": "Draft202012Validator",
    "2019-09": "Draft201909Validator",
    "draft-07": "Draft7Validator",
}


class Fault(TypedDict):
    """What of the data does not fit, where, and by which rule of the schema."""

    path: str
    message: str
    rule: str


def fault_of(error: Any) -> Fault:
    """Return an error of the library as it is told."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    rule = ".".join(str(part) for part in error.absolute_schema_path)
    return {"path": f"${path}", "message": _short(error.message), "rule": rule[-_SHOWN:]}


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 + 3 :]}"


# ---------------------------------------------------------------- what a call may cost


class Account:
    """What is left of a call."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.left = COST
        self.seconds = SECONDS
        self.formats = set[str]()
        """Those that the schema names and nobody checks."""

    def spend(self, cost: int) -> None:
        """Pay for something. Raises ``ToolError`` where nothing is left."""
        self.left -= cost
        if self.left < 0:
            raise ToolError(
                "too_large",
                "The schema asks for too much.",
                hint="Validate less at a time.",
                field="$.schema",
            )

    def found(self, pattern: Any, text: str) -> bool:
        """Tell whether a regular expression is found in a text, within the time."""
        if not isinstance(pattern, str) or len(pattern) > _PATTERN:
            raise ToolError(
                "too_large", f"A pattern has more than {_PATTERN:,} characters.", field="$.schema"
            )
        if is_too_large(pattern):
            raise ToolError(
                "too_large",
                f"{pattern!r:.200} is too large a pattern.",
                hint="Take fewer and smaller {counts}, and none in each other.",
                field="$.schema",
            )
        began = perf_counter()
        try:
            found = self.rules.pattern(pattern).search(text, timeout=max(self.seconds, 0.001))
        except TimeoutError:
            found, self.seconds = None, -1.0
        except self.rules.unreadable as error:
            raise ToolError(
                "invalid_input", f"{pattern!r:.200} is no regular expression: {error}.", field="$.schema"
            ) from None
        self.seconds -= perf_counter() - began
        if self.seconds < 0:
            raise ToolError(
                "too_large",
                f"The regular expressions of the schema take more than {SECONDS:g} s, such as {pattern!r:.200}.",
                field="$.schema",
            )
        return found is not None


ACCOUNT: ContextVar[Account] = ContextVar("account of a validation")


# ---------------------------------------------------------------- the rules

_Rule = Callable[[Any, Any, Any, Any], Any]


class Rules(NamedTuple):
    """The library's rules by dialect, each paid for."""

    classes: dict[str, Any]
    meta: dict[str, Any]
    registry: Any
    unresolvable: type[Exception]
    unreadable: type[Exception]
    pattern: Callable[[str], Any]

    @staticmethod
    @cache
    def load() -> Rules:
        """Load the libraries. Raises ``MissingExtra``."""
        validators: Any = library("jsonschema.validators", "data")
        exceptions: Any = library("jsonschema.exceptions", "data")
        regex: Any = library("regex", "data")
        own = {**_own(exceptions.ValidationError), **comparing(exceptions.ValidationError, _spend)}
        classes: dict[str, Any] = {}
        for dialect, name in _DIALECTS.items():
            base: Any = getattr(validators, name)
            rules = bounded({**base.VALIDATORS, **own}, _spend)
            classes[dialect] = validators.extend(
                base, {key: _short_errors(rule) for key, rule in rules.items()}
            )

        @lru_cache(512)
        def pattern(text: str) -> Any:
            # \\d, \\w and \\b are of ASCII in schemas, \\p{…} are not.
            return regex.compile(_to_the_end(text), 0 if r"\p" in text.lower() else regex.ASCII)

        return Rules(
            classes,
            {dialect: _without_dialect(kind.META_SCHEMA) for dialect, kind in classes.items()},
            _meta_schemas(),
            library("referencing.exceptions", "data").Unresolvable,
            regex.error,
            pattern,
        )

    def validator(self, schema: Any, dialect: str) -> Any:
        """Return what validates by a schema. Raises ``ToolError``: it is none."""
        kind = self.classes[dialect]
        for error in kind(self.meta[dialect], registry=self.registry).iter_errors(schema):
            where = fault_of(error)
            raise ToolError(
                "invalid_input",
                f"This is no JSON Schema: {where['path']}: {where['message']}.",
                field=where["path"].replace("$", "$.schema", 1),
            )
        ACCOUNT.get().formats.clear()
        return validator_of(kind, schema, self.registry)


def _meta_schemas() -> Any:
    """Return the schemas of schemas without their ``$schema``: at one the library would go over to its own rules."""
    referencing: Any = library("referencing", "data")
    dialects: Any = library("referencing.jsonschema", "data")
    known: Any = library("jsonschema_specifications", "data").REGISTRY
    return referencing.Registry().with_resources(
        (uri, referencing.Resource(_without_dialect(contents), dialects.specification_with(contents["$schema"])))
        for uri in known
        for contents in [known.contents(uri)]
        if "$schema" in contents
    ).crawl()  # fmt: skip


def _without_dialect(schema: Any) -> Any:
    return {key: value for key, value in schema.items() if key != "$schema"}


def _spend(cost: int) -> None:
    ACCOUNT.get().spend(cost)


def _short_errors(rule: _Rule) -> _Rule:
    """Return a rule whose errors are paid for by their length, and then keep it short."""

    def short(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        for error in rule(validator, value, instance, schema) or ():
            _spend(1 + len(error.message) // 500)
            error.message = _short(error.message)
            yield error

    return short


def _own(fault: Callable[[str], Any]) -> dict[str, _Rule]:
    """Return the rules that the library leaves to backtracking, or to what is installed."""

    def pattern(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if isinstance(instance, str) and not ACCOUNT.get().found(value, instance):
            yield fault(f"{_short(instance)!r} does not match {value!r}")

    def pattern_properties(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if isinstance(instance, dict):
            for text, under in value.items():
                for name, item in cast("dict[str, Any]", instance).items():
                    ACCOUNT.get().spend(1)
                    if ACCOUNT.get().found(text, name):
                        yield from validator.descend(item, under, path=name, schema_path=text)

    def additional_properties(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if not isinstance(instance, dict):
            return
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for name, item in cast("dict[str, Any]", instance).items():
            if name in known or any(ACCOUNT.get().found(text, name) for text in patterns):
                continue
            if value is False:
                near = nearest(name, [each for each in known if each not in instance][:100])
                yield fault(f"there is no {name!r:.100}" + (f"; did you mean {near!r:.60}?" if near else ""))
            else:
                yield from validator.descend(item, value, path=name)

    def check_format(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if value not in FORMATS:
            ACCOUNT.get().formats.add(str(value))
        elif isinstance(instance, str) and not FORMATS[value](instance):
            yield fault(f"{_short(instance)!r} is no {value}")

    return {
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "additionalProperties": additional_properties,
        "format": check_format,
    }


def _to_the_end(pattern: str) -> str:
    r"""Return a pattern whose ``$`` is the end of the text, as schemas mean it, and not also before a last line feed.

    >>> _to_the_end(r"^a[$]\$$")
    '^a[$]\\$\\Z'
    """
    return _END.sub(lambda found: r"\Z" if found[0] == "$" else found[0], pattern)


_END = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\$", re.DOTALL)
