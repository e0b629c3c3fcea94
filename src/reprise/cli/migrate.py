"""``reprise migrate``: let runs go on under code that their history does not fit."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import typer

from reprise.cli.batch import RunIds, Where, Yes
from reprise.cli.config import Config, read_config
from reprise.cli.exits import code_of
from reprise.cli.load import AnyWorkflow, load_function
from reprise.cli.output import Format, Screen, line
from reprise.cli.session import Door, DryRun, Output, StoreUrl, door, flag, screen_of
from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import ConfigurationError, RepriseError, nearest
from reprise.kernel.machine import ExitCode
from reprise.kernel.query import all_of
from reprise.kernel.query_text import parse
from reprise.runtime.checking import IN_FLIGHT
from reprise.runtime.migrating import Carry, Migration
from reprise.stores.families import walk_present
from reprise.stores.runs import RunRow


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs are to be carried over, and how."""

    ids: tuple[str, ...]
    query: str
    carry: Carry
    workflows: Mapping[str, AnyWorkflow]
    """By name in the log."""
    to: str
    dry_run: bool
    yes: bool
    output: Format
    store: str | None


def migrate(
    context: typer.Context,
    with_: Annotated[
        str,
        typer.Option(
            "--with",
            metavar="MODULE:FUNCTION",
            help="What computes the arguments of the new generation from the past of the old one.",
        ),
    ],
    ids: RunIds = None,
    query: Where = "",
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="NAME",
            help="Go on as this workflow. Default: that of the run.",
            show_default=False,
        ),
    ] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Let runs end their generation and go on under new code, from what a function computes.

    The workflow is looked for in the module of the function. A run must rest: pause it first.

    reprise migrate order-7 --with shop.py:to_taxed --dry-run

    reprise migrate -q 'workflow:order status:stranded' --with shop.py:to_taxed --yes
    """
    function, workflows = load_function(with_)
    move = Move(
        ids=tuple(ids or ()),
        query=query,
        carry=function,
        workflows={each.name: each for each in workflows},
        to=to,
        dry_run=dry_run,
        yes=yes,
        output=output,
        store=store,
    )
    raise typer.Exit(asyncio.run(_migrate(screen_of(context), read_config(store), move)))


async def _migrate(screen: Screen, config: Config, move: Move) -> int:
    async with door(config) as opened:
        rows = await _meant(opened, move)
        if len(rows) > 1 and not (move.dry_run or move.yes) and not _confirmed(screen, len(rows)):
            screen.say("Nothing was done.")
            return ExitCode.FAILED
        made: list[Migration] = []
        refused: dict[str, RepriseError] = {}
        for row in rows:
            try:
                made.append(await _one(opened, move, row))
            except RepriseError as error:
                if len(rows) == 1:
                    raise
                refused[row.id] = error
    _show(screen, move, made, refused)
    codes = {code_of(error) for error in refused.values()}
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED if codes else ExitCode.OK


async def _meant(opened: Door, move: Move) -> list[RunRow]:
    if bool(move.ids) == bool(move.query):
        raise ConfigurationError(
            "Ids or a query, not both." if move.ids else "Which runs?",
            hint="Give ids, @last, or a query: reprise migrate -q 'workflow:order status:stranded' --with …",
        )
    if not move.query:
        return [await opened.client.resolve(id) for id in move.ids]
    wanted = all_of(parse(move.query, SystemClock().now()), IN_FLIGHT)
    return [row async for page in walk_present(opened.store.runs, wanted) for row in page]


def _confirmed(screen: Screen, count: int) -> bool:
    if not (sys.stdin.isatty() and screen.err.is_terminal):
        raise ConfigurationError(
            f"This would migrate {count:,} runs.", hint="Say --yes, or look first with --dry-run."
        )
    return typer.confirm(f"Migrate {count:,} runs?", err=True)


async def _one(opened: Door, move: Move, row: RunRow) -> Migration:
    name = move.to or row.workflow
    workflow = move.workflows.get(name)
    if workflow is None:
        near = nearest(name, move.workflows)
        raise ConfigurationError(
            f"The module of {move.carry.__qualname__} has no workflow {name!r}.",
            hint=f"Did you mean --to {near}?" if near else f"It has {', '.join(move.workflows) or 'none'}.",
        )
    return await opened.client.migrate(row.id, move.carry, workflow, dry_run=move.dry_run)


def _show(screen: Screen, move: Move, made: list[Migration], refused: Mapping[str, RepriseError]) -> None:
    if move.output is not Format.TABLE:
        facts = [_fact(one) for one in made]
        screen.data(move.output, facts + [{"run": id, "error": error.what} for id, error in refused.items()])
        return
    for one in made:
        screen.raw(f"{line(one.run)}  generation {one.generation} of {one.workflow}: {one.input.decode()}")
    for id, error in refused.items():
        screen.say(f"not {line(id)}: {line(error.what)}  ({line(error.hint)})", "yellow")
    if not made and not refused:
        screen.hint("No run is meant.")
    elif move.dry_run:
        screen.hint(f"This would migrate {len(made):,} runs; nothing was done.")
    elif made:
        screen.hint(f"A worker with the new code executes them:  reprise worker FILE.py{flag(move.store)}")


def _fact(made: Migration) -> dict[str, Any]:
    return {
        "run": made.run,
        "workflow": made.workflow,
        "generation": made.generation,
        "input": msgspec.Raw(made.input),
        "cancelled": made.cancelled,
        "error": "",
    }
