"""``reprise leader``: who leads, and ending a term."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from reprise.cli.config import read_config
from reprise.cli.moments import duration, iso
from reprise.cli.output import Format, Screen, line, table
from reprise.cli.session import Output, StoreUrl, opened, screen_of
from reprise.coordination.leader import LeaderElection, leaders
from reprise.coordination.terms import Leader
from reprise.kernel.clock import SystemClock

Names = Annotated[list[str], typer.Argument(metavar="NAME…", help="Names of elections.")]


def list_(context: typer.Context, output: Output = Format.TABLE, store: StoreUrl = None) -> None:
    """List the elections that have a leader: who, under which token, and when the term ends unless it is renewed.

    reprise leader list
    """
    asyncio.run(_list(screen_of(context), output, store))


async def _list(screen: Screen, output: Format, store: str | None) -> None:
    async with opened(read_config(store)) as keeper:
        found = await leaders(keeper)
    _show(screen, output, found)
    if not found and output is Format.TABLE:
        screen.say("Nobody leads.")


def resign(
    context: typer.Context, names: Names, output: Output = Format.TABLE, store: StoreUrl = None
) -> None:
    """Let leaders resign, and list who did. Their work is cancelled, and the next candidate in line leads.

    A process that stands still goes on when it wakes; only what checks its token refuses it then.

    reprise leader resign reports
    """
    asyncio.run(_resign(screen_of(context), names, output, store))


async def _resign(screen: Screen, names: Sequence[str], output: Format, store: str | None) -> None:
    gone: list[Leader] = []
    async with opened(read_config(store)) as keeper:
        for name in names:
            async with LeaderElection(keeper, name) as election:
                leader = await election.depose()
            if leader is not None:
                gone.append(leader)
    _show(screen, output, gone)
    for name in names:
        if all(leader.name != name for leader in gone):
            screen.say(f"{name!r} has no leader.")


def _show(screen: Screen, output: Format, found: Sequence[Leader]) -> None:
    if output is not Format.TABLE:
        screen.data(output, [_fact(leader) for leader in found])
    elif found:
        now = SystemClock().now()
        shown = table("election", "leader", "token", "ends in", right=("token", "ends in"), fold="leader")
        for leader in found:
            left = duration(max(leader.expires_at - now, 0))
            shown.add_row(line(leader.name), line(leader.candidate_id), str(leader.token), left)
        screen.table(shown)


def _fact(leader: Leader) -> dict[str, Any]:
    return {
        "election": leader.name,
        "leader": leader.candidate_id,
        "token": leader.token,
        "expires_at": iso(leader.expires_at),
    }
