"""Pairs on Reprise: `pairs_reprise FOLDER LIFE PAIRS`."""

from __future__ import annotations

import asyncio

from bench.engines.reprise_jobs import url
from bench.programs import pairs
from reprise import Reprise, step, workflow

first, second, last = step(pairs.first), step(pairs.second), step(pairs.last)


async def pair(i: int) -> str:
    """Two steps, the second on the result of the first."""
    return await second(await first(i))


@workflow
async def all_pairs(count: int) -> list[str]:
    """All pairs at once."""
    values = await asyncio.gather(*(pair(i) for i in range(count)))
    await last()
    return values


async def main() -> list[str]:
    """Start the run, or go on with it."""
    async with Reprise(url("full", pairs.folder)) as app:
        return await app.run(all_pairs, pairs.pairs, id=pairs.RUN)


pairs.run(main)
