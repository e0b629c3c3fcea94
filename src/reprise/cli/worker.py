"""``reprise worker``: serve the workflows of files until told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from reprise.app.reprise import Reprise
from reprise.cli.config import Config, read_config
from reprise.cli.drive import logs
from reprise.cli.load import AnyWorkflow, load_all
from reprise.cli.moments import clock_time, duration
from reprise.cli.output import Screen, line
from reprise.cli.run import Agents
from reprise.cli.session import StoreUrl, prepare, screen_of
from reprise.cli.stop import leave, stopping
from reprise.kernel.clock import Clock, SystemClock
from reprise.kernel.events import Event, Finished, Kind, Stranded
from reprise.kernel.machine import ExitCode
from reprise.kernel.settings import masked


def worker(
    context: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|MODULE …", help="Where the workflows are: files, plans too, or modules of packages."
        ),
    ],
    agents: Agents = "",
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", metavar="N", help="Steps executing at once.", show_default=False),
    ] = None,
    build: Annotated[
        str | None,
        typer.Option("--build", metavar="NAME", help="Name of this version of the code.", show_default=False),
    ] = None,
    accepts: Annotated[
        list[str] | None,
        typer.Option(
            "--accepts",
            metavar="BUILD",
            help="Take runs of this build too, and of no others but our own; may be repeated. Default: of all.",
            show_default=False,
        ),
    ] = None,
    store: StoreUrl = None,
) -> None:
    """Serve workflows: take runs that are due, also those of workers that died.

    Any number of workers may serve one store. SIGTERM or Ctrl-C: take nothing more, let running steps be recorded, give
    the runs back; twice leaves at once.

      reprise worker flow.py
      reprise worker pipeline.yaml --agents agents.py
      reprise worker shop.orders shop.mail --concurrency 20 --build "$(git rev-parse --short HEAD)"
    """
    config = read_config(store, {"concurrency": concurrency, "build": build, "accepts": accepts or None})
    raise typer.Exit(asyncio.run(_work(screen_of(context), config, load_all(targets, agents))))


async def _work(screen: Screen, config: Config, workflows: Sequence[AnyWorkflow]) -> int:
    store = prepare(config, create=True)
    settings = config.settings.worker
    clock = SystemClock()

    def observe(run: str, events: Sequence[Event]) -> None:
        report.observe(run, events)

    app = Reprise(
        store,
        workflows=workflows,
        concurrency=settings.concurrency,
        max_loaded=settings.max_loaded,
        max_loaded_bytes=settings.max_loaded_bytes,
        keep_generations=settings.keep_generations,
        processes=config.settings.processes,
        grace=settings.grace,
        build=settings.build,
        accepts=settings.accepts,
        observers=[observe],
        clock=clock,
        redact=config.redact,
        max_payload=config.settings.payloads.limit,
        defaults=config.settings.workflows,
    )
    report = Report(app, screen, clock)
    logs()
    with stopping() as asked:
        try:
            await app.open()
            report.ready(workflows, config)
            number = await asked
            steps = app.engine.statistics()
            screen.say(
                f"{clock_time(clock.now())}  draining: {steps['loaded']} runs here; running steps have up to {settings.grace:g} s",
                "yellow",
            )
        finally:
            await app.close()
    screen.say(f"{clock_time(clock.now())}  stopped; unfinished runs wait for the next worker")
    return leave(ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.OK)


class Report:
    """One line for each run taken, and for each that ended here. Of children only what went wrong is said."""

    def __init__(self, app: Reprise, screen: Screen, clock: Clock) -> None:
        self._app = app
        self._screen = screen
        self._clock = clock
        self._taken: dict[str, tuple[str, int, bool]] = {}
        """Workflow, when it was taken, and whether it is a child."""

    def ready(self, workflows: Sequence[AnyWorkflow], config: Config) -> None:
        """Say that work can come."""
        names = ", ".join(line(each.name) for each in workflows)
        self._say(
            f"ready: {names}; store {masked(config.store)}; {config.settings.worker.concurrency} steps at once"
        )

    def observe(self, run: str, events: Sequence[Event]) -> None:
        """Say what is worth a line; given to ``Reprise`` as an observer."""
        for event in events:
            if event.kind == Kind.RUN_OWNED:
                # The run is in memory only after this.
                asyncio.get_running_loop().call_soon(self._took, run, event.at)
            elif event.kind == Kind.RUN_FINISHED:
                finished = msgspec.json.decode(event.data, type=Finished)
                self._ended(run, finished.status, event.at, finished.error.message if finished.error else "")
            elif event.kind == Kind.RUN_STRANDED:
                self._ended(run, "stranded", event.at, msgspec.json.decode(event.data, type=Stranded).reason)
            elif event.kind == Kind.RUN_PAUSED:
                self._ended(run, "paused", event.at, "")

    def _took(self, run: str, at: int) -> None:
        execution = self._app.engine.executions.get(run)
        if execution is None:
            return
        self._taken[run] = (execution.started.workflow, at, bool(execution.started.parent))
        if not execution.started.parent:
            self._say(f"took {line(run)}  {line(execution.started.workflow)}")

    def _ended(self, run: str, status: str, at: int, why: str) -> None:
        workflow, since, child = self._taken.pop(run, ("", at, False))
        if child and status == "completed":
            return
        self._say(
            f"{status} {line(run)}  {line(workflow)}  {duration(at - since)}{'  ' if why else ''}{line(why, 200)}"
        )

    def _say(self, text: str) -> None:
        self._screen.say(f"{clock_time(self._clock.now())}  {text}")
