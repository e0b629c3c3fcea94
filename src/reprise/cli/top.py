"""``reprise ps --watch``: look again and again, and show it, as a live picture or as lines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import msgspec
from rich.console import Group
from rich.live import Live
from rich.table import Table

from reprise.cli.board import Look, Rates, Window, board, fact, plain
from reprise.cli.moments import iso
from reprise.cli.output import Format, Screen
from reprise.cli.stop import stopping
from reprise.kernel.clock import Clock
from reprise.kernel.query import Query
from reprise.stores.store import Store

EASE = 10
"""The pause after a look is at least so many times as long as the look was: a large store is not read all the time."""

Runs = Callable[[int], Awaitable[Table]]
"""Returns the table of the newest runs, at most so many."""
Draw = Callable[[Look, Rates, Table | None], None]


class Pace(msgspec.Struct, frozen=True):
    """How often to look."""

    every: float
    """Seconds."""
    times: int = 0
    """After so many looks it ends; 0 = when somebody stops it."""


async def watch(
    screen: Screen,
    store: Store,
    clock: Clock,
    query: Callable[[], Query],
    runs: Runs,
    pace: Pace,
    output: Format,
) -> None:
    """Show the runs that a query finds until somebody stops it; it is asked for anew each time, as time goes on."""
    window = Window()
    live = output is Format.TABLE and screen.out.is_terminal
    looked = 0
    with stopping() as asked, _shown(screen, output, live=live) as draw:
        while True:
            began = clock.monotonic()
            look = await take_look(store, clock, query())
            table = await runs(screen.out.size.height - 4) if live else None
            draw(look, window.add(look), table)
            looked += 1
            if looked == pace.times:
                return
            pause = max(pace.every, EASE * (clock.monotonic() - began))
            done, _ = await asyncio.wait([asked], timeout=pause)
            if done:
                return


async def take_look(store: Store, clock: Clock, query: Query) -> Look:
    """Return what is so now."""
    counts = await store.runs.count(query)
    end = await store.log.end()
    seen = {*await store.runs.owners(), *await store.presence.seen()}
    there = seen - set(await store.presence.died(seen))
    return Look(clock.now(), clock.monotonic(), counts, end, len(there))


@contextmanager
def _shown(screen: Screen, output: Format, *, live: bool) -> Generator[Draw]:
    """Give what shows a look: a picture that changes, or a line when something changed."""
    if live:
        with Live(console=screen.out, screen=True, auto_refresh=False) as picture:

            def draw(look: Look, rates: Rates, table: Table | None) -> None:
                assert table is not None
                width, height = screen.out.size
                picture.update(Group(*board(look, rates, table, width, height)), refresh=True)

            yield draw
        return
    before: list[tuple[dict[str, int], int]] = []

    def tell(look: Look, rates: Rates, _: Table | None) -> None:
        if output is not Format.TABLE:
            screen.row(fact(look, rates, iso(look.at)))
        elif before != [(look.counts, look.workers)]:
            before[:] = [(look.counts, look.workers)]
            screen.raw(plain(look, rates))

    yield tell
