"""What every command begins with: its flags, its screen, its store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from reprise.cli.config import Config
from reprise.cli.locating import file_of
from reprise.cli.output import Format, Screen
from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import StoreUnreachable
from reprise.kernel.settings import StoreSettings, masked
from reprise.runtime.client import Client
from reprise.runtime.forking import LINEAGE
from reprise.runtime.payloads import Payloads
from reprise.stores import open_store
from reprise.stores.runs import RunRow
from reprise.stores.store import Store

FILE_TAG = "reprise.file"
"""Tag of a run that names the file it was started from."""
WORKFLOW_TAG = "reprise.workflow"
"""Tag that names the workflow in it."""
AGENTS_TAG = "reprise.agents"
"""Tag of a run of a plan that names where those are who do its steps."""


def is_ours(tag: str) -> bool:
    """Tell whether a tag is one of ours, not of the workflow's author."""
    return tag in (FILE_TAG, WORKFLOW_TAG, AGENTS_TAG) or tag in LINEAGE


RunId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a run, the start of one, or @last for the newest.")
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        "-s",
        metavar="URL",
        help="Where runs are kept: sqlite:///file.db, postgresql://…",
        show_default=False,
    ),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How data is printed.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on: of one run, until it has ended.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


class Door(NamedTuple):
    """An open store, seen from outside of any worker."""

    store: Store
    client: Client


def screen_of(context: typer.Context) -> Screen:
    """Return where a command writes to."""
    return Screen(color=False if context.find_root().obj.no_color else None)


def prepare(config: Config, *, create: bool) -> Store:
    """Return the store that settings name, with their keys, not yet opened.

    With ``create`` the folder of the default store is made. Without, a file that does not exist is not made either:
    who only looks leaves nothing behind.

    Raises:
        StoreUnreachable: there is no such file.
    """
    file = file_of(config.store)
    if file is not None and not file.exists():
        if not create:
            raise StoreUnreachable(
                f"There is no store {file} yet.",
                hint="Start a run (reprise run FILE.py), or name a store: --store URL",
            )
        if config.store == StoreSettings().url:
            _make_folder(file.parent)
    return open_store(config.store, keys=config.keys)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", "utf-8")
    except OSError as error:
        raise StoreUnreachable(
            f"The folder {folder.absolute()} cannot be made ({error.strerror}).",
            hint="Name a store: --store URL",
        ) from error


@asynccontextmanager
async def door(config: Config, *, create: bool = False) -> AsyncGenerator[Door]:
    """Open a store to look or to act, without executing anything."""
    store = prepare(config, create=create)
    await store.start()
    try:
        payloads = Payloads(config.settings.payloads.limit, config.redact)
        yield Door(store, Client(store, SystemClock(), payloads))
    finally:
        await store.stop()


@asynccontextmanager
async def opened(config: Config) -> AsyncGenerator[Store]:
    """Open a store that need not keep runs."""
    store = prepare(config, create=False)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


async def is_alive(store: Store, worker: str | None) -> bool:
    """Tell whether a worker is still there: it is seen, as far as the keeper can see, and holds its lease."""
    if not worker or await store.presence.died([worker]):
        return False
    return bool(await store.lease.holder(f"worker/{worker}"))


async def unread(store: Store, row: RunRow, url: str | None) -> str:
    """Return the hint for whoever told a run something that no worker reads now; '' where one does."""
    if await is_alive(store, row.owner):
        return ""
    return f"No worker has it now; it is read when one does:  reprise resume {row.id}{flag(url)}"


def flag(store: str | None) -> str:
    """Return the store's flag as it belongs into a command that is shown to people, without a password."""
    return f" --store {masked(store)}" if store else ""
