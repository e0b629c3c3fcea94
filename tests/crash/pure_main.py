"""A worker whose runs draw values by pure steps and tell them by plain ones, forked by the nursery.

What is told is written to a file, as somebody outside would remember it. A value is drawn anew at each execution, so one
that was told and is not in the log was told before it was durable, and lost.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from tests.crash.helping import loosen
from tests.crash.ledger import open_lines, write_line

from reprise import Reprise, ResultTimeout, RunEnded, current_step, step, workflow
from reprise.runtime.execution import Execution
from reprise.runtime.pipelining import Pipelined

TOLD = "told.jsonl"
BRANCHES, ROUNDS, DRAWS = 3, 5, 3
ABREAST = 4
"""Runs at a time."""


class Options(msgspec.Struct):
    """What a worker is told."""

    folder: str
    store: str
    runs: int
    gated: bool = True
    """False = the control: plain steps start before their past is durable."""
    loose: bool = False
    """True = another control: the server acknowledges before it has written to its disk."""


class Told(msgspec.Struct, frozen=True):
    """A plain step was executed with these values."""

    run: str
    key: str
    values: list[float]


_file: list[int] = []
_dice = random.SystemRandom()


@step(pure=True)
async def draw(i: int) -> float:
    return i + _dice.random()


@step(pure=True)
async def slow_draw(i: int) -> float:
    await asyncio.sleep(_dice.random() * 0.002)
    return i + _dice.random()


@step
async def tell(values: list[float]) -> list[float]:
    me = current_step()
    write_line(_file[0], Told(me.run, me.key, values))
    return values


@workflow
async def draws_and_tells(n: int) -> list[list[float]]:
    """Return what was drawn, and what was told, branch by branch."""

    async def branch(i: int) -> list[list[float]]:
        drawn: list[float] = []
        told: list[float] = []
        for _ in range(ROUNDS):
            drawn += [await (draw, slow_draw)[(i + d) % 2](d) for d in range(DRAWS)]
            told += await tell(drawn[-DRAWS:])
        return [drawn, told]

    return [part for branches in await asyncio.gather(*map(branch, range(BRANCHES))) for part in branches]


def keep_told(folder: Path) -> None:
    """Let the steps of this process write what they tell."""
    folder.mkdir(exist_ok=True)
    _file[:] = [open_lines(folder / TOLD)]


async def work(options: Options) -> None:
    """Start the runs that are not there, and see all of them to their end."""
    if not options.gated:
        Pipelined.go_out = Execution.go_out
    if options.loose:
        loosen()
    keep_told(Path(options.folder))
    async with Reprise(options.store, workflows=[draws_and_tells], capture_logs=False) as app:
        numbers = iter(range(options.runs))

        async def see_to_some() -> None:
            for n in numbers:
                await app.start(draws_and_tells, n, id=f"run-{n}")
                await _ended(app, f"run-{n}")

        await asyncio.gather(*(see_to_some() for _ in range(ABREAST)))


async def _ended(app: Reprise, run: str) -> None:
    """Wait until a run has ended; one that was killed too often is helped on."""
    while True:
        with suppress(ResultTimeout):
            finished = await app.client.wait(run, 5, settled=True)
            if finished.status == "completed":
                return
            with suppress(RunEnded):
                await app.client.resume(run)


def main(options: dict[str, Any]) -> None:
    """Be a worker until all is done."""
    asyncio.run(work(msgspec.convert(options, Options)))
