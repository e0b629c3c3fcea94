"""A week with everything that waits: a schedule, retries, timers and a person. Prints what came of it, and the trace."""

import asyncio
import sys

from reprise import Reprise, Retry, step, wait_for_signal, workflow
from reprise.testing.loop import PATIENCE, SimulatedLoop, run_on

DAY = 86_400


class Line:
    """Fails twice of three times."""

    tries = 0


@step(retry=Retry(5))
async def ask(what: int) -> int:
    """Answer, if the line is free."""
    Line.tries += 1
    if Line.tries % 3:
        raise ConnectionError("the line is busy")
    return what


@workflow
async def tick() -> int:
    """Do one thing."""
    return await ask(0)


@workflow
async def week() -> list[int]:
    """Work, wait, work, wait for somebody, and wait."""
    first = await ask(1)
    await asyncio.sleep(3 * DAY)
    rest = await asyncio.gather(*(ask(number) for number in range(2, 5)))
    said = await wait_for_signal("go", int)
    await asyncio.sleep(3 * DAY)
    return [first, *rest, said]


async def main() -> tuple[list[int], int, float]:
    """Return the result, the number of runs and the days."""
    Line.tries = 0
    async with Reprise("memory://") as app:
        await app.schedule("ticks", tick, every=DAY)
        handle = await app.start(week, id="week")
        await asyncio.sleep(4 * DAY)
        await handle.signal("go", 9)
        return await handle.result(), len(await app.find("")), asyncio.get_running_loop().time() / DAY


def trace(seed: int | None) -> str:
    """Return what came of a week under a seed, and what ran."""
    loop = SimulatedLoop(seed)
    return f"{run_on(loop, main, patience=PATIENCE)} {loop.trace()}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{trace(int(seed))}\n" for seed in sys.argv[1:])
