"""``reprise signal``, ``cancel``, ``pause``: what anybody who can open the store may tell a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
import typer

from reprise.cli.config import read_config
from reprise.cli.output import Screen
from reprise.cli.session import RunId, StoreUrl, door, flag, is_alive, screen_of
from reprise.kernel.errors import RunEnded
from reprise.kernel.machine import RUN
from reprise.runtime.client import Client
from reprise.stores.runs import RunRow

Act = Callable[[Client, RunRow], Awaitable[object]]


def signal(
    context: typer.Context,
    id: RunId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the run waits for.")],
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="JSON; what is not JSON is taken as text.")
    ] = "null",
    key: Annotated[
        str,
        typer.Option(
            "--key",
            metavar="KEY",
            help="Id of the signal: the same again is dropped by the run.",
            show_default=False,
        ),
    ] = "",
    store: StoreUrl = None,
) -> None:
    """Send a signal to a run. It is kept until the run asks for it.

    reprise signal @last approve true
    reprise signal survey-7 price '{"amount": 12}'
    """
    read = _read(value)
    _act(
        screen_of(context),
        store,
        id,
        lambda client, row: client.signal(row.id, name, read, id=key),
        f"Signal {name!r} sent to",
    )


def cancel(
    context: typer.Context,
    id: RunId,
    reason: Annotated[
        str,
        typer.Option("--reason", "-r", metavar="TEXT", help="Why; kept with the run.", show_default=False),
    ] = "",
    store: StoreUrl = None,
) -> None:
    """Ask a run to stop. Its ``finally`` parts run first.

    reprise cancel survey-7 --reason "wrong input"
    """
    _act(
        screen_of(context),
        store,
        id,
        lambda client, row: client.cancel(row.id, reason, "command line"),
        "Cancel asked of",
    )


def pause(context: typer.Context, id: RunId, store: StoreUrl = None) -> None:
    """Let a run rest when what executes now is recorded. It goes on with ``reprise resume``.

    reprise pause survey-7
    """
    _act(screen_of(context), store, id, lambda client, row: client.pause(row.id), "Pause asked of")


def _read(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _act(screen: Screen, store: str | None, id: str, act: Act, done: str) -> None:
    asyncio.run(_tell(screen, store, id, act, done))


async def _tell(screen: Screen, store: str | None, id: str, act: Act, done: str) -> None:
    async with door(read_config(store)) as (opened, client):
        row = await client.resolve(id)
        if row.status in RUN.final:
            raise RunEnded(
                f"Run {row.id} has ended ({row.status}) and takes nothing more.", hint="Start a new one."
            )
        await act(client, row)
        alive = await is_alive(opened, row.owner)
    screen.say(f"{done} run {row.id}.")
    if not alive:
        screen.hint(f"No worker has it now; it is read when one does:  reprise resume {row.id}{flag(store)}")
