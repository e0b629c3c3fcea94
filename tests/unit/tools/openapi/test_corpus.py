"""A nasty corpus: every document ends in tools or a report, and every request is what openapi-core says it should be."""

import copy
import os
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from tests.apis import NoSample, Oracle, document, operation, parameter, sample

from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.tools.context import ToolContext
from reprise.tools.openapi.parser import OpenAPIParser

CONTEXT = ToolContext("test", SystemClock(), os.urandom)
USER = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string", "minLength": 1},
        "boss": {"$ref": "#/components/schemas/User"},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    },
}


def nasty(version: str) -> dict[str, Any]:
    """Return a document that has most of what goes wrong elsewhere."""
    form = {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
    }
    file = {"type": "string", "format": "binary"} if version < "3.1" else {"contentMediaType": "image/png"}
    upload = {"type": "object", "properties": {"file": file, "note": {"type": "string"}}}
    paths: dict[str, Any] = {
        "/users/{id}": {
            "parameters": [parameter("id", "path", {"type": "integer"}), parameter("id", "query")],
            "put": operation(body={"$ref": "#/components/schemas/User"}, operationId="update-user.v2"),
            "get": operation(answers={"$ref": "#/components/schemas/User"}),
            "delete": operation(operationId="x" * 90),
        },
        "/a/b": {"get": operation(operationId="dup"), "post": operation(operationId="dup", body={"type": "array"})},
        "/Dup": {"get": operation(operationId="DUP")},
        "/a/{b}": {"get": operation(parameter("b", "path"), operationId="")},
        "/search": {
            "get": operation(
                parameter("filter", schema={"type": "object", "properties": {"a": {"type": "string"}}}, style="deepObject", explode=True),
                parameter("ids", schema={"type": "array", "items": {"type": "integer"}}, explode=False),
                parameter("kinds[]", schema={"type": "array", "items": {"enum": ["x", "y"], "type": "string"}}),
                parameter("X-Ids", "header", {"type": "array", "items": {"type": "integer"}}),
                parameter("Ünicode", schema={"type": "string"}),
                parameter("session", "cookie"),
                parameter("content", schema={"type": "boolean"}, required=True),
                operationId="搜索",
            )
        },
        "/form": {"post": {"requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": form}}}, "responses": {}}},
        "/upload": {"post": {"requestBody": {"content": {"multipart/form-data": {"schema": upload}}}, "responses": {}}},
        "/files/{name}.{ext}": {"get": operation(parameter("name", "path"), parameter("ext", "path"))},
        "/{a}/{b}/": {"get": operation(parameter("a", "path"), parameter("b", "path"))},
    }  # fmt: skip
    if version == "3.2.0":
        paths["/find"] = {
            "query": operation(body={"type": "object"}),
            "additionalOperations": {"COPY": operation()},
        }
    return document(paths, version, components={"schemas": {"User": USER}})


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0", "3.2.0"])
def test_all_of_it_is_converted_and_every_request_is_right(version):
    spec = nasty(version)
    parser = OpenAPIParser()
    tools = parser.extract_tools(spec)
    assert parser.report.counts == {
        "tool": 14 if version == "3.2.0" else 12,
        "skipped": 0,
        "held": 0,
        "failed": 0,
    }
    assert len({tool.name for tool in tools}) == len(tools)
    oracle = Oracle(spec)
    proved = 0
    for tool in tools:
        for rich in (True, False):
            arguments = sample(tool.parameters, rich)
            request = tool.endpoint.prepare(tool.signature.read(msgspec.json.encode(arguments)), CONTEXT)
            if tool.endpoint.operation.method == "copy":
                continue  # openapi-core knows no additional operations
            assert oracle.faults(request, tool.endpoint.operation.path) == [], tool.name
            proved += 1
    assert proved >= 24


def test_the_oracle_notices():
    """The control: without it, that nothing is found means nothing."""
    spec = nasty("3.0.3")
    (tool,) = OpenAPIParser().extract_tools(spec, paths=["/users/{id}"], methods=["put"])
    arguments = sample(tool.parameters)
    request = tool.endpoint.prepare(arguments, CONTEXT)
    oracle = Oracle(spec)
    path = tool.endpoint.operation.path
    assert oracle.faults(request, path) == []
    for wrong in (
        request._replace(content=b""),
        request._replace(content=b'{"id": "x", "name": "a"}'),
        request._replace(url=request.url.replace("/users/7", "/users/x")),
        request._replace(url=request.url + "/more"),
        request._replace(method="POST"),
        request._replace(headers={**request.headers, "Content-Type": "text/plain"}),
    ):
        assert oracle.faults(wrong, path)


# ---------------------------------------------------------------- of random ones


NAMES = st.sampled_from(["id", "a", "b-c", "d.e", "X-F", "g[h]", "$i", "body", "select"])
SCALARS = st.sampled_from([{"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {"type": "string", "enum": ["x", "y z"]}, {"type": "number", "minimum": 1.5}])  # fmt: skip
LISTS = st.builds(lambda items: {"type": "array", "items": items}, SCALARS)
SCHEMAS = st.recursive(
    SCALARS | st.just({"$ref": "#/components/schemas/User"}),
    lambda inner: st.builds(lambda items: {"type": "array", "items": items}, inner)
    | st.builds(
        lambda properties, needed: {
            "type": "object", "properties": properties, "required": sorted(properties)[:needed]
        },
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.integers(0, 2),
    )
    | st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner),
    max_leaves=6,
)  # fmt: skip


@st.composite
def operations(draw):
    found = {}
    for _ in range(draw(st.integers(0, 4))):
        where = draw(st.sampled_from(["query", "header", "cookie"]))
        name = draw(NAMES if where == "query" else st.sampled_from(["X-A", "b", "C"]))
        explode = draw(st.booleans())
        schema = draw(SCALARS if where != "query" else SCALARS | LISTS)
        found[name, where] = parameter(name, where, schema, explode=explode, required=draw(st.booleans()))
    body = draw(st.none() | SCHEMAS)
    return operation(parameter("id", "path", draw(SCALARS)), *found.values(), body=body)


@settings(deadline=None, max_examples=30)
@given(operations(), st.booleans())
def test_requests_of_random_operations_are_right(asked, rich):
    spec = document({"/x/{id}/y": {"post": asked}}, components={"schemas": {"User": USER}})
    (tool,) = OpenAPIParser().extract_tools(spec)
    try:
        arguments = sample(tool.parameters, rich)
    except NoSample:
        return
    read = tool.signature.read(msgspec.json.encode(arguments))
    request = tool.endpoint.prepare(read, CONTEXT)
    assert Oracle(spec).faults(request, "/x/{id}/y") == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.sampled_from(["#/paths", "object", "query"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["$ref", "type", "in", "name", "schema", "allOf", "get", "x"]) | st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the places of a document."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


SWAGGER = {
    "swagger": "2.0", "host": "a.example", "paths": {"/a/{id}": {"post": {"parameters": [
        {"name": "id", "in": "path", "required": True, "type": "string"}, {"name": "b", "in": "body", "schema": {"$ref": "#/definitions/A"}},
        {"$ref": "#/parameters/P"}], "responses": {"200": {"schema": {"$ref": "#/definitions/A"}}}}}},
    "definitions": {"A": {"properties": {"a": {"$ref": "#/definitions/A"}}}}, "parameters": {"P": {"name": "f", "in": "formData", "type": "file"}},
    "securityDefinitions": {"o": {"type": "oauth2", "flow": "implicit", "scopes": {}}}, "security": [{"o": []}],
}  # fmt: skip
WHOLE = [nasty("3.0.3"), nasty("3.2.0"), SWAGGER]


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_what_is_broken_anywhere_ends_in_tools_or_a_report(data):
    spec = copy.deepcopy(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.sampled_from(places(spec)))
        if not place:
            continue
        node: Any = spec
        for part in place[:-1]:
            node = node[part]
        node[place[-1]] = data.draw(JSON)
    parser = OpenAPIParser()
    try:
        tools = parser.extract_tools(spec)
    except ConfigurationError:
        return
    assert parser.report.counts["tool"] == len(tools)
    assert str(parser.report)
    for tool in tools:
        assert tool.parameters["type"] == "object"
        assert isinstance(tool.returns, dict)
        assert tool.describe()["name"] == tool.name
        try:
            arguments = tool.signature.read(msgspec.json.encode(sample(tool.parameters)))
            tool.endpoint.prepare(arguments, CONTEXT)
        except (ToolError, NoSample, RecursionError):
            continue
