"""Tools that ask the web as it is: responses, their status, robots.txt."""

from __future__ import annotations

import asyncio
import base64
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from datetime import UTC, datetime
from ssl import cert_time_to_seconds
from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from reprise.kernel.clock import to_datetime
from reprise.kernel.errors import ToolError
from reprise.tools.context import ToolContext
from reprise.tools.guards.network import Fetched, NetworkAccess, network
from reprise.tools.library.web.apart import apart
from reprise.tools.library.web.reading import (
    Url,
    agent_of,
    media_type,
    robots_of,
    robots_url,
    said_by,
    text_of,
    was_cut,
)
from reprise.tools.tool import Example, tool

_MOST = 4_000_000
_TIMEOUT = 130
_AT_ONCE = 8
Headers = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=200)], Annotated[str, Meta(max_length=8_000)]],
    Meta(max_length=50),
    "Headers by name.",
]
MaxBytes = Annotated[int, Meta(ge=1, le=_MOST), "Cut the body after so many bytes."]
Timeout = Annotated[float, Meta(gt=0, le=120), "Seconds in all."]


class Response(TypedDict):
    """What came back."""

    url: str
    """After redirects."""
    status: int
    content_type: str
    headers: dict[str, str]
    body: str
    encoding: Literal["text", "base64"]
    """Of ``body``: what is no text is base64."""
    bytes: int
    truncated: bool
    redirects: list[str]


@tool(
    effects="network",
    idempotent=True,
    tags=["web", "http"],
    extra="web",
    timeout=_TIMEOUT,
    examples=[Example({"url": "https://example.org/data.json"}), Example({"url": "https://example.org/", "method": "HEAD"})],
)  # fmt: skip
async def web_fetch(
    ctx: ToolContext,
    url: Url,
    method: Annotated[Literal["GET", "HEAD"], "What changes something is sent by web_send."] = "GET",
    headers: Headers | None = None,
    max_bytes: MaxBytes = 1_000_000,
    timeout: Timeout = 30,
    follow_redirects: bool = True,
) -> Response:
    """Fetch an address and return the response as it is: status, headers, body. See web_extract for what a page says."""
    found = await network(ctx).fetch(
        method, url, headers=headers, max_bytes=max_bytes, timeout=timeout, truncate=True,
        follow_redirects=follow_redirects,
    )  # fmt: skip
    return _told(ctx, found)


@tool(
    effects="network",
    tags=["web", "http"],
    extra="web",
    timeout=_TIMEOUT,
    examples=[Example({"url": "https://example.org/notes", "body": '{"text":"hello"}'})],
)
async def web_send(
    ctx: ToolContext,
    url: Url,
    body: Annotated[str, Meta(max_length=1_000_000), "What is sent, as UTF-8."] = "",
    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST",
    content_type: Annotated[str, Meta(max_length=200)] = "application/json",
    headers: Headers | None = None,
    max_bytes: MaxBytes = 1_000_000,
    timeout: Timeout = 30,
) -> Response:
    """Send something to an address and return the response. In a run it has an Idempotency-Key, the same at each attempt."""
    given = {name.lower(): value for name, value in (headers or {}).items()}
    if body:
        given.setdefault("content-type", content_type)
    if ctx.idempotency_key:
        given.setdefault("idempotency-key", ctx.idempotency_key)
    found = await network(ctx).fetch(
        method, url, headers=given, content=body.encode("utf-8", "surrogatepass"), max_bytes=max_bytes, timeout=timeout,
        truncate=True,
    )  # fmt: skip
    return _told(ctx, found)


class Status(TypedDict):
    """How an address answers."""

    url: str
    ok: bool
    """Whether it answered, and with no error."""
    status: int
    """0 = it did not answer."""
    ms: float
    """Milliseconds until the headers were there, with redirects."""
    final_url: str
    redirects: list[str]
    tls_expires: str
    """When the certificate ends, as ISO 8601; '' without TLS."""
    tls_days: float | None
    """Days until then."""
    error: str


@tool(
    effects="network",
    idempotent=True,
    tags=["web", "http", "monitoring"],
    extra="web",
    timeout=600,
    examples=[Example({"urls": ["https://example.org/", "https://example.org/gone"]})],
)
async def web_status(
    ctx: ToolContext,
    urls: Annotated[list[Url], Meta(min_length=1, max_length=50)],
    timeout: Annotated[float, Meta(gt=0, le=60), "Seconds for each."] = 10,
) -> list[Status]:
    """Say of addresses whether they answer, with which status, how fast, and until when their certificates hold."""
    access, few = network(ctx), asyncio.Semaphore(_AT_ONCE)

    async def one(at: int) -> Status:
        async with few:
            return await _status(ctx, access, urls[at], f"$.urls[{at}]", timeout)

    return await asyncio.gather(*map(one, range(len(urls))))


async def _status(ctx: ToolContext, access: NetworkAccess, url: str, field: str, timeout: float) -> Status:
    told: Status = {
        "url": url, "ok": False, "status": 0, "ms": 0.0, "final_url": "", "redirects": [], "tls_expires": "",
        "tls_days": None, "error": "",
    }  # fmt: skip
    since = ctx.clock.monotonic()
    try:
        async with access.stream("GET", url, timeout=timeout, field=field) as answer:
            told["ms"] = round((ctx.clock.monotonic() - since) * 1000, 1)
            told["status"], told["ok"] = answer.status, answer.status < 400
            told["final_url"], told["redirects"] = answer.url, list(answer.redirects)
            if "notAfter" in answer.certificate:
                ends = datetime.fromtimestamp(cert_time_to_seconds(answer.certificate["notAfter"]), UTC)
                told["tls_expires"] = ends.isoformat()
                told["tls_days"] = round((ends - to_datetime(ctx.clock.now())).total_seconds() / 86_400, 2)
    except ToolError as error:
        told["error"] = f"{error.code}: {error.what}"
    return told


class Robots(TypedDict):
    """What a robots.txt says."""

    allowed: bool
    robots_url: str
    found: bool
    """Whether there is one: without it all is allowed."""
    crawl_delay: float | None
    """Seconds between two requests."""
    sitemaps: list[str]


@tool(
    effects="network",
    idempotent=True,
    tags=["web", "http"],
    extra="web",
    examples=[Example({"url": "https://example.org/private/page", "agent": "Reprise"})],
)
async def web_robots(
    ctx: ToolContext,
    url: Url,
    agent: Annotated[str, Meta(max_length=200), "A crawler's name; '' = ours."] = "",
) -> Robots:
    """Say whether a site's robots.txt lets a crawler read an address, and where its sitemaps are."""
    text = await robots_of(ctx, url)
    told = await apart("robots:robots", text, agent or agent_of(network(ctx)), url)
    return {
        "allowed": told["allowed"], "robots_url": robots_url(url), "found": bool(text),
        "crawl_delay": told["crawl_delay"], "sitemaps": told["sitemaps"],
    }  # fmt: skip


def _told(ctx: ToolContext, found: Fetched) -> Response:
    if found.truncated:
        ctx.warn(f"The body is longer than {len(found.body):,} bytes.")
    is_text = _is_text(found)
    return {
        "url": found.url,
        "status": found.status,
        "content_type": found.headers.get("content-type", ""),
        "headers": {name: value for name, value in found.headers.items() if name != "set-cookie"},
        "body": text_of(found.body, found.headers)
        if is_text
        else base64.b64encode(found.body).decode("ascii"),
        "encoding": "text" if is_text else "base64",
        "bytes": len(found.body),
        "truncated": found.truncated,
        "redirects": list(found.redirects),
    }


def _is_text(found: Fetched) -> bool:
    kind = media_type(found.headers)
    if kind.startswith("text/") or kind.endswith(
        ("json", "xml", "javascript", "x-www-form-urlencoded", "yaml")
    ):
        is_wide = found.body[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) or said_by(found.headers).startswith(
            "utf-16"
        )
        return is_wide or b"\0" not in found.body[:4096]
    if kind not in ("", "application/octet-stream"):
        return False
    try:
        found.body.decode()
    except UnicodeDecodeError as error:
        return found.truncated and was_cut(found.body, error)
    return b"\0" not in found.body
