"""``reprise checkpoint``: names for moments of a run, and going back to them by going on from there."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.text import Text

from reprise.cli.config import read_config
from reprise.cli.facts import kind_name, record_name
from reprise.cli.fork import Edits, Pinned, begin
from reprise.cli.going_on import Detach, File, Here
from reprise.cli.moments import iso, local
from reprise.cli.output import Format, Screen, line, table
from reprise.cli.run import Agents, Concurrency, Inputs, Progress, Shown, Timeout
from reprise.cli.session import DryRun, Output, RunId, StoreUrl, door, flag, screen_of
from reprise.kernel.events import Record

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the checkpoint.", show_default=False)]


def list_(context: typer.Context, id: RunId, output: Output = Format.TABLE, store: StoreUrl = None) -> None:
    """List the checkpoints of a run: which record of its history each one names.

    reprise checkpoint list order-7
    """
    asyncio.run(_list(screen_of(context), id, output, store))


async def _list(screen: Screen, id: str, output: Format, store: str | None) -> None:
    async with door(read_config(store)) as (_, client):
        run = (await client.resolve(id)).id
        marks = await client.checkpoints(run)
        records = {record.version: record for record in await client.history(run)}
    if output is not Format.TABLE:
        facts = [
            {"name": name, "at": at, "time": iso(records[at].at) if at in records else None}
            for name, at in marks.items()
        ]
        screen.data(output, facts)
        return
    if not marks:
        screen.hint(f"It has none.  Name its last record: reprise checkpoint add {run} NAME{flag(store)}")
        return
    made = table("name", "record", "time", "what", right=("record",), fold="what")
    for name, at in marks.items():
        made.add_row(Text(line(name), "bold"), f"{at}", *_said(records.get(at)))
    screen.table(made)


def _said(record: Record | None) -> tuple[str, str]:
    """Return time and kind of a record, with whom it is about; of one that is no longer kept, that."""
    if record is None:
        return "", "no longer kept"
    return local(record.at), line(f"{kind_name(record.kind)} {record_name(record)}".rstrip())


def add(
    context: typer.Context,
    id: RunId,
    name: Name,
    at: Annotated[
        int | None,
        typer.Option("--at", metavar="SEQ", help="Another record than its last one now.", show_default=False),
    ] = None,
    store: StoreUrl = None,
) -> None:
    """Name a record of a run's history. The same name again moves it.

    reprise checkpoint add order-7 priced --at 3
    """
    asyncio.run(_add(screen_of(context), id, name, at, store))


async def _add(screen: Screen, id: str, name: str, at: int | None, store: str | None) -> None:
    async with door(read_config(store)) as (_, client):
        run = (await client.resolve(id)).id
        version = await client.checkpoint(run, name, at)
    screen.raw(f"{version}")
    screen.hint(f"Go on from there: reprise checkpoint rollback {run} {line(name)}{flag(store)}")


def rollback(
    context: typer.Context,
    id: RunId,
    name: Name,
    edit: Edits = None,
    input: Inputs = None,
    pinned: Pinned = False,
    new_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="Id of the new run.", show_default=False)
    ] = "",
    file: File = None,
    agents: Agents = "",
    detach: Detach = False,
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
    timeout: Timeout = None,
    store: StoreUrl = None,
    concurrency: Concurrency = None,
    progress: Shown = Progress.AUTO,
) -> None:
    """Let a new run go on from a checkpoint, as reprise fork --at does; nothing of the first one is undone.

    reprise checkpoint rollback order-7 priced
    """
    here = Here(id, file, agents, progress, timeout, store)
    begin(
        context,
        here,
        concurrency,
        checkpoint=name,
        edits=tuple(edit or ()),
        inputs=tuple(input or ()),
        pinned=pinned,
        id=new_id,
        detach=detach,
        dry_run=dry_run,
        output=output,
    )
