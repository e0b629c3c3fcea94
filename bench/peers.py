"""The same jobs beside other engines, in turn, each in a process of its own: needs REPRISE_PEERS_PYTHON.

DBOS on SQLite and LangGraph with AsyncSqliteSaver (durability="sync") beside ours on SQLite FULL; DBOS on PostgreSQL
beside ours on the same server; LangGraph with InMemorySaver beside ours in memory. "Pure" is our chain of pure steps
beside the chain of DBOS, which has no such steps. All do the same work, return the same bytes, have at most 100 steps
under way in a run, sync what they acknowledge, and are warmed up by the same little job; ours alone is traced by an
observer besides. Ratios are of medians. A shared disk moves wall-clock times by 1.5 to 2 times, so the CPU of a step,
its syncs and its bytes stand beside.
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
from bench.measure.results import RESULTS
from bench.measure.server import postgres


class Pair(NamedTuple):
    """Ours beside a peer."""

    ours: str
    peer: str
    peer_store: str


class Race(NamedTuple):
    """A job of ours beside a peer's: times as many steps a second that must be, and that are wanted."""

    pair: Pair
    name: str
    floor: float | None
    goal: float | None
    turns: int


DBOS = Pair("full", "dbos", "sqlite")
ON_SERVER = Pair("postgres", "dbos", "postgres")
LANGGRAPH = Pair("full", "langgraph", "sqlite")
IN_MEMORY = Pair("memory", "langgraph", "memory")
RACES = (
    Race(DBOS, "J1", 2, 5, 7),
    Race(DBOS, "J2", 100, 250, 4),
    Race(DBOS, "J3", 60, 120, 2),
    Race(DBOS, "P100", None, 80, 5),
    Race(DBOS, "P10000", None, 150, 1),
    Race(ON_SERVER, "J1", 3, 8, 7),
    Race(ON_SERVER, "J2", 50, 150, 4),
    Race(ON_SERVER, "J3", None, None, 2),
    Race(LANGGRAPH, "J1", 1.5, 3, 7),
    Race(LANGGRAPH, "J2", 20, 45, 4),
    Race(LANGGRAPH, "J3", None, 40, 2),
    Race(IN_MEMORY, "J1", 10, 20, 7),
    Race(IN_MEMORY, "J2", 10, 28, 4),
    Race(IN_MEMORY, "J3", 10, 30, 2),
)
FAST_DISK_US = 300
"""A bare sync up to which the goals of J1 on SQLite hold; on a slower one all engines wait for the disk."""
MOST_SYNCS, MOST_OF_A_SYNC = 1.03, 2.5
"""Goals of J1 FULL on any disk: syncs of a step, and its time in bare syncs of the same run."""
OURS_PER_TURN = 5
"""Ours is short: this many times in each turn."""

PURE = {"P100": 100, "P10000": 10_000}
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
        for race in RACES:
            if race.pair is ON_SERVER and not server:
                floors.least(f"{race.name} on PostgreSQL", nan, race.floor, unit="times", goal=race.goal)
                continue
            rows += _beside(Path(folder), python, race._replace(turns=1) if once else race, floors, once)
        table(HEAD, rows)
        if not once:
            print("\nwith steps of 10 ms")
            rows = []
            for pair in (DBOS, LANGGRAPH):
                for name in ("J1", "J2"):
                    rows += _beside(Path(folder), python, Race(pair, name, None, None, 2), None, once, 0.01)
            table(HEAD, rows)
    floors.print()
    return once or floors.kept


def _job(name: str, engine: str, *, once: bool) -> dict[str, Any]:
    """Return a job as an engine does it."""
    if name in PURE:
        ours = engine == "reprise"
        job = {"job": "pure" if ours else "chain", "steps": PURE[name], "runs": 1}
    else:
        job = JOBS[name]
    return {**job, "steps": min(job["steps"], 3), "runs": min(job["runs"], 10)} if once else job


def _warm(job: dict[str, Any]) -> dict[str, Any]:
    """Return the little of a job that all engines do before they are measured."""
    return {**job, "steps": min(job["steps"], 100), "runs": min(job["runs"], 100)}


def _beside(
    folder: Path, python: str, race: Race, floors: Floors | None, once: bool, pause: float = 0.0
) -> list[tuple[str, ...]]:
    """Do a job in turn on ours and a peer; return their rows and note the floors."""
    pair, name = race.pair, race.name
    label = f"{name}-{pair.peer}-{pair.peer_store}-{pause}"
    our_job, peer_job = (
        {**_job(name, engine, once=once), "pause": pause} for engine in ("reprise", pair.peer)
    )
    bare: list[float] = []
    ours: list[Measures] = []
    peers: list[Measures] = []
    with ExitStack() as stack:
        our = stack.enter_context(Engine("reprise", pair.ours, folder / f"{label}-ours"))
        peer = stack.enter_context(Engine(pair.peer, pair.peer_store, folder / label, python))
        our.do(**_warm(our_job))
        peer.do(**_warm(peer_job))
        for _ in range(race.turns):
            for _ in range(OURS_PER_TURN):
                ours.append(our.do(**our_job))
                bare.append(sync_us(folder, 20))
            peers.append(peer.do(**peer_job))
            bare.append(sync_us(folder, 20))
    if pair.ours != "memory":
        run("bench.programs.compare", pair.ours, str(our.folder))
    mine, theirs = (Measures([one for turn in done for one in turn.each]) for done in (ours, peers))
    if floors is not None:
        for engine, done in (("reprise", mine), (pair.peer, theirs)):
            RESULTS.measured(name, engine, pair.ours, done, median(bare))
        _judge(race, mine, theirs, median(bare), floors)
    ratio, of_cpu = mine.rate / theirs.rate, theirs.cpu_us / mine.cpu_us
    disk = f"{min(bare):.0f}, {median(bare):.0f}"
    return [
        (*_cells(f"{name} reprise {pair.ours}", mine), disk, f"{ratio:.1f}", f"{of_cpu:.1f}"),
        (*_cells(f"   {pair.peer} {pair.peer_store}", theirs), disk),
    ]


def _judge(race: Race, mine: Measures, theirs: Measures, bare: float, floors: Floors) -> None:
    """Note what is asked of a race."""
    pair, strict = race.pair, race.name == "J1" and race.pair.ours == "full"
    goal = None if strict and bare > FAST_DISK_US else race.goal
    named = f"{race.name} {pair.ours}: steps/s over those of {pair.peer} {pair.peer_store}"
    if race.floor is not None or goal is not None:
        floors.least(named, mine.rate / theirs.rate, race.floor, unit="times", goal=goal)
    if strict and pair is DBOS:
        floors.most("J1 full: syncs per step", mine.per_step("syncs"), None, 3, unit="syncs", goal=MOST_SYNCS)
        floors.most("J1 full: a step over a bare sync", 1e6 / mine.rate / bare, None, unit="times", goal=MOST_OF_A_SYNC)  # fmt: skip


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
