"""Queues drained by one worker process, in turn with other queues; how soon a task begins; and single enqueues.

Others than ours need REPRISE_PEERS_PYTHON. A task writes eight bytes to a file; counted is from the first to the last of
them, so nobody's start counts. Ours has a time limit for each try, retries, results and a trace context; the others keep
no results, which is faster. Servers: Redis without a file, Redis with ``appendfsync always``, PostgreSQL with fsync.

"One command per call" is a script of one task (HSETNX, LPUSH) called by redis-py from as many coroutines as ours has.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from math import nan
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.engines.work import SERVER
from bench.measure.children import ROOT, run
from bench.measure.report import Floors, figure, table
from bench.measure.server import postgres, redis

PATIENCE = 60.0
"""Seconds after which a queue that does nothing more has failed."""


class Kind(NamedTuple):
    """A queue on a server."""

    whose: str
    server: str
    tasks: int


KINDS = (
    Kind("reprise", "redis", 60_000),
    Kind("reprise", "redis always", 40_000),
    Kind("reprise", "postgresql", 20_000),
    Kind("reprise", "sqlite", 20_000),
    Kind("pgqueuer", "postgresql", 20_000),
    Kind("taskiq", "redis", 5_000),
    Kind("celery", "redis", 2_000),
)
RACES = (
    ("redis", "pgqueuer", "postgresql", 2, 7),
    ("redis", "taskiq", "redis", 5, 25),
    ("redis", "celery", "redis", 15, 90),
    ("redis always", "pgqueuer", "postgresql", 1.5, 5),
    ("postgresql", "pgqueuer", "postgresql", 1, 2),
    ("sqlite", "celery", "redis", 1, 5),
)
"""Ours on what, against whom on what; times as many tasks a second as there must be, and are wanted."""
ROUNDS = 3
STEADY, PER_SECOND = 400, 100
HEAD = ("queue, one worker process", "tasks/s", "least..most", "begins p50 ms", "p99 ms")


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    floors, python = Floors(), os.environ.get("REPRISE_PEERS_PYTHON", "")
    rates: dict[Kind, list[float]] = {}
    waits: dict[Kind, list[tuple[float, float]]] = {}
    with TemporaryDirectory(prefix="reprise-bench-") as folder, _servers(Path(folder)) as servers:
        for _ in range(1 if once else ROUNDS):
            for kind in KINDS[::3] if once else KINDS:
                if (kind.whose != "reprise" and not python) or not servers.get(kind.server):
                    continue
                pythons = sys.executable if kind.whose == "reprise" else str(Path(python).absolute())
                bench = Bench(pythons, kind.whose, servers[kind.server], Path(folder) / "sink")
                rates.setdefault(kind, []).append(bench.drain(200 if once else kind.tasks))
                if kind.server == "redis":
                    waits.setdefault(kind, []).append(bench.begins(20 if once else STEADY))
        single = _singly(servers.get("redis", ""), once=once)
    table(HEAD, [_row(kind, rates[kind], waits.get(kind, [])) for kind in rates])
    _judge(rates, waits, floors, single)
    floors.print()
    return once or floors.kept


@contextmanager
def _servers(folder: Path) -> Generator[dict[str, str]]:
    """Run the servers; gives the URL of each, '' where it cannot be had."""
    with ExitStack() as stack:
        found = {
            "redis": stack.enter_context(redis()),
            "redis always": stack.enter_context(redis("--appendonly", "yes", "--appendfsync", "always")),
            "sqlite": f"sqlite:///{folder}/queue.db",
        }
        stack.enter_context(postgres())
        yield found | {"postgresql": os.environ.get(SERVER, "")}


class Bench:
    """A queue on a server, asked through processes of its own."""

    def __init__(self, python: str, whose: str, server: str, sink: Path) -> None:
        self._command = [python, "-m", "bench.programs.queueing", whose]
        self._sink = sink
        self._around = {**os.environ, "BENCH_SERVER": server, "BENCH_SINK": str(sink)}

    def drain(self, tasks: int) -> float:
        """Put in tasks, let a worker do them; return how many it did in a second."""
        self._sink.write_bytes(b"")
        self._ask("put", tasks)
        with self._worker():
            first = self._wait(1)
            began = time.perf_counter()
            self._wait(tasks)
            return (tasks - first) / (time.perf_counter() - began)

    def begins(self, tasks: int) -> tuple[float, float]:
        """Let tasks come one by one; return in how many milliseconds half and 99 of 100 of them had begun."""
        self._sink.write_bytes(b"")
        with self._worker():
            self._ask("steady", 20, PER_SECOND)
            self._wait(20)
            self._ask("steady", tasks, PER_SECOND)
            self._wait(20 + tasks)
        data = self._sink.read_bytes()
        waits = sorted(struct.unpack(f"{len(data) // 8}d", data)[20:])
        return waits[len(waits) // 2] * 1e3, waits[int(len(waits) * 0.99)] * 1e3

    def _ask(self, *what: object) -> None:
        subprocess.run([*self._command, *map(str, what)], cwd=ROOT, env=self._around, check=True)

    @contextmanager
    def _worker(self) -> Generator[None]:
        process = subprocess.Popen([*self._command, "work"], cwd=ROOT, env=self._around)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _wait(self, count: int) -> int:
        """Wait until so many are done; return how many are."""
        seen, moved = -1, time.monotonic()
        while (now := self._sink.stat().st_size // 8) < count:
            if now != seen:
                seen, moved = now, time.monotonic()
            if time.monotonic() - moved > PATIENCE:
                raise RuntimeError(f"{self._command[-1]} did {now} of {count} tasks and then nothing more")
            time.sleep(0.002)
        return now


def _singly(url: str, *, once: bool) -> tuple[float, float]:
    """Return how many tasks coroutines put in within a second that each await one at a time: ours, and by one command each."""
    if not url:
        return nan, nan
    ours, theirs = run("bench.programs.enqueueing", url, "50" if once else "20000").split()
    return float(ours), float(theirs)


def _judge(
    rates: dict[Kind, list[float]],
    waits: dict[Kind, list[tuple[float, float]]],
    floors: Floors,
    single: tuple[float, float],
) -> None:
    by_name = {(kind.whose, kind.server): median(each) for kind, each in rates.items()}
    for ours, peer, server, floor, goal in RACES:
        if (peer, server) in by_name:
            ratio = by_name.get(("reprise", ours), nan) / by_name[peer, server]
            floors.least(
                f"queue on {ours}: tasks/s over those of {peer}", ratio, floor, unit="times", goal=goal
            )
    floors.least(
        "enqueue one at a time, 50 coroutines, over one command per call",
        single[0] / single[1],
        5,
        unit="times",
        goal=12,
    )
    for kind, seen in waits.items():
        if kind.whose == "reprise":
            p50, p99 = (median(each) for each in zip(*seen, strict=True))
            floors.most("from enqueue to begin, 100 tasks/s, half of them", p50, 1.5, unit="ms", goal=0.5)
            floors.most("from enqueue to begin, 100 tasks/s, 99 of 100", p99, 5, unit="ms", goal=1.4)


def _row(kind: Kind, rates: list[float], waits: list[tuple[float, float]]) -> tuple[str, ...]:
    began = [figure(median(each), 2) for each in zip(*waits, strict=True)] or ["-", "-"]
    spread = f"{min(rates):,.0f}..{max(rates):,.0f}"
    return (f"{kind.whose} on {kind.server}", figure(median(rates), 0), spread, *began)
