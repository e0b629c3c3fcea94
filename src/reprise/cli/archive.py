"""``reprise events export``, ``import``, ``verify``: histories leave the store as files, and come back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from reprise.cli.config import Config, read_config
from reprise.cli.find import Conditions
from reprise.cli.output import Format, Screen
from reprise.cli.session import DryRun, Output, StoreUrl, door, flag, screen_of
from reprise.cli.ticker import ticker
from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import ArchiveCorrupt
from reprise.kernel.machine import ExitCode
from reprise.kernel.query import Query
from reprise.kernel.query_text import parse
from reprise.stores.archive import End, read_pages
from reprise.stores.moving import Exported, Imported, export_runs, import_runs

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="An archive: FILE.jsonl, or FILE.jsonl.gz to have it packed.")
]


def export(
    context: typer.Context,
    file: File,
    query: Conditions = None,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Write runs, with all that they started, to an archive: lines of JSON, each with the hash of the one before.

    reprise events export failed.jsonl.gz status:failed

    reprise events export one.jsonl id:survey-7

    The query, as of reprise ps, is asked of runs that no other run started.
    """
    where = parse(" ".join(query or ()), SystemClock().now())
    asyncio.run(_export(screen_of(context), read_config(store), file, where, output))


async def _export(screen: Screen, config: Config, file: Path, where: Query, output: Format) -> None:
    async with door(config) as (store, _):
        with ticker(screen) as report:
            done = await export_runs(store, file, where, report=report)
    if output is Format.TABLE:
        _say_exported(screen, file, done)
    else:
        screen.json(msgspec.json.encode(done))


def _say_exported(screen: Screen, file: Path, done: Exported) -> None:
    if not done.runs:
        screen.hint("No run matches; no archive was made.")
        return
    screen.line(
        Text(f"{done.families:,} runs and {done.runs - done.families:,} children, {done.records:,} records")
    )
    screen.line(Text(f"{file}, hash {done.hash}"))


def import_(
    context: typer.Context,
    file: File,
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Bring the runs of an archive in; unfinished ones go on here. What is here already is left as it is.

    Exits with 7 when a run is here with another history; of its family nothing is written.

    reprise events import 2026-11.jsonl.gz --dry-run
    """
    asyncio.run(_import(screen_of(context), store, file, dry_run, output))


async def _import(screen: Screen, store: str | None, file: Path, dry_run: bool, output: Format) -> None:
    async with door(read_config(store), create=True) as (opened, _):
        with ticker(screen) as report:
            done = await import_runs(opened, file, dry_run=dry_run, report=report)
        if done.runs and not dry_run:
            opened.signal.wake(["runs"])
    if output is Format.TABLE:
        _say_imported(screen, done, dry_run, flag(store))
    else:
        screen.json(msgspec.json.encode(done))
    if done.conflicts:
        raise typer.Exit(ExitCode.CONFLICT)


def _say_imported(screen: Screen, done: Imported, dry_run: bool, where: str) -> None:
    come = "would come" if dry_run else "came"
    screen.line(
        Text(f"{done.runs:,} runs {come} in, {done.records:,} records; {done.present:,} were here already")
    )
    if done.conflicts:
        count, first = len(done.conflicts), done.conflicts[0]
        more = f" (and {count - 1} more)" if count > 1 else ""
        screen.fail(
            f"The run {first}{more} is here with another history, or an older one.",
            f"Look: reprise show {first}{where}",
        )


def verify(
    context: typer.Context,
    file: File,
    hash: Annotated[
        str,
        typer.Option(
            "--hash", metavar="HASH", help="What its last hash was when it was written.", show_default=False
        ),
    ] = "",
    output: Output = Format.TABLE,
) -> None:
    """Check an archive to the last bit: a line that was changed, removed, added or moved is named.

    With --hash also that it is the one that was written, and not another one made since.

    reprise events verify 2026-11.jsonl.gz --hash 9c1f…
    """
    screen = screen_of(context)
    end = asyncio.run(_verify(screen, file))
    if hash and end.hash != hash:
        raise ArchiveCorrupt(
            f"{file} is whole, but another one: its hash is {end.hash}.",
            hint="Look for the archive that was written.",
        )
    if output is not Format.TABLE:
        screen.json(msgspec.json.encode(msgspec.structs.asdict(end)))
        return
    screen.line(Text(f"sound: {end.runs:,} runs, {end.records:,} records in {end.lines:,} lines"))
    screen.line(Text(f"hash {end.hash}"))


async def _verify(screen: Screen, file: Path) -> End:
    lines = 0
    last: object = None
    with ticker(screen) as report:
        async for page in read_pages(file):
            lines += len(page)
            last = page[-1]
            report("lines", lines, 0)
    assert isinstance(last, End)
    return last
