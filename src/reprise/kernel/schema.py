"""JSON schemas: of a declared type, and whether a value fits one, where the type itself is not at hand.

Known is what :func:`schema_of` writes, which is what msgspec writes of types. What a schema does not say is not checked:
whoever has the type has the last word.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, cast

import msgspec

from reprise.kernel.codec import is_pydantic
from reprise.kernel.errors import CodecError
from reprise.kernel.shape import type_name

_DEPTH = 100
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}

_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": (">=", operator.ge),
    "maximum": ("<=", operator.le),
    "exclusiveMinimum": (">", operator.gt),
    "exclusiveMaximum": ("<", operator.lt),
}


def schema_of(type: Any) -> dict[str, Any]:
    """Return the JSON schema of a type; ``{}``, which everything fits, where nothing is declared.

    Raises ``CodecError`` for a type that cannot be read whatever the data.

    >>> schema_of(list[int])
    {'type': 'array', 'items': {'type': 'integer'}}
    """
    try:
        return msgspec.json.schema(type, schema_hook=_hook)
    except TypeError as error:
        raise CodecError(f"{type_name(type)} has no JSON schema: {error}.") from error


def _hook(cls: type[Any]) -> dict[str, Any]:
    if issubclass(cls, PurePath):
        return {"type": "string"}
    return cast("Any", cls).model_json_schema() if is_pydantic(cls) else {}


def misfits(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Return in words what of a JSON value does not fit a schema, each with its place; empty = it fits.

    >>> form = {"type": "object", "properties": {"ok": {"type": "boolean"}, "why": {"type": "string"}}, "required": ["ok"]}
    >>> misfits({"ok": "yes"}, form), misfits({"why": "late"}, form), misfits({"ok": True}, form)
    (['$.ok: "yes" is no boolean'], ['$: ok is missing'], [])
    """
    return list(_misfits(value, schema, "$", schema.get("$defs", {}), 0))


def _misfits(value: Any, schema: Any, at: str, known: Mapping[str, Any], depth: int) -> Iterator[str]:
    if not isinstance(schema, dict) or depth > _DEPTH:
        return
    parts = cast("dict[str, Any]", schema)
    below = depth + 1
    if reference := parts.get("$ref"):
        yield from _misfits(value, known.get(str(reference).rpartition("/")[2]), at, known, below)
    if "const" in parts and not _same(value, parts["const"]):
        yield f"{at}: {_say(value)} is not {_say(parts['const'])}"
    if "enum" in parts and not any(_same(value, one) for one in parts["enum"]):
        yield f"{at}: {_say(value)} is none of {', '.join(map(_say, parts['enum']))}"
    for name in ("anyOf", "oneOf"):
        if options := parts.get(name):
            tries = [list(_misfits(value, one, at, known, below)) for one in options]
            if all(tries):
                yield min(tries, key=lambda found: (-max(map(len, found)), len(found)))[0]
    if "type" in parts and not _is_of(value, parts["type"]):
        yield f"{at}: {_say(value)} is no {_kinds(parts['type'])}"
    elif isinstance(value, dict):
        yield from _object(cast("dict[str, Any]", value), parts, at, known, below)
    elif isinstance(value, list):
        yield from _array(cast("list[Any]", value), parts, at, known, below)
    else:
        yield from _scalar(value, parts, at)


def _object(
    value: dict[str, Any], schema: dict[str, Any], at: str, known: Mapping[str, Any], depth: int
) -> Iterator[str]:
    properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    if missing := [name for name in schema.get("required", ()) if name not in value]:
        yield f"{at}: {', '.join(missing)} is missing"
    for name, item in value.items():
        if name in properties:
            yield from _misfits(item, properties[name], f"{at}.{name}", known, depth)
        elif more is False:
            names = ", ".join(properties) or "nothing"
            yield f"{at}: there is no {name!r} (known: {names})"
        else:
            yield from _misfits(item, more, f"{at}.{name}", known, depth)


def _array(
    value: list[Any], schema: dict[str, Any], at: str, known: Mapping[str, Any], depth: int
) -> Iterator[str]:
    first, rest = schema.get("prefixItems", []), schema.get("items", True)
    if len(value) < schema.get("minItems", 0) or len(value) > schema.get("maxItems", len(value)):
        yield f"{at}: {len(value)} items are too {'few' if len(value) < schema.get('minItems', 0) else 'many'}"
    for place, item in enumerate(value):
        yield from _misfits(
            item, first[place] if place < len(first) else rest, f"{at}[{place}]", known, depth
        )


def _scalar(value: Any, schema: dict[str, Any], at: str) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            yield f"{at}: {_say(value)} is shorter than {schema['minLength']} characters"
        if len(value) > schema.get("maxLength", len(value)):
            yield f"{at}: {_say(value)} is longer than {schema['maxLength']} characters"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{at}: {_say(value)} does not match {schema['pattern']}"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        for name, (sign, fits) in _BOUNDS.items():
            if name in schema and not fits(value, schema[name]):
                yield f"{at}: {_say(value)} is not {sign} {_say(schema[name])}"


def _is_of(value: Any, kinds: Any) -> bool:
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if isinstance(value, bool):
            if kind == "boolean":
                return True
        elif isinstance(value, _TYPES.get(kind, (object,))):
            return True
    return False


def _same(value: Any, other: Any) -> bool:
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _kinds(kinds: Any) -> str:
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def _say(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:59] + "…"
