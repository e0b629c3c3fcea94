"""What came back: the value of an answer, or the error that it means."""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from reprise.kernel.clock import MICROSECONDS, to_datetime
from reprise.kernel.errors import ToolError
from reprise.kernel.policy import wait_in
from reprise.tools.guards.network import Fetched
from reprise.tools.openapi.bodies import kind_of
from reprise.tools.openapi.documents import Json, items, objects, text
from reprise.tools.openapi.naming import BODY

_LONGEST = 300
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f]+")
_CODES = {
    400: "invalid_input",
    401: "permission_denied",
    402: "permission_denied",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    410: "not_found",
    412: "conflict",
    413: "too_large",
    422: "invalid_input",
    423: "conflict",
    428: "conflict",
    429: "rate_limited",
    503: "unavailable",
    504: "timeout",
}
_WORDS = (
    "detail",
    "message",
    "error_description",
    "description",
    "title",
    "msg",
    "error",
    "reason",
    "Message",
)
_PLACES = ("query", "path", "header", "cookie")


def value_of(answer: Fetched) -> Any:
    """Return what an answer holds: JSON as values, text as text, other bytes as a file in base64; None for nothing.

    Raises ``ToolError`` with code ``upstream`` for JSON that is none.
    """
    media = answer.headers.get("content-type", "")
    if not answer.body or answer.status in (204, 205, 304):
        return None
    kind = kind_of(media) if media else "json"
    if kind == "json":
        try:
            return msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if media:
                raise ToolError("upstream", f"It answered with what is no JSON: {error}.") from None
            kind = "text"
    if kind in ("text", "form"):
        return answer.body.decode(_charset(media), "replace")
    if kind == "multipart" or b"\x00" in answer.body[:1024] or not media.startswith("application/"):
        return {"content_type": media, "base64": base64.b64encode(answer.body).decode()}
    try:
        return answer.body.decode()
    except UnicodeDecodeError:
        return {"content_type": media, "base64": base64.b64encode(answer.body).decode()}


def _charset(media: str) -> str:
    found = re.search(r"charset=\"?([\w.-]+)", media, re.IGNORECASE)
    try:
        return "utf-8" if found is None else codecs.lookup(found[1]).name
    except LookupError:
        return "utf-8"


# ---------------------------------------------------------------- errors


def error_of(
    answer: Fetched, what: str, credentials: Iterable[str], names: Mapping[tuple[str, str], str], now: int
) -> ToolError:
    """Return the error that an answer means.

    ``credentials`` are those that were shown, ``names`` the arguments of parameters, ``now`` is in microseconds.
    """
    told = _told(answer)
    status, field, said = answer.status, *_said(told, names)
    code = _CODES.get(status, "upstream")
    wait = wait_of(answer, now)
    if status == 403 and answer.headers.get("x-ratelimit-remaining") == "0":
        code = "rate_limited"
    hint = ""
    if code == "permission_denied":
        shown = ", ".join(credentials)
        hint = (
            f"The credential that was shown: {shown}."
            if shown
            else "No credential was shown: registry.provide(Credentials()…)."
        )
    elif code == "rate_limited":
        hint = f"Try again in {wait:g} s." if wait is not None else "Try again later."
    return ToolError(
        code,
        f"{what} answered {status}{f': {said}' if said else ''}.".replace("..", "."),
        hint=hint,
        field=field if code == "invalid_input" else "",
        retry_after=wait if code in ("rate_limited", "unavailable") else None,
    )


def wait_of(answer: Fetched, now: int) -> float | None:
    """Return the seconds that a server wants one to wait, None when it does not say."""
    if "retry-after" in answer.headers or "retry-after-ms" in answer.headers:
        return wait_in(answer.headers, to_datetime(now))
    reset = answer.headers.get("x-ratelimit-reset", answer.headers.get("ratelimit-reset", "")).strip()
    if reset.isdecimal() and len(reset) < 12:
        at = float(reset)
        return max(0.0, at - now / MICROSECONDS) if at > 1e9 else at
    return None


def _told(answer: Fetched) -> Any:
    if kind_of(answer.headers.get("content-type", "")) != "json":
        return answer.body[: 4 * _LONGEST].decode("utf-8", "replace") if b"<" not in answer.body[:64] else ""
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _said(told: Any, names: Mapping[tuple[str, str], str]) -> tuple[str, str]:
    """Return the argument that a server means, and what it says of it."""
    if isinstance(told, str):
        return "", _shown(told)
    given = objects(told)
    for list_of in ("errors", "detail", "details", "invalid-params", "violations", "fields"):
        faults = given.get(list_of)
        if isinstance(faults, list) and (first := objects(next(iter(cast("list[Any]", faults)), None))):
            return _field(first, names), _shown(_word(first))
        if isinstance(faults, dict) and (named := next(iter(cast("Json", faults).items()), None)):
            why: Any = next(iter(items(named[1])), named[1])
            return _named(named[0], names), _shown(
                f"{named[0]}: {why if isinstance(why, str) else _word(objects(why))}"
            )
    inner = given.get("error")
    if isinstance(inner, dict):
        return _said(cast("Json", inner), names)
    return _field(given, names), _shown(_word(given))


def _field(fault: Mapping[str, Any], names: Mapping[tuple[str, str], str]) -> str:
    pointer = fault.get("pointer") or objects(fault.get("source")).get("pointer")
    if isinstance(pointer, str):
        parts = [each for each in pointer.lstrip("#").split("/") if each]
        return "".join(["$." + BODY, *(f"[{each}]" if each.isdecimal() else f".{each}" for each in parts)])
    location = [each for each in items(fault.get("loc")) if isinstance(each, str | int)]
    if location:
        place, rest = str(location[0]), location[1:]
        if place in _PLACES and rest:
            return f"$.{names.get((str(rest[0]), place), rest[0])}"
        rest = rest if place == BODY else location
        return "".join(
            ["$." + BODY, *(f"[{each}]" if isinstance(each, int) else f".{each}" for each in rest)]
        )
    parameter = objects(fault.get("source")).get("parameter") or next(
        (fault[key] for key in ("field", "param", "parameter", "name", "property", "path") if key in fault),
        None,
    )
    return _named(parameter, names) if isinstance(parameter, str) and len(parameter) <= _LONGEST else ""


def _named(name: str, names: Mapping[tuple[str, str], str]) -> str:
    """Return the place of an argument that a server calls by its own name."""
    own = next((argument for (given, _), argument in names.items() if given == name), "")
    return f"$.{own}" if own else f"$.{BODY}.{name}"


def _word(fault: Mapping[str, Any]) -> str:
    return next((fault[key] for key in _WORDS if isinstance(fault.get(key), str) and fault[key]), "")


def _shown(said: str) -> str:
    plain = _INVISIBLE.sub(" ", text(said)).strip()
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"
