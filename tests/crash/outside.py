"""Workflows that act on the receiver, and what must be true of what it did."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from tests.crash.flows import executing, seconds_of
from tests.crash.ledger import read_lines
from tests.crash.receiver_main import ADDRESS, RECEIVED, Act, Wish

from reprise import (
    NOT_DONE,
    Budget,
    BudgetExceeded,
    Cost,
    Done,
    Intent,
    Retry,
    Undo,
    current_step,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.clock import from_datetime

EFFECTS = ("keyed", "reconciled", "plain")
_folder: list[Path] = []


def find_receiver(folder: Path) -> None:
    """Let the steps of this process know where the receiver says how to reach it."""
    _folder[:] = [folder]


def folder() -> Path:
    """Return the folder of the round."""
    return _folder[0]


async def ask(wish: Wish) -> str:
    """Ask the receiver for something and return what it says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int((folder() / ADDRESS).read_text()))
    try:
        writer.write(msgspec.json.encode(wish) + b"\n")
        line = await reader.readline()
        if not line:
            raise ConnectionResetError
        return str(msgspec.json.decode(line))
    finally:
        writer.close()


async def act(name: str, n: int, hold: float = 0.02, **options: Any) -> str:
    """Let the receiver act for the step that calls, up to ``hold`` seconds after it was asked."""
    with executing():
        this = current_step()
        hold = seconds_of(n, hold)
        answer = await ask(Wish("act", this.idempotency_key, name, this.run, hold=hold, **options))
        if answer != "done":
            raise TimeoutError(answer)
        return f"{name} {n}"


async def look(intent: Intent) -> Done[str] | Any:
    """Find out at the receiver what became of a call."""
    there = await ask(Wish("look", intent.key)) == "there"
    return Done(f"{intent.step} {intent.args[0]}") if there else NOT_DONE


@step(effect="keyed", key=lambda n: f"keyed-{n}", retry=Retry(50, backoff=0.01))
async def keyed(n: int) -> str:
    return await act("keyed", n, once=True)


@step(effect="reconciled", reconcile=look, timeout=0.3, retry=Retry(50, backoff=0.01))
async def reconciled(n: int) -> str:
    until = current_step().until
    assert until is not None
    return await act("reconciled", n, until=from_datetime(until))


@step(retry=Retry(50, backoff=0.01))
async def plain(n: int) -> str:
    """Be the control: what is done without the mechanism."""
    return await act("plain", n)


@workflow
async def effects(n: int) -> list[str]:
    """Act in each of the three ways, three times."""
    said: list[str] = []
    for i in range(10 * n, 10 * n + 3):
        said += await asyncio.gather(keyed(i), reconciled(i), plain(i))
    return said


# ---------------------------------------------------------------- undoing


async def give_back(undo: Undo) -> None:
    """Undo at the receiver; what it does not know is no fault."""
    with executing():
        # At once: one that comes before what it undoes would undo nothing.
        await ask(Wish("undo", undo.key, undo.step, undo.run))


@step(undo=give_back, timeout=0.3, retry=Retry(50, backoff=0.01))
async def lent(n: int) -> str:
    until = current_step().until
    assert until is not None
    return await act("lent", n, hold=0.15, until=from_datetime(until))


@step(timeout=0.3, retry=Retry(50, backoff=0.01))
async def by_hand(n: int) -> str:
    """Be the control: its undo stands in the body."""
    await act("by_hand", n)
    return current_step().idempotency_key


@step(retry=Retry(50, backoff=0.01))
async def give_back_by_hand(key: str) -> None:
    with executing():
        await ask(Wish("undo", key, "by_hand", current_step().run))


@step
async def fails(n: int) -> None:
    with executing():
        await asyncio.sleep(seconds_of(n, 0.02))
        raise ValueError(n)


@workflow
async def lending(n: int) -> int:
    """Lend in two ways, then complete, fail while some of it is under way, or wait until it is cancelled."""
    keys: list[str] = []

    async def lend_by_hand(i: int) -> None:
        keys.append(await by_hand(i))

    try:
        await lent(10 * n)
        await lend_by_hand(10 * n)
        async with asyncio.TaskGroup() as group:
            for i in range(10 * n + 1, 10 * n + 3):
                group.create_task(lent(i))
                group.create_task(lend_by_hand(i))
            if n % 3 == 1:
                group.create_task(fails(n))
        if n % 3 == 2:
            await wait_for_signal("never")
    except BaseException:
        for key in reversed(keys):
            await give_back_by_hand(key)
        raise
    return n


def end_of_lending(n: int) -> str:
    return ("completed", "failed", "cancelled")[n % 3]


# ---------------------------------------------------------------- within a budget


COST, CALLS, PAID = 10, 9, 14
"""Tokens of a call, calls of a run, and calls that its budget pays: those, and some of what kills take."""


@step(effect="bought", reconcile=look, timeout=0.3, costs=Cost(tokens=COST), retry=Retry(50, backoff=0.01))
async def bought(n: int) -> str:
    until = current_step().until
    assert until is not None
    return await act("bought", n, until=from_datetime(until))


@step(effect="posted", key=lambda n: f"posted-{n}", costs=Cost(tokens=COST), retry=Retry(50, backoff=0.01))
def posted(n: int) -> str:
    """Act from a thread."""
    return asyncio.run(act("posted", n, once=True))


@step(costs=Cost(tokens=COST), retry=Retry(50, backoff=0.01))
async def tried(n: int) -> str:
    """Be the control: what a lost attempt of it did nobody finds out."""
    return await act("tried", n)


@workflow(budget=Budget(tokens=COST * PAID))
async def shopping(n: int) -> int:
    """Call three times in each of the three ways, with little to spare for what is lost."""

    async def one(call: Callable[[int], Any], i: int) -> None:
        with suppress(BudgetExceeded):
            await call(i)

    for i in range(CALLS * n, CALLS * n + CALLS // 3):
        await asyncio.gather(one(bought, i), one(posted, i), one(tried, i))
    return n


ENDS: dict[str, Callable[[int], set[str]]] = {"lending": lambda n: {end_of_lending(n)}}
"""How runs may end that do not all complete."""
EXPECTED: dict[str, Callable[[int], object]] = {
    "lending": lambda n: n,
    "shopping": lambda n: n,
    "effects": lambda n: [f"{name} {i}" for i in range(10 * n, 10 * n + 3) for name in EFFECTS],
}
WORKFLOWS = (effects, lending, shopping)


def acts(folder: Path) -> list[Act]:
    """Return what the receiver did, in order."""
    return read_lines(folder / RECEIVED, Act)[0]


def times(folder: Path) -> dict[str, Counter[str]]:
    """Return how often the receiver acted for each call, by the name of the step."""
    found: dict[str, Counter[str]] = {name: Counter() for name in EFFECTS}
    for one in acts(folder):
        if one.what == "act" and one.name in found:
            found[one.name][one.key] += 1
    return found


def left(folder: Path, name: str) -> dict[str, list[str]]:
    """Return the keys of what a step did and nobody has undone since, by run."""
    last = {one.key: one for one in acts(folder) if one.name == name}
    found: dict[str, list[str]] = {}
    for key, one in last.items():
        if one.what == "act":
            found.setdefault(one.run, []).append(key)
    return found
