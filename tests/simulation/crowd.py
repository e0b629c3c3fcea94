"""Processes that all want to write all the time: each must have its turn, and what it wrote must be there."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from reprise.kernel.errors import OutcomeUnknown, StoreUnreachable
from reprise.kernel.events import Event, Kind
from reprise.kernel.ids import Counter as Numbers
from reprise.stores.log import Group, append
from reprise.stores.store import Store
from reprise.testing import World
from reprise.testing.node import Crashed

PROCESSES = 4
WRITES = 25
"""Of each writer in each process, before all are taken to have had enough."""
AT_ONCE = 3
"""Writers in a process, so that it has something to write whenever it could."""


async def crowds(world: World) -> None:
    """Let processes write all the time until each has written enough."""
    written = dict.fromkeys(range(PROCESSES), 0)

    async def writes(store: Store, number: int, which: int, numbers: Numbers) -> None:
        while True:
            event = Event(Kind.PROGRESS, 0, f"{number}")
            with suppress(OutcomeUnknown, StoreUnreachable):
                await append(store.log, numbers.new(), Group(f"crowd/{number}/{which}", [event]))
                written[number] += 1

    async def lives(number: int) -> None:
        node = world.node(f"process-{number}")
        numbers = Numbers()

        async def main() -> None:
            store = world.link(node, world.weather)
            await store.start()
            async with asyncio.TaskGroup() as group:
                for which in range(AT_ONCE):
                    group.create_task(writes(store, number, which, numbers))

        while True:
            with suppress(Crashed):
                await node.run(main)

    processes = [asyncio.create_task(lives(number)) for number in range(PROCESSES)]
    while min(written.values()) < WRITES * AT_ONCE:
        await asyncio.sleep(0.05)
        for one in processes:
            if one.done():
                one.result()
    world.calm_down()
    for one in processes:
        one.cancel()
    await asyncio.gather(*processes, return_exceptions=True)
