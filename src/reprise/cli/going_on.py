"""``reprise resume`` and ``retry``: let runs go on, one of them here and before your eyes, or many by the workers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from reprise.cli.batch import RunIds, Where, Wish, Yes, fulfil, wished
from reprise.cli.config import Config, read_config
from reprise.cli.drive import Plan, Progress, conclude, drive, logs, resume_command
from reprise.cli.load import Loaded, Target, load, parse_target
from reprise.cli.output import Format, Screen
from reprise.cli.run import Agents, Concurrency, Shown, Timeout
from reprise.cli.session import AGENTS_TAG, FILE_TAG, DryRun, Output, StoreUrl, door, flag, screen_of
from reprise.cli.tree import Tree
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.machine import RUN
from reprise.runtime.batch import Verb
from reprise.stores.runs import RunRow
from reprise.stores.store import Store

File = Annotated[
    str | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="Where its workflow is; default: where it was started from.",
        show_default=False,
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", "-d", help="Only say that it may go on; a worker executes it.")
]


class Here(msgspec.Struct, frozen=True):
    """How one run goes on in this process."""

    id: str
    file: str | None
    agents: str
    progress: Progress
    timeout: float | None
    store: str | None
    retry: bool = False
    fresh: bool = False


def resume(
    context: typer.Context,
    ids: RunIds = None,
    query: Where = "",
    file: File = None,
    agents: Agents = "",
    detach: Detach = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
    timeout: Timeout = None,
    store: StoreUrl = None,
    concurrency: Concurrency = None,
    progress: Shown = Progress.AUTO,
) -> None:
    """Let unfinished runs go on: stopped, paused, stranded, in need of attention, or left by a worker that died.

    One run goes on here; several, or with --detach, go on where a worker takes them. Finished steps are not repeated. Of
    one run that has ended, the result is printed.

    reprise resume @last

    reprise resume -q 'status:paused workflow:survey'
    """
    wish = wished(Verb.RESUME, ids, query, dry_run=dry_run, yes=yes, output=output, store=store)
    here = Here(wish.ids[0], file, agents, progress, timeout, store) if _is_one(wish, detach) else None
    _go(context, wish, here, concurrency)


def retry(
    context: typer.Context,
    ids: RunIds = None,
    query: Where = "",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Keep only the input: every step is done again.")
    ] = False,
    file: File = None,
    agents: Agents = "",
    detach: Detach = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
    timeout: Timeout = None,
    store: StoreUrl = None,
    concurrency: Concurrency = None,
    progress: Shown = Progress.AUTO,
) -> None:
    """Try runs again that failed or were cancelled, under the ids ID~2, ID~3 …; one that needs attention goes on itself.

    What succeeded is not done again; what failed or was cancelled is. With --fresh only the input is kept. One run is
    executed here; several, or with --detach, are left to workers, and the new ids are printed.

    reprise retry @last

    reprise retry -q 'status:failed error:timeout age<1d' --dry-run
    """
    wish = wished(Verb.RETRY, ids, query, dry_run=dry_run, yes=yes, output=output, store=store, fresh=fresh)
    here = None
    if _is_one(wish, detach):
        here = Here(wish.ids[0], file, agents, progress, timeout, store, retry=True, fresh=fresh)
    _go(context, wish, here, concurrency)


def _is_one(wish: Wish, detach: bool) -> bool:
    return len(wish.ids) == 1 and not (wish.query or detach or wish.dry_run)


def _go(context: typer.Context, wish: Wish, here: Here | None, concurrency: int | None) -> None:
    config, screen = read_config(wish.store, {"concurrency": concurrency}), screen_of(context)
    code = asyncio.run(fulfil(screen, config, wish) if here is None else _here(screen, config, here))
    raise typer.Exit(code)


async def _here(screen: Screen, config: Config, here: Here) -> int:
    async with door(config) as (opened, client):
        row = await client.resolve(here.id)
        if row.status in RUN.final and not here.retry:
            finished = await client.finished(row.id)
            assert finished is not None
            return conclude(screen, Tree(row.id), finished, flag(here.store), "")
        loaded = code_of(row, config, here.file, here.agents)
        if here.retry:
            row = await client.row(await client.retry(row.id, fresh=here.fresh))
            screen.hint(f"Tried again as {row.id}.")
        return await go_on(opened, screen, config, here, row, loaded)


async def go_on(
    opened: Store, screen: Screen, config: Config, here: Here, row: RunRow, loaded: Loaded
) -> int:
    """Let a run that exists go on here and show it; return the exit code."""
    plan = Plan(
        id=row.id,
        workflow=loaded.pick(loaded.target.name or row.workflow),
        workflows=loaded.all,
        target=loaded.target,
        config=config,
        row=row,
        progress=here.progress,
        timeout=here.timeout,
        where=flag(here.store),
        resume=resume_command(row.id, loaded.target, config, flag(here.store)),
    )
    logs()
    return await drive(plan, opened, screen)


def code_of(
    row: RunRow, config: Config, file: str | None, agents: str = "", *, executes: bool = True
) -> Loaded:
    """Load the code of a run: the file and agents that were named, or those that the run remembers.

    A file elsewhere on this machine is loaded only if the store is one too: a store that others write must not choose
    what is executed here.

    Raises:
        ConfigurationError: nobody says where the code is, or it cannot be loaded.
    """
    remembered = str(row.tags.get(FILE_TAG, ""))
    target = parse_target(file or remembered, agents or str(row.tags.get(AGENTS_TAG, "")))
    if not target.place or (file is None and not _is_ours(target, config)):
        raise ConfigurationError(
            f"Run {row.id} does not say where {row.workflow!r} is."
            if not remembered
            else f"Run {row.id} was started from {remembered}, which is not in this folder.",
            hint="Name the file: --file FILE.py",
        )
    if target.agents is not None and not agents and not _is_ours(target.agents, config):
        raise ConfigurationError(
            f"Who does the steps of run {row.id} is in {target.agents}, which is not in this folder.",
            hint="Name the file: --agents FILE.py",
        )
    return load(target, executes=executes)


def _is_ours(target: Target, config: Config) -> bool:
    """Tell whether what a run remembers may be executed here."""
    outside = Path(target.place).is_absolute() or ".." in Path(target.place).parts
    return not outside or config.store.startswith("sqlite:")
