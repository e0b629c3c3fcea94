"""What installed packages offer: entry points, read once for each group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PREFIX = "reprise."
KINDS = ("tools", "agents", "connectors", "integrations")
"""The groups that there are, without the prefix."""


@cache
def entry_points_of(kind: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of the group ``reprise.<kind>``; nothing of them is loaded."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - a fifth of the time that it takes to start

    return tuple(entry_points(group=PREFIX + kind))


class Extensions(Mapping[str, Any]):
    """What installed packages offer of a kind, by name. Each is loaded when it is first asked for.

    >>> "no such thing" in Extensions("connectors")
    False
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            point = {each.name: each for each in entry_points_of(self._kind)}[name]
            self._loaded[name] = point.load()
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return any(each.name == name for each in entry_points_of(self._kind))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(each.name for each in entry_points_of(self._kind)))

    def __len__(self) -> int:
        return len({each.name for each in entry_points_of(self._kind)})
