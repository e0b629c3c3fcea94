"""Texts of specifications: formats, places, and what would take for ever."""

import json
from pathlib import Path

import httpx2
import pytest
from tests.apis import document, operation, parameter

from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.openapi.parser import OpenAPIParser
from reprise.tools.openapi.reading import SpecInvalid, read_text

YAML = """
openapi: 3.0.0
info:
  title: My API
  version: 1.0.0
paths:
  /users:
    get:
      operationId: list_users
      summary: List all users
      responses:
        200:
          description: Success
"""


def test_the_shape_that_callers_know():
    parser = OpenAPIParser()
    spec = parser.parse_spec(YAML, format="yaml")
    assert spec["info"]["title"] == "My API"
    (tool,) = parser.extract_tools(spec, tool_prefix="myapi_")
    assert (tool.name, tool.description, tool.effects) == ("myapi_list_users", "List all users", "network")


def test_bytes_are_a_text():
    assert OpenAPIParser().parse_spec(YAML.encode())["info"]["version"] == "1.0.0"


def test_keys_are_texts_and_words_stay_words():
    read = read_text(
        "200: {on: yes, when: 2024-01-01, no: ~, n: 1e3, o: 0o17, big: " + "9" * 500 + "}", "yaml"
    )
    assert read == {
        "200": {"on": "yes", "when": "2024-01-01", "no": None, "n": 1000.0, "o": 15, "big": "9" * 500}
    }


def test_what_yaml_repeats_is_shared_and_merged():
    read = read_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a")
    assert read == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


@pytest.mark.parametrize("format", ["json", None])
def test_json_with_a_byte_order_mark(format):
    assert read_text(b"\xef\xbb\xbf" + b'{"a": 1}', format) == {"a": 1}


def test_flow_yaml_is_no_json_and_read_all_the_same():
    assert read_text("{openapi: 3.0.0}") == {"openapi": "3.0.0"}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "format", "says"),
    [
        ("", None, "empty"),
        ("{", "json", "no JSON"),
        ('{"a": NaN}', "json", "no JSON"),
        ("a: [", None, "no YAML, line 2"),
        ("a: &a [*a]", None, "holds itself"),
        (BOMB, None, "has more than"),
        ("[" * 100_000, "json", "nested too deeply"),
        ("[" * 5_000 + "]" * 5_000, "yaml", "nested too deeply"),
        ("? [a, b]\n: 1", None, "a key is no text"),
        (b"\xff\xfe\xff", None, "no YAML"),
    ],
)
def test_what_cannot_be_read_says_why(text, format, says):
    with pytest.raises(SpecInvalid, match=says):
        read_text(text, format)


def test_tags_of_yaml_make_nothing():
    assert read_text("a: !!python/object/apply:os.system [id]") == {"a": ["id"]}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("openapi: 4.0.0", "says it is OpenAPI 4.0.0"),
        ("swagger: '1.2'\nx: 1", "says it is OpenAPI 1.2"),
        ("a: 1\n", "does not say which"),
        ("- 1\n- 2\n", "is no object"),
        ("nowhere.yaml", "nowhere.yaml cannot be read"),
        ("a\0b", "cannot be read"),
    ],
)
def test_what_is_no_specification(given, says):
    with pytest.raises(ConfigurationError, match=says):
        OpenAPIParser().parse_spec(given)


def test_a_format_that_is_none():
    with pytest.raises(ConfigurationError, match="Give 'json' or 'yaml'"):
        OpenAPIParser().parse_spec(YAML, format="xml")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("version", ["3.0.0", "3.0.4", "3.1.0", "3.1.1", "3.2.0"])
def test_versions(version):
    (tool,) = OpenAPIParser().extract_tools(document({"/a": {"get": operation()}}, version))
    assert tool.name == "get_a"


def test_a_file_and_a_relative_server(tmp_path: Path):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({**document({"/a": {"get": operation()}}), "servers": [{"url": "/v1"}]}))
    parser = OpenAPIParser()
    for given in (path, str(path)):
        (tool,) = parser.extract_tools(parser.parse_spec(given))
        assert tool.endpoint.server == ""
    assert "No server is known" in " ".join(parser.report.notes)


def served(pages: dict[str, str]) -> NetworkAccess:
    def answer(request: httpx2.Request) -> httpx2.Response:
        text = pages.get(str(request.url))
        return httpx2.Response(404) if text is None else httpx2.Response(200, text=text)

    return NetworkAccess(transport=httpx2.MockTransport(answer))


async def test_a_url_gives_a_relative_server_its_host():
    text = YAML.replace("paths:", "servers: [{url: /v2}]\npaths:")
    parser = OpenAPIParser(network=served({"https://api.example.com/docs/spec.yaml": text}))
    (tool,) = parser.extract_tools(parser.parse_spec("https://api.example.com/docs/spec.yaml"))
    assert tool.endpoint.server == "https://api.example.com/v2"
    with pytest.raises(ConfigurationError, match="404"):
        parser.parse_spec("https://api.example.com/nothing")


@pytest.mark.parametrize("url", ["http://127.0.0.1/spec", "http://169.254.169.254/latest", "http://[::1]/x"])
def test_a_url_that_must_not_be_reached(url):
    with pytest.raises(ToolError) as caught:
        OpenAPIParser().parse_spec(url)
    assert caught.value.code == "permission_denied"


# ---------------------------------------------------------------- other documents


SHARED = {"Name": {"type": "string", "maxLength": 5}}
ASKING = document({"/a": {"get": operation(parameter("n", schema={"$ref": "shared.json#/Name"}))}})


def test_other_files_are_read_from_allowed_folders_only(tmp_path: Path):
    (tmp_path / "shared.json").write_text(json.dumps(SHARED))
    (tmp_path / "spec.json").write_text(json.dumps(ASKING))
    (refused,) = OpenAPIParser().extract_tools(tmp_path / "spec.json")
    assert refused.parameters["properties"] == {"n": {}}
    assert "Allow where it lies" in " ".join(refused.endpoint.notes)
    (allowed,) = OpenAPIParser(refs=[tmp_path]).extract_tools(tmp_path / "spec.json")
    assert next(iter(allowed.parameters["$defs"].values())) == SHARED["Name"]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.json").write_text(json.dumps(SHARED))
    (inside / "shared.json").symlink_to(outside / "secret.json")
    (inside / "spec.json").write_text(json.dumps(ASKING))
    (tool,) = OpenAPIParser(refs=[inside]).extract_tools(inside / "spec.json")
    assert tool.parameters["properties"] == {"n": {}}


def test_other_documents_are_fetched_from_allowed_places_only():
    fetched: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        fetched.append(str(request.url))
        return httpx2.Response(200, json=SHARED)

    access = NetworkAccess(transport=httpx2.MockTransport(answer))
    asks = document({
        f"/{at}": {"get": operation(parameter("n", schema={"$ref": url}))}
        for at, url in enumerate([
            "https://good.example/s/shared.json#/Name",
            "https://good.example/s/../admin.json#/Name",
            "https://good.example.evil.example/s/x.json#/Name",
            "http://good.example/s/x.json#/Name",
            "http://169.254.169.254/s/x.json#/Name",
            "file:///etc/passwd#/Name",
        ])
    })  # fmt: skip
    tools = OpenAPIParser(refs=["https://good.example/s/"], network=access).extract_tools(asks)
    assert fetched == ["https://good.example/s/shared.json"]
    assert [bool(tool.parameters.get("$defs")) for tool in tools] == [True] + [False] * 5
    fetched.clear()
    OpenAPIParser(network=access).extract_tools(asks)
    assert fetched == []
