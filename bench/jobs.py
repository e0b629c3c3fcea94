"""The jobs of a durable engine on our stores: what a step costs in time, CPU, syncs, bytes and memory.

J1 a chain of 100 steps · J2 1,000 steps at once, 100 at a time · J3 1,000 runs of 3 steps · J4 a step at history
length 100, 1,000 and 10,000. A step returns a fresh random string of 300 characters; afterwards a fresh process opens
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
from typing import Any

from bench.measure.children import Engine, Measures, run
from bench.measure.counters import described
from bench.measure.disk import sync_us
from bench.measure.report import Floors, figure, table
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
LENGTHS = (100, 1000, 10_000)
WINDOW = 100
"""Steps over which the cost at a length is taken."""

HEAD = ("job, store", "steps/s", "least..most", "us/step", "CPU loop", "other", "sync/step", "B written", "B over",
        "RSS MB", "bare sync us")  # fmt: skip


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    yardstick = task_us()
    print(f"{described()}\na task made and awaited: {yardstick:.1f} us of CPU\n")
    floors = Floors()
    with TemporaryDirectory(prefix="reprise-bench-") as folder, postgres() as server:
        stores = (*STORES, "postgres") if server else STORES
        figures = _jobs(Path(folder), stores, 1 if once else 5, 0.0, most_runs=20 if once else 1000)
        for name, limit in CPU_LIMITS.items():
            floors.most(f"{name}: CPU of a step in tasks", figures[name][0].cpu_us / yardstick, limit, 1)
        done, over = figures["J2 full"]
        floors.most("J2 full: syncs per step", done.per_step("syncs"), 0.05, 4)
        floors.most("J2 full: bytes written per step", done.per_step("written"), 2000, 0)
        floors.most("J1 full: bytes in the file per step beyond its value", figures["J1 full"][1], 150, 0)
        floors.most("J2 full: bytes in the file per step beyond its value", over, 150, 0)
        if not once:
            print("\nwith steps of 10 ms")
            _jobs(Path(folder), STORES[:2], 2, 0.01)
        print("\nJ4: CPU us (wall us) of a step by length of the history")
        _lengths(Path(folder), floors, LENGTHS[:2] if once else LENGTHS, times=1 if once else 2)
    floors.print()
    return once or floors.kept


@contextmanager
def _engine(folder: Path, name: str, store: str) -> Iterator[Engine]:
    """Open Reprise on a fresh store; afterwards compare every value in a fresh process."""
    with Engine("reprise", store, folder / f"{name}-{store}") as engine:
        yield engine
    if store != "memory":
        run("bench.programs.compare", store, str(engine.folder))


def _jobs(
    folder: Path, stores: Sequence[str], times: int, pause: float, most_runs: int = 1000
) -> dict[str, tuple[Measures, float]]:
    """Print what the jobs cost; return it by name, with the bytes in the file per step beyond its value."""
    figures: dict[str, tuple[Measures, float]] = {}
    rows: list[tuple[str, ...]] = []
    with Engine("reprise", "full", folder / f"empty-{pause}") as engine:
        pass
    empty = _file_bytes(engine.folder)
    for name, whole in JOBS.items():
        job = {**whole, "runs": min(whole["runs"], most_runs)}
        for store in stores:
            before = sync_us(folder)
            with _engine(folder, f"{name}-{pause}", store) as engine:
                engine.do(**job, pause=pause)
                done = engine.do(**job, pause=pause, times=times)
            steps = job["steps"] * job["runs"] * (times + 1)
            over = nan if store == "postgres" else _overhead(engine.folder, empty, steps)
            figures[f"{name} {store}"] = done, over
            rows.append(_row(f"{name} {store}", done, over, f"{before:.0f}, {sync_us(folder):.0f}"))
    table(HEAD, rows)
    return figures


def _row(name: str, done: Measures, over: float, bare: str) -> tuple[str, ...]:
    return (
        name,
        figure(done.rate, 0),
        f"{min(done.rates):,.0f}..{max(done.rates):,.0f}",
        figure(1e6 / done.rate, 1),
        figure(done.per_step("loop_cpu") * 1e6, 1),
        figure(done.per_step("other_cpu") * 1e6, 1),
        figure(done.per_step("syncs"), 4),
        figure(done.per_step("written"), 0),
        figure(over, 0),
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


def _lengths(folder: Path, floors: Floors, lengths: tuple[int, ...], times: int) -> None:
    rows: list[tuple[str, ...]] = []
    marks = [mark for length in lengths for mark in (length - WINDOW // 2, length + WINDOW // 2)]
    for store in STORES:
        with _engine(folder, "J4", store) as engine:
            engine.do("chain", 100)
            done = engine.do("chain", lengths[-1] + WINDOW, marks=marks, times=times)
        cpu = [_cost(done, length, 1) for length in lengths]
        wall = [_cost(done, length, 0) for length in lengths]
        rows.append((store, *(f"{c:.1f} ({w:.1f})" for c, w in zip(cpu, wall, strict=True))))
        floors.most(f"J4 {store}: CPU of a step at {lengths[-1]:,} over {lengths[0]}", cpu[-1] / cpu[0], 1.3)
    table(("store", *(f"{length:,}" for length in lengths)), rows)


def _cost(done: Measures, length: int, clock: int) -> float:
    """Return the median microseconds of a step around a length, by the wall clock (0) or the CPU clock (1)."""
    first, last = length - WINDOW // 2, length + WINDOW // 2
    return median((one.clocks[last][clock] - one.clocks[first][clock]) / WINDOW * 1e6 for one in done.each)
