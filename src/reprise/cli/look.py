"""``reprise show``, ``events``: reading one run, from the store alone."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from reprise.cli.card import card, next_commands
from reprise.cli.config import Config, read_config
from reprise.cli.facts import (
    kind_name,
    record_fact,
    record_name,
    record_text,
    run_fact,
    show_fact,
)
from reprise.cli.moment import show_state
from reprise.cli.moments import clock_time, duration
from reprise.cli.output import Format, Screen, line
from reprise.cli.session import Follow, Output, RunId, StoreUrl, door, is_alive, screen_of
from reprise.cli.talk import answer_command, question_fact, question_lines
from reprise.cli.tree import Tree
from reprise.cli.why import lines_of, why_not
from reprise.kernel.clock import SystemClock
from reprise.kernel.events import Record, progress_stream, run_stream
from reprise.stores.runs import RunFilter, RunRow
from reprise.stores.store import Store


def show(
    context: typer.Context,
    id: RunId,
    steps: Annotated[bool, typer.Option("--steps", help="Each step, also those of a fan-out.")] = False,
    at: Annotated[
        int | None,
        typer.Option("--at", metavar="SEQ", help="As of this record of its history.", show_default=False),
    ] = None,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Show one run: state, input, result or error, steps, children, owner, and what can be done next.

    reprise show @last
    reprise show survey-7 -o json | jq .result
    reprise show survey-7 --at 12
    """
    if at is not None:
        asyncio.run(_show_at(screen_of(context), read_config(store), id, at, output))
        return
    asyncio.run(_show(screen_of(context), read_config(store), store, id, steps, output))


async def _show(
    screen: Screen, config: Config, flag: str | None, id: str, steps: bool, output: Format
) -> None:
    async with door(config) as (store, client):
        row = await client.resolve(id)
        tree = await read_tree(store, row)
        children = await store.runs.find(RunFilter(parent=row.id), limit=1000, newest_first=False)
        alive = await is_alive(store, row.owner)
        lines = await lines_of(store, [row, *children])
        questions = await client.questions(row.id)
    if output is not Format.TABLE:
        fact = show_fact(row, tree, lines) | {
            "children": [run_fact(child, lines) for child in children],
            "owner_alive": alive,
            "questions": [question_fact(one) for one in questions],
        }
        screen.fact(output, fact)
        return
    now = SystemClock().now()
    for part in card(row, tree, children, why_not(row, lines, now), alive=alive, steps=steps, now=now):
        if isinstance(part, Table):
            screen.table(part)
        else:
            screen.lines(part)
    for one in questions:
        screen.lines([Text(), *question_lines(one, now)])
    screen.say()
    for one in questions:
        screen.hint(f"  {answer_command(one, flag, several=len(questions) > 1)}")
    for command in next_commands(row, tree, flag):
        screen.hint(f"  {command}")


async def _show_at(screen: Screen, config: Config, id: str, at: int, output: Format) -> None:
    async with door(config) as (_, client):
        show_state(screen, await client.state((await client.resolve(id)).id, at), output)


async def read_tree(store: Store, row: RunRow) -> Tree:
    """Fold what the log has of a run's latest generation."""
    tree = Tree(row.id)
    for record in await store.log.read(run_stream(row.id), row.since):
        tree.apply(record)
    tree.apply_progress(await store.log.read(progress_stream(row.id)))
    return tree


def events(
    context: typer.Context,
    id: RunId,
    follow: Follow = False,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Print the history of a run, oldest first.

    reprise events @last
    reprise events survey-7 -o jsonl > survey-7.jsonl
    """
    asyncio.run(_events(screen_of(context), read_config(store), id, follow, output))


async def _events(screen: Screen, config: Config, id: str, follow: bool, output: Format) -> None:
    async with door(config) as (_, client):
        row = await client.resolve(id)
        if output is Format.JSON and not follow:
            screen.json(msgspec.json.encode([record_fact(record) async for record in client.events(row.id)]))
            return
        async for record in client.events(row.id, follow=follow):
            if output is Format.TABLE:
                screen.line(_event(record))
            else:
                screen.row(record_fact(record))


def _event(record: Record) -> Text:
    took = f" {duration(record.took)}" if record.took > 0 else ""
    if record.took < 0:
        took = f" from the cache, saved {duration(-record.took)}"
    name = record_name(record)
    key = "" if not record.key or record.key == name else f" {record.key}"
    return Text.assemble(
        (f"{record.version:>5}  ", "dim"),
        (f"{clock_time(record.at)}  ", "dim"),
        f"{kind_name(record.kind):<16}  ",
        (line(name), "bold"),
        (line(key) and f" {line(key)}", "dim"),
        (took, "dim"),
        f"  {line(record_text(record))}",
    )
