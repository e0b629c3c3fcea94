"""A request, made of the arguments of a call: what is sent, and where to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import msgspec

from reprise.kernel.errors import ToolError
from reprise.tools.openapi import bodies
from reprise.tools.openapi.documents import Json
from reprise.tools.openapi.naming import BODY
from reprise.tools.openapi.operations import Operation, Parameter, is_json
from reprise.tools.openapi.styles import header, in_cookie, in_header, in_path, in_query, plain

_EXPRESSION = re.compile(r"\{([^{}]*)\}")
_PATH = "/:@!$&'()*+,;=-._~%"
"""What the specification may have written into a path as it is."""


class Prepared(NamedTuple):
    """A request as it is sent, but for credentials."""

    method: str
    url: str
    """Without its query."""
    query: list[tuple[str, str]]
    """Names and values, encoded."""
    headers: dict[str, str]
    cookies: list[str]
    content: bytes

    @property
    def whole_url(self) -> str:
        """The URL with its query."""
        return with_query(self.url, self.query)


def with_query(url: str, query: list[tuple[str, str]]) -> str:
    """Return a URL with names and values, which are encoded."""
    text = "&".join(f"{name}={value}" if name else value for name, value in query)
    return f"{url}?{text}" if text else url


class _Parts(NamedTuple):
    """Where parameters stand, while a request is made."""

    segments: dict[str, str]
    query: list[tuple[str, str]]
    headers: dict[str, str]
    cookies: list[str]
    owned: frozenset[str]
    """Names of the query that parameters have."""
    slashed: frozenset[str]


def prepare(
    operation: Operation,
    names: Mapping[tuple[str, str], str],
    arguments: Mapping[str, Any],
    *,
    server: str,
    accept: str,
    files: frozenset[str] = frozenset(),
    slashed: frozenset[str] = frozenset(),
    random: Callable[[int], bytes],
) -> Prepared:
    """Return the request of an operation; ``names`` are the arguments of its parameters.

    ``files`` are parts of a form that are files, ``slashed`` parameters of the path that may have slashes. Raises
    ``ToolError`` with code ``invalid_input`` for what would leave its place, or not be sent although it must be.
    """
    template, fixed = _split(operation.path)
    owned = {each.name for each in operation.parameters if each.where == "query"} | {
        name for name, _ in fixed
    }
    parts = _Parts({}, [], {"Accept": accept}, [], frozenset(owned), slashed)
    for parameter in operation.parameters:
        name = names.get((parameter.name, parameter.where))
        if name is not None and name in arguments:
            _place(parameter, arguments[name], parts, f"$.{name}")
    content = b""
    if operation.body is not None and BODY in arguments:
        media, content = bodies.write(operation.body, arguments[BODY], files, random)
        if not content and operation.body.required and bodies.kind_of(media) != "bytes":
            raise ToolError(
                "invalid_input", "The body is required, and this is an empty one.", field=f"$.{BODY}"
            )
        parts.headers["Content-Type"] = header("The media type", media)
    base, _, more = server.partition("?")
    filled = [
        (name, _EXPRESSION.sub(lambda found: parts.segments.get(found[1], ""), value))
        for name, value in fixed
    ]
    return Prepared(
        operation.method.upper(),
        base.rstrip("/") + _filled(template, parts.segments),
        [*_fixed(more), *filled, *parts.query],
        parts.headers,
        parts.cookies,
        content,
    )


def _place(parameter: Parameter, value: Any, parts: _Parts, field: str) -> None:
    """Put the value of a parameter where it belongs."""
    name, style, explode = parameter.name, parameter.style, parameter.explode
    if parameter.media and parameter.where != "querystring":
        # Of a wildcard a text is meant as it is, without quotes.
        as_json = is_json(parameter.media) and not (isinstance(value, str) and "*" in parameter.media)
        value = msgspec.json.encode(value).decode() if as_json else plain(value)
    if value in ([], {}) and parameter.required and parameter.where in ("query", "cookie", "header"):
        raise ToolError("invalid_input", f"{name} is empty, and could not be told from missing.", field=field)
    match parameter.where:
        case "path":
            parts.segments[name] = in_path(
                name, value, style, explode=explode, slashes=name in parts.slashed, field=field
            )
        case "query":
            parts.query.extend(_queried(parameter, value, parts.owned, field))
        case "querystring":
            parts.query.extend(_whole_query(parameter, value))
        case "header":
            parts.headers[name] = in_header(name, value, explode=explode, field=field)
        case _:
            parts.cookies.extend(in_cookie(name, value, style, explode=explode, field=field))


def _queried(parameter: Parameter, value: Any, owned: frozenset[str], field: str) -> list[tuple[str, str]]:
    spread = isinstance(value, dict) and parameter.explode and parameter.style == "form"
    if spread and (taken := sorted((owned - {parameter.name}) & set(cast("Json", value)))):
        raise ToolError(
            "invalid_input",
            f"{taken[0]} in {parameter.name} would stand in for another parameter.",
            field=field,
        )
    return in_query(
        parameter.name, value, parameter.style, explode=parameter.explode, reserved=parameter.reserved
    )


def _whole_query(parameter: Parameter, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict) and bodies.kind_of(parameter.media) == "form":
        return in_query("", cast("Json", value), "form", explode=True)
    return [("", quote(plain(value), safe=""))]


def _split(path: str) -> tuple[str, list[tuple[str, str]]]:
    """Return a path without what follows it, and the query that it has; a fragment is never sent."""
    plain_path, _, query = path.partition("#")[0].partition("?")
    return plain_path if plain_path.startswith("/") else f"/{plain_path}", _fixed(query)


def _fixed(query: str) -> list[tuple[str, str]]:
    pairs = (each.partition("=") for each in query.split("&") if each)
    return [(quote(name, safe="%[]$-._~"), quote(value, safe="%:,/-._~{}")) for name, _, value in pairs]


def _filled(template: str, values: Mapping[str, str]) -> str:
    segments: list[str] = []
    for segment in template.split("/"):
        parts = _EXPRESSION.split(segment)
        filled = "".join(
            quote(part, safe=_PATH) if at % 2 == 0 else values.get(part, "") for at, part in enumerate(parts)
        )
        if len(parts) > 1 and filled in ("", ".", ".."):
            raise ToolError(
                "invalid_input",
                f"{', '.join(parts[1::2])} is {'empty' if not filled else repr(filled)}, which would leave its place in the path.",
                field=f"$.{parts[1]}",
            )
        segments.append(filled)
    return "/".join(segments)
