"""The jobs of a durable engine on our stores: what a step costs in time, CPU, syncs, bytes and memory.

J1 a chain of 100 steps · J2 1,000 steps at once, 100 at a time · J3 1,000 runs of 3 steps · J4 a step at history
length 100, 1,000 and 10,000. A step returns a fresh random string of 300 characters; afterwards a fresh process opens
the store and compares every one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.measure.children import Engine, Measures, run
from bench.measure.counters import described
from bench.measure.disk import sync_us
from bench.measure.report import Floors, figure, table

STORES = ("memory", "full", "normal")
JOBS = {
    "J1": {"job": "chain", "steps": 100},
    "J2": {"job": "fan", "steps": 1000},
    "J3": {"job": "chain", "steps": 3, "runs": 1000},
}
PAYLOAD = 302
"""Bytes of a step's value as JSON."""
LENGTHS = (100, 1000, 10_000)
WINDOW = 100
"""Steps over which the cost at a length is taken."""

HEAD = ("job, store", "steps/s", "least..most", "us/step", "CPU loop", "other", "sync/step", "B written", "B over",
        "RSS MB", "bare sync us")  # fmt: skip


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    print(f"{described()}\n")
    floors = Floors()
    with TemporaryDirectory(prefix="reprise-bench-") as folder:
        _jobs(Path(folder), floors, times=1 if once else 9, pause=0.0)
        print("\nwith steps of 10 ms")
        _jobs(Path(folder), floors, times=1 if once else 3, pause=0.01)
        print("\nJ4: CPU us (wall us) of a step by length of the history")
        _lengths(Path(folder), floors, LENGTHS[:2] if once else LENGTHS, times=1 if once else 5)
    floors.print()
    return once or floors.kept


@contextmanager
def _engine(folder: Path, name: str, store: str) -> Iterator[Engine]:
    """Open our engine on a fresh store; afterwards compare every value in a fresh process."""
    with Engine("ours", store, folder / f"{name}-{store}") as engine:
        yield engine
    if store != "memory":
        run("bench.programs.compare", store, str(engine.folder))


def _jobs(folder: Path, floors: Floors, times: int, pause: float) -> None:
    rows: list[tuple[str, ...]] = []
    with Engine("ours", "full", folder / f"empty-{pause}") as engine:
        pass
    empty = _file_bytes(engine.folder)
    for name, job in JOBS.items():
        for store in STORES:
            before = sync_us(folder)
            with _engine(folder, f"{name}-{pause}", store) as engine:
                engine.do(**job, pause=pause)
                done = engine.do(**job, pause=pause, times=times)
            over = _overhead(engine.folder, empty, job["steps"] * job.get("runs", 1) * (times + 1))
            rows.append(_row(f"{name} {store}", done, over, f"{before:.0f}, {sync_us(folder):.0f}"))
            if not pause and (name, store) == ("J2", "full"):
                floors.most("J2 full: syncs per step", done.per_step("syncs"), 0.05, 4)
                floors.most("J2 full: bytes written per step", done.per_step("written"), 2000, 0)
            if not pause and store == "full":
                floors.most(f"{name} full: bytes in the file per step beyond its value", over, 150, 0)
    table(HEAD, rows)


def _row(name: str, done: Measures, over: float | None, bare: str) -> tuple[str, ...]:
    return (
        name,
        figure(done.rate, 0),
        f"{min(done.rates):,.0f}..{max(done.rates):,.0f}",
        figure(1e6 / done.rate, 1),
        figure(done.per_step("loop_cpu", 1e6), 1),
        figure(done.per_step("other_cpu", 1e6), 1),
        figure(done.per_step("syncs"), 4),
        figure(done.per_step("written"), 0),
        figure(over, 0),
        figure(done.rss, 0),
        bare,
    )


def _overhead(folder: Path, empty: int, steps: int) -> float | None:
    """Return the bytes per step that the file has beyond the values and beyond that of an empty store."""
    size = _file_bytes(folder)
    return (size - empty) / steps - PAYLOAD if size else None


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
