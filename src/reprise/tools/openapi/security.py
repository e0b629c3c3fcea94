"""Which credentials an operation needs, of those that there are, and the way out where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reprise.kernel.errors import ToolError
from reprise.tools.openapi.credentials import Applied, Credentials, Target
from reprise.tools.openapi.documents import objects, text

Security = Sequence[Sequence[tuple[str, tuple[str, ...]]]]


async def authorise(
    security: Security, schemes: Mapping[str, Any], names: Mapping[str, str], to: Target
) -> Applied:
    """Return what a request is sent with: the first of several ways for which there are credentials.

    ``names`` are the credentials of security schemes. Raises ``ToolError`` with code ``unavailable`` when there is none;
    says what to configure.
    """
    applied = Applied()
    if not security:
        return applied
    held = to.context.find(Credentials) or Credentials()
    ways = [
        [
            each for each in way if objects(schemes.get(each[0])).get("type") != "mutualTLS"
        ]  # the connection's business
        for way in security
    ]
    free = [way for way in ways if not way]
    ways = [way for way in ways if way]
    for way in ways:
        if all(held.fits(names.get(scheme, scheme), objects(schemes.get(scheme))) for scheme, _ in way):
            for scheme, scopes in way:
                await held.apply(names.get(scheme, scheme), objects(schemes.get(scheme)), scopes, to, applied)
            return applied
    if free:
        return applied
    wanted = dict.fromkeys(
        way_out(names.get(scheme, scheme), objects(schemes.get(scheme))) for way in ways for scheme, _ in way
    )
    both = " and " if len(ways) == 1 else " or "
    raise ToolError(
        "unavailable",
        f"{to.context.tool} needs a credential: {both.join(names.get(scheme, scheme) for scheme, _ in ways[0])}.",
        hint=f"registry.provide(Credentials()…), with {' or '.join(list(wanted)[:4])}.",
    )


def way_out(name: str, scheme: Mapping[str, Any]) -> str:
    """Return in words how a credential for a security scheme is given."""
    kind = scheme.get("type")
    how = text(scheme.get("scheme")).lower()
    if kind == "apiKey":
        return f".api_key({name!r}, …)"
    if kind == "http" and how == "basic":
        return f".basic({name!r}, user, password)"
    if kind == "http" and how == "bearer":
        return f".bearer({name!r}, …)"
    flows = objects(scheme.get("flows"))
    if kind == "oauth2" and "clientCredentials" in flows:
        return f".client_credentials({name!r}, id, secret)"
    if kind in ("oauth2", "openIdConnect"):
        flow = ", ".join(flows) or "OpenID Connect"
        return f".bearer({name!r}, …) and a token got elsewhere ({flow} needs a person)"
    return f"an executor of your own for {name!r}: {how or kind or 'its scheme'} is not known"


def is_known(scheme: Mapping[str, Any]) -> bool:
    """Tell whether credentials for a security scheme can be given at all."""
    kind = scheme.get("type")
    return kind in ("apiKey", "oauth2", "openIdConnect") or (
        kind == "http" and text(scheme.get("scheme")).lower() in ("basic", "bearer")
    )


def hidden(security: Security, schemes: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Return the (place, name) of what credentials fill in, which therefore is no argument."""
    found = set[tuple[str, str]]()
    for way in security:
        for scheme, _ in way:
            about = objects(schemes.get(scheme))
            if about.get("type") == "apiKey":
                place = text(about.get("in"))
                found.add(
                    (place, text(about.get("name")).lower() if place == "header" else text(about.get("name")))
                )
    return frozenset(found)
