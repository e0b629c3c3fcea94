"""What the steps of all engines do."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from pathlib import Path

VALUES = "values.json"
SERVER = "REPRISE_BENCH_POSTGRES"
"""Variable with the URL of the PostgreSQL on which engines are measured."""


class Work:
    """Makes the values of steps, remembers them, and reads the clocks at chosen steps."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[str, int]] = {}
        """Value -> (run, number of the step in it)."""
        self.clocks: dict[int, tuple[float, float] | None] = {}
        """Number of a step -> (wall clock, CPU of the process) in seconds when it was done; set the keys to ask."""

    async def __call__(self, run: str, i: int, pause: float) -> str:
        """Wait for ``pause`` seconds and return a fresh random string of 300 characters."""
        if pause:
            await asyncio.sleep(pause)
        value = os.urandom(150).hex()
        self.made[value] = (run, i)
        if i in self.clocks:
            self.clocks[i] = (time.perf_counter(), time.process_time())
        return value

    def save(self, folder: Path) -> None:
        """Write what was made, for a fresh process to compare."""
        (folder / VALUES).write_text(json.dumps(self.made))


def made_in(folder: Path) -> dict[str, dict[int, str]]:
    """Return run -> number of step -> value, as the process that executed the steps wrote it."""
    runs: dict[str, dict[int, str]] = {}
    for value, (run, i) in json.loads((folder / VALUES).read_text()).items():
        runs.setdefault(run, {})[i] = value
    return runs


def server() -> str:
    """Return the URL of the PostgreSQL to use, with at least one option; see ``bench.measure.server``."""
    return os.environ[SERVER]


def place(folder: Path) -> str:
    """Return the name of the schema, or database, that belongs to a folder."""
    return re.sub(r"\W", "_", folder.name.lower())
