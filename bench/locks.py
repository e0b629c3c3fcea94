"""Fifty who want one lock at one time, in one process, beside other locks on the same Redis.

They take turns, each in a process of its own; others than ours need REPRISE_PEERS_PYTHON. Ours has everything on: a token for
each turn, renewal, a body that is cancelled when the lock is lost, a timeout. redis-py's lock is as it comes (it asks
again every 0.1 s), python-redis-lock wakes one of those who wait; both have a time to live and no renewal. The server
writes nothing to its disk. A wait is what it takes to acquire; bodies give way once and do nothing else. "In two
processes" is ours twice, half of the contenders in each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from math import nan
from pathlib import Path
from statistics import median

from bench.measure.children import ROOT
from bench.measure.report import Floors, figure, table
from bench.measure.server import redis

CONTENDERS, TIMES = 50, 400
PEERS = {"redis-py": 4, "python-redis-lock": 20}
"""How often each of them takes the lock."""
ROUNDS = 5
FLOORS = {"redis-py": (50, 450), "python-redis-lock": (2, 8)}
"""How many times as many turns a second ours must have, and is to have."""
LONGEST, FAIREST = (20, 4), (2, 1.3)
"""Milliseconds of 99 of 100 waits at most, and how many times the wait of half of them that is."""
OURS, APART = "reprise", "reprise, in two processes"
HEAD = ("50 contenders for a lock", "turns/s", "least..most", "wait p50 ms", "p99 ms", "longest ms")


def main(*, once: bool) -> bool:
    """Print the table; return whether the floors were kept."""
    python = os.environ.get("REPRISE_PEERS_PYTHON", "")
    peers = PEERS if python else {}
    floors, found = Floors(), dict[str, list[dict[str, float]]]()
    with redis() as url:
        for _ in range(0 if not url else 1 if once else ROUNDS):
            times = 4 if once else TIMES
            found.setdefault(OURS, []).append(_seen(_contend(sys.executable, OURS, url, CONTENDERS, times)))
            both = [_contend(sys.executable, OURS, url, CONTENDERS // 2, times) for _ in range(2)]
            found.setdefault(APART, []).append(_joined([_seen(each) for each in both]))
            for whose, peer_times in peers.items():
                asked = _contend(
                    str(Path(python).absolute()), whose, url, CONTENDERS, 1 if once else peer_times
                )
                found.setdefault(whose, []).append(_seen(asked))
    table(HEAD, [_row(whose, seen) for whose, seen in found.items()])
    for whose, (floor, goal) in FLOORS.items():
        if peers:
            floors.least(
                f"turns/s over those of {whose}",
                _of(found, OURS, "rate") / _of(found, whose, "rate"),
                floor,
                unit="times",
                goal=goal,
            )
    p50, p99 = (_of(found, OURS, name) for name in ("p50", "p99"))
    floors.most("99 of 100 wait at most", p99, LONGEST[0], unit="ms", goal=LONGEST[1])
    floors.most("that by the wait of half of them", p99 / p50, FAIREST[0], unit="times", goal=FAIREST[1])
    floors.print()
    return once or floors.kept


def _contend(python: str, whose: str, url: str, contenders: int, times: int) -> subprocess.Popen[str]:
    command = [python, "-m", "bench.programs.contending", whose, url, str(contenders), str(times)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _seen(process: subprocess.Popen[str]) -> dict[str, float]:
    told, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    seen: dict[str, float] = json.loads(told)
    assert not seen["met"], "two held the lock at one time"
    return seen


def _joined(seen: list[dict[str, float]]) -> dict[str, float]:
    """Return what two processes saw that contended with each other."""
    return {
        name: sum(each[name] for each in seen) if name == "rate" else max(each[name] for each in seen)
        for name in seen[0]
    }


def _of(found: dict[str, list[dict[str, float]]], whose: str, name: str) -> float:
    return median([each[name] for each in found.get(whose, [])] or [nan])


def _row(whose: str, seen: list[dict[str, float]]) -> tuple[str, ...]:
    rates = [each["rate"] for each in seen]
    waits = (figure(median(each[name] for each in seen), 2) for name in ("p50", "p99", "longest"))
    return (whose, figure(median(rates), 0), f"{min(rates):,.0f}..{max(rates):,.0f}", *waits)
