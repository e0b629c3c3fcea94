"""What a robots.txt says."""

from __future__ import annotations

from typing import Any

from reprise.tools.extras import library
from reprise.tools.library.web.apart import visible

_Protego = library("protego", "web").Protego


@visible
def robots(text: str, agent: str, url: str) -> dict[str, Any]:
    """Return what a robots.txt says to an agent about an address."""
    told = _Protego.parse(text)
    return {
        "allowed": bool(told.can_fetch(url, agent)),
        "crawl_delay": told.crawl_delay(agent),
        "sitemaps": list(told.sitemaps)[:100],
    }
