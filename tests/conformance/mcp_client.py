"""The client of ``make trial-mcp``: a mount, as anybody would make it, told what to do by the official suite.

The suite starts it with the URL of a server as its last argument, and says in its environment which scenario it is.
"""

import asyncio
import json
import logging
import os
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import mcp_types as types
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata

from reprise.kernel.errors import ToolError
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.mcp.mount import MCPMount
from reprise.tools.registry import ToolRegistry

SCENARIO = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
VERSION = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "")
GIVEN: dict[str, Any] = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
# Its server answers in the old way only, whatever version the scenario is run at.
LEGACY = VERSION < "2026" or SCENARIO == "json-schema-ref-no-deref"
BACK = "http://localhost:3000/callback"
STATE = ("test_mrtr_echo_state", "test_mrtr_unrelated", "test_mrtr_no_state", "test_mrtr_no_result_type")
STUBS = {"integer": 5, "number": 3.5, "boolean": True, "object": {}, "array": [], "null": None}


class Tokens:
    """Where OAuth keeps what it was given: here, as long as this lives."""

    def __init__(self, client: OAuthClientInformationFull | None) -> None:
        self.client, self.tokens = client, None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


class Browser:
    """A person who agrees at once."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = {}

    async def go(self, url: str) -> None:
        async with httpx2.AsyncClient() as client:
            answer = await client.get(url, follow_redirects=False)
        self.seen = parse_qs(urlsplit(answer.headers["location"]).query)

    async def came_back(self) -> AuthorizationCodeResult:
        first = {name: values[0] for name, values in self.seen.items()}
        return AuthorizationCodeResult(code=first["code"], state=first.get("state"), iss=first.get("iss"))


def auth(url: str) -> httpx2.Auth | None:
    if not SCENARIO.startswith("auth/"):
        return None
    id, secret = GIVEN.get("client_id"), GIVEN.get("client_secret")
    if SCENARIO == "auth/client-credentials-basic":
        return ClientCredentialsOAuthProvider(
            server_url=url, storage=Tokens(None), client_id=id, client_secret=secret,
            token_endpoint_auth_method="client_secret_basic",
        )  # fmt: skip
    if SCENARIO == "auth/client-credentials-jwt":
        signed = SignedJWTParameters(
            issuer=id, subject=id, signing_key=GIVEN["private_key_pem"],
            signing_algorithm=GIVEN.get("signing_algorithm", "ES256"),
        )  # fmt: skip
        return PrivateKeyJWTOAuthProvider(
            server_url=url,
            storage=Tokens(None),
            client_id=id,
            assertion_provider=signed.create_assertion_provider(),
        )
    known = None
    if id:
        method = "client_secret_basic" if secret else "none"
        known = OAuthClientInformationFull(
            client_id=id, client_secret=secret, redirect_uris=[BACK], token_endpoint_auth_method=method
        )
    browser = Browser()
    return OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(client_name="reprise", redirect_uris=[BACK]),
        storage=Tokens(known),
        redirect_handler=browser.go,
        callback_handler=browser.came_back,
        client_metadata_url="https://conformance-test.local/client-metadata.json",
    )


async def answers(context: Any, params: Any) -> types.ElicitResult:
    """Fill a form with its defaults, and yes."""
    fields = params.requested_schema.get("properties", {})
    defaults = {name: each["default"] for name, each in fields.items() if "default" in each}
    yes = {name: True for name, each in fields.items() if each.get("type") == "boolean"}
    return types.ElicitResult(action="accept", content=yes | defaults)


async def samples(context: Any, params: Any) -> types.CreateMessageResult:
    return types.CreateMessageResult(role="assistant", content=types.TextContent(text=""), model="none")


async def roots(context: Any) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[])


def calls(tools: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What is to be called, by the server's names."""
    if "toolCalls" in GIVEN:
        # One has null for a text that may be missing. Here that is refused, as the tool's schema says: left out is left out.
        return [
            (each["name"], {name: value for name, value in each["arguments"].items() if value is not None})
            for each in GIVEN["toolCalls"]
        ]
    if SCENARIO == "sep-2322-client-request-state":
        return [(name, {}) for name in STATE]
    if SCENARIO == "json-schema-2020-12-preservation":
        return [("json_schema_echo", {"schema": tools["json_schema_2020_12_tool"].parameters})]
    return [(name, stubs(tool.parameters)) for name, tool in tools.items()]


def stubs(schema: dict[str, Any]) -> dict[str, Any]:
    fields = schema.get("properties", {})
    return {name: STUBS.get(fields.get(name, {}).get("type"), "x") for name in schema.get("required", ())}


async def main(url: str) -> None:
    options = {
        "mode": "legacy" if LEGACY else "auto",
        "elicitation_callback": answers,
        "sampling_callback": samples,
        "list_roots_callback": roots,
    }
    access = NetworkAccess(allow=["localhost", "127.0.0.1", "[::1]"], rate=None)
    registry = ToolRegistry()
    async with MCPMount("x", url=url, access=access, auth=auth(url), options=options) as mount:
        mounted = {each.name.removeprefix("x_"): each for each in await mount.mount(registry)}
        for name, arguments in calls(mounted):
            if name in mounted:
                try:
                    await registry.execute_tool(f"x_{name}", arguments)
                except ToolError as error:
                    logging.warning("%s: %s", name, error)  # noqa: LOG015 - a script


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.run(main(sys.argv[1]))
