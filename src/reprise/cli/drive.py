"""Executing one run in this process, or watching it where another executes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from reprise.app.reprise import Reprise
from reprise.cli.config import Config
from reprise.cli.inputs import Call
from reprise.cli.load import AnyWorkflow, Target
from reprise.cli.output import Screen
from reprise.cli.paint import error_lines, status
from reprise.cli.stop import leave, stopping
from reprise.cli.tree import Tree
from reprise.cli.watch import Feed, Nothing, Picture, Show, Words, end_of, follow
from reprise.kernel.clock import SystemClock
from reprise.kernel.events import Finished
from reprise.kernel.machine import FACES, RUN, ExitCode, RunStatus
from reprise.runtime.waits import Waits, waits_of
from reprise.stores.runs import RunRow
from reprise.stores.store import Store


class Progress(StrEnum):
    """How a run is shown while it is under way."""

    AUTO = "auto"
    LIVE = "live"
    PLAIN = "plain"
    NONE = "none"


class Plan(msgspec.Struct, kw_only=True):
    """What is to be run, and how."""

    id: str
    workflow: AnyWorkflow
    workflows: list[AnyWorkflow]
    target: Target
    config: Config
    call: Call | None = None
    """Input of a new run; None = the run exists, with the input it has."""
    row: RunRow | None = None
    """The run as it was found, None = it is new."""
    progress: Progress = Progress.AUTO
    timeout: float | None = None
    deadline: float | None = None
    where: str = ""
    """The flag of the store, as it belongs into commands that are shown."""
    resume: str = ""
    """The command that lets the run go on."""


async def drive(plan: Plan, store: Store, screen: Screen) -> int:
    """Start the run or let it go on, show it, and return the exit code.

    Raises:
        RunConflict: the id belongs to a run of another workflow or input.
    """
    settings = plan.config.settings
    worker = settings.worker
    clock = SystemClock()
    feed = Feed(store, plan.id)
    app = Reprise(
        store,
        workflows=plan.workflows,
        only=plan.id,
        concurrency=worker.concurrency,
        max_loaded=worker.max_loaded,
        max_loaded_bytes=worker.max_loaded_bytes,
        keep_generations=worker.keep_generations,
        processes=settings.processes,
        grace=worker.grace,
        build=worker.build,
        observers=[feed.observe],
        clock=clock,
        redact=plan.config.redact,
        max_payload=settings.payloads.limit,
        defaults=settings.workflows,
    )
    feed.waits = partial(_waits, app)
    logs()
    elsewhere = False
    with stopping() as asked, prints_to_stderr():
        try:
            await app.open()
            await _begin(app, plan)
            finished = await _watch(app, plan, feed, screen, asked)
            if finished is None:
                elsewhere = await _is_elsewhere(app, plan.id)
                _say_stopping(screen, app, plan)
        finally:
            feed.close()
            await app.close()
    if finished is not None:
        return leave(conclude(screen, feed.tree, finished, plan.where, plan.resume))
    if elsewhere:
        screen.hint(f"Run {plan.id} goes on elsewhere. Look:  reprise show {plan.id}{plan.where}")
    else:
        screen.hint(f"Run {plan.id} is kept. Go on with:  {plan.resume}")
    return leave(ExitCode.INTERRUPTED if asked.done() else ExitCode.TIMEOUT)


async def _is_elsewhere(app: Reprise, run: str) -> bool:
    """Tell whether another worker has the run."""
    return (await app.client.row(run)).owner not in (None, app.engine.worker)


def _waits(app: Reprise, run: str) -> Waits | None:
    execution = app.engine.executions.get(run)
    return waits_of(execution) if execution is not None else None


async def _watch(
    app: Reprise, plan: Plan, feed: Feed, screen: Screen, asked: asyncio.Future[int]
) -> Finished | None:
    """Show the run until it has ended; None when somebody stopped us, or the time was over."""
    ended = asyncio.ensure_future(end_of(app.client, plan.id))
    with shown(plan.progress, screen) as show:
        watching = asyncio.ensure_future(follow(feed, show, app.clock, ended))
        both: list[asyncio.Task[Any]] = [ended, watching]
        await asyncio.wait([*both, asked], timeout=plan.timeout, return_when=asyncio.FIRST_COMPLETED)
        if watching.done() or ended.done():
            await watching
            return ended.result()
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
    return None


async def _begin(app: Reprise, plan: Plan) -> None:
    row = plan.row
    if plan.call is not None:
        args, kwargs = plan.call
        tags = plan.target.tags(plan.workflow)
        await app.start(plan.workflow, *args, id=plan.id, kwargs=kwargs, tags=tags, deadline=plan.deadline)
    if row is not None and row.status not in RUN.final:
        await app.resume(plan.id, plan.workflow)


def _say_stopping(screen: Screen, app: Reprise, plan: Plan) -> None:
    waits = _waits(app, plan.id)
    steps = 0 if waits is None else sum(waits.steps.values())
    grace = plan.config.settings.worker.grace
    what = f"what runs now has {grace:g} s to end and be recorded" if steps else "nothing is under way"
    screen.say(f"Stopping: {what}. Ctrl-C again leaves at once.", "yellow")


@contextmanager
def shown(progress: Progress, screen: Screen) -> Generator[Show]:
    """Show a run as it was asked for."""
    live = progress is Progress.LIVE or (progress is Progress.AUTO and screen.err.is_terminal)
    if live:
        picture = Picture(screen)
        try:
            yield picture
        finally:
            picture.close()
    else:
        yield Nothing() if progress is Progress.NONE else Words(screen)


@contextmanager
def prints_to_stderr() -> Generator[None]:
    """Let what steps print go to stderr, because stdout is for the result.

    Line by line, not piece by piece as stderr itself would take it: they print from threads.
    """
    with (
        open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False) as lines,
        redirect_stdout(lines),
    ):
        yield


def conclude(screen: Screen, tree: Tree, finished: Finished, where: str, resume: str) -> int:
    """Print how a run ended: its result to stdout, the rest to stderr; return the exit code."""
    run, error = tree.id, finished.error
    if finished.status == RunStatus.COMPLETED:
        screen.json(bytes(finished.value))
        screen.hint(f"Look at it with:  reprise show {run}{where}")
        return ExitCode.OK
    if error is not None and error.type:
        for text in error_lines(
            error.type, error.message, error.traceback if finished.status == RunStatus.FAILED else ""
        ):
            screen.say(text)
    elif error is not None and error.message:
        screen.say(error.message, "red")
    screen.say(status(finished.status))
    screen.hint(f"Look at it with:  reprise show {run}{where}")
    if finished.status not in RUN.final:
        screen.hint(f"Let it go on with:  {resume}")
    if error is not None and error.type == "reprise.DeadlineExceeded":
        return ExitCode.TIMEOUT
    return FACES[finished.status].exit


def resume_command(run: str, target: Target, config: Config, where: str) -> str:
    """Return the command that lets a run go on, as it can be typed in this folder."""
    if config.store.startswith("memory:"):
        return "(a memory store ends with its process)"
    file = f" --file {target.tag}" if Path(target.tag).is_absolute() else ""
    return f"reprise resume {run}{file}{where}"


def logs() -> None:
    """Let what steps log be kept (INFO and above) and shown (WARNING and above), unless the code set logging up."""
    root = logging.getLogger()
    if not root.handlers and logging.lastResort is not None:
        root.setLevel(logging.INFO)
        root.addHandler(logging.lastResort)
