"""The sequential model of cells: values with versions that change together, and may end by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from reprise.testing.linearizable import Operation
from reprise.testing.sequential import stranger, survivors

UNSEEN = -1
"""A version that nobody knows: no answer came when it was given."""

Wish = tuple[str, int | None, Any, float]
"""One change: the name, the version expected, the value, the seconds to live."""
Seen = tuple[str, int, Any]
"""One cell in an answer: the name, its version, its value."""


class Valued(NamedTuple):
    """A cell; it ends by itself at some moment from ``earliest`` to ``latest``."""

    name: str
    version: int
    value: Any
    above: int
    """Where the version is not known: it is higher than this."""
    earliest: float = float("inf")
    latest: float = float("inf")


class Space(NamedTuple):
    """What a space knows."""

    highest: int
    """Version that was given last, as far as it is known."""
    cells: frozenset[Valued]


class Cells:
    """Cells of one space.

    ``get(name, …) -> ((name, version, value), …)`` and ``scan() -> the same of all``: as they were at one moment; what is
    missing does not exist. ``apply((name, expected, value, ttl), …) -> (version, …)``: all versions fit and all is changed, and
    each cell has its new version, 0 = it is gone; or ``-> (name, found)``: this one has the version ``found``, and nothing was changed.
    Expected 0 = there must be none, None = whatever is there; value None = remove it.

    Versions only grow, those of all cells together, also over removal. Times as in ``FencedLock``: a ``ttl`` of 0 never ends.
    """

    def __init__(self, *, slack: float = 0.0) -> None:
        self._slack = slack

    def first(self, key: str) -> Space:
        """Return no cells."""
        return Space(0, frozenset())

    def after(self, state: Space, operation: Operation) -> Iterator[Space]:
        """Apply one operation, in every state that time may have made of this one."""
        for left in survivors(state.cells, operation):
            yield from self._apply(Space(state.highest, left), operation)

    def _apply(self, now: Space, operation: Operation) -> Iterable[Space]:
        match operation.name, operation.args:
            case "get", names:
                return _looked(now, operation, [each for each in now.cells if each.name in names])
            case "scan", ():
                return _looked(now, operation, list(now.cells))
            case "apply", changes:
                if operation.known and operation.result and isinstance(operation.result[0], str):
                    return _refused(now, changes, *operation.result)
                return self._changed(now, operation, changes)
            case _:
                raise stranger(self, operation)

    def _changed(self, now: Space, operation: Operation, changes: Sequence[Wish]) -> Iterable[Space]:
        """Make all changes, if all fit, and if the versions that they were given can be."""
        versions = operation.result if operation.known else [_unseen(value) for _, _, value, _ in changes]
        cells = {each.name: each for each in now.cells}
        highest = now.highest
        for (name, expected, value, ttl), version in zip(changes, versions, strict=True):
            fits = expected is None or _may_have(cells.get(name), expected)
            if not fits or (version == 0) != (value is None) or 0 < version <= highest:
                return ()
            if value is None:
                cells.pop(name, None)
            else:
                cells[name] = Valued(name, version, value, highest, *self._ends(operation, ttl))
            highest = max(highest, version)
        return (Space(highest, frozenset(cells.values())),)

    def _ends(self, operation: Operation, ttl: float) -> tuple[float, float]:
        if not ttl:
            return float("inf"), float("inf")
        return operation.began + ttl - self._slack, operation.ended + ttl + self._slack


def _unseen(value: Any) -> int:
    return 0 if value is None else UNSEEN


def _may_have(cell: Valued | None, version: int) -> bool:
    """Tell whether a cell may have a version, 0 = whether there may be none."""
    if cell is None or cell.version != UNSEEN:
        return version == (cell.version if cell else 0)
    return version > cell.above


def _looked(now: Space, operation: Operation, cells: Sequence[Valued]) -> Iterable[Space]:
    if not operation.known:
        return (now,)
    seen: dict[str, tuple[int, Any]] = {name: (version, value) for name, version, value in operation.result}
    if seen.keys() != {each.name for each in cells}:
        return ()
    if not all(seen[each.name][1] == each.value and _may_have(each, seen[each.name][0]) for each in cells):
        return ()
    return (_learned(now, {name: version for name, (version, _) in seen.items()}),)


def _refused(now: Space, changes: Sequence[Wish], name: str, found: int) -> Iterable[Space]:
    """Leave all as it was, if the cell that is named has the version found, and another one was expected."""
    wished = [expected for other, expected, _, _ in changes if other == name]
    cell = next((each for each in now.cells if each.name == name), None)
    if wished in ([], [None], [found]) or not _may_have(cell, found):
        return ()
    return (_learned(now, {name: found}),)


def _learned(now: Space, versions: dict[str, int]) -> Space:
    """Return a space in which nobody can have other versions any more."""
    cells = (each._replace(version=versions.get(each.name, each.version)) for each in now.cells)
    return Space(max([now.highest, *versions.values()]), frozenset(cells))
