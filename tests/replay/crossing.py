"""Patterns in which effects meet budgets, updates, questions, threads and streams; they are part of the corpus."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from tests.replay.effects import find, found, give_back, keyed
from tests.replay.patterns import TICK, nap, pattern
from tests.replay.pure import draw, tell
from tests.replay.talking import answers, sends

from reprise import Budget, BudgetExceeded, Cost, Retry, ask, budget, query, set_undo, step, stream, update
from reprise.runtime.client import Client

CROSSING = True
TEN = Cost(tokens=10)


@step(effect="bought", reconcile=find, timeout=0.02, costs=TEN, retry=Retry(9, backoff=0))
async def bought_found(n: int) -> int:
    await asyncio.sleep(nap())
    return n


@step(effect="bought", key=lambda n: f"b{n}", undo=give_back, timeout=0.05, costs=TEN)
async def bought_keyed(n: int) -> int:
    set_undo(n, "bought")
    await asyncio.sleep(nap())
    return n


@step(effect="threaded", key=lambda n: f"t{n}", undo=give_back, timeout=1)
def keyed_in_a_thread(n: int) -> int:
    time.sleep(nap(0.3))
    return n


@step(effect="told", idempotent=True, retry=Retry(3, backoff=0))
async def told_in_pieces(n: int) -> int:
    words = stream("words")
    for i in range(3):
        await words.write([n, i])
        await asyncio.sleep(nap(0.2))
    return n


def bounded(status: str, value: Any) -> bool:
    """Tell whether each got its own value or was refused, and no more got one than could be paid."""
    return (
        status == "completed"
        and all(got in (n, -1) for n, got in enumerate(value))
        and sum(got >= 0 for got in value) <= 4
    )


@pattern(bounded)
async def effects_within_a_budget() -> list[int]:
    """Of a call that was lost nobody knows what it spent; what became of it is found out all the same."""

    async def one(n: int) -> int:
        try:
            return await (bought_found, bought_keyed)[n % 2](n)
        except BudgetExceeded:
            return -1

    with budget(Budget(tokens=40), "shop"):
        return await asyncio.gather(*(one(n) for n in range(6)))


@pattern(lambda status, value: status == "failed" and value == "reprise.BudgetExceeded")
async def undone_when_the_money_is_gone() -> None:
    """Undoing is no question of money."""
    with budget(Budget(tokens=20)):
        await asyncio.gather(bought_keyed(1), keyed(2), keyed_in_a_thread(3))
        for n in range(3):
            await bought_keyed(10 + n)


async def gives_more(client: Client, run: str) -> None:
    """Give more whenever the run says that it waits for it."""
    while True:
        if "waits for more" in (await client.row(run)).warning:
            await client.raise_budget(run, "$shop", tokens=10)
        await asyncio.sleep(nap())


@pattern(
    lambda status, value: status == "completed" and value == [0, 1, 2, 3],
    gives_more,
    drives_on=True,
)
async def asks_for_more_among_effects() -> list[int]:
    with budget(Budget(tokens=10, on_exhausted="ask"), "shop"):
        first = await asyncio.gather(bought_found(0), bought_keyed(1), keyed(7))
        return [*first[:2], *await asyncio.gather(bought_found(2), bought_keyed(3))]


@pattern(
    lambda status, value: status == "completed" and sorted(value) == [0, 1, 2, 3],
    sends(*(("buy", n) for n in range(4))),
    drives_on=True,
)
async def updates_with_effects() -> list[int]:
    """Handlers of updates have effects in threads and on the loop, while the body runs ahead of the log."""
    got: list[int] = []
    enough = asyncio.Event()

    @query
    def state() -> int:
        return len(got)

    @update
    async def buy(n: int) -> int:
        kept = await (keyed_in_a_thread, found, keyed, told_in_pieces)[n](n)
        got.append(kept)
        if len(got) == 4:
            enough.set()
        return kept

    async def draws() -> None:
        while not enough.is_set():
            await tell(await draw(1))
            await asyncio.sleep(TICK / 4)

    await asyncio.gather(draws(), enough.wait())
    return got


@pattern(lambda status, value: status == "failed" and value == "ValueError", answers, drives_on=True)
async def undone_after_an_answer() -> None:
    """What is undone follows from what a person said, and from who was slower than the clock."""
    first, _ = await asyncio.gather(ask(int, "How many?"), keyed(0))
    with suppress(TimeoutError):
        async with asyncio.timeout(TICK):
            await asyncio.gather(keyed_in_a_thread(first), found(first), told_in_pieces(first))
    raise ValueError(await told_in_pieces(9))
