"""``reprise ps``: find runs by a query, page by page, or count them."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from reprise.cli.config import Config, read_config
from reprise.cli.facts import run_fact
from reprise.cli.moments import ago, duration
from reprise.cli.output import Format, Screen, line, table
from reprise.cli.paint import status as painted
from reprise.cli.session import Output, StoreUrl, door, is_alive, screen_of
from reprise.cli.top import Pace, watch as watch_runs
from reprise.cli.why import Lines, lines_of, why_not
from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import nearest, unknown_option
from reprise.kernel.machine import RUN
from reprise.kernel.query import TAG, Is, Query, all_of, fields
from reprise.kernel.query_text import parse
from reprise.stores.runs import GROUPS, RunRow, group_name
from reprise.stores.store import Store

Conditions = Annotated[
    list[str] | None,
    typer.Argument(metavar="QUERY", help="Which runs; all of its conditions must hold.", show_default=False),
]
CountBy = Annotated[
    str,
    typer.Option(
        "--count",
        "-c",
        metavar="BY",
        help=f"Count them by {', '.join(GROUPS)} or the name of a tag.",
        show_default=False,
    ),
]
Before = Annotated[
    str,
    typer.Option(
        "--before", metavar="ID", help="Those that come after this one in the list.", show_default=False
    ),
]
Children = Annotated[
    bool, typer.Option("--all", "-a", help="Child runs too, if the query does not ask of id or parent.")
]


class Page(msgspec.Struct, frozen=True):
    """What is asked for."""

    text: str
    """The query as it was written."""
    query: Query
    limit: int
    before: str
    by: str
    """What runs are counted by, '' for listing them."""

    @property
    def tags(self) -> list[str]:
        """Names of the tags that the query asks of."""
        return sorted(field.removeprefix(TAG) for field in fields(self.query) if field.startswith(TAG))


def ps(
    context: typer.Context,
    query: Conditions = None,
    count: CountBy = "",
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many.")] = 20,
    before: Before = "",
    all: Children = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again and again: counts, rates, the newest runs.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, help="With --watch: how often.")
    ] = 1.0,
    times: Annotated[
        int,
        typer.Option(
            "--times", metavar="N", min=0, help="With --watch: look so often, then end.", show_default=False
        ),
    ] = 0,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Find runs, newest first. A query is conditions, each FIELD:VALUE or a comparison; quote it for the shell.

    reprise ps status:failed,stranded workflow:survey

    reprise ps 'age<2h env:prod amount>=100 not owner:none'

    reprise ps 'error:"connection reset" (team:red or team:blue) created>2026-11-01'

    reprise ps status:open --count workflow

    reprise ps --watch workflow:survey

    What a condition may ask of:

    status: its name; open and ended stand for several

    id, workflow, parent, owner, build: a name, the beginning of one (sur*), or none

    created, updated, due: 2026-11-01, 2026-11-01T12:30, today, yesterday

    age, idle: 90s, 30m, 2h, 1d12h, 4w

    error: a word, "a phrase", the beginning of one (conn*), none; warning: *, none

    any other name, or tag.NAME: a tag; text, number, true, false, sur*, none

    Operators: : and != (a,b is any of them), < <= > >=, and, or, not, ( )
    """
    text = " ".join(query or ())
    page = Page(text, asked(text, all), limit, before, _group(count))
    screen, config = screen_of(context), read_config(store)
    if watch:
        asyncio.run(_watch(screen, config, page, all, Pace(every, times), output))
    else:
        asyncio.run(_ps(screen, config, page, output))


def asked(text: str, all: bool) -> Query:
    """Return what a query asks for now: runs that others started only with ``all``, or if it says which."""
    wanted = parse(text, SystemClock().now())
    return wanted if all or fields(wanted) & {"id", "parent"} else all_of(wanted, Is("parent", None))


def _group(by: str) -> str:
    """Return what the index counts by: a field, or a tag of that name."""
    if not by or by in GROUPS or by.startswith(TAG):
        return by
    if nearest(by, GROUPS, 0.8):
        raise unknown_option(by, GROUPS, "Counting by fields")
    return TAG + by


async def _ps(screen: Screen, config: Config, page: Page, output: Format) -> None:
    async with door(config) as (store, _):
        if page.by:
            _show_counts(screen, await store.runs.count(page.query, by=page.by), page.by, output)
            return
        rows = await store.runs.find(page.query, limit=page.limit, before=page.before)
        gone = await _gone(store, rows)
        lines = await lines_of(store, rows)
        hint = await _hint(store, page, rows)
    if output is not Format.TABLE:
        screen.data(output, [run_fact(row, lines) for row in rows])
        return
    screen.table(_runs(rows, gone, page.tags, lines))
    if hint:
        screen.hint(hint)


async def _watch(screen: Screen, config: Config, page: Page, all: bool, pace: Pace, output: Format) -> None:
    async with door(config) as (store, _):

        async def newest(most: int) -> Table:
            rows = await store.runs.find(asked(page.text, all), limit=max(1, most))
            return _runs(rows, await _gone(store, rows), page.tags, await lines_of(store, rows))

        await watch_runs(screen, store, SystemClock(), lambda: asked(page.text, all), newest, pace, output)


async def _gone(store: Store, rows: list[RunRow]) -> set[str]:
    """Return the owners of runs that are not there any more."""
    owners = {row.owner for row in rows if row.status not in RUN.final}
    return {owner for owner in owners if owner and not await is_alive(store, owner)}


async def _hint(store: Store, page: Page, rows: list[RunRow]) -> str:
    """Return what to say below a list: why it is empty, or how it goes on."""
    if len(rows) == page.limit:
        return f"There may be more; go on with  --before {line(rows[-1].id)}"
    if rows or page.before:
        return ""
    known = await store.runs.tags()
    for name in page.tags:
        if name not in known:
            near = nearest(name, known)
            return f"No run has a tag {name!r}." + (f" Did you mean {near!r}?" if near else "")
    return "No run matches." if page.text else "No run yet. Start one:  reprise run FILE.py"


def _show_counts(screen: Screen, counts: dict[str, int], by: str, output: Format) -> None:
    name = by.removeprefix(TAG)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if output is Format.JSON:
        screen.json(msgspec.json.encode(dict(ordered)))
        return
    if output is Format.JSONL:
        screen.data(output, [{name: value, "count": number} for value, number in ordered])
        return
    made = table(name, "count", right=("count",))
    for value, number in ordered:
        shown = painted(value) if by == "status" else Text(line(value) or "-")
        made.add_row(shown, Text(f"{number:,}" if screen.out.is_terminal else str(number)))
    screen.table(made)


def _runs(rows: list[RunRow], gone: set[str], tags: list[str], lines: Lines) -> Table:
    made = table("id", "workflow", "status", "started", "took", *tags, "note", right=("took",), fold="note")
    now = SystemClock().now()
    for row in rows:
        over = row.status in RUN.final
        due = f"due {ago(row.due_at, now)}" if row.due_at and row.due_at > now else ""
        note = why_not(row, lines, now) or row.error or row.warning or due
        if row.owner in gone and not over:
            note = "its worker is gone"
        if row.generation:
            note = f"generation {row.generation}{', ' if note else ''}{note}"
        made.add_row(
            Text(line(row.id)),
            Text(line(row.workflow)),
            painted(row.status),
            Text(ago(row.created_at, now), "dim"),
            Text(duration((row.updated_at if over else now) - row.created_at), "dim"),
            *(Text(line(group_name(row.tags.get(name)))) for name in tags),
            Text(line(note), "dim"),
        )
    return made
