"""Several workers at one SQLite file: how long others wait for their turn, how fast runs wake, what waiting costs."""

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


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    seconds = 1.0 if once else 6.0
    floors = Floors()
    with TemporaryDirectory(prefix="reprise-bench-") as folder:
        alone, *_ = _together(Path(folder), seconds / 2, "renew")
        beside, *busy = _together(Path(folder), seconds, "renew", "saturate", "saturate")
        signals, _ = _together(Path(folder), seconds / 2, "take_signals", "send_signals")
        (idle,) = _together(Path(folder), seconds / 1.2, "rest")
    rows = [
        _row("lease renewed, alone", alone),
        _row("lease renewed beside two busy workers", beside),
        _row("signal sent here, taken and step begun there", signals),
    ]
    table(("milliseconds", "p50", "p99", "most", "times"), rows)
    print(f"\nbusy workers: {' and '.join(f'{steps / seconds:,.0f}' for steps in busy)} steps/s")
    floors.most("lease renewed beside two busy workers: p99 ms", _percentile(beside, 99), 50, 1)
    floors.most("open worker with nothing to do: % of a CPU", idle, 1, 2)
    floors.print()
    return once or floors.kept


def _together(folder: Path, seconds: float, *roles: str) -> list[Any]:
    """Run processes at one file at the same time; return what they measured."""
    with ExitStack() as stack:
        processes: list[subprocess.Popen[str]] = []
        for role in roles:
            command = [sys.executable, "-m", "bench.programs.neighbour", str(folder), role, str(seconds)]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            processes.append(stack.enter_context(process))
            time.sleep(
                0.5 if len(roles) > 1 else 0
            )  # the next one finds the file made, and the one before at work
        answers = [process.communicate()[0] for process in processes]
        if failed := [role for role, process in zip(roles, processes, strict=True) if process.returncode]:
            raise RuntimeError(f"{', '.join(failed)} failed: see above")
        return [json.loads(answer) for answer in answers]


def _percentile(taken: list[float], percent: int) -> float:
    return quantiles(taken, n=100, method="inclusive")[percent - 1]


def _row(name: str, taken: list[float]) -> tuple[str, ...]:
    figures = (_percentile(taken, 50), _percentile(taken, 99), max(taken))
    return (name, *(figure(value, 2) for value in figures), f"{len(taken):,}")
