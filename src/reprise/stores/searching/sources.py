"""Sources of candidates: the indexes that have all runs that can meet a condition, and few others.

A source is walked by one or more members, each a fragment of the keeper's SQL that gives (created_at, run).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reprise.kernel.query import TAG, AllOf, AnyOf, Compare, Is, Not, Query, Says, Starts

LAST = "\U0010ffff" * 4
"""No text that anybody uses comes behind this."""


class Member(NamedTuple):
    """One walk of an index."""

    fragment: str
    values: Mapping[str, Any]
    column: str = ""
    bounds: tuple[Compare, ...] = ()
    """Comparisons with the value of a tag, all of numbers or all of texts."""


class Source(NamedTuple):
    """Where candidates come from."""

    members: tuple[Member, ...]
    covers: frozenset[int] = frozenset()
    """Places of the conditions that hold for all that it gives."""
    ordered: bool = False
    """Whether each member can be walked in the order of age."""
    disjoint: bool = True
    """Whether no run comes from two members."""

    @property
    def is_vast(self) -> bool:
        """Whether to count what it gives costs as much as all runs."""
        return self.members[0].fragment == "from_roots"

    @property
    def has_time(self) -> bool:
        """Whether its index says at little cost when its first run was started."""
        return self.ordered or all(member.fragment.startswith("from_tag") for member in self.members)


EVERY_RUN = Source((Member("from_every", {}),), ordered=True)


def conjuncts(query: Query) -> tuple[Query, ...]:
    """Return the queries that must all hold."""
    return query.parts if isinstance(query, AllOf) else (query,)


def sources(parts: Sequence[Query]) -> Iterator[Source]:
    """Yield the sources of the runs that meet all conditions; each alone has all of them."""
    ranges: defaultdict[tuple[str, bool], dict[int, Compare]] = defaultdict(dict)
    for at, part in enumerate(parts):
        if isinstance(part, Compare):
            if part.field.startswith(TAG):
                ranges[part.field, isinstance(part.value, str)][at] = part
        elif (source := _of_any(part.parts) if isinstance(part, AnyOf) else _of(part)) is not None:
            yield source._replace(covers=frozenset({at}))
    for (field, is_text), compared in ranges.items():
        fragment = "from_tag_texts" if is_text else "from_tag_numbers"
        member = Member(fragment, {"name": _tag(field)}, bounds=tuple(compared.values()))
        yield Source((member,), frozenset(compared))


def _of_any(parts: Sequence[Query]) -> Source | None:
    """Return the union of the parts' sources, None when one has none."""
    found = [source for part in parts if (source := _of(part)) is not None]
    if len(found) < len(parts) or not found:
        return None
    choices = {(part.field, part.value) for part in parts if isinstance(part, Is)}
    return Source(
        tuple(member for source in found for member in source.members),
        ordered=all(source.ordered for source in found),
        disjoint=len(choices) == len(parts) and len({field for field, _ in choices}) == 1,
    )


def _of(part: Query) -> Source | None:
    match part:
        case Is("id", str(value)):
            return _one("from_id", value=value, ordered=True)
        case Starts("id", prefix):
            return _one("from_range", "id", low=prefix, high=beyond(prefix))
        case Is("parent", None):
            return _one("from_roots", ordered=True)
        case Is("status" | "workflow" | "parent" | "owner" as field, str(value)):
            return _one("from_column", field, value=value, ordered=True)
        case Starts("workflow" | "parent" | "owner" as field, prefix):
            return _one("from_range", field, low=prefix, high=beyond(prefix))
        case Not(Is("parent" | "owner" as field, None)):
            return _one("from_range", field, low="", high=LAST)
        case Not(Is("status" | "workflow" as field, str(value))):
            sides = (Member(side, {"value": value}, field) for side in ("from_below", "from_above"))
            return Source(tuple(sides))
        case Says(found, prefix):
            return _one("from_words", words=found, prefix=prefix)
        case _:
            return _of_tag(part)


def _of_tag(part: Query) -> Source | None:
    match part:
        case Is(field, str() | int() | float() as value) if field.startswith(TAG):
            kind = "text" if isinstance(value, str) else "number"
            return _one(f"from_tag_{kind}", name=_tag(field), value=value, ordered=True)
        case Starts(field, prefix) if field.startswith(TAG):
            return _one("from_tag_range", name=_tag(field), low=prefix, high=beyond(prefix))
        case Not(Is(field, None)) if field.startswith(TAG):
            return _one("from_tag_any", name=_tag(field))
        case _:
            return None


def _one(fragment: str, column: str = "", *, ordered: bool = False, **values: Any) -> Source:
    return Source((Member(fragment, values, column),), ordered=ordered)


def _tag(field: str) -> str:
    return field.removeprefix(TAG)


def beyond(prefix: str) -> str:
    """Return the first text, by code points, behind all that start with ``prefix``.

    >>> beyond("ab"), beyond("a" + chr(0x10FFFF))
    ('ac', 'b')
    """
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return prefix + LAST
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)
