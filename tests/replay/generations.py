"""Patterns of runs that continue as new generations; they are part of the corpus."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from tests.replay.patterns import (
    KIDS,
    TICK,
    abandoned,
    at_once,
    echo,
    gives,
    nap,
    pattern,
    small_child,
    stubborn,
)

from reprise import continue_as, current_run, current_step, step, wait_for_signal, workflow
from reprise.runtime.client import Client

SENT = 9


@step
async def own_key() -> str:
    return current_step().idempotency_key


async def _send(client: Client, run: str) -> None:
    for i in range(SENT):
        await asyncio.sleep(nap())
        for _ in range(2):  # every signal twice: the id drops the second, in whichever generation it comes
            await client.signal(run, "ab"[i % 2], i, id=f"m{i}")


async def _cancel(client: Client, run: str) -> None:
    await asyncio.sleep(nap(8))
    await client.cancel(run, "enough")


@pattern(gives([3, 12]))
async def continues(generation: int = 0, total: int = 0) -> list[int]:
    total += sum(await asyncio.gather(echo(1), echo(2)))
    if generation < 3:
        continue_as(generation + 1, total)
    return [current_run().generation, total]


@pattern(gives([0, 2, 4, 6, 8, 1, 3, 5, 7]), drive=_send)
async def signals_over_the_border(evens: list[int] | None = None, odds: list[int] | None = None) -> list[int]:
    """Every generation takes two of one name or one of the other; what it leaves is the next one's."""
    evens, odds = evens or [], odds or []
    if len(evens) + len(odds) == SENT:
        return [*evens, *odds]
    if len(evens) < (SENT + 1) // 2 and (current_run().generation % 2 == 0 or len(odds) == SENT // 2):
        evens.append(await wait_for_signal("a", int))
        if len(evens) < (SENT + 1) // 2:
            evens.append(await wait_for_signal("a", int))
    else:
        odds.append(await wait_for_signal("b", int))
    if current_run().generation % 3 == 0:
        await at_once(len(evens))
    return continue_as(evens, odds)


@workflow(on_parent_end="abandon")
async def goes_on_alone(n: int) -> int:
    return await stubborn(await stubborn(n))


@workflow(on_parent_end="wait")
async def is_waited_for(n: int) -> int:
    return await stubborn(n)


@workflow
async def child_that_continues(n: int, left: int = 2) -> int:
    n += await echo(1)
    if left:
        continue_as(n, left - 1)
    return n


KIDS |= {kid.name: kid for kid in (goes_on_alone, is_waited_for, child_that_continues)}


@pattern(gives([[0, 1, 3], [3, 3, 3], [3, 4, 5], [2]]))
async def children_in_generations(
    sums: list[int] | None = None, again: list[int] | None = None, kids: list[int] | None = None
) -> list[list[int]]:
    """The same call in each generation is another child; those that nobody waits for disturb no later one."""
    sums, again, kids = sums or [], again or [], kids or []
    generation = current_run().generation
    left = [goes_on_alone(generation), is_waited_for(generation), small_child(4)]
    left = [asyncio.create_task(call) for call in left]
    first, second, third = await asyncio.gather(
        small_child(generation + 1), small_child(3), child_that_continues(generation)
    )
    sums, again, kids = [*sums, first], [*again, second], [*kids, third]
    if generation == 2:
        return [
            sums,
            again,
            kids,
            [await left[0]],
        ]  # its own, not that of an earlier generation, which may end now
    return continue_as(sums, again, kids=kids)


@pattern(gives(["late", "in time", "late"]))
async def timers_in_generations(out: list[str] | None = None) -> list[str]:
    """The same timer in each generation is another one; those still armed at the border never fire."""
    out = out or []
    pending = [asyncio.create_task(asyncio.sleep(TICK * 2))]
    await asyncio.sleep(TICK / 4)
    try:
        async with asyncio.timeout(TICK / 2 if current_run().generation != 1 else 60):
            await (asyncio.Event().wait() if current_run().generation != 1 else at_once(1))
        out.append("in time")
    except TimeoutError:
        out.append("late")
    if len(out) == 3:
        return out * len(pending)
    return continue_as(out)


@pattern(gives([9, 9]))
async def chance_and_keys_differ(keys: list[str] | None = None, dice: list[str] | None = None) -> list[int]:
    keys, dice = keys or [], dice or []
    keys += [await own_key(), await own_key.options(key="mine")(), *await asyncio.gather(own_key())]
    dice += [str(current_run().uuid()), str(current_run().random().random()), str(current_run().uuid())]
    if current_run().generation < 2:
        continue_as(keys, dice)
    return [len(set(keys)), len(set(dice))]


@pattern(gives([2, 20, 21, 22]))
async def leftovers_at_the_border(out: list[int] | None = None) -> list[int]:
    """``finally`` parts of the body and of tasks run to their end, with steps, before the next generation begins."""
    out = out or []

    async def background() -> None:
        try:
            await stubborn(1)
            await abandoned(2)
        finally:
            await echo(3)

    left = [asyncio.create_task(background()), asyncio.create_task(abandoned(4))]
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(stubborn(5))
            out.append(await echo(20 + current_run().generation))
            if current_run().generation < 2:
                continue_as(out)
    finally:
        await tidy_up()
    return [len(left), *out]


async def tidy_up() -> None:
    await asyncio.gather(echo(6), at_once(7))


@pattern(gives("a branch's wish"))
async def a_branch_continues(text: str = "") -> str:
    """The wish is an exception: it comes out of what waits for the branch that had it."""

    async def branch() -> None:
        await echo(1)
        if not text:
            continue_as("a branch's wish")

    await asyncio.gather(branch(), echo(2))
    return text


@pattern(lambda status, value: status == "cancelled", drive=_cancel)
async def cancelled_in_any_generation(n: int = 0) -> NoReturn:
    """Whenever the request comes, also while a generation ends, it reaches the body."""
    await (echo(n) if n % 2 else at_once(n))
    return continue_as(n + 1)


@pattern(
    lambda status, value: (status, value) in {("completed", "stopped"), ("cancelled", "RunCancelled")},
    drive=_cancel,
)
async def swallows_the_request(n: int = 0, *, asked: bool = False) -> str:
    """A request that was delivered to a generation is not delivered to the next."""
    if asked:
        return "stopped" if await at_once(1) else ""
    try:
        await echo(n)
    except asyncio.CancelledError:
        return continue_as(n, asked=True)
    return continue_as(n + 1)
