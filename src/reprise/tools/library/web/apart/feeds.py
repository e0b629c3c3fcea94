"""Feeds."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

from reprise.kernel.errors import ToolError
from reprise.tools.extras import library
from reprise.tools.library.web.apart import visible

_parse = library("feedparser", "web").parse


@visible
def feed(data: str, url: str, content_type: str, limit: int) -> dict[str, Any]:
    """Return a feed and its entries; ``data`` is base64. Given an address instead of bytes the library would fetch it."""
    told = _parse(
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
