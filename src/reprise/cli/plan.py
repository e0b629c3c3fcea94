"""``reprise plan``: definitions in files, checked and drawn."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from reprise.cli.exits import quote_of
from reprise.cli.output import Format, Screen, table
from reprise.cli.session import Output, screen_of
from reprise.kernel.errors import PlanInvalid
from reprise.kernel.machine import ExitCode
from reprise.workflows.files import load_plan
from reprise.workflows.plan import Plan

Files = Annotated[list[str], typer.Argument(metavar="FILE…", help="Plans in YAML or JSON.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="A plan in YAML or JSON.")]


def check(context: typer.Context, files: Files, output: Output = Format.TABLE) -> None:
    """Check plans: every fault with its line and column. Exit code 1 when there is one.

    reprise plan check definitions/*.yaml
    """
    screen = screen_of(context)
    plans = [(file, plan) for file in files if (plan := _load(file, screen)) is not None]
    if output is Format.TABLE:
        _show(screen, plans)
    else:
        screen.data(output, [_fact(file, plan) for file, plan in plans])
    raise typer.Exit(ExitCode.OK if len(plans) == len(files) else ExitCode.FAILED)


def draw(context: typer.Context, file: File) -> None:
    """Print a plan as a flow chart in Mermaid, which READMEs and wikis show as a picture.

    reprise plan draw pipeline.yaml
    """
    screen_of(context).raw(load_plan(file).to_mermaid().rstrip())


def _load(file: str, screen: Screen) -> Plan | None:
    try:
        return load_plan(file)
    except PlanInvalid as error:
        screen.fail(error.what, error.hint, quote_of(error))
        return None


def _show(screen: Screen, plans: list[tuple[str, Plan]]) -> None:
    if not plans:
        return
    shown = table(
        "file", "plan", "steps", "levels", "longest way", right=("steps", "levels"), fold="longest way"
    )
    for file, plan in plans:
        way = plan.critical_path()
        text = " → ".join(way if len(way) <= 8 else [*way[:4], "…", *way[-3:]])
        shown.add_row(file, plan.name, str(len(plan.steps)), str(len(plan.levels())), text)
    screen.table(shown)


def _fact(file: str, plan: Plan) -> dict[str, Any]:
    return {
        "file": file,
        "name": plan.name,
        "version": plan.version,
        "steps": len(plan.steps),
        "levels": plan.levels(),
        "critical_path": plan.critical_path(),
    }
