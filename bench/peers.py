"""The same jobs beside other engines, in turn, each in a process of its own: needs REPRISE_PEERS_PYTHON.

DBOS on SQLite and LangGraph with AsyncSqliteSaver (durability="sync") beside ours on SQLite FULL; DBOS on PostgreSQL
beside ours on the same server; LangGraph with InMemorySaver beside ours in memory. Ratios are of medians. A shared disk moves wall-clock times by 1.5 to 2 times, so
the CPU of a step, its syncs and its bytes stand beside.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from math import nan
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from bench.jobs import JOBS
from bench.measure.children import Engine, Measures, run
from bench.measure.counters import described
from bench.measure.disk import sync_us
from bench.measure.report import Floors, figure, table
from bench.measure.server import postgres


class Pair(NamedTuple):
    """Ours beside a peer."""

    ours: str
    peer: str
    peer_store: str


DBOS = Pair("full", "dbos", "sqlite")
ON_SERVER = Pair("postgres", "dbos", "postgres")
LANGGRAPH = Pair("full", "langgraph", "sqlite")
IN_MEMORY = Pair("memory", "langgraph", "memory")
FLOORS = {
    (DBOS, "J1"): 2,
    (DBOS, "J2"): 100,
    (DBOS, "J3"): 60,
    (ON_SERVER, "J1"): 3,
    (ON_SERVER, "J2"): 50,
    (ON_SERVER, "J3"): 0,
    (LANGGRAPH, "J1"): 1.5,
    (LANGGRAPH, "J2"): 20,
    (LANGGRAPH, "J3"): 0,
    (IN_MEMORY, "J1"): 10,
    (IN_MEMORY, "J2"): 10,
    (IN_MEMORY, "J3"): 10,
}
"""How many times as many steps a second as the peer."""
OURS_PER_TURN = 5
"""Ours is short: this many times in each turn."""

HEAD = ("job, engine", "steps/s", "least..most", "CPU us", "sync/step", "B written", "RSS MB", "bare sync us", "ratio",
        "of CPU")  # fmt: skip


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    python = os.environ.get("REPRISE_PEERS_PYTHON", "")
    if not python:
        print("REPRISE_PEERS_PYTHON is not set: run make bench-peers", file=sys.stderr)
        return False
    python = str(Path(python).absolute())
    print(f"{described()}\n")
    floors = Floors()
    with TemporaryDirectory(prefix="reprise-bench-") as folder, postgres() as server:
        print(f"{server}\n")
        rows: list[tuple[str, ...]] = []
        for (pair, name), least in FLOORS.items():
            if pair is ON_SERVER and not server:
                floors.least(f"{name} on PostgreSQL", nan, least)
                continue
            turns = 1 if once else {"J1": 7, "J2": 4, "J3": 2}[name]
            job = {**JOBS[name], "steps": 3, "runs": 10} if once else JOBS[name]
            rows += _beside(Path(folder), python, pair, name, floors, least, turns, job)
        table(HEAD, rows)
        if not once:
            print("\nwith steps of 10 ms")
            rows = []
            for pair in (DBOS, LANGGRAPH):
                for name in ("J1", "J2"):
                    slow = {**JOBS[name], "pause": 0.01}
                    rows += _beside(Path(folder), python, pair, name, None, 0, 2, slow)
            table(HEAD, rows)
    floors.print()
    return once or floors.kept


def _beside(
    folder: Path,
    python: str,
    pair: Pair,
    name: str,
    floors: Floors | None,
    least: float,
    turns: int,
    job: dict[str, Any],
) -> list[tuple[str, ...]]:
    """Do a job in turn on ours and a peer; return their rows and note the floors."""
    label = f"{name}-{pair.peer}-{pair.peer_store}-{job.get('pause', 0)}"
    bare = [sync_us(folder)]
    ours: list[Measures] = []
    peers: list[Measures] = []
    with ExitStack() as stack:
        our = stack.enter_context(Engine("reprise", pair.ours, folder / f"{label}-ours"))
        peer = stack.enter_context(Engine(pair.peer, pair.peer_store, folder / label, python))
        our.do(**job)
        peer.do(**{**job, "steps": min(job["steps"], 100), "runs": 1})
        for _ in range(turns):
            ours.append(our.do(**job, times=OURS_PER_TURN))
            peers.append(peer.do(**job))
            bare.append(sync_us(folder))
    if pair.ours != "memory":
        run("bench.programs.compare", pair.ours, str(our.folder))
    mine, theirs = (Measures([one for turn in done for one in turn.each]) for done in (ours, peers))
    ratio, of_cpu = mine.rate / theirs.rate, theirs.cpu_us / mine.cpu_us
    if floors is not None and least:
        beside = f"{pair.peer} {pair.peer_store}"
        floors.least(f"{name} {pair.ours}: times the steps/s of {beside}", ratio, least)
    disk = f"{bare[0]:.0f}, {median(bare[1:]):.0f}"
    return [
        (*_cells(f"{name} reprise {pair.ours}", mine), disk, f"{ratio:.1f}", f"{of_cpu:.1f}"),
        (*_cells(f"   {pair.peer} {pair.peer_store}", theirs), disk),
    ]


def _cells(name: str, done: Measures) -> tuple[str, ...]:
    return (
        name,
        figure(done.rate, 0),
        f"{min(done.rates):,.0f}..{max(done.rates):,.0f}",
        figure(done.cpu_us, 1),
        figure(done.per_step("syncs"), 4),
        figure(done.per_step("written"), 0),
        figure(done.rss, 0),
    )
