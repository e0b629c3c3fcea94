"""Tags: what a run is found by. A tag is a name and a value: text, a number, or true or false.

Given when a run is started and changed while it runs; :mod:`reprise.kernel.query` asks for them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

from reprise.kernel.clock import from_datetime, to_datetime
from reprise.kernel.errors import ConfigurationError

Tag: TypeAlias = str | int | float | bool
"""Value of a tag."""

LONGEST_NAME = 100
LONGEST_TEXT = 1000
"""Bytes of UTF-8: a tag is an entry of an index, and databases bound those."""
INTEGERS = range(-(2**63), 2**63)
"""Whole numbers that every keeper holds exactly."""

_NAME = re.compile(r"[^\W\d][\w.\-]*")


def as_tags(values: Mapping[str, Any]) -> dict[str, Tag]:
    """Return values as tags; a moment becomes text that sorts by time, a date becomes its ISO form.

    >>> as_tags({"env": "prod", "amount": 12.5, "since": datetime(2026, 11, 1, tzinfo=UTC)})
    {'env': 'prod', 'amount': 12.5, 'since': '2026-11-01T00:00:00.000000Z'}

    Raises:
        ConfigurationError: a name or a value that a tag cannot have; it is named.
    """
    return {tag_name(name): _value(name, value) for name, value in values.items()}


def tag_name(name: str) -> str:
    """Return a name if a tag may have it.

    Raises:
        ConfigurationError: it may not.
    """
    if _NAME.fullmatch(name) is None or len(name.encode()) > LONGEST_NAME:
        raise ConfigurationError(
            f"A tag cannot be named {name[:LONGEST_NAME]!r}.",
            hint=f"Use a letter or _, then letters, digits and _ . - ; {LONGEST_NAME} bytes at most.",
        )
    return name


def comparable(value: Tag) -> str | int | float:
    """Return what a tag is compared by: true and false compare as the words for them.

    >>> comparable(True), comparable(7), comparable("x")
    ('true', 7, 'x')
    """
    return value if value is not True and value is not False else "true" if value else "false"


def same_tags(one: Mapping[str, Tag], other: Mapping[str, Tag]) -> bool:
    """Tell whether tags are the same, types included.

    >>> same_tags({"n": 1}, {"n": 1}), same_tags({"n": 1}, {"n": True})
    (True, False)
    """
    return one is other or (one == other and all(type(one[name]) is type(other[name]) for name in one))


def moment_text(at: int) -> str:
    """Return a moment (microseconds) as tags hold it: UTC, of one length, so that text order is time order.

    >>> moment_text(0)
    '1970-01-01T00:00:00.000000Z'
    """
    return to_datetime(at).astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _value(name: str, value: object) -> Tag:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in INTEGERS:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, datetime):
        return moment_text(from_datetime(value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return _text(name, str.__str__(value))  # of an enum's member its value, not its name
    raise ConfigurationError(
        f"The tag {name!r} cannot be {value!r:.200}.",
        hint="A tag is text, a number of at most 64 bits, true, false or a moment.",
    )


def _text(name: str, text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = LONGEST_TEXT + 1
    if size > LONGEST_TEXT or "\0" in text:
        raise ConfigurationError(
            f"The text of the tag {name!r} cannot be stored: {text[:40]!r} …",
            hint=f"Give at most {LONGEST_TEXT} bytes of UTF-8 without NUL.",
        )
    return text
