"""What the interpreter of plans costs: a step of a large plan beside the same graph written by hand, and a long map step.

The graph has layers of 100 steps, each of which waits for three of the layer before. "By hand" is a workflow whose body
has a task for each step that awaits those three tasks and then calls the step; "gathered" calls a layer at once and knows
no dependencies: what the steps alone cost. They take turns. Compared is CPU, for that is what scheduling takes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

from bench.engines.reprise_jobs import url
from bench.measure.report import Floors, figure, table
from reprise import Reprise, WorkflowOrchestrator, WorkflowStep, step, workflow

STORES = ("memory", "normal")
WIDTH, STEPS, ITEMS = 100, 10_000, 100_000
DEARER = 1.5
"""Times the CPU of the same graph by hand that a step of a plan may take."""
GROWTH = 60
"""MB that a map step over ITEMS may add to a process, whatever their number, but for their results."""


@step
async def work(number: int) -> int:
    """Do nothing."""
    return 1


def _above(place: int) -> list[int]:
    return [(place + shift) % WIDTH for shift in range(3)]


@workflow
async def by_hand(layers: int) -> int:
    """Let each step wait for three of the layer before."""

    async def node(number: int, above: list[asyncio.Task[int]]) -> int:
        for task in above:
            await task
        return await work(number)

    last: list[asyncio.Task[int]] = []
    for _ in range(layers):
        before, last = last, []
        for place in range(WIDTH):
            above = [before[other] for other in _above(place)] if before else []
            last.append(asyncio.create_task(node(place, above)))
    return sum(await asyncio.gather(*last))


@workflow
async def gathered(layers: int) -> int:
    """Call one layer after another."""
    return sum([sum(await asyncio.gather(*map(work, range(WIDTH)))) for _ in range(layers)])


def plan(layers: int) -> WorkflowOrchestrator:
    """Return the same graph as a plan."""
    made = WorkflowOrchestrator("layered", max_concurrent=WIDTH)
    for layer in range(layers):
        for place in range(WIDTH):
            above = tuple(f"s{layer - 1}-{other}" for other in _above(place)) if layer else ()
            made.add_step(WorkflowStep(name=f"s{layer}-{place}", agent_type="any", dependencies=above))
    return made


async def agent(agent_type: str, task: Any, context: dict[str, Any]) -> int:
    """Do nothing."""
    return 1


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    floors = Floors()
    with TemporaryDirectory(prefix="reprise-bench-") as folder:
        _graphs(Path(folder), floors, STEPS // 10 if once else STEPS, 1 if once else 5)
        _maps(Path(folder), floors, ITEMS // 20 if once else ITEMS)
    floors.print()
    return once or floors.kept


def _graphs(folder: Path, floors: Floors, steps: int, times: int) -> None:
    rows: list[tuple[str, ...]] = []
    for store in STORES:
        figures = asyncio.run(_take_turns(url(store, folder), steps, times))
        plans, hand, bare = (median(figures[name]) * 1e6 / steps for name in ("plan", "by hand", "gathered"))
        rows.append(
            (
                store,
                figure(bare),
                figure(hand),
                figure(plans),
                figure(plans / hand, 2),
                figure(plans / bare, 2),
            )
        )
        floors.most(
            f"{store}: CPU of a step of a plan by that of the graph by hand",
            plans / hand,
            DEARER,
            unit="times",
        )
    print(f"CPU us of a step in a graph of {steps:,}")
    table(("store", "gathered", "by hand", "plan", "plan/hand", "plan/gathered"), rows)


async def _take_turns(store: str, steps: int, times: int) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {}
    made = plan(steps // WIDTH)
    async with Reprise(store, capture_logs=False) as app:

        async def planned() -> None:
            (await made.execute(agent, app=app)).raise_for_status()

        jobs: dict[str, Callable[[], Awaitable[Any]]] = {
            "gathered": lambda: app.run(gathered, steps // WIDTH),
            "by hand": lambda: app.run(by_hand, steps // WIDTH),
            "plan": planned,
        }
        for _ in range(times):
            for name, do in jobs.items():
                gc.collect()
                began = process_time()
                await do()
                figures.setdefault(name, []).append(process_time() - began)
    return figures


def _maps(folder: Path, floors: Floors, items: int) -> None:
    print(f"\na map step over {items:,} items on a file")
    rows: list[tuple[str, ...]] = []
    for collect in ("count", "collect"):
        command = [sys.executable, "-m", "bench.programs.fan_out", str(items), url("normal", folder), collect]
        done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        growth = done["peak"] - done["before"]
        rows.append(
            (
                collect,
                figure(done["seconds"]),
                figure(done["before"], 0),
                figure(done["peak"], 0),
                str(done["at_once"]),
            )
        )
        floors.most(f"{collect}: memory that {items:,} items add", growth, GROWTH, 0, unit="MB")
        floors.most(f"{collect}: items at once", done["at_once"], 50, 0, unit="items")
    table(("results", "s", "MB before", "MB at most", "at once"), rows)
