"""``reprise db``: what a store holds and of what version; backups; another house."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from reprise.cli.config import Config, read_config
from reprise.cli.doctor import size
from reprise.cli.output import Format, Screen
from reprise.cli.session import DryRun, Output, StoreUrl, door, flag, prepare, screen_of
from reprise.cli.ticker import ticker
from reprise.kernel.errors import CopyDiffers, RunConflict, SchemaTooNew
from reprise.kernel.settings import masked
from reprise.stores.moving import Copied, back_up_store, copy_store, restore_store
from reprise.stores.queue import STATES
from reprise.stores.store import Schema, Store

BackupFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="FILE.jsonl or FILE.jsonl.gz: an archive for any store; else a copy of the file."
    ),
]


def status(context: typer.Context, output: Output = Format.TABLE, store: StoreUrl = None) -> None:
    """Say what a store holds, and of what version its tables are. An older one is not upgraded by looking.

    reprise db status -o json | jq .schema
    """
    asyncio.run(_status(screen_of(context), store, output))


async def _status(screen: Screen, given: str | None, output: Format) -> None:
    opened = prepare(read_config(given), create=False)
    schema = await opened.schema()
    facts: dict[str, Any] = {"url": opened.url, "schema": schema.found, "newest_schema": schema.newest}
    if schema.found == schema.newest:
        await opened.start()
        try:
            facts |= await _facts(opened)
        finally:
            await opened.stop()
    if output is not Format.TABLE:
        screen.json(msgspec.json.encode(facts))
        return
    for name, value in facts.items():
        screen.line(Text.assemble((f"{name:<14}", "bold"), _shown(name, value)))
    if schema.found < schema.newest:
        screen.hint(f"The tables are of an older version:  reprise db migrate{flag(given)}")
    elif schema.found > schema.newest:
        screen.hint("The tables are of a newer version than this Reprise knows: install the newer one.")


async def _facts(store: Store) -> dict[str, Any]:
    queues = {name: await store.queue.stats(name) for name in await store.queue.names()}
    facts: dict[str, Any] = {
        "epoch": store.epoch,
        "position": await store.log.end(),
        "runs": await store.runs.count(),
        "queues": {
            name: {state: getattr(stats, state) for state in STATES} for name, stats in queues.items()
        },
        "blobs": await store.blobs.stats(),
    }
    held = store.statistics().get("file_bytes")
    return facts if held is None else facts | {"bytes": held}


def _shown(name: str, value: Any) -> str:
    if name == "bytes":
        return size(value)
    if not isinstance(value, dict):
        return str(value)
    return (
        msgspec.json.encode(value).decode().strip("{}").replace('"', "").replace(",", ", ").replace(":", " ")
        or "–"
    )


def migrate(
    context: typer.Context, dry_run: DryRun = False, output: Output = Format.TABLE, store: StoreUrl = None
) -> None:
    """Bring a store's tables up to date, as every opening does; for those who want to choose the moment.

    reprise db migrate --dry-run
    """
    asyncio.run(_migrate(screen_of(context), read_config(store), dry_run, output))


async def _migrate(screen: Screen, config: Config, dry_run: bool, output: Format) -> None:
    opened = prepare(config, create=True)
    before = await opened.schema()
    _refuse_newer(opened, before)
    if not dry_run and before.found < before.newest:
        await opened.start()
        await opened.stop()
    if output is not Format.TABLE:
        fact = {"found": before.found, "newest": before.newest, "done": not dry_run}
        screen.json(msgspec.json.encode(fact))
    elif before.found == before.newest:
        screen.line(Text(f"{opened.url} has version {before.newest}, the newest."))
    else:
        come = "would come" if dry_run else "came"
        screen.line(Text(f"{opened.url} {come} from version {before.found} to {before.newest}."))


def _refuse_newer(store: Store, schema: Schema) -> None:
    if schema.found > schema.newest:
        raise SchemaTooNew(
            f"{store.url} has version {schema.found}; this Reprise knows {schema.newest}.",
            hint="Install the newer Reprise; nothing was changed.",
        )


def backup(
    context: typer.Context, file: BackupFile, output: Output = Format.TABLE, store: StoreUrl = None
) -> None:
    """Copy a store to a file, as it is at one moment, while others work with it.

    reprise db backup nightly.db
    reprise db backup nightly.jsonl.gz --store postgresql://db/app
    """
    asyncio.run(_backup(screen_of(context), read_config(store), file, output))


async def _backup(screen: Screen, config: Config, file: Path, output: Format) -> None:
    async with door(config) as (store, _):
        with ticker(screen) as report:
            done = await back_up_store(store, file, report=report)
    if output is not Format.TABLE:
        screen.json(msgspec.json.encode(done))
        return
    screen.line(Text(f"{file}, {size(done.bytes)}, checked"))
    if done.hash:
        screen.line(Text(f"hash {done.hash}"))


def restore(
    context: typer.Context,
    file: BackupFile,
    replace: Annotated[bool, typer.Option("--replace", help="Lose what the store holds now.")] = False,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Bring a store back to what it was when the backup was made. Workers may be running: they begin anew.

    An archive goes into an empty store; the copy of a file may, with --replace, take the place of one in use.

    reprise db restore nightly.db --replace
    reprise db restore nightly.jsonl.gz --store postgresql://db/app
    """
    asyncio.run(_restore(screen_of(context), read_config(store), file, replace, output))


async def _restore(screen: Screen, config: Config, file: Path, replace: bool, output: Format) -> None:
    opened = prepare(config, create=True)
    try:
        with ticker(screen) as report:
            done = await restore_store(opened, file, replace=replace, report=report)
        opened.signal.wake(["runs"])
    finally:
        await opened.stop()
    if output is not Format.TABLE:
        screen.json(msgspec.json.encode(done))
        return
    screen.line(Text(f"{opened.url} holds {done.runs:,} runs of {file}; epoch {done.epoch}"))


def copy(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="URL of the store there is.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="URL of the store to be.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep copying what is written, until Ctrl-C.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Copy a store into another one, of whatever kind, and compare both. Again: what is there is left out.

    With --follow workers go on meanwhile; stop them, then press Ctrl-C (or send SIGTERM): the rest is copied, both are
    compared, and unfinished runs can go on in the new store. Exits with 1 when something differs, with 7 when
    workers still work with the old store.

    reprise db copy sqlite:///reprise.db postgresql://db/app --follow
    """
    asyncio.run(_copy(screen_of(context), source, target, follow, output))


async def _copy(screen: Screen, source: str, target: str, follow: bool, output: Format) -> None:
    old, new = prepare(read_config(source), create=False), prepare(read_config(target), create=True)
    try:
        await old.start()
        await new.start()
        with ticker(screen) as report:
            done = await copy_store(old, new, follow=_told_to_stop(screen) if follow else None, report=report)
    finally:
        await old.stop()
        await new.stop()
    if output is Format.TABLE:
        _say_copied(screen, done)
    else:
        screen.json(msgspec.json.encode(done))
    if done.differences:
        count, first = len(done.differences), done.differences[0]
        more = f" (and {count - 1} more)" if count > 1 else ""
        raise CopyDiffers(
            f"{masked(target)} is not the same: {first}{more}",
            hint="Copy again; if it stays so, copy to an empty store.",
        )
    if done.workers:
        raise RunConflict(
            f"Workers still work with {masked(source)} ({len(done.workers)}); the new store does not live yet.",
            hint="Stop them, and copy once more.",
        )


def _told_to_stop(screen: Screen) -> asyncio.Event:
    """Return an event that Ctrl-C or SIGTERM sets, the first time; the second time ends the command."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell() -> None:
        told.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        screen.say("cutting over …")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, tell)
    return told


def _say_copied(screen: Screen, done: Copied) -> None:
    screen.line(
        Text(
            f"{done.records:,} records, {done.runs:,} runs, {done.tasks:,} tasks and {done.cells:,} cells copied;"
            f" epoch {done.epoch}"
        )
    )
    if done.is_complete:
        screen.line(Text("both hold the same"))
        screen.hint(f"{done.unfinished:,} unfinished runs go on where the new store is worked with.")
