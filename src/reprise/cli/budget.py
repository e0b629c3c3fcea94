"""``reprise budget``: what a run may spend, what it has spent, and giving it more."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from reprise.cli.config import read_config
from reprise.cli.output import Format, Screen
from reprise.cli.session import Output, RunId, StoreUrl, door, screen_of, unread
from reprise.kernel.budget import FIELDS, Cost
from reprise.kernel.errors import ConfigurationError
from reprise.runtime.spent import Spent

More = Annotated[
    list[str],
    typer.Option(
        "--add", metavar="NAME=AMOUNT", help=f"Give it more: {', '.join(FIELDS)}.", show_default=False
    ),
]
Part = Annotated[
    str,
    typer.Option("--part", metavar="NAME", help="A budget inside of the run, as listed.", show_default=False),
]


def budget(
    context: typer.Context,
    id: RunId,
    add: More = [],  # noqa: B006  typer reads it, nobody changes it
    part: Part = "",
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Show what a run may spend and has spent; with --add, give it more. A run that waits for it goes on.

    reprise budget @last
    reprise budget survey-7 --add tokens=5000 --add usd=0.5
    """
    asyncio.run(_budget(screen_of(context), store, id, _amounts(add), part, output))


async def _budget(
    screen: Screen, url: str | None, id: str, more: dict[str, Any], part: str, output: Format
) -> None:
    async with door(read_config(url)) as (opened, client):
        row = await client.resolve(id)
        if more:
            await client.raise_budget(row.id, part, **more)
            screen.say(f"Run {row.id} may spend {Cost(**more)} more.")
            if hint := await unread(opened, row, url):
                screen.hint(hint)
            return
        spent = await client.spent(row.id)
    if output is not Format.TABLE:
        screen.json(msgspec.json.encode(spent)) if output is Format.JSON else screen.row(_fact(spent))
    else:
        screen.table(_table(spent))


def _fact(spent: Spent) -> dict[str, Any]:
    return msgspec.to_builtins(spent)


def _table(spent: Spent) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for head in ("spent", "of it reserved", "of"):
        table.add_column(head, justify="right")
    limit = spent.budget
    for name in FIELDS:
        taken = getattr(spent.taken, name)
        most = getattr(limit, name) if limit is not None else None
        if taken or most is not None:
            table.add_row(name, _number(taken), _number(getattr(spent.reserved, name)), _most(most))
    for part, cost in spent.parts.items():
        table.add_row(part, str(cost), "", "")
    return table


def _most(most: float | None) -> str:
    return "no limit" if most is None else _number(most)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _amounts(given: list[str]) -> dict[str, Any]:
    """Read ``tokens=5000``; raises ``ConfigurationError`` for what is no amount."""
    amounts: dict[str, Any] = {}
    for text in given:
        name, _, number = text.partition("=")
        try:
            amounts[name] = int(number) if number.isdecimal() else float(number)
        except ValueError:
            raise ConfigurationError(
                f"--add {text} is no amount.", hint="Give one as in --add tokens=5000."
            ) from None
    return amounts
