"""The promise of the run index: find runs, and know which are due.

Rows are written only by appends (``Group.run``), in the same transaction as the events; this port reads them. The one
write it has is ``mark``, a hint without an event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from reprise.kernel.errors import ConfigurationError
from reprise.kernel.limit import Slot
from reprise.kernel.query import EVERY, TAG, Compare, Is, Query, Starts, all_of, any_of
from reprise.kernel.tags import Tag, comparable

ABREAST = 100
"""Runs of one line that are looked at together at most."""


class RunRow(msgspec.Struct, frozen=True, gc=False):
    """One run as the index knows it."""

    id: str
    workflow: str
    status: str
    created_at: int
    updated_at: int
    parent: str | None = None
    owner: str | None = None
    due_at: int | None = None
    build: str = ""
    tags: dict[str, Tag] = {}
    error: str = ""
    token: int = 0
    """Current token of ``run/<id>``."""
    since: int = 0
    """Version of ``run/<id>`` after which replay reads."""
    generation: int = 0
    """How often the run has gone on as a new one."""
    warning: str = ""
    slots: tuple[Slot, ...] = ()
    """Places that it needs to execute steps; empty = no limit."""
    in_line: bool = False
    """It waits for those places."""
    refused: tuple[str, ...] = ()
    """Builds whose code could not replay it."""
    pinned: str = ""
    """Build whose workers alone may take it, '' = those of any."""


class Line(msgspec.Struct, frozen=True):
    """Runs that wait for the same places."""

    slots: tuple[Slot, ...]
    taken: tuple[int, ...]
    """How many places of each lane others have, in the order of ``slots``."""
    free_in: tuple[int, ...]
    """Microseconds until the next place of each lane ends by itself; 0 where none does."""
    oldest: int = 0
    """When the first of them was created."""
    asked: int = ABREAST
    """How many of them an asker wants; see :meth:`Runs.due`."""


def turn(row: RunRow) -> tuple[int, str]:
    """Return by what the runs that a worker may act on are ordered: how long they wait; those of the dead come first."""
    since = row.created_at if row.in_line and row.due_at is None else row.due_at or 0
    return since, row.id


def line_of(slots: tuple[Slot, ...], oldest: int, fill: Callable[[str], tuple[int, int]]) -> Line:
    """Return the line for ``slots``; ``fill`` says of a lease how many hold it and when the first of them ends."""
    fills = [fill(slot.lease) for slot in slots]
    return Line(slots, tuple(taken for taken, _ in fills), tuple(free_in for _, free_in in fills), oldest)


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs, where code asks. Empty fields do not restrict; the others must all hold.

    What people ask is a :data:`~reprise.kernel.query.Query`; keepers see only that, see :func:`as_query`.
    """

    id: str = ""
    prefix: str = ""
    """Start of the id."""
    status: Sequence[str] = ()
    workflow: str = ""
    parent: str = ""
    owner: str = ""
    tags: dict[str, Tag] = {}
    created_after: int = 0
    created_before: int = 0
    query: Query = EVERY


def as_query(where: RunFilter | Query) -> Query:
    """Return the one query that a filter stands for.

    >>> as_query(RunFilter(status=["failed"], tags={"env": "prod"}))
    AllOf(parts=(Is(field='status', value='failed'), Is(field='tag.env', value='prod')))
    """
    if not isinstance(where, RunFilter):
        return where
    parts: list[Query] = []
    if where.prefix:
        parts.append(Starts("id", where.prefix))
    if where.status:
        parts.append(any_of(*(Is("status", status) for status in dict.fromkeys(where.status))))
    parts += [
        Is(field, value)
        for field in ("id", "workflow", "parent", "owner")
        if (value := getattr(where, field))
    ]
    parts += [Is(TAG + name, comparable(value)) for name, value in where.tags.items()]
    if where.created_after:
        parts.append(Compare("created", ">", where.created_after))
    if where.created_before:
        parts.append(Compare("created", "<", where.created_before))
    return all_of(*parts, where.query)


GROUPS = ("status", "workflow", "owner", "parent", "build")
"""Fields that runs are counted by, beside ``tag.<name>``."""


def check_group(by: str) -> str:
    """Return what runs are to be counted by.

    Raises:
        ConfigurationError: they cannot be counted by that.
    """
    if by not in GROUPS and not by.startswith(TAG):
        raise ConfigurationError(
            f"Runs cannot be counted by {by!r}.", hint=f"Use {', '.join(GROUPS)}, or {TAG}NAME for a tag."
        )
    return by


def group_name(value: Tag | None) -> str:
    """Return how a value is spelled where runs are counted by it; numbers that are equal are spelled alike.

    >>> [group_name(value) for value in (None, True, 3.0, 3, 0.5, "x")]
    ['', 'true', '3', '3', '0.5', 'x']
    """
    if value is None:
        return ""
    value = comparable(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class Runs(Protocol):
    """Index of runs."""

    async def find(
        self,
        where: RunFilter | Query = EVERY,
        *,
        limit: int = 50,
        before: str = "",
        newest_first: bool = True,
    ) -> list[RunRow]:
        """Return runs ordered by (created_at, id); ``before`` is the id after which the next page starts."""
        ...

    async def count(self, where: RunFilter | Query = EVERY, *, by: str = "status") -> dict[str, int]:
        """Count runs by one of ``GROUPS`` or by a tag (``tag.<name>``); '' for none.

        Raises ``ConfigurationError`` for what runs cannot be counted by.
        """
        ...

    async def tags(self) -> list[str]:
        """Return the names of all tags that runs have, in order."""
        ...

    async def owners(self) -> list[str]:
        """Return the workers that own runs, sorted; at a cost that follows from how many these are, not from the runs."""
        ...

    async def due(
        self,
        now: int,
        *,
        owner: str,
        dead: Sequence[str] = (),
        workflows: Sequence[str] | None = None,
        build: str | None = None,
        shunned: Sequence[str] = (),
        lines: Sequence[Line] = (),
        limit: int = 100,
    ) -> list[RunRow]:
        """Return runs that a worker may act on, oldest first.

        They have not ended, and are

        - due (``due_at`` <= now) and owned by nobody, or by ``owner`` itself (mail for a run it holds), or
        - owned by one of ``dead``, or
        - in one of ``lines``: of each the oldest, as many as are ``asked`` for, so that no line hides another.

        ``workflows`` leaves out the others, so that runs which nobody here knows do not hide those that are known.
        So does ``build`` ('' = one without a name) with the runs that this build could not replay or that are pinned to
        another, and ``shunned`` with those that one of these builds had last; but never with what ``owner`` itself holds.
        """
        ...

    async def lines(self) -> list[Line]:
        """Return the lines in which runs wait for places, whoever they are; what it costs grows with their number."""
        ...

    async def mark(self, run: str, due_at: int | None) -> None:
        """Set when somebody should look at a run; unknown ids are ignored."""
        ...


async def find_row(runs: Runs, run: str) -> RunRow | None:
    """Return the row of a run, None if there is none."""
    rows = await runs.find(RunFilter(id=run), limit=1)
    return rows[0] if rows else None
