"""Schemas of OpenAPI as JSON Schema 2020-12 that stands by itself: everything that it refers to is in its ``$defs``.

What is no valid keyword is left out and noted, so that one fault of a specification does not cost the whole operation.
Definitions are translated when first needed, once for requests and once for answers, and stay definitions: what refers to
itself may.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from reprise.tools.openapi.documents import Documents, Json, Target, items, objects
from reprise.tools.openapi.naming import digest
from reprise.tools.openapi.reading import SpecInvalid

FILE: Json = {
    "type": "object",
    "description": "A file: its text, or its bytes as base64.",
    "properties": {
        "text": {"type": "string"},
        "base64": {"type": "string", "contentEncoding": "base64"},
        "filename": {"type": "string", "maxLength": 255},
        "content_type": {
            "type": "string",
            "maxLength": 255,
            "pattern": "^[^/\\s]+/[^/\\s]+",
            "examples": ["text/csv"],
        },
    },
    "oneOf": [{"required": ["text"]}, {"required": ["base64"]}],
    "additionalProperties": False,
}
"""How an argument gives a file."""
_DEPTH = 100
_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_PLACES = re.compile(r"/(?:components/schemas|definitions)/([A-Za-z0-9_.-]{1,80})")
_NEGATED = re.compile(r"\[\^[^\]]*\]")
_REFERENCE = "#/$defs/"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in cast("list[Any]", value))


_SCALARS: dict[str, Callable[[Any], bool]] = {
    "title": lambda value: isinstance(value, str),
    "description": lambda value: isinstance(value, str),
    "format": lambda value: isinstance(value, str),
    "contentEncoding": lambda value: isinstance(value, str),
    "contentMediaType": lambda value: isinstance(value, str),
    "pattern": lambda value: isinstance(value, str),
    "const": lambda value: True,
    "default": lambda value: True,
    "examples": lambda value: isinstance(value, list),
    "enum": lambda value: isinstance(value, list) and bool(cast("list[Any]", value)),
    "multipleOf": lambda value: _is_number(value) and value > 0,
    **dict.fromkeys(("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum"), _is_number),
    **dict.fromkeys(("maxLength", "minLength", "maxItems", "minItems"), _is_count),
    **dict.fromkeys(("maxProperties", "minProperties", "maxContains", "minContains"), _is_count),
    "uniqueItems": lambda value: isinstance(value, bool),
    "required": _is_names,
    "dependentRequired": lambda value: (
        isinstance(value, dict) and all(_is_names(each) for each in cast("Json", value).values())
    ),
}
"""Keywords that hold no schemas, and what they must be."""
_ONE = "items not if then else contains propertyNames additionalProperties unevaluatedItems unevaluatedProperties".split()
_SEVERAL = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "dependentSchemas")
_KINDS: dict[type[Any], str] = {
    str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object",
}  # fmt: skip
_BOUNDS = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
_PASSED_OVER = frozenset(
    "discriminator xml externalDocs example nullable readOnly writeOnly deprecated $schema $id $anchor $dynamicAnchor "
    "$comment $vocabulary $defs definitions collectionFormat allowEmptyValue id".split()
)


class _Made:
    """A schema that was translated, the definitions that it refers to, and what was left out of it."""

    __slots__ = ("notes", "refs", "schema")

    def __init__(self) -> None:
        self.schema: Any = {}
        self.refs: dict[str, Target] = {}
        self.notes: list[str] = []


class Schemas:
    """The schemas of a specification, for one direction: what is only read stands in no request, what is only written in no answer."""

    def __init__(self, documents: Documents, *, sent: bool, siblings: bool) -> None:
        self._documents = documents
        self._foreign = "readOnly" if sent else "writeOnly"
        self._siblings = siblings
        """Whether keywords beside ``$ref`` count, as since 3.1."""
        self._made: dict[str, _Made] = {}

    def translate(self, schema: Any, document: str) -> tuple[Any, _Made]:
        """Return a schema whose references lead to ``$defs``; what these are, :meth:`definitions` says."""
        made = _Made()
        made.schema = self._translate(schema, document, made, 0)
        return made.schema, made

    def definitions(self, all: Iterable[_Made]) -> tuple[Json, list[str]]:
        """Return the definitions that translated schemas refer to, directly or not, and notes on all of them."""
        notes: dict[str, None] = {}
        waiting: dict[str, Target] = {}
        for made in all:
            waiting |= made.refs
            notes |= dict.fromkeys(made.notes)
        found: Json = {}
        while waiting:
            name, target = waiting.popitem()
            if name in found:
                continue
            made = self._made.get(name)
            if made is None:
                made = self._made[name] = _Made()
                made.schema = self._translate(target.node, target.document, made, 0)
            found[name] = made.schema
            notes |= dict.fromkeys(f"{name}: {note}" for note in made.notes)
            waiting |= made.refs
        return dict(sorted(found.items())), list(notes)

    def form(self, schema: Any, document: str) -> tuple[Any, frozenset[str], _Made]:
        """Return the schema of a multipart body, in which files are objects (:data:`FILE`), and the names of these."""
        made, files = _Made(), set[str]()
        made.schema = self._form(schema, document, made, files, 0)
        return made.schema, frozenset(files), made

    # ------------------------------------------------------------ translating

    def _translate(self, schema: Any, document: str, made: _Made, depth: int) -> Any:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict) or depth > _DEPTH:
            made.notes.append(
                "A schema is nested too deeply." if depth > _DEPTH else f"{schema!r:.40} is no schema."
            )
            return {}
        given = cast("Json", schema)
        ref = given.get("$ref", given.get("$dynamicRef"))
        if isinstance(ref, str):
            return self._reference(given, ref, document, made, depth)
        return self._keywords(given, document, made, depth)

    def _reference(self, schema: Json, ref: str, document: str, made: _Made, depth: int) -> Any:
        try:
            found = self._documents.find(ref, document)
            self._documents.follow(found.node, found.document)
        except SpecInvalid as error:
            made.notes.append(f"{error} Anything is let pass there.")
            return {}
        name = _name_of(found, self._documents.uri)
        made.refs[name] = found
        reference = {"$ref": _REFERENCE + name}
        if not self._siblings:
            return reference
        rest = {key: value for key, value in schema.items() if key not in ("$ref", "$dynamicRef")}
        return {**self._keywords(rest, document, made, depth), **reference} if rest else reference

    def _keywords(self, schema: Json, document: str, made: _Made, depth: int) -> Json:
        result: Json = {}
        bounds = _exclusive(schema)
        for key, value in schema.items() if bounds is None else bounds.items():
            if (check := _SCALARS.get(key)) is not None:
                if check(value):
                    result[key] = value
                else:
                    made.notes.append(f"{key} is {value!r:.40}, which it cannot be; left out.")
            elif key == "properties":
                result[key] = self._properties(objects(value), document, made, depth)
            elif key in _NAMED:
                result[key] = {
                    name: self._translate(each, document, made, depth + 1)
                    for name, each in objects(value).items()
                }
            elif key in _SEVERAL or (key == "items" and isinstance(value, list)):
                if several := [self._translate(each, document, made, depth + 1) for each in items(value)]:
                    result["prefixItems" if key == "items" else key] = several
            elif key in _ONE:
                result[key] = self._translate(value, document, made, depth + 1)
            elif key == "type":
                self._type(value, result, made)
            elif key not in _PASSED_OVER and not key.startswith("x-"):
                made.notes.append(f"{key} is no keyword; left out.")
        if "example" in schema and "examples" not in result:
            result["examples"] = [schema["example"]]
        self._required(schema, document, result)
        _mend(schema, result)
        return result

    def _properties(self, properties: Mapping[str, Any], document: str, made: _Made, depth: int) -> Json:
        return {
            name: self._translate(each, document, made, depth + 1)
            for name, each in properties.items()
            if not self._is_foreign(each, document)
        }

    def _is_foreign(self, schema: Any, document: str) -> bool:
        given = objects(schema)
        if "$ref" not in given or given.get(self._foreign) is True:
            return given.get(self._foreign) is True
        try:
            return objects(self._documents.follow(given, document).node).get(self._foreign) is True
        except SpecInvalid:
            return False

    def _required(self, schema: Json, document: str, result: Json) -> None:
        """Leave out of what is required what is not there in this direction."""
        if "required" not in result:
            return
        known = objects(schema.get("properties"))
        names = [name for name in result["required"] if not self._is_foreign(known.get(name), document)]
        result["required"] = list(dict.fromkeys(names))
        if not names:
            del result["required"]

    def _type(self, value: Any, result: Json, made: _Made) -> None:
        several = [each for each in (items(value) if isinstance(value, list) else [value]) if each in _TYPES]
        if several:
            result["type"] = several if len(several) > 1 else several[0]
        elif value != "file":
            made.notes.append(f"type is {value!r:.40}, which it cannot be; left out.")

    # ------------------------------------------------------------ forms

    def _form(self, schema: Any, document: str, made: _Made, files: set[str], depth: int) -> Any:
        try:
            target = self._documents.follow(schema, document)
        except SpecInvalid as error:
            made.notes.append(str(error))
            return {}
        given = objects(target.node)
        if depth > _DEPTH or not given:
            return self._translate(target.node, target.document, made, depth)
        parts = items(given.get("allOf"))
        rest = {key: value for key, value in given.items() if key not in ("properties", "allOf")}
        result = self._keywords(rest, target.document, made, depth)
        if parts:
            result["allOf"] = [self._form(each, target.document, made, files, depth + 1) for each in parts]
        properties = objects(given.get("properties"))
        if properties:
            self._required(given, target.document, result)
            result["properties"] = {
                name: self._part(name, each, target.document, made, files)
                for name, each in properties.items()
                if not self._is_foreign(each, target.document)
            }
        return result

    def _part(self, name: str, schema: Any, document: str, made: _Made, files: set[str]) -> Any:
        """Return the schema of one part of a form."""
        try:
            target = self._documents.follow(schema, document)
            several = objects(target.node).get("type") == "array"
            one = (
                self._documents.follow(objects(target.node).get("items"), target.document)
                if several
                else target
            )
        except SpecInvalid:
            return self._translate(schema, document, made, 1)
        if not is_binary(one.node):
            return self._translate(schema, document, made, 1)
        files.add(name)
        about = objects(one.node).get("description") or objects(target.node).get("description")
        file = (
            {**FILE, "description": f"{about} ({FILE['description'][:-1]})."}
            if isinstance(about, str)
            else FILE
        )
        return {"type": "array", "items": file} if several else file


def is_binary(schema: Any) -> bool:
    """Tell whether a schema stands for bytes, as it does where a file is meant."""
    given = objects(schema)
    kind = given.get("type")
    if kind == "file" or (kind in ("string", None) and given.get("format") == "binary"):
        return True
    media = given.get("contentMediaType")
    return isinstance(media, str) and "contentEncoding" not in given and not media.startswith("text/")


def has_slashes(schema: Any) -> bool:
    """Tell whether a schema itself says that its texts have slashes, by their values or their pattern.

    >>> has_slashes({"pattern": "^arn:.+/[a-z]+$"}), has_slashes({"pattern": "^[^/]+$"}), has_slashes({"enum": ["a/b"]})
    (True, False, True)
    """
    given = objects(schema)
    pattern = given.get("pattern")
    if isinstance(pattern, str):
        return "/" in _NEGATED.sub("", pattern)
    return any(
        isinstance(each, str) and "/" in each for each in (*items(given.get("enum")), given.get("const"))
    )


def combined(properties: Json, required: Iterable[str], definitions: Json) -> Json:
    """Return the schema of an object of arguments.

    >>> combined({"id": {"type": "integer"}}, ["id"], {})["required"]
    ['id']
    """
    schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    if names := list(required):
        schema["required"] = names
    return {**schema, "$defs": definitions} if definitions else schema


def _name_of(target: Target, main: str) -> str:
    found = _PLACES.fullmatch(target.pointer)
    if found and target.document == main:
        return found[1]
    last = re.sub(r"[^A-Za-z0-9_.-]+", "_", target.pointer.rpartition("/")[2])[:40].strip("_")
    return f"{last or 'schema'}_{digest(f'{target.document}#{target.pointer}')}"


def _exclusive(schema: Json) -> Json | None:
    """Return a schema of 3.0 whose exclusive bounds are numbers, None where there is nothing to do."""
    if not any(isinstance(schema.get(exclusive), bool) for _, exclusive in _BOUNDS):
        return None
    changed = dict(schema)
    for bound, exclusive in _BOUNDS:
        if isinstance(changed.get(exclusive), bool) and changed.pop(exclusive) and bound in changed:
            changed[exclusive] = changed.pop(bound)
    return changed


def _mend(schema: Json, result: Json) -> None:
    """Put what OpenAPI says in its own way as JSON Schema does."""
    kind = result.get("type")
    if (schema.get("nullable") is True or schema.get("x-nullable") is True) and kind:
        kinds = items(kind) or [kind]
        result["type"] = kinds if "null" in kinds else [*kinds, "null"]
        if "enum" in result and None not in result["enum"]:
            result["enum"] = [*result["enum"], None]
    if "oneOf" in result and isinstance(schema.get("discriminator"), dict):
        # Which of them is meant says a property's value; that several fit is no fault then.
        result["allOf"] = [*result.get("allOf", ()), {"anyOf": result.pop("oneOf")}]
    if (
        "enum" in result
        and "type" in result
        and not any(_is_of(each, result["type"]) for each in result["enum"])
    ):
        del result["type"]


def _is_of(value: Any, kinds: str | list[str]) -> bool:
    given: object = value
    kind = _KINDS.get(type(given), "null")
    return kind in kinds or (kind == "integer" and "number" in kinds)
