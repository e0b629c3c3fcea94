"""A hundred thousand runs that wait: how long until all do, what memory they take, how fast ten thousand are woken at once."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure.children import run
from bench.measure.report import Floors, figure, table

RUNS, SIGNALLED = 100_000, 10_000
STORES = ("full", "normal")
MOST_BYTES = 1000
"""Of memory above the baseline that a waiting run may take, with those that are kept loaded."""


def main(*, once: bool) -> bool:
    """Print the table; return whether the floors were kept."""
    runs, signalled = (2000, 200) if once else (RUNS, SIGNALLED)
    floors = Floors()
    rows: list[tuple[str, ...]] = []
    for store in STORES[:1] if once else STORES:
        with TemporaryDirectory(prefix="reprise-bench-") as folder:
            place = Path(folder) / store
            place.mkdir()
            took = json.loads(run("bench.programs.waiting", store, str(place), str(runs), str(signalled)))
        rows.append(
            (
                f"{runs:,} runs, {store}",
                f"{figure(took['waiting'])} ({figure(took['waiting_cpu'])})",
                figure(runs / took["waiting"], 0),
                figure(took["bytes"], 0),
                figure(took["sent"], 2),
                f"{figure(took['answered'])} ({figure(took['answered_cpu'])})",
                figure(signalled / took["answered"], 0),
            )
        )
        floors.most(f"{store}: memory of a waiting run", took["bytes"], MOST_BYTES, 0, unit="B")
    head = (
        "",
        "all wait s (CPU)",
        "runs/s",
        "B/run",
        f"{signalled:,} signals sent s",
        "answered s (CPU)",
        "runs/s",
    )
    table(head, rows)
    floors.print()
    return once or floors.kept
