"""The guarded way to the network: attacks, each beside a control that shows it works where nobody guards."""

import asyncio
import gzip
import http.client
import socket
import urllib.request
import zlib
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import brotli
import httpx2
import pytest
from backports import zstd
from hypothesis import given, strategies as st
from tests.sites import Asked, Site, Writer, certificates, page

from reprise import ConfigurationError, ToolError
from reprise.tools.guards.addresses import HostRules, Rule, kind_of, read_host
from reprise.tools.guards.network import NetworkAccess

EVERYTHING = NetworkAccess(["0.0.0.0/0", "::/0"], rate=None)
"""The control: the same way with nothing in it."""
ATTACKS: dict[str, int] = {}


def attacks(kind: str, cases: Iterable[object]) -> pytest.MarkDecorator:
    """Parametrize by the cases of a class of attacks, and count them."""
    cases = list(cases)
    ATTACKS[kind] = ATTACKS.get(kind, 0) + len(cases)
    return pytest.mark.parametrize("case", cases, ids=str)


def plain() -> httpx2.AsyncClient:
    """Return a client that nobody guards."""
    return httpx2.AsyncClient(trust_env=False, follow_redirects=True, timeout=5)


def names(*answers: str | list[str]) -> NetworkAccess:
    """Return a way by a resolver that answers so, one after the other."""
    left = list(answers)

    async def resolver(name: str, port: int) -> list[str]:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return [answer] if isinstance(answer, str) else answer

    return NetworkAccess(["127.0.0.1"], resolver=resolver)


async def refused(access: NetworkAccess, url: str, *codes: str, method: str = "GET", **options) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await access.fetch(method, url, **options)
    assert caught.value.code in (codes or ("permission_denied",)), caught.value
    return caught.value


@pytest.fixture
async def site():
    async with Site({"/": page("the inside")}) as site:
        yield site


# ---------------------------------------------------------------- spellings of addresses


def by_the_standard_library(url: str) -> bytes:
    """Fetch as Python itself does."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().read()
    finally:
        connection.close()


@attacks(
    "spellings of an address",
    [
        "127.0.0.1", "2130706433", "0x7f000001", "0x7F000001", "017700000001", "0x7f.1", "127.1", "127.0.1", "0177.0.0.1",
        "0x7f.0.0.1", "00000177.0.0.1", "0", "0.0.0.0", "0x0", "127.000.000.001", "0177.0.0.0x1", "127.0x1",
        "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460", "127\uff0e0\uff0e0\uff0e1",
        "localhost", "LOCALHOST", "\uff2c\uff2f\uff23\uff21\uff2c\uff28\uff2f\uff33\uff34", "\u24dbocalhost", "loc\u00adalhost",
    ],
)  # fmt: skip
async def test_no_spelling_leads_to_the_loopback(site, case):
    url = f"http://{case}:{site.port}/"
    error = await refused(NetworkAccess(ports=[site.port]), url, "permission_denied", "invalid_input")
    assert error.field == "$.url"
    assert site.asked == []
    assert await asyncio.to_thread(by_the_standard_library, url) == b"the inside"


@attacks(
    "another host than it seems",
    [
        "http://example.org@127.0.0.1:{port}/", "http://example.org:80@127.0.0.1:{port}/", "http://a:b@127.0.0.1:{port}/",
        "http://example.org%2f@127.0.0.1:{port}/", "http://example.org%23@127.0.0.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/", "http://[::ffff:7f00:1]:{port}/", "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/",
        "http://127.0.0.1:{port}/@example.org", "HTTP://127.0.0.1:{port}/", "http://127.0.0.1:0{port}/",
    ],
)  # fmt: skip
async def test_what_stands_beside_the_host_does_not_help(site, case):
    url = case.format(port=site.port)
    site.routes["/@example.org"] = page("the inside")
    await refused(NetworkAccess(ports=[site.port]), url, "permission_denied", "invalid_input")
    assert site.asked == []
    assert await asyncio.to_thread(by_the_standard_library, url) == b"the inside"


@pytest.mark.parametrize(
    "url",
    [
        "", "/", "example.org", "//example.org/", "http:/example.org", "http:///path", "http://", "https://:443/",
        "http://exa mple.org/", "http://example.org:99999/", "http://example.org:0/", "http://example.org:-1/",
        "http://example.org:http/", "http://[::1", "http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://%6c/",
        "http://-a.example/", "http://a..example/", "http://.example/", f"http://{'a' * 64}.example/", "http://a\\b/",
        f"http://{'a.' * 127}example/", "http://exa\nmple.org/", " http://example.org/", "http://example.org/\0",
        "http://example.org/" + "a" * 70_000, "http://1.2.3/", "http://1.2.3.4.5/", "http://256.1.1.1/", "http://1.2.3.4./",
        "http://example.0x1/", "http://{x}/",
    ],
)  # fmt: skip
async def test_what_is_no_url_is_said_so(url):
    assert (await refused(NetworkAccess(), url, "invalid_input")).field == "$.url"


# ---------------------------------------------------------------- addresses

INSIDE = {
    "0.0.0.0": "this host", "0.1.2.3": "this host", "10.0.0.1": "private", "10.255.255.255": "private",
    "100.64.0.1": "shared", "100.100.100.200": "shared", "100.127.255.255": "shared", "127.0.0.1": "loopback",
    "127.255.255.254": "loopback", "169.254.0.1": "link-local", "169.254.169.254": "link-local",
    "169.254.170.2": "link-local", "168.63.129.16": "the cloud's own", "172.16.0.1": "private", "172.31.255.255": "private",
    "192.0.0.8": "reserved", "192.0.0.192": "reserved", "192.0.2.1": "reserved", "192.88.99.1": "reserved",
    "192.168.0.1": "private", "192.168.255.255": "private", "198.18.0.1": "reserved", "198.19.255.255": "reserved",
    "198.51.100.1": "reserved", "203.0.113.1": "reserved", "224.0.0.1": "multicast", "239.255.255.255": "multicast",
    "240.0.0.1": "reserved", "255.255.255.255": "reserved",
    "::": "this host", "::1": "loopback", "::2": "IPv4-compatible", "::127.0.0.1": "IPv4-compatible",
    "::ffff:127.0.0.1": "loopback", "::ffff:169.254.169.254": "link-local", "::ffff:10.0.0.1": "private",
    "::ffff:0:127.0.0.1": "reserved", "64:ff9b::127.0.0.1": "loopback", "64:ff9b::10.0.0.1": "private",
    "64:ff9b::a9fe:a9fe": "link-local", "64:ff9b:1::10.0.0.1": "reserved", "100::1": "reserved", "fc00::1": "private",
    "fd00:ec2::254": "private", "fe80::1": "link-local", "febf::1": "link-local", "fec0::1": "reserved",
    "ff02::1": "multicast", "ff0e::1": "multicast", "2001::1": "Teredo", "2001:0:4136:e378:8000:63bf:3fff:fdd2": "Teredo",
    "2001:2::1": "reserved", "2001:10::1": "reserved", "2001:20::1": "reserved", "2001:db8::1": "reserved",
    "2002:7f00:1::": "6to4", "2002:a00:1::1": "6to4", "3fff::1": "reserved", "4000::1": "reserved", "5f00::1": "reserved",
    "2606:4700::5efe:10.0.0.1": "ISATAP", "2606:4700::200:5efe:10.0.0.1": "ISATAP",
}  # fmt: skip
OUTSIDE = (
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
    "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0",
    "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450::1", "2001:200::1", "3ffe::1",
    "64:ff9b::8.8.8.8", "::ffff:8.8.8.8",
)  # fmt: skip


@attacks("addresses of the inside, written", INSIDE)
async def test_no_address_of_the_inside_is_reached(case):
    host = f"[{case}]" if ":" in case else case
    error = await refused(NetworkAccess(), f"http://{host}/latest/meta-data/")
    assert INSIDE[case] in str(error)
    assert await EVERYTHING.addresses(case, 80) == [ip_address(case)]


@attacks("names of the inside", INSIDE)
async def test_no_name_leads_inside(case):
    async def resolver(name: str, port: int) -> list[str]:
        return [case]

    error = await refused(NetworkAccess(resolver=resolver), "http://harmless.example/")
    assert INSIDE[case] in str(error)
    unguarded = NetworkAccess(["0.0.0.0/0", "::/0"], resolver=resolver)
    assert await unguarded.addresses("harmless.example", 80) == [ip_address(case)]


@pytest.mark.parametrize("address", OUTSIDE)
async def test_public_addresses_are_reached_by_name_and_written(address):
    assert kind_of(ip_address(address)) == ""
    assert await NetworkAccess().addresses(address, 443) == [ip_address(address)]


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_what_is_public_is_public_to_the_standard_library(address):
    if kind_of(address) == "":
        seen = IPv4Address(int(address) & 0xFFFFFFFF) if "64:ff9b" in str(address) else address
        assert seen.is_global
        kinds = (seen.is_multicast, seen.is_private, seen.is_loopback, seen.is_link_local)
        assert not any(kinds)


@attacks(
    "one bad address among good ones",
    [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["2606:4700::1111", "::1"], ["1.1.1.1"] * 9 + ["10.0.0.1"],
     ["8.8.8.8", "::ffff:10.0.0.1"], ["8.8.8.8", "64:ff9b::a00:1"]],
)  # fmt: skip
async def test_all_addresses_of_a_name_must_be_good(case):
    async def resolver(name: str, port: int) -> list[str]:
        return case

    await refused(NetworkAccess(resolver=resolver), "http://mixed.example/")
    unguarded = NetworkAccess(["0.0.0.0/0", "::/0"], resolver=resolver)
    assert set(await unguarded.addresses("mixed.example", 80)) == set(map(ip_address, case))


# ---------------------------------------------------------------- rebinding


class Elsewhere(Site):
    """The inside, at an address of its own: a name leads to it only the second time."""


@pytest.fixture
async def inside(site):
    try:
        async with Elsewhere({"/": page("the inside")}, host="127.0.0.2") as inside:
            inside._server.close()
            await inside._server.wait_closed()
            # The same port as the site's: only the address tells them apart.
            inside._server = await asyncio.start_server(inside._serve, "127.0.0.2", site.port)
            yield inside
    except OSError:
        pytest.skip("127.0.0.2 is no address here")


@attacks(
    "a name that changes", ["between the check and the connection", "between two requests", "in a redirect"]
)
async def test_a_name_that_changes_leads_nowhere_else(site, inside, case, monkeypatch):
    site.routes["/"] = page("the outside")
    site.routes["/again"] = page(status=302, location=f"http://rebinding.example:{site.port}/")
    access = names("127.0.0.1", "127.0.0.2")
    url = f"http://rebinding.example:{site.port}"
    if case == "in a redirect":
        await refused(access, url + "/again")
    else:
        assert (await access.fetch("GET", url)).body == b"the outside"
        if case == "between two requests":
            await refused(access, url)
    assert inside.asked == []

    # The control: it is checked what the name stands for, and then connected to by name.
    answers = ["127.0.0.1", "127.0.0.2"]
    real = socket.getaddrinfo

    def changing(host, port, *args, **options):
        text = host.decode() if isinstance(host, bytes) else host
        return real(answers.pop(0) if "rebinding" in text else host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    (checked, *_) = await asyncio.get_running_loop().getaddrinfo("rebinding.example", site.port)
    assert checked[4][0] == "127.0.0.1"
    async with plain() as client:
        assert (await client.get(url)).text == "the inside"


async def test_a_name_is_looked_up_once_for_a_connection(site):
    looked_up = []

    async def resolver(name: str, port: int) -> list[str]:
        looked_up.append((name, port))
        return ["127.0.0.1"]

    access = NetworkAccess(["127.0.0.1"], resolver=resolver)
    await access.fetch("GET", f"http://site.example.:{site.port}/")
    assert looked_up == [("site.example", site.port)]
    assert site.asked[0].headers["host"] == f"site.example:{site.port}"


async def test_the_next_address_is_tried_where_one_does_not_answer(site):
    resolver = names(["::1", "127.0.0.1", "127.0.0.3"])._resolver
    access = NetworkAccess(["127.0.0.0/8", "::1"], resolver=resolver)
    assert (await access.fetch("GET", f"http://site.example:{site.port}/")).status == 200


async def test_a_name_of_nothing_is_said_so():
    async def resolver(name: str, port: int) -> list[str]:
        return []

    error = await refused(NetworkAccess(resolver=resolver), "http://nothing.example/", "upstream")
    assert "No address of nothing.example is known" in str(error)
    assert "No address of" in str(await refused(NetworkAccess(), "http://nothing.invalid/", "upstream"))


# ---------------------------------------------------------------- redirects


@attacks(
    "redirects to the inside",
    [
        "http://127.0.0.1:{inside}/", "http://localhost:{inside}/", "http://127.0.0.2:{inside}/", "//127.0.0.1:{inside}/",
        "http://[::ffff:127.0.0.1]:{inside}/", "http://0.0.0.0:{inside}/", "http://127.1:{inside}/",
        "http://2130706433:{inside}/", "http://0x7f.1:{inside}/", "http://0:{inside}/", "http://a@127.0.0.1:{inside}/",
        "HTTP://127.0.0.1:{inside}", "http://127.0.0.1:{inside}/#here", "/hop",
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [302, 308])
async def test_no_redirect_leads_inside(site, case, status):
    async with Site({"/": page("the inside")}, host="0.0.0.0") as inside:
        target = case.format(inside=inside.port)
        site.routes["/"] = page(status=status, location=target)
        site.routes["/hop"] = page(status=status, location=f"http://127.0.0.1:{inside.port}/")
        access = NetworkAccess([f"127.0.0.1:{site.port}"])
        await refused(access, site.url(), "permission_denied", "invalid_input")
        async with access.client() as client:
            client.follow_redirects = True
            with pytest.raises(ToolError):
                await client.get(site.url())
        assert inside.asked == []
        async with plain() as client:
            assert (await client.get(site.url())).text == "the inside"


ATTACKS["redirects to the inside"] *= 2


@attacks(
    "schemes",
    [
        "file:///etc/hosts",
        "file://localhost/etc/hosts",
        "data:text/plain,inside",
        "ws://{host}/",
        "wss://{host}/",
    ],
)
async def test_only_http_is_spoken(site, case):
    url = case.format(host=f"127.0.0.1:{site.port}")
    site.routes["/redirects"] = page(status=302, location=url)
    access = NetworkAccess(["127.0.0.1"])
    assert (await refused(access, url, "permission_denied", "invalid_input")).field == "$.url"
    await refused(access, site.url("/redirects"))
    assert site.targets == ["/redirects"]
    if url.startswith("ws"):
        async with plain() as client:
            if url.startswith("ws:"):
                assert (await client.get(url)).text == "the inside"
    else:
        with await asyncio.to_thread(urllib.request.urlopen, url) as opened:
            assert opened.read()


@pytest.mark.parametrize(
    "url",
    [
        "gopher://example.org/",
        "ftp://example.org/",
        "javascript:alert(1)",
        "unix:///run/docker.sock",
        "dict://a.b/",
    ],
)
async def test_other_schemes_are_refused(site, url):
    site.routes["/"] = page(status=302, location=url)
    await refused(NetworkAccess(), url, "permission_denied", "invalid_input")
    await refused(NetworkAccess(["127.0.0.1"]), site.url())


async def test_redirects_are_followed_and_told(site):
    site.routes |= {
        "/a": page(status=302, location="/b"),
        "/b": page(status=301, location="../c?d"),
        "/c": page("C"),
    }
    access = NetworkAccess(["127.0.0.1"])
    found = await access.fetch("GET", site.url("/a"))
    assert (found.body, found.url) == (b"C", site.url("/c?d"))
    assert found.redirects == (site.url("/a"), site.url("/b"))
    unfollowed = await access.fetch("GET", site.url("/a"), follow_redirects=False)
    assert (unfollowed.status, unfollowed.headers["location"]) == (302, "/b")


@attacks("redirects without an end", ["to itself", "to each other", "to ever new pages"])
async def test_redirects_come_to_an_end(site, case):
    site.routes["/"] = page(status=302, location="/" if case == "to itself" else "/b")
    site.routes["/b"] = page(status=302, location="/")
    if case == "to ever new pages":
        for n in range(30):
            site.routes[f"/{n}"] = page(status=302, location=f"/{n + 1}")
        site.routes["/"] = page(status=302, location="/0")
    error = await refused(NetworkAccess(["127.0.0.1"], max_redirects=3), site.url(), "upstream")
    assert "redirects more than 3 times" in str(error)
    assert len(site.asked) == 4
    async with plain() as client:
        with pytest.raises((httpx2.TooManyRedirects, httpx2.HTTPError)):
            await client.get(site.url())
        assert len(site.asked) > 14


@pytest.mark.parametrize("location", ["http://[::1", "http://exa mple:x/", "http://a b/"])
async def test_a_redirect_to_what_is_no_url_is_the_fault_of_who_sent_it(site, location):
    site.routes["/"] = page(status=302, location=location)
    await refused(NetworkAccess(["127.0.0.1"]), site.url(), "upstream", "invalid_input", "permission_denied")


# ---------------------------------------------------------------- what goes along

SECRETS = {
    "authorization": "Bearer secret", "cookie": "session=secret", "x-api-key": "secret", "x-auth-token": "secret",
    "api-key": "secret", "x-amz-security-token": "secret", "x-vault-token": "secret", "private-token": "secret",
}  # fmt: skip


@attacks("credentials in a redirect to another origin", SECRETS)
async def test_credentials_stay_with_whom_they_are_meant_for(site, case):
    async with Site({"/": page("another")}) as another:
        site.routes |= {
            "/away": page(status=302, location=another.url()),
            "/near": page(status=302, location="/"),
        }
        access = NetworkAccess(["127.0.0.1"])
        headers = {case.title(): SECRETS[case], "Accept": "text/html"}
        assert (await access.fetch("GET", site.url("/away"), headers=headers)).body == b"another"
        assert case not in another.asked[0].headers
        assert another.asked[0].headers["accept"] == "text/html"
        await access.fetch("GET", site.url("/near"), headers=headers)
        assert site.asked[-1].headers[case] == SECRETS[case]  # the control: to the same origin it goes along


@attacks("what is sent, redirected", [307, 308])
async def test_a_body_is_not_redirected_to_another_origin(site, case):
    async with Site({"/": page("another")}) as another:
        site.routes |= {
            "/away": page(status=case, location=another.url()),
            "/near": page(status=case, location="/"),
        }
        access = NetworkAccess(["127.0.0.1"])
        await refused(access, site.url("/away"), method="POST", content=b"secret")
        assert another.asked == []
        await access.fetch("POST", site.url("/near"), content=b"told")
        assert (site.asked[-1].method, site.asked[-1].body) == ("POST", b"told")
        async with plain() as client:
            await client.post(site.url("/away"), content=b"secret")
        assert another.asked[-1].body == b"secret"


@pytest.mark.parametrize(("status", "method", "becomes"), [(301, "POST", "GET"), (302, "POST", "GET"), (303, "PUT", "GET"),
                                                           (303, "HEAD", "HEAD"), (302, "PUT", "PUT")])  # fmt: skip
async def test_a_redirect_changes_the_method_as_browsers_do(site, status, method, becomes):
    site.routes["/a"] = page(status=status, location="/")
    content = b"" if method == "HEAD" else b"told"
    await NetworkAccess(["127.0.0.1"]).fetch(method, site.url("/a"), content=content)
    assert (site.asked[-1].method, bool(site.asked[-1].body)) == (becomes, becomes == "PUT")


@attacks("cookies of another", ["set on the way", "set for all hosts"])
async def test_cookies_do_not_reach_another_origin(site, case):
    cookie = "a=secret" if case == "set on the way" else "a=secret; Domain=127.0.0.1"
    async with Site({"/": page("another")}) as another:
        site.routes["/away"] = page(status=302, location=another.url(), set_cookie=cookie)
        site.routes["/near"] = page(status=302, location="/", set_cookie=cookie)
        access = NetworkAccess(["127.0.0.1"])
        await access.fetch("GET", site.url("/away"))
        assert "cookie" not in another.asked[-1].headers
        await access.fetch("GET", site.url("/near"))
        assert site.asked[-1].headers["cookie"] == "a=secret"  # a page that checks for them is still reached
        async with plain() as client:
            await client.get(site.url("/away"))
        assert another.asked[-1].headers["cookie"] == "a=secret"  # cookies know no ports


@attacks(
    "headers that change the request",
    [("Host", "inside.example"), ("host", "x"), ("Content-Length", "999"), ("Transfer-Encoding", "chunked"),
     ("Connection", "upgrade"), ("Upgrade", "h2c"), ("TE", "trailers"), ("Proxy-Authorization", "Basic eA=="),
     ("Keep-Alive", "1"), ("Expect", "100-continue")],
)  # fmt: skip
async def test_headers_that_say_where_a_request_ends_are_not_set_by_callers(site, case):
    name, value = case
    error = await refused(NetworkAccess(["127.0.0.1"]), site.url(), "invalid_input", headers={name: value})
    assert error.field == "$.headers"
    assert site.asked == []
    with socket.create_connection(
        ("127.0.0.1", site.port)
    ) as raw:  # the control: on the wire it is what it says
        raw.sendall(f"GET / HTTP/1.1\r\n{name}: {value if name != 'Content-Length' else 0}\r\n\r\n".encode())
        await site.arrived.wait()
    assert name.lower() in site.asked[0].headers


@attacks(
    "lines in headers", ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\r\n\r\nGET /evil HTTP/1.1", "a\rb", "a\0b"]
)
async def test_no_line_comes_in_with_a_header(site, case):
    access = NetworkAccess(["127.0.0.1"])
    await refused(access, site.url(), "invalid_input", headers={"X-A": case})
    await refused(access, site.url(), "invalid_input", headers={case: "a"})
    async with access.client() as client:
        with pytest.raises((httpx2.LocalProtocolError, ToolError)):
            await client.get(site.url(), headers={"X-A": case})
    assert site.asked == []
    with socket.create_connection(
        ("127.0.0.1", site.port)
    ) as raw:  # the control: written as it is, it is taken
        raw.sendall(f"GET / HTTP/1.1\r\nX-A: {case}\r\n\r\n".encode())
        await site.arrived.wait()
    assert site.asked[0].headers["x-a"] != ""


@attacks("methods", ["CONNECT", "TRACE", "get\r\nX: y", "FOO"])
async def test_methods_that_open_tunnels_are_not_sent(site, case):
    access = NetworkAccess(["127.0.0.1"])
    await refused(access, site.url(), "invalid_input", method=case)
    async with access.client() as client:
        with pytest.raises(ToolError):
            await client.request(case, site.url())
    assert site.asked == []
    if case.isalpha():
        async with plain() as client:
            await client.send(client.build_request(case, site.url()), stream=True)
        assert site.asked[-1].method == case


# ---------------------------------------------------------------- how much, how long

ZEROS = b"\0" * 6_000_000
BOMBS = {
    "gzip": lambda: gzip.compress(ZEROS), "deflate": lambda: zlib.compress(ZEROS), "br": lambda: brotli.compress(ZEROS),
    "zstd": lambda: zstd.compress(ZEROS), "gzip, gzip": lambda: gzip.compress(gzip.compress(ZEROS)),
    "gzip, br": lambda: brotli.compress(gzip.compress(ZEROS)),
}  # fmt: skip


@attacks("bombs", BOMBS)
async def test_a_bomb_does_not_go_off(site, case):
    body = BOMBS[case]()
    assert len(body) < 100_000
    site.routes["/"] = page(body, content_encoding=case)
    access = NetworkAccess(["127.0.0.1"])
    await refused(access, site.url(), "too_large", max_bytes=1_000_000)
    found = await access.fetch("GET", site.url(), max_bytes=1_000_000, truncate=True)
    assert (len(found.body), found.truncated) == (1_000_000, True)
    small = NetworkAccess(["127.0.0.1"], max_bytes=1_000_000)
    found = await small.fetch("GET", site.url(), max_bytes=10**12, truncate=True)
    assert (len(found.body), found.truncated) == (1_000_000, True)
    async with small.client() as client:
        with pytest.raises(ToolError) as caught:
            await client.get(site.url())
    assert caught.value.code == "too_large"
    async with plain() as client:
        assert len((await client.get(site.url())).content) == len(ZEROS)


async def endless(asked: Asked, writer: Writer, piece: bytes, headers: str) -> None:
    writer.write(f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode())
    for _ in range(200):
        writer.write(piece)
        await writer.drain()


STREAMS = {
    "announced": ("content-length: 12800000\r\n", b"a" * 64_000),
    "not announced": ("", b"a" * 64_000),
    "in chunks": ("transfer-encoding: chunked\r\n", b"fa00\r\n" + b"a" * 64_000 + b"\r\n"),
    "compressed nothing": ("content-encoding: deflate\r\n", b"\0\0\0\xff\xff" * 12_800),
}


@attacks("more than asked for", STREAMS)
async def test_no_more_is_read_than_was_asked_for(site, case):
    headers, piece = STREAMS[case]
    read = []

    async def route(asked: Asked, writer: Writer) -> None:
        await endless(asked, writer, piece, headers)

    site.routes["/"] = route
    access = NetworkAccess(["127.0.0.1"], max_bytes=1_000_000)
    await refused(
        access, site.url(), "too_large", max_bytes=100_000 if case != "compressed nothing" else None
    )
    async with plain() as client, client.stream("GET", site.url()) as response:
        try:
            async for _ in response.aiter_raw():
                read.append(response.num_bytes_downloaded)
        except httpx2.RemoteProtocolError:
            pass
        assert read[-1] > 10_000_000


@attacks("headers without an end", ["one", "many"])
async def test_headers_are_limited(site, case):
    site.routes["/"] = page(
        "x", **({"a": "a" * 80_000} if case == "one" else {f"a{n}": "a" * 100 for n in range(700)})
    )
    await refused(NetworkAccess(["127.0.0.1"]), site.url(), "too_large")
    async with plain() as client:
        assert (await client.get(site.url())).text == "x"


@attacks("slowness", ["no answer", "headers one by one", "a body byte by byte", "endless interim answers"])
async def test_time_is_limited_in_all(site, case):
    async def slow(asked: Asked, writer: Writer) -> None:
        if case == "no answer":
            await site.stopped.wait()
        first = {
            "a body byte by byte": b"HTTP/1.1 200 OK\r\n\r\n",
            "headers one by one": b"HTTP/1.1 200 OK\r\n",
        }
        writer.write(first.get(case, b""))
        while True:
            each = {"a body byte by byte": b"a", "headers one by one": b"a: b\r\n"}
            writer.write(each.get(case, b"HTTP/1.1 103 Early\r\n\r\n"))
            await writer.drain()
            going.set()
            await asyncio.sleep(0.01)

    going = asyncio.Event()
    site.routes["/"] = slow
    error = await refused(NetworkAccess(["127.0.0.1"]), site.url(), "timeout", timeout=0.1)
    assert "took longer than 0.1 s" in str(error)
    if (
        case != "no answer"
    ):  # the control: something comes all the time, so that a limit of each read never ends it
        going.clear()
        async with httpx2.AsyncClient(trust_env=False, timeout=0.1) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.get(site.url())
        assert going.is_set()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", "peer closed connection"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "peer closed connection"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", "ontent-Length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "ontent-Length"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc", "incorrect header"),
        (b"HTTP/1.1 200 OK\r\n a: b\r\n\r\n", "continuation line"),
        (b"HTTP/1.1 999999 OK\r\n\r\n", ""),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "illegal"),
        (b"", "disconnected"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\nanything", ""),
    ],
)  # fmt: skip
async def test_what_is_no_response_is_said_so(site, answer, says):
    site.routes["/"] = answer
    if answer.startswith(b"HTTP/1.1 101"):
        await refused(NetworkAccess(["127.0.0.1"]), site.url(), "upstream", "timeout", timeout=5)
        return
    error = await refused(NetworkAccess(["127.0.0.1"]), site.url(), "upstream")
    assert says in str(error)


async def test_a_password_in_a_url_is_refused_where_the_host_is_allowed(site):
    for userinfo in ("a", "a:b", ":b", "example.org:80"):
        error = await refused(NetworkAccess(["127.0.0.1"]), f"http://{userinfo}@127.0.0.1:{site.port}/")
        assert "a name and a password" in str(error)


async def test_too_much_to_a_host_in_a_time_is_refused(site):
    access = NetworkAccess(["127.0.0.0/8"], rate=(2, 60))
    await access.fetch("GET", site.url())
    await access.fetch("GET", site.url())
    error = await refused(access, site.url(), "rate_limited")
    assert 0 < error.retry_after <= 60
    assert len(site.asked) == 2
    by_name = NetworkAccess(["127.0.0.0/8", "localhost"], rate=(1, 60))
    for _ in range(3):
        await by_name.fetch("GET", site.url(host="localhost"))


# ---------------------------------------------------------------- TLS, proxies, rules


@attacks("certificates", ["of another name", "of nobody known", "that ended"])
async def test_a_certificate_must_be_that_of_the_name(tmp_path, case):
    made = certificates(tmp_path, "site.example", days=-1 if case == "that ended" else 30)
    async with Site({"/": page("secret")}, tls=made.server) as site:
        host = "other.example" if case == "of another name" else "site.example"
        url = f"https://{host}:{site.port}/"
        tls = None if case == "of nobody known" else made.trusting
        resolver = names("127.0.0.1")._resolver
        error = await refused(NetworkAccess(["127.0.0.1"], resolver=resolver, tls=tls), url, "upstream")
        assert "certificate" in str(error).lower()
        assert site.asked == []
        async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
            assert (await client.get(site.url())).text == "secret"


async def test_tls_speaks_of_the_name_though_an_address_is_connected_to(tmp_path):
    made = certificates(tmp_path, "site.example")
    spoken = []
    made.server.sni_callback = lambda _, name, __: spoken.append(name)
    async with Site({"/": page("secret")}, tls=made.server) as site:
        resolver = names("127.0.0.1")._resolver
        access = NetworkAccess(["127.0.0.1"], resolver=resolver, tls=made.trusting)
        async with access.stream("GET", f"https://site.example.:{site.port}/") as answer:
            assert [piece async for piece in answer] == [b"secret"]
            assert answer.certificate["subject"] == ((("commonName", "site.example"),),)
        assert spoken == ["site.example"]


@attacks("https that becomes http", ["fetched", "by a client"])
async def test_https_is_not_redirected_to_http(site, tmp_path, case):
    made = certificates(tmp_path, "127.0.0.1")
    async with Site({"/": page(status=302, location=site.url())}, tls=made.server) as secured:
        for downgrade in (False, True):
            access = NetworkAccess(["127.0.0.1"], tls=made.trusting, downgrade=downgrade)
            if case == "fetched":
                asked = access.fetch("GET", secured.url())
            else:
                client = access.client()
                asked = client.get(secured.url(), follow_redirects=True)
            if downgrade:
                assert (await asked) is not None
            else:
                with pytest.raises(ToolError) as caught:
                    await asked
                assert caught.value.code == "permission_denied"
            if case == "by a client":
                await client.aclose()
            assert len(site.asked) == int(downgrade)


@attacks("proxies from the environment", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_proxies_of_the_environment_are_asked_only_if_told_to(site, case, monkeypatch):
    async with Site({}) as proxy:
        monkeypatch.setenv(case, proxy.url())
        proxy.routes[site.url()] = page("seen by another")
        assert (await NetworkAccess(["127.0.0.1"]).fetch("GET", site.url())).body == b"the inside"
        async with NetworkAccess(["127.0.0.1"]).client() as client:
            assert (await client.get(site.url())).text == "the inside"
        assert proxy.asked == []
        async with httpx2.AsyncClient() as client:
            assert (await client.get(site.url())).text == "seen by another"
        access = NetworkAccess(["127.0.0.1"], proxy="environment")
        assert (await access.fetch("GET", site.url())).body == b"seen by another"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert (await access.fetch("GET", site.url())).body == b"the inside"


async def test_behind_a_proxy_names_and_written_addresses_are_still_checked(site):
    async with Site({"http://site.example/": page("by proxy")}) as proxy:
        access = NetworkAccess(["site.example"], ["denied.example"], public=False, proxy=proxy.url())
        assert (await access.fetch("GET", "http://site.example/")).body == b"by proxy"
        for url in (
            "http://169.254.169.254/",
            "http://denied.example/",
            "http://other.example/",
            "http://127.1/",
        ):
            await refused(access, url, "permission_denied", "invalid_input")
        networks = NetworkAccess(["10.0.0.0/8"], public=False, proxy=proxy.url())
        await refused(networks, "http://site.example/")
        await refused(NetworkAccess(proxy=proxy.url()), "http://site.example:25/")
        assert proxy.targets == ["http://site.example/"]


@attacks(
    "names that look allowed",
    ["evilintra.example", "intra.example.evil.example", "x.intra.example", "intra", "intra.example2"],
)
async def test_a_rule_means_the_name_and_nothing_like_it(site, case):
    resolver = names("127.0.0.1")._resolver
    access = NetworkAccess(["intra.example", "*.sub.example"], resolver=resolver)
    await refused(access, f"http://{case}:{site.port}/")
    for host in ("evilsub.example", "sub.example", "a.sub.example.evil.example"):
        await refused(access, f"http://{host}:{site.port}/")
    assert site.asked == []
    for host in ("intra.example", "INTRA.example.", "a.sub.example"):
        assert (await access.fetch("GET", f"http://{host}:{site.port}/")).body == b"the inside"


@attacks(
    "ways around a denial",
    ["denied.example", "DENIED.example", "denied.example.", "a.denied.example", "ok.example"],
)
async def test_denied_goes_before_allowed(site, case):
    resolver = names("127.0.0.1")._resolver
    denied = NetworkAccess(
        ["127.0.0.0/8", "denied.example"],
        ["denied.example", "*.denied.example", f"127.0.0.1:{site.port}"] if case == "ok.example" else ["denied.example", "*.denied.example"],
        resolver=resolver,
    )  # fmt: skip
    await refused(denied, f"http://{case}:{site.port}/")
    assert site.asked == []
    open_ = NetworkAccess(["127.0.0.0/8"], resolver=resolver)
    assert (await open_.fetch("GET", f"http://{case}:{site.port}/")).status == 200


@attacks("ports", [22, 25, 110, 3306, 5432, 6379, 9200, 11211, 27017])
async def test_public_addresses_are_reached_at_the_ports_of_the_web(case):
    async def resolver(name: str, port: int) -> list[str]:
        return ["8.8.8.8"]

    asked = NetworkAccess(resolver=resolver)
    assert f"port {case}" in str(await refused(asked, f"http://site.example:{case}/"))
    await refused(asked, f"http://8.8.8.8:{case}/")
    with_port = NetworkAccess([f"site.example:{case}"], resolver=resolver)
    assert await with_port.addresses("site.example", case) == [ip_address("8.8.8.8")]


async def test_a_rule_with_a_port_is_for_that_port(site):
    async with Site({"/": page("another")}) as another:
        access = NetworkAccess([f"127.0.0.1:{site.port}"])
        assert (await access.fetch("GET", site.url())).status == 200
        error = await refused(access, another.url())
        assert f"allow=['127.0.0.1:{another.port}']" in error.hint


@attacks(
    "denied addresses in other clothes", ["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b::808:808"]
)
async def test_a_denied_address_is_denied_however_it_is_reached(case):
    async def resolver(name: str, port: int) -> list[str]:
        return [case]

    with pytest.raises(ToolError, match="is denied"):
        await NetworkAccess(deny=["8.8.8.0/24"], resolver=resolver).addresses("site.example", 80)
    assert await NetworkAccess(resolver=resolver).addresses("site.example", 80) == [ip_address(case)]


async def test_a_name_vouches_for_private_addresses_and_not_for_those_of_the_cloud():
    for address, code in (("10.0.0.1", ""), ("127.0.0.1", ""), ("169.254.169.254", "permission_denied")):
        access = NetworkAccess(["intra.example"], resolver=names(address)._resolver)
        if code:
            with pytest.raises(ToolError) as caught:
                await access.addresses("intra.example", 80)
            assert caught.value.code == code
        else:
            assert await access.addresses("intra.example", 80) == [ip_address(address)]


async def test_a_closed_list_asks_for_no_other_name():
    async def resolver(name: str, port: int) -> list[str]:
        raise AssertionError(f"{name} was told to others")

    await refused(
        NetworkAccess(["api.example"], public=False, resolver=resolver), "http://secret.evil.example/"
    )
    await refused(NetworkAccess(resolver=resolver), "http://secret.evil.example:25/")


async def test_what_is_not_installed_is_said_so(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "httpx2", None)
    monkeypatch.delitem(sys.modules, "reprise.tools.guards.http", raising=False)
    with pytest.raises(ConfigurationError, match=r"pip install 'reprise-agents\[web\]'"):
        await NetworkAccess().fetch("GET", "http://example.org/")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"allow": "example.org"}, "Give a list"), ({"allow": ["http://example.org"]}, "names no host"),
        ({"allow": ["10.0.0.0/33"]}, "names no host"), ({"deny": ["exa mple"]}, "names no host"),
        ({"allow": ["example.org:0"]}, "is no port"), ({"allow": ["10.0.0.1/8"]}, "host bits"), ({"allow": [""]}, "names no host"),
        ({"allow": ["127.1"]}, "unusual spelling"), ({"max_bytes": 0}, "must be positive"), ({"timeout": 0}, "must be positive"),
        ({"rate": (0, 1)}, "must be positive"), ({"max_redirects": -1}, "must be positive"), ({"proxy": "socks5://a"}, "proxy="),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(options, says):
    with pytest.raises(ConfigurationError) as caught:
        NetworkAccess(**options)
    assert says in str(caught.value)


async def test_event_streams_have_no_limit_of_bytes_for_who_says_so(site):
    site.routes["/"] = page(b"data: x\n\n" * 1000, content_type="text/event-stream")
    access = NetworkAccess(["127.0.0.1"], max_bytes=100)
    async with access.client(event_streams=True) as client:
        assert len((await client.get(site.url())).content) == 9000
    async with access.client() as client:
        with pytest.raises(ToolError):
            await client.get(site.url())


@given(st.text(max_size=40))
def test_no_text_is_read_as_a_host_that_is_not_one(text):
    try:
        read = read_host(text)
    except ValueError:
        return
    assert isinstance(read, IPv4Address | IPv6Address) or (
        read.isascii() and read == read.lower() and "/" not in read
    )


@given(st.from_regex(r"\A[a-z0-9]{1,9}(\.[a-z0-9]{1,9}){0,2}\Z"), st.integers(1, 65535))
def test_a_rule_of_a_name_holds_for_it(name, port):
    try:
        rule = Rule.read(f"{name}:{port}")
    except ConfigurationError:
        with pytest.raises(ValueError, match="unusual"):
            read_host(name)
        return
    if rule.name:
        assert rule.names(name, port)
        assert not rule.names(name, port % 65535 + 1)
        assert HostRules([name]).vouches(name, port)


def test_there_are_enough_attacks():
    assert len(ATTACKS) >= 12, ATTACKS
    assert sum(ATTACKS.values()) >= 150, ATTACKS
