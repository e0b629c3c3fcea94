"""Attacks through arguments, specifications and answers: classes × cases, none of which may come through.

Each class has a control: the same attack on somebody who does not guard against it works, so that none coming through
means something.
"""

import asyncio
import http.client
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import httpx2
import msgspec
import pytest
from tests.apis import SERVER, Server, answer, document, operation, parameter, registry_of
from tests.sites import Site, page

from reprise.kernel.errors import ConfigurationError, RepriseError, ToolError
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.openapi.credentials import Credentials
from reprise.tools.openapi.options import OperationOptions
from reprise.tools.openapi.parser import OpenAPIParser
from reprise.tools.registry import ToolRegistry

SECRET = "s3cret-key"
KEY = {"securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}}}
QUERY_KEY = {"securitySchemes": {"key": {"type": "apiKey", "in": "query", "name": "key"}}}

PATHS = [
    "..", ".", "../admin", "..\\admin", "a/../b", "a/..", "/", "//", "/etc", "\\", "a/b", "a\\b", "./x", "../../..",
    "a/./b", "..;/admin", "x/..;/y", "\x00", "a\x00/../b", "a\nb", "a\r\nHost: x", "\t", "", "a/b?x=1", "../?x",
    "http://evil.example/", "//evil.example", "\\\\evil.example",
]  # fmt: skip
ENCODED = ["%2e%2e", "%2e%2e%2fadmin", "%252e%252e", "..%2f", "%2f", "?admin=1", "#x", "a?b=c&d", "a;x=1", "a@evil.example", "{id}", "%00", "%", "a%zz", "\uff0e\uff0e", "\u2025", "a b", "+"]  # fmt: skip
LINES = ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\r", "\n", "a\x00b", "a\x0bb", "a\x1fb", "\x7f", "a\u2028b", "a\u0100", "a\r\n\r\nGET / HTTP/1.1", "日本"]  # fmt: skip
QUERIES = ["a&admin=1", "a#frag", "a;b", "a=b&c=d", "%26admin=1", "a\r\nb", "a+b", "a b", "'\"<>", "\x00", "a?b", "a%00"]  # fmt: skip
HOSTS = [
    "http://127.0.0.1", "http://127.1", "http://0", "http://0.0.0.0", "http://[::1]", "http://[::ffff:127.0.0.1]",
    "http://169.254.169.254", "http://10.0.0.1", "http://192.168.1.1", "http://172.16.0.1", "http://2130706433",
    "http://0x7f000001", "http://0177.0.0.1", "http://localhost", "http://localhost.", "http://[fe80::1]", "http://[fd00::1]",
    "http://100.64.0.1", "http://metadata.google.internal", "http://127.0.0.1:22",
]  # fmt: skip
SERVERS = ["file:///etc/passwd", "gopher://x", "ftp://x", "javascript:1", "http://user:pw@api.example.com", "http:///x", "http://[", "https://a b", "https://a\\b", "data:text/plain,x", "https://x:99999", "ws://x"]  # fmt: skip
REFERENCES = [
    "file:///etc/passwd", "/etc/passwd", "../../../etc/passwd", "http://127.0.0.1/x", "http://169.254.169.254/latest",
    "https://evil.example/x.json", "//evil.example/x", "data:application/json,{}", "#/../../x", "#/paths/-1", "#/__class__",
    "#/info/title/0", "", "#nowhere", "http://[", "x" * 5000, "jar:file:///x!/y", "\\\\evil\\share",
]  # fmt: skip
REDIRECTS = ["https://evil.example/", "http://api.example.com/", "//evil.example/x", "https://api.example.com:444/", "http://127.0.0.1/", "file:///etc/passwd", "https://api.example.com.evil.example/", "https://api.example.com@evil.example/", "gopher://x/", "\\\\evil.example\\x", "http://[", "https://x:99999/"]  # fmt: skip
TEMPLATES = [
    "/../x",
    "/a/../../x",
    "/%2e%2e/x",
    "/a/%2E%2e%2fx",
    "/a\\..\\x",
    "/a/..%5cx",
    "/x\r\nHost: y",
    "/\x00",
    "/{id}/../x",
]
HEADERS = ["Host", "host", "Content-Length", "Transfer-Encoding", "Connection", "Cookie", "X Y", "X:Y", "X\r\nY", "", "Authorization", "Proxy-Authorization", "Upgrade", "TE", "Expect", "é", "X\0"]  # fmt: skip


def first_argument(registry: ToolRegistry, name: str) -> str:
    return next(iter(registry[name].parameters["properties"]))


async def outcome(do: Awaitable[Any]) -> Any:
    try:
        return await do
    except RepriseError as error:
        return error


def checked_requests(server: Server, origin: str = "https://api.example.com") -> None:
    """Check that all that was sent went to the server, as one request each."""
    for request in server.requests:
        assert str(request.url).startswith(f"{origin}/"), request.url
        for name, value in request.headers.multi_items():
            assert not set(name + value) & set("\r\n\0"), (name, value)


# ---------------------------------------------------------------- through arguments


async def through_path(value: str) -> None:
    spec = document({"/users/{id}/pets": {"get": operation(parameter("id", "path"))}, "/files/{a}.{b}": {
        "get": operation(parameter("a", "path"), parameter("b", "path"))}})  # fmt: skip
    server = Server(answer({}))
    registry = registry_of(spec, server)
    await outcome(registry.execute_tool("get_users_id_pets", {"id": value}))
    await outcome(registry.execute_tool("get_files_a_b", {"a": value, "b": value}))
    checked_requests(server)
    for request in server.requests:
        raw = request.url.raw_path.decode()
        assert "?" not in raw
        segments = raw.split("/")
        assert len(segments) == (5 if raw.endswith("/pets") else 4)
        # Also for a server that decodes before it splits, and one that decodes twice and drops what it cannot read.
        assert "/" not in unquote(segments[3]).replace("\\", "/")
        assert unquote(segments[3]) not in (".", "..")


async def through_array_in_path(value: str) -> None:
    spec = document({"/u/{ids}": {"get": operation(parameter("ids", "path", {"type": "array"}))}, "/o/{o}": {
        "get": operation(parameter("o", "path", {"type": "object"}, explode=True))}})  # fmt: skip
    server = Server(answer({}))
    registry = registry_of(spec, server)
    await outcome(registry.execute_tool("get_u_ids", {"ids": [value, value]}))
    await outcome(registry.execute_tool("get_u_ids", {"ids": [value]}))
    await outcome(registry.execute_tool("get_o_o", {"o": {value: "x"}}))
    checked_requests(server)
    for request in server.requests:
        segments = request.url.raw_path.decode().split("?")[0].split("/")
        assert len(segments) == 4
        assert ".." not in unquote(segments[-1]).replace("\\", "/").split("/")


async def through_query(value: str) -> None:
    spec = document({"/a": {"get": operation(parameter("q"), parameter("r", allowReserved=True))}})
    for name in ("q", "r"):
        server = Server(answer({}))
        await outcome(registry_of(spec, server).execute_tool("get_a", {name: value}))
        checked_requests(server)
        for request in server.requests:
            assert list(request.url.params.multi_items()) == [(name, value)]
            assert request.url.fragment == ""


async def through_header(value: str) -> None:
    spec = document({"/a": {"get": operation(parameter("X-A", "header"), parameter("c", "cookie"))}})
    server = Server(answer({}))
    registry = registry_of(spec, server)
    refused = await outcome(registry.execute_tool("get_a", {"X-A": value}))
    assert isinstance(refused, ToolError)
    assert refused.code == "invalid_input"
    await outcome(registry.execute_tool("get_a", {"c": value}))
    checked_requests(server)
    assert all("x-evil" not in request.headers for request in server.requests)


async def through_names_in_objects(name: str) -> None:
    spec = document({"/a": {"get": operation(parameter("o", schema={"type": "object"}), parameter("admin"), security=[{"key": []}])}}, components=QUERY_KEY)  # fmt: skip
    server = Server(answer({}))
    registry = registry_of(spec, server, Credentials().api_key("key", SECRET))
    await outcome(registry.execute_tool("get_a", {"o": {name: "1"}}))
    checked_requests(server)
    for request in server.requests:
        assert "admin" not in request.url.params
        assert request.url.params.get_list("key") == [SECRET]


async def through_filename(name: str) -> None:
    schema = {"type": "object", "properties": {"f": {"type": "string", "format": "binary"}}}
    spec = document(
        {"/a": {"post": {"requestBody": {"content": {"multipart/form-data": {"schema": schema}}}}}}
    )
    server = Server(answer({}))
    given = {"body": {"f": {"text": "x", "filename": name}, name or "n": "y"}}
    await outcome(registry_of(spec, server).execute_tool("post_a", given))
    for request in server.requests:
        assert request.content.count(b"Content-Disposition") == 2
        assert b"\r\nX-Evil" not in request.content


# ---------------------------------------------------------------- through the specification


async def through_server(url: str) -> None:
    spec = {**document({"/a": {"get": operation()}}), "servers": [{"url": url}]}
    registry = ToolRegistry()
    OpenAPIParser(retries=0).register_tools_from_spec(spec, registry)
    refused = await outcome(registry.execute_tool("get_a"))
    assert isinstance(refused, ToolError)
    assert refused.code in ("permission_denied", "unavailable", "invalid_input") or "address" in str(refused)


async def through_reference(ref: str) -> None:
    fetched = Server(answer({"x": 1}))
    access = NetworkAccess(transport=httpx2.MockTransport(fetched))
    asked = operation(
        parameter("a", schema={"$ref": ref}), {"$ref": ref}, body={"$ref": ref}, answers={"$ref": ref}
    )
    parser = OpenAPIParser(network=access)
    for tool in parser.extract_tools(document({"/a": {"post": asked}, "/b": {"$ref": ref}, "/c": {"post": operation(body={"$ref": ref})}})):  # fmt: skip
        assert "root:" not in msgspec.json.encode(tool.parameters).decode()
        _ = tool.returns
    assert not fetched.requests


async def through_template(path: str) -> None:
    parser = OpenAPIParser()
    assert parser.extract_tools(document({path: {"get": operation(parameter("id", "path"))}})) == []
    assert parser.report.counts["failed"] == 1


async def through_header_name(name: str) -> None:
    server = Server(answer({}))
    registry = registry_of(document({"/a": {"get": operation(parameter(name, "header"))}}), server)
    if "get_a" in registry:
        assert not registry["get_a"].parameters["properties"]
    await outcome(registry.execute_tool("get_a", {}))
    checked_requests(server)


async def through_changed_server(url: str) -> None:
    """A specification that is read anew and says another server, to be shown the credential."""
    registry, server = ToolRegistry(), Server(answer({}))
    access = NetworkAccess(transport=httpx2.MockTransport(server))
    registry.provide(access, Credentials().api_key("key", SECRET))
    spec = document({"/a": {"get": operation(security=[{"key": []}])}}, components=KEY)
    OpenAPIParser().register_tools_from_spec(spec, registry)
    OpenAPIParser().register_tools_from_spec({**spec, "servers": [{"url": url}]}, registry, replace=True)
    await outcome(registry.execute_tool("get_a"))
    checked_requests(server)


async def through_operation_server(url: str) -> None:
    """An operation that says another server than all others, to be shown the credential."""
    server = Server(answer({}))
    spec = document(
        {"/a": {"get": operation(security=[{"key": []}], servers=[{"url": url}])}}, components=KEY
    )
    await outcome(
        registry_of(spec, server, Credentials().api_key("key", SECRET), retries=0).execute_tool("get_a")
    )
    assert not any(SECRET in value for request in server.requests for value in request.headers.values())


async def through_token_url(url: str) -> None:
    scheme = {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": url, "scopes": {}}}}
    spec = document(
        {"/a": {"get": operation(security=[{"c": []}])}}, components={"securitySchemes": {"c": scheme}}
    )
    server = Server(answer({"access_token": "t"}))
    held = Credentials().client_credentials("c", "me", SECRET)
    refused = await outcome(registry_of(spec, server, held, retries=0).execute_tool("get_a"))
    assert isinstance(refused, ToolError)
    assert not server.requests


# ---------------------------------------------------------------- through answers


async def through_redirect(location: str) -> None:
    server = Server(httpx2.Response(302, headers={"location": location}))
    spec = document({"/a": {"get": operation(security=[{"key": []}]), "post": operation(security=[{"key": []}])}}, components=KEY)  # fmt: skip
    registry = registry_of(spec, server, Credentials().api_key("key", SECRET), retries=0)
    for name in ("get_a", "post_a"):
        refused = await outcome(registry.execute_tool(name))
        assert isinstance(refused, ToolError)
    checked_requests(server)
    assert len(server.requests) <= 7


async def through_next_page(location: str) -> None:
    for told in (answer([1], link=f'<{location}>; rel="next"'), answer({"items": [1], "next": location})):
        server = Server(told)
        spec = document({"/a": {"get": operation(security=[{"key": []}])}}, components=KEY)
        registry = registry_of(
            spec, server, Credentials().api_key("key", SECRET), options={"*": OperationOptions(all_pages=3)}
        )
        await outcome(registry.execute_tool("get_a"))
        checked_requests(server)


# ---------------------------------------------------------------- to a server that is there

LOOPBACK = [
    "http://127.0.0.1", "http://127.1", "http://2130706433", "http://0x7f000001", "http://0177.0.0.1", "http://0", "http://0.0.0.0",
    "http://localhost", "http://LOCALHOST", "http://[::ffff:127.0.0.1]", "http://api.example.com@127.0.0.1", "HTTP://127.0.0.1",
]  # fmt: skip
"""Who says so means a server of ours; each is tried by one who guards, and by one who does not."""


def to_server(url: str) -> Any:
    return {**document({"/a": {"get": operation()}}), "servers": [{"url": url}]}


def to_reference(url: str) -> Any:
    body = {"$ref": f"{url}/schema.json"}
    return document({"/a": {"post": operation(body=body, answers=body)}, "/b": {"$ref": f"{url}/path.json"}})


def to_token_url(url: str) -> Any:
    scheme = {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": f"{url}/token", "scopes": {}}}}
    return {
        **document({"/a": {"get": operation(security=[{"c": []}])}}, components={"securitySchemes": {"c": scheme}}),
        "servers": [{"url": "http://api.example.com"}],
    }  # fmt: skip


async def load_and_call(spec: Any, network: NetworkAccess, *, refs: Any = (), hosts: Any = ()) -> Any:
    """Make tools of a specification and call the first, with a credential for whoever may see it."""
    registry = ToolRegistry()
    registry.provide(network, Credentials().client_credentials("c", "me", SECRET, hosts=hosts))
    parser = OpenAPIParser(retries=0, refs=refs, network=network)
    await asyncio.to_thread(parser.register_tools_from_spec, spec, registry)
    for name in registry:
        _ = registry[name].parameters, registry[name].returns
    return await outcome(registry.execute_tool("get_a")) if "get_a" in registry else None


@pytest.mark.parametrize("spec", [to_server, to_reference, to_token_url])
@pytest.mark.parametrize("url", LOOPBACK)
async def test_a_server_of_ours_is_not_reached_and_would_be(spec, url):
    """The same specification twice: nobody is asked; then its guards are told to let it, and the server is asked."""
    async with Site({"/a": page("{}", content_type="application/json"), "/schema.json": page('{"type": "object"}'),
                     "/path.json": page("{}"), "/token": page('{"access_token": "t"}')}) as site:  # fmt: skip
        hostile = spec(f"{url}:{site.port}")
        await load_and_call(hostile, NetworkAccess(ports=[80, 443, site.port]))
        assert site.asked == []
        if urlsplit(url).hostname != "127.0.0.1" or "@" in url:
            url = "http://127.0.0.1"  # other spellings are refused even where the address is allowed
            hostile = spec(f"{url}:{site.port}")
        allowed = NetworkAccess(["127.0.0.1"], ports=[80, 443, site.port])
        await load_and_call(hostile, allowed, refs=[f"{url}:{site.port}/"], hosts=["127.0.0.1"])
        asked = {"to_server": "/a", "to_reference": "/schema.json", "to_token_url": "/token"}[spec.__name__]
        assert asked in site.targets
        if spec is to_token_url:
            [request] = [each for each in site.asked if each.target == "/token"]
            assert b64decode(request.headers["authorization"].split()[1]).decode() == f"me:{SECRET}"


@pytest.mark.parametrize("url", LOOPBACK)
async def test_control_each_spelling_leads_there(url):
    """Somebody who asks as the specification says, by the standard library."""
    async with Site({"/a": page("the inside")}) as site:
        parts = urlsplit(f"{url}:{site.port}")
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)

        def ask() -> bytes:
            connection.request("GET", "/a")
            return connection.getresponse().read()

        assert await asyncio.to_thread(ask) == b"the inside"
        assert site.targets == ["/a"]
        connection.close()


@pytest.mark.parametrize(
    ("refs", "allow"), [(True, False), (False, True)], ids=["the way is guarded", "the root is guarded"]
)
async def test_a_reference_needs_its_root_and_its_way_allowed(refs, allow):
    async with Site({"/schema.json": page("{}")}) as site:
        network = NetworkAccess(["127.0.0.1"] if allow else [], ports=[80, 443, site.port])
        await load_and_call(
            to_reference(site.url("").rstrip("/")), network, refs=[site.url("/")] if refs else ()
        )
        assert site.asked == []


async def test_control_a_reference_to_a_file_would_be_read(tmp_path):
    (tmp_path / "secret.json").write_text('{"type": "object", "title": "root:x:0"}')
    spec = to_reference(tmp_path.as_uri())
    spec["paths"]["/a"]["post"]["requestBody"]["content"]["application/json"]["schema"] = {
        "$ref": f"{tmp_path.as_uri()}/secret.json"
    }
    for refs, found in (([], False), ([tmp_path], True)):
        [tool, *_] = OpenAPIParser(refs=refs).extract_tools(spec)
        assert ("root:x:0" in msgspec.json.encode(tool.parameters).decode()) is found


TABLE: list[tuple[Callable[[str], Awaitable[None]], list[str]]] = [
    (through_path, PATHS),
    (through_path, ENCODED),
    (through_path, LINES),
    (through_array_in_path, PATHS + ENCODED),
    (through_query, QUERIES + PATHS + ENCODED),
    (through_header, LINES),
    (through_names_in_objects, [*QUERIES, "admin", "key", "admin&x", "o"]),
    (through_filename, LINES + QUERIES),
    (through_server, HOSTS + SERVERS),
    (through_reference, REFERENCES),
    (through_template, TEMPLATES),
    (through_header_name, HEADERS),
    (through_changed_server, ["https://evil.example", "http://api.example.com", "https://api.example.com:8443", "https://api.example.com.evil.example"]),
    (through_operation_server, ["https://evil.example", "http://api.example.com", "https://api.example.com:8443"]),
    (through_token_url, ["https://evil.example/t", "http://api.example.com/t", "HTTP://api.example.com/t", "ftp://api.example.com/t", "http://127.0.0.1/t", "file:///x", "//x", "http://[", "https://api.example.com@evil.example/"]),
    (through_redirect, REDIRECTS),
    (through_next_page, REDIRECTS),
]  # fmt: skip
CASES = [
    pytest.param(attack, case, id=f"{attack.__name__}-{at}-{number}")
    for at, (attack, cases) in enumerate(TABLE)
    for number, case in enumerate(cases)
]


def test_there_are_as_many_as_are_told():
    assert len({attack for attack, _ in TABLE}) >= 14
    assert len(CASES) >= 250


@pytest.mark.parametrize(("attack", "case"), CASES)
async def test_none_comes_through(attack, case):
    await attack(case)


# ---------------------------------------------------------------- what takes for ever


BOMBS: list[tuple[str, Any]] = [
    ("aliases", "openapi: 3.0.0\na: &a [1,1,1,1,1,1,1,1,1]\n" + "\n".join(f"k{n}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]" for n in range(12))),
    ("holds itself", "openapi: 3.0.0\npaths: &a {x: *a}"),
    ("deep JSON", '{"openapi": "3.0.0", "x": ' + "[" * 50_000 + "]" * 50_000 + "}"),
    ("deep YAML", "openapi: 3.0.0\nx: " + "[" * 3_000 + "]" * 3_000),
    ("deep schema", document({"/a": {"post": operation(body=msgspec.json.decode('{"items":' * 400 + "{}" + "}" * 400))}})),
    ("chain of references", document({"/a": {"post": operation(body={"$ref": "#/components/schemas/A0"})}}, components={"schemas": {f"A{n}": {"$ref": f"#/components/schemas/A{n + 1}"} for n in range(5_000)}})),
    ("long names", document({f"/{'x' * 10_000}{n}": {"get": operation(operationId="y" * 10_000)} for n in range(50)})),
    ("many parameters", document({"/a": {"get": operation(*(parameter(f"p{n}") for n in range(5_000)))}})),
    ("pattern", document({"/a": {"get": operation(parameter("v", schema={"type": "string", "pattern": "^(?:a|ab|b|ba)*$"}))}})),
    ("tags of YAML", "openapi: 3.0.0\npaths: !!python/object/apply:os.system ['touch evil']"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spec"), BOMBS, ids=[name for name, _ in BOMBS])
def test_what_takes_for_ever_ends_soon(name, spec):
    began = time.perf_counter()
    try:
        tools = OpenAPIParser().extract_tools(spec)
    except ConfigurationError:
        tools = []
    for tool in tools:
        _ = tool.parameters, tool.returns
        try:
            tool.signature.read(b'{"v": "' + b"ab" * 40 + b'!"}')
        except ToolError as error:
            assert error.code == "invalid_input"
    assert time.perf_counter() - began < 15, "it took for ever"


# ---------------------------------------------------------------- the controls


def test_controls_without_the_guards_the_attacks_work():
    naive = f"{SERVER}/users/{{}}/pets"
    assert (
        urlsplit(urljoin(SERVER, naive.format("../admin"))).path
        != f"/v1/users/{quote('../admin', safe='')}/pets"
    )
    assert str(httpx2.URL(naive.format("../../admin"))) == f"{SERVER.removesuffix('/v1')}/admin/pets"
    assert httpx2.URL(f"{SERVER}/a?q={'a&admin=1'}").params["admin"] == "1"
    assert urlsplit(urljoin(SERVER, "//evil.example/x")).hostname == "evil.example"


async def test_control_the_header_would_be_written():
    heard = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"GET / HTTP/1.1\r\nX-A: {LINES[0]}\r\n\r\n".encode())
        assert b"\r\nX-Evil: 1\r\n" in await heard
        writer.close()
        await reader.read()


async def test_control_a_redirect_would_be_followed_and_the_key_shown():
    def there(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.url.host, request.headers.get("x-key", "")))
        return (
            httpx2.Response(302, headers={"location": "https://evil.example/"})
            if len(seen) == 1
            else httpx2.Response(200)
        )

    seen: list[tuple[str, str]] = []
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(there), follow_redirects=True) as client:
        await client.get(SERVER, headers={"X-Key": SECRET})
    assert seen[1] == ("evil.example", SECRET)
