"""Named credentials: what APIs want to see, kept from models, arguments and logs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, quote_plus

import msgspec

from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.kernel.settings import Secret
from reprise.tools.context import ToolContext
from reprise.tools.guards.network import Fetched, network
from reprise.tools.openapi.documents import Json, objects, split, text
from reprise.tools.openapi.styles import header

Value = str | Secret | Callable[[], str]
"""A secret, or a function that fetches it when it is needed."""
_EARLY = 30.0
"""Seconds before its end at which a token is fetched anew."""
_LIFE = 300.0
"""Seconds for which a token is used that does not say how long it lives."""
_TOKEN_BYTES = 1 << 20


class Applied(msgspec.Struct):
    """What credentials add to a request."""

    headers: dict[str, str] = {}
    query: list[tuple[str, str]] = []
    """Names and values, encoded."""
    cookies: list[str] = []
    names: list[str] = []
    """Credentials that were used."""
    renewable: bool = False
    """Whether a token was used that may be fetched anew."""


class Credential(Protocol):
    """Something that proves who calls."""

    @property
    def kind(self) -> str:
        """What it is called in errors."""
        ...

    def fits(self, scheme: Mapping[str, Any]) -> bool:
        """Tell whether it is what a security scheme wants."""
        ...


@dataclass(frozen=True)
class _ApiKey:
    value: Value
    kind: str = "API key"

    def fits(self, scheme: Mapping[str, Any]) -> bool:
        return scheme.get("type") == "apiKey"


@dataclass(frozen=True)
class _Basic:
    user: str
    password: Value
    kind: str = "user and password"

    def fits(self, scheme: Mapping[str, Any]) -> bool:
        return _is_header(scheme) or (
            scheme.get("type") == "http" and text(scheme.get("scheme")).lower() == "basic"
        )


@dataclass(frozen=True)
class _Bearer:
    token: Value
    kind: str = "bearer token"

    def fits(self, scheme: Mapping[str, Any]) -> bool:
        if scheme.get("type") == "http":
            return text(scheme.get("scheme")).lower() == "bearer"
        return scheme.get("type") in ("oauth2", "openIdConnect") or _is_header(scheme)


def _is_header(scheme: Mapping[str, Any]) -> bool:
    """Tell whether a key is the whole ``Authorization`` header."""
    return (
        scheme.get("type") == "apiKey"
        and scheme.get("in") == "header"
        and text(scheme.get("name")).lower() == "authorization"
    )


@dataclass(frozen=True)
class _ClientCredentials:
    client_id: str
    client_secret: Value
    token_url: str
    scopes: tuple[str, ...] | None
    audience: str
    in_body: bool
    kind: str = "OAuth2 client"

    def fits(self, scheme: Mapping[str, Any]) -> bool:
        if scheme.get("type") == "oauth2":
            return bool(self.token_url) or "clientCredentials" in objects(scheme.get("flows"))
        return bool(self.token_url) and scheme.get("type") in ("openIdConnect", "http")


@dataclass
class _Token:
    value: str
    until: float


@dataclass
class _Entry:
    credential: Any
    hosts: tuple[str, ...]
    tokens: dict[tuple[str, tuple[str, ...]], _Token] = field(default_factory=dict[Any, _Token])
    lock: asyncio.Lock | None = None
    loop: Any = None


class Credentials:
    """Credentials by name, provided to a registry: ``registry.provide(credentials)``.

    The tools of an API look for the name of a security scheme with the API's prefix in front (``github_token`` for the
    scheme ``token`` with ``tool_prefix="github_"``), or for what ``OpenAPIParser(credentials={"token": "name"})`` says.

    ``hosts`` are those that may see a credential beside the server that the specification names for its operations as a
    whole. A secret is a text, or a function that returns it when it is needed.

    >>> credentials = Credentials().bearer("github_token", lambda: keyring["github"])
    >>> credentials
    <credentials github_token>
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def api_key(self, name: str, value: Value, *, hosts: Sequence[str] = ()) -> Credentials:
        """Add a key; where it goes, the specification says."""
        return self._add(name, _ApiKey(value), hosts)

    def basic(self, name: str, user: str, password: Value, *, hosts: Sequence[str] = ()) -> Credentials:
        """Add a user and a password."""
        return self._add(name, _Basic(user, password), hosts)

    def bearer(self, name: str, token: Value, *, hosts: Sequence[str] = ()) -> Credentials:
        """Add a token, also one of OAuth2 or OpenID Connect that was got elsewhere."""
        return self._add(name, _Bearer(token), hosts)

    def client_credentials(
        self,
        name: str,
        client_id: str,
        client_secret: Value,
        *,
        token_url: str = "",
        scopes: Sequence[str] | None = None,
        audience: str = "",
        in_body: bool = False,
        hosts: Sequence[str] = (),
    ) -> Credentials:
        """Add a client of OAuth2, for which tokens are fetched and renewed.

        ``token_url`` is where, if not where the specification says, which is used only on the API's own host or on one of
        ``hosts``. ``scopes`` are asked for, None = those that the operation needs. ``in_body`` sends id and secret in the
        body instead of as basic authentication.
        """
        wanted = None if scopes is None else tuple(scopes)
        made = _ClientCredentials(client_id, client_secret, token_url, wanted, audience, in_body)
        return self._add(name, made, hosts)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __repr__(self) -> str:
        return f"<credentials {', '.join(sorted(self._entries)) or 'none'}>"

    def _add(self, name: str, credential: Credential, hosts: Sequence[str]) -> Credentials:
        if not name or isinstance(hosts, str):
            raise ConfigurationError("A credential needs a name, and hosts= is a list.")
        self._entries[name] = _Entry(credential, tuple(host.lower() for host in hosts))
        return self

    # ------------------------------------------------------------ for requests

    def fits(self, name: str, scheme: Mapping[str, Any]) -> bool:
        """Tell whether there is a credential of a name, and it is what a scheme wants."""
        return name in self._entries and self._entries[name].credential.fits(scheme)

    async def apply(
        self, name: str, scheme: Mapping[str, Any], scopes: tuple[str, ...], to: Target, applied: Applied
    ) -> None:
        """Add a credential to what a request is sent with. Raises ``ToolError``."""
        entry = self._entries[name]
        credential = entry.credential
        if not to.own and not _is_one_of(to.url, entry.hosts):
            raise ToolError(
                "permission_denied",
                f"The credential {name!r} is not for {split(to.url).hostname}.",
                hint=f"Allow it: hosts=[{split(to.url).hostname!r}].",
            )
        applied.names.append(name)
        if isinstance(credential, _ApiKey):
            _put_key(name, scheme, _secret(credential.value, name), applied)
            return
        if isinstance(credential, _Basic):
            both = f"{credential.user}:{_secret(credential.password, name)}".encode()
            value = f"Basic {base64.b64encode(both).decode()}"
        elif isinstance(credential, _Bearer):
            value = f"Bearer {_secret(credential.token, name)}"
        else:
            value = f"Bearer {await self._token(name, entry, scheme, scopes, to)}"
            applied.renewable = True
        applied.headers["Authorization"] = header(f"The credential {name}", value)

    def forget(self, names: Sequence[str]) -> None:
        """Forget the tokens that were fetched for credentials: one of them was refused."""
        for name in names:
            self._entries[name].tokens.clear()

    # ------------------------------------------------------------ tokens

    async def _token(
        self, name: str, entry: _Entry, scheme: Mapping[str, Any], scopes: tuple[str, ...], to: Target
    ) -> str:
        credential: _ClientCredentials = entry.credential
        flow = objects(objects(scheme.get("flows")).get("clientCredentials"))
        url = credential.token_url or _token_url(name, entry, text(flow.get("tokenUrl")), to)
        wanted = credential.scopes if credential.scopes is not None else scopes
        loop = asyncio.get_running_loop()
        if entry.lock is None or entry.loop is not loop:
            entry.lock, entry.loop = asyncio.Lock(), loop
        async with entry.lock:  # one fetches, the others take it
            token, now = entry.tokens.get((url, wanted)), to.context.clock.monotonic()
            if token is None or token.until <= now:
                token = entry.tokens[url, wanted] = await _fetch(name, credential, url, wanted, to, now)
            return token.value


@dataclass(frozen=True)
class Target:
    """Where a request goes that credentials are added to."""

    url: str
    own: bool
    """Whether this is the server that the specification names for its operations as a whole."""
    context: ToolContext


async def _fetch(
    name: str, credential: _ClientCredentials, url: str, scopes: tuple[str, ...], to: Target, now: float
) -> _Token:
    secret = _secret(credential.client_secret, name)
    form = {"grant_type": "client_credentials"}
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if scopes:
        form["scope"] = " ".join(scopes)
    if credential.audience:
        form["audience"] = credential.audience
    if credential.in_body:
        form |= {"client_id": credential.client_id, "client_secret": secret}
    else:
        both = f"{quote_plus(credential.client_id)}:{quote_plus(secret)}"
        headers["Authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
    content = "&".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in form.items()).encode()
    answer = await network(to.context).fetch(
        "POST",
        url,
        headers=headers,
        content=content,
        max_bytes=_TOKEN_BYTES,
        follow_redirects=False,
        field="",
    )
    return _read_token(name, answer, now)


def _read_token(name: str, answer: Fetched, now: float) -> _Token:
    try:
        given = objects(msgspec.json.decode(answer.body))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        given = Json()
    token, life = given.get("access_token"), given.get("expires_in")
    if answer.status != 200 or not isinstance(token, str) or not token:
        why = text(given.get("error_description")) or text(given.get("error")) or f"status {answer.status}"
        if answer.status in (400, 401, 403):
            raise ToolError("permission_denied", f"No token for the credential {name!r}: {why[:200]}.")
        raise ToolError("upstream", f"No token for the credential {name!r}: {why[:200]}.")
    try:
        length = float(life) if isinstance(life, int | float | str) else _LIFE
    except ValueError:
        length = _LIFE
    return _Token(token, now + max(length - min(_EARLY, length / 2), 0.0))


def _token_url(name: str, entry: _Entry, url: str, to: Target) -> str:
    """Return where the specification says tokens are fetched, if the secret may be shown there."""
    if not url:
        raise ToolError(
            "unavailable",
            f"The specification does not say where the credential {name!r} gets its tokens.",
            hint="Say it: client_credentials(…, token_url=…).",
        )
    parts, own = split(url), split(to.url)
    if parts.scheme not in (
        "https",
        own.scheme,
    ) or not (  # who speaks https with us is shown no secret by http
        parts.hostname == own.hostname or _is_one_of(url, entry.hosts)
    ):
        raise ToolError(
            "permission_denied",
            f"The specification wants the secret of {name!r} sent to {parts.hostname or url[:100]!r}.",
            hint=f"If that is right: client_credentials(…, token_url={url[:200]!r}).",
        )
    return url


def _put_key(name: str, scheme: Mapping[str, Any], value: str, applied: Applied) -> None:
    place = text(scheme.get("name"))
    match scheme.get("in"):
        case "query":
            applied.query.append((quote(place, safe=""), quote(value, safe="")))
        case "cookie":
            applied.cookies.append(f"{place}={quote(value, safe='')}")
        case _:
            applied.headers[place] = header(f"The credential {name}", value)


def _secret(value: Value, name: str) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, str):
        return value
    try:
        return value()
    except (KeyError, OSError, ValueError) as error:
        raise ToolError(
            "unavailable", f"The credential {name!r} could not be fetched: {type(error).__name__}."
        ) from error


def _is_one_of(url: str, hosts: tuple[str, ...]) -> bool:
    host = split(url).hostname or ""
    return any(host == each or (each.startswith("*.") and host.endswith(each[1:])) for each in hosts)
