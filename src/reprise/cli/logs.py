"""``reprise logs``: what one run logged, it and its children, or every run that a query finds; also as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from heapq import merge
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from reprise.cli.config import Config, read_config
from reprise.cli.facts import log_fact
from reprise.cli.find import asked
from reprise.cli.moments import clock_time
from reprise.cli.output import Format, Screen, line
from reprise.cli.session import Door, Follow, Output, StoreUrl, door, screen_of
from reprise.cli.stop import stopping
from reprise.kernel.errors import ConfigurationError, unknown_option
from reprise.kernel.events import LogLine, Record, log_stream
from reprise.kernel.query import Is, Query, all_of
from reprise.runtime.branch import name_in
from reprise.runtime.carriage import is_of
from reprise.stores.runs import RunFilter, RunRow
from reprise.stores.tail import tail

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MOST = 1000
"""Runs of a query, the newest, of which lines that are there already are read."""
_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}

LogId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a run, the start of one, or @last.", show_default=False)
]
Lines = AsyncIterator[Record]


class Wanted(msgspec.Struct, frozen=True):
    """Which lines."""

    id: str
    query: str
    all: bool
    level: str
    last: int | None
    follow: bool


def logs(
    context: typer.Context,
    id: LogId = "",
    query: Annotated[
        str,
        typer.Option(
            "--query", "-q", metavar="QUERY", help="Of every run that it finds.", show_default=False
        ),
    ] = "",
    all: Annotated[bool, typer.Option("--all", "-a", help="Child runs too.")] = False,
    follow: Follow = False,
    level: Annotated[
        str, typer.Option("--level", "-l", metavar="LEVEL", help="Only from this level on: WARNING, ERROR …")
    ] = "INFO",
    last: Annotated[
        int | None,
        typer.Option(
            "--last",
            "-n",
            metavar="N",
            min=0,
            help="Of what is there already, the last N lines.",
            show_default=False,
        ),
    ] = None,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Print what the steps and the body of runs logged (level INFO and above), oldest first.

    reprise logs @last -f

    reprise logs -q 'workflow:survey status:open' -f -n 0 --level WARNING
    """
    if bool(id) == bool(query):
        raise ConfigurationError(
            "An id or a query, not both." if id else "Of which run?", hint="reprise logs @last, or -q QUERY"
        )
    if level.upper() not in LEVELS:
        raise unknown_option(level, LEVELS, "--level")
    wanted = Wanted(id, query, all, level.upper(), last, follow)
    asyncio.run(_logs(screen_of(context), read_config(store), wanted, output))


async def _logs(screen: Screen, config: Config, wanted: Wanted, output: Format) -> None:
    async with door(config) as opened:
        many = bool(wanted.query) or wanted.all
        lines = _of_level(_lines(opened, wanted), wanted.level)
        if output is Format.JSON and not wanted.follow:
            screen.json(msgspec.json.encode([_fact(record, many) async for record in lines]))
            return
        some = False
        with stopping() as stopped:
            async for record in _until(lines, stopped):
                if output is Format.TABLE:
                    screen.line(_text(record, many))
                else:
                    screen.row(_fact(record, many))
                some = True
    if not some and output is Format.TABLE:
        screen.hint("Nothing was logged." + ("" if many else " Child runs have logs of their own: --all"))


async def _until(lines: Lines, stopped: asyncio.Future[int]) -> Lines:
    """Yield lines until there are no more, or somebody stops it."""
    while True:
        following = asyncio.ensure_future(anext(lines, None))
        await asyncio.wait([following, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not following.done():
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            return
        if (record := following.result()) is None:
            return
        yield record


async def _of_level(lines: Lines, level: str) -> Lines:
    least = LEVELS.index(level)
    async for record in lines:
        said = msgspec.json.decode(record.data, type=LogLine).level
        # A level of somebody's own is between those that are known: it is shown.
        if said not in LEVELS or LEVELS.index(said) >= least:
            yield record


# ---------------------------------------------------------------- which lines


async def _lines(opened: Door, wanted: Wanted) -> Lines:
    """Yield the lines that are there, and with ``follow`` those that come: of one run until it has ended."""
    if wanted.id:
        row = await opened.client.resolve(wanted.id)
        rows, belongs = await _family(opened, row, all=wanted.all)
        prefix, over = log_stream(row.id), lambda: opened.client.finished(row.id)
    else:
        query = _query_of(wanted)
        rows, belongs = await opened.store.runs.find(query(), limit=MOST), Found(opened, query).has
        prefix, over = log_stream(""), None
    after = await opened.store.log.end()
    there = [await opened.store.log.read(log_stream(row.id)) for row in rows]
    records = [record for record in merge(*there, key=_place) if record.position <= after]
    for record in records if wanted.last is None else records[max(0, len(records) - wanted.last) :]:
        yield record
    if wanted.follow:
        async for record in _coming(opened, prefix, after, belongs, over):
            yield record


def _place(record: Record) -> int:
    return record.position


def _query_of(wanted: Wanted) -> Callable[[], Query]:
    return lambda: asked(wanted.query, wanted.all)


Belongs = Callable[[str], Any]
"""Awaited with the id of a run: whether its lines are wanted."""


async def _family(opened: Door, row: RunRow, *, all: bool) -> tuple[list[RunRow], Belongs]:
    """Return a run, with ``all`` also what it started, and what tells whether a run is one of them."""
    if not all:
        return [row], _is(lambda run: run == row.id)
    found = await opened.store.runs.find(RunFilter(prefix=row.id), limit=MOST, newest_first=False)
    begins = (f"{row.id}:", f"{row.id}/")
    return [each for each in found if is_of(each, row.id)], _is(
        lambda run: run == row.id or run.startswith(begins)
    )


def _is(holds: Callable[[str], bool]) -> Belongs:
    async def belongs(run: str) -> bool:
        return holds(run)

    return belongs


class Found:
    """Whether a query finds a run; asked once for each of its lines until it does."""

    def __init__(self, opened: Door, query: Callable[[], Query]) -> None:
        self._opened = opened
        self._query = query
        self._found: set[str] = set()

    async def has(self, run: str) -> bool:
        """Tell whether the query finds a run, or has found it since we look."""
        if run not in self._found:
            where = all_of(Is("id", run), self._query())
            if await self._opened.store.runs.find(where, limit=1):
                self._found.add(run)
        return run in self._found


async def _coming(
    opened: Door, prefix: str, after: int, belongs: Belongs, over: Callable[[], Any] | None
) -> Lines:
    """Yield lines as they come; ``over`` is asked whether no more will."""
    store = opened.store
    if over is None:
        async with aclosing(tail(store, after, prefix)) as records:
            async for record in records:
                if await belongs(record.stream.removeprefix(log_stream(""))):
                    yield record
        return
    while True:
        ended = await over() is not None
        if ended:
            await asyncio.sleep(LATE)
        while records := await store.log.scan(after, MOST, prefix):
            for record in records:
                after = record.position
                if await belongs(record.stream.removeprefix(log_stream(""))):
                    yield record
        if ended:
            return
        await store.signal.wait(prefix, LOOK_AGAIN)


LATE = 0.3
"""Seconds for which lines are awaited after the end of their run: they are gathered before they are written."""
LOOK_AGAIN = 0.5
"""Seconds after which is looked again although nobody said that there is something."""


# ---------------------------------------------------------------- how they look


def _fact(record: Record, many: bool) -> dict[str, Any]:
    run = {"run": record.stream.removeprefix(log_stream(""))} if many else {}
    return run | log_fact(record)


def _text(record: Record, many: bool) -> Text:
    said = msgspec.json.decode(record.data, type=LogLine)
    run = f"{line(record.stream.removeprefix(log_stream('')))}  " if many else ""
    return Text.assemble(
        (f"{clock_time(record.at)}  ", "dim"),
        (run, "cyan"),
        (f"{line(said.level):<7}  ", _STYLES.get(said.level, "")),
        (f"{line(name_in(said.key))}  " if said.key else "", "bold"),
        line(said.text),
    )
