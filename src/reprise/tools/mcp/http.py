"""A server at a URL: Streamable HTTP, through the guard of the network."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import cast

from httpx2 import Auth
from mcp.client.streamable_http import streamable_http_client

from reprise.tools.guards.network import NetworkAccess
from reprise.tools.mcp.stdio import Streams, Wire

QUIET = 300.0
"""Seconds for which a server may say nothing while something is open."""

REDIRECTS = 20
"""Redirects within the origin; the HTTP library counts what OAuth asks along the way among them."""


@asynccontextmanager
async def http(
    url: str,
    wire: Wire,
    *,
    headers: Mapping[str, str],
    auth: Auth | None,
    access: NetworkAccess | None,
    limit: int,
) -> AsyncGenerator[Streams]:
    """Give the streams of messages to a server at a URL; no message may be larger than ``limit`` bytes.

    Redirects are followed within the origin only, so ``headers`` (credentials) go nowhere else.
    """
    guarded = access or NetworkAccess()
    try:
        async with guarded.client(max_bytes=limit, timeout=QUIET, event_streams=True) as client:
            client.headers.update(headers)
            if auth is not None:
                client.auth = auth
            client.max_redirects = REDIRECTS
            async with streamable_http_client(url, http_client=client, max_sse_event_size=limit) as streams:
                yield cast("Streams", streams)
    finally:
        wire.end()
