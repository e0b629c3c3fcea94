"""How a value and a change of it become one: the JSON merge patch (RFC 7396), and changes of counters and sets.

>>> merge_patch({"a": 1, "b": {"c": 2, "d": 3}}, {"a": None, "b": {"c": 9}})
{'b': {'c': 9, 'd': 3}}
>>> merge_patch({"visits": 4, "tags": ["new"]}, {"visits": Increment(2), "tags": AddToSet("hot", "new")})
{'visits': 6, 'tags': ['new', 'hot']}
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, cast

from reprise.kernel.errors import StateTypeError


class Operation(ABC):
    """A change that says what is to be done, not what is to be there: so of two at once none is lost."""

    @abstractmethod
    def applied_to(self, value: Any) -> Any:
        """Return what becomes of a value, None = there is none; raises ``StateTypeError``."""


class Increment(Operation):
    """Add to a number, which begins at 0; stands for a value, or in a value that is merged.

    >>> Increment(2).applied_to(None), Increment(-0.5).applied_to(1)
    (2, 0.5)
    """

    def __init__(self, by: float = 1) -> None:
        if not _is_number(by):
            raise StateTypeError(f"{by!r} cannot be added to a number.", hint="Give an int or a float.")
        self.by = by

    def applied_to(self, value: Any) -> Any:
        """Return the sum; raises ``StateTypeError`` when there is something else than a number."""
        if value is not None and not _is_number(value):
            raise StateTypeError(
                f"{_shown(value)} is no number.", hint="Set it to one first, or use another key."
            )
        return (value or 0) + self.by


class AddToSet(Operation):
    """Add members to a set: a list in which each stands once, in the order in which they came.

    >>> AddToSet("a", "b").applied_to(["b"])
    ['b', 'a']
    """

    def __init__(self, *members: Any) -> None:
        self.members = members

    def applied_to(self, value: Any) -> Any:
        """Return the list with the members; raises ``StateTypeError`` when there is something else than a list."""
        present = _list_of(value)
        return _once([*present, *self.members])


class RemoveFromSet(Operation):
    """Remove members from a set; those that are not in it are no error.

    >>> RemoveFromSet("a").applied_to(["b", "a"])
    ['b']
    """

    def __init__(self, *members: Any) -> None:
        self.members = members

    def applied_to(self, value: Any) -> Any:
        """Return the list without the members; raises ``StateTypeError`` when there is something else than a list."""
        return [member for member in _list_of(value) if member not in self.members]


def merge_patch(target: Any, patch: Any) -> Any:
    """Return ``target`` as ``patch`` changes it; neither is touched.

    By RFC 7396 an object is merged member by member, ``None`` removes a member, and everything else replaces what was
    there. Beyond that, an :class:`Increment`, :class:`AddToSet` or :class:`RemoveFromSet` in the place of a value
    changes what is there.
    """
    if isinstance(patch, Operation):
        return patch.applied_to(target)
    if not isinstance(patch, dict):
        return patch
    merged: dict[str, Any] = dict(cast("dict[str, Any]", target)) if isinstance(target, dict) else {}
    for name, value in cast("dict[str, Any]", patch).items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list_of(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise StateTypeError(
            f"{_shown(value)} is no set.", hint="A set is kept as a list: set it to one first."
        )
    return cast("list[Any]", value)


def _once(members: Iterable[Any]) -> list[Any]:
    """Return members without repetitions; what is unhashable is compared with all before it."""
    kept: list[Any] = []
    for member in members:
        if member not in kept:
            kept.append(member)
    return kept


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
