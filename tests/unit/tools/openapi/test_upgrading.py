"""Swagger 2.0 becomes OpenAPI 3.0: a golden document, somebody else's opinion of it, and calls."""

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator
from tests.apis import Server, answer, registry_of

from reprise.tools.openapi.credentials import Credentials
from reprise.tools.openapi.parser import OpenAPIParser
from reprise.tools.openapi.upgrading import upgrade

GOLDEN = Path(__file__).parent / "golden"
SWAGGER = json.loads((GOLDEN / "swagger.json").read_text())


def test_the_golden_document():
    before = json.dumps(SWAGGER)
    assert upgrade(SWAGGER) == json.loads((GOLDEN / "openapi.json").read_text())
    assert json.dumps(SWAGGER) == before


def test_what_it_becomes_is_valid():
    changed = json.loads(json.dumps(upgrade(SWAGGER)).replace("#/definitions/", "#/components/schemas/"))
    changed.pop("definitions")
    changed.pop("responses")
    text = json.dumps(changed).replace('"tabDelimited"', '"form"')  # which 2.0 has and 3.0 has not
    assert [str(error) for error in OpenAPIV30SpecValidator(json.loads(text)).iter_errors()] == []


def test_the_report_says_which_it_was():
    parser = OpenAPIParser()
    parser.extract_tools(SWAGGER)
    assert str(parser.report).startswith("Old pets, Swagger 2.0: 5 tool, 0 skipped")
    assert parser.report.servers == ("https://pets.example.com/v1",)


async def test_calls():
    server = Server(answer([]))
    held = Credentials().api_key("key", "k")
    registry = registry_of(SWAGGER, server, held)
    await registry.execute_tool(
        "list_pets",
        {
            "ids": [1, 2],
            "tabs": ["a", "b"],
            "pipes": ["a", "b"],
            "spaces": ["a", "b"],
            "multi": ["a", "b"],
            "shared": True,
        },
    )
    assert server.last.url.query == b"ids=1,2&tabs=a%09b&pipes=a%7Cb&spaces=a%20b&multi=a&multi=b"
    assert (server.last.headers["shared"], server.last.headers["x-key"]) == ("true", "k")
    await registry.execute_tool("add_pet", {"body": {"name": "Rex", "kind": None}})
    assert (server.last.headers["content-type"], server.last.content) == (
        "application/json",
        b'{"name":"Rex","kind":null}',
    )
    await registry.execute_tool(
        "add_photo", {"id": "rex", "body": {"photo": {"text": "x", "filename": "a.png"}}}
    )
    assert b'name="photo"; filename="a.png"\r\nContent-Type: image/png' in server.last.content
    await registry.execute_tool("rename_pet", {"id": "rex", "body": {"name": "Max", "tags": ["a", "b"]}})
    assert server.last.content == b"name=Max&tags=a,b"
    assert "x-key" not in server.last.headers


@pytest.mark.parametrize(
    ("given", "servers"),
    [
        ({"host": "a.example"}, ["https://a.example"]),
        ({"host": "a.example:8443", "schemes": ["http", "ws"]}, ["http://a.example:8443"]),
        ({"basePath": "/v2"}, ["/v2"]),
        ({}, ["/"]),
        ({"host": 7, "schemes": "https", "basePath": []}, ["/"]),
    ],
)
def test_servers(given: dict[str, Any], servers: list[str]):
    changed = upgrade({"swagger": "2.0", "paths": {}, **given})
    assert [server["url"] for server in changed["servers"]] == servers


@pytest.mark.parametrize(
    "operation",
    [
        7,
        {"parameters": 7},
        {"parameters": [{"$ref": "#/gone"}]},
        {"parameters": [7, None, {"in": "body"}, {"in": "formData"}, {"in": "query", "name": "a"}]},
        {
            "responses": {"200": 7, "default": {"$ref": "#/gone"}},
            "consumes": 3,
            "produces": {},
            "schemes": [1],
        },
    ],
)
def test_what_is_broken_is_no_crash(operation):
    parser = OpenAPIParser()
    spec = {
        "swagger": "2.0",
        "paths": {"/a": {"get": operation}, "/b": {"get": {}}, "/c": 1},
        "definitions": [],
    }
    assert "get_b" in {tool.name for tool in parser.extract_tools(spec)}
    assert sum(parser.report.counts.values()) == 3
