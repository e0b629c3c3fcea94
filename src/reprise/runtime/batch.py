"""The same wish to many runs: who is meant by a query, and what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from reprise.kernel.errors import RepriseError
from reprise.kernel.machine import RESTING, RUN, RunStatus
from reprise.kernel.query import Is, Query, all_of, any_of, fields
from reprise.runtime.retrying import RETRIED
from reprise.stores.families import walk_present
from reprise.stores.runs import RunRow, Runs

if TYPE_CHECKING:
    from reprise.runtime.client import Client

AT_ONCE = 50
"""Runs that are told at the same time; the keeper commits them together."""


class Verb(StrEnum):
    """What many runs can be told."""

    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    CANCEL = "cancel"
    PIN = "pin"
    UNPIN = "unpin"


TAKES: Mapping[Verb, frozenset[str]] = MappingProxyType(
    {
        Verb.PAUSE: frozenset(RUN.transitions) - RUN.final - RESTING,
        Verb.RESUME: RESTING,
        Verb.RETRY: RETRIED | {RunStatus.NEEDS_ATTENTION},
        Verb.CANCEL: frozenset(RUN.transitions) - RUN.final,
        Verb.PIN: frozenset(RUN.transitions) - RUN.final,
        Verb.UNPIN: frozenset(RUN.transitions) - RUN.final,
    }
)
"""States in which a run that a query finds is meant by a verb; in the others there is nothing to do."""


class Told(msgspec.Struct, frozen=True):
    """What became of one run."""

    run: str
    goes_on: str = ""
    """Id of the run that goes on in its place; '' = it itself."""
    error: RepriseError | None = None
    """Why it could not be told."""


class Batch(msgspec.Struct, frozen=True):
    """What became of many runs."""

    done: tuple[str, ...]
    """Runs that were told; of one that was tried again, the id under which it goes on."""
    refused: dict[str, str]
    """Why, by the id of a run that could not be told."""


def meant(verb: Verb, query: Query) -> Query:
    """Return which runs are meant when a query is given to a verb.

    Those in whose state it says something; and if the query does not ask of id or parent, only runs that no other
    started: what is told to a run is told to what it started.
    """
    states = any_of(*(Is("status", state) for state in RUN.transitions if state in TAKES[verb]))
    if fields(query) & {"id", "parent"}:
        return all_of(query, states)
    return all_of(query, states, Is("parent", None))


async def runs_meant(runs: Runs, verb: Verb, query: Query) -> AsyncIterator[list[RunRow]]:
    """Yield the runs that a verb and a query mean now, oldest first, page by page."""
    async for page in walk_present(runs, meant(verb, query)):
        yield page


async def tell(
    client: Client,
    verb: Verb,
    ids: Sequence[str],
    *,
    reason: str = "",
    by: str = "",
    fresh: bool = False,
    force: bool = False,
) -> AsyncIterator[list[Told]]:
    """Tell runs, some at a time, and yield what became of them."""

    async def one(run: str) -> Told:
        try:
            goes_on = ""
            if verb is Verb.PAUSE:
                await client.pause(run)
            elif verb is Verb.RESUME:
                await client.resume(run)
            elif verb is Verb.CANCEL:
                await client.cancel(run, reason, by, force=force)
            elif verb is Verb.PIN:
                await client.pin(run)
            elif verb is Verb.UNPIN:
                await client.unpin(run)
            else:
                goes_on = await client.retry(run, fresh=fresh)
        except RepriseError as error:
            return Told(run, error=error)
        return Told(run, goes_on if goes_on != run else "")

    for first in range(0, len(ids), AT_ONCE):
        yield list(await asyncio.gather(*map(one, ids[first : first + AT_ONCE])))
