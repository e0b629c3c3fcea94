"""Several workers at one store: how fast taps and runs wake, how long others wait for their turn, what waiting costs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

from bench.measure.children import ROOT
from bench.measure.report import Floors, figure, table
from bench.measure.server import postgres


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    seconds = 1.0 if once else 6.0
    floors = Floors()
    rows: list[tuple[str, ...]] = []
    busy: list[str] = []
    with TemporaryDirectory(prefix="reprise-bench-") as folder, postgres() as server:
        place = Path(folder) / "workers"
        place.mkdir()
        (at_home,) = _together("memory", place, seconds / 6, "tap_at_home")
        rows.append(_row("memory: a tap, in one process", at_home))
        for store in ("full", "postgres") if server else ("full",):
            rows += _measure(store, place, seconds, floors, busy)
    table(("milliseconds", "p50", "p99", "most", "times"), rows)
    print("\nbusy workers: " + "; ".join(busy))
    floors.print()
    return once or floors.kept


def _measure(
    store: str, folder: Path, seconds: float, floors: Floors, busy: list[str]
) -> list[tuple[str, ...]]:
    """Measure one store; return the rows of the table and note the floors."""
    name = {"full": "SQLite", "postgres": "PostgreSQL"}[store]
    _, taps = _together(store, folder, seconds / 3, "answer_taps", "tap")
    alone, *_ = _together(store, folder, seconds / 2, "renew")
    beside, *both = _together(store, folder, seconds, "renew", "saturate", "saturate")
    signals, _ = _together(store, folder, seconds / 2, "take_signals", "send_signals")
    (idle,) = _together(store, folder, seconds / 1.2, "rest")
    busy.append(f"{name} {' and '.join(f'{steps / seconds:,.0f}' for steps in both)} steps/s")
    floors.most(
        f"{name}: lease renewed beside two busy workers: p99", _percentile(beside, 99), 50, 1, unit="ms"
    )
    floors.most(f"{name}: open worker with nothing to do: of a CPU", idle, 1, 2, unit="%")
    return [
        _row(f"{name}: a tap, from process to process", taps),
        _row(f"{name}: lease renewed, alone", alone),
        _row(f"{name}: lease renewed beside two busy workers", beside),
        _row(f"{name}: signal sent here, taken and step begun there", signals),
    ]


def _together(store: str, folder: Path, seconds: float, *roles: str) -> list[Any]:
    """Run processes at one store at the same time; return what they measured."""
    with ExitStack() as stack:
        processes: list[subprocess.Popen[str]] = []
        for role in roles:
            command = [
                sys.executable,
                "-m",
                "bench.programs.neighbour",
                store,
                str(folder),
                role,
                str(seconds),
            ]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            processes.append(stack.enter_context(process))
            # The next one finds the store made, and the one before at work.
            time.sleep(0.5 if len(roles) > 1 else 0)
        answers = [process.communicate()[0] for process in processes]
        if failed := [role for role, process in zip(roles, processes, strict=True) if process.returncode]:
            raise RuntimeError(f"{', '.join(failed)} failed: see above")
        return [json.loads(answer) for answer in answers]


def _percentile(taken: list[float], percent: int) -> float:
    return quantiles(taken, n=100, method="inclusive")[percent - 1]


def _row(name: str, taken: list[float]) -> tuple[str, ...]:
    figures = (_percentile(taken, 50), _percentile(taken, 99), max(taken))
    return (name, *(figure(value, 2) for value in figures), f"{len(taken):,}")
