"""Articles: the main text of a page, and what the page says of itself."""

from __future__ import annotations

from typing import Any

from reprise.tools.extras import library
from reprise.tools.library.web.apart import visible
from reprise.tools.library.web.apart.pages import parsed, title_of

_reader = library("trafilatura", "web")
_reader.extract("<html><body><p>What it loads when it is first needed, it loads now.</p></body></html>")


@visible
def extracted(html: str, url: str, comments: bool) -> dict[str, Any] | None:
    """Return the main text of a page as Markdown, and what the page says of itself; None if there is no text."""
    page = parsed(html)
    html = (
        page.html or ""
    )  # as a browser reads it: the library finds nothing where tags are left out that may be
    options: dict[str, Any] = {"url": url or None, "include_comments": comments}
    text = _reader.extract(
        html,
        output_format="markdown",
        include_links=True,
        include_tables=True,
        with_metadata=False,
        **options,
    )
    if not text:
        return None
    found = _reader.bare_extraction(html, with_metadata=True, **options)
    told: dict[str, Any] = {} if found is None else found.as_dict()
    root = page.css_first("html")
    language = root.attributes.get("lang") if root is not None else None
    return {
        "title": told.get("title") or title_of(page),
        "author": told.get("author") or "",
        "date": told.get("date") or "",
        "site": told.get("sitename") or "",
        "description": told.get("description") or "",
        "language": told.get("language") or language or "",
        "markdown": text,
    }
