"""Patterns of bodies with pure steps, whose results run ahead of the log; they are part of the corpus."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.replay.patterns import (
    TICK,
    at_once,
    dice,
    echo,
    nap,
    pattern,
    small_child,
    threaded,
)

from reprise import Retry, continue_as, current_run, step, wait_for_signal
from reprise.runtime.client import Client

SENT = 4


@step(pure=True)
async def draw(i: int) -> float:
    """Another value at each execution: who remembers one that is not in the log is found out."""
    return i + dice.random()


@step(pure=True)
async def slow_draw(i: int) -> float:
    await asyncio.sleep(nap())
    return i + dice.random()


@step(pure=True, retry=Retry(3, backoff=TICK / 2))
async def moody_draw(i: int) -> float:
    await asyncio.sleep(nap(0.3))
    if dice.random() < 0.5:
        raise ConnectionError(f"mood {i}")
    return i + dice.random()


@step(pure=True, on_cancel="abandon")
async def abandoned_draw(i: int) -> float:
    await asyncio.sleep(nap(3))
    return i + dice.random()


@step(pure=True)
def threaded_draw(i: int) -> float:
    return i + dice.random()


@step
async def tell(value: Any) -> Any:
    """Is executed with what the body remembers; its fingerprint holds that against what it remembers later."""
    await asyncio.sleep(nap(0.3))
    return value


STEPS: tuple[Any, ...] = (slow_draw, echo, draw, threaded)


def in_pairs(status: str, value: Any) -> bool:
    """Tell whether what was told is what was drawn."""
    return status == "completed" and len(value) == 2 and value[0] == value[1]


async def _send(client: Client, run: str) -> None:
    for i in range(SENT):
        await asyncio.sleep(nap())
        await client.signal(run, "ab"[i % 2], i)


@pattern(in_pairs)
async def drawn_in_a_row() -> list[Any]:
    drawn = [await draw(i) for i in range(8)]
    return [drawn, await tell(drawn)]


@pattern(in_pairs)
async def drawn_and_told_in_turn() -> list[Any]:
    drawn: list[float] = []
    told: list[float] = []
    for i in range(5):
        drawn += [await draw(i), await threaded_draw(i)]
        told += await tell(drawn[-2:])
    return [drawn, told]


@pattern(in_pairs)
async def drawn_beside_plain_steps() -> list[Any]:
    """In what order things came is part of the result; a record that was delivered out of turn changes it."""
    out: list[Any] = []

    async def one(i: int) -> None:
        for n in range(3):
            out.append(await STEPS[(i + n) % 4](i))

    await asyncio.gather(*(one(i) for i in range(4)))
    return [out, await tell(out)]


@pattern(in_pairs, drive=_send)
async def drawn_beside_signals_and_timers() -> list[Any]:
    out: list[Any] = []

    async def draws() -> None:
        for i in range(6):
            out.append(await slow_draw(i))
            await asyncio.sleep(TICK / 4)

    async def hears(name: str) -> None:
        for _ in range(SENT // 2):
            try:
                out.append(await wait_for_signal(name, int, timeout=TICK * 2))
            except TimeoutError:
                out.append("late")
            out.append(await draw(0))

    await asyncio.gather(draws(), hears("a"), hears("b"))
    return [out, await tell(out)]


@pattern(in_pairs)
async def moods_of_pure_steps() -> list[Any]:
    out: list[Any] = []

    async def one(i: int) -> None:
        try:
            out.append(await moody_draw(i))
        except ConnectionError as error:
            out.append(str(error))
        out.append(await echo(i))

    await asyncio.gather(*(one(i) for i in range(4)))
    return [out, await tell(out)]


@pattern(in_pairs)
async def drawn_against_time() -> list[Any]:
    """Pure steps are cancelled, some that wait for it and some that do not, and what is left goes on."""
    out: list[Any] = []

    async def one(i: int) -> None:
        try:
            async with asyncio.timeout(TICK * 0.7):
                out.append(await (slow_draw, abandoned_draw, moody_draw)[i % 3](i))
        except (TimeoutError, ConnectionError) as error:
            out.append(type(error).__name__)
        out.append(await draw(i))

    async with asyncio.TaskGroup() as group:
        for i in range(6):
            group.create_task(one(i))
    return [out, await tell(out)]


@pattern(in_pairs)
async def the_first_drawn_stops_the_others() -> list[Any]:
    """A result that is not durable lets the body cancel plain steps and children."""
    calls = [
        asyncio.create_task(slow_draw(0)),
        asyncio.create_task(echo(7)),
        asyncio.create_task(small_child(3)),
    ]
    done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(calls)
    out = ["cancelled" if task.cancelled() else task.result() for task in calls]
    return [[len(done), *out], await tell([len(done), *out])]


@pattern(in_pairs)
async def children_of_what_was_drawn() -> list[Any]:
    out: list[Any] = []

    async def one(i: int) -> None:
        n = await draw(i)
        out.append([n, await small_child(int(n * 4))])

    await asyncio.gather(*(one(i) for i in range(3)))
    return [out, await tell(out)]


@pattern(in_pairs)
async def drawn_at_the_end() -> list[Any]:
    """The end comes in the commit of what it follows from; plain steps that nobody waits for end with it."""
    left = asyncio.create_task(echo(1))
    drawn = [await draw(i) for i in range(3)]
    left.cancel()
    return [drawn, drawn]


@pattern(in_pairs)
async def drawn_over_generations(generation: int = 0, drawn: list[float] | None = None) -> list[Any]:
    drawn = [*(drawn or []), await draw(generation), await slow_draw(generation)]
    if generation < 2:
        continue_as(generation + 1, drawn)
    assert current_run().generation == generation
    return [drawn, await tell(drawn)]


@pattern(lambda status, value: status == "completed" and value[0] == value[1] >= 4)
async def length_of_what_was_drawn() -> list[int]:
    """A record that runs ahead is counted once."""
    for i in range(3):
        await draw(i)
    await at_once(1)
    return [current_run().length, await tell(current_run().length)]
