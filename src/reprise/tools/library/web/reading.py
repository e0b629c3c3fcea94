"""Pages as tools are given them: fetched or handed over, allowed by robots.txt, and as text."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from msgspec import Meta

from reprise.kernel.clock import to_datetime
from reprise.kernel.errors import ToolError
from reprise.kernel.policy import wait_in
from reprise.tools.context import ToolContext
from reprise.tools.guards.network import Fetched, NetworkAccess, network
from reprise.tools.library.web.apart import apart

Url = Annotated[str, Meta(min_length=1, max_length=8_000), "An address: https://example.org/page."]
Html = Annotated[str, Meta(max_length=1_000_000), "HTML, instead of an address."]
PAGE = 2_000_000
"""Bytes of a page that are read."""
ROBOTS = 500_000
"""Bytes of a robots.txt that count."""
_ROBOTS_LAST = 3_600
"""Seconds for which a robots.txt is known."""
_ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,text/plain;q=0.8,*/*;q=0.5"
_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_ENCODINGS = frozenset({
    "ascii", "big5", "big5hkscs", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258",
    "cp866", "cp874", "cp932", "cp949", "euc_jp", "euc_kr", "gb18030", "gb2312", "gbk", "iso2022_jp", "iso8859-1",
    "iso8859-10", "iso8859-13", "iso8859-14", "iso8859-15", "iso8859-16", "iso8859-2", "iso8859-3", "iso8859-4",
    "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9", "koi8-r", "koi8-u", "mac-cyrillic", "mac-roman",
    "shift_jis", "tis-620", "utf-16", "utf-16-be", "utf-16-le", "utf-8",
})  # fmt: skip
"""Encodings of texts. Others that Python knows do something else, such as unpacking."""
_known: WeakKeyDictionary[NetworkAccess, dict[str, tuple[float, str]]] = WeakKeyDictionary()


class Page(NamedTuple):
    """HTML, and where it is from, '' = nobody said."""

    html: str
    url: str


async def page_of(ctx: ToolContext, url: str | None, html: str | None, base_url: str = "") -> Page:
    """Return the page that a tool is about. Raises ``ToolError``, also where robots.txt asks not to read it."""
    if (url is None) == (html is None):
        raise ToolError("invalid_input", "Give either url or html.", field="$.url")
    if html is not None:
        return Page(html, base_url)
    assert url is not None
    await must_be_allowed(ctx, url)
    found = await network(ctx).fetch("GET", url, headers={"accept": _ACCEPT}, max_bytes=PAGE, truncate=True)
    must_be_good(ctx, found)
    kind = media_type(found.headers)
    if kind and not (kind.startswith("text/") or "html" in kind or "xml" in kind):
        raise ToolError(
            "upstream", f"{found.url} is {kind}, and no page.", hint="See web_download, or web_fetch."
        )
    if found.truncated:
        ctx.warn(f"Only the first {PAGE:,} bytes of {found.url} were read.")
    return Page(text_of(found.body, found.headers), found.url)


# ---------------------------------------------------------------- what a response says


def must_be_good(ctx: ToolContext, found: Fetched) -> None:
    """Raise ``ToolError`` for a response that is an error; its code is what the status says."""
    if found.status < 400:
        return
    code = {
        401: "permission_denied",
        403: "permission_denied",
        404: "not_found",
        410: "not_found",
        429: "rate_limited",
    }
    wait = wait_in(found.headers, to_datetime(ctx.clock.now()))
    raise ToolError(
        code.get(found.status, "upstream"),
        f"{found.url} answered {found.status}.",
        hint=f"Try again in {wait:g} s." if wait else "",
        field="$.url",
        retry_after=wait,
    )


def media_type(headers: Mapping[str, str]) -> str:
    """Return the kind of content without its parameters, in small letters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def text_of(body: bytes, headers: Mapping[str, str] | None = None) -> str:
    r"""Return a page as text: by the mark at its beginning, by its headers, by what it says itself, as UTF-8.

    >>> text_of("<meta charset=latin1>caf\xe9".encode("latin-1"))[-4:] == "caf\xe9"
    True
    """
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    said = (
        (headers or {}).get("content-type", "").lower().partition("charset=")[2].strip(" \"';").split(";")[0]
    )
    if not encoding_of(said) and (found := _META.search(body[:2048])):
        said = found[1].decode("ascii")
    if encoding := encoding_of(said):
        return body.decode(encoding, "replace")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        return body.decode("utf-8" if was_cut(body, error) else "cp1252", "replace")


def was_cut(body: bytes, error: UnicodeDecodeError) -> bool:
    """Tell whether a long text is UTF-8 but for its last character, in the middle of which it was cut."""
    return len(body) > 100 and error.reason == "unexpected end of data" and error.end == len(body)


def said_by(headers: Mapping[str, str]) -> str:
    """Return the encoding that headers say, '' = none that is known."""
    said = headers.get("content-type", "").lower().partition("charset=")[2]
    return encoding_of(said.partition(";")[0].strip(" \"'"))


def encoding_of(name: str) -> str:
    """Return Python's name of an encoding of texts, '' = it is none. Latin-1 is what browsers take it for.

    >>> encoding_of("UTF8"), encoding_of("iso-8859-1"), encoding_of("zip"), encoding_of("unicode_escape")
    ('utf-8', 'cp1252', '', '')
    """
    try:
        known = codecs.lookup(name.strip("\"' ")).name
    except (LookupError, ValueError):
        return ""
    if known in ("iso8859-1", "ascii"):
        return "cp1252"
    return known if known in _ENCODINGS else ""


# ---------------------------------------------------------------- robots.txt


async def must_be_allowed(ctx: ToolContext, url: str) -> None:
    """Raise ``ToolError`` with code ``permission_denied`` where a robots.txt asks us not to read a page."""
    access = network(ctx)
    if not access.robots:
        return
    text = await robots_of(ctx, url)
    if text and not (await apart("robots:robots", text, agent_of(access), url))["allowed"]:
        raise ToolError(
            "permission_denied",
            f"The robots.txt of {urlsplit(url).netloc} asks {agent_of(access)} not to read that page.",
            hint="web_fetch reads single pages on behalf of a person; NetworkAccess(robots=False) asks nobody.",
            field="$.url",
        )


async def robots_of(ctx: ToolContext, url: str) -> str:
    """Return the robots.txt that holds for an address, '' = there is none. Kept for an hour.

    Raises ``ToolError``, also where the host does not say: then nobody knows what it allows.
    """
    access = network(ctx)
    place = robots_url(url)
    known, now = _known.setdefault(access, {}), ctx.clock.monotonic()
    if place in known and now < known[place][0]:
        return known[place][1]
    found = await access.fetch("GET", place, max_bytes=ROBOTS, truncate=True, timeout=10)
    if found.status >= 500 or found.status == 429:
        raise ToolError(
            "upstream", f"{place} answered {found.status}, so that nobody knows what may be read.",
            retry_after=wait_in(found.headers, to_datetime(ctx.clock.now())),
        )  # fmt: skip
    text = found.body.decode("utf-8", "replace") if found.status < 300 else ""
    if len(known) >= 500:
        known.clear()
    known[place] = (now + _ROBOTS_LAST, text)
    return text


def robots_url(url: str) -> str:
    """Return where the robots.txt is that holds for an address.

    >>> robots_url("https://example.org:8443/a/b?c")
    'https://example.org:8443/robots.txt'
    """
    try:
        parts: Any = urlsplit(url)
    except ValueError:
        return url
    return f"{parts.scheme}://{parts.netloc}/robots.txt"


def agent_of(access: NetworkAccess) -> str:
    """Return the name by which a robots.txt knows us."""
    return access.user_agent.partition("/")[0].strip() or "*"
