"""``reprise leader``: who leads, and ending a term."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from reprise.cli.config import read_config
from reprise.cli.held import Held, show_held
from reprise.cli.output import Format, Screen
from reprise.cli.session import Output, StoreUrl, opened, screen_of
from reprise.coordination.leader import LeaderElection, leaders
from reprise.coordination.terms import Leader

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
    show_held(
        screen,
        output,
        "election",
        "leader",
        [Held(each.name, each.candidate_id, each.token, each.expires_at) for each in found],
    )
