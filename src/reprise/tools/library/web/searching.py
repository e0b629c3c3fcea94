"""Searching the web: who is asked, and the tool that asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, TypedDict, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Meta

from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.kernel.settings import Secret
from reprise.tools.context import ToolContext
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.library.web.reading import retry_after
from reprise.tools.tool import Example, tool

_LONGEST = 2_000
"""Characters of a text about a page that are returned."""


class Hit(TypedDict):
    """A page that was found."""

    title: str
    url: str
    text: str
    """What the provider shows of it."""
    published: str
    """As the provider writes it, '' = it does not say."""


class WebSearch(ABC):
    """Who searches the web for ``web_search``: one of those here, or a class of your own.

    ``registry.provide(SearXNG("https://search.example"))``
    """

    @abstractmethod
    async def search(self, ctx: ToolContext, query: str, limit: int, language: str) -> list[Hit]:
        """Return pages for a query, the best first. Raises ``ToolError``."""


class _Results(msgspec.Struct):
    results: list[dict[str, Any]] = []


class _Brave(msgspec.Struct):
    web: _Results = msgspec.field(default_factory=_Results)


T = TypeVar("T")


class _Provider(WebSearch):
    """One that is asked over HTTP, at its own address only; ``access`` replaces the way there (a proxy, say)."""

    def __init__(self, url: str, access: NetworkAccess | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{url!r} is no address of a {type(self).__name__}.", hint="https://…")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._url = url.rstrip("/")
        self._access = access or NetworkAccess([f"{host}:{port}"], public=False, max_bytes=8 << 20)

    async def _asked(
        self,
        ctx: ToolContext,
        path: str,
        kind: type[T],
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
    ) -> T:
        """Return what it answers."""
        name = type(self).__name__
        found = await self._access.fetch(
            "POST" if content else "GET",
            self._url + path,
            headers={"accept": "application/json", **(headers or {})},
            content=content,
            field="",
        )
        if found.status in (401, 403):
            raise ToolError(
                "permission_denied",
                f"{name} answered {found.status}.",
                hint="Look at its key, and at what it allows.",
            )
        if found.status == 429:
            raise ToolError(
                "rate_limited",
                f"{name} wants no more queries now.",
                retry_after=retry_after(ctx, found.headers),
            )
        if found.status >= 400:
            raise ToolError(
                "upstream", f"{name} answered {found.status}: {found.body[:200].decode('utf-8', 'replace')}"
            )
        try:
            return msgspec.json.decode(found.body, type=kind)
        except msgspec.DecodeError as error:
            raise ToolError("upstream", f"{name} answered what it never did: {error}.") from None


class SearXNG(_Provider):
    """A SearXNG instance, which asks many engines and needs no key. Its settings must allow ``json`` as a format."""

    def __init__(self, url: str, *, access: NetworkAccess | None = None) -> None:
        super().__init__(url, access)

    async def search(self, ctx: ToolContext, query: str, limit: int, language: str) -> list[Hit]:
        """Return pages for a query, the best first."""
        asked = {"q": query, "format": "json", **({"language": language} if language else {})}
        found = await self._asked(ctx, f"/search?{urlencode(asked)}", _Results)
        return _hits(found, ("title", "url", "content", "publishedDate"), limit)


class BraveSearch(_Provider):
    """Brave's search; needs a key of theirs."""

    def __init__(
        self,
        key: str | Secret,
        *,
        url: str = "https://api.search.brave.com",
        access: NetworkAccess | None = None,
    ) -> None:
        super().__init__(url, access)
        self._key = key if isinstance(key, Secret) else Secret(key)

    async def search(self, ctx: ToolContext, query: str, limit: int, language: str) -> list[Hit]:
        """Return pages for a query, the best first."""
        asked = {"q": query, "count": min(limit, 20), **({"search_lang": language} if language else {})}
        headers = {"x-subscription-token": self._key.reveal()}
        found = await self._asked(ctx, f"/res/v1/web/search?{urlencode(asked)}", _Brave, headers)
        return _hits(found.web, ("title", "url", "description", "page_age"), limit)


class TavilySearch(_Provider):
    """Tavily's search; needs a key of theirs."""

    def __init__(
        self, key: str | Secret, *, url: str = "https://api.tavily.com", access: NetworkAccess | None = None
    ) -> None:
        super().__init__(url, access)
        self._key = key if isinstance(key, Secret) else Secret(key)

    async def search(self, ctx: ToolContext, query: str, limit: int, language: str) -> list[Hit]:
        """Return pages for a query, the best first; it is asked in the query's own language."""
        headers = {"authorization": f"Bearer {self._key.reveal()}", "content-type": "application/json"}
        content = msgspec.json.encode({"query": query, "max_results": min(limit, 20)})
        found = await self._asked(ctx, "/search", _Results, headers, content)
        return _hits(found, ("title", "url", "content", "published_date"), limit)


@tool(
    effects="network",
    idempotent=True,
    tags=["web", "search"],
    extra="web",
    timeout=60,
    examples=[Example({"query": "how long to steep green tea", "limit": 3})],
)
async def web_search(
    ctx: ToolContext,
    query: Annotated[str, Meta(min_length=1, max_length=400), "What is looked for."],
    limit: Annotated[int, Meta(ge=1, le=50), "Most pages."] = 10,
    language: Annotated[str, Meta(pattern="^([a-z]{2}(-[A-Z]{2})?)?$"), "A code such as en; '' = any."] = "",
) -> list[Hit]:
    """Search the web; returns titles, addresses and short texts. web_extract reads what is there."""
    asked = ctx.need(
        WebSearch,
        "registry.provide(SearXNG('https://search.example')), or BraveSearch(key), or TavilySearch(key).",
    )
    return await asked.search(ctx, query, limit, language)


def _hits(found: _Results, names: tuple[str, str, str, str], limit: int) -> list[Hit]:
    hits: list[Hit] = []
    for each in found.results:
        title, url, text, published = (str(each.get(name) or "") for name in names)
        if url.startswith(("http://", "https://")):
            hits.append(
                {"title": title[:300], "url": url, "text": text[:_LONGEST], "published": published[:60]}
            )
    return hits[:limit]
