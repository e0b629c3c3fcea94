"""``reprise schedule``: runs by the calendar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.text import Text

from reprise.cli.config import Config, read_config
from reprise.cli.inputs import read_input
from reprise.cli.load import Target, load, parse_target
from reprise.cli.moments import ago, iso
from reprise.cli.output import Format, Screen, line, table
from reprise.cli.run import Agents, Inputs, TargetName
from reprise.cli.session import Output, StoreUrl, flag, prepare, screen_of
from reprise.kernel.clock import MICROSECONDS, SystemClock, to_datetime
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.policy import seconds_in
from reprise.runtime.registry import Registry
from reprise.workflows.calendar import begins
from reprise.workflows.schedule import BackfillOverlap, CatchUp, Overlap, ScheduleState
from reprise.workflows.schedules import Schedules

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.")]
Cron = Annotated[
    str,
    typer.Option(
        "--cron",
        metavar="'M H D M W'",
        help="Minute hour day month weekday, or @daily and its like.",
        show_default=False,
    ),
]
Every = Annotated[
    str,
    typer.Option(
        "--every", metavar="LENGTH", help="Real time between two: 90s, 15m, 1d12h.", show_default=False
    ),
]
At = Annotated[
    list[str] | None,
    typer.Option(
        "--at", metavar="TIME", help="A moment, as 2026-03-01T02:00; may be repeated.", show_default=False
    ),
]
Zone = Annotated[
    str, typer.Option("--timezone", metavar="ZONE", help="Whose clock it goes by: Europe/Berlin.")
]
Jitter = Annotated[
    str, typer.Option("--jitter", metavar="LENGTH", help="Begin up to so much later.", show_default=False)
]
Start = Annotated[
    str, typer.Option("--start", metavar="TIME", help="Fire nothing before.", show_default=False)
]
End = Annotated[
    str, typer.Option("--end", metavar="TIME", help="Fire nothing from then on.", show_default=False)
]
Overlaps = Annotated[
    Overlap, typer.Option("--overlap", help="What becomes of a fire time while the run before goes on.")
]
CatchUps = Annotated[
    CatchUp, typer.Option("--catch-up", help="What to make up for that passed while no worker was there.")
]
Window = Annotated[
    str,
    typer.Option(
        "--window", metavar="LENGTH", help="Make up for nothing later than that.", show_default=False
    ),
]
Deadline = Annotated[
    str, typer.Option("--deadline", metavar="LENGTH", help="Cancel each run after that.", show_default=False)
]
Paused = Annotated[bool, typer.Option("--paused", help="Fire nothing until it is resumed.")]


@asynccontextmanager
async def _schedules(config: Config, *, create: bool = False) -> AsyncGenerator[Schedules]:
    """Open the schedules of a store."""
    store = prepare(config, create=create)
    await store.start()
    try:
        yield Schedules(store, SystemClock(), Registry(defaults=config.settings.workflows))
    finally:
        await store.stop()


# ---------------------------------------------------------------- look


def list_(context: typer.Context, output: Output = Format.TABLE, store: StoreUrl = None) -> None:
    """List the schedules of a store: when they fire next, and what they did.

    reprise schedule list
    """
    asyncio.run(_list(screen_of(context), store, output))


async def _list(screen: Screen, url: str | None, output: Format) -> None:
    async with _schedules(read_config(url)) as schedules:
        found = await schedules.list()
    if output is not Format.TABLE:
        screen.data(output, [_fact(state) for state in found])
        return
    if not found:
        screen.say(
            f"There are no schedules.  Add one: reprise schedule add NAME FILE.py --cron '0 2 * * *'{flag(url)}"
        )
        return
    now = SystemClock().now()
    shown = table(
        "name", "workflow", "when", "next", "state", "started", "skipped", "missed",
        right=("started", "skipped", "missed"), fold="state",
    )  # fmt: skip
    for state in found:
        schedule = state.schedule
        counts = (state.started, state.skipped, state.missed)
        cells = (schedule.name, schedule.workflow, str(schedule.timing), _next(state, now), _standing(state))
        shown.add_row(*map(line, cells), *map(str, counts))
    screen.table(shown)


def _next(state: ScheduleState, now: int) -> str:
    return ago(state.next()[0], now) if state.next() else ""


def _standing(state: ScheduleState) -> str:
    """Return in a few words what a schedule does or waits for."""
    parts = [f"paused: {state.note}" if state.note else "paused"] if state.paused else []
    if not state.paused and not state.next():
        parts.append("over")
    if state.waiting:
        parts.append(f"{len(state.waiting)} waiting")
    if state.backfills:
        parts.append("makes up for the past")
    return ", ".join(parts) or "on"


def _fact(state: ScheduleState) -> dict[str, Any]:
    schedule = state.schedule
    return {
        "name": schedule.name,
        "workflow": schedule.workflow,
        "when": str(schedule.timing),
        "timezone": schedule.timing.timezone,
        "overlap": schedule.overlap,
        "catch_up": schedule.catch_up,
        "next": [iso(at) for at in state.next()],
        "paused": state.paused,
        "note": state.note,
        "waiting": [iso(at) for at in state.waiting],
        "runs": state.runs,
        "started": state.started,
        "skipped": state.skipped,
        "missed": state.missed,
    }


def next_(
    context: typer.Context,
    name: Name,
    number: Annotated[int, typer.Option("--number", "-n", metavar="N", min=1, help="So many.")] = 5,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Print the next fire times of a schedule, by the clock of its time zone.

    reprise schedule next nightly -n 10
    """
    asyncio.run(_print_next(screen_of(context), store, name, number, output))


async def _print_next(screen: Screen, url: str | None, name: str, number: int, output: Format) -> None:
    async with _schedules(read_config(url)) as schedules:
        state = await schedules.get(name)
    timing, now = state.schedule.timing, SystemClock().now()
    times = [(at, begins(timing, name, at)) for at in state.next(number)]
    if output is not Format.TABLE:
        screen.data(output, [{"fire_time": iso(at), "begins": iso(begin)} for at, begin in times])
    for at, begin in times if output is Format.TABLE else ():
        here = to_datetime(at).astimezone(ZoneInfo(timing.timezone))
        late = f", begins {(begin - at) / MICROSECONDS:.1f} s later" if begin != at else ""
        screen.line(Text(f"{here.isoformat(' ', 'auto')}  {ago(at, now)}{late}"))
    if not times:
        screen.say(f"The schedule {name!r} is {'paused' if state.paused else 'over'}.")


# ---------------------------------------------------------------- change


def add(
    context: typer.Context,
    name: Name,
    target: TargetName,
    cron: Cron = "",
    every: Every = "",
    at: At = None,
    timezone: Zone = "UTC",
    jitter: Jitter = "",
    start: Start = "",
    end: End = "",
    overlap: Overlaps = "skip",
    catch_up: CatchUps = "one",
    window: Window = "",
    deadline: Deadline = "",
    input: Inputs = None,
    agents: Agents = "",
    paused: Paused = False,
    store: StoreUrl = None,
) -> None:
    """Start runs of a workflow by the calendar: add a schedule, or change the one of that name.

    Every worker of the store starts what is due, each fire time once.

    reprise schedule add nightly flow.py:report --cron '0 2 * * *' --timezone Europe/Berlin
    reprise schedule add weekly pipeline.yaml --agents agents.py --every 7d -i topic=owls
    reprise schedule add poll flow.py:look --every 15m --jitter 1m -i url=https://example.com
    """
    options: dict[str, Any] = {
        "cron": cron,
        "every": _length(every),
        "at": [_time(text) for text in at or ()],
        "timezone": timezone,
        "jitter": _length(jitter) or 0,
        "start": _time(start) if start else None,
        "end": _time(end) if end else None,
        "overlap": overlap,
        "catch_up": catch_up,
        "window": _length(window),
        "deadline": _length(deadline),
        "paused": paused,
    }
    asyncio.run(
        _add(screen_of(context), store, name, parse_target(target, agents), tuple(input or ()), options)
    )


async def _add(
    screen: Screen, url: str | None, name: str, target: Target, given: Sequence[str], options: dict[str, Any]
) -> None:
    workflow = load(target).pick(target.name)
    args, kwargs = read_input(workflow, given)
    tags = target.tags(workflow)
    async with _schedules(read_config(url), create=True) as schedules:
        state = await schedules.add(name, workflow, args=args, kwargs=kwargs, tags=tags, **options)
    if state.paused:
        screen.say(f"Schedule {name!r} is there, and paused.")
    elif times := state.next():
        screen.say(f"Schedule {name!r} fires next {ago(times[0], SystemClock().now())}, at {iso(times[0])}.")
    else:
        screen.say(f"Schedule {name!r} is there, and never fires: all its times are past.", "yellow")
    screen.hint(f"A worker starts what is due:  reprise worker {target.flags}{flag(url)}")


def pause(
    context: typer.Context,
    name: Name,
    note: Annotated[
        str, typer.Option("--note", metavar="TEXT", help="Why; kept with it.", show_default=False)
    ] = "",
    store: StoreUrl = None,
) -> None:
    """Let a schedule fire no more until it is resumed. Runs that it started go on.

    reprise schedule pause nightly --note "the mail server is being mended"
    """

    async def act() -> None:
        async with _schedules(read_config(store)) as schedules:
            await schedules.pause(name, note)

    asyncio.run(act())
    screen_of(context).say(f"Schedule {name!r} is paused.")


def resume(context: typer.Context, name: Name, store: StoreUrl = None) -> None:
    """Let a paused schedule fire again, from now on.

    reprise schedule resume nightly
    """

    async def act() -> ScheduleState:
        async with _schedules(read_config(store)) as schedules:
            return await schedules.resume(name)

    state = asyncio.run(act())
    screen_of(context).say(f"Schedule {name!r} fires next {_next(state, SystemClock().now()) or 'never'}.")


def remove(context: typer.Context, name: Name, store: StoreUrl = None) -> None:
    """Remove a schedule. Runs that it started go on.

    reprise schedule remove nightly
    """

    async def act() -> None:
        async with _schedules(read_config(store)) as schedules:
            await schedules.remove(name)

    asyncio.run(act())
    screen_of(context).say(f"Schedule {name!r} is removed.")


def trigger(context: typer.Context, name: Name, store: StoreUrl = None) -> None:
    """Start a run of a schedule now, also while it is paused; print the run's id.

    reprise schedule trigger nightly
    """

    async def act() -> str:
        async with _schedules(read_config(store)) as schedules:
            return await schedules.trigger(name)

    screen_of(context).raw(asyncio.run(act()))


def backfill(
    context: typer.Context,
    name: Name,
    since: Annotated[str, typer.Argument(metavar="SINCE", help="From this moment on: 2026-03-01T02:00.")],
    until: Annotated[
        str, typer.Argument(metavar="[UNTIL]", help="To before this one, default now.", show_default=False)
    ] = "",
    overlap: Annotated[
        BackfillOverlap, typer.Option("--overlap", help="One after the other, or all at once.")
    ] = "queue",
    store: StoreUrl = None,
) -> None:
    """Make up for fire times of the past for which there was no run. Times are those of the schedule's time zone.

    reprise schedule backfill nightly 2026-03-01 2026-03-08
    """

    async def act() -> int:
        async with _schedules(read_config(store)) as schedules:
            return await schedules.backfill(
                name, _time(since), _time(until) if until else None, overlap=overlap
            )

    number = asyncio.run(act())
    screen_of(context).say(f"Schedule {name!r} makes up for {number} fire time{'s' if number != 1 else ''}.")


def _length(text: str) -> float | None:
    return seconds_in(text) if text else None


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no moment.", hint="Write 2026-03-01, 2026-03-01T02:00, or 2026-03-01T02:00+01:00."
        ) from None
