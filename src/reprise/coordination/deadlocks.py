"""Finding out that everybody waits for everybody: a walk over who holds what and who waits for what.

Who waits for a lock while holding another one says so by a lease of its own, which ends with the waiting or with the
process. Then it walks from the lock to its holders, from each to the lock that one waits for, and so on. If the walk comes
back to where it began, nobody in the circle will ever go on. Of those in a circle the last to say that it waits sees all
the others, and its lease has the highest token; that one gives up, and no other.

The walk reads one name after the other. It is done twice: where both times the same grants were seen under the same
tokens, there was a moment between the two at which all of them held.
"""

from __future__ import annotations

from typing import NamedTuple

from reprise.stores.lease import Grant, Lease

WAITS = "lock-wait/"
"""Begins the lease by which somebody says what it waits for: the name is who, the holder is for what."""
TURNS = "lock-turn/"
"""Begins what the first of those who hold a lease in turn is said to wait for, and who has the turn to hold."""
AT_ONCE = 100
"""How often one may say so at one time; an earlier saying may not have been taken back yet."""


class Edge(NamedTuple):
    """Somebody waits for a lock that somebody else holds."""

    waits: Grant
    """That it waits."""
    holds: Grant
    """That the other one holds it."""


def owner_of(holder: str) -> str:
    """Return who holds a lease; one owner has another holder's name for each lease.

    >>> owner_of("billing:7/Task-3~12")
    'billing:7/Task-3'
    """
    return holder.rpartition("~")[0] or holder


async def find_cycle(lease: Lease, mine: Grant) -> list[Edge] | None:
    """Return the circle that waiting closes, None where there is none or another one in it gives up.

    ``mine`` is the caller's lease that says what it waits for.
    """
    cycle = await _walk(lease, mine)
    if cycle is None or await _walk(lease, mine) != cycle:
        return None
    return cycle if max(edge.waits.token for edge in cycle) == mine.token else None


def told(cycle: list[Edge], prefix: str) -> list[str]:
    """Return a circle in words, the caller first."""
    held: dict[str, str] = {}
    lock = ""
    for edge in cycle:
        if not edge.holds.name.startswith(TURNS):
            lock = edge.holds.name.removeprefix(prefix)
        held[owner_of(edge.holds.holder)] = lock
    return [
        f"{who} holds {held[who]!r} and waits for {edge.holds.name.removeprefix(prefix)!r}"
        for edge in cycle
        if not edge.holds.name.startswith(TURNS) and (who := edge.waits.name.removeprefix(WAITS)) in held
    ]


async def _walk(lease: Lease, mine: Grant) -> list[Edge] | None:
    start, seen = mine.name.removeprefix(WAITS), {mine.holder}
    paths: list[tuple[Grant, list[Edge]]] = [(mine, [])]
    while paths:
        waits, path = paths.pop()
        for holds in await lease.holder(waits.holder):
            owner, longer = owner_of(holds.holder), [*path, Edge(waits, holds)]
            if owner == start:
                return longer
            for other in await lease.holder(WAITS + owner):
                if other.holder not in seen:
                    seen.add(other.holder)
                    paths.append((other, longer))
    return None
