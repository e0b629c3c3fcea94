"""``reprise plan``: definitions in files, checked, drawn and run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from reprise.cli.drive import Progress
from reprise.cli.exits import quote_of
from reprise.cli.load import parse_target
from reprise.cli.output import Format, Screen, table
from reprise.cli.run import (
    Again,
    Agents,
    Concurrency,
    Deadline,
    Detach,
    Inputs,
    NewId,
    Shown,
    Timeout,
    Wanted,
    carry_out,
)
from reprise.cli.session import Output, StoreUrl, screen_of
from reprise.kernel.errors import ConfigurationError, PlanInvalid
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


def run(
    context: typer.Context,
    file: File,
    input: Inputs = None,
    agents: Agents = "",
    id: NewId = "",
    again: Again = False,
    detach: Detach = False,
    timeout: Timeout = None,
    deadline: Deadline = None,
    store: StoreUrl = None,
    concurrency: Concurrency = None,
    progress: Shown = Progress.AUTO,
) -> None:
    """Run a plan of a file, durably; its output is printed to stdout as JSON.

    Its steps are done by the agents that --agents names, and by those of installed packages. Workflows that steps name are
    found where the agents are, or as plans in files of their names beside this one. Whatever is not known is said before
    anything starts.

    An id that exists is not started twice: unfinished, it goes on with the steps that it was started with; finished, its
    output is printed again. The run remembers its file and its agents: reprise resume ID.

      reprise plan run pipeline.yaml -i topic=owls --agents agents.py
      reprise plan run pipeline.yaml -i @inputs.json --agents shop.agents:registry --id owls-7
    """
    target = parse_target(file, agents)
    if not target.is_plan:
        raise ConfigurationError(
            f"{file} is no plan by its name, which ends in .yaml, .yml or .json.",
            hint=f"A workflow in Python: reprise run {file}",
        )
    wanted = Wanted(
        target=target,
        inputs=tuple(input or ()),
        id=id,
        again=again,
        detach=detach,
        timeout=timeout,
        deadline=deadline,
        store=store,
        progress=progress,
    )
    carry_out(context, wanted, concurrency)


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
