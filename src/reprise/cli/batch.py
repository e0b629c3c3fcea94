"""Telling one run or many: who is meant, what would be done, whether it shall be, and what became of each."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.text import Text

from reprise.cli.config import Config, read_config
from reprise.cli.exits import code_of
from reprise.cli.output import Format, Screen, line, table
from reprise.cli.paint import status
from reprise.cli.session import Door, door, flag, screen_of, unread
from reprise.cli.ticker import ticker
from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import ConfigurationError, RepriseError, RunEnded
from reprise.kernel.machine import RUN, ExitCode, RunStatus
from reprise.kernel.query_text import parse
from reprise.runtime.batch import Told, Verb, runs_meant, tell
from reprise.runtime.forking import retry
from reprise.stores.runs import RunRow

RunIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ID", help="Ids of runs, starts of ids, or @last for the newest.", show_default=False
    ),
]
Where = Annotated[
    str,
    typer.Option(
        "--query",
        "-q",
        metavar="QUERY",
        help="Every run that it finds, as reprise ps does, and of which this can be asked.",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, also for more than one run.")]

FEW = 20
"""Runs up to which each is named."""
_DONE = {
    Verb.PAUSE: "Pause asked of",
    Verb.CANCEL: "Cancel asked of",
    Verb.RESUME: "Resume asked of",
    Verb.RETRY: "Tried again:",
    Verb.PIN: "Pinned to its build:",
    Verb.UNPIN: "Pinned no more:",
}


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be told, and to whom."""

    verb: Verb
    ids: tuple[str, ...]
    query: str
    reason: str = ""
    fresh: bool = False
    force: bool = False
    dry_run: bool = False
    yes: bool = False
    output: Format = Format.TABLE
    store: str | None = None


def wished(
    verb: Verb,
    ids: list[str] | None,
    query: str,
    *,
    dry_run: bool,
    yes: bool,
    output: Format,
    store: str | None,
    **more: Any,
) -> Wish:
    """Make a wish of what every command for many runs takes; ``more``: the other fields of :class:`Wish`."""
    told: dict[str, Any] = {"dry_run": dry_run, "yes": yes, "output": output, "store": store, **more}
    return Wish(verb=verb, ids=tuple(ids or ()), query=query, **told)


def leave(context: typer.Context, wish: Wish) -> NoReturn:
    """Fulfil a wish and end the command with its exit code."""
    raise typer.Exit(asyncio.run(fulfil(screen_of(context), read_config(wish.store), wish)))


async def fulfil(screen: Screen, config: Config, wish: Wish) -> int:
    """Tell the runs that are meant, and return the exit code.

    Raises:
        ConfigurationError: it is not said which runs, or nobody can be asked whether it shall be more than one.
    """
    async with door(config) as opened:
        chosen, missed = await _chosen(opened, wish)
        if wish.dry_run:
            facts = [await _plan(opened, wish, row) for row in chosen] + [_missed(told) for told in missed]
            _show_plan(screen, wish, facts)
            return _code([told.error for told in missed])
        if len(chosen) > 1 and not wish.yes and not _confirmed(screen, wish.verb, len(chosen)):
            screen.say("Nothing was done.")
            return ExitCode.FAILED
        told = [*missed, *await _tell(opened, wish, chosen, screen)]
        if len(told) == 1 and (error := told[0].error) is not None and not wish.query:
            raise error
        _show_told(screen, wish, told)
        if len(told) == 1:
            await _hint(screen, opened, wish, chosen[0])
    return _code([each.error for each in told])


# ---------------------------------------------------------------- who is meant


async def _chosen(opened: Door, wish: Wish) -> tuple[list[RunRow], list[Told]]:
    if bool(wish.ids) == bool(wish.query):
        raise ConfigurationError(
            "Ids or a query, not both." if wish.ids else "Which runs?",
            hint=f"Give ids, @last, or a query: reprise {wish.verb} -q 'workflow:survey age>1d'",
        )
    if wish.query:
        wanted = parse(wish.query, SystemClock().now())
        pages = runs_meant(opened.store.runs, wish.verb, wanted)
        return [row async for page in pages for row in page], []
    rows: dict[str, RunRow] = {}
    missed: list[Told] = []
    for id in wish.ids:
        try:
            row = await opened.client.resolve(id)
            rows[row.id] = row
        except RepriseError as error:
            missed.append(Told(id, error=error))
    return list(rows.values()), missed


def _confirmed(screen: Screen, verb: Verb, count: int) -> bool:
    if not (sys.stdin.isatty() and screen.err.is_terminal):
        raise ConfigurationError(
            f"This would {verb} {count:,} runs.", hint="Say --yes, or look first with --dry-run."
        )
    return typer.confirm(f"{verb.capitalize()} {count:,} runs?", err=True)


# ---------------------------------------------------------------- what would be done


async def _plan(opened: Door, wish: Wish, row: RunRow) -> dict[str, Any]:
    """Return what would become of a run."""
    fact: dict[str, Any] = {
        "run": row.id,
        "workflow": row.workflow,
        "status": row.status,
        "would": "",
        "error": "",
    }
    if wish.verb is not Verb.RETRY or (row.status == RunStatus.NEEDS_ATTENTION and not wish.fresh):
        ended = row.status in RUN.final
        wanted = "resume" if wish.verb is Verb.RETRY else wish.verb.value
        return fact | ({"error": f"It has ended ({row.status})."} if ended else {"would": wanted})
    try:
        made, *_ = await retry(opened.store, row, SystemClock().now(), fresh=wish.fresh)
        if await opened.store.runs.find(parse(f'id:"{made.id}"', 0), limit=1):
            return fact | {"error": f"It was tried again already, as {made.id}."}
    except RepriseError as error:
        return fact | {"error": error.what}
    if wish.fresh:
        return fact | {"would": f"begin anew as {made.id}"}
    again = f", again: {', '.join(made.again[:5])}" if made.again else ""
    return fact | {"would": f"go on as {made.id} with {made.kept} steps kept{again}"}


def _missed(told: Told) -> dict[str, Any]:
    what = told.error.what if told.error is not None else ""
    return {"run": told.run, "workflow": "", "status": "", "would": "", "error": what}


def _show_plan(screen: Screen, wish: Wish, facts: Sequence[dict[str, Any]]) -> None:
    if wish.output is not Format.TABLE:
        screen.data(wish.output, facts)
        return
    if not facts:
        screen.hint("No run is meant.")
        return
    made = table("run", "workflow", "status", "would", fold="would")
    for fact in facts:
        would = (
            Text(line(fact["would"])) if not fact["error"] else Text(f"not: {line(fact['error'])}", "yellow")
        )
        shown = status(fact["status"]) if fact["status"] else Text("")
        made.add_row(Text(line(fact["run"])), Text(line(fact["workflow"])), shown, would)
    screen.table(made)
    count = sum(not fact["error"] for fact in facts)
    screen.hint(f"This would {wish.verb} {count:,} runs; nothing was done.")


# ---------------------------------------------------------------- what was done


async def _tell(opened: Door, wish: Wish, chosen: Sequence[RunRow], screen: Screen) -> list[Told]:
    told: list[Told] = []
    ids = [row.id for row in chosen]
    ended = {row.id: row.status for row in chosen if row.status in RUN.final and wish.verb is not Verb.RETRY}
    for id, state in ended.items():
        error = RunEnded(f"Run {id} has ended ({state}) and takes nothing more.", hint="Start a new one.")
        told.append(Told(id, error=error))
    ids = [id for id in ids if id not in ended]
    with ticker(screen) as report:
        options = {"reason": wish.reason, "by": "command line"}
        async for some in tell(opened.client, wish.verb, ids, fresh=wish.fresh, force=wish.force, **options):
            told += some
            report("runs", len(told), len(chosen))
    return told


def _show_told(screen: Screen, wish: Wish, told: Sequence[Told]) -> None:
    if wish.output is not Format.TABLE:
        screen.data(wish.output, [_told_fact(each) for each in told])
        return
    if not told:
        screen.hint("No run is meant.")
        return
    done = [each for each in told if each.error is None]
    if wish.verb is Verb.RETRY:
        for each in done:
            screen.raw(each.goes_on or each.run)
    if done:
        names = f"run {done[0].run}" if len(done) == 1 else f"{len(done):,} runs"
        more = f": {', '.join(line(each.run) for each in done)}" if 1 < len(done) <= FEW else "."
        screen.say(f"{_DONE[wish.verb]} {names}{more}")
    for each in told:
        if each.error is not None:
            hint = f"  ({line(each.error.hint)})" if each.error.hint else ""
            screen.say(f"not {line(each.run)}: {line(each.error.what)}{hint}", "yellow")


def _told_fact(told: Told) -> dict[str, Any]:
    error = told.error
    return {
        "run": told.run,
        "goes_on": (told.goes_on or told.run) if error is None else None,
        "error": error.what if error is not None else "",
        "hint": error.hint if error is not None else "",
    }


async def _hint(screen: Screen, opened: Door, wish: Wish, row: RunRow) -> None:
    """Say who will read it, where nobody does."""
    if wish.verb is Verb.RETRY:
        screen.hint(f"A worker executes it:  reprise worker FILE.py{flag(wish.store)}")
    elif hint := await unread(opened.store, row, wish.store):
        screen.hint(hint)


def _code(errors: Sequence[RepriseError | None]) -> int:
    """Return the one exit code of what went wrong, 1 where it is several."""
    codes = {code_of(error) for error in errors if error is not None}
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED if codes else ExitCode.OK
