"""What a kill -9 costs: from the start of the next process to the first resumed step, and steps that ran again.

A step that was acknowledged (the log said: durable) never runs again; one that was under way does. A "burst" is the job
J2, killed when half of it is durable.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.measure.children import ROOT
from bench.measure.report import Floors, figure, table


class Case(NamedTuple):
    """A run of `steps` steps whose process is ended when it is at one of them."""

    shape: str
    at: int
    steps: int
    end: str

    def __str__(self) -> str:
        return f"{self.shape}, {self.end} at {self.at:,} of {self.steps:,}"


CASES = [
    Case("chain", 500, 600, "stop"),
    Case("chain", 500, 600, "kill -9"),
    Case("chain", 10_000, 10_100, "kill -9"),
    Case("fan", 500, 1000, "kill -9"),
    Case("burst", 500, 1000, "kill -9"),
]
GOALS = {"chain": {500: 0.2, 10_000: 0.3}, "burst": {500: 0.2}}
"""Seconds to the first resumed step, by shape and how many steps were recorded."""
ALL_DONE = 0.4
"""Goal in seconds, from the start of the process, until a burst is done of which half was left."""
STORE = "full"
SLOWEST = 3
"""Seconds. A take-over that waits for the lease of the dead takes 15."""


class Outcome(NamedTuple):
    """What two lives left behind."""

    seconds: float
    """From the start of the second process to its first step."""
    done: float
    """The same, until the run's result was there."""
    finished: int
    """Steps that ran to their end in the first life."""
    again: int
    """Of these, how many ran again."""
    broken: int
    """Of the acknowledged ones, how many ran again."""


def main(*, once: bool) -> bool:
    """Print the table; return whether the floors were kept."""
    floors = Floors()
    rows: list[tuple[str, ...]] = []
    for case in CASES:
        smaller = case._replace(at=min(case.at, 200), steps=400) if once else case
        outcomes = [_live_twice(smaller) for _ in range(1 if once else 5)]
        seconds, done = (median(getattr(one, name) for one in outcomes) for name in ("seconds", "done"))
        again, broken = (sum(getattr(outcome, name) for outcome in outcomes) for name in ("again", "broken"))
        finished = sum(outcome.finished for outcome in outcomes)
        slowest = max(outcome.seconds for outcome in outcomes)
        rows.append(
            (
                str(smaller),
                figure(seconds, 3),
                figure(slowest, 3),
                figure(done, 3),
                f"{finished:,}",
                str(again),
                str(broken),
            )
        )
        goal = GOALS.get(case.shape, {}).get(case.at)
        floors.most(f"{smaller}: to the first resumed step", seconds, 0.5, 3, unit="s", goal=goal)
        if case.shape == "burst":
            floors.most(f"{smaller}: until all was done", done, None, 3, unit="s", goal=ALL_DONE)
        floors.most(f"{smaller}: the slowest", slowest, SLOWEST, 3, unit="s")
        floors.most(f"{smaller}: acknowledged steps again", broken, 0, 0, unit="steps")
    table(("run, end", "s to step", "slowest", "all done", "finished", "again", "acknowledged again"), rows)
    floors.print()
    return once or floors.kept


def _live_twice(case: Case) -> Outcome:
    with TemporaryDirectory(prefix="reprise-bench-") as name:
        folder = Path(name)
        command = [
            sys.executable,
            "-m",
            "bench.programs.mortal",
            STORE,
            name,
            case.shape,
            str(case.at),
            str(case.steps),
        ]
        first = subprocess.Popen([*command, *(["stop"] if case.end == "stop" else [])], cwd=ROOT)
        while not (folder / "reached").exists() and first.poll() is None:
            time.sleep(0.001)
        if case.end != "stop" and case.shape != "burst":
            first.kill()
        first.wait()
        finished, acknowledged = _numbers(folder / "executed"), _numbers(folder / "acknowledged")
        (folder / "executed").write_text("")
        begun = time.monotonic()
        second = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        if int(second.stdout) != sum(range(case.steps)):
            raise ValueError(f"{case} gave {second.stdout}")
        executed = _numbers(folder / "executed")
        if missing := set(range(case.steps)) - executed.keys() - finished.keys():
            raise ValueError(f"{case}: steps never ran: {sorted(missing)[:9]}")
        resumed, done = (float((folder / name).read_text()) - begun for name in ("resumed", "done"))
        return Outcome(resumed, done, len(finished), len(finished & executed), len(acknowledged & executed))


def _numbers(path: Path) -> Counter[int]:
    return Counter(int(line) for line in path.read_text().split())
