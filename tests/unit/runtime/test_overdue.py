"""Timers that came due while nobody had the run."""

import asyncio

import pytest

from reprise import workflow
from reprise.testing import Crashed, World, simulate


@workflow
async def naps() -> list[int]:
    """Take naps side by side, the longest begun first."""
    woken: list[int] = []

    async def nap(seconds: int) -> None:
        await asyncio.sleep(seconds)
        woken.append(seconds)

    await asyncio.gather(*(nap(seconds) for seconds in (30, 10, 20, 5)))
    return woken


async def sleeps_through(world: World) -> None:
    """Let the worker die at once, and another come when all is overdue."""
    node = world.node("first")

    async def begin() -> None:
        async with world.app(node) as app:
            await app.start(naps, id="naps")
            await asyncio.sleep(3)
            node.crash()
            await asyncio.sleep(1)

    with pytest.raises(Crashed):
        await node.run(begin)
    await asyncio.sleep(100)
    world.workers(1, workflows=[naps])
    async with world.client() as app:
        assert await app.handle("naps", naps).result() == [5, 10, 20, 30]


def test_they_fire_in_the_order_in_which_they_were_due():
    simulate(sleeps_through, range(5), [])
