"""The door of a server over HTTP: who may come in is decided before anything is read."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import AsyncExitStack
from hashlib import sha256
from types import TracebackType
from typing import Any, Self

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from reprise.kernel.errors import ConfigurationError
from reprise.tools.mcp.callers import PRINCIPAL
from reprise.tools.mcp.serving import Offer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost", "[::1]")
MAX_BODY = 4 << 20
"""Bytes of a request."""
MAX_SESSIONS = 1_000
"""Of clients that speak 2025-11-25; later ones have none."""
IDLE = 1_800.0
"""Seconds after which a session that nobody uses ends."""
SHORTEST_TOKEN = 16


class Door:
    """An ASGI application that lets in who may come in, and serves what is offered at one path.

    ``hosts`` are what requests may call this server (``example.org``, ``127.0.0.1:8000``; without a port any is fine),
    ``origins`` the pages that may use it (``https://example.org``); none means that no browser may. A page elsewhere that
    has this server's address by its own name (DNS rebinding) is refused by both. ``tokens``: whoever comes must bring one
    of these; each sees only the runs that it started itself.

    Raises ``ConfigurationError`` for a token that can be guessed.
    """

    def __init__(
        self,
        offer: Offer,
        *,
        path: str = "/mcp",
        hosts: Sequence[str] = LOCAL,
        origins: Sequence[str] = (),
        tokens: Sequence[str] = (),
        max_body: int = MAX_BODY,
    ) -> None:
        if short := [token for token in tokens if len(token) < SHORTEST_TOKEN or not token.isascii()]:
            raise ConfigurationError(
                f"A token of {len(short[0])} characters can be guessed.",
                hint='Make one: python -c "import secrets; print(secrets.token_urlsafe())"',
            )
        if isinstance(hosts, str) or isinstance(origins, str) or isinstance(tokens, str):
            raise ConfigurationError("hosts, origins and tokens are lists.")
        self._offer, self._path, self._max_body = offer, path, max_body
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._tokens = [(token.encode(), sha256(token.encode()).hexdigest()[:32]) for token in tokens]
        self._manager: StreamableHTTPSessionManager | None = None
        self._open = AsyncExitStack()

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        """Open it; for an application in which it is mounted, whose own life this belongs to."""
        self._manager = StreamableHTTPSessionManager(
            self._offer.server,
            max_request_body_size=self._max_body,
            max_sessions=MAX_SESSIONS,
            session_idle_timeout=IDLE,
        )
        await self._open.enter_async_context(self._manager.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager = None
        await self._open.aclose()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.__aenter__()
        except Exception as error:  # noqa: BLE001 - the server says it
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})

    # ------------------------------------------------------------ requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as ASGI wants it."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        refused = self._refusal(scope)
        if refused is not None:
            await _answer(send, *refused)
            return
        if self._manager is None:
            raise ConfigurationError(
                "This MCP endpoint is not open.",
                hint="Open it in the life of the application it is mounted in: async with endpoint: …",
            )
        await self._manager.handle_request(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return why a request is not answered, None = it may come in; who it is from is noted."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        if len(hosts) != 1 or not self._is_host(hosts[0].lower()):
            return 421, "That is not what this server is called."
        if any(not self._is_origin(origin.lower(), hosts[0].lower()) for origin in origins):
            return 403, "This page may not use this server."
        if self._tokens:
            if (principal := self._principal(headers)) is None:
                return 401, "A token is needed: Authorization: Bearer …"
            scope[PRINCIPAL] = principal
            scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=principal, scopes=[]))
        if _path(scope) != self._path:
            return 404, "There is nothing here."
        return None

    def _is_host(self, host: str) -> bool:
        return host in self._hosts or _without_port(host) in self._hosts

    def _is_origin(self, origin: str, host: str) -> bool:
        """Tell whether a page may use this server: one that was named, or one that it serves itself."""
        return origin in self._origins or origin in (f"http://{host}", f"https://{host}")

    def _principal(self, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1:
            return None
        scheme, _, token = given[0].partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        found = [principal for known, principal in self._tokens if hmac.compare_digest(known, token.strip())]
        return found[0] if found else None


def _path(scope: Scope) -> str:
    """Return the path below where this is mounted; one that is written in two ways is none."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    raw = scope.get("raw_path")
    if raw is not None and raw.partition(b"?")[0].decode("latin-1") not in (path, path.removeprefix(root)):
        return ""
    return path[len(root) :] if root and path.startswith(root) else path


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and (":" not in name or name.endswith("]")) else host


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="mcp"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def is_loopback(host: str) -> bool:
    """Tell whether only programs of this machine reach what is bound there.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
