"""Pages: selectors, links, Markdown."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from reprise.kernel.errors import ToolError
from reprise.tools.extras import library
from reprise.tools.library.web.apart import visible

_parser = library("selectolax.lexbor", "web").LexborHTMLParser
_written = library("markdownify", "web").markdownify
_HIDDEN = "script, style, noscript, template, iframe, object, embed, svg, head > *:not(title)"
_ADDRESSES = frozenset({"href", "src", "action", "poster", "cite", "data-src"})
_SCHEMES = ("http", "https")
_SPACES = re.compile(r"\s+")


@visible
def scraped(html: str, url: str, selectors: dict[str, str], limit: int) -> dict[str, Any]:
    """Return the title, and of each selector the texts (``css``) or an attribute (``css@name``) of what it finds."""
    page = parsed(html)
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
    return {"title": title_of(page), "values": values}


@visible
def links(html: str, url: str, limit: int, host: str) -> list[dict[str, str]]:
    """Return where a page links to over http: each address once, those of ``host`` only unless that is ''."""
    page = parsed(html)
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


@visible
def markdown(html: str, url: str) -> str:
    """Return HTML as Markdown, without scripts and styles, addresses whole if ``url`` says where they are from."""
    page = parsed(html)
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
    written: str = _written(page.html or "", heading_style="ATX", bullets="-")
    lines = [line.rstrip() for line in written.replace("\r\n", "\n").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


# ---------------------------------------------------------------- pieces of pages


def parsed(html: str) -> Any:
    """Return a page as a tree, as a browser reads it."""
    return _parser(html)


def title_of(page: Any) -> str:
    """Return what a page is called."""
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
