"""Families: a run that nobody started but a caller, and everything that it started, down to the last child.

Runs that take part in one saga are one family: they belong to each other, and what was said in it to all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from reprise.kernel.events import SAGA_TAG, out_stream, saga_of, saga_stream, streams_of_run
from reprise.kernel.machine import RUN
from reprise.kernel.query import EVERY, Compare, Is, Query, all_of, any_of
from reprise.stores.log import Log
from reprise.stores.runs import RunFilter, RunRow, Runs, as_query

PAGE = 200
AT_ONCE = 100
"""Runs that one query is about."""
HAS_ENDED = any_of(*(Is("status", status) for status in sorted(RUN.final)))
IS_FIRST = Is("parent", None)

Wanted = RunFilter | Query
"""Which runs."""


async def walk_present(runs: Runs, where: Wanted = EVERY) -> AsyncIterator[list[RunRow]]:
    """Yield as :func:`walk`, up to the run that is the newest now: who walks slower than runs come would never end."""
    newest = await runs.find(where, limit=1)
    if not newest:
        return
    last = place(newest[0])
    async for page in walk(runs, where):
        if place(page[-1]) >= last:
            yield [row for row in page if place(row) <= last]
            return
        yield page


def place(row: RunRow) -> tuple[int, str]:
    """Return by what runs are ordered."""
    return row.created_at, row.id


async def walk(runs: Runs, where: Wanted = EVERY) -> AsyncIterator[list[RunRow]]:
    """Yield the runs that are wanted, oldest first, page by page; also while rows are being deleted.

    The page after a row cannot be asked for when the row is gone. So pages begin at a time, and what was seen of that
    moment is left out.
    """
    wanted = as_query(where)
    since, seen, limit = 0, set[str](), PAGE
    while True:
        later = all_of(wanted, Compare("created", ">", since)) if since else wanted
        rows = await runs.find(later, limit=limit, newest_first=False)
        if fresh := [row for row in rows if row.id not in seen]:
            yield fresh
        if len(rows) < limit:
            return
        # More rows of the last one's moment may come.
        newest = rows[-1].created_at
        limit = 2 * limit if newest - 1 == since else PAGE
        since, seen = newest - 1, {row.id for row in rows if row.created_at == newest}


async def all_streams_of(log: Log, *runs: str) -> list[str]:
    """Return the names of all streams of runs, also of their partial output."""
    opened = await asyncio.gather(*(log.read(out_stream(run)) for run in runs))
    return [
        stream
        for run, names in zip(runs, opened, strict=True)
        for stream in streams_of_run(run, dict.fromkeys(record.key for record in names))
    ]


async def streams_of_family(log: Log, family: Sequence[RunRow]) -> list[str]:
    """Return the names of all streams of a family; those that are shared come last."""
    sagas = dict.fromkeys(saga for row in family if (saga := saga_of(row.tags)))
    return [*await all_streams_of(log, *(row.id for row in family)), *map(saga_stream, sagas)]


async def row_of(runs: Runs, id: str) -> RunRow | None:
    """Return the row of a run, None if there is none."""
    return next(iter(await runs.find(Is("id", id), limit=1)), None)


async def rows_of(runs: Runs, ids: Sequence[str]) -> dict[str, RunRow]:
    """Return the rows of runs by their ids; those that do not exist are not in it."""
    found: dict[str, RunRow] = {}
    for first in range(0, len(ids), AT_ONCE):
        wanted = any_of(*(Is("id", id) for id in ids[first : first + AT_ONCE]))
        found.update({row.id: row for row in await runs.find(wanted, limit=AT_ONCE)})
    return found


async def families_of(runs: Runs, roots: Sequence[RunRow], sagas: set[str]) -> list[list[RunRow]]:
    """Return each run with its descendants, parents before their children; with a run of a saga come all that take part.

    ``sagas`` are those that came before, and are left out; they become more.
    """
    families = {family[0].id: family async for family in _with_companions(runs, roots, sagas)}
    root_of = {member.id: root for root, family in families.items() for member in family}
    parents = list(root_of)
    while parents:
        some, parents = parents[:AT_ONCE], parents[AT_ONCE:]
        async for children in walk(runs, any_of(*(Is("parent", id) for id in some))):
            for child in children:
                assert child.parent is not None
                root_of[child.id] = root = root_of[child.parent]
                families[root].append(child)
                parents.append(child.id)
    return list(families.values())


async def _with_companions(
    runs: Runs, roots: Sequence[RunRow], sagas: set[str]
) -> AsyncIterator[list[RunRow]]:
    """Yield runs that nobody started, those together that take part in one saga."""
    for root in roots:
        saga = saga_of(root.tags)
        if not saga:
            yield [root]
        elif saga not in sagas:
            sagas.add(saga)
            taking_part = all_of(IS_FIRST, as_query(RunFilter(tags={SAGA_TAG: saga})))
            found = [row async for page in walk(runs, taking_part) for row in page if saga_of(row.tags)]
            yield found or [root]


async def ended_families(
    runs: Runs, where: Wanted, ended_before: int = 0
) -> AsyncIterator[list[RunRow] | None]:
    """Yield the families of which nobody executes anything any more, and None for each that is not yet so far.

    ``where`` and ``ended_before`` (microseconds, 0 = ever) are asked of the first run of a family; the others come
    along. It must have ended, and so must they all.
    """
    before = Compare("updated", "<", ended_before) if ended_before else EVERY
    sagas = set[str]()
    async for page in walk_present(runs, all_of(IS_FIRST, HAS_ENDED, before, as_query(where))):
        for family in await families_of(runs, page, sagas):
            yield family if all(member.status in RUN.final for member in family) else None
