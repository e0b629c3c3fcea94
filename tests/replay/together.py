"""Patterns in which one run uses several mechanisms: what runs ahead of the log beside what is said, undone, counted."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from tests.replay.effects import keyed
from tests.replay.patterns import TICK, nap, pattern
from tests.replay.pure import draw, slow_draw, tell
from tests.replay.talking import sends

from reprise import Budget, BudgetExceeded, Cost, budget, query, step, update

TOGETHER = True


@step(costs=Cost(tokens=10))
async def bought(n: int) -> int:
    await asyncio.sleep(nap(0.3))
    return n


@pattern(
    lambda status, value: status == "completed" and sorted(n for n, _, _ in value) == [0, 1, 2, 3],
    sends(*(("add", n) for n in range(4))),
    drives_on=True,
)
async def updates_among_what_runs_ahead() -> list[Any]:
    """Updates and their validator see what the body drew; what they tell others is held against it after a crash."""
    drawn = [0.0]
    got: list[tuple[int, float, float]] = []
    enough = asyncio.Event()

    @query
    def state() -> float:
        return sum(drawn)

    def is_small(n: int) -> None:
        if n > 3 or not drawn:
            raise ValueError(n)

    @update(validator=is_small)
    async def add(n: int) -> float:
        seen = drawn[-1]
        got.append((n, seen, await tell(seen)))
        if len(got) == 4:
            enough.set()
        return seen

    async def draws() -> None:
        n = 0
        while not enough.is_set():
            drawn.append(await draw(n))
            n += 1
            if n % 5 == 0:
                await asyncio.sleep(TICK / 8)

    await asyncio.gather(draws(), enough.wait())
    assert all(seen == told for _, seen, told in got)
    return [list(one) for one in got]


@pattern(lambda status, value: status == "failed" and value == "ValueError")
async def undone_after_running_ahead() -> None:
    """What fails follows from pure results, and so does what is undone."""
    first = await draw(1)
    await keyed(1)
    seconds = await asyncio.gather(*(slow_draw(n) for n in range(3)))
    await asyncio.gather(keyed(2), draw(2))
    with suppress(TimeoutError):
        async with asyncio.timeout(TICK):
            await asyncio.gather(keyed(3), slow_draw(5))
    raise ValueError(await tell(sum(seconds) + first))


@pattern(lambda status, value: status == "completed" and value[0] + value[1] <= 8)
async def pure_steps_within_a_budget() -> list[int]:
    """Who is refused differs from life to life; what was recorded holds."""
    made = {"bought": 0, "drawn": 0}

    async def buys(n: int) -> None:
        with suppress(BudgetExceeded):
            await bought(n)
            made["bought"] += 1

    async def draws(n: int) -> None:
        with suppress(BudgetExceeded):
            await tell(await draw(n))
            made["drawn"] += 1

    with budget(Budget(tokens=40, steps=12), "both"):
        await asyncio.gather(*(call(n) for n in range(6) for call in (buys, draws)))
    return [made["bought"], made["drawn"]]
