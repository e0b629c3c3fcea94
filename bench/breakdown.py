"""Where the time of a durable step and of a run goes, in microseconds; what SQLite and asyncio take for the same alone.

The jobs are those of `bench jobs`, in this process. Its loop is looked at twice in a millisecond: what a look meets
counts for the nearest file of ours, and files are added up to what they are for. An observer, as in all jobs, is told of
each event; what it costs, and others do, is the difference of CPU with and without, in turn.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time, thread_time
from typing import Any, NamedTuple

from bench.engines import reprise_jobs
from bench.engines.__main__ import do
from bench.engines.work import Work
from bench.measure.disk import sync_us
from bench.measure.report import figure, table
from bench.measure.results import RESULTS
from bench.measure.sampling import BODY, LOOP, WAITING, looking
from bench.measure.yardstick import task_us

WRITER = "reprise-writer"
GROUPS = {
    "the step's own body, and the workflow's": (BODY,),
    "calls of steps: arguments, keys, retry, timeout": (
        "runtime/step", "runtime/pool", "runtime/execution", "runtime/branch", "runtime/handles", "runtime/loop",
        "runtime/retrying", "runtime/waits", "runtime/middleware", "runtime/workflow", "runtime/patching", "runtime/payloads",
    ),
    "recording and delivering: events, batches, acknowledgements": (
        "runtime/delivery", "runtime/outbox", "runtime/batch", "runtime/carriage", "runtime/pipelining",
        "runtime/history", "runtime/replaying", "runtime/face", "runtime/host",
    ),
    "values to bytes and back": ("kernel/arguments", "kernel/codec", "kernel/shape", "kernel/writes"),
    "beginning and ending runs: claim, lease, index, handle": (
        "runtime/starting", "runtime/worker", "runtime/engine", "runtime/ending", "runtime/takeover",
        "runtime/registry", "runtime/handle.py", "runtime/client", "runtime/parking", "runtime/loaded", "runtime/places",
        "app",
    ),
    "the store on the loop: packing, handing over, commits": ("stores",),
    "asyncio": (LOOP,),
    "the rest of ours": ("",),
    "nothing to do: waits for the disk": (WAITING,),
}  # fmt: skip
"""What files are for: the longest beginning of a file's name that is here says it."""


class Column(NamedTuple):
    """A job, on a store; what it costs is shown for one of ``of``."""

    title: str
    store: str
    job: dict[str, Any]
    times: int
    of: int = 1
    """Steps of what is shown: 1 = a step, more = a run of so many."""


COLUMNS = (
    Column("J1 full", "full", {"job": "chain", "steps": 100, "runs": 1}, 20),
    Column("pure full", "full", {"job": "pure", "steps": 1000, "runs": 1}, 40),
    Column("J2 full", "full", {"job": "fan", "steps": 1000, "runs": 1}, 40),
    Column("J2 memory", "memory", {"job": "fan", "steps": 1000, "runs": 1}, 40),
    Column("a run of J3 full", "full", {"job": "chain", "steps": 3, "runs": 1000}, 5, of=3),
)
VARIANTS: dict[str, dict[str, Any]] = {
    "as in all benches": {},
    "without an observer": {"traced": False},
    "without an observer and captured logs": {"traced": False, "capture_logs": False},
}
"""Ways to open Reprise."""
BATCH, ROW = 128, 302


def main(*, once: bool) -> bool:
    """Print the tables; there are no floors here."""
    with TemporaryDirectory(prefix="reprise-bench-") as name:
        folder = Path(name)
        _limits(folder)
        columns = [column._replace(times=1) if once else column for column in COLUMNS]
        places = [_made(folder / f"{number}") for number in range(len(columns))]
        looks = [asyncio.run(_look(*each)) for each in zip(places, columns, strict=True)]
        _show(columns, looks)
        _variants(folder, 1 if once else 9)
    return True


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


# ---------------------------------------------------------------- what others take


def _limits(folder: Path) -> None:
    """Print what the parts that are not ours take alone."""
    rows = [
        ("the step's body alone", asyncio.run(_body_us())),
        ("an asyncio task, made and awaited", task_us()),
        (f"a row of {ROW} bytes into SQLite, {BATCH} in a commit", _rows_us(folder, BATCH)),
        (f"a row of {ROW} bytes into SQLite, alone in a commit", _rows_us(folder, 1)),
        ("a bare fdatasync of a page", sync_us(folder)),
    ]
    table(("alone", "us"), [(name, figure(us)) for name, us in rows])
    for name, us in rows:
        RESULTS.note(f"alone: {name}", us, "us")


async def _body_us() -> float:
    work, count = Work(), 5000
    begun = perf_counter()
    for i in range(count):
        await work("run", i, 0.0)
    return (perf_counter() - begun) / count * 1e6


def _rows_us(folder: Path, rows: int, commits: int = 60) -> float:
    """Return the median microseconds of a row in durable commits of so many, on a grown write-ahead log."""
    with closing(sqlite3.connect(folder / f"rows-{rows}.db", isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        file.execute("CREATE TABLE rows (stream INTEGER, version INTEGER, data BLOB, PRIMARY KEY (stream, version)) WITHOUT ROWID")  # fmt: skip
        taken: list[float] = []
        for commit in range(2 * commits):
            values = [(1, commit * rows + n, os.urandom(ROW)) for n in range(rows)]
            begun = perf_counter()
            file.execute("BEGIN IMMEDIATE")
            file.executemany("INSERT INTO rows VALUES (?, ?, ?)", values)
            file.execute("COMMIT")
            taken.append((perf_counter() - begun) / rows * 1e6)
    return median(taken[commits:])


# ---------------------------------------------------------------- looks


class Looks(NamedTuple):
    """What was seen of a job."""

    us: float
    """Microseconds by the clock, of what the column shows."""
    loop_cpu_us: float
    other_cpu_us: float
    loop: Counter[str]
    writer: Counter[str]


async def _look(folder: Path, column: Column) -> Looks:
    work = Work()
    async with reprise_jobs.opened(column.store, folder, work) as jobs:
        job = {"pause": 0.0, **column.job}
        await do(jobs, **job)
        gc.collect()
        begun, cpu, own = perf_counter(), process_time(), thread_time()
        with looking(WRITER) as (loop, writer):
            for _ in range(column.times):
                await do(jobs, **job)
        seconds, cpu, own = perf_counter() - begun, process_time() - cpu, thread_time() - own
    shown = job["steps"] * job["runs"] * column.times / column.of
    return Looks(seconds / shown * 1e6, own / shown * 1e6, max(0.0, cpu - own) / shown * 1e6, loop, writer)


def _show(columns: list[Column], looks: list[Looks]) -> None:
    by_group = [_grouped(each.loop) for each in looks]
    rows: list[tuple[str, ...]] = []
    for group in GROUPS:
        parts = [
            each.us * found[group] / max(1, found.total())
            for each, found in zip(looks, by_group, strict=True)
        ]
        rows.append((group, *(figure(part) for part in parts)))
        for column, part in zip(columns, parts, strict=True):
            RESULTS.note(f"{column.title}: {group}", part, "us")
    rows.append(("= by the clock", *(figure(each.us) for each in looks)))
    rows.append(("CPU of the loop's thread", *(figure(each.loop_cpu_us) for each in looks)))
    rows.append(
        ("CPU of other threads: the writer, beside it", *(figure(each.other_cpu_us) for each in looks))
    )
    rows.append(("looks", *(f"{each.loop.total():,}" for each in looks)))
    print()
    table(("us of a step, or of a run", *(column.title for column in columns)), rows)
    for column, each in zip(columns, looks, strict=True):
        parts = [f"{name} {count / each.loop.total():.0%}" for name, count in each.loop.most_common(8)]
        print(f"{column.title}, loop: {', '.join(parts)}")
        if each.writer:
            parts = [
                f"{name} {count / each.writer.total():.0%}" for name, count in each.writer.most_common(6)
            ]
            print(f"{column.title}, writer: {', '.join(parts)}")


def _grouped(looks: Counter[str]) -> Counter[str]:
    """Add up files to what they are for."""
    groups: Counter[str] = Counter()
    for file, count in looks.items():
        _, group = max(
            (len(start), name) for name, all in GROUPS.items() for start in all if file.startswith(start)
        )
        groups[group] += count
    return groups


# ---------------------------------------------------------------- what features cost


def _variants(folder: Path, turns: int) -> None:
    """Print the CPU of a step of J2 in memory, opened in several ways that take turns."""
    cpu: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for turn in range(turns + 1):
        for number, (name, options) in enumerate(VARIANTS.items()):
            place = _made(folder / f"variant-{turn}-{number}")
            cpu[name].append(asyncio.run(_cpu_us(place, options)))
    print()
    base = median(next(iter(cpu.values()))[1:])
    rows = [(name, figure(median(each[1:])), f"{median(each[1:]) - base:+.1f}") for name, each in cpu.items()]
    table(("J2 memory, CPU us of a step", "", "less"), rows)


async def _cpu_us(folder: Path, options: dict[str, Any]) -> float:
    steps, times = 1000, 3
    async with reprise_jobs.opened("memory", folder, Work(), **options) as jobs:
        await do(jobs, "fan", 100, 0.0, 1)
        gc.collect()
        begun = process_time()
        for _ in range(times):
            await do(jobs, "fan", steps, 0.0, 1)
        return (process_time() - begun) / steps / times * 1e6
