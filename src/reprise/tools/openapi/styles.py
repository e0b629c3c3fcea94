"""How parameters are written, by style and explode (RFC 6570, as OpenAPI uses it).

What is written is text with everything encoded that has a meaning where it stands: no value can end its segment, its
parameter, or its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import quote

import msgspec

from reprise.kernel.errors import ToolError
from reprise.tools.openapi.documents import Json

_RESERVED = ":/?@!$'()*,;[]="
"""What may stay as it is in a query where ``allowReserved`` is said; ``&``, ``#`` and ``+`` never do."""
_SEPARATORS = {"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C", "tabDelimited": "%09"}
_BAD = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SLASHES = re.compile(r"[/\\]")


def plain(value: Any) -> str:
    """Return a value as a text; what is no scalar as JSON.

    >>> plain(True), plain(1.5), plain("a b"), plain({"a": 1})
    ('true', '1.5', 'a b', '{"a":1}')
    """
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _encoded(value: Any, safe: str = "") -> str:
    return quote(plain(value), safe=safe, errors="strict")


def _pairs(value: Json) -> list[tuple[str, Any]]:
    return [(name, each) for name, each in value.items() if each is not None]


# ---------------------------------------------------------------- in the query


def in_query(
    name: str, value: Any, style: str, *, explode: bool, reserved: bool = False
) -> list[tuple[str, str]]:
    """Return names and values of a query, encoded.

    >>> in_query("id", [1, 2], "form", explode=True), in_query("id", [1, 2], "pipeDelimited", explode=False)
    ([('id', '1'), ('id', '2')], [('id', '1%7C2')])
    >>> in_query("f", {"a": 1, "b": {"c": "&"}}, "deepObject", explode=True)
    [('f%5Ba%5D', '1'), ('f%5Bb%5D%5Bc%5D', '%26')]
    """
    safe = _RESERVED if reserved else ""
    if value is None:
        return []
    if style == "deepObject" and isinstance(value, dict | list):
        return [
            (_encoded(key), _encoded(each, safe))
            for key, each in _deep(name, cast("Json | list[Any]", value))
        ]
    key = _encoded(name)
    if isinstance(value, list):
        several = cast("list[Any]", value)
        if explode:
            return [(key, _encoded(each, safe)) for each in several]
        return (
            [(key, _SEPARATORS.get(style, ",").join(_encoded(each, safe) for each in several))]
            if several
            else []
        )
    if isinstance(value, dict):
        pairs = _pairs(cast("Json", value))
        if explode:
            return [(_encoded(inner), _encoded(each, safe)) for inner, each in pairs]
        flat = [_encoded(part, safe) for pair in pairs for part in pair]
        return [(key, _SEPARATORS.get(style, ",").join(flat))] if flat else []
    return [(key, _encoded(value, safe))]


def _deep(name: str, value: Json | list[Any]) -> Iterable[tuple[str, Any]]:
    """Yield names and values; OpenAPI says nothing of lists and what is nested, which most servers read so."""
    for key, each in _pairs(value) if isinstance(value, dict) else enumerate(value):
        inner = f"{name}[{key}]"
        if isinstance(each, dict | list):
            yield from _deep(inner, cast("Json | list[Any]", each))
        else:
            yield inner, each


# ---------------------------------------------------------------- in the path


def in_path(
    name: str, value: Any, style: str, *, explode: bool, slashes: bool = False, field: str = ""
) -> str:
    """Return a text for a segment of a path, encoded.

    Raises ``ToolError`` for what would leave its segment: ``..``, and slashes, which many servers read as such although
    they are encoded, unless ``slashes`` says that this one does not.

    >>> in_path("id", [3, 4], "matrix", explode=True), in_path("id", {"a": 1}, "simple", explode=True)
    (';id=3;id=4', 'a=1')
    """
    for part in _leaves(value):
        _check_segment(name, part, slashes=slashes, field=field)
    key = _encoded(name)
    if isinstance(value, list):
        several = [_encoded(each) for each in cast("list[Any]", value)]
        match style:
            case "label":
                return "." + ("." if explode else ",").join(several)
            case "matrix" if explode:
                return "".join(f";{key}={each}" for each in several)
            case "matrix":
                return f";{key}={','.join(several)}"
            case _:
                return ",".join(several)
    if isinstance(value, dict):
        pairs = [(_encoded(inner), _encoded(each)) for inner, each in _pairs(cast("Json", value))]
        flat = ",".join(part for pair in pairs for part in pair)
        match style:
            case "label":
                return "." + (".".join(f"{a}={b}" for a, b in pairs) if explode else flat)
            case "matrix":
                return "".join(f";{a}={b}" for a, b in pairs) if explode else f";{key}={flat}"
            case _:
                return ",".join(f"{a}={b}" for a, b in pairs) if explode else flat
    one = _encoded(value)
    match style:
        case "label":
            return f".{one}"
        case "matrix":
            return f";{key}={one}" if one else f";{key}"
        case _:
            return one


def _leaves(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, each in cast("Json", value).items():
            yield key
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from _leaves(each)
    else:
        yield plain(value)


def _check_segment(name: str, text: str, *, slashes: bool, field: str) -> None:
    if _CONTROL.search(text):
        raise ToolError("invalid_input", f"{name} has control characters, in a path.", field=field)
    parts = _SLASHES.split(text)
    if "." in parts or ".." in parts:
        raise ToolError(
            "invalid_input", f"{name} is {text!r}, which would leave its place in the path.", field=field
        )
    if len(parts) > 1 and not slashes:
        raise ToolError(
            "invalid_input",
            f"{name} has a slash, which would leave its place in the path at many servers.",
            hint="Where the server is known to keep %2F in its segment: OpenAPIParser(slashes=True).",
            field=field,
        )


# ---------------------------------------------------------------- in headers and cookies


def in_header(name: str, value: Any, *, explode: bool, field: str = "") -> str:
    """Return the value of a header. Raises ``ToolError`` for one that would end its line, or cannot be written.

    >>> in_header("X-Ids", [1, 2], explode=False), in_header("X-Of", {"a": 1}, explode=True)
    ('1,2', 'a=1')
    """
    if isinstance(value, list):
        text = ",".join(plain(each) for each in cast("list[Any]", value))
    elif isinstance(value, dict):
        sign = "=" if explode else ","
        text = ",".join(f"{key}{sign}{plain(each)}" for key, each in _pairs(cast("Json", value)))
    else:
        text = plain(value)
    return header(name, text, field=field)


def header(name: str, text: str, *, field: str = "") -> str:
    """Return a text that may stand in a header. Raises ``ToolError``."""
    if _BAD.search(text):
        raise ToolError(
            "invalid_input", f"{name} has characters that no header may have, such as line ends.", field=field
        )
    return text.strip(" \t")


def in_cookie(name: str, value: Any, style: str, *, explode: bool, field: str = "") -> list[str]:
    """Return pairs of a ``Cookie`` header; of style ``cookie`` (3.2) they are not encoded."""
    if style != "cookie":
        return [f"{key}={each}" for key, each in in_query(name, value, "form", explode=explode)]
    pairs = (
        _pairs(cast("Json", value))
        if isinstance(value, dict) and explode
        else [(name, each) for each in cast("list[Any]", value)]
        if isinstance(value, list) and explode
        else [(name, in_header(name, value, explode=False, field=field))]
    )
    written = [f"{key}={header(name, plain(each), field=field)}" for key, each in pairs]
    if any(set(each) & set(';,"\\') or " " in each for each in written):
        raise ToolError("invalid_input", f"{name} has characters that no cookie may have.", field=field)
    return written
