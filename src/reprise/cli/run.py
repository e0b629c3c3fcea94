"""``reprise run``."""

from __future__ import annotations

import asyncio
from typing import Annotated, NoReturn

import msgspec
import typer

from reprise.app.reprise import Reprise
from reprise.cli.config import Config, read_config
from reprise.cli.drive import Plan, Progress, drive, resume_command
from reprise.cli.inputs import read_input
from reprise.cli.load import Loaded, Target, load, parse_target
from reprise.cli.output import Screen
from reprise.cli.session import StoreUrl, flag, prepare, screen_of
from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import ConfigurationError, RunConflict, RunNotFound
from reprise.kernel.ids import Ids
from reprise.kernel.machine import RUN, ExitCode
from reprise.runtime.client import Client
from reprise.stores.runs import RunRow
from reprise.stores.store import Store

Shown = Annotated[
    Progress,
    typer.Option("--progress", help="How the run is shown: auto = live on a terminal, else plain lines."),
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", help="Wait no longer; the run is kept.", show_default=False),
]
TargetName = Annotated[
    str,
    typer.Argument(metavar="FILE.py[:WORKFLOW]", help="A file, or a module: package.module:workflow."),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="INPUT",
        help="name=value, JSON, @file.json, or - for stdin; may be repeated.",
        show_default=False,
    ),
]
NewId = Annotated[
    str,
    typer.Option(
        "--id", metavar="ID", help="Id of the run: the same again is the same run.", show_default=False
    ),
]
Again = Annotated[bool, typer.Option("--again", help="If the run has ended, start a fresh one: ID-2, ID-3 …")]
Agents = Annotated[
    str,
    typer.Option(
        "--agents",
        metavar="FILE.py|MODULE[:NAME]",
        help="Who does the steps of a plan: a function of (agent_type, task, context), or a mapping of names; default: "
        "agents or agent_executor in it, else its functions by their names; of what it has not, installed packages.",
        show_default=False,
    ),
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Start it and leave it to a worker.")]
Deadline = Annotated[
    float | None,
    typer.Option("--deadline", metavar="SECONDS", help="Cancel the run after this time.", show_default=False),
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", metavar="N", help="Steps executing at once.", show_default=False),
]


def run(
    context: typer.Context,
    target: TargetName,
    input: Inputs = None,
    id: NewId = "",
    again: Again = False,
    detach: Detach = False,
    timeout: Timeout = None,
    deadline: Deadline = None,
    store: StoreUrl = None,
    concurrency: Concurrency = None,
    progress: Shown = Progress.AUTO,
) -> None:
    """Run a workflow of a file, durably.

    The result is printed to stdout as JSON. An id that exists is not started twice: unfinished, it goes on with the
    code of FILE; finished, its result is printed again.

    Ctrl-C once stops in order and keeps the run; twice leaves at once.

      reprise run flow.py -i url=https://example.com
      reprise run flow.py:survey -i '{"urls": ["a", "b"]}' --id survey-7
    """
    where = parse_target(target)
    if where.is_plan:
        raise ConfigurationError(
            f"{where.place} is a plan.", hint=f"Run it with: reprise plan run {where.place} --agents FILE.py"
        )
    wanted = Wanted(
        target=where,
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


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    target: Target
    inputs: tuple[str, ...] = ()
    id: str = ""
    again: bool = False
    detach: bool = False
    timeout: float | None = None
    deadline: float | None = None
    store: str | None = None
    progress: Progress = Progress.AUTO


def carry_out(context: typer.Context, wanted: Wanted, concurrency: int | None) -> NoReturn:
    """Start or find the run that is wanted, let it go on here or leave it to a worker, and exit."""
    config = read_config(wanted.store, {"concurrency": concurrency})
    raise typer.Exit(asyncio.run(_run(wanted, config, screen_of(context))))


async def _run(wanted: Wanted, config: Config, screen: Screen) -> int:
    loaded = load(wanted.target)
    store = prepare(config, create=True)
    await store.start()
    try:
        id, row = await _find(Client(store, SystemClock()), wanted)
        plan = _plan(wanted, config, loaded, id, row)
        return await (_detach(plan, store, screen) if wanted.detach else drive(plan, store, screen))
    finally:
        await store.stop()


def _plan(wanted: Wanted, config: Config, loaded: Loaded, id: str, row: RunRow | None) -> Plan:
    workflow = loaded.pick(wanted.target.name or (row.workflow if row is not None else ""))
    if row is not None and row.workflow != workflow.name:
        raise RunConflict(
            f"Run {id} exists and is a run of {row.workflow!r}, not of {workflow.name!r}.",
            hint="Choose another id.",
        )
    return Plan(
        id=id,
        workflow=workflow,
        workflows=loaded.all,
        target=wanted.target,
        config=config,
        call=read_input(workflow, wanted.inputs) if row is None or wanted.inputs else None,
        row=row,
        progress=wanted.progress,
        timeout=wanted.timeout,
        deadline=wanted.deadline,
        where=flag(wanted.store),
        resume=resume_command(id, wanted.target, config, flag(wanted.store)),
    )


async def _find(client: Client, wanted: Wanted) -> tuple[str, RunRow | None]:
    """Return the id to use and the run that has it; with ``--again``, the first of ID, ID-2 … that has not ended."""
    if not wanted.id:
        return Ids(SystemClock().now).new(), None
    id, number = wanted.id, 1
    while True:
        try:
            row = await client.row(id)
        except RunNotFound:
            return id, None
        if not (wanted.again and row.status in RUN.final):
            return id, row
        number += 1
        id = f"{wanted.id}-{number}"


async def _detach(plan: Plan, store: Store, screen: Screen) -> int:
    settings = plan.config.settings
    async with Reprise(
        store,
        worker=False,
        clock=SystemClock(),
        max_payload=settings.payloads.limit,
        defaults=settings.workflows,
    ) as app:
        if plan.call is not None:
            args, kwargs = plan.call
            tags = plan.target.tags(plan.workflow)
            await app.start(
                plan.workflow,
                *args,
                id=plan.id,
                kwargs=kwargs,
                tags=tags,
                deadline=plan.deadline,
                detach=True,
            )
        elif plan.row is not None and plan.row.status not in RUN.final:
            await app.client.resume(plan.id)
    screen.raw(plan.id)
    screen.hint(f"A worker executes it:  reprise worker {plan.target.flags}{plan.where}")
    return ExitCode.OK
