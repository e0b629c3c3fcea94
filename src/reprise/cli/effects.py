"""``reprise effects``: what a run did to the outside, and telling it what became of a call."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from reprise.cli.config import read_config
from reprise.cli.inputs import read_value
from reprise.cli.moments import iso, local
from reprise.cli.output import Format, Screen, line, table
from reprise.cli.session import Output, RunId, StoreUrl, door, flag, is_alive, screen_of
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.machine import RunStatus
from reprise.runtime.effect_rows import EffectRow
from reprise.runtime.intents import NOT_DONE, Done, Unsettled


class What(StrEnum):
    """What is to be done."""

    LIST = "list"
    RESOLVE = "resolve"


Asked = Annotated[
    What, typer.Argument(metavar="[list|resolve]", help="Show them, or say what became of one.")
]
Key = Annotated[
    str, typer.Argument(metavar="[KEY]", help="Key of the effect, as listed.", show_default=False)
]
DoneWith = Annotated[
    str | None,
    typer.Option(
        "--done", metavar="VALUE", help="It happened, and this is its result (JSON).", show_default=False
    ),
]
NotDone = Annotated[bool, typer.Option("--not-done", help="It did not happen: it is called again.")]


def effects(
    context: typer.Context,
    id: RunId,
    what: Asked = What.LIST,
    key: Key = "",
    done: DoneWith = None,
    not_done: NotDone = False,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Show what a run did to the outside and has to undo should it fail; say what became of a call nobody knows of.

    reprise effects @last
    reprise effects order-7 resolve o-1250 --done '"receipt 9"'
    reprise effects order-7 resolve o-1250 --not-done
    """
    screen = screen_of(context)
    if what is What.LIST:
        asyncio.run(_list(screen, store, id, output))
    else:
        asyncio.run(_resolve(screen, store, id, key, _answer(key, done, not_done)))


def _answer(key: str, done: str | None, not_done: bool) -> Done[Any] | Unsettled:
    if not key or (done is None) is not not_done:
        raise ConfigurationError(
            "resolve needs the KEY of an effect, and either --done VALUE or --not-done.",
            hint="The keys: reprise effects ID",
        )
    return NOT_DONE if done is None else Done(read_value(done))


async def _list(screen: Screen, url: str | None, id: str, output: Format) -> None:
    async with door(read_config(url)) as (_, client):
        row = await client.resolve(id)
        found = await client.effects(row.id)
    if output is not Format.TABLE:
        screen.data(output, [_fact(effect) for effect in found])
        return
    if not found:
        screen.say(f"Run {row.id} has no steps with effect= or undo=.")
        return
    screen.table(_table(found))
    if row.status == RunStatus.NEEDS_ATTENTION:
        screen.say(line(row.error), "yellow")


def _fact(effect: EffectRow) -> dict[str, Any]:
    fact = msgspec.to_builtins(effect)
    return fact | {name: iso(moment) if (moment := fact[name]) else None for name in ("at", "until")}


def _table(effects: list[EffectRow]) -> Table:
    shown = table("key", "effect", "step", "state", "undo", "called", "error", fold="error")
    for one in effects:
        called = local(one.at) if one.at else ""
        cells = (one.key, one.effect, one.step, one.state, one.undo, called, one.error)
        shown.add_row(*(line(cell) for cell in cells))
    return shown


async def _resolve(screen: Screen, url: str | None, id: str, key: str, answer: Done[Any] | Unsettled) -> None:
    async with door(read_config(url)) as (opened, client):
        row = await client.resolve(id)
        effect = await client.resolve_effect(row.id, key, answer)
        alive = await is_alive(opened, row.owner)
    what = "happened" if isinstance(answer, Done) else "did not happen"
    screen.say(f"Run {row.id} is told that effect {effect.effect!r} ({effect.key}) {what}.")
    if not alive:
        screen.hint(f"It is read when a worker looks:  reprise resume {row.id}{flag(url)}")
