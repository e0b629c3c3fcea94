"""Processes that look at cells and change them, whatever befalls them; then one order must explain what they saw."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from reprise.kernel.chance import seeded
from reprise.kernel.errors import StoreUnreachable
from reprise.testing import History, World, check_linearizable
from reprise.testing.node import Crashed
from reprise.testing.sequential_cells import Cells
from reprise.testing.suites.linearizable import use_cells

ENOUGH = 60
"""Operations of all processes together."""


async def uses_cells(world: World) -> None:
    """Let three processes use cells; of what was under way at a crash or behind a lost answer nobody knows what came."""
    history = History()

    async def lives(name: str) -> None:
        node, life = world.node(name), 0

        async def main() -> None:
            store = world.link(node, world.weather)
            await store.start()
            while len(history.operations) < ENOUGH:
                dice = seeded(b"%d" % world.chance.getrandbits(32))
                with suppress(StoreUnreachable):
                    await use_cells(store, f"{name}{life}", history, dice, 0)

        while len(history.operations) < ENOUGH:
            with suppress(Crashed):
                await node.run(main)
            life += 1
            await asyncio.sleep(world.chance.random())

    await asyncio.gather(*(lives(name) for name in "abc"))
    check_linearizable(history, Cells())
