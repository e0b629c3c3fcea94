"""Services of others that speak JSON over HTTP, each reached at its own address only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from reprise.kernel.clock import to_datetime
from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.kernel.policy import wait_in
from reprise.kernel.settings import Secret
from reprise.tools.context import ToolContext
from reprise.tools.guards.network import NetworkAccess

T = TypeVar("T")

_MOST, _SHOWN = 8 << 20, 200
"""Bytes of an answer; characters of what it says of an error."""


class Service:
    """One that is asked over HTTP; ``access`` replaces the way there (a proxy, say).

    Raises ``ConfigurationError`` for what is no address.
    """

    def __init__(self, url: str, key: str | Secret, access: NetworkAccess | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{url!r} is no address of {type(self).__name__}.", hint="https://…")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._url = url.rstrip("/")
        self._key = key if isinstance(key, Secret) else Secret(key)
        self._access = access or NetworkAccess([f"{host}:{port}"], public=False, max_bytes=_MOST)

    async def _asked(
        self,
        ctx: ToolContext,
        path: str,
        kind: type[T],
        *,
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> T:
        """Return what it answers to a body, None = to a question without one. Raises ``ToolError``."""
        sent = {"accept": "application/json", **(headers or {})}
        if body is not None:
            sent["content-type"] = "application/json"
        found = await self._access.fetch(
            "GET" if body is None else "POST",
            self._url + path,
            headers=sent,
            content=b"" if body is None else msgspec.json.encode(body),
            field="",
        )
        if found.status != 200:
            raise self._failure(
                found.status, _said(found.body), wait_in(found.headers, to_datetime(ctx.clock.now()))
            )
        try:
            return msgspec.json.decode(found.body, type=kind)
        except msgspec.DecodeError as error:
            raise ToolError(
                "upstream", f"{type(self).__name__} answered what it never did: {error}."
            ) from None

    def _failure(self, status: int, said: str, after: float | None) -> ToolError:
        """Return the error for a status; ``said`` is what the service says of it."""
        what = f"{type(self).__name__} answered {status}{f': {said}' if said else '.'}"
        if status in (401, 403):
            return ToolError("permission_denied", what, hint="Look at its key, and at what it allows.")
        if status == 429:
            return ToolError("rate_limited", what, retry_after=after)
        return ToolError("upstream", what)


class _Complaint(msgspec.Struct):
    error: str = ""
    message: str = ""


def _said(body: bytes) -> str:
    """Return what a service says of an error, in a line."""
    try:
        read = msgspec.json.decode(body, type=_Complaint)
        said = read.error or read.message
    except msgspec.DecodeError:
        said = body[:_SHOWN].decode("utf-8", "replace")
    return " ".join(said.split())[:_SHOWN]
