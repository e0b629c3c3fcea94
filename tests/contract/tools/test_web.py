"""Tools for the web, against a server on the loopback: what they return, and what hostile pages do not get them to do."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.sites import Asked, Site, Writer, certificates, page

from reprise import FileRoots, ToolError, ToolRegistry, create_builtin_tools_library
from reprise.kernel.errors import ConfigurationError
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.library.web import apart
from reprise.tools.library.web.reading import encoding_of, text_of
from reprise.tools.library.web.searching import BraveSearch, SearXNG, TavilySearch, WebSearch

TOOLS = create_builtin_tools_library()
LOCAL = NetworkAccess(["127.0.0.1"], rate=None)
ARTICLE = (
    '<html lang="en"><head><title>On tea</title><meta name="author" content="Ada Lovelace">'
    '<meta property="article:published_time" content="2026-11-22T09:00:00Z"></head><body><nav>Home Shop Imprint</nav>'
    f"<article><h1>On tea</h1><p>{'Tea is a drink that many people like. ' * 12}</p><p>Read <a href='/more'>more of it</a>, "
    f"{'there is a lot to say about leaves and water. ' * 8}</p></article><footer>Cookies and imprint</footer></body></html>"
)


def registry(*provided: object) -> ToolRegistry:
    tools = ToolRegistry(TOOLS)
    tools.provide(*(provided or (LOCAL,)))
    return tools


async def call(name: str, *provided: object, **arguments: Any) -> Any:
    return await registry(*provided).execute_tool(name, arguments)


async def refusal(name: str, *provided: object, **arguments: Any) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await call(name, *provided, **arguments)
    return caught.value


@pytest.fixture
async def site():
    async with Site({"/": page("<title>Home</title><p>Welcome")}) as site:
        yield site


# ---------------------------------------------------------------- the guard is theirs, too


@pytest.mark.parametrize(
    "name", ["web_fetch", "web_send", "web_scrape", "web_extract", "web_links", "web_feed", "web_robots"]
)
async def test_no_tool_reaches_the_loopback_unless_it_is_allowed(site, name):
    more = {"selectors": {"a": "a"}} if name == "web_scrape" else {}
    error = await refusal(name, NetworkAccess(ports=[site.port]), url=site.url(), **more)
    assert error.code == "permission_denied"
    assert "must not be reached" in str(error)
    assert error.field in ("$.url", "$.base_url")
    assert site.asked == []
    await call(name, url=site.url("/"), **more) if name not in ("web_feed", "web_extract") else None


async def test_a_download_and_a_status_do_not_either(site, tmp_path):
    closed = NetworkAccess(ports=[site.port])
    with FileRoots({"work": tmp_path}) as roots:
        error = await refusal("web_download", closed, roots, url=site.url(), path="work/a")
    assert error.code == "permission_denied"
    (status,) = await call("web_status", closed, urls=[site.url()])
    assert (status["ok"], status["status"]) == (False, 0)
    assert status["error"].startswith("permission_denied: ")
    assert site.asked == []
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- fetching


async def test_a_response_is_returned_as_it_is(site):
    site.routes["/data"] = page(
        '{"a": "é"}', content_type="application/json; charset=utf-8", x_made="1", set_cookie="a=b"
    )
    found = await call("web_fetch", url=site.url("/data"), headers={"X-Asked": "2"})
    assert (found["status"], found["body"], found["encoding"], found["bytes"]) == (
        200,
        '{"a": "é"}',
        "text",
        11,
    )
    assert found["headers"]["x-made"] == "1"
    assert "set-cookie" not in found["headers"]
    assert site.asked[0].headers["x-asked"] == "2"
    assert site.asked[0].headers["user-agent"] == "Reprise"
    missing = await call("web_fetch", url=site.url("/missing"))
    assert (missing["status"], missing["body"]) == (404, "nothing here")


@pytest.mark.parametrize(
    ("body", "kind", "encoding", "text"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png", "base64", "iVBORw0KGgo="),
        (b"\0\1", "text/plain", "base64", "AAE="),
        (b"caf\xe9", "text/plain; charset=iso-8859-1", "text", "café"),
        (b"caf\xc3\xa9", "", "text", "café"),
        (b"caf\xe9", "", "base64", "Y2Fm6Q=="),
        ("né".encode("utf-16"), "text/plain", "text", "né"),
        (b"plain", "application/octet-stream", "text", "plain"),
        (b"{}", "application/problem+json", "text", "{}"),
        (b"x\x9c", "text/plain; charset=zip", "text", "xœ"),
    ],
)
async def test_what_is_text_is_text(site, body, kind, encoding, text):
    site.routes["/"] = page(body, **({"content_type": kind} if kind else {}))
    found = await call("web_fetch", url=site.url())
    assert (found["encoding"], found["body"]) == (encoding, text)


async def test_a_body_that_is_too_long_is_cut_and_said_so(site):
    site.routes["/"] = page("é" * 1000, content_type="text/plain")
    told = await registry().call_tool("web_fetch", {"url": site.url(), "max_bytes": 101})
    assert told.value["truncated"] is True
    assert told.value["body"].startswith("é" * 50)
    assert told.warnings == ("The body is longer than 101 bytes.",)


async def test_a_head_has_no_body(site):
    site.routes["/"] = page("a" * 5000)
    found = await call("web_fetch", url=site.url(), method="HEAD")
    assert (found["bytes"], found["headers"]["content-length"]) == (0, "5000")
    assert site.asked[0].method == "HEAD"


async def test_what_is_sent_arrives(site):
    site.routes["/notes"] = lambda asked: page(
        json.dumps([asked.method, asked.body.decode(), asked.headers["content-type"]]), 201
    )
    found = await call("web_send", url=site.url("/notes"), body="hé")
    assert (found["status"], json.loads(found["body"])) == (201, ["POST", "hé", "application/json"])
    found = await call(
        "web_send", url=site.url("/notes"), body="x", method="PUT", headers={"Content-Type": "text/plain"}
    )
    assert json.loads(found["body"]) == ["PUT", "x", "text/plain"]
    assert (await refusal("web_fetch", url=site.url(), method="POST")).field == "$.method"


async def test_what_a_run_sends_has_a_key_that_stays(site):
    from reprise import Reprise, workflow

    site.routes["/notes"] = lambda asked: page(asked.headers.get("idempotency-key", ""))
    send = registry().step("web_send")

    @workflow
    async def note(url: str) -> str:
        return (await send(url=url, body="{}"))["body"]

    async with Reprise("memory://") as app:
        assert len(await app.run(note, site.url("/notes"))) > 10
    assert (await call("web_send", url=site.url("/notes"), body="{}"))["body"] == ""


# ---------------------------------------------------------------- pages

PAGE = """<html><head><title> A  shop </title><base href="/shop/"></head><body>
<div class=item><h2>Kettle</h2><b>12</b> EUR<a class=more href="kettle?a=1&amp;b=2#top">details</a></div>
<div class=item><h2>Pot</h2><b>15</b> EUR<a class=more href="//other.example/pot">details</a></div>
<a href="javascript:alert(1)">x</a><a href="mailto:a@b.c">y</a><a href="kettle?a=1&b=2">again</a><a>z</a>
<a href="http://[broken">broken</a></body></html>"""


async def test_selectors_find_texts_and_attributes(site):
    site.routes["/shop"] = page(PAGE, content_type="text/html")
    found = await call(
        "web_scrape", url=site.url("/shop"),
        selectors={"names": ".item > h2", "more": "a.more@href", "none": "table td", "quoted": "a[href='kettle?a=1&b=2']"},
    )  # fmt: skip
    assert found == {
        "url": site.url("/shop"), "title": "A shop",
        "values": {
            "names": ["Kettle", "Pot"], "more": [site.url("/shop/kettle?a=1&b=2#top"), "http://other.example/pot"],
            "none": [], "quoted": ["again"],
        },
    }  # fmt: skip


async def test_what_is_no_selector_is_named(site):
    error = await refusal("web_scrape", html=PAGE, selectors={"good": "a", "bad": "a[["})
    assert (error.code, error.field) == ("invalid_input", "$.selectors.bad")
    told = await registry().call_tool(
        "web_scrape", {"html": "<p>a" * 20, "selectors": {"p": "p"}, "limit": 5}
    )
    assert len(told.value["values"]["p"]) == 5
    assert told.warnings == ("There are more than 5 of 'p'.",)


async def test_links_are_whole_and_each_is_there_once():
    found = await call("web_links", html=PAGE, base_url="https://example.org/a")
    assert found == [
        {"url": "https://example.org/shop/kettle?a=1&b=2", "text": "details", "rel": ""},
        {"url": "https://other.example/pot", "text": "details", "rel": ""},
    ]
    same = await call("web_links", html=PAGE, base_url="https://example.org/a", same_host=True)
    assert [each["url"] for each in same] == ["https://example.org/shop/kettle?a=1&b=2"]
    assert (await refusal("web_links", html=PAGE, same_host=True)).field == "$.base_url"


async def test_the_text_of_an_article_is_found_without_menus(site):
    site.routes["/tea"] = page(ARTICLE, content_type="text/html")
    found = await call("web_extract", url=site.url("/tea"))
    assert (found["title"], found["date"], found["author"], found["language"]) == (
        "On tea",
        "2026-11-22",
        "Ada Lovelace",
        "en",
    )
    assert "Tea is a drink" in found["markdown"]
    assert "[more of it]" in found["markdown"]
    assert "Imprint" not in found["markdown"]
    cut = await call("web_extract", html=ARTICLE, max_chars=100)
    assert (len(cut["markdown"]), cut["truncated"]) == (100, True)
    assert (
        "A short text"
        in (await call("web_extract", html="<title>a</title><article><p>A short text of one sentence."))[
            "markdown"
        ]
    )
    error = await refusal("web_extract", html="<html><script>draw()</script></html>")
    assert (error.code, error.field) == ("not_found", "$.html")


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<h2>A</h2><p>b <i>c</i></p>", "## A\n\nb *c*"),
        ("<ul><li>1<li>2</ul>", "- 1\n- 2"),
        ("<pre><code>x = 1\ny</code></pre>", "```\nx = 1\ny\n```"),
        ("<table><tr><th>a</th></tr><tr><td>1</td></tr></table>", "| a |\n| --- |\n| 1 |"),
        ("a<script>evil()</script><style>x{}</style><iframe src='http://e'></iframe>b", "ab"),
        ("<a href='javascript:evil()'>a</a> <a href=' JaVa\tScript:evil()'>b</a>", "a b"),
        ("<img src='data:text/html,x' alt=pic><img src=/p.png alt=p>", "![pic]()![p](/p.png)"),
        ("<!-- a --><p hidden>x</p>", "x"),
        ("", ""),
        ("<p>&lt;b&gt; &amp;amp;", "<b> &amp;"),
    ],
)
async def test_html_is_written_as_markdown(html, markdown):
    assert await call("web_to_markdown", html=html) == markdown


async def test_addresses_in_markdown_are_made_whole():
    assert (
        await call("web_to_markdown", html="<a href=b>a</a>", base_url="https://e.org/x/")
        == "[a](https://e.org/x/b)"
    )


@pytest.mark.parametrize("arguments", [{}, {"url": "https://example.org/", "html": "<p>"}])
async def test_either_an_address_or_html(arguments):
    for name in ("web_extract", "web_links"):
        assert (await refusal(name, **arguments)).field == "$.url"


@pytest.mark.parametrize(
    ("status", "headers", "code", "wait"),
    [(404, {}, "not_found", None), (410, {}, "not_found", None), (403, {}, "permission_denied", None),
     (401, {}, "permission_denied", None), (429, {"retry_after": "7"}, "rate_limited", 7), (500, {}, "upstream", None),
     (503, {"retry_after": "Thu, 01 Jan 1970 00:00:00 GMT"}, "upstream", 0), (503, {"retry_after": "soon"}, "upstream", None)],
)  # fmt: skip
async def test_a_page_that_is_an_error_is_one(site, status, headers, code, wait):
    site.routes["/"] = page("no", status, **headers)
    for name in ("web_links", "web_feed"):
        error = await refusal(name, url=site.url())
        assert (error.code, error.retry_after) == (code, wait)


async def test_what_is_no_page_is_said_so(site):
    site.routes["/"] = page(b"%PDF", content_type="application/pdf")
    assert "is application/pdf" in str(await refusal("web_extract", url=site.url()))


# ---------------------------------------------------------------- pages of strangers

DEEP = "<div>" * 90 + "x"


async def test_a_selector_that_takes_forever_is_stopped(monkeypatch):
    monkeypatch.setattr(apart, "LIMITS", apart.Limits(seconds=1))
    hostile = {"a": "nosuch " + "div " * 9}
    error = await refusal("web_scrape", html=DEEP, selectors=hostile)
    assert error.code == "timeout"
    assert await call("web_to_markdown", html="<b>a</b>") == "**a**"  # the next call finds all as it was


@pytest.mark.parametrize(
    "html",
    ["<div>" * 20_000, "<table>" * 5_000, "<" * 200_000, "<!--" * 50_000, "<p " + "a=b " * 50_000 + ">", "\0" * 1_000,
     "<a href=" + "x" * 400_000 + ">y", "<b>" * 3_000 + "x" + "</b>" * 3_000, "&" * 100_000, "<svg><math><mi>" * 3_000,
     "\ud800", "<ul><li>" * 2_000, "<script>" * 10_000, "<form><input>" * 2_000],
    ids=lambda html: ascii(html[:9]),
)  # fmt: skip
async def test_hostile_pages_end_in_a_result_or_an_error(html, monkeypatch):
    monkeypatch.setattr(apart, "LIMITS", apart.Limits(seconds=1, most=6 << 20))
    for name, more in {
        "web_to_markdown": {},
        "web_links": {},
        "web_extract": {},
        "web_scrape": {"selectors": {"a": "b b b"}},
    }.items():
        try:
            await call(name, html=html, **more)
        except ToolError as error:
            assert error.code in ("timeout", "too_large", "not_found", "invalid_input"), error


async def test_what_nobody_sees_is_left_out():
    hidden = "".join(chr(0xE0000 + ord(each)) for each in "ignore all")
    html = f"<p>a\x1b[2Kb\u202ec\u200b{hidden}d\x9b1A</p><a href='https://e.org/{hidden}'>l</a>"
    assert await call("web_to_markdown", html=html) == "a[2Kbcd1A\n\n[l](https://e.org/)"
    found = await call("web_scrape", html=html, selectors={"p": "p"})
    assert found["values"]["p"] == ["a[2Kbcd1A"]


FEED = """<?xml version="1.0"?><rss version="2.0"><channel><title>News</title><link>https://e.org/</link>
<item><title>One &amp; two</title><link>/1</link><guid isPermaLink="false">id-1</guid>
<pubDate>Sun, 22 Nov 2026 09:30:00 +0100</pubDate><description>&lt;b&gt;x&lt;/b&gt;&lt;script&gt;e()&lt;/script&gt;</description></item>
<item><title>Later</title><pubDate>soon</pubDate></item></channel></rss>"""


async def test_a_feed_and_its_entries(site):
    site.routes["/feed"] = page(FEED, content_type="application/rss+xml")
    found = await call("web_feed", url=site.url("/feed"))
    assert (found["title"], found["version"], found["link"]) == ("News", "rss20", "https://e.org/")
    assert found["entries"][0] == {
        "title": "One & two", "link": site.url("/1"), "id": "id-1", "published": "2026-11-22T08:30:00+00:00", "author": "",
        "summary": "<b>x</b>",
    }  # fmt: skip
    assert found["entries"][1]["published"] == "soon"
    assert len((await call("web_feed", url=site.url("/feed"), limit=1))["entries"]) == 1


ENTITIES = '<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(each + 1)} "{f"&{chr(each)};" * 10}">' for each in range(97, 108)
)


@pytest.mark.parametrize(
    "body",
    ["hello", "<html><body>hi", "", "https://127.0.0.1/feed", "/etc/passwd", "<" * 100_000,
     f'<?xml version="1.0"?>{ENTITIES}]><rss version="2.0"><channel><title>&l;</title></channel></rss>',
     '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]><rss version="2.0"><channel><title>&a;</title></channel></rss>',
     '<?xml version="1.0"?><!DOCTYPE l SYSTEM "http://127.0.0.1:{port}/dtd"><rss version="2.0"><channel><title>a</title></channel></rss>'],
    ids=range(9),
)  # fmt: skip
async def test_hostile_feeds_read_no_files_and_fetch_nothing(site, body, monkeypatch):
    monkeypatch.setattr(apart, "LIMITS", apart.Limits(seconds=5))
    site.routes["/feed"] = page(body.replace("{port}", str(site.port)), content_type="application/rss+xml")
    try:
        found = await call("web_feed", url=site.url("/feed"))
        assert "root:" not in str(found)
        assert len(str(found)) < 10_000
    except ToolError as error:
        assert error.code in ("upstream", "timeout", "too_large"), error
    assert site.targets == ["/feed"]


# ---------------------------------------------------------------- robots

ROBOTS = "User-agent: *\nDisallow: /private\nAllow: /private/open\nCrawl-delay: 2\nSitemap: https://e.org/map.xml\n\nUser-agent: Bad\nDisallow: /"


async def test_robots_are_honoured_where_pages_are_read(site):
    site.routes |= {"/robots.txt": page(ROBOTS), "/private": page(ARTICLE), "/private/open": page(ARTICLE)}
    for name, more in {"web_scrape": {"selectors": {"a": "a"}}, "web_extract": {}, "web_links": {}}.items():
        error = await refusal(name, url=site.url("/private"), **more)
        assert (error.code, error.field) == ("permission_denied", "$.url")
        assert "asks Reprise not to read" in str(error)
        await call(name, url=site.url("/private/open"), **more)
        everybody = NetworkAccess(["127.0.0.1"], robots=False)
        await call(name, everybody, url=site.url("/private"), **more)
        bad = NetworkAccess(["127.0.0.1"], user_agent="Bad/2.0 (+https://bad.example)")
        assert "asks Bad not" in str(await refusal(name, bad, url=site.url("/private/open"), **more))
    assert (await call("web_fetch", url=site.url("/private")))["status"] == 200


async def test_robots_are_asked_once_an_hour(site):
    site.routes["/robots.txt"] = page(ROBOTS)
    access = NetworkAccess(["127.0.0.1"])
    for _ in range(3):
        await call("web_links", access, url=site.url())
    assert site.targets == ["/robots.txt", "/", "/", "/"]


@pytest.mark.parametrize(
    ("status", "code"), [(404, ""), (403, ""), (500, "upstream"), (503, "upstream"), (429, "upstream")]
)
async def test_who_does_not_say_what_is_allowed_is_not_read(site, status, code):
    site.routes["/robots.txt"] = page("User-agent: *\nDisallow: /", status, retry_after="5")
    access = NetworkAccess(["127.0.0.1"])
    if code:
        error = await refusal("web_links", access, url=site.url())
        assert (error.code, error.retry_after) == (code, 5)
        assert f"answered {status}" in str(error)
    else:
        assert await call("web_links", access, url=site.url()) == []


async def test_what_robots_say_is_told(site):
    site.routes["/robots.txt"] = page(ROBOTS)
    found = await call("web_robots", url=site.url("/private/x?y"))
    assert found == {
        "allowed": False, "robots_url": site.url("/robots.txt"), "found": True, "crawl_delay": 2.0,
        "sitemaps": ["https://e.org/map.xml"],
    }  # fmt: skip
    assert (await call("web_robots", url=site.url("/"), agent="bad"))["allowed"] is False
    assert (await call("web_robots", url=site.url("/a")))["allowed"] is True


async def test_a_hostile_robots_txt_is_stopped(site, monkeypatch):
    monkeypatch.setattr(apart, "LIMITS", apart.Limits(seconds=1))
    site.routes["/robots.txt"] = page("User-agent: *\n" + f"Disallow: /{'*a' * 60}b\n" * 50)
    try:
        await call("web_robots", NetworkAccess(["127.0.0.1"]), url=site.url("/" + "a" * 5_000))
    except ToolError as error:
        assert error.code == "timeout"


# ---------------------------------------------------------------- status


async def test_status_of_several_at_once(site, tmp_path):
    made = certificates(tmp_path, "127.0.0.1", days=10)
    site.routes |= {"/moved": page(status=301, location="/"), "/down": page("", 503)}
    async with Site({"/": page("secret")}, tls=made.server) as secured:
        access = NetworkAccess(["127.0.0.1"], tls=made.trusting)
        urls = [
            site.url("/moved"),
            site.url("/down"),
            secured.url(),
            "http://nothing.invalid/",
            "file:///etc/passwd",
        ]
        moved, down, secure, nothing, file = await call("web_status", access, urls=urls)
    assert (moved["ok"], moved["status"], moved["final_url"], moved["redirects"]) == (
        True,
        200,
        site.url(),
        [site.url("/moved")],
    )
    assert (down["ok"], down["status"], down["error"]) == (False, 503, "")
    assert secure["tls_expires"] == made.ends.isoformat()
    assert 9 < secure["tls_days"] <= 10
    assert nothing["error"].startswith("upstream: No address")
    assert file["error"].startswith(("permission_denied", "invalid_input"))
    assert [each["ms"] > 0 for each in (moved, down, secure, nothing)] == [True, True, True, False]


async def test_a_certificate_that_ended_is_an_error_of_its_own(tmp_path):
    made = certificates(tmp_path, "127.0.0.1", days=-1)
    async with Site({"/": page("secret")}, tls=made.server) as secured:
        (found,) = await call(
            "web_status", NetworkAccess(["127.0.0.1"], tls=made.trusting), urls=[secured.url()]
        )
    assert "expired" in found["error"]


# ---------------------------------------------------------------- downloads

DATA = bytes(range(256)) * 8_000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def folder(tmp_path: Path):
    with FileRoots({"work": tmp_path}, max_bytes=4_000_000) as roots:
        yield roots, tmp_path


def ranged(asked: Asked) -> bytes:
    """Answer as a server does that can go on."""
    begin = asked.headers.get("range", "").removeprefix("bytes=").removesuffix("-")
    if not begin or asked.headers.get("if-range") != '"v1"':
        return page(DATA, etag='"v1"')
    at = int(begin)
    if at >= len(DATA):
        return page(b"", 416, content_range=f"bytes */{len(DATA)}")
    return page(DATA[at:], 206, etag='"v1"', content_range=f"bytes {at}-{len(DATA) - 1}/{len(DATA)}")


def broken(at: int, etag: str = '"v1"') -> Any:
    async def route(asked: Asked, writer: Writer) -> None:
        writer.write(
            f"HTTP/1.1 200 OK\r\netag: {etag}\r\ncontent-length: {len(DATA)}\r\n\r\n".encode() + DATA[:at]
        )

    return route


async def test_a_download_is_there_whole(site, folder):
    roots, place = folder
    site.routes["/data"] = page(DATA, content_type="application/x-data")
    told = await call(
        "web_download", LOCAL, roots, url=site.url("/data"), path="work/new/data.bin", sha256=SHA.upper()
    )
    assert told == {
        "path": "work/new/data.bin", "url": site.url("/data"), "bytes": len(DATA), "sha256": SHA,
        "content_type": "application/x-data", "resumed_at": 0,
    }  # fmt: skip
    assert (place / "new/data.bin").read_bytes() == DATA
    again = await refusal("web_download", LOCAL, roots, url=site.url("/data"), path="work/new/data.bin")
    assert (again.code, again.field) == ("conflict", "$.path")
    site.routes["/data"] = page(b"newer")
    await call("web_download", LOCAL, roots, url=site.url("/data"), path="work/new/data.bin", overwrite=True)
    assert (place / "new/data.bin").read_bytes() == b"newer"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("route", "options", "code"),
    [(page(DATA), {"sha256": "0" * 64}, "upstream"), (page(DATA), {"max_bytes": 1000}, "too_large"), (broken(5000), {}, "upstream"),
     (page(b"a" * 5_000_000), {}, "too_large"), (page("no", 404), {}, "not_found"), (page("no", 500), {}, "upstream")],
)  # fmt: skip
async def test_of_a_download_that_fails_nothing_is_left(site, folder, route, options, code, overwrite):
    roots, place = folder
    site.routes["/data"] = route
    if overwrite:
        (place / "data").write_bytes(b"old")
    error = await refusal(
        "web_download", LOCAL, roots, url=site.url("/data"), path="work/data", overwrite=overwrite, **options
    )
    assert error.code == code
    assert {each.name: each.read_bytes() for each in place.iterdir()} == (
        {"data": b"old"} if overwrite else {}
    )


async def test_a_download_goes_on_where_it_broke_off(site, folder):
    roots, place = folder
    arguments = {"url": site.url("/data"), "path": "work/data", "resume": True, "sha256": SHA}
    site.routes["/data"] = broken(1_500_000)
    assert (await refusal("web_download", LOCAL, roots, **arguments)).code == "upstream"
    (part,) = place.iterdir()
    there = len(part.read_bytes())
    assert part.name.startswith("data.")
    assert there > 0
    site.routes["/data"] = ranged
    told = await call("web_download", LOCAL, roots, **arguments)
    assert (told["resumed_at"], told["bytes"]) == (there, len(DATA))
    assert [each.name for each in place.iterdir()] == ["data"]
    assert (place / "data").read_bytes() == DATA
    assert site.asked[-1].headers["range"] == f"bytes={there}-"


@pytest.mark.parametrize(
    "how",
    ["another version", "it cannot go on", "all of it was there", "no version", "what was there is wrong"],
)
async def test_two_versions_are_never_put_together(site, folder, how):
    roots, place = folder
    arguments = {"url": site.url("/data"), "path": "work/data", "resume": True}
    site.routes["/data"] = broken(
        1_500_000, '"v0"' if how == "another version" else 'W/"v1"' if how == "no version" else '"v1"'
    )
    await refusal("web_download", LOCAL, roots, **arguments)
    parts = list(place.iterdir())
    assert len(parts) == (0 if how == "no version" else 1)
    site.routes["/data"] = page(DATA, etag='"v1"') if how == "it cannot go on" else ranged
    if how == "all of it was there":
        parts[0].write_bytes(DATA)
    if how == "what was there is wrong":
        parts[0].write_bytes(b"wrong" * 100)
        error = await refusal("web_download", LOCAL, roots, **arguments, sha256=SHA)
        assert error.code == "upstream"
        assert list(place.iterdir()) == []
    told = await call("web_download", LOCAL, roots, **arguments)
    assert told["resumed_at"] == (len(DATA) if how == "all of it was there" else 0)
    assert (place / "data").read_bytes() == DATA


async def test_a_download_that_is_cancelled_leaves_nothing(site, folder):
    roots, place = folder

    async def slow(asked: Asked, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + DATA)
        await writer.drain()
        await site.stopped.wait()

    site.routes["/data"] = slow
    task = asyncio.create_task(call("web_download", LOCAL, roots, url=site.url("/data"), path="work/data"))
    await site.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["work/../data", "/etc/data", "other/data", "work/", "work/a\0b", "../work/data"]
)
async def test_a_download_stays_in_its_roots(site, folder, path):
    roots, place = folder
    error = await refusal("web_download", LOCAL, roots, url=site.url(), path=path)
    assert error.code in ("invalid_input", "not_found", "permission_denied")
    assert list(place.iterdir()) == []
    assert (await refusal("web_download", url=site.url(), path="work/a")).code == "unavailable"


# ---------------------------------------------------------------- searching

HIT = {"title": "Tea", "url": "https://e.org/tea"}


async def test_searxng_is_asked(site):
    site.routes["/search"] = page(
        json.dumps(
            {"results": [{**HIT, "content": "On tea", "publishedDate": None}, {"url": "javascript:x"}]}
        )
    )
    found = await call("web_search", SearXNG(site.url("")), query="green tea & milk", language="en")
    assert found == [{**HIT, "text": "On tea", "published": ""}]
    assert site.targets == ["/search?q=green+tea+%26+milk&format=json&language=en"]


async def test_brave_is_asked(site):
    results = [{**HIT, "description": "On tea", "page_age": "2026-11-01"}] * 9
    site.routes["/res/v1/web/search"] = page(json.dumps({"web": {"results": results}}))
    found = await call("web_search", BraveSearch("key-1", url=site.url("")), query="tea", limit=2)
    assert found == [{**HIT, "text": "On tea", "published": "2026-11-01"}] * 2
    assert site.asked[0].headers["x-subscription-token"] == "key-1"
    site.routes["/res/v1/web/search"] = page("{}")
    assert await call("web_search", BraveSearch("key-1", url=site.url("")), query="nothing") == []


async def test_tavily_is_asked(site):
    site.routes["/search"] = page(json.dumps({"results": [{**HIT, "content": "On tea"}]}))
    found = await call("web_search", TavilySearch("key-2", url=site.url("")), query="tea", limit=3)
    assert found == [{**HIT, "text": "On tea", "published": ""}]
    assert site.asked[0].headers["authorization"] == "Bearer key-2"
    assert json.loads(site.asked[0].body) == {"query": "tea", "max_results": 3}


@pytest.mark.parametrize(
    ("answer", "code"),
    [(page("no", 401), "permission_denied"), (page("no", 403), "permission_denied"), (page("", 429, retry_after="3"), "rate_limited"),
     (page("no", 500), "upstream"), (page("<html>"), "upstream"), (page('{"results": 3}'), "upstream"), (page("[]"), "upstream")],
)  # fmt: skip
async def test_a_search_that_fails_says_how(site, answer, code):
    site.routes["/search"] = answer
    error = await refusal("web_search", SearXNG(site.url("")), query="tea")
    assert error.code == code
    assert error.retry_after == (3 if code == "rate_limited" else None)


async def test_without_a_provider_nothing_is_made_up():
    error = await refusal("web_search", query="tea")
    assert error.code == "unavailable"
    assert "SearXNG('https://search.example')" in error.hint
    for wrong in ("search.example", "ftp://search.example", ""):
        with pytest.raises(ConfigurationError):
            SearXNG(wrong)


async def test_a_provider_is_asked_at_its_own_address_only(site):
    async with Site({"/search": page('{"results": []}')}) as another:
        site.routes["/search"] = page(status=302, location=another.url("/search?q=secret"))
        error = await refusal("web_search", SearXNG(site.url("")), query="tea")
        assert error.code == "permission_denied"
        assert another.asked == []


async def test_a_provider_of_ones_own():
    class Mine(WebSearch):
        async def search(self, ctx, query, limit, language):
            return [{"title": query, "url": "https://mine.example/", "text": ctx.tool, "published": ""}][
                :limit
            ]

    assert (await call("web_search", Mine(), query="tea"))[0]["text"] == "web_search"
    assert "key-1" not in repr(vars(BraveSearch("key-1")))


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (b"\xef\xbb\xbfa", "text/html; charset=latin1", "a"),
        ("é".encode("cp1252"), "", "é"),
        ("привет".encode("koi8-r"), "text/html; charset=KOI8-R", "привет"),
        (
            b'<meta charset="windows-1251">' + "да".encode("cp1251"),
            "text/html",
            '<meta charset="windows-1251">да',
        ),
        ("é".encode(), "text/html; charset=unicode_escape", "é"),
        (b"\\u0041", "text/html; charset=unicode_escape", "\\u0041"),
        (b"a" * 200 + "é".encode()[:1], "", "a" * 200 + "\ufffd"),
        ("日本".encode("shift_jis"), 'text/html; charset="Shift_JIS"; x=y', "日本"),
    ],
)
def test_texts_are_read_by_their_encoding(body, kind, text):
    assert text_of(body, {"content-type": kind}) == text


@given(st.binary(max_size=200), st.text(max_size=40))
def test_any_bytes_are_some_text(body, charset):
    assert isinstance(text_of(body, {"content-type": f"text/html; charset={charset}"}), str)
    assert encoding_of(charset) in ("", "cp1252", "utf-8", "gbk", "big5") or encoding_of(encoding_of(charset))


def test_days_are_counted_from_the_clock(tmp_path):
    assert certificates(tmp_path, "a.example").ends > datetime.now(UTC)
