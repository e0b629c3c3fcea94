"""What one turn of the loop brings about where the log has nothing to wait for."""

import asyncio

from reprise import Reprise, step, workflow


@step
async def add(n: int) -> int:
    return n + 1


@workflow
async def count(steps: int) -> int:
    n = 0
    for _ in range(steps):
        n = await add(n)
    return n


class Turns:
    """Counts the turns of the loop while it is entered."""

    def __init__(self):
        self.number = 0

    def _again(self):
        self.number += 1
        self._handle = asyncio.get_running_loop().call_soon(self._again)

    def __enter__(self):
        self._again()
        return self

    def __exit__(self, *_):
        self._handle.cancel()


async def test_steps_in_memory_need_no_turn_each_and_leave_turns_to_others():
    async with Reprise("memory://") as app:
        await app.run(count, 1)
        with Turns() as short:
            assert await app.run(count, 100) == 100
        with Turns() as long:
            assert await app.run(count, 1_100) == 1_100
    between = long.number - short.number
    assert 1_000 / 128 < between < 1_000 / 8


async def test_no_task_is_the_current_one_while_a_body_goes_on():
    seen = []

    @workflow
    async def looks() -> int:
        for _ in range(3):
            await add(1)
            seen.append(asyncio.current_task(app.engine.outer))
        return await add(2)

    async with Reprise("memory://") as app:
        assert await app.run(looks) == 3
    assert seen == [None] * 3


async def naps(n: int) -> int:
    await asyncio.sleep(0.05)
    return n


async def test_steps_that_never_wait_wake_few_drivers_and_those_that_wait_get_all():
    waits = step(naps)

    @workflow
    async def fan(steps: int) -> int:
        return len(await asyncio.gather(*(add(n) for n in range(steps))))

    @workflow
    async def wait(steps: int) -> int:
        return len(await asyncio.gather(*(waits(n) for n in range(steps))))

    async with Reprise("memory://", concurrency=100) as app:
        pool = app.engine.pool.shared
        assert await app.run(fan, 1_000) == 1_000
        few = len(pool._drivers)
        running = asyncio.ensure_future(app.run(wait, 200))
        most = 0
        while not running.done():
            most = max(most, pool.executing)
            await asyncio.sleep(0.001)
        assert running.result() == 200
    assert (few < 60, most) == (True, 100)
