"""What a query says about runs, as a value: a tree of conditions. ``query_text`` reads one from text.

Every keeper answers a query in its own way (indexes, words, joins); :func:`matcher` says what the right answer is.

Fields are those of :data:`COLUMNS`, ``error`` for what a run failed by, and ``tag.<name>`` for a tag. A condition on a
value that a run does not have is false, so its negation is true.
"""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol, TypeAlias

import msgspec

from reprise.kernel.tags import Tag, comparable

COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "id": "id",
        "status": "status",
        "workflow": "workflow",
        "parent": "parent",
        "owner": "owner",
        "build": "build",
        "created": "created_at",
        "updated": "updated_at",
        "due": "due_at",
        "error": "error",
        "warning": "warning",
    }
)
"""Field of a query -> attribute of a run's row."""

TAG = "tag."
"""What the field of a tag begins with."""

LONGEST_WORD = 60
"""Characters of a word that count."""
MOST_WORDS = 250
"""Words of an error that are searched."""

Value: TypeAlias = str | int | float


class Is(msgspec.Struct, frozen=True):
    """The field has this value; None = it has none. Numbers equal numbers, text equals text."""

    field: str
    value: Value | None


class Starts(msgspec.Struct, frozen=True):
    """The field is text that starts so."""

    field: str
    prefix: str


class Compare(msgspec.Struct, frozen=True):
    """A moment (microseconds) or a tag stands on this side of a value of its kind. Text goes by code points."""

    field: str
    op: str
    """``<``, ``<=``, ``>`` or ``>=``."""
    value: Value


class Says(msgspec.Struct, frozen=True):
    """The error has these words, one after the other; with ``prefix`` the last one need only begin so."""

    words: tuple[str, ...]
    prefix: bool = False


class AllOf(msgspec.Struct, frozen=True):
    """All parts hold; without parts: always."""

    parts: tuple[Query, ...] = ()


class AnyOf(msgspec.Struct, frozen=True):
    """At least one part holds; without parts: never."""

    parts: tuple[Query, ...] = ()


class Not(msgspec.Struct, frozen=True):
    """The condition does not hold. Stands only before a single condition: see :func:`negated`."""

    part: Condition


Condition: TypeAlias = Is | Starts | Compare | Says
Query: TypeAlias = Condition | AllOf | AnyOf | Not

EVERY = AllOf()
"""The query that every run matches."""


def all_of(*parts: Query) -> Query:
    """Return the query that holds where all parts hold, as flat as can be.

    >>> all_of(Is("status", "failed"), EVERY)
    Is(field='status', value='failed')
    """
    flat: list[Query] = []
    for part in parts:
        flat += part.parts if isinstance(part, AllOf) else (part,)
    return flat[0] if len(flat) == 1 else AllOf(tuple(flat))


def any_of(*parts: Query) -> Query:
    """Return the query that holds where any part holds, as flat as can be."""
    flat: list[Query] = []
    for part in parts:
        flat += part.parts if isinstance(part, AnyOf) else (part,)
    return flat[0] if len(flat) == 1 else AnyOf(tuple(flat))


def negated(query: Query) -> Query:
    """Return the query that holds where the other does not; negations move down to the single conditions.

    >>> negated(all_of(Is("status", "failed"), Not(Is("owner", None))))
    AnyOf(parts=(Not(part=Is(field='status', value='failed')), Is(field='owner', value=None)))
    """
    if isinstance(query, Not):
        return query.part
    if isinstance(query, AllOf):
        return any_of(*map(negated, query.parts))
    if isinstance(query, AnyOf):
        return all_of(*map(negated, query.parts))
    return Not(query)


def fields(query: Query) -> set[str]:
    """Return the fields that a query asks of.

    >>> sorted(fields(all_of(Is("tag.env", "prod"), Not(Says(("full",))))))
    ['error', 'tag.env']
    """
    match query:
        case AllOf(parts) | AnyOf(parts):
            return {field for part in parts for field in fields(part)}
        case Not(part):
            return fields(part)
        case Says():
            return {"error"}
        case _:
            return {query.field}


# ---------------------------------------------------------------- words

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Return the words of a text as errors are searched: letters and digits, whatever their case and form.

    >>> words("KeyError: 'user_ID' at 10.0.0.7")
    ['keyerror', 'user', 'id', 'at', '10', '0', '0', '7']
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return [word[:LONGEST_WORD] for word in _WORD.findall(folded)[:MOST_WORDS]]


def says(found: list[str], wanted: tuple[str, ...], *, prefix: bool) -> bool:
    """Tell whether words stand one after the other among others.

    >>> says(["connection", "was", "reset"], ("was", "res"), prefix=True)
    True
    """
    *first, last = wanted
    for at in range(len(found) - len(first)):
        end = found[at + len(first)]
        if found[at : at + len(first)] == first and (end.startswith(last) if prefix else end == last):
            return True
    return False


# ---------------------------------------------------------------- what a query means


class Row(Protocol):
    """A run, as far as queries know it; times in microseconds."""

    @property
    def id(self) -> str:
        """Id."""
        ...

    @property
    def workflow(self) -> str:
        """Name of the workflow."""
        ...

    @property
    def status(self) -> str:
        """State."""
        ...

    @property
    def created_at(self) -> int:
        """When it was started."""
        ...

    @property
    def updated_at(self) -> int:
        """When its row last changed."""
        ...

    @property
    def parent(self) -> str | None:
        """Id of the run that started it."""
        ...

    @property
    def owner(self) -> str | None:
        """Worker that holds it."""
        ...

    @property
    def due_at(self) -> int | None:
        """When somebody should look at it."""
        ...

    @property
    def build(self) -> str:
        """Code version."""
        ...

    @property
    def tags(self) -> Mapping[str, Tag]:
        """Its tags."""
        ...

    @property
    def error(self) -> str:
        """Short text of why it failed."""
        ...

    @property
    def warning(self) -> str:
        """What somebody should know of it."""
        ...


Match: TypeAlias = Callable[[Row], bool]

_OPERATORS: Mapping[str, Callable[[Value, Value], bool]] = MappingProxyType(
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
)


def matcher(query: Query) -> Match:
    """Return the function that tells whether a run matches."""
    match query:
        case AllOf(parts):
            every = [matcher(part) for part in parts]
            return lambda row: all(matches(row) for matches in every)
        case AnyOf(parts):
            some = [matcher(part) for part in parts]
            return lambda row: any(matches(row) for matches in some)
        case Not(part):
            holds = matcher(part)
            return lambda row: not holds(row)
        case Says(wanted, prefix):
            return lambda row: says(words(row.error), wanted, prefix=prefix)
        case _:
            return _on_value(query)


def _on_value(condition: Is | Starts | Compare) -> Match:
    read = reader(condition.field)
    match condition:
        case Is(_, value):
            return lambda row: read(row) == value
        case Starts(_, prefix):
            return lambda row: isinstance(found := read(row), str) and found.startswith(prefix)
        case Compare(_, op, value):
            holds, is_text = _OPERATORS[op], isinstance(value, str)

            def compare(row: Row) -> bool:
                found = read(row)
                return found is not None and isinstance(found, str) == is_text and holds(found, value)

            return compare


def reader(field: str) -> Callable[[Row], Value | None]:
    """Return the function that reads a field of a run, None where it has no value."""
    if not field.startswith(TAG):
        return operator.attrgetter(COLUMNS[field])
    name = field.removeprefix(TAG)

    def read_tag(row: Row) -> Value | None:
        value = row.tags.get(name)
        return None if value is None else comparable(value)

    return read_tag
