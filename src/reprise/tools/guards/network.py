"""The guarded way to the network: who may be reached, for how long, and how much may come back.

All tools that speak HTTP go this way. Without a :class:`NetworkAccess` that somebody provided they reach public addresses
only, at the ports of the web.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from importlib import import_module
from ipaddress import ip_address
from socket import SOCK_STREAM, gaierror
from typing import TYPE_CHECKING, Any, NamedTuple

from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.kernel.policy import seconds
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.tools.context import ToolContext
from reprise.tools.guards.addresses import Address, HostRules, read_host

if TYPE_CHECKING:
    import httpx2

    from reprise.tools.guards.http import GuardedTransport

Resolver = Callable[[str, int], Awaitable[Iterable[str]]]
"""Called with a name and a port, returns addresses."""
PORTS = (80, 443, 8080, 8443)
MAX_BYTES = 32 << 20
RATE = (60, 10.0)
ENVIRONMENT = "environment"
_HOSTS = 1000
"""Hosts whose rates are kept before those are forgotten that were not asked for a while."""
_PIECE = 2 << 20
"""More than one piece of a body has."""
_REDIRECTS = (301, 302, 303, 307, 308)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"})
_HARMLESS = frozenset({
    "accept", "accept-encoding", "accept-language", "cache-control", "content-type", "if-match", "if-modified-since",
    "if-none-match", "if-range", "range", "user-agent",
})  # fmt: skip
"""Headers that go along to another origin. All others may be credentials."""
_OURS = frozenset({
    "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""Headers that say where a request goes and where it ends: that is the URL's and the body's business."""


@dataclass(frozen=True)
class Fetched:
    """A response."""

    status: int
    headers: Mapping[str, str]
    """By name in small letters; several of one name are joined by commas."""
    body: bytes
    """What was sent, decoded: no gzip any more."""
    url: str
    """Where it came from, after redirects."""
    truncated: bool = False
    redirects: tuple[str, ...] = ()
    """What was asked before, and redirected: the first first."""


class Answer:
    """A response whose body is still to come: iterate over it."""

    def __init__(self, response: httpx2.Response, redirects: tuple[str, ...]) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers)
        self.url = str(response.url)
        self.redirects = redirects

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._response.aiter_bytes()

    @property
    def certificate(self) -> Mapping[str, Any]:
        """What the receiver's certificate says, as :meth:`ssl.SSLSocket.getpeercert`; empty without TLS."""
        stream = self._response.extensions.get("network_stream")
        secured = stream.get_extra_info("ssl_object") if stream is not None else None
        return (secured.getpeercert() if secured is not None else None) or {}


class _Sent(NamedTuple):
    method: str
    url: httpx2.URL
    headers: Mapping[str, str]
    content: bytes


class NetworkAccess:
    """Who may be reached over HTTP, and how far; provided to a registry it holds for all its tools.

    ``allow``, ``deny``
        Hosts: ``intranet.example``, ``*.example.org``, ``127.0.0.1:8080``, ``10.0.0.0/8``, ``[::1]:80``. Denied goes before
        allowed. A name that is allowed may stand for private addresses; a rule without a port is for all ports.
    ``public``
        False = only what is allowed. ``ports`` are those at which public addresses are reached.
    ``max_bytes``, ``timeout``, ``max_redirects``
        Bytes of a response, decoded or not; seconds, or a timedelta, of a whole fetch with its redirects; callers may
        ask for less. ``downgrade`` lets https be redirected to http.
    ``rate``
        Requests to one host in so many seconds, None = any; not for hosts that are allowed by name.
    ``proxy``
        A proxy's URL, or ``environment`` for those that ``HTTPS_PROXY`` and the like say. A proxy looks names up by
        itself, so that only names and written addresses are checked here: it must do the rest.
    ``tls``
        Certificates that are trusted, if not the system's. ``resolver`` looks names up, if not the system does.
        ``transport`` answers requests instead of the network, for tests: an ``httpx2.MockTransport``.

    >>> access = NetworkAccess(allow=["127.0.0.1:8080", "10.0.0.0/8"], deny=["*.evil.example"])

    Raises ``ConfigurationError`` for rules that name no host, and limits that are not positive.
    """

    def __init__(
        self,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        *,
        public: bool = True,
        ports: Collection[int] = PORTS,
        max_bytes: int = MAX_BYTES,
        timeout: float | timedelta = 30.0,
        max_redirects: int = 5,
        downgrade: bool = False,
        rate: tuple[int, float | timedelta] | None = RATE,
        proxy: str = "",
        tls: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
        user_agent: str = "Reprise",
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._rules = HostRules(allow, deny, public=public, ports=ports)
        self.max_bytes, self.max_redirects = max_bytes, max_redirects
        self.timeout = seconds(timeout, "timeout")
        self.downgrade, self.transport = downgrade, transport
        self._rate = rate and (rate[0], seconds(rate[1], "rate"))
        if max_bytes < 1 or self.timeout <= 0 or max_redirects < 0 or (self._rate and min(self._rate) <= 0):
            raise ConfigurationError("The limits of a NetworkAccess must be positive.")
        self._calls: dict[str, deque[float]] = {}
        self._proxy, self._tls, self._resolver, self._user_agent = proxy, tls, resolver, user_agent

    # ------------------------------------------------------------ for tools

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        max_bytes: int | None = None,
        timeout: float | None = None,
        truncate: bool = False,
        follow_redirects: bool = True,
        field: str = "$.url",
        client: httpx2.AsyncClient | None = None,
    ) -> Fetched:
        """Send a request and return the response, whatever its status; ``truncate`` cuts what is too large.

        ``field`` is the argument that errors name. ``client`` is one of :meth:`client`, to use its connections again.

        Raises ``ToolError``: ``invalid_input`` for what is no URL or header, ``permission_denied`` with the reason and how
        to allow it, ``rate_limited``, ``too_large``, ``timeout``, and ``upstream`` for all that failed there.
        """
        limit = min(self.max_bytes, max_bytes or self.max_bytes)
        async with self.stream(
            method, url, headers=headers, content=content, max_bytes=limit + _PIECE, timeout=timeout,
            follow_redirects=follow_redirects, field=field, client=client,
        ) as answer:  # fmt: skip
            announced = answer.headers.get("content-length", "")
            body, cut = bytearray(), False
            if not truncate and method != "HEAD" and announced.isdecimal() and int(announced) > limit:
                raise _too_large(limit)
            async for piece in answer:
                body += piece
                if cut := len(body) > limit:
                    break
            if cut and not truncate:
                raise _too_large(limit)
            return Fetched(
                answer.status, answer.headers, bytes(body[:limit]), answer.url, cut, answer.redirects
            )

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        max_bytes: int | None = None,
        timeout: float | None = None,
        follow_redirects: bool = True,
        field: str = "$.url",
        client: httpx2.AsyncClient | None = None,
    ) -> AsyncGenerator[Answer]:
        """Send a request; what comes back is iterated over inside of ``async with``. The time limit holds for all of it.

        Raises as :meth:`fetch`.
        """
        library: Any = self._library
        sent = _Sent(method.upper(), _url(url, field), _checked(headers or {}), content)
        time = min(self.timeout, timeout or self.timeout)
        limit = asyncio.timeout(time)
        own = self.client(max_bytes=max_bytes, timeout=time) if client is None else nullcontext(client)
        try:
            async with limit, own as used:
                response, redirects = await self._follow(used, sent, follow_redirects, field)
                try:
                    yield Answer(response, redirects)
                finally:
                    await response.aclose()
        except (TimeoutError, library.TimeoutException) as error:
            if isinstance(error, TimeoutError) and not limit.expired():
                raise
            raise ToolError("timeout", f"{sent.url.host} took longer than {time:g} s.", field=field) from None
        except library.LocalProtocolError as error:
            raise ToolError("invalid_input", f"That cannot be sent: {error}.", field="$.headers") from None
        except (library.HTTPError, library.InvalidURL) as error:
            raise ToolError("upstream", f"{sent.url.host}: {error or type(error).__name__}.") from error

    def client(
        self, *, max_bytes: int | None = None, timeout: float | None = None, event_streams: bool = False
    ) -> httpx2.AsyncClient:
        """Return a client for libraries that want one; close it (``async with``).

        Each of its requests and redirects is checked and limited; it follows redirects only if told to. ``event_streams``
        are read without a limit of bytes, which other responses have. ``timeout`` is that of one operation, such as a
        read: what takes a whole request is for the caller to limit.
        """
        transport: GuardedTransport = import_module("reprise.tools.guards.http").GuardedTransport(
            self, max_bytes or self.max_bytes, event_streams=event_streams
        )
        return self._library.AsyncClient(
            transport=transport,
            trust_env=False,
            timeout=timeout or self.timeout,
            max_redirects=self.max_redirects,
            headers={"user-agent": self._user_agent},
        )

    # ------------------------------------------------------------ for the transport

    def checked(self, method: str, url: httpx2.URL) -> httpx2.URL:
        """Return the URL of a request that may be sent, its host as it is looked up. Counts the request.

        Raises ``ToolError`` with code ``permission_denied``, ``invalid_input`` or ``rate_limited``.
        """
        if method not in _METHODS:
            raise ToolError(
                "invalid_input", f"{method!r} is no method that is sent.", hint=", ".join(sorted(_METHODS))
            )
        if url.scheme not in ("http", "https"):
            raise ToolError(
                "permission_denied", f"{url.scheme or 'no scheme'}: only http and https are reached."
            )
        if url.userinfo:
            raise ToolError("permission_denied", "The URL has a name and a password.", hint="Use a header.")
        try:
            host = read_host(url.raw_host.decode("ascii"))
        except ValueError as error:
            raise ToolError("invalid_input", f"{error}.") from None
        port = _port(url)
        if not 0 < port < 65536:
            raise ToolError("invalid_input", f"{port} is no port.")
        why = (
            self._rules.refusal_of_name(host, port)
            if isinstance(host, str)
            else self._rules.refusal("", port, host)
        )
        if why:
            raise _refused(str(host), port, why)
        if self._rate is not None and not (isinstance(host, str) and self._rules.vouches(host, port)):
            self._count(str(host), *self._rate)
        return url.copy_with(host=str(host)) if url.raw_host.endswith(b".") else url

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host, all of which may be reached.

        Raises ``ToolError``: ``permission_denied`` when one of them must not be reached, ``upstream`` when there is none.
        """
        read = read_host(host)
        if not isinstance(read, str):
            found, name = [read], ""
        else:
            found, name = [ip_address(each) for each in await self._look_up(read, port)], read
        if not found:
            raise ToolError("upstream", f"No address of {host} is known.")
        for address in found:
            if why := self._rules.refusal(name, port, address):
                raise _refused(host, port, why)
        return list(dict.fromkeys(found))

    def proxy_for(self, url: httpx2.URL) -> str:
        """Return the URL of the proxy that a request goes through, '' = none."""
        if self._proxy != ENVIRONMENT:
            return self._proxy
        system: Any = import_module("urllib.request")
        if system.proxy_bypass_environment(url.host):
            return ""
        proxies: dict[str, str] = system.getproxies_environment()
        return proxies.get(url.scheme) or proxies.get("all", "")

    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        """Certificates that are trusted."""
        return self._tls or self._library.create_ssl_context()

    # ------------------------------------------------------------ inside

    @property
    def _library(self) -> Any:
        import_module("reprise.tools.guards.http")  # says what to install
        return import_module("httpx2")

    async def _look_up(self, name: str, port: int) -> Iterable[str]:
        if self._resolver is not None:
            return await self._resolver(name, port)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, port, type=SOCK_STREAM)
        except gaierror as error:
            raise ToolError("upstream", f"No address of {name} is known: {error.strerror}.") from error
        return [str(each[4][0]) for each in found]

    async def _follow(
        self, client: httpx2.AsyncClient, sent: _Sent, follow: bool, field: str
    ) -> tuple[httpx2.Response, tuple[str, ...]]:
        redirects: list[str] = []
        while True:
            method, url, headers, content = sent
            request = client.build_request(method, url, headers=headers, content=content or None)
            try:
                response = await client.send(request, stream=True, follow_redirects=False)
            except ToolError as error:
                error.field = error.field or field
                raise
            location = response.headers.get("location", "")
            if not (follow and location and response.status_code in _REDIRECTS):
                return response, tuple(redirects)
            await response.aclose()
            redirects.append(str(url))
            if len(redirects) > self.max_redirects:
                raise ToolError("upstream", f"{url.host} redirects more than {self.max_redirects} times.")
            sent = self._redirected(sent, response.status_code, location)
            if _origin(sent.url) != _origin(url):
                client.cookies.clear()

    def _redirected(self, sent: _Sent, status: int, location: str) -> _Sent:
        method, url, headers, content = sent
        target: httpx2.URL = url.join(location)
        if url.scheme == "https" != target.scheme and not self.downgrade:
            raise ToolError("permission_denied", f"{url.host} redirects from https to {target.scheme}.")
        if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
            method, content = "GET", b""
            headers = {name: value for name, value in headers.items() if name != "content-type"}
        if _origin(target) != _origin(url):
            if content:
                raise ToolError(
                    "permission_denied",
                    f"{url.host} redirects what is sent to {target.host}.",
                    hint="Send it there.",
                )
            headers = {name: value for name, value in headers.items() if name in _HARMLESS}
        return _Sent(method, target, headers, content)

    def _count(self, host: str, number: int, period: float) -> None:
        now = SURROUNDINGS.get().clock.monotonic()
        if len(self._calls) > _HOSTS:
            self._calls = {name: calls for name, calls in self._calls.items() if calls[-1] > now - period}
        calls = self._calls.setdefault(host, deque())
        while calls and calls[0] <= now - period:
            calls.popleft()
        if len(calls) >= number:
            wait = calls[0] + period - now
            raise ToolError(
                "rate_limited",
                f"{host} was asked {number} times in {period:g} s.",
                hint=f"Try again in {wait:.1f} s.",
                retry_after=wait,
            )
        calls.append(now)


_PUBLIC = NetworkAccess()


def network(ctx: ToolContext) -> NetworkAccess:
    """Return the way to the network that was provided to a tool, else one to public addresses."""
    return ctx.find(NetworkAccess) or _PUBLIC


def _url(text: str, field: str) -> httpx2.URL:
    library = import_module("httpx2")
    try:
        url: httpx2.URL = library.URL(text)
    except library.InvalidURL as error:
        raise ToolError("invalid_input", f"{text[:200]!r} is no URL: {error}.", field=field) from None
    if not (url.scheme and url.host):
        raise ToolError(
            "invalid_input", f"{text[:200]!r} is no URL.", hint="Write https://example.org/page.", field=field
        )
    return url


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers that callers may send, names in small letters. Raises ``ToolError`` with code ``invalid_input``."""
    checked: dict[str, str] = {}
    for name, value in headers.items():
        if name.lower() in _OURS:
            raise ToolError("invalid_input", f"The header {name} is not set by callers.", field="$.headers")
        if not name.isascii() or any(each in value for each in "\r\n\0"):
            raise ToolError("invalid_input", f"The header {name!r} cannot be sent.", field="$.headers")
        checked[name.lower()] = value
    return checked


def _port(url: httpx2.URL) -> int:
    return (443 if url.scheme == "https" else 80) if url.port is None else url.port


def _origin(url: httpx2.URL) -> tuple[str, bytes, int]:
    return url.scheme, url.raw_host, _port(url)


def _refused(host: str, port: int, why: str) -> ToolError:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return ToolError(
        "permission_denied",
        f"{place} must not be reached: {why}.",
        hint=f"Whoever runs this may allow it: registry.provide(NetworkAccess(allow=[{place!r}])).",
    )


def _too_large(limit: int) -> ToolError:
    return ToolError(
        "too_large",
        f"The response is larger than {limit:,} bytes.",
        hint="Ask for less, or a larger max_bytes.",
    )
