"""What is done to documents of strangers, in a process that is killed when it takes too long.

Matching a selector may take time that doubles with each level of a page, and parsers written in C cannot be stopped. So
none of this is called where a tool runs: :func:`apart` calls it by its name, with arguments and results that are JSON.
"""

from __future__ import annotations

import base64
import re
from io import BytesIO
from typing import Any, cast
from urllib.parse import urldefrag, urljoin, urlsplit

from reprise.kernel.errors import ToolError
from reprise.tools.guards.process import PROCESSES, Limits
from reprise.tools.library.extras import library

LIMITS = Limits(seconds=20, memory=768 << 20, most=6 << 20)
_HIDDEN = "script, style, noscript, template, iframe, object, embed, svg, head > *:not(title)"
_ADDRESSES = frozenset({"href", "src", "action", "poster", "cite", "data-src"})
_SCHEMES = ("http", "https")
_SPACES = re.compile(r"\s+")
_UNSEEN = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
"""Controls (among them those of terminals), changes of direction, tags: text may be hidden in these, or by them."""


async def apart(function: str, *arguments: Any) -> Any:
    """Call a function of this module in a process of its own. Raises ``ToolError``."""
    return await PROCESSES.call(f"{__name__}:called", function, *arguments, limits=LIMITS)


def called(function: str, *arguments: Any) -> Any:
    """Return what a function of this module does, without characters that nobody sees and models may read."""
    return _visible(globals()[function](*arguments))


def scraped(html: str, url: str, selectors: dict[str, str], limit: int) -> dict[str, Any]:
    """Return the title, and of each selector the texts (``css``) or an attribute (``css@name``) of what it finds."""
    page = _page(html)
    base = _base(page, url)
    values: dict[str, list[str]] = {}
    for name, selector in selectors.items():
        css, _, attribute = selector.partition("@") if _is_attribute(selector) else (selector, "", "")
        try:
            nodes = page.css(css)
        except Exception as error:
            raise ToolError(
                "invalid_input",
                f"{selector!r} is no CSS selector.",
                hint="Write div.price > span, or a.next@href for an attribute.",
                field=f"$.selectors.{name}",
            ) from error
        found = (_text(node) if not attribute else _attribute(node, attribute, base) for node in nodes)
        values[name] = [each for each in found if each is not None][: limit + 1]
    return {"title": _title(page), "values": values}


def links(html: str, url: str, limit: int, host: str) -> list[dict[str, str]]:
    """Return where a page links to over http: each address once, those of ``host`` only unless that is ''."""
    page = _page(html)
    base, found = _base(page, url), dict[str, dict[str, str]]()
    for node in page.css("a[href], area[href]"):
        address = urldefrag(_joined(base, node.attributes.get("href") or "")).url
        parts = _parts(address)
        if parts is None or parts[0] not in _SCHEMES or (host and parts[1] != host) or address in found:
            continue
        text = _text(node) or node.attributes.get("title") or node.attributes.get("alt") or ""
        found[address] = {"url": address, "text": text[:500], "rel": (node.attributes.get("rel") or "")[:100]}
        if len(found) > limit:
            break
    return list(found.values())


def extracted(html: str, url: str, comments: bool) -> dict[str, Any] | None:
    """Return the main text of a page as Markdown, and what the page says of itself; None if there is no text."""
    reader, page = library("trafilatura", "web"), _page(html)
    html = (
        page.html or ""
    )  # as a browser reads it: the library finds nothing where tags are left out that may be
    options: dict[str, Any] = {"url": url or None, "include_comments": comments}
    text = reader.extract(
        html,
        output_format="markdown",
        include_links=True,
        include_tables=True,
        with_metadata=False,
        **options,
    )
    if not text:
        return None
    found = reader.bare_extraction(html, with_metadata=True, **options)
    told: dict[str, Any] = {} if found is None else found.as_dict()
    root = page.css_first("html")
    language = root.attributes.get("lang") if root is not None else None
    return {
        "title": told.get("title") or _title(page),
        "author": told.get("author") or "",
        "date": told.get("date") or "",
        "site": told.get("sitename") or "",
        "description": told.get("description") or "",
        "language": told.get("language") or language or "",
        "markdown": text,
    }


def markdown(html: str, url: str) -> str:
    """Return HTML as Markdown, without scripts and styles, addresses whole if ``url`` says where they are from."""
    page = _page(html)
    page_base = _base(page, url)
    for node in page.css(_HIDDEN):
        node.decompose()
    for node in page.css("[href], [src]"):
        for name in ("href", "src"):
            address = node.attributes.get(name)
            if address is None:
                continue
            whole = _joined(page_base, address)
            parts = _parts(whole)
            if parts is None or parts[0] not in (*_SCHEMES, "mailto", "tel", ""):
                del node.attrs[name]
            elif page_base:
                node.attrs[name] = whole
    written: str = library("markdownify", "web").markdownify(
        page.html or "", heading_style="ATX", bullets="-"
    )
    lines = [line.rstrip() for line in written.replace("\r\n", "\n").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def feed(data: str, url: str, content_type: str, limit: int) -> dict[str, Any]:
    """Return a feed and its entries; ``data`` is base64. Given an address instead of bytes the library would fetch it."""
    told = library("feedparser", "web").parse(
        BytesIO(base64.b64decode(data)),
        response_headers={"content-location": url, "content-type": content_type},
        resolve_relative_uris=True,
        sanitize_html=True,
    )
    about = told.feed
    if not told.version and not told.entries:
        why = told.get("bozo_exception")
        raise ToolError(
            "upstream", f"{url} is no feed{f': {why}' if why else ''}."[:400], hint="See web_links."
        )
    return {
        "title": about.get("title", ""),
        "link": about.get("link", ""),
        "description": about.get("subtitle", ""),
        "updated": _moment(about, "updated") or _moment(about, "published"),
        "version": told.version,
        "broken": str(told.get("bozo_exception", ""))[:200] if told.bozo else "",
        "entries": [_entry(each) for each in told.entries[: limit + 1]],
    }


def robots(text: str, agent: str, url: str) -> dict[str, Any]:
    """Return what a robots.txt says to an agent about an address."""
    told = library("protego", "web").Protego.parse(text)
    return {
        "allowed": bool(told.can_fetch(url, agent)),
        "crawl_delay": told.crawl_delay(agent),
        "sitemaps": list(told.sitemaps)[:100],
    }


# ---------------------------------------------------------------- pieces of pages


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSEEN.sub("", value)
    if isinstance(value, list):
        return [_visible(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {name: _visible(each) for name, each in cast("dict[str, Any]", value).items()}
    return value


def _page(html: str) -> Any:
    return library("selectolax.lexbor", "web").LexborHTMLParser(html)


def _title(page: Any) -> str:
    node = page.css_first("title")
    return "" if node is None else _text(node)


def _text(node: Any) -> str:
    return _SPACES.sub(" ", node.text(separator=" ")).strip()


def _attribute(node: Any, name: str, base: str) -> str | None:
    value = node.attributes.get(name, None)
    if name not in node.attributes:
        return None
    return _joined(base, value or "") if name in _ADDRESSES else value or ""


def _is_attribute(selector: str) -> bool:
    return re.fullmatch(r"[^@\"']*@[A-Za-z][\w:.-]*", selector) is not None


def _base(page: Any, url: str) -> str:
    node = page.css_first("base[href]")
    return url if node is None else _joined(url, node.attributes.get("href") or "")


def _joined(base: str, address: str) -> str:
    try:
        return urljoin(base, address.strip())
    except ValueError:
        return ""


def _parts(address: str) -> tuple[str, str] | None:
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return parts.scheme.lower(), (parts.hostname or "")


def _entry(entry: Any) -> dict[str, str]:
    content: list[dict[str, str]] = entry.get("content") or [{}]
    return {
        "title": entry.get("title", ""),
        "link": entry.get("link", ""),
        "id": entry.get("id", "") or entry.get("link", ""),
        "published": _moment(entry, "published") or _moment(entry, "updated"),
        "author": entry.get("author", ""),
        "summary": entry.get("summary", "") or content[0].get("value", ""),
    }


def _moment(told: Any, name: str) -> str:
    """Return a moment as ISO 8601 in UTC; as it was written where it cannot be read."""
    moment = told.get(f"{name}_parsed")
    if not moment:
        return told.get(name, "")
    year, month, day, hour, minute, second = moment[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00"
