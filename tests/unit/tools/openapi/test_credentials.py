"""Named credentials: what is shown to whom, and the way out where none is there."""

import asyncio
import base64
import json

import httpx2
import pytest
from tests.apis import Server, answer, document, operation, parameter, registry_of

from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.kernel.settings import Secret
from reprise.testing import run
from reprise.tools.openapi.credentials import Credentials

TOKENS = "https://api.example.com/token"
SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
    "inquery": {"type": "apiKey", "in": "query", "name": "api key"},
    "incookie": {"type": "apiKey", "in": "cookie", "name": "session"},
    "basic": {"type": "http", "scheme": "Basic"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "digest": {"type": "http", "scheme": "digest"},
    "tls": {"type": "mutualTLS"},
    "oidc": {"type": "openIdConnect", "openIdConnectUrl": "https://x.example"},
    "code": {"type": "oauth2", "flows": {"authorizationCode": {"tokenUrl": TOKENS, "scopes": {}}}},
    "client": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": TOKENS, "scopes": {}}}},
    "elsewhere": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "https://evil.example/t"}}},
    "nowhere": {"type": "oauth2", "flows": {"clientCredentials": {}}},
}
ALL = {scheme: [{scheme: []}] for scheme in SCHEMES}


def spec(security, *parameters, **more):
    asked = operation(*parameters, security=security, **more)
    return document({"/a": {"get": asked}}, components={"securitySchemes": SCHEMES})


async def shown(security, credentials: Credentials, *parameters, **arguments) -> httpx2.Request:
    server = Server(answer({}))
    await registry_of(spec(security, *parameters), server, credentials, prefix="my_").execute_tool(
        "my_get_a", arguments
    )
    return server.last


async def test_where_credentials_go():
    held = (
        Credentials()
        .api_key("my_key", "k1")
        .api_key("my_inquery", Secret("k/2"))
        .api_key("my_incookie", lambda: "k 3")
        .basic("my_basic", "ada", "pä:ss")
        .bearer("my_bearer", "t1")
        .bearer("my_oidc", "t2")
        .bearer("my_code", "t3")
    )
    assert (await shown(ALL["key"], held)).headers["x-key"] == "k1"
    assert (await shown(ALL["inquery"], held)).url.query == b"api%20key=k%2F2"
    assert (await shown(ALL["incookie"], held)).headers["cookie"] == "session=k%203"
    basic = (await shown(ALL["basic"], held)).headers["authorization"]
    assert base64.b64decode(basic.removeprefix("Basic ")).decode() == "ada:pä:ss"
    for scheme, token in (("bearer", "t1"), ("oidc", "t2"), ("code", "t3")):
        assert (await shown(ALL[scheme], held)).headers["authorization"] == f"Bearer {token}"


async def test_the_first_way_that_is_there_is_taken_and_all_of_it():
    held = Credentials().api_key("my_key", "k").bearer("my_bearer", "t")
    request = await shown([{"basic": []}, {"key": [], "bearer": []}, {"key": []}], held)
    assert (request.headers["x-key"], request.headers["authorization"]) == ("k", "Bearer t")
    request = await shown([{"key": [], "basic": []}, {"bearer": []}], held)
    assert ("x-key" in request.headers, request.headers["authorization"]) == (False, "Bearer t")


@pytest.mark.parametrize("security", [[], [{"key": []}, {}], [{}], [{"tls": []}]])
async def test_what_needs_no_credential_is_called_without(security):
    request = await shown(security, Credentials())
    assert not {"x-key", "authorization", "cookie"} & set(request.headers)


@pytest.mark.parametrize(
    ("scheme", "way_out"),
    [
        ("key", ".api_key('my_key', …)"),
        ("basic", ".basic('my_basic', user, password)"),
        ("bearer", ".bearer('my_bearer', …)"),
        ("oidc", ".bearer('my_oidc', …) and a token got elsewhere (OpenID Connect needs a person)"),
        ("code", ".bearer('my_code', …) and a token got elsewhere (authorizationCode needs a person)"),
        ("client", ".client_credentials('my_client', id, secret)"),
        ("digest", "an executor of your own for 'my_digest': digest is not known"),
    ],
)
async def test_a_credential_that_is_not_there_is_said_with_the_way_out(scheme, way_out):
    with pytest.raises(ToolError) as caught:
        await shown(ALL[scheme], Credentials().api_key("other", "k"))
    assert caught.value.code == "unavailable"
    assert f"my_{scheme}" in caught.value.what
    assert way_out in caught.value.hint


async def test_a_credential_of_another_kind_is_none():
    with pytest.raises(ToolError, match="needs a credential: my_basic"):
        await shown(ALL["basic"], Credentials().api_key("my_basic", "k"))


async def test_a_key_is_no_argument():
    request = await shown(
        ALL["key"], Credentials().api_key("my_key", "k"), parameter("x-key", "header"), parameter("q")
    )
    assert request.headers["x-key"] == "k"
    server = Server(answer({}))
    registry = registry_of(spec(ALL["key"], parameter("x-key", "header"), parameter("q")), server)
    assert list(registry["get_a"].parameters["properties"]) == ["q"]


async def test_the_header_authorization_as_a_parameter_is_a_credential():
    for held in (
        Credentials().bearer("my_authorization", "t"),
        Credentials().api_key("my_authorization", "Bearer t"),
    ):
        request = await shown([], held, parameter("Authorization", "header", required=True))
        assert request.headers["authorization"] == "Bearer t"
    with pytest.raises(ToolError, match="my_authorization"):
        await shown([], Credentials(), parameter("Authorization", "header", required=True))
    assert (
        "authorization" not in (await shown([], Credentials(), parameter("authorization", "header"))).headers
    )


async def test_names_may_be_given():
    server = Server(answer({}))
    held = Credentials().api_key("shared", "k")
    registry = registry_of(spec(ALL["key"]), server, held, credentials={"key": "shared"})
    await registry.execute_tool("get_a")
    assert server.last.headers["x-key"] == "k"


async def test_another_server_does_not_see_it_unless_it_is_named():
    other = spec(ALL["key"], servers=[{"url": "https://other.example"}])
    server = Server(answer({}))
    with pytest.raises(ToolError, match=r"'key' is not for other\.example"):
        await registry_of(other, server, Credentials().api_key("key", "k")).execute_tool("get_a")
    assert not server.requests
    held = Credentials().api_key("key", "k", hosts=["*.example"])
    await registry_of(other, server, held).execute_tool("get_a")
    assert server.last.headers["x-key"] == "k"


def test_secrets_are_not_shown():
    held = Credentials().api_key("a", "hunter2").basic("b", "ada", "hunter2").bearer("c", lambda: "hunter2")
    assert repr(held) == "<credentials a, b, c>"
    assert "a" in held
    with pytest.raises(ConfigurationError):
        Credentials().bearer("", "t")


async def test_a_secret_that_cannot_be_fetched():
    def missing() -> str:
        raise KeyError("MY_SECRET_NAME")

    with pytest.raises(ToolError) as caught:
        await shown(ALL["bearer"], Credentials().bearer("my_bearer", missing))
    assert caught.value.code == "unavailable"


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0"])
async def test_a_secret_that_would_end_its_line(value):
    with pytest.raises(ToolError, match="no header may have"):
        await shown(ALL["bearer"], Credentials().bearer("my_bearer", value))


# ---------------------------------------------------------------- OAuth2


class Issuer(Server):
    """Gives tokens, and takes those it gave last."""

    def __init__(self, life: object = 3600, **more: object):
        super().__init__()
        self.given = 0
        self.life, self.more = life, more

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if request.url.path == "/token":
            self.given += 1
            return httpx2.Response(
                200, json={"access_token": f"t{self.given}", "expires_in": self.life, **self.more}
            )
        good = request.headers.get("authorization") == f"Bearer t{self.given}"
        return httpx2.Response(200 if good else 401, json={})

    @property
    def asked(self) -> list[httpx2.Request]:
        """Requests for tokens."""
        return [each for each in self.requests if each.url.path == "/token"]


def client(**more) -> Credentials:
    return Credentials().client_credentials("client", "me", "s&cret", **more)


def test_tokens_are_fetched_once_and_renewed_in_time():
    async def body():
        issuer = Issuer(life=100)
        registry = registry_of(spec([{"client": ["read", "write"]}]), issuer, client())
        await asyncio.gather(*(registry.execute_tool("get_a") for _ in range(20)))
        assert len(issuer.asked) == 1
        (asked,) = issuer.asked
        assert asked.content == b"grant_type=client_credentials&scope=read+write"
        assert base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")) == b"me:s%26cret"
        await asyncio.sleep(60)
        await registry.execute_tool("get_a")
        assert len(issuer.asked) == 1
        await asyncio.sleep(20)
        await registry.execute_tool("get_a")
        assert len(issuer.asked) == 2

    run(body)


async def test_a_token_that_is_refused_is_fetched_anew_once():
    issuer = Issuer()
    registry = registry_of(spec(ALL["client"]), issuer, client())
    await registry.execute_tool("get_a")
    issuer.given += 1  # it takes the old one no more
    await registry.execute_tool("get_a")
    assert len(issuer.asked) == 2

    def never(request: httpx2.Request) -> httpx2.Response:
        server.requests.append(request)
        return httpx2.Response(
            *((200,) if request.url.path == "/token" else (401,)), json={"access_token": "t"}
        )

    server = Server()
    server.__class__ = type("Never", (Server,), {"__call__": lambda self, request: never(request)})
    with pytest.raises(ToolError) as caught:
        await registry_of(spec(ALL["client"]), server, client()).execute_tool("get_a")
    assert (caught.value.code, len(server.requests)) == ("permission_denied", 4)
    assert "client" in caught.value.hint


async def test_how_tokens_are_asked_for():
    issuer = Issuer()
    held = client(in_body=True, scopes=["x"], audience="aud", token_url="https://issuer.example/token")
    await registry_of(spec([{"client": ["read"]}]), issuer, held).execute_tool("get_a")
    (asked,) = issuer.asked
    assert str(asked.url) == "https://issuer.example/token"
    assert (
        asked.content
        == b"grant_type=client_credentials&scope=x&audience=aud&client_id=me&client_secret=s%26cret"
    )
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("scheme", "code", "says"),
    [("elsewhere", "permission_denied", "evil.example"), ("nowhere", "unavailable", "token_url=")],
)
async def test_a_secret_is_not_sent_where_only_the_specification_says(scheme, code, says):
    server = Server(answer({}))
    held = Credentials().client_credentials(scheme, "me", "s")
    with pytest.raises(ToolError, match=says) as caught:
        await registry_of(spec(ALL[scheme]), server, held).execute_tool("get_a")
    assert (caught.value.code, server.requests) == (code, [])


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        (400, {"error": "invalid_client", "error_description": "who are you"}, "permission_denied"),
        (500, {}, "upstream"),
        (200, {"token": "t"}, "upstream"),
        (200, {"access_token": 7}, "upstream"),
        (302, {}, "upstream"),
    ],
)
async def test_tokens_that_are_not_given(status, told, code):
    server = Server(
        httpx2.Response(status, content=json.dumps(told), headers={"location": "https://evil.example"})
    )
    with pytest.raises(ToolError) as caught:
        await registry_of(spec(ALL["client"]), server, client(), retries=0).execute_tool("get_a")
    assert caught.value.code == code
    assert "s&cret" not in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("life", [None, "60", "soon", [], -5, True])
async def test_lives_of_tokens(life):
    await registry_of(spec(ALL["client"]), Issuer(life=life), client()).execute_tool("get_a")
