"""Calls: what is sent, what comes back, and what errors mean."""

import asyncio
import base64
from typing import Any

import httpx2
import pytest
from tests.apis import SERVER, Server, answer, document, operation, parameter, registry_of

from reprise.kernel.errors import ToolError
from reprise.testing import run
from reprise.tools.openapi.options import OperationOptions

USERS = {"type": "array", "items": {"type": "object", "required": ["name"]}}
SPEC = document({
    "/users": {
        "get": operation(parameter("limit", schema={"type": "integer"}), answers=USERS, operationId="list"),
        "post": operation(body={"type": "object", "required": ["name"]}, operationId="add"),
    },
    "/users/{id}": {
        "get": operation(parameter("id", "path"), parameter("X-Trace", "header"), parameter("c", "cookie"), operationId="get"),
        "delete": operation(parameter("id", "path"), operationId="remove"),
    },
})  # fmt: skip


async def test_what_is_sent():
    server = Server(answer({"name": "Ada"}))
    registry = registry_of(SPEC, server)
    await registry.execute_tool("get", {"id": "a b", "X-Trace": "t", "c": "1"})
    assert (server.last.method, str(server.last.url)) == ("GET", f"{SERVER}/users/a%20b")
    assert server.last.headers["x-trace"] == "t"
    assert server.last.headers["cookie"] == "c=1"


async def test_the_value_is_the_body_of_the_answer():
    answers = [
        answer([{"name": "Ada"}]),
        httpx2.Response(204),
        httpx2.Response(200, text="hello", headers={"content-type": "text/plain"}),
        httpx2.Response(200, content=b"\x89PNG", headers={"content-type": "image/png"}),
        httpx2.Response(
            200, content="é".encode("latin-1"), headers={"content-type": "text/plain; charset=latin-1"}
        ),
        httpx2.Response(200, content=b"x: 1", headers={"content-type": "application/x-custom"}),
    ]
    registry = registry_of(SPEC, Server(*answers))
    values = [await registry.execute_tool("list") for _ in answers]
    assert values == [
        [{"name": "Ada"}],
        None,
        "hello",
        {"content_type": "image/png", "base64": base64.b64encode(b"\x89PNG").decode()},
        "é",
        "x: 1",
    ]


async def test_an_answer_that_is_not_as_specified_is_a_warning():
    result = await registry_of(SPEC, Server(answer([{"nme": "x"}]))).call_tool("list")
    assert result.value == [{"nme": "x"}]
    assert result.warnings == ("The answer is not as specified: name is missing, at $[0].name.",)


async def test_json_that_is_none_is_an_error():
    broken = httpx2.Response(200, content=b"{", headers={"content-type": "application/json"})
    with pytest.raises(ToolError) as caught:
        await registry_of(SPEC, Server(broken)).execute_tool("list")
    assert caught.value.code == "upstream"


async def failing(response: httpx2.Response, name="list", arguments: Any = None, **options: Any) -> ToolError:
    registry = registry_of(SPEC, Server(response), retries=0, **options)
    with pytest.raises(ToolError) as caught:
        await registry.execute_tool(name, arguments or {})
    return caught.value


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_input"), (401, "permission_denied"), (402, "permission_denied"), (403, "permission_denied"),
        (404, "not_found"), (405, "upstream"), (408, "timeout"), (409, "conflict"), (410, "not_found"),
        (412, "conflict"), (413, "too_large"), (418, "upstream"), (422, "invalid_input"), (423, "conflict"),
        (429, "rate_limited"), (500, "upstream"), (501, "upstream"), (502, "upstream"), (503, "unavailable"),
        (504, "timeout"), (302, "upstream"),
    ],
)  # fmt: skip
async def test_statuses_and_codes(status, code):
    error = await failing(answer({"message": "Nope"}, status))
    assert error.code == code
    assert f"GET /v1/users answered {status}: Nope." in error.what


@pytest.mark.parametrize(
    ("told", "what", "field"),
    [
        ({"detail": [{"loc": ["query", "limit"], "msg": "too many"}]}, "too many", "$.limit"),
        ({"detail": [{"loc": ["body", "tags", 0], "msg": "bad"}]}, "bad", "$.body.tags[0]"),
        ({"errors": [{"pointer": "#/name/0", "detail": "bad"}]}, "bad", "$.body.name[0]"),
        ({"errors": [{"source": {"pointer": "/data/name"}, "title": "bad"}]}, "bad", "$.body.data.name"),
        ({"errors": [{"source": {"parameter": "limit"}, "detail": "bad"}]}, "bad", "$.limit"),
        ({"errors": {"name": ["is taken", "x"]}}, "name: is taken", "$.body.name"),
        ({"errors": [{"field": "name", "message": "bad"}]}, "bad", "$.body.name"),
        ({"error": {"message": "bad", "param": "limit"}}, "bad", "$.limit"),
        ({"error": "invalid", "error_description": "said more"}, "said more", ""),
        ({"title": "Bad", "detail": "said more"}, "said more", ""),
        ({"errors": ["just text"]}, "", ""),
        ([], "", ""),
        ("text", "", ""),
    ],
)
async def test_what_the_server_says_of_arguments(told, what, field):
    error = await failing(answer(told, 422))
    assert (what in error.what, error.field) == (True, field)


async def test_what_a_server_says_is_cut_and_plain():
    error = await failing(answer({"message": "a\x00\x1b[31m\n" + "x" * 5000}, 400))
    assert len(error.what) < 500
    assert "\x1b" not in error.what
    page = httpx2.Response(500, text="<html><body>secret stack trace</body></html>")
    assert "secret" not in (await failing(page)).what


async def test_which_credential_was_refused():
    error = await failing(answer({}, 401))
    assert "No credential was shown" in error.hint


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"x_ratelimit_reset": "30"}, 30.0),
        ({"retry_after": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0.0),
        ({"retry_after": "soon"}, None),
        ({}, None),
    ],
)
async def test_how_long_to_wait(headers, wait):
    error = await failing(answer({}, 429, **headers))
    assert (error.code, error.retry_after) == ("rate_limited", wait)


async def test_a_limit_said_with_403():
    error = await failing(answer({}, 403, x_ratelimit_remaining="0", x_ratelimit_reset="9"))
    assert (error.code, error.retry_after) == ("rate_limited", 9.0)


# ---------------------------------------------------------------- again


def test_what_may_be_repeated_is_tried_again():
    async def body():
        for status, tries in ((503, 3), (502, 3), (429, 3), (500, 1)):
            server = Server(answer({}, status))
            with pytest.raises(ToolError):
                await registry_of(SPEC, server).execute_tool("list")
            assert len(server.requests) == tries, status
        server = Server(httpx2.ConnectError("down"), answer([]))
        assert await registry_of(SPEC, server).execute_tool("list") == []

    run(body)


def test_what_must_not_be_repeated_is_not():
    async def body():
        for given in (answer({}, 503), httpx2.ReadError("cut")):
            server = Server(given)
            with pytest.raises(ToolError):
                await registry_of(SPEC, server).execute_tool("add", {"body": {"name": "x"}})
            assert len(server.requests) == 1
        server = Server(answer({}, 429, retry_after="1"), answer({}))
        assert await registry_of(SPEC, server).execute_tool("add", {"body": {"name": "x"}}) == {}

    run(body)


def test_as_long_as_the_server_wants_unless_there_is_no_time():
    async def body():
        loop = asyncio.get_running_loop()
        server = Server(answer({}, 429, retry_after="9"), answer([]))
        began = loop.time()
        await registry_of(SPEC, server).execute_tool("list")
        assert 9 <= loop.time() - began < 10
        server = Server(answer({}, 429, retry_after="900"))
        with pytest.raises(ToolError) as caught:
            await registry_of(SPEC, server).execute_tool("list")
        assert (caught.value.code, caught.value.retry_after, len(server.requests)) == ("rate_limited", 900, 1)

    run(body)


def test_a_rate_of_the_whole_api():
    async def body():
        loop = asyncio.get_running_loop()
        registry = registry_of(SPEC, Server(answer([])), rate=(2, 10))
        began = loop.time()
        for _ in range(5):
            await registry.execute_tool("list")
        assert 20 <= loop.time() - began < 21
        await registry.execute_tool("list")
        slow = registry_of(SPEC, Server(answer([])), rate=(1, 100))
        await slow.execute_tool("list")
        with pytest.raises(ToolError) as caught:
            await slow.execute_tool("remove", {"id": "1"})
        assert caught.value.code == "rate_limited"

    run(body)


# ---------------------------------------------------------------- where to


async def test_without_a_server_a_call_says_what_to_pass():
    spec = {**SPEC, "servers": [{"url": "/v1"}]}
    with pytest.raises(ToolError) as caught:
        await registry_of(spec, Server(answer([]))).execute_tool("list")
    assert caught.value.code == "unavailable"
    assert "OpenAPIParser(base_url=" in caught.value.hint


@pytest.mark.parametrize(
    ("server", "base", "expected"),
    [
        ("/v1", "https://b.example", "https://b.example/v1/users"),
        ("/v1", "https://b.example/gate", "https://b.example/gate/users"),
        ("https://api.example.com/v1", "https://b.example", "https://b.example/users"),
        ("/", "https://b.example/x/", "https://b.example/x/users"),
        ("//c.example/v3", "", "https://c.example/v3/users"),
        ("https://{region}.example.com/{v}", "", "https://eu.example.com/v2/users"),
        ("https://api.example.com/v1?key=1", "", "https://api.example.com/v1/users?key=1"),
    ],
)
async def test_servers(server, base, expected):
    variables = {"region": {"default": "us", "enum": ["us", "eu"]}, "v": {"default": "v2"}}
    spec = {**SPEC, "servers": [{"url": server, "variables": variables}]}
    answers = Server(answer([]))
    await registry_of(spec, answers, base_url=base, variables={"region": "eu"}).execute_tool("list")
    assert str(answers.last.url) == expected


async def test_the_environment_may_say_the_server(monkeypatch):
    monkeypatch.setenv("REPRISE_MYAPI_BASE_URL", "https://e.example/v9")
    server = Server(answer([]))
    await registry_of(SPEC, server, prefix="myapi_").execute_tool("myapi_list")
    assert str(server.last.url) == "https://e.example/v9/users"


async def test_servers_of_paths_and_operations():
    spec = document({
        "/a": {"servers": [{"url": "https://a.example"}], "get": operation(),
               "post": operation(servers=[{"url": "https://b.example/up"}])},
    })  # fmt: skip
    server = Server(answer({}))
    registry = registry_of(spec, server)
    await registry.execute_tool("get_a")
    await registry.execute_tool("post_a")
    assert [str(each.url) for each in server.requests] == ["https://a.example/a", "https://b.example/up/a"]


async def test_paths_with_a_query_or_a_fragment():
    spec = document(
        {
            "/?Action=List": {"get": operation(parameter("n"))},
            "/#Action=Show": {"get": operation()},
            "/weather?lat={lat}&units=si": {"get": operation(parameter("lat", "path", {"type": "number"}))},
        }
    )
    server = Server(answer({}))
    registry = registry_of(spec, server)
    await registry.execute_tool("get_action_list", {"n": "x"})
    await registry.execute_tool("get_action_show")
    await registry.execute_tool("get_weather_lat_lat_units_si", {"lat": 1.5})
    assert [str(each.url).removeprefix(SERVER) for each in server.requests] == [
        "/?Action=List&n=x",
        "/",
        "/weather?lat=1.5&units=si",
    ]


async def test_3_2_the_query_method_and_the_whole_query():
    spec = document(
        {
            "/find": {
                "query": operation(body={"type": "object"}),
                "get": operation(
                    {"name": "q", "in": "querystring", "content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}}}
                ),
                "additionalOperations": {"OPTIONS": operation()},
            }
        },
        "3.2.0",
    )  # fmt: skip
    server = Server(answer({}))
    registry = registry_of(spec, server)
    await registry.execute_tool("query_find", {"body": {"a": 1}})
    assert (server.last.method, server.last.content) == ("QUERY", b'{"a":1}')
    await registry.execute_tool("get_find", {"q": {"a": 1, "b": "x&y"}})
    assert str(server.last.url) == f"{SERVER}/find?a=1&b=x%26y"
    await registry.execute_tool("options_find")
    assert server.last.method == "OPTIONS"


async def test_a_parameter_that_is_json():
    asked = {"name": "f", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}}
    server = Server(answer({}))
    await registry_of(document({"/a": {"get": operation(asked)}}), server).execute_tool(
        "get_a", {"f": {"a": [1]}}
    )
    assert server.last.url.params["f"] == '{"a":[1]}'
    asked["content"] = {"application/json": {"schema": {"type": "string"}}}
    await registry_of(document({"/a": {"get": operation(asked)}}), server).execute_tool("get_a", {"f": "x"})
    assert server.last.url.params["f"] == '"x"'


@pytest.mark.parametrize(("value", "sent"), [("x", "x"), (["x"], '["x"]'), (3, "3")])
async def test_a_parameter_of_any_media_type_is_a_text_as_it_is_and_else_json(value, sent):
    asked = {"name": "f", "in": "query", "content": {"*/*": {"schema": {}}}}
    server = Server(answer({}))
    await registry_of(document({"/a": {"get": operation(asked)}}), server).execute_tool("get_a", {"f": value})
    assert server.last.url.params["f"] == sent


# ---------------------------------------------------------------- what is made of answers


async def test_selecting_and_cutting():
    people = [{"id": n, "name": "x" * n} for n in range(10)]
    options = {
        "list": OperationOptions(select="[].id", max_rows=3),
        "get": OperationOptions(max_bytes=100),
    }
    registry = registry_of(SPEC, Server(answer(people)), options=options)
    result = await registry.call_tool("list")
    assert (result.value, result.warnings[-1]) == ([0, 1, 2], "Cut: 3 of 10 rows.")
    assert registry["list"].returns == {}
    result = await registry.call_tool("get", {"id": "1"})
    assert len(result.data) <= 100
    assert result.warnings == (f"Cut: {len(result.value)} of 10 rows.",)


async def test_an_answer_without_rows_that_is_too_large():
    registry = registry_of(
        SPEC, Server(answer({"a": "x" * 200})), options={"*": OperationOptions(max_bytes=100)}
    )
    with pytest.raises(ToolError) as caught:
        await registry.execute_tool("list")
    assert caught.value.code == "too_large"


PAGED = document(
    {"/a": {"get": operation(parameter("cursor"), parameter("page", schema={"type": "integer"}))}}
)


@pytest.mark.parametrize(
    ("pages", "urls"),
    [
        (
            [answer([1], link='</v1/a?page=2>; rel="next"'), answer([2])],
            ["/a", "/a?page=2"],
        ),
        (
            [answer({"items": [1], "next_cursor": "b&c"}), answer({"items": [2], "next_cursor": None})],
            ["/a", "/a?cursor=b%26c"],
        ),
        (
            [answer({"data": [1], "links": {"next": f"{SERVER}/a?n=2"}}), answer({"data": [2], "links": {}})],
            ["/a", "/a?n=2"],
        ),
        (
            [answer({"rows": [1]}), answer({"rows": [2]}), answer({"rows": []})],
            ["/a", "/a?page=2", "/a?page=3"],
        ),
    ],
)
async def test_all_pages(pages, urls):
    server = Server(*pages)
    registry = registry_of(PAGED, server, options={"get_a": OperationOptions(all_pages=5)})
    value = await registry.execute_tool("get_a")
    assert (value if isinstance(value, list) else next(iter(value.values()))) == [1, 2]
    assert [str(each.url).removeprefix(SERVER) for each in server.requests] == urls


async def test_as_many_pages_as_wanted_and_a_word_on_the_next():
    server = Server(answer({"items": [1], "next_cursor": "b"}), answer({"items": [2], "next_cursor": "c"}))
    result = await registry_of(PAGED, server, options={"*": OperationOptions(all_pages=2)}).call_tool("get_a")
    assert (result.value["items"], len(server.requests)) == ([1, 2], 2)
    assert result.warnings == ("There is a next page: cursor=c.",)
    once = await registry_of(PAGED, Server(answer({"items": [1], "next_cursor": "b"}))).call_tool("get_a")
    assert once.warnings == ("There is a next page: cursor=b.",)


async def test_a_page_at_another_server_is_not_fetched():
    server = Server(answer([1], link='<https://evil.example/a?page=2>; rel="next"'))
    result = await registry_of(PAGED, server, options={"*": OperationOptions(all_pages=5)}).call_tool("get_a")
    assert (result.value, len(server.requests)) == ([1], 1)
    assert "at another server" in result.warnings[0]


async def test_a_redirect_within_the_server_is_followed_and_out_of_it_not():
    server = Server(httpx2.Response(307, headers={"location": "/v2/users"}), answer([1]))
    assert await registry_of(SPEC, server).execute_tool("list") == [1]
    assert str(server.last.url) == "https://api.example.com/v2/users"
    for name, arguments in (("list", {}), ("add", {"body": {"name": "x"}})):
        server = Server(httpx2.Response(307, headers={"location": "https://evil.example/users"}))
        with pytest.raises(ToolError, match=r"redirects .* to https://evil\.example"):
            await registry_of(SPEC, server, retries=0).execute_tool(name, arguments)
        assert len(server.requests) == 1


async def test_a_circle_of_redirects_ends():
    server = Server(httpx2.Response(302, headers={"location": "/v1/users"}))
    with pytest.raises(ToolError, match="more than 5 times"):
        await registry_of(SPEC, server, retries=0).execute_tool("list")


SLASHED = {"type": "string", "pattern": "^[a-z.]+(/[a-z.]+)*$"}


@pytest.mark.parametrize(
    ("schema", "options", "value", "expected"),
    [
        ({"type": "string"}, {"slashes": True}, "group/project", "/x/group%2Fproject"),
        (SLASHED, {}, "group/project", "/x/group%2Fproject"),
        ({"type": "string", "enum": ["a/b"]}, {}, "a/b", "/x/a%2Fb"),
        ({"type": "string"}, {}, "group/project", None),
        ({"type": "string"}, {"slashes": True}, "a/../b", None),
        ({"type": "string"}, {"slashes": True}, "..\\admin", None),
        (SLASHED, {}, "../admin", None),
        (SLASHED, {}, "a/.", None),
    ],
)
async def test_slashes_where_the_server_or_the_specification_has_them(schema, options, value, expected):
    server = Server(answer({}))
    registry = registry_of(
        document({"/x/{id}": {"get": operation(parameter("id", "path", schema))}}), server, **options
    )
    if expected is None:
        with pytest.raises(ToolError) as caught:
            await registry.execute_tool("get_x_id", {"id": value})
        assert (caught.value.code, caught.value.field, server.requests) == ("invalid_input", "$.id", [])
    else:
        await registry.execute_tool("get_x_id", {"id": value})
        assert server.last.url.raw_path.decode() == f"/v1{expected}"


async def test_a_server_that_always_says_the_same_next_page_is_not_asked_for_ever():
    server = Server(*(answer({"items": [at], "next_cursor": "b"}) for at in range(9)))
    registry = registry_of(PAGED, server, options={"*": OperationOptions(all_pages=9)})
    assert (await registry.execute_tool("get_a"))["items"] == [0, 1]
    assert len(server.requests) == 2
