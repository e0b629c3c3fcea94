"""``reprise prune``: let old runs go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from reprise.cli.config import Config, read_config
from reprise.cli.find import Conditions
from reprise.cli.moments import microseconds
from reprise.cli.output import Format, Screen
from reprise.cli.session import DryRun, Output, StoreUrl, door, screen_of
from reprise.cli.ticker import ticker
from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.query import Query
from reprise.kernel.query_text import parse
from reprise.stores.moving import Pruned, prune as prune_store, prune_cache


def prune(
    context: typer.Context,
    query: Conditions = None,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than",
            metavar="TIME",
            help="Only runs that ended longer ago: 30d, 12h, 90m.",
            show_default=False,
        ),
    ] = "",
    all: Annotated[bool, typer.Option("--all", help="Every run that has ended.")] = False,
    archive: Annotated[
        Path | None,
        typer.Option(
            "--archive", metavar="FILE", help="Write them to this archive first.", show_default=False
        ),
    ] = None,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache", help="Cached results of pure steps instead of runs: those that hold no more."
        ),
    ] = False,
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Delete runs that ended, with all that they started, while others work. Runs that go on are never touched.

    reprise prune --older-than 30d --archive 2026-11.jsonl.gz

    reprise prune 'status:failed env:test' --older-than 1w --dry-run

    reprise prune --cache

    The query, as of reprise ps, is asked of runs that no other run started. Of the cache go results that hold no more,
    with --older-than also those written longer ago, with --all every one.
    """
    now = SystemClock().now()
    if cache:
        if query or archive:
            raise ConfigurationError(
                "Cached results belong to no run: no query finds them, and no archive takes them.",
                hint="Say --cache alone, or with --older-than 30d or --all.",
            )
        before = now - microseconds(older_than) if older_than else 0
        config = read_config(store)
        asyncio.run(_prune_cache(screen_of(context), config, before, output, all=all, dry_run=dry_run))
        return
    where = parse(" ".join(query or ()), now)
    if not (query or older_than or all):
        raise ConfigurationError("Which runs?", hint="Say --older-than 30d, give a query, or say --all.")
    ended_before = now - microseconds(older_than) if older_than else 0
    asyncio.run(_prune(screen_of(context), read_config(store), where, ended_before, archive, dry_run, output))


async def _prune(
    screen: Screen,
    config: Config,
    where: Query,
    ended_before: int,
    archive: Path | None,
    dry_run: bool,
    output: Format,
) -> None:
    async with door(config) as (store, _):
        with ticker(screen) as report:
            done = await prune_store(
                store, where, ended_before=ended_before, archive=archive, dry_run=dry_run, report=report
            )
    if output is Format.TABLE:
        _say(screen, done, archive, dry_run)
    else:
        screen.json(msgspec.json.encode(done))


async def _prune_cache(
    screen: Screen, config: Config, before: int, output: Format, *, all: bool, dry_run: bool
) -> None:
    async with door(config) as (store, _):
        with ticker(screen) as report:
            done = await prune_cache(store, written_before=before, all=all, dry_run=dry_run, report=report)
    if output is not Format.TABLE:
        screen.json(msgspec.json.encode(done))
        return
    blobs = "" if dry_run else f", {done.blobs:,} blobs"
    what = "would go" if dry_run else "deleted"
    screen.line(Text(f"{done.entries:,} cached results {what}{blobs}; {done.kept:,} stay"))


def _say(screen: Screen, done: Pruned, archive: Path | None, dry_run: bool) -> None:
    records = "" if dry_run else f", {done.records:,} records, {done.blobs:,} blobs"
    what = "would go" if dry_run else "deleted"
    screen.line(Text(f"{done.families:,} runs and {done.runs - done.families:,} children {what}{records}"))
    if done.hash:
        screen.line(Text(f"archived in {archive}, hash {done.hash}"))
    if done.kept:
        screen.hint(f"{done.kept:,} ended runs stay: children of theirs go on.")
