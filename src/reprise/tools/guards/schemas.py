"""JSON Schemas that others wrote, for the library that checks by them: no more work than was agreed to.

Alone the library compares each item with each (``uniqueItems``) and each alternative with each item (``enum``), looks all of a
schema through at each reference by name, and goes over to rules that nobody has bounded at a ``$schema``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from reprise.kernel.errors import ToolError

Rule = Callable[[Any, Any, Any, Any], Any]
Spend = Callable[[int], None]
"""Called with the cost of what is done next; raises where it is too much."""
REFERENCE = 10
"""What following a reference costs; another rule costs 1."""
_DESCENDS = frozenset(
    "items prefixItems additionalItems contains additionalProperties patternProperties propertyNames unevaluatedItems "
    "unevaluatedProperties".split()
)
"""Rules that go into each part of what they check, even where nothing is to be checked in it."""
_LOOKS = frozenset("required dependentRequired dependentSchemas dependencies".split())
"""Rules that look for names."""
_PARTS, _NAMES = 2, 32
"""Parts that cost what a rule costs, and names."""
_VALUES = 8
"""Values which cost that when they are compared."""
_DEEPEST = 100


def bounded(rules: Mapping[str, Rule], spend: Spend) -> dict[str, Rule]:
    """Return the rules of the library so that each is paid for before it is tried."""
    return {name: _paid(name, rule, spend) for name, rule in rules.items()}


def _paid(name: str, rule: Rule, spend: Spend) -> Rule:
    cost = REFERENCE if name in ("$ref", "$dynamicRef", "$recursiveRef") else 1

    def paid(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        spend(cost)
        return rule(validator, value, instance, schema)

    def paid_by_parts(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        spend(1 + _parts(instance) // _PARTS)
        return rule(validator, value, instance, schema)

    def paid_by_names(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        spend(
            1
            + (
                min(_parts(value), _parts(instance)) // _PARTS
                if name == "properties"
                else _parts(value) // _NAMES
            )
        )
        return rule(validator, value, instance, schema)

    if name in _DESCENDS:
        return paid_by_parts
    return paid_by_names if name in _LOOKS or name == "properties" else paid


def _parts(value: Any) -> int:
    return len(cast("list[Any]", value)) if isinstance(value, list | dict) else 0


def comparing(fault: Callable[[str], Any], spend: Spend) -> dict[str, Rule]:
    """Return rules in place of those that compare each with each; ``fault`` makes an error of what to say."""

    def unique_items(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if not value or not isinstance(instance, list):
            return
        spend(size_of(instance) // _VALUES)
        seen: dict[Any, int] = {}
        for at, item in enumerate(cast("list[Any]", instance)):
            first = seen.setdefault(key_of(item), at)
            if first != at:
                yield fault(f"items {first} and {at} are equal")
                return

    def enum(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        spend((size_of(value) + size_of(instance)) // _VALUES)
        wanted = key_of(instance)
        if all(key_of(each) != wanted for each in value):
            yield fault(f"{instance!r} is not one of {value!r}")

    def const(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        spend((size_of(value) + size_of(instance)) // _VALUES)
        if key_of(value) != key_of(instance):
            yield fault(f"{value!r} was expected")

    return {"uniqueItems": unique_items, "enum": enum, "const": const}


def unchecked(validator: Any, value: Any, instance: Any, schema: Any) -> None:
    """Let all pass."""


def validator_of(kind: Any, schema: Any, registry: Any) -> Any:
    """Return what checks by a schema, whose names and anchors were looked for once and not at each reference."""
    made = kind(schema, registry=registry)
    resolver = made._resolver
    base, known = resolver._base_uri, resolver._registry.crawl()
    return made.evolve(_resolver=known.resolver(base))


def without_dialects(schema: Any) -> Any:
    """Return a schema without any ``$schema``: at one the library goes over to rules of its own."""
    if isinstance(schema, dict):
        items = cast("dict[str, Any]", schema).items()
        return {
            key: without_dialects(value)
            for key, value in items
            if key != "$schema" or not isinstance(value, str)
        }
    if isinstance(schema, list):
        return [without_dialects(each) for each in cast("list[Any]", schema)]
    return schema


def keywords_of(schema: Any) -> set[str]:
    """Return all keys that stand anywhere in a schema."""
    found, waiting = set[str](), [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            found |= cast("dict[str, Any]", each).keys()
            waiting += cast("dict[str, Any]", each).values()
        elif isinstance(each, list):
            waiting += cast("list[Any]", each)
    return found


def size_of(value: Any) -> int:
    """Return how many values a value holds; 64 characters of a text count as one."""
    count, waiting = 0, [value]
    while waiting:
        each = waiting.pop()
        count += 1
        if isinstance(each, str):
            count += len(each) >> 6
        elif isinstance(each, dict):
            waiting += cast("dict[str, Any]", each).values()
        elif isinstance(each, list):
            waiting += cast("list[Any]", each)
    return count


def key_of(value: Any) -> Any:
    """Return what is the same for values that are equal as JSON, and can be a key.

    >>> key_of(1) == key_of(1.0), key_of(1) == key_of(True), key_of([1, {"a": 2}]) == key_of([1.0, {"a": 2.0}])
    (True, False, True)
    """
    return value if type(value) in (str, int, float) or value is None else _key_of(value, 0)


def _key_of(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ToolError("too_large", f"A value is nested more than {_DEEPEST} deep.")
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, list):
        return ("list", *(_key_of(item, depth + 1) for item in cast("list[Any]", value)))
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return ("object", frozenset((key, _key_of(item, depth + 1)) for key, item in items))
    return value
