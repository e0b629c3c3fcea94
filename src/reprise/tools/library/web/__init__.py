"""Tools for the web. Whatever they reach they reach by the network guard (:mod:`reprise.tools.guards.network`)."""

from __future__ import annotations

from reprise.tools.library.web.downloading import web_download
from reprise.tools.library.web.fetching import web_fetch, web_robots, web_send, web_status
from reprise.tools.library.web.pages import web_extract, web_feed, web_links, web_scrape, web_to_markdown
from reprise.tools.library.web.searching import web_search

TOOLS = (
    web_search, web_fetch, web_send, web_scrape, web_extract, web_download, web_links, web_feed, web_status, web_robots,
    web_to_markdown,
)  # fmt: skip
