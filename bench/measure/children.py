"""Engines in processes of their own, asked by lines of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

from bench.measure.counters import environment

ROOT = Path(__file__).parents[2]


class EngineFailed(Exception):
    """An engine's process ended instead of answering."""


class Measure:
    """What one job cost, from the process that did it."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.steps: int = values["steps"]
        self.seconds: float = values["seconds"]
        self.loop_cpu: float = values["loop_cpu"]
        """Seconds of CPU of the thread of the event loop."""
        self.other_cpu: float = values["other_cpu"]
        self.syncs: float = values["syncs"]
        """NaN, as ``written``, where it was not counted."""
        self.written: float = values["written"]
        self.rss: float = values["rss"]
        """Most memory so far, in MB."""
        self.clocks: dict[int, tuple[float, float]] = {int(i): tuple(c) for i, c in values["clocks"].items()}

    @property
    def cpu(self) -> float:
        """Seconds of CPU of all threads."""
        return self.loop_cpu + self.other_cpu


class Measures:
    """The same job done several times."""

    def __init__(self, each: list[Measure]) -> None:
        self.each = each

    @property
    def rates(self) -> list[float]:
        """Steps per second of each time."""
        return [one.steps / one.seconds for one in self.each]

    def per_step(self, name: str) -> float:
        """Return the median of a figure per step."""
        return median(getattr(one, name) / one.steps for one in self.each)

    @property
    def rate(self) -> float:
        """Median of the steps per second."""
        return median(self.rates)

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU per step, all threads."""
        return self.per_step("cpu") * 1e6

    @property
    def rss(self) -> float:
        """Most memory in MB."""
        return max(one.rss for one in self.each)


class Engine:
    """An engine with an open store in a process of its own, between ``with`` and its end."""

    def __init__(self, name: str, store: str, folder: Path, python: str = sys.executable) -> None:
        self.name, self.store, self.folder = name, store, folder
        self._python = python
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        command = [self._python, "-m", "bench.engines", self.name, self.store, str(self.folder)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EngineFailed(
                f"{self.name} on {self.store} ended with status {self._process.wait()}; see above."
            )
        return json.loads(line)

    def do(self, job: str, steps: int, *, times: int = 1, **options: Any) -> Measures:
        """Do a job ``times`` times; return what it cost."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"job": job, "steps": steps, "times": times, **options}) + "\n")
        self._process.stdin.flush()
        return Measures([Measure(values) for values in self._answer()])


def run(module: str, *arguments: str, python: str = sys.executable, **options: Any) -> str:
    """Run a module of the benches in a fresh process and return what it printed."""
    done = subprocess.run(
        [python, "-m", module, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, **options
    )
    return done.stdout
