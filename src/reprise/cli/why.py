"""Why a run that nobody executes does not begin, or does not go on: from the store alone, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reprise.cli.moments import duration
from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.limit import Slot
from reprise.kernel.machine import RUN
from reprise.stores.runs import Line, RunRow
from reprise.stores.store import Store

Lines = Mapping[tuple[Slot, ...], Line]

OVERDUE = 5 * MICROSECONDS
"""After so long a run that is due is said to be taken by nobody."""


async def lines_of(store: Store, rows: Iterable[RunRow]) -> Lines:
    """Return the lines by what is waited for in them; looked up only if one of the runs stands in one."""
    if not any(row.in_line for row in rows):
        return {}
    return {line.slots: line for line in await store.runs.lines()}


def why_not(row: RunRow, lines: Lines, now: int) -> str:
    """Return what a run waits for that is nobody's yet, '' when there is nothing to say.

    The numbers of limits are those of when it started; a worker goes by those of its own code.
    """
    if row.owner or row.status in RUN.final:
        return ""
    line = lines.get(row.slots)
    if row.in_line and line is not None and (full := list(_full(line))):
        return "; ".join(full)
    parts = [f"build {build} cannot replay it" for build in row.refused]
    since = row.created_at if row.in_line else row.due_at
    if since is not None and since + OVERDUE <= now:
        pinned = "pinned to" if row.pinned else "of"
        of = f" (it is {pinned} build {row.pinned or row.build})" if row.pinned or row.build else ""
        parts.insert(0, f"no worker has taken it for {duration(now - since)}{of}")
    return "; ".join(parts)


def _full(line: Line) -> Iterator[str]:
    for slot, taken, free_in in zip(line.slots, line.taken, line.free_in, strict=True):
        if taken < slot.most:
            continue
        if slot.period:
            begun = f"{taken} began in {duration(slot.period)}"
            yield f"waits for the rate of {slot.lane}: {begun}, the next may in {duration(free_in)}"
        else:
            yield f"waits for a place of {slot.lane}: {taken} of {slot.most} are taken"
