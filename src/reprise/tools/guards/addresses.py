"""Which hosts may be reached: how a host may be written, what an address is, and rules by name, address and port."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple, TypeAlias

from reprise.kernel.errors import ConfigurationError

Address: TypeAlias = IPv4Address | IPv6Address

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_KINDS_4 = {
    "this host": "0.0.0.0/8",
    "private": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16",
    "shared": "100.64.0.0/10",
    "loopback": "127.0.0.0/8",
    "link-local": "169.254.0.0/16",
    "the cloud's own": "168.63.129.16/32",
    "reserved": "192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4",
    "multicast": "224.0.0.0/4",
}
_KINDS_6 = {
    "this host": "::/128",
    "loopback": "::1/128",
    "IPv4-compatible": "::/96",
    "private": "fc00::/7",
    "link-local": "fe80::/10",
    "multicast": "ff00::/8",
    "Teredo": "2001::/32",
    "reserved": "2001::/23 2001:db8::/32 3fff::/20",
    "6to4": "2002::/16",
}
_NETWORKS = tuple(
    (ip_network(network), kind)
    for kinds in (_KINDS_4, _KINDS_6)
    for kind, networks in kinds.items()
    for network in networks.split()
)
_PUBLIC_6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)
"""The upper half of what stands for an interface, where the lower is an IPv4 address to which packets are sent."""
VOUCHED = frozenset({"private", "loopback", "shared"})
"""What a name that is allowed may turn out to be. Other kinds are reached only where the address itself is allowed."""


def kind_of(address: Address) -> str:
    """Return what an address is that is not public, '' = it is public.

    Addresses of IPv6 that stand for one of IPv4 are what that is; of the ways to tunnel only NAT64 is in use.

    >>> [kind_of(ip_address(each)) for each in ("8.8.8.8", "10.1.2.3", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe")]
    ['', 'private', 'loopback', 'link-local']
    """
    address = behind(address)
    for network, kind in _NETWORKS:
        if address.version == network.version and address in network:
            return kind
    if isinstance(address, IPv4Address):
        return ""
    if address not in _PUBLIC_6:
        return "reserved"
    return "ISATAP" if int(address) >> 32 & 0xFFFFFFFF in _ISATAP else ""


def plain(address: Address) -> Address:
    """Return an address of IPv4 that is written as one of IPv6 (``::ffff:…``) as what it is."""
    return getattr(address, "ipv4_mapped", None) or address


def behind(address: Address) -> Address:
    """Return the address of IPv4 at which packets arrive that NAT64 takes, any other as it is."""
    address = plain(address)
    return IPv4Address(int(address) & 0xFFFFFFFF) if address.version == 6 and address in _NAT64 else address


def read_host(host: str) -> str | Address:
    """Return a host as it stands in a URL, in small letters: an address, or a name without the dot at its end.

    Raises ``ValueError`` for what is neither, and for spellings of addresses that only some programs understand:
    decimal, octal, hexadecimal, short ones, and those with a zone.

    >>> read_host("127.0.0.1"), read_host("example.org.")
    (IPv4Address('127.0.0.1'), 'example.org')
    >>> read_host("0x7f.1")
    Traceback (most recent call last):
    ValueError: '0x7f.1' is an unusual spelling of an address
    """
    if ":" in host:
        if "%" in host:
            raise ValueError(f"{host!r} has a zone")
        return IPv6Address(host)
    name = host.removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return IPv4Address(host)
        except ValueError:
            raise ValueError(f"{host!r} is an unusual spelling of an address") from None
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{host!r} is no name of a host")
    return name


class Rule(NamedTuple):
    """A host, or a network of addresses, at a port or at all."""

    text: str
    name: str
    network: IPv4Network | IPv6Network | None
    port: int | None

    @classmethod
    def read(cls, text: str) -> Rule:
        """Return a rule that somebody wrote. Raises ``ConfigurationError``.

        >>> Rule.read("127.0.0.1:8080").port, Rule.read("[::1]:80").network, Rule.read("*.example.org").name
        (8080, IPv6Network('::1/128'), '*.example.org')
        """
        try:
            host, port = _parted(text.strip().lower())
            if "/" in host:
                return cls(text, "", ip_network(host), port)
            if ":" in host:
                return cls(text, "", ip_network(plain(ip_address(host))), port)
            read = read_host(host.removeprefix("*."))
            if isinstance(read, str):
                return cls(text, "*." + read if host.startswith("*.") else read, None, port)
            return cls(text, "", ip_network(read), port)
        except ValueError as error:
            raise ConfigurationError(
                f"{text!r} names no host: {error}.",
                hint="Write a name, *.example.org, an address, or 10.0.0.0/8, and :8080 behind it for one port.",
            ) from None

    def names(self, host: str, port: int) -> bool:
        """Tell whether it names a host by its name."""
        if not self.name or self.port not in (None, port):
            return False
        return host.endswith(self.name[1:]) if self.name.startswith("*.") else host == self.name

    def holds(self, address: Address, port: int) -> bool:
        """Tell whether it names an address."""
        if self.network is None or self.port not in (None, port):
            return False
        return address.version == self.network.version and address in self.network


class HostRules:
    """Who may be reached.

    ``deny`` goes before ``allow``. What neither names may be reached when ``public`` is True, it is a public address,
    and the port is one of ``ports``. A name that is allowed may stand for private addresses and the loopback, too.

    >>> rules = HostRules(["intranet.example", "10.0.0.0/8"])
    >>> rules.refusal("intranet.example", 80, ip_address("192.168.0.7"))
    ''
    >>> rules.refusal("evil.example", 80, ip_address("192.168.0.7"))
    'its address 192.168.0.7 is private'

    Raises ``ConfigurationError`` for a rule that names nothing.
    """

    def __init__(
        self,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        *,
        public: bool = True,
        ports: Collection[int] = (80, 443),
    ) -> None:
        for option, rules in (("allow", allow), ("deny", deny)):
            if isinstance(rules, str):
                raise ConfigurationError(f"{option}={rules!r}", hint=f"Give a list: {option}=[{rules!r}].")
        self._allow = tuple(map(Rule.read, allow))
        self._deny = tuple(map(Rule.read, deny))
        self._public, self._ports = public, frozenset(ports)

    def vouches(self, host: str, port: int) -> bool:
        """Tell whether a rule allows a host by its name."""
        return any(rule.names(host, port) for rule in self._allow)

    def refusal_of_name(self, host: str, port: int) -> str:
        """Return why a host is refused before anybody asks for its addresses, '' = it is not: asking tells others, too."""
        for rule in self._deny:
            if rule.names(host, port):
                return f"{rule.text!r} is denied"
        if self._public or self.vouches(host, port) or any(rule.network for rule in self._allow):
            return ""
        return "only what is allowed by name may be reached"

    def refusal(self, host: str, port: int, address: Address) -> str:
        """Return why an address may not be reached by a name ('' = it was written itself), '' = it may."""
        for rule in self._deny:
            if rule.holds(behind(address), port) or rule.holds(address, port):
                return f"{rule.text!r} is denied"
        if any(rule.holds(plain(address), port) for rule in self._allow):
            return ""
        kind = kind_of(address)
        if self.vouches(host, port) and (not kind or kind in VOUCHED):
            return ""
        if kind:
            return f"its address {address} is {kind}" if host else f"it is {kind}"
        if not self._public:
            return "only what is allowed may be reached"
        return "" if port in self._ports else f"port {port} is not one of {sorted(self._ports)}"


def _parted(text: str) -> tuple[str, int | None]:
    """Return host and port of a rule: ``[::1]:80``, ``10.0.0.0/8:80``, ``name:80``; two colons are an address."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is no port")
    return host, int(port) if port else None
