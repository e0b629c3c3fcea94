"""``reprise signal``, ``cancel``, ``pause``: what anybody who can open the store may tell a run."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from reprise.cli.batch import RunIds, Where, Yes, leave, wished
from reprise.cli.config import read_config
from reprise.cli.inputs import read_value
from reprise.cli.output import Format, Screen
from reprise.cli.session import DryRun, Output, RunId, StoreUrl, door, screen_of, unread
from reprise.kernel.errors import RunEnded
from reprise.kernel.machine import RUN
from reprise.runtime.batch import Verb


def signal(
    context: typer.Context,
    id: RunId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the run waits for.")],
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="JSON; what is not JSON is taken as text.")
    ] = "null",
    key: Annotated[
        str,
        typer.Option(
            "--key",
            metavar="KEY",
            help="Id of the signal: the same again is dropped by the run.",
            show_default=False,
        ),
    ] = "",
    store: StoreUrl = None,
) -> None:
    """Send a signal to a run. It is kept until the run asks for it.

    reprise signal @last approve true
    reprise signal survey-7 price '{"amount": 12}'
    """
    asyncio.run(_signal(screen_of(context), store, id, name, read_value(value), key))


def cancel(
    context: typer.Context,
    ids: RunIds = None,
    query: Where = "",
    reason: Annotated[
        str,
        typer.Option("--reason", "-r", metavar="TEXT", help="Why; kept with the run.", show_default=False),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Also end the undoing of what they did.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Ask runs to stop. Their ``finally`` parts run first, and what their steps did is undone.

    reprise cancel survey-7 --reason "wrong input"

    reprise cancel -q 'workflow:survey age>1d' --dry-run
    """
    leave(
        context,
        wished(
            Verb.CANCEL,
            ids,
            query,
            dry_run=dry_run,
            yes=yes,
            output=output,
            store=store,
            reason=reason,
            force=force,
        ),
    )


def pause(
    context: typer.Context,
    ids: RunIds = None,
    query: Where = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Let runs rest when what executes now is recorded. They go on with ``reprise resume``.

    reprise pause survey-7

    reprise pause -q 'workflow:survey' --yes
    """
    leave(context, wished(Verb.PAUSE, ids, query, dry_run=dry_run, yes=yes, output=output, store=store))


async def _signal(screen: Screen, store: str | None, id: str, name: str, value: Any, key: str) -> None:
    async with door(read_config(store)) as (opened, client):
        row = await client.resolve(id)
        if row.status in RUN.final:
            raise RunEnded(
                f"Run {row.id} has ended ({row.status}) and takes nothing more.", hint="Start a new one."
            )
        await client.signal(row.id, name, value, id=key)
        hint = await unread(opened, row, store)
    screen.say(f"Signal {name!r} sent to run {row.id}.")
    if hint:
        screen.hint(hint)
