"""``reprise locks``: who holds which lock, and taking one away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from reprise.cli.config import read_config
from reprise.cli.held import Held, show_held
from reprise.cli.output import Format, Screen
from reprise.cli.session import Output, StoreUrl, opened, screen_of
from reprise.coordination.distributed_lock import LockHolder
from reprise.coordination.locks import LockManager

Prefix = Annotated[
    str, typer.Argument(metavar="[PREFIX]", help="Only those whose names begin so.", show_default=False)
]
Names = Annotated[list[str], typer.Argument(metavar="NAME…", help="Names of locks.")]


def list_(
    context: typer.Context, prefix: Prefix = "", output: Output = Format.TABLE, store: StoreUrl = None
) -> None:
    """List the locks that are held: by whom, under which token, and when they end unless they are renewed.

    reprise locks list invoice/
    """
    asyncio.run(_list(screen_of(context), prefix, output, store))


async def _list(screen: Screen, prefix: str, output: Format, store: str | None) -> None:
    async with opened(read_config(store)) as keeper:
        holders = await LockManager(keeper).find(prefix)
    _show(screen, output, holders)
    if not holders and output is Format.TABLE:
        screen.say("No lock is held.")


def break_(
    context: typer.Context, names: Names, output: Output = Format.TABLE, store: StoreUrl = None
) -> None:
    """Take locks away from whoever holds them, and list who did. Their bodies are cancelled.

    A process that stands still goes on when it wakes; only what checks its token refuses it then.

    reprise locks break invoice/42
    """
    asyncio.run(_break(screen_of(context), names, output, store))


async def _break(screen: Screen, names: Sequence[str], output: Format, store: str | None) -> None:
    async with opened(read_config(store)) as keeper:
        manager = LockManager(keeper)
        try:
            broken = [holder for name in names for holder in await manager.break_lock(name)]
        finally:
            await manager.stop()
    _show(screen, output, broken)
    for name in names:
        if all(holder.lock != name for holder in broken):
            screen.say(f"The lock {name!r} is held by nobody.")


def _show(screen: Screen, output: Format, found: Sequence[LockHolder]) -> None:
    show_held(
        screen,
        output,
        "lock",
        "owner",
        [Held(each.lock, each.owner, each.token, each.expires_at) for each in found],
    )
