"""What a step costs that declares more than a plain one, beside a plain one, in one process and on one file.

Each mechanism is a line of ``MECHANISMS``. All do the same work: a fresh random string of 300 characters. They take
turns, so that what the machine does meanwhile meets all of them. "In a row" is a run of 100 steps that wait for each
other, "at once" one of 1,000 steps that do not; commits are those of the store, whatever they hold.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from bench.engines.reprise_jobs import url
from bench.measure.report import Floors, figure, table
from reprise import Budget, Reprise, SQLiteConnection, Undo, step, workflow

STORES = ("full", "memory")
ROW, FAN, TIMES = 100, 1000, 7
FASTER = 3
"""Times as many pure steps in a row as plain ones, at least, on a disk."""
PURE_COMMITS = 0.35
"""Commits of a pure step in a row, at most."""


async def make(i: int) -> str:
    """Do the work of all steps."""
    return os.urandom(150).hex()


def made(i: int) -> str:
    """Do the same without a loop."""
    return os.urandom(150).hex()


@step(transaction=True)
def stored(connection: SQLiteConnection, i: int) -> str:
    """Do the same where the log is written, and one statement besides."""
    connection.execute("SELECT ?", (i,))
    return os.urandom(150).hex()


async def forget(undo: Undo) -> None:
    """Undo nothing: no run here fails."""


plain = step(name="plain")(make)
effect = step(name="effect", effect="make", idempotent=True)(make)
undone = step(name="undone", undo=forget)(make)
pure = step(name="pure", pure=True)(make)
cached = step(name="cached", pure=True, cache="1h")(make)
threaded = step(name="threaded")(made)
processed = step(name="processed", executor="process")(made)


@dataclass(frozen=True)
class Mechanism:
    """A step, whether it is called with arguments that it was called with before, and on which stores."""

    step: Callable[..., Any]
    again: bool = False
    stores: tuple[str, ...] = STORES
    budget: Budget | None = None
    """Of the run that calls it."""


MECHANISMS: dict[str, Mechanism] = {
    "plain": Mechanism(plain),
    "pure": Mechanism(pure),
    "cache, missed": Mechanism(cached),
    "cache, hit": Mechanism(cached, again=True),
    "thread": Mechanism(threaded),
    "process": Mechanism(processed),
    "transaction": Mechanism(stored, stores=("full",)),
    "effect": Mechanism(effect),
    "undo": Mechanism(undone),
    "budget": Mechanism(plain, budget=Budget(steps=1_000_000)),
}


@workflow
async def in_a_row(what: str, first: int, steps: int) -> int:
    """One step after the other."""
    call = MECHANISMS[what].step
    return len([await call(first + i) for i in range(steps)])


@workflow
async def at_once(what: str, first: int, steps: int) -> int:
    """All steps at once."""
    call = MECHANISMS[what].step
    return len(await asyncio.gather(*(call(first + i) for i in range(steps))))


@dataclass
class Cost:
    """What steps of a kind cost, one figure for each time."""

    rates: list[float] = field(default_factory=list[float])
    cpu_us: list[float] = field(default_factory=list[float])
    commits: list[float] = field(default_factory=list[float])

    @property
    def rate(self) -> float:
        """Steps per second."""
        return median(self.rates)

    def row(self, beside: Cost) -> tuple[str, ...]:
        """Return the figures, and how they compare with others."""
        cpu = median(self.cpu_us)
        return (
            figure(self.rate, 0),
            figure(self.rate / beside.rate, 2),
            figure(cpu, 1),
            figure(cpu - median(beside.cpu_us), 1),
            figure(median(self.commits), 3),
        )


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    floors = Floors()
    with TemporaryDirectory(prefix="reprise-bench-") as folder:
        for store in STORES:
            asyncio.run(_store(Path(folder), store, floors, 1 if once else TIMES))
    floors.print()
    return once or floors.kept


async def _store(folder: Path, store: str, floors: Floors, times: int) -> None:
    rows: list[tuple[str, ...]] = []
    async with Reprise(url(store, folder), capture_logs=False) as app:
        for flow, steps in ((in_a_row, ROW), (at_once, FAN)):
            costs = await _turns(app, store, flow, steps, times)
            rows += [
                (f"{store}, {flow.name.replace('_', ' ')}, {name}", *cost.row(costs["plain"]))
                for name, cost in costs.items()
            ]
            if (store, flow) == ("full", in_a_row):
                pure = costs["pure"]
                faster, commits = pure.rate / costs["plain"].rate, median(pure.commits)
                floors.least("full, in a row: pure over plain", faster, FASTER, unit="times")
                floors.most("full, in a row: commits of a pure step", commits, PURE_COMMITS, unit="commits")
    rows.append((f"{store}: tasks of asyncio in a row, nothing kept", figure(await _limit(), 0)))
    print()
    table(("", "steps/s", "× plain", "CPU us", "+ us", "commits/step"), rows)


async def _turns(app: Reprise, store: str, flow: Any, steps: int, times: int) -> dict[str, Cost]:
    """Let the mechanisms take turns; the first turn of each is not counted."""
    costs = {name: Cost() for name, mechanism in MECHANISMS.items() if store in mechanism.stores}
    numbers = count(1)
    for turn in range(times + 1):
        for name, cost in costs.items():
            first = 0 if MECHANISMS[name].again else next(numbers) * 1_000_000
            gc.collect()
            before = _commits(app)
            wall, cpu = perf_counter(), process_time()
            assert await app.run(flow, name, first, steps, budget=MECHANISMS[name].budget) == steps
            wall, cpu = perf_counter() - wall, process_time() - cpu
            if turn:
                cost.rates.append(steps / wall)
                cost.cpu_us.append(cpu / steps * 1e6)
                cost.commits.append((_commits(app) - before) / steps)
    return costs


def _commits(app: Reprise) -> int:
    return int(app.store.statistics()["commits"])


async def _limit() -> float:
    """Return how many tasks per second asyncio itself makes and awaits in a row here."""
    rates: list[float] = []
    for _ in range(TIMES):
        began = perf_counter()
        for i in range(ROW):
            await asyncio.create_task(make(i))
        rates.append(ROW / (perf_counter() - began))
    return median(rates)
