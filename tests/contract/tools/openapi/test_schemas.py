"""Schemas of OpenAPI as JSON Schema: what means the same, what is left out, and what never ends."""

import time

import pytest
from tests.apis import document, operation, parameter

from reprise.kernel.errors import ToolError
from reprise.tools.openapi.checking import Checker, matches
from reprise.tools.openapi.parser import OpenAPIParser


def tool_of(schema, version="3.0.3", schemas=None, where="query"):
    asked = operation(parameter("v", where, schema)) if where != "body" else operation(body=schema)
    (tool,) = OpenAPIParser().extract_tools(
        document({"/a": {"post": asked}}, version, components={"schemas": schemas or {}})
    )
    return tool


def translated(schema, **more):
    return tool_of(schema, **more).parameters["properties"]["v"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        (
            {"type": "string", "nullable": True, "enum": ["a"]},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        (
            {"type": "integer", "minimum": 1, "exclusiveMinimum": True},
            {"type": "integer", "exclusiveMinimum": 1},
        ),
        ({"type": "integer", "maximum": 9, "exclusiveMaximum": False}, {"type": "integer", "maximum": 9}),
        ({"type": "string", "example": "x", "xml": {}, "x-more": 1}, {"type": "string", "examples": ["x"]}),
        ({"type": "file"}, {}),
        ({"type": "strin"}, {}),
        ({"type": "string", "required": True}, {"type": "string"}),
        ({"type": "integer", "minimum": "3", "maxLength": -1, "multipleOf": 0}, {"type": "integer"}),
        (
            {"type": "array", "items": [{"type": "string"}]},
            {"type": "array", "prefixItems": [{"type": "string"}]},
        ),
        ({"properties": [], "allOf": [], "anyOf": None, "enum": []}, {"properties": {}}),
        ({"type": "string", "enum": [1, 2]}, {"enum": [1, 2]}),
        ("string", {}),
        (True, {}),
    ],
)
def test_keywords_of_3_0(given, expected):
    assert translated(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"type": ["string", "null"], "const": "a"},
        {"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"type": "null"}},
        {"type": "array", "prefixItems": [{"type": "string"}], "items": False, "minContains": 0},
        {"type": "object", "propertyNames": {"pattern": "^a"}, "dependentRequired": {"a": ["b"]}},
        {"type": "object", "patternProperties": {"^a": {"type": "integer"}}, "unevaluatedProperties": False},
        {"not": {"type": "string"}},
    ],
)
def test_keywords_of_3_1_stay(given):
    assert translated(given, version="3.1.0") == given


def test_beside_a_reference_keywords_count_since_3_1():
    schemas = {"A": {"type": "string"}}
    given = {"$ref": "#/components/schemas/A", "minLength": 3, "description": "It."}
    assert translated(given, schemas=schemas) == {"$ref": "#/$defs/A"}
    assert translated(given, schemas=schemas, version="3.1.0") == {
        "minLength": 3, "description": "It.", "$ref": "#/$defs/A",
    }  # fmt: skip


USER = {
    "type": "object",
    "required": ["id", "name", "password"],
    "properties": {
        "id": {"type": "integer", "readOnly": True},
        "name": {"type": "string"},
        "password": {"type": "string", "writeOnly": True},
        "boss": {"$ref": "#/components/schemas/User"},
        "etag": {"$ref": "#/components/schemas/Etag"},
    },
}
SCHEMAS = {"User": USER, "Etag": {"type": "string", "readOnly": True}}


def test_what_is_read_only_is_not_asked_for_and_what_is_write_only_not_awaited():
    reference = {"$ref": "#/components/schemas/User"}
    (tool,) = OpenAPIParser().extract_tools(
        document(
            {"/u": {"post": operation(body=reference, answers=reference)}}, components={"schemas": SCHEMAS}
        )
    )
    asked, awaited = tool.parameters["$defs"]["User"], tool.returns["$defs"]["User"]
    assert asked["required"] == ["name", "password"]
    assert set(asked["properties"]) == {"name", "password", "boss"}
    assert awaited["required"] == ["id", "name"]
    assert "password" not in awaited["properties"]


def test_a_schema_that_holds_itself_is_checked_to_any_depth():
    tool = tool_of({"$ref": "#/components/schemas/User"}, schemas=SCHEMAS, where="body")
    user = {"name": "a", "password": "p"}
    for _ in range(20):
        user = {"name": "a", "password": "p", "boss": user}
    assert tool.signature.read(_json({"body": user}))
    inner = user["boss"]["boss"]
    inner["boss"]["name"] = 7
    with pytest.raises(ToolError) as caught:
        tool.signature.read(_json({"body": user}))
    assert caught.value.field == "$.body.boss.boss.boss.name"


def _json(value):
    import msgspec

    return msgspec.json.encode(value)


def test_references_may_lead_anywhere_in_the_document():
    spec = document(
        {
            "/a/{id}": {"get": operation(parameter("id", "path", {"type": "string", "maxLength": 2}))},
            "/b": {
                "get": operation(
                    parameter("x", schema={"$ref": "#/paths/~1a~1%7Bid%7D/get/parameters/0/schema"}),
                    parameter("y", schema={"$ref": "#here"}),
                    {"$ref": "#/components/parameters/Z"},
                )
            },
            "/c": {"$ref": "#/paths/~1b"},
        },
        "3.1.0",
        components={
            "schemas": {"H": {"$anchor": "here", "type": "integer"}},
            "parameters": {"Z": {"$ref": "#/components/parameters/Y"}, "Y": parameter("z")},
        },
    )
    tools = OpenAPIParser().extract_tools(spec)
    for tool in tools[1:]:
        assert list(tool.parameters["properties"]) == ["x", "y", "z"]
        kinds = [each["type"] for each in tool.parameters["$defs"].values()]
        assert sorted(kinds) == ["integer", "string"]


@pytest.mark.parametrize(
    ("schemas", "note"),
    [
        ({"A": {"$ref": "#/components/schemas/B"}, "B": {"$ref": "#/components/schemas/A"}}, "in a circle"),
        ({"A": {"$ref": "#/components/schemas/Gone"}}, "leads nowhere"),
        ({"A": {"$ref": "#/components/schemas/A/x/0"}}, "leads nowhere"),
        ({"A": {"$ref": "https://evil.example/x"}}, "leads out of the document"),
        ({"A": {"$ref": "file:///etc/passwd"}}, "leads out of the document"),
        ({"A": {"properties": {"x": {"$ref": "#gone"}}}}, "leads nowhere"),
    ],
)
def test_a_reference_that_cannot_be_followed_costs_a_note_and_nothing_else(schemas, note):
    tool = tool_of({"$ref": "#/components/schemas/A"}, schemas=schemas)
    assert tool.parameters["properties"]
    assert note in " ".join(tool.endpoint.notes)
    assert tool.signature.read(b'{"v": 1}') == {"v": 1}


def test_schemas_without_an_end_are_given_up_and_let_pass():
    loop = {"A": {"allOf": [{"$ref": "#/components/schemas/A"}]}}
    many = {f"A{n}": {"allOf": [{"$ref": f"#/components/schemas/A{n + 1}"}] * 2} for n in range(40)} | {
        "A40": {}
    }
    for first, schemas in (("A", loop), ("A0", many)):
        tool = tool_of({"$ref": f"#/components/schemas/{first}"}, schemas=schemas)
        began = time.perf_counter()
        assert tool.signature.read(b'{"v": 1}') == {"v": 1}
        assert time.perf_counter() - began < 20
        assert tool.endpoint.unchecked == "its schema has no end, or takes too long to check"


def test_a_pattern_that_takes_for_ever_is_given_up():
    slow, text = "^(?:a|ab|b|ba)*$", "ab" * 30 + "!"
    assert matches(slow, text) is None
    assert matches(slow, "x") is None  # and not tried again
    assert matches("(", "x") is None
    assert matches(r"^\p{L}+$", "Grüße") is True
    assert Checker({"pattern": slow}).check(text) == (None, "")
    assert Checker({"pattern": "^b"}).check("a")[0] is not None


def test_nothing_is_fetched_to_check_a_value():
    misfit, why = Checker({"$ref": "https://evil.example/schema"}).check(1)
    assert misfit is None
    assert "cannot be used" in why


def test_deep_nesting_is_cut():
    schema = {"type": "string"}
    for _ in range(150):
        schema = {"type": "array", "items": schema}
    tool = tool_of(schema)
    assert "nested too deeply" in " ".join(tool.endpoint.notes)


@pytest.mark.parametrize(
    ("value", "what", "field", "hint"),
    [
        ({"nme": "x"}, "There is no argument 'nme'", "$.body.nme", "Did you mean 'name'?"),
        ({}, "name is missing", "$.body.name", ""),
        ({"name": 1}, "1 is not of type 'string'", "$.body.name", ""),
        ({"name": "x", "tags": ["a", 2]}, "2 is not of type 'string'", "$.body.tags[1]", ""),
        ({"name": "x" * 999}, "…", "$.body.name", ""),
        ({"name": "x", "n": 1.0}, "1.0 is not of type 'integer'", "$.body.n", ""),
    ],
)
def test_what_does_not_fit_is_named(value, what, field, hint):
    schema = {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "maxLength": 500},
            "tags": {"type": "array", "items": {"type": "string"}},
            "n": {"type": "integer"},
        },
    }
    with pytest.raises(ToolError) as caught:
        tool_of(schema, where="body").signature.read(_json({"body": value}))
    assert what in caught.value.what
    assert (caught.value.code, caught.value.field, caught.value.hint) == ("invalid_input", field, hint)


def test_with_a_discriminator_several_may_fit():
    schemas = {"Cat": {"properties": {"kind": {}}}, "Dog": {"properties": {"kind": {}}}}
    several = [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}]
    told = {"oneOf": several, "discriminator": {"propertyName": "kind"}}
    assert tool_of(told, schemas=schemas, where="body").signature.read(b'{"body": {"kind": "Cat"}}')
    with pytest.raises(ToolError):
        tool_of({"oneOf": several}, schemas=schemas, where="body").signature.read(
            b'{"body": {"kind": "Cat"}}'
        )
