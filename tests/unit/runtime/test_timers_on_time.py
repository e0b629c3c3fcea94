"""Timers of runs that were let go fire when they are due, and not at the next look."""

import asyncio

import pytest

from reprise import Reprise, ask, workflow
from reprise.testing import run

DAY = 86_400


@workflow
async def asks_then_waits() -> int:
    answer = await ask(int, "How many?", timeout=3 * DAY, on_timeout=0)
    await asyncio.sleep(28 * DAY)
    return answer


@workflow
async def waits() -> None:
    await asyncio.sleep(20 * DAY)


def test_a_timer_behind_one_that_was_given_up():
    async def main() -> tuple[float, float]:
        async with Reprise("memory://") as app:
            loop = asyncio.get_running_loop()
            asking, waiting = await app.start(asks_then_waits), await app.start(waits)
            await asyncio.sleep(DAY)
            await asking.answer(4)
            await waiting.result()
            first = loop.time()
            assert await asking.result() == 4
            return first / DAY, loop.time() / DAY

    first, second = run(main)  # with looks so rare that they are days late
    assert first == pytest.approx(20, abs=1e-6)
    assert second == pytest.approx(29, abs=1e-6)
