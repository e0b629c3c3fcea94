"""``reprise queue``: tasks for whoever is free."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
import typer

from reprise.cli.config import read_config
from reprise.cli.drive import logs
from reprise.cli.load import load_handlers
from reprise.cli.moments import ago, clock_time, iso
from reprise.cli.output import Format, Screen, line, table
from reprise.cli.session import Output, StoreUrl, flag, prepare, screen_of
from reprise.cli.stop import leave, stopping
from reprise.coordination.hands import Handlers
from reprise.coordination.queue import TaskQueue
from reprise.coordination.tasks import TaskInfo, TaskQueueStats
from reprise.kernel.clock import SystemClock, from_datetime
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.machine import ExitCode
from reprise.kernel.policy import seconds_in
from reprise.kernel.settings import masked

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")]
Limit = Annotated[int, typer.Option("--limit", "-n", metavar="N", help="As many at most.")]
TaskType = Annotated[
    str, typer.Option("--type", "-t", metavar="TYPE", help="Only of this type.", show_default=False)
]
Reason = Annotated[
    str,
    typer.Option("--reason", "-r", metavar="TEXT", help="Only those that say this.", show_default=False),
]


@asynccontextmanager
async def _queue(
    url: str | None, name: str, *, create: bool = False, **options: Any
) -> AsyncGenerator[TaskQueue]:
    """Open a queue of a store."""
    config = read_config(url)
    store = prepare(config, create=create)
    await store.start()
    try:
        async with TaskQueue(store, name, settings=config.settings.task_queue, **options) as queue:
            yield queue
    finally:
        await store.stop()


# ---------------------------------------------------------------- work


def worker(
    context: typer.Context,
    name: Name,
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE|MODULE[:NAME]",
            help="Who does the tasks: a mapping of task types to functions, or a function; 'handlers' if none is named.",
        ),
    ],
    concurrency: Annotated[int, typer.Option("--concurrency", metavar="N", help="Tasks at one time.")] = 50,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="LENGTH", help="How long a try may take.", show_default=False)
    ] = "",
    visibility: Annotated[
        str,
        typer.Option(
            "--visibility-timeout",
            metavar="LENGTH",
            help="When others get the tasks of a worker that died.",
            show_default=False,
        ),
    ] = "",
    store: StoreUrl = None,
) -> None:
    """Do the tasks of a queue, also those of workers that died.

    Any number of workers may serve one queue. SIGTERM or Ctrl-C: take nothing more, let running tasks end, give the others
    back; twice leaves at once.

      reprise queue worker mail handlers.py
      reprise queue worker mail shop.mail:handlers --concurrency 20 --timeout 90s
    """
    options: dict[str, Any] = {"concurrency": concurrency}
    if timeout:
        options["timeout"] = seconds_in(timeout)
    if visibility:
        options["visibility_timeout"] = seconds_in(visibility)
    code = asyncio.run(_work(screen_of(context), store, name, load_handlers(target), options))
    raise typer.Exit(code)


async def _work(
    screen: Screen, url: str | None, name: str, handlers: Handlers, options: dict[str, Any]
) -> int:
    logs()
    clock = SystemClock()

    def say(text: str) -> None:
        screen.say(f"{clock_time(clock.now())}  {text}")

    with stopping() as asked:
        async with _queue(url, name, create=True) as queue:
            work = queue.worker(handlers, **options)
            async with work:
                types = ", ".join(line(type) for type in handlers) if not callable(handlers) else "all types"
                where = masked(read_config(url).store)
                say(
                    f"ready: queue {line(name)} ({types}); store {where}; {options['concurrency']} tasks at once"
                )
                number = await asked
                say(f"draining: {work.statistics()['running']} tasks are being done")
            counts = work.statistics()
            say(
                f"stopped; {counts['completed']} completed, {counts['failed']} failed, {counts['dead']} given up"
            )
    return leave(ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.OK)


# ---------------------------------------------------------------- look


def stats(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="[QUEUE]", help="Name of the queue; all of them if it is left out.", show_default=False
        ),
    ] = "",
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Count what is in queues, and what went through them.

    reprise queue stats
    """
    asyncio.run(_stats(screen_of(context), store, name, output))


async def _stats(screen: Screen, url: str | None, name: str, output: Format) -> None:
    async with _queue(url, name or "-") as queue:
        store = await queue.start()
        names = [name] if name else await store.queue.names()
        found = {each: await TaskQueue(store, each).get_queue_stats() for each in names}
    if output is not Format.TABLE:
        screen.data(output, [{"queue": each} | msgspec.to_builtins(counts) for each, counts in found.items()])
        return
    if not found:
        screen.say("There are no queues with tasks.")
        return
    columns = ("pending", "scheduled", "processing", "completed", "failed", "dead", "oldest", "workers")
    shown = table("queue", *columns, "state", right=columns)
    for each, counts in found.items():
        shown.add_row(line(each), *_counts(counts), "paused" if counts.paused else "")
    screen.table(shown)
    dead = next((each for each, counts in found.items() if counts.dead), "")
    if dead:
        screen.hint(f"Why they died:  reprise queue dead {dead}{flag(url)}")


def _counts(counts: TaskQueueStats) -> list[str]:
    numbers = (
        counts.pending,
        counts.scheduled,
        counts.processing,
        counts.completed,
        counts.failed,
        counts.dead,
    )
    return [*map(str, numbers), f"{counts.oldest_age_seconds:.0f} s", str(counts.workers)]


def peek(
    context: typer.Context,
    name: Name,
    state: Annotated[
        str,
        typer.Option("--state", metavar="STATE", help="pending, scheduled, processing, completed or dead."),
    ] = "pending",
    limit: Limit = 20,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Show tasks without taking them, the next first.

    reprise queue peek mail
    reprise queue peek mail --state scheduled
    """
    asyncio.run(_peek(screen_of(context), store, name, state, limit, output))


async def _peek(screen: Screen, url: str | None, name: str, state: str, limit: int, output: Format) -> None:
    async with _queue(url, name) as queue:
        found = await queue.peek(state, limit)
    _show(screen, found, output, f"There are no {state} tasks in the queue {name}.")


def dead(
    context: typer.Context,
    name: Name,
    task_type: TaskType = "",
    reason: Reason = "",
    limit: Limit = 20,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Show tasks that were given up, and why, those that died first first.

    reprise queue dead mail
    reprise queue dead mail --reason "connection refused" -o jsonl
    """
    asyncio.run(_dead(screen_of(context), store, name, task_type, reason, limit, output))


async def _dead(
    screen: Screen, url: str | None, name: str, task_type: str, reason: str, limit: int, output: Format
) -> None:
    async with _queue(url, name) as queue:
        found = await queue.dead_letters.list(limit, task_type=task_type, reason=reason)
    _show(screen, found, output, f"There are no such dead letters in the queue {name}.")
    if found and output is Format.TABLE:
        screen.hint(f"Another chance for one:  reprise queue requeue {name} {found[0].task_id}{flag(url)}")


def _show(screen: Screen, found: list[TaskInfo], output: Format, nothing: str) -> None:
    if output is not Format.TABLE:
        screen.data(output, [_fact(info) for info in found])
        return
    if not found:
        screen.say(nothing)
        return
    now = SystemClock().now()
    shown = table(
        "task", "type", "priority", "tries", "since", "payload", "reason", right=("tries",), fold="reason"
    )
    for info in found:
        payload = msgspec.json.encode(info.payload).decode()
        since = ago(from_datetime(info.ended_at or info.enqueued_at), now)
        cells = (info.task_id, info.task_type, info.priority.name.lower(), str(info.tries), since)
        shown.add_row(*map(line, cells), line(payload, 40), line(info.reason, 200))
    screen.table(shown)


def _fact(info: TaskInfo) -> dict[str, Any]:
    fact: dict[str, Any] = msgspec.to_builtins(info)
    fact["priority"] = info.priority.name.lower()
    fact["attempts"] = [
        {"number": each.number, "at": iso(each.at), "worker": each.worker, "error": each.error}
        for each in info.attempts
    ]
    return fact


# ---------------------------------------------------------------- act


def requeue(
    context: typer.Context,
    name: Name,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[TASK …]", help="Ids of dead tasks.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that are dead.")] = False,
    task_type: TaskType = "",
    reason: Reason = "",
    store: StoreUrl = None,
) -> None:
    """Give dead tasks all their tries again; what happened to them stays known.

    reprise queue requeue mail task_123
    reprise queue requeue mail --reason "connection refused"
    """
    if bool(ids) == bool(all_ or task_type or reason):
        raise ConfigurationError(
            "It is not clear which dead tasks are meant.", hint="Give ids, or --type, --reason or --all."
        )
    asyncio.run(_requeue(screen_of(context), store, name, ids or [], all_, task_type, reason))


async def _requeue(
    screen: Screen, url: str | None, name: str, ids: list[str], all_: bool, task_type: str, reason: str
) -> None:
    async with _queue(url, name) as queue:
        count = await queue.dead_letters.requeue(*ids, all=all_, task_type=task_type, reason=reason)
    screen.say(f"{count} of queue {name} will be tried again.")


def pause(context: typer.Context, name: Name, store: StoreUrl = None) -> None:
    """Let nobody take tasks out of a queue; what is being done goes on, and more can be put in.

    reprise queue pause mail
    """
    asyncio.run(_rest(screen_of(context), store, name, paused=True))


def resume(context: typer.Context, name: Name, store: StoreUrl = None) -> None:
    """Let tasks be taken out of a queue again.

    reprise queue resume mail
    """
    asyncio.run(_rest(screen_of(context), store, name, paused=False))


async def _rest(screen: Screen, url: str | None, name: str, *, paused: bool) -> None:
    async with _queue(url, name) as queue:
        await (queue.pause() if paused else queue.resume())
    if paused:
        screen.say(f"The queue {name} rests.")
        screen.hint(f"Go on:  reprise queue resume {name}{flag(url)}")
    else:
        screen.say(f"The queue {name} goes on.")
