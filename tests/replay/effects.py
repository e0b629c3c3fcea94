"""The corpus of effects: intents among other records, reconciled, undone after races, over generations."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.replay.patterns import TICK, gives, nap, pattern

from reprise import NOT_DONE, Done, Intent, Retry, Undo, continue_as, current_step, set_undo, step

DONE: dict[str, int] = {}
"""What the receiver did, by the key under which it was told."""


async def find(intent: Intent) -> object:
    found = DONE.get(intent.run + intent.key)
    return NOT_DONE if found is None else Done(found)


async def give_back(undo: Undo) -> None:
    assert undo.happened in (True, None)
    await asyncio.sleep(nap())


@step(effect="keyed", key=lambda n: f"k{n}", undo=give_back, timeout=0.05, retry=Retry(9, backoff=0))
async def keyed(n: int) -> int:
    set_undo(n, "given")
    await asyncio.sleep(nap())
    return n


@step(effect="found", reconcile=find, timeout=0.02, retry=Retry(9, backoff=0))
async def found(n: int) -> int:
    await asyncio.sleep(nap())
    this = current_step()
    DONE[this.run + this.idempotency_key] = n
    return n


@pattern(gives([0, 0, 1, 1, 2, 2, 9]))
async def effects_side_by_side() -> list[int]:
    both = [call(n) for n in range(3) for call in (keyed, found)]
    return [*await asyncio.gather(*both), await keyed(9)]


@pattern(lambda status, value: status == "failed" and value == "ValueError")
async def undone_after_a_race() -> None:
    first = await keyed(1)
    try:
        async with asyncio.timeout(TICK):
            await asyncio.gather(keyed(2), found(3), asyncio.sleep(nap(3)))
    except TimeoutError:
        await keyed(4)
    raise ValueError(first)


@pattern(lambda status, value: status == "failed" and value == "ValueError")
async def undone_over_generations(n: int = 0) -> Any:
    await keyed(n)
    if n < 2:
        continue_as(n + 1)
    raise ValueError(n)
