"""``reprise check``: prove before a deploy that every run in flight can go on with the new code."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from reprise.cli.config import Config, read_config
from reprise.cli.load import load_all
from reprise.cli.moments import ago, iso
from reprise.cli.output import Format, Screen, line
from reprise.cli.session import Output, StoreUrl, door, screen_of
from reprise.cli.ticker import ticker
from reprise.kernel.clock import SystemClock
from reprise.kernel.machine import ExitCode
from reprise.runtime.checking import Checked, Finding, Fit, Misfit, check_runs

SHOWN = 5
"""Runs that a misfit names on the screen."""
_TITLES = {
    Fit.NEEDS_PATCH: "needs a patch",
    Fit.DIVERGES: "diverges",
    Fit.FAILS: "fails",
    Fit.STRANDED: "stranded",
}


def check(
    context: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(metavar="FILE|MODULE …", help="The new code: what would be given to reprise worker."),
    ],
    query: Annotated[
        str,
        typer.Option("--query", "-q", metavar="QUERY", help="Only these runs.", show_default=False),
    ] = "",
    workflow: Annotated[
        str,
        typer.Option(
            "--workflow", "-w", metavar="NAME", help="Only runs of this workflow.", show_default=False
        ),
    ] = "",
    build: Annotated[
        str | None,
        typer.Option("--build", metavar="NAME", help="Name that this version will have.", show_default=False),
    ] = None,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Check before a deploy that every run which has not ended can go on with this code.

    Each history is replayed; nothing is executed and nothing written. What does not fit is shown with both sides: where
    the code is, and what the log holds. Exit code 0: all go on; 1: some do not; 2: the command or the code is wrong.

    reprise check flow.py

    reprise check shop.orders shop.mail -q 'env:prod' -o json
    """
    config = read_config(store, {"build": build})
    wanted = f"{query} workflow:{msgspec.json.encode(workflow).decode()}" if workflow else query
    raise typer.Exit(asyncio.run(_check(screen_of(context), config, targets, wanted, output)))


async def _check(screen: Screen, config: Config, targets: Sequence[str], query: str, output: Format) -> int:
    workflows = load_all(targets, executes=False)
    async with door(config) as opened:
        with ticker(screen) as report:
            build = config.settings.worker.build
            checked = await check_runs(opened.store, workflows, query, build=build, report=report)
    if output is Format.JSON:
        screen.json(msgspec.json.encode(_facts(checked)))
    elif output is Format.JSONL:
        screen.data(output, [_fact(checked, misfit) for misfit in checked.misfits])
    else:
        _show(screen, checked, " ".join(targets))
    return ExitCode.OK if checked.ok else ExitCode.FAILED


# ---------------------------------------------------------------- for programs


def _facts(checked: Checked) -> dict[str, Any]:
    return {
        "ok": checked.ok,
        "runs": checked.runs,
        "records": checked.records,
        "counts": {fit.value: checked.counts.get(fit, 0) for fit in Fit},
        "misfits": [_fact(checked, misfit) for misfit in checked.misfits],
    }


def _fact(checked: Checked, misfit: Misfit) -> dict[str, Any]:
    named = [
        {
            "run": one.run,
            "status": one.status,
            "build": one.build,
            "step": one.step,
            "of": one.of,
            "version": one.version,
            "at": iso(one.at) if one.at else None,
        }
        for one in checked.misfits[misfit]
    ]
    return msgspec.to_builtins(misfit) | {"runs": checked.affected[misfit], "first": named}


# ---------------------------------------------------------------- for people


def _show(screen: Screen, checked: Checked, code: str) -> None:
    good = checked.counts.get(Fit.COMPATIBLE, 0)
    if not checked.runs:
        screen.line(Text("No run is in flight."))
        return
    runs = f"{checked.runs:,} runs in flight, {checked.records:,} records replayed with {line(code)}: "
    rest = f"{checked.runs - good:,} do not." if not checked.ok else "none does not."
    screen.line(Text.assemble(runs, (f"{good:,} go on, {rest}", "green" if checked.ok else "bold red")))
    now = SystemClock().now()
    for misfit in sorted(checked.misfits, key=lambda one: -checked.affected[one]):
        screen.line(Text())
        screen.lines(_block(checked.misfits[misfit], misfit, checked.affected[misfit], now))
    if hint := _cures(checked):
        screen.hint(hint)


def _block(found: Sequence[Finding], misfit: Misfit, count: int, now: int) -> Iterator[Text]:
    names = ", ".join(line(one.run) for one in found[:SHOWN]) + (" …" if count > SHOWN else "")
    title = _TITLES[misfit.fit]
    yield Text.assemble((title, "bold red"), f"  {line(misfit.workflow)}  {_runs(count)}: {names}")
    yield Text(f"  {line(misfit.reason)}")
    if misfit.file:
        yield Text.assemble(("  code  ", "dim"), f"{misfit.place}  ", (line(misfit.source), "bold"))
    first = found[0]
    if misfit.recorded:
        of = f"record {first.version} of {line(first.run)}"
        step = f", {first.step} of {first.of}" if first.step else ""
        yield Text.assemble(
            ("  log   ", "dim"), f"{line(misfit.recorded)}  ", (f"{of}{step}, {ago(first.at, now)}", "dim")
        )
    if misfit.hint:
        yield Text(f"  {line(misfit.hint)}", "dim")


def _runs(count: int) -> str:
    return f"{count:,} run{'s' * (count > 1)}"


def _cures(checked: Checked) -> str:
    cured = {Fit.NEEDS_PATCH, Fit.DIVERGES} & {misfit.fit for misfit in checked.misfits}
    if not cured:
        return ""
    return (
        "\nCures: keep the old way for them under 'if patched(\"name\"): new … else: old'; "
        "leave them to workers of their build (reprise pin ID); "
        "or carry them over (reprise migrate ID --with MODULE:FUNCTION)."
    )
