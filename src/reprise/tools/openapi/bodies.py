"""Bodies of requests: JSON, forms, multipart with files, text and bytes."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import msgspec

from reprise.kernel.errors import ToolError
from reprise.tools.openapi.documents import Json, items, objects, text
from reprise.tools.openapi.naming import BODY
from reprise.tools.openapi.operations import Body, is_json
from reprise.tools.openapi.styles import in_query, plain

_MEDIA = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+( *; *[\w!#$&^.+-]+=([\w!#$&^.+-]+|\"[^\"\r\n\\]*\"))*")
_ESCAPED = {'"': "%22", "\r": "%0D", "\n": "%0A"}


class Written(NamedTuple):
    """A body as it is sent."""

    media: str
    content: bytes


class File(NamedTuple):
    """A file that an argument gives."""

    content: bytes
    name: str
    media: str


def kind_of(media: str) -> str:
    """Return how a media type is written: ``json``, ``form``, ``multipart``, ``text`` or ``bytes``.

    >>> kind_of("application/json"), kind_of("application/xml"), kind_of("image/png")
    ('json', 'text', 'bytes')
    """
    plain_media = media.partition(";")[0].strip().lower()
    if is_json(media):
        return "json"
    if plain_media == "application/x-www-form-urlencoded":
        return "form"
    if plain_media == "multipart/form-data":
        return "multipart"
    if plain_media.startswith("text/") or plain_media.endswith(
        ("/xml", "+xml", "/yaml", "+yaml", "/x-yaml", "/jsonl")
    ):
        return "text"
    if plain_media in ("application/x-ndjson", "application/javascript", "application/graphql"):
        return "text"
    return "bytes"


def write(body: Body, value: Any, files: frozenset[str], random: Callable[[int], bytes]) -> Written:
    """Return a body as it is sent. Raises ``ToolError`` for what cannot be written so."""
    match kind_of(body.media):
        case "json":
            media = "application/json" if "*" in body.media else body.media
            return Written(media, msgspec.json.encode(value))
        case "form":
            return Written(body.media, _form(value, body.encoding))
        case "multipart":
            return _multipart(value, body.encoding, files, random)
        case "text":
            return Written(body.media, plain(value).encode())
        case _:
            file = read_file(value, f"$.{BODY}")
            media = file.media if "*" in body.media else body.media
            return Written(media or "application/octet-stream", file.content)


def read_file(value: Any, field: str) -> File:
    """Return the file that an argument gives. Raises ``ToolError``."""
    given = objects(value)
    media = text(given.get("content_type"))
    if media and not _MEDIA.fullmatch(media):
        raise ToolError("invalid_input", f"{media!r:.100} is no media type.", field=f"{field}.content_type")
    name = text(given.get("filename"))
    if "base64" in given and "text" not in given:
        try:
            content = base64.b64decode(text(given["base64"]), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ToolError(
                "invalid_input", f"That is no base64: {error}.", field=f"{field}.base64"
            ) from None
    elif isinstance(given.get("text"), str) and "base64" not in given:
        content = given["text"].encode()
    else:
        raise ToolError(
            "invalid_input", "A file is given by its text or its base64, one of them.", field=field
        )
    return File(content, name, media or (mimetypes.guess_type(name)[0] or "" if name else ""))


# ---------------------------------------------------------------- forms


def _form(value: Any, encoding: Mapping[str, Any]) -> bytes:
    if not isinstance(value, dict):
        raise ToolError("invalid_input", "A form is an object.", field=f"$.{BODY}")
    pairs: list[tuple[str, str]] = []
    for name, each in cast("Json", value).items():
        how = objects(encoding.get(name))
        if isinstance(each, dict) and not (how.get("style") or how.get("explode") is not None):
            pairs += in_query(name, plain(cast("Any", each)), "form", explode=True)  # as JSON
            continue
        style = text(how.get("style")) or "form"
        explode = how.get("explode", style in ("form", "deepObject"))
        pairs += in_query(name, cast("Any", each), style, explode=bool(explode))
    return "&".join(f"{key}={each}" for key, each in pairs).encode()


def _multipart(
    value: Any, encoding: Mapping[str, Any], files: frozenset[str], random: Callable[[int], bytes]
) -> Written:
    if not isinstance(value, dict):
        raise ToolError("invalid_input", "A form is an object.", field=f"$.{BODY}")
    parts: list[tuple[str, str, bytes]] = []
    for name, each in cast("Json", value).items():
        media = text(objects(encoding.get(name)).get("contentType")).partition(",")[0].strip()
        several = items(each) if isinstance(each, list) else [each]
        for at, one in enumerate(several):
            field = f"$.{BODY}.{name}" + (f"[{at}]" if isinstance(each, list) else "")
            parts.append(_part(name, one, media, is_file=name in files, field=field))
    boundary = random(16).hex()
    while any(boundary.encode() in content for _, _, content in parts):
        boundary = random(16).hex()
    lines: list[bytes] = []
    for about, media, content in parts:
        kind = f"Content-Type: {media}\r\n" if media else ""
        lines.append(f"--{boundary}\r\nContent-Disposition: form-data; {about}\r\n{kind}\r\n".encode())
        lines += [content, b"\r\n"]
    lines.append(f"--{boundary}--\r\n".encode())
    return Written(f"multipart/form-data; boundary={boundary}", b"".join(lines))


def _part(name: str, value: Any, media: str, *, is_file: bool, field: str) -> tuple[str, str, bytes]:
    """Return what is said of a part, its media type and its content."""
    usable = media if _MEDIA.fullmatch(media) and "*" not in media else ""
    about = f'name="{_escaped(name)}"'
    if is_file:
        file = read_file(value, field)
        about = f'{about}; filename="{_escaped(file.name or "file")}"'
        return about, file.media or usable or "application/octet-stream", file.content
    if isinstance(value, dict | list) or (usable and is_json(usable)):
        return about, usable or "application/json", msgspec.json.encode(value)
    return about, usable, plain(value).encode()


def _escaped(name: str) -> str:
    return "".join(_ESCAPED.get(each, each) for each in name)
