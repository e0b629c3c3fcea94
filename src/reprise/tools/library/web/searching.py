"""Searching the web: who is asked, and the tool that asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, TypedDict
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from reprise.kernel.settings import Secret
from reprise.tools.context import ToolContext
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.library.services import Service
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


class SearXNG(Service, WebSearch):
    """A SearXNG instance, which asks many engines and needs no key. Its settings must allow ``json`` as a format."""

    def __init__(self, url: str, *, access: NetworkAccess | None = None) -> None:
        super().__init__(url, "", access)

    async def search(self, ctx: ToolContext, query: str, limit: int, language: str) -> list[Hit]:
        """Return pages for a query, the best first."""
        asked = {"q": query, "format": "json", **({"language": language} if language else {})}
        found = await self._asked(ctx, f"/search?{urlencode(asked)}", _Results)
        return _hits(found, ("title", "url", "content", "publishedDate"), limit)


class BraveSearch(Service, WebSearch):
    """Brave's search; needs a key of theirs."""

    def __init__(
        self,
        key: str | Secret,
        *,
        url: str = "https://api.search.brave.com",
        access: NetworkAccess | None = None,
    ) -> None:
        super().__init__(url, key, access)

    async def search(self, ctx: ToolContext, query: str, limit: int, language: str) -> list[Hit]:
        """Return pages for a query, the best first."""
        asked = {"q": query, "count": min(limit, 20), **({"search_lang": language} if language else {})}
        headers = {"x-subscription-token": self._key.reveal()}
        found = await self._asked(ctx, f"/res/v1/web/search?{urlencode(asked)}", _Brave, headers=headers)
        return _hits(found.web, ("title", "url", "description", "page_age"), limit)


class TavilySearch(Service, WebSearch):
    """Tavily's search; needs a key of theirs."""

    def __init__(
        self, key: str | Secret, *, url: str = "https://api.tavily.com", access: NetworkAccess | None = None
    ) -> None:
        super().__init__(url, key, access)

    async def search(self, ctx: ToolContext, query: str, limit: int, language: str) -> list[Hit]:
        """Return pages for a query, the best first; it is asked in the query's own language."""
        headers = {"authorization": f"Bearer {self._key.reveal()}"}
        asked = {"query": query, "max_results": min(limit, 20)}
        found = await self._asked(ctx, "/search", _Results, headers=headers, body=asked)
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
