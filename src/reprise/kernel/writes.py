"""Rules for writes that compete: what is kept in a place when somebody writes who did not know what is there.

A write *conflicts* when the place holds something and the write does not name the version that it holds: it names
another one, or none at all. The last of several writers is expected not to know, so for :func:`last_write` only another
version is a conflict. A write without conflict is applied, whatever the rule.

>>> held = Held({"a": 1}, version=3)
>>> merge(held, Write({"b": 2})).value
{'a': 1, 'b': 2}
>>> reject(held, Write(7, expected=2)).refused, reject(held, Write(7, expected=3)).value
(True, 7)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from reprise.kernel.errors import unknown_option


class Held(msgspec.Struct, frozen=True):
    """What a place holds."""

    value: Any
    version: int


class Write(msgspec.Struct, frozen=True):
    """What somebody wants a place to hold."""

    value: Any
    expected: int | None = None
    """Version that the writer has seen, None = he has not looked."""


class Resolution(msgspec.Struct, frozen=True):
    """What became of a write."""

    value: Any
    """What the place holds from now on."""
    applied: bool
    """Whether that is news: the place gets a new version."""
    conflict: bool = False
    refused: bool = False
    """The writer is to be told that it failed; with ``applied`` False alone it is only told so."""


WriteRule = Callable[[Held | None, Write], Resolution]
"""Called with what the place holds, None = nothing, and the write."""


def last_write(held: Held | None, write: Write) -> Resolution:
    """Let whoever writes last win.

    >>> last_write(Held("old", 3), Write("new", expected=2))
    Resolution(value='new', applied=True, conflict=True, refused=False)
    """
    conflict = held is not None and write.expected not in (None, held.version)
    return Resolution(write.value, True, conflict)


def first_write(held: Held | None, write: Write) -> Resolution:
    """Let whoever wrote first win: a write that conflicts changes nothing, which is no error.

    >>> first_write(Held("old", 3), Write("new"))
    Resolution(value='old', applied=False, conflict=True, refused=False)
    """
    if held is None or held.version == write.expected:
        return Resolution(write.value, True)
    return Resolution(held.value, False, conflict=True)


def merge(held: Held | None, write: Write) -> Resolution:
    """Put what conflicts together: objects key by key, at every depth; of anything else the new value stands.

    >>> merge(Held({"a": {"x": 1}, "n": [1]}, 3), Write({"a": {"y": 2}, "n": [2]})).value
    {'a': {'x': 1, 'y': 2}, 'n': [2]}
    """
    if held is None or held.version == write.expected:
        return Resolution(write.value, True)
    merged = merged_values(held.value, write.value)
    return Resolution(merged, merged != held.value, conflict=True)


def reject(held: Held | None, write: Write) -> Resolution:
    """Refuse what conflicts, so that the writer looks and tries again.

    >>> reject(Held("old", 3), Write("new"))
    Resolution(value='old', applied=False, conflict=True, refused=True)
    """
    if held is None or held.version == write.expected:
        return Resolution(write.value, True)
    return Resolution(held.value, False, conflict=True, refused=True)


WRITE_RULES: Mapping[str, WriteRule] = {
    "last_write_wins": last_write,
    "first_write_wins": first_write,
    "merge": merge,
    "reject": reject,
}
"""The rules by the names that requests have for them."""


def write_rule(name: str) -> WriteRule:
    """Return the rule of a name. Raises ``UnknownOption`` naming the nearest one.

    >>> write_rule("merg")
    Traceback (most recent call last):
    reprise.kernel.errors.UnknownOption: conflict_resolution has no 'merg'. Did you mean 'merge'?
    """
    rule = WRITE_RULES.get(name)
    if rule is None:
        raise unknown_option(name, WRITE_RULES, "conflict_resolution")
    return rule


def merged_values(old: Any, new: Any) -> Any:
    """Return two values put together; neither is changed."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    before, after = cast("Mapping[Any, Any]", old), cast("Mapping[Any, Any]", new)
    return {**before, **{k: merged_values(before[k], v) if k in before else v for k, v in after.items()}}
