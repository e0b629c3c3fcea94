"""Shared state on Redis: reads from the copy beside redis-py's client, and how late a write is in another process's copy.

Reads: one key, one after the other, by ``await state.get(key)``; redis-py's synchronous client with its cache, and without.
Writes: one process writes now and then, others follow, each in a process of its own; counted from before the write to when
the copy has it and a handler is told. The redis-py that is measured is the one our own environment has.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from math import nan
from statistics import median
from time import perf_counter

from bench.measure.children import ROOT, run
from bench.measure.report import Floors, figure, table
from bench.measure.server import redis
from bench.programs.following import KEY, SPACE
from reprise import StateSync

READS, WRITES, FOLLOWERS, PAUSE = 400_000, 1_000, 2, 0.003
ROUNDS = 3
SLOWEST = (2, 0.3)
"""Milliseconds after which a write is in 99 of 100 copies."""


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    floors = Floors()
    reads: list[tuple[float, ...]] = []
    lags: list[tuple[float, float, float]] = []
    with redis() as url:
        for _ in range(0 if not url else 1 if once else ROUNDS):
            told = run("bench.programs.reading", url, str(READS // 100 if once else READS))
            reads.append(tuple(map(float, told.split())))
            lags.append(_late(url, WRITES // 50 if once else WRITES))
    ours, cached, plain = (median(each) for each in zip(*reads, strict=True)) if reads else (nan, nan, nan)
    names = ("ours, from its copy", "redis-py, cached", "redis-py, from the server")
    table(
        ("reads of a key", "reads/s"),
        [(name, figure(rate, 0)) for name, rate in zip(names, (ours, cached, plain), strict=True)],
    )
    p50, p99, longest = (median(each) for each in zip(*lags, strict=True)) if lags else (nan, nan, nan)
    table(
        ("until a write is in another process's copy", "p50 ms", "p99 ms", "longest ms"),
        [("ours", figure(p50, 3), figure(p99, 3), figure(longest, 3))],
    )
    floors.least("reads/s over those of redis-py, cached", ours / cached, 50, unit="times", goal=300)
    floors.least(
        "reads/s over those of redis-py, from the server", ours / plain, 100, unit="times", goal=1000
    )
    floors.most("a write is in 99 of 100 copies after", p99, SLOWEST[0], 3, unit="ms", goal=SLOWEST[1])
    floors.print()
    return once or floors.kept


def _late(url: str, writes: int) -> tuple[float, float, float]:
    """Let others follow, and write; return after how many milliseconds half of them, 99 of 100 and all had it."""
    command = [sys.executable, "-m", "bench.programs.following", url, str(writes)]
    followers = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(FOLLOWERS)
    ]
    for follower in followers:
        assert follower.stdout is not None
        follower.stdout.readline()
    asyncio.run(_write(url, writes))
    lags = sorted(lag for follower in followers for lag in json.loads(follower.communicate()[0]))
    return lags[len(lags) // 2], lags[int(len(lags) * 0.99)], lags[-1]


async def _write(url: str, writes: int) -> None:
    async with StateSync(url, SPACE) as state:
        for _ in range(writes):
            await state.set(KEY, perf_counter())
            await asyncio.sleep(PAUSE)
