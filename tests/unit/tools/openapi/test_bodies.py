"""Bodies: JSON, forms, multipart with files, text and bytes."""

import base64
from email.parser import BytesParser
from email.policy import HTTP

import httpx2
import pytest
from tests.apis import Server, answer, document, operation, parameter, registry_of

from reprise.kernel.errors import ToolError
from reprise.tools.openapi import bodies
from reprise.tools.openapi.operations import Body

FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"


def posting(media, schema, encoding=None, required=True):
    content = {"schema": schema, **({"encoding": encoding} if encoding else {})}
    return document(
        {
            "/a": {
                "post": {"requestBody": {"required": required, "content": {media: content}}, "responses": {}}
            }
        }
    )


async def sent(media, schema, body, encoding=None) -> httpx2.Request:
    server = Server(answer({}))
    registry = registry_of(posting(media, schema, encoding), server)
    await registry.execute_tool("post_a", {"body": body})
    return server.last


def parts(request: httpx2.Request) -> list[tuple[str, str | None, str, bytes]]:
    """Return the parts of a multipart body as the standard library reads them."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get("content-type", ""),
            part.get_payload(decode=True),
        )
        for part in BytesParser(policy=HTTP).parsebytes(head + request.content).iter_parts()
    ]


async def test_json_and_its_kin():
    for media in ("application/json", "application/vnd.api+json", "application/json; charset=utf-8"):
        request = await sent(media, {"type": "object"}, {"a": [1, None, "ü"]})
        assert request.headers["content-type"] == media
        assert request.content == '{"a":[1,null,"ü"]}'.encode()


async def test_json_before_everything_else():
    spec = posting("text/plain", {"type": "string"})
    spec["paths"]["/a"]["post"]["requestBody"]["content"]["application/json"] = {
        "schema": {"type": "integer"}
    }
    server = Server(answer({}))
    await registry_of(spec, server).execute_tool("post_a", {"body": 1})
    assert server.last.headers["content-type"] == "application/json"


async def test_a_body_that_is_required_is_an_error_and_no_empty_request():
    for media in ("application/json", FORM, MULTIPART, "application/octet-stream", "text/plain"):
        server = Server(answer({}))
        with pytest.raises(ToolError) as caught:
            await registry_of(posting(media, {}), server).execute_tool("post_a", {})
        assert (caught.value.code, caught.value.field) == ("invalid_input", "$.body")
        assert not server.requests


@pytest.mark.parametrize(("media", "body"), [(FORM, {}), (FORM, {"a": None}), ("text/plain", "")])
async def test_a_body_that_is_required_and_would_be_empty(media, body):
    with pytest.raises(ToolError, match="this is an empty one") as caught:
        await sent(media, {"type": "object"}, body)
    assert (caught.value.code, caught.value.field) == ("invalid_input", "$.body")


@pytest.mark.parametrize("value", [[], {}])
async def test_a_parameter_that_is_required_and_would_not_be_sent(value):
    spec = document({"/a": {"get": operation(parameter("q", schema={"title": "Q"}, required=True))}})
    with pytest.raises(ToolError, match="is empty"):
        await registry_of(spec, Server(answer({}))).execute_tool("get_a", {"q": value})


async def test_a_body_that_is_not_required_may_be_left_out():
    server = Server(answer({}))
    await registry_of(posting("application/json", {}, required=False), server).execute_tool("post_a", {})
    assert server.last.content == b""
    assert "content-type" not in server.last.headers


async def test_forms():
    schema = {"type": "object", "properties": {"tags": {"type": "array"}, "o": {"type": "object"}}}
    request = await sent(FORM, schema, {"name": "a b&c=d", "tags": [1, 2], "o": {"x": 1}, "none": None})
    assert request.headers["content-type"] == FORM
    assert request.content == b"name=a%20b%26c%3Dd&tags=1&tags=2&o=%7B%22x%22%3A1%7D"


async def test_encodings_of_forms():
    encoding = {
        "tags": {"style": "pipeDelimited", "explode": False},
        "o": {"style": "deepObject", "explode": True},
    }
    request = await sent(FORM, {"type": "object"}, {"tags": [1, 2], "o": {"x": 1}}, encoding)
    assert request.content == b"tags=1%7C2&o%5Bx%5D=1"


def test_no_part_has_the_line_that_ends_it():
    chances = [bytes(16), bytes(16), b"\1" * 16]
    body = Body(MULTIPART, True, {}, "", {}, "")
    written = bodies.write(body, {"a": "x" + "00" * 16 + "y"}, frozenset(), lambda n: chances.pop(0))
    assert written.media.endswith("01" * 16)


FILE = {"type": "string", "format": "binary"}
UPLOAD = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {**FILE, "description": "The picture"},
        "more": {"type": "array", "items": FILE},
        "about": {"type": "object"},
        "note": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}


async def test_multipart_with_files():
    body = {
        "file": {"base64": base64.b64encode(b"\x89PNG\r\n").decode(), "filename": "a.png"},
        "more": [{"text": "x", "filename": 'q"\r\nX: y'}, {"text": "y", "content_type": "text/csv"}],
        "about": {"a": 1},
        "note": "hello\r\n--x",
        "tags": ["a", "b"],
    }
    request = await sent(MULTIPART, UPLOAD, body)
    assert parts(request) == [
        ("file", "a.png", "image/png", b"\x89PNG\r\n"),
        ("more", "q%22%0D%0AX: y", "application/octet-stream", b"x"),
        ("more", "file", "text/csv", b"y"),
        ("about", None, "application/json", b'{"a":1}'),
        ("note", None, "", b"hello\r\n--x"),
        ("tags", None, "", b"a"),
        ("tags", None, "", b"b"),
    ]


async def test_encodings_of_parts():
    encoding = {"note": {"contentType": "application/json"}, "file": {"contentType": "image/*, image/png"}}
    request = await sent(MULTIPART, UPLOAD, {"file": {"text": "x"}, "note": "n"}, encoding)
    assert parts(request) == [
        ("file", "file", "application/octet-stream", b"x"),
        ("note", None, "application/json", b'"n"'),
    ]


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("plain text", "$.body.file"),
        ({}, "$.body.file"),
        ({"text": "a", "base64": "YQ=="}, "$.body.file"),
        ({"base64": "no base64!"}, "$.body.file.base64"),
        ({"text": "a", "content_type": "text/plain\r\nX: y"}, "$.body.file.content_type"),
        ({"text": "a", "content_type": "nothing"}, "$.body.file.content_type"),
        ({"path": "/etc/passwd"}, "$.body.file.path"),
    ],
)
async def test_files_that_are_none(file, field):
    with pytest.raises(ToolError) as caught:
        await sent(MULTIPART, UPLOAD, {"file": file})
    assert (caught.value.code, caught.value.field) == ("invalid_input", field)


async def test_parts_of_allof_and_of_references():
    spec = posting(MULTIPART, {"allOf": [{"$ref": "#/components/schemas/U"}, {"properties": {"b": FILE}}]})
    spec["components"] = {
        "schemas": {"U": {"properties": {"a": {"$ref": "#/components/schemas/F"}}}, "F": FILE}
    }
    server = Server(answer({}))
    await registry_of(spec, server).execute_tool("post_a", {"body": {"a": {"text": "1"}, "b": {"text": "2"}}})
    assert [(name, file) for name, file, _, _ in parts(server.last)] == [("a", "file"), ("b", "file")]


async def test_bytes_and_text():
    request = await sent("application/octet-stream", FILE, {"base64": "AAH/"})
    assert (request.content, request.headers["content-type"]) == (b"\0\1\xff", "application/octet-stream")
    request = await sent("image/*", FILE, {"base64": "AAH/", "content_type": "image/png"})
    assert request.headers["content-type"] == "image/png"
    request = await sent("application/xml", {"type": "object"}, "<a/>")
    assert (request.content, request.headers["content-type"]) == (b"<a/>", "application/xml")
