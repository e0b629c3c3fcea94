"""The only module that imports the HTTP library: every connection goes to an address that was checked.

The host is looked up once, all its addresses are checked, and the connection is made to one of these, so that a name
that stands for something else a moment later leads nowhere else. Names stay what they are for TLS and for the receiver.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

from reprise.kernel.errors import MissingExtra, ToolError
from reprise.tools.guards.addresses import Address

try:
    import httpcore2
    import httpx2
except ImportError as error:
    raise MissingExtra("The web needs its HTTP library.", hint="pip install 'reprise-agents[web]'") from error

MAX_HEADER = 64 << 10
"""Bytes of a response's headers."""
MAX_ADDRESSES = 4
"""Addresses of a host that are tried."""
CAME_BY = "reprise.came_by"
"""Where a request keeps the scheme of the one that was redirected to it: the library hands extensions on."""


class Guard(Protocol):
    """What is asked before anything is sent: :class:`reprise.tools.guards.network.NetworkAccess`."""

    downgrade: bool
    transport: httpx2.AsyncBaseTransport | None

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """Certificates that are trusted."""
        ...

    def checked(self, method: str, url: httpx2.URL) -> httpx2.URL:
        """Return the URL of a request that may be sent. Raises ``ToolError``."""
        ...

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host. Raises ``ToolError`` when they must not be reached."""
        ...

    def proxy_for(self, url: httpx2.URL) -> str:
        """Return the URL of the proxy that a request goes through, '' = none."""
        ...


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends what a :class:`~reprise.tools.guards.network.NetworkAccess` lets through, and reads no more than it may."""

    def __init__(self, access: Guard, max_bytes: int, *, event_streams: bool = False) -> None:
        self._access, self._max_bytes, self._event_streams = access, max_bytes, event_streams
        self._pools: dict[str, httpx2.AsyncBaseTransport] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Raises ``ToolError``, and errors of the library."""
        url = self._access.checked(request.method, request.url)
        if url != request.url:
            request.url, request.headers["host"] = url, url.netloc.decode("ascii")
        if request.extensions.get(CAME_BY) == "https" != request.url.scheme and not self._access.downgrade:
            raise ToolError(
                "permission_denied", f"https is redirected to {request.url.scheme} at {request.url}."
            )
        request.extensions[CAME_BY] = request.url.scheme
        response = await self._pool_for(request).handle_async_request(request)
        try:
            return self._limited(request, response)
        except BaseException:
            await response.aclose()
            raise

    def _pool_for(self, request: httpx2.Request) -> httpx2.AsyncBaseTransport:
        if self._access.transport is not None:
            return self._access.transport
        proxy = self._access.proxy_for(request.url)
        if proxy not in self._pools:
            self._pools[proxy] = Pool(self._access, proxy)
        return self._pools[proxy]

    def _limited(self, request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        raw = response.headers.raw
        if (size := sum(len(name) + len(value) + 4 for name, value in raw)) > MAX_HEADER:
            raise ToolError("too_large", f"The headers of {request.url.host} are {size:,} bytes.")
        limit = self._max_bytes
        if self._event_streams and response.headers.get("content-type", "").startswith("text/event-stream"):
            limit = 0
        close, extensions = response.aclose, response.extensions
        wire = cast("httpx2.AsyncByteStream", response.stream)
        encoded = httpx2.Response(response.status_code, headers=raw, stream=Capped(wire, limit, close))
        if request.method == "HEAD" or "content-encoding" not in response.headers:
            return httpx2.Response(
                response.status_code, headers=raw, stream=encoded.stream, extensions=extensions
            )
        # What the caller sees is decoded: these headers speak of something else.
        shown = [each for each in raw if each[0].lower() not in (b"content-encoding", b"content-length")]
        decoded = Capped(encoded.aiter_bytes(), limit, close)
        return httpx2.Response(response.status_code, headers=shown, stream=decoded, extensions=extensions)

    async def aclose(self) -> None:
        """Close the connections."""
        for pool in self._pools.values():
            await pool.aclose()


class Capped(httpx2.AsyncByteStream):
    """Bytes that end with ``too_large`` at a limit, 0 = none: what arrives, and what becomes of it decoded."""

    def __init__(
        self, pieces: AsyncIterable[bytes], limit: int, close: Callable[[], Awaitable[None]]
    ) -> None:
        self._pieces, self._limit, self._close = pieces, limit, close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        taken = 0
        async with _closing(self._pieces) as pieces:
            async for piece in pieces:
                taken += len(piece)
                if self._limit and taken > self._limit:
                    raise ToolError("too_large", f"The response is larger than {self._limit:,} bytes.")
                yield piece

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._close()


class Pool(httpx2.AsyncBaseTransport):
    """Connections that are made by :class:`Backend`, or to a proxy."""

    def __init__(self, access: Guard, proxy: str) -> None:
        via = httpx2.Proxy(proxy) if proxy else None
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=access.ssl_context,
            proxy=via and httpcore2.Proxy(_plain(via.url), auth=via.raw_auth),
            network_backend=None if proxy else Backend(access),
            max_connections=20,
            max_keepalive_connections=10,
            keepalive_expiry=5.0,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request over one of the connections."""
        sent = httpcore2.Request(
            method=request.method,
            url=_plain(request.url),
            headers=request.headers.raw,
            content=cast("AsyncIterable[bytes]", request.stream),
            extensions=request.extensions,
        )
        try:
            response = await self._pool.handle_async_request(sent)
        except Exception as error:
            raise _translated(error) from error
        return httpx2.Response(
            response.status,
            headers=response.headers,
            stream=Received(response),
            extensions=cast("Any", response).extensions,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


class Received(httpx2.AsyncByteStream):
    """The bytes of a response as they arrive."""

    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async with _closing(self._response.aiter_stream()) as pieces:
                async for piece in pieces:
                    yield piece
        except Exception as error:
            raise _translated(error) from error

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._response.aclose()


class Backend(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that were checked."""

    def __init__(self, access: Guard) -> None:
        self._access = access
        self._plain = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to a host. Raises ``ToolError`` with code ``permission_denied`` when it must not be reached."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._access.addresses(host, port)
        except TimeoutError:
            raise httpcore2.ConnectTimeout(f"{host} was not looked up in time") from None
        return await self._any_of(addresses[:MAX_ADDRESSES], port, timeout)

    async def _any_of(
        self, addresses: list[Address], port: int, timeout: float | None
    ) -> httpcore2.AsyncNetworkStream:
        share = timeout and timeout / len(addresses)
        for address in addresses[:-1]:
            try:
                return await self._plain.connect_tcp(str(address), port, timeout=share)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._plain.connect_tcp(str(addresses[-1]), port, timeout=share)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: no URL means a socket in the file system."""
        raise ToolError("permission_denied", f"{path} is no host.")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@asynccontextmanager
async def _closing(pieces: AsyncIterable[bytes]) -> AsyncGenerator[AsyncIterator[bytes]]:
    """Iterate, and close what is iterated over at once when that ends early: not when it is collected."""
    iterator = pieces.__aiter__()
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await cast("AsyncGenerator[bytes]", iterator).aclose()


def _plain(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _translated(error: Exception) -> Exception:
    """Return an error of the connection as that of the client, which has the same name."""
    known = (
        getattr(httpx2, type(error).__name__, None)
        if type(error).__module__.startswith("httpcore2")
        else None
    )
    return error if known is None else known(str(error))
