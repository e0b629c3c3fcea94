"""Formats of texts that JSON Schema names, as far as they can be told without a library or the network."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, time
from types import MappingProxyType
from typing import Any

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"(\d\d:\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII)
_EMAIL = re.compile(r"[^@\s]+@[^@\s.][^@\s]*")
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[!#$&-;=?-Z_a-z~\[\]]|%[0-9A-Fa-f]{2})*")
_REFERENCE = re.compile(r"(?:[!#$&-;=?-Z_a-z~\[\]]|%[0-9A-Fa-f]{2})*")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")


def _is(read: Callable[[str], Any], pattern: re.Pattern[str] | None = None) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        if pattern is not None and not pattern.fullmatch(text):
            return False
        with suppress(ValueError):
            read(text)
            return True
        return False

    return fits


def _fits(pattern: re.Pattern[str], longest: int = 1 << 20) -> Callable[[str], bool]:
    return lambda text: len(text) <= longest and pattern.fullmatch(text) is not None


def _time(text: str) -> None:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(text)
    # A minute may have a 61st second, which Python has not.
    time.fromisoformat(f"{found[1]}:{'59' if found[2] == '60' else found[2]}")


def _moment(text: str) -> None:
    day, _, rest = text[:10], text[10:11], text[11:]
    if text[10:11] not in ("T", "t") or not _DATE.fullmatch(day):
        raise ValueError(text)
    date.fromisoformat(day)
    _time(rest)


def _address(version: int) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        # A thousandth of a second, which only who has addresses pays.
        from ipaddress import ip_address  # noqa: PLC0415

        with suppress(ValueError):
            return "%" not in text and ip_address(text).version == version
        return False

    return fits


FORMATS: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "date": _is(date.fromisoformat, _DATE),
        "time": _is(_time),
        "date-time": _is(_moment),
        "email": _fits(_EMAIL, 320),
        "hostname": _fits(_HOST, 253),
        "ipv4": _address(4),
        "ipv6": _address(6),
        "uri": _fits(_URI),
        "uri-reference": _fits(_REFERENCE),
        "uuid": _fits(_UUID, 36),
        "json-pointer": _fits(_POINTER),
    }
)
"""Name of a format -> whether a text is of it. What is not here is not checked, and that is said."""
