"""The jobs of a durable engine on our stores: what a step costs in time, CPU, syncs, bytes and memory.

J1 a chain of 100 steps · J2 1,000 steps at once, 100 at a time · J3 1,000 runs of 3 steps · J4 a step at history
lengths from 100 to 100,000. A step returns a fresh random string of 300 characters; afterwards a fresh process opens
the store and compares every one. What is asked of CPU is asked in tasks: the CPU that making and awaiting an asyncio
task takes here and now. On PostgreSQL the work of the server's own processes is not counted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from math import nan
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from bench.measure.children import Engine, Measure, Measures, run
from bench.measure.counters import described
from bench.measure.disk import sync_us
from bench.measure.report import Floors, figure, table
from bench.measure.results import RESULTS
from bench.measure.server import postgres
from bench.measure.yardstick import task_us

STORES = ("memory", "full", "normal")
JOBS: dict[str, dict[str, Any]] = {
    "J1": {"job": "chain", "steps": 100, "runs": 1},
    "J2": {"job": "fan", "steps": 1000, "runs": 1},
    "J3": {"job": "chain", "steps": 3, "runs": 1000},
}
PAYLOAD = 302
"""Bytes of a step's value as JSON."""
CPU_LIMITS = {"J1 memory": 8, "J2 memory": 4, "J3 memory": 16, "J2 full": 5, "J3 full": 20}
"""Tasks' worth of CPU that a step may take. (That of J1 on a disk is mostly the kernel's, for the sync.)"""
LENGTHS = {100: 20, 1000: 4, 10_000: 2, 100_000: 1}
"""Lengths of a history at which a step is measured, and how often: a short chain takes few steps."""
WINDOW = 100
"""Steps over which the cost at a length is taken, at least: the first after a pause find cold caches."""
MOST_GROWTH = 1.3
"""CPU of a step at the longest history over that at the shortest; the goal is at GOAL_GROWTH."""
GOAL_GROWTH = 1.1

HEAD = ("job, store", "steps/s", "least..most", "us/step", "CPU loop", "other", "sync/step", "B written", "B over",
        "RSS MB", "bare sync us")  # fmt: skip


class Cost(NamedTuple):
    """What a job cost on a store."""

    done: Measures
    over: float
    """Bytes in the file per step beyond its value; NaN where there is no file."""
    sync_us: float
    """Of a bare sync, measured between the times that the job was done."""


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    yardstick = task_us()
    print(f"{described()}\na task made and awaited: {yardstick:.1f} us of CPU\n")
    floors = Floors()
    with TemporaryDirectory(prefix="reprise-bench-") as folder, postgres() as server:
        stores = (*STORES, "postgres") if server else STORES
        figures = _jobs(Path(folder), stores, 1 if once else 5, 0.0, most_runs=20 if once else 1000)
        for name, limit in CPU_LIMITS.items():
            floors.most(
                f"{name}: CPU of a step", figures[name].done.cpu_us / yardstick, limit, 1, unit="tasks"
            )
        _judge(figures, floors)
        memory = _memory(Path(folder), JOBS["J3"]["runs"] if not once else 20)
        floors.most("J3 full: most memory of the process", memory, None, 1, unit="MB", goal=64)
        if not once:
            print("\nwith steps of 10 ms")
            _jobs(Path(folder), STORES[:2], 2, 0.01)
        print("\nJ4: CPU us (wall us) of a step by length of the history")
        _lengths(Path(folder), floors, {100: 1, 200: 1} if once else LENGTHS)
    floors.print()
    return once or floors.kept


def _judge(figures: dict[str, Cost], floors: Floors) -> None:
    """Note what is asked of the jobs on a disk, whatever that is worth."""
    j1, j2, j3 = (figures[f"{name} full"] for name in JOBS)
    floors.most("J1 full: syncs per step", j1.done.per_step("syncs"), None, 3, unit="syncs", goal=1.03)
    floors.most(
        "J1 full: a step over a bare sync", 1e6 / j1.done.rate / j1.sync_us, None, unit="times", goal=2.5
    )
    floors.most("J1 full: written per step", j1.done.per_step("written"), None, 0, unit="B", goal=10_000)
    floors.most("J2 full: syncs per step", j2.done.per_step("syncs"), 0.05, 4, unit="syncs", goal=0.02)
    floors.most("J2 full: written per step", j2.done.per_step("written"), 2000, 0, unit="B", goal=1200)
    floors.most("J1 full: in the file per step beyond its value", j1.over, 150, 0, unit="B")
    floors.most("J2 full: in the file per step beyond its value", j2.over, 150, 0, unit="B", goal=100)
    floors.most("J3 full: in the file per step beyond its value", j3.over, None, 0, unit="B", goal=220)


def _memory(folder: Path, runs: int) -> float:
    """Return the most memory, in MB, of a fresh process that did J3 once."""
    with _engine(folder, "memory", "full") as engine:
        return engine.do(**{**JOBS["J3"], "runs": runs}).rss


@contextmanager
def _engine(folder: Path, name: str, store: str) -> Iterator[Engine]:
    """Open Reprise on a fresh store; afterwards compare every value in a fresh process."""
    with Engine("reprise", store, folder / f"{name}-{store}") as engine:
        yield engine
    if store != "memory":
        run("bench.programs.compare", store, str(engine.folder))


def _jobs(
    folder: Path, stores: Sequence[str], times: int, pause: float, most_runs: int = 1000
) -> dict[str, Cost]:
    """Print what the jobs cost; return it by name."""
    figures: dict[str, Cost] = {}
    rows: list[tuple[str, ...]] = []
    with Engine("reprise", "full", folder / f"empty-{pause}") as engine:
        pass
    empty = _file_bytes(engine.folder)
    for name, whole in JOBS.items():
        job = {**whole, "runs": min(whole["runs"], most_runs)}
        for store in stores:
            bare = [sync_us(folder)]
            each: list[Measure] = []
            with _engine(folder, f"{name}-{pause}", store) as engine:
                engine.do(**job, pause=pause)
                for _ in range(times):
                    each += engine.do(**job, pause=pause).each
                    bare.append(sync_us(folder))
            steps = job["steps"] * job["runs"] * (times + 1)
            over = nan if store == "postgres" else _overhead(engine.folder, empty, steps)
            cost = figures[f"{name} {store}"] = Cost(Measures(each), over, median(bare))
            RESULTS.measured(
                name if not pause else f"{name} of 10 ms", "reprise", store, cost.done, cost.sync_us
            )
            rows.append(_row(f"{name} {store}", cost, f"{min(bare):.0f}, {median(bare):.0f}"))
    table(HEAD, rows)
    return figures


def _row(name: str, cost: Cost, bare: str) -> tuple[str, ...]:
    done = cost.done
    return (
        name,
        figure(done.rate, 0),
        f"{min(done.rates):,.0f}..{max(done.rates):,.0f}",
        figure(1e6 / done.rate, 1),
        figure(done.per_step("loop_cpu") * 1e6, 1),
        figure(done.per_step("other_cpu") * 1e6, 1),
        figure(done.per_step("syncs"), 4),
        figure(done.per_step("written"), 0),
        figure(cost.over, 0),
        figure(done.rss, 0),
        bare,
    )


def _overhead(folder: Path, empty: int, steps: int) -> float:
    """Return the bytes per step that the file has beyond the values and beyond that of an empty store; NaN in memory."""
    size = _file_bytes(folder)
    return (size - empty) / steps - PAYLOAD if size else nan


def _file_bytes(folder: Path) -> int:
    """Return the size of the database once all of it is in its file, 0 for a store in memory."""
    path = folder / "reprise.db"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return path.stat().st_size


def _lengths(folder: Path, floors: Floors, lengths: dict[int, int]) -> None:
    """Print what a step costs around each length: in the middle of a tenth of it, at least 100 steps."""
    rows: list[tuple[str, ...]] = []
    most = min(10_000, max(lengths))
    for store in STORES:
        cpu: dict[int, float] = {}
        shown: list[str] = []
        with _engine(folder, "J4", store) as engine:
            engine.do("chain", 100)
            for length, times in lengths.items():
                half = max(length // 20, WINDOW // 2)
                marks = (length - half, length + half)
                done = engine.do("chain", length + half + 1, marks=marks, times=times)
                cpu[length] = _between(done, marks, 1)
                shown.append(f"{cpu[length]:.1f} ({_between(done, marks, 0):.1f})")
        rows.append((store, *shown))
        first = min(lengths)
        floors.most(f"J4 {store}: CPU of a step at {most:,} over {first}", cpu[most] / cpu[first], MOST_GROWTH, unit="times")  # fmt: skip
        if (last := max(lengths)) != most:
            floors.most(f"J4 {store}: CPU of a step at {last:,} over {first}", cpu[last] / cpu[first], None, unit="times", goal=GOAL_GROWTH)  # fmt: skip
    table(("store", *(f"{length:,}" for length in lengths)), rows)


def _between(done: Measures, marks: tuple[int, int], clock: int) -> float:
    """Return the median microseconds of a step between two, by the wall clock (0) or the CPU clock (1)."""
    first, last = marks
    return median(
        (one.clocks[last][clock] - one.clocks[first][clock]) / (last - first) * 1e6 for one in done.each
    )
