"""Patterns of runs that are talked to: updates, questions, queries in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.replay.patterns import TICK, at_once, echo, gives, nap, pattern

from reprise import RepriseError, ask, query, update
from reprise.runtime.client import Client

TALKED = True


def sends(*updates: tuple[str, int]) -> Callable[[Client, str], Any]:
    """Return a driver that sends updates, each under an id of its own, and asks about the state in between."""

    async def drive(client: Client, run: str) -> None:
        async def one(number: int, name: str, value: int) -> None:
            await asyncio.sleep(nap(3))
            with suppress(RepriseError, ValueError):
                await client.update(run, name, value, id=f"{run}-{number}")
            with suppress(RepriseError):
                await client.query(run, "state")

        await asyncio.gather(*(one(n, name, value) for n, (name, value) in enumerate(updates)))

    return drive


async def answers(client: Client, run: str) -> None:
    """Answer whatever is asked: first with what does not fit, then twice."""
    while True:
        for question in await client.questions(run):
            for value in ("no number", 7, 8):
                await asyncio.sleep(nap(0.5))
                with suppress(RepriseError):
                    await client.answer(run, value, question=question.key)
        await asyncio.sleep(nap())


@pattern(gives([0, 1, 2, 3, 4]), sends(*(("add", n) for n in range(5))), drives_on=True)
async def updates_with_steps() -> list[int]:
    """Each update waits for a step while others come."""
    got: list[int] = []
    enough = asyncio.Event()

    @query
    def state() -> list[int]:
        return got

    @update
    async def add(n: int) -> int:
        got.append(await echo(n))
        if len(got) == 5:
            enough.set()
        return n

    await enough.wait()
    return sorted(got)


@pattern(gives([1, 3, "full"]), sends(("add", 1), ("add", -2), ("add", 3), ("add", -4)), drives_on=True)
async def updates_beside_a_busy_body() -> list[Any]:
    """A validator refuses by the argument; the body has steps and timers of its own all the while."""
    got: list[int] = []
    full = asyncio.Event()

    @query
    def state() -> int:
        return len(got)

    def positive(n: int) -> None:
        if n < 0:
            raise ValueError(n)

    @update(validator=positive)
    def add(n: int) -> None:
        got.append(n)
        if len(got) == 2:
            full.set()

    async def noise() -> None:
        while not full.is_set():
            await echo(len(got))
            await asyncio.sleep(TICK / 4)

    await asyncio.gather(noise(), noise(), full.wait())
    return [*sorted(got), "full"]


@pattern(
    lambda status, value: status == "completed" and value in (["added", 3], ["late", 0]),
    sends(("add", 3)),
    drives_on=True,
)
async def update_races_a_timer() -> list[Any]:
    got: list[int] = []
    added = asyncio.Event()

    @update
    async def add(n: int) -> None:
        got.append(await at_once(n))
        added.set()

    try:
        async with asyncio.timeout(TICK):
            await added.wait()
    except TimeoutError:
        return ["late", 0] if not got else ["added", got[0]]
    return ["added", *got]


@pattern(lambda status, value: status == "completed" and value in ([7, 1], [8, 1]), answers, drives_on=True)
async def asks_a_person() -> list[int]:
    return [await ask(int, "How many?"), await echo(1)]


@pattern(
    lambda status, value: (
        status == "completed" and all(one in (7, 8, -1) for one in value) and len(value) == 3
    ),
    answers,
    drives_on=True,
)
async def questions_that_expire() -> list[int]:
    """Several at once, some of which nobody answers in time; what comes too late does nothing."""
    return list(
        await asyncio.gather(
            *(ask(int, f"{n}?", timeout=TICK * (1 + 2 * n), on_timeout=-1) for n in range(3))
        )
    )
