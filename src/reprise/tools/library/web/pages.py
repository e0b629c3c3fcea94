"""Tools for pages: what is on them, where they link to, and what is new."""

from __future__ import annotations

import base64
from typing import Annotated, TypedDict, cast
from urllib.parse import urlsplit

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.context import ToolContext
from reprise.tools.guards.network import network
from reprise.tools.library.web.apart import apart
from reprise.tools.library.web.reading import PAGE, Html, Url, must_be_good, page_of
from reprise.tools.tool import Example, tool

_TIMEOUT = 60
_PAGE = (
    '<html lang="en"><head><title>Kettles</title></head><body><h1>Kettles</h1>'
    '<p class="price">12 EUR</p><p class="price">15 EUR</p><a href="/next" rel="next">More</a></body></html>'
)
Base = Annotated[str, Meta(max_length=8_000), "Where html is from, to make addresses whole."]
Name = Annotated[str, Meta(min_length=1, max_length=60)]
Selector = Annotated[str, Meta(min_length=1, max_length=300)]


class Scraped(TypedDict):
    """What was found on a page."""

    url: str
    title: str
    values: dict[str, list[str]]
    """By the names of the selectors."""


@tool(
    effects="network",
    idempotent=True,
    tags=["web", "html"],
    extra="web",
    timeout=_TIMEOUT,
    max_input=8 << 20,
    examples=[
        Example(
            {"html": _PAGE, "selectors": {"prices": "p.price", "next": "a[rel=next]@href"}, "base_url": "https://example.org/a"},
            {
                "url": "https://example.org/a", "title": "Kettles",
                "values": {"prices": ["12 EUR", "15 EUR"], "next": ["https://example.org/next"]},
            },
        ),
        Example({"url": "https://example.org/kettles", "selectors": {"title": "h1"}}),
    ],
)  # fmt: skip
async def web_scrape(
    ctx: ToolContext,
    selectors: Annotated[
        dict[Name, Selector],
        Meta(min_length=1, max_length=20),
        "CSS by name: {'price': 'p.price', 'next': 'a.next@href'}.",
    ],
    url: Url | None = None,
    html: Html | None = None,
    base_url: Base = "",
    limit: Annotated[int, Meta(ge=1, le=1_000), "Most values of a selector."] = 100,
) -> Scraped:
    """Find texts and attributes on a page by CSS selectors. Pages that robots.txt asks not to read are not read."""
    page = await page_of(ctx, url, html, base_url)
    found = await apart("pages:scraped", page.html, page.url, selectors, limit)
    for name, values in found["values"].items():
        if len(values) > limit:
            del values[limit:]
            ctx.warn(f"There are more than {limit} of {name!r}.")
    return {"url": page.url, "title": found["title"], "values": found["values"]}


class Extracted(TypedDict):
    """The main text of a page."""

    url: str
    title: str
    author: str
    date: str
    """When it was published, as far as it says: 2026-11-22."""
    site: str
    description: str
    language: str
    markdown: str
    truncated: bool


@tool(
    effects="network",
    idempotent=True,
    tags=["web", "html", "text"],
    extra="web",
    timeout=_TIMEOUT,
    max_input=8 << 20,
    examples=[Example({"url": "https://example.org/article"})],
)
async def web_extract(
    ctx: ToolContext,
    url: Url | None = None,
    html: Html | None = None,
    base_url: Base = "",
    max_chars: Annotated[int, Meta(ge=100, le=1_000_000), "Cut the text after so many characters."] = 50_000,
    comments: Annotated[bool, "Comments of readers, too."] = False,
) -> Extracted:
    """Read the main text of an article or page as Markdown, without menus and advertisements, with title, author and date."""
    page = await page_of(ctx, url, html, base_url)
    found = await apart("articles:extracted", page.html, page.url, comments)
    if found is None:
        raise ToolError(
            "not_found",
            f"No main text was found on {page.url or 'the page'}.",
            hint="It may be made by scripts. See web_to_markdown, web_scrape.",
            field="$.url" if url else "$.html",
        )
    text = found["markdown"]
    cut = {"url": page.url, "markdown": text[:max_chars], "truncated": len(text) > max_chars}
    return cast("Extracted", {**found, **cut})


class Link(TypedDict):
    """Where a page links to."""

    url: str
    text: str
    rel: str


@tool(
    effects="network",
    idempotent=True,
    tags=["web", "html"],
    extra="web",
    timeout=_TIMEOUT,
    max_input=8 << 20,
    examples=[
        Example(
            {"html": _PAGE, "base_url": "https://example.org/kettles"},
            [{"url": "https://example.org/next", "text": "More", "rel": "next"}],
        )
    ],
)
async def web_links(
    ctx: ToolContext,
    url: Url | None = None,
    html: Html | None = None,
    base_url: Base = "",
    same_host: Annotated[bool, "Only links to the same host."] = False,
    limit: Annotated[int, Meta(ge=1, le=5_000)] = 500,
) -> list[Link]:
    """List where a page links to, each address once, whole and without its fragment; http and https only."""
    page = await page_of(ctx, url, html, base_url)
    host = _host(page.url) if same_host else ""
    if same_host and not host:
        raise ToolError("invalid_input", "Nobody said which host it is.", field="$.base_url")
    found = await apart("pages:links", page.html, page.url, limit, host)
    if len(found) > limit:
        ctx.warn(f"There are more than {limit} links.")
    return found[:limit]


@tool(
    effects="pure",
    tags=["web", "html", "text"],
    extra="web",
    timeout=_TIMEOUT,
    max_input=8 << 20,
    examples=[
        Example(
            {
                "html": "<h1>Tea</h1><p>Pour <b>hot</b> water, see <a href='/how'>how</a>.</p><script>x()</script>"
            },
            "# Tea\n\nPour **hot** water, see [how](/how).",
        )
    ],
)
async def web_to_markdown(html: Html, base_url: Base = "") -> str:
    """Write HTML as Markdown: headings, links, lists, tables, code; scripts and styles are left out."""
    return await apart("pages:markdown", html, base_url)


class Entry(TypedDict):
    """One entry of a feed."""

    title: str
    link: str
    id: str
    published: str
    """As ISO 8601 in UTC, '' = it does not say."""
    author: str
    summary: str
    """HTML without scripts."""


class Feed(TypedDict):
    """A feed and its newest entries, in its order."""

    url: str
    title: str
    link: str
    description: str
    updated: str
    version: str
    """rss20, atom10 and the like."""
    entries: list[Entry]


@tool(
    effects="network",
    idempotent=True,
    tags=["web", "news"],
    extra="web",
    timeout=_TIMEOUT,
    examples=[Example({"url": "https://example.org/feed", "limit": 5})],
)
async def web_feed(
    ctx: ToolContext, url: Url, limit: Annotated[int, Meta(ge=1, le=500), "Most entries."] = 50
) -> Feed:
    """Read a feed (RSS, Atom, RDF) and its entries."""
    accept = "application/atom+xml,application/rss+xml,application/xml;q=0.9,*/*;q=0.5"
    found = await network(ctx).fetch("GET", url, headers={"accept": accept}, max_bytes=PAGE)
    must_be_good(ctx, found)
    data = base64.b64encode(found.body).decode("ascii")
    told = await apart("feeds:feed", data, found.url, found.headers.get("content-type", ""), limit)
    if broken := told.pop("broken"):
        ctx.warn(f"The feed is not well written: {broken}")
    if len(told["entries"]) > limit:
        ctx.warn(f"There are more than {limit} entries.")
    return cast("Feed", {**told, "url": found.url, "entries": told["entries"][:limit]})


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
