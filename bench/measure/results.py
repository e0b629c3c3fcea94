"""What benches measured, for programs to read: `python -m bench … --json FILE`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, cast

from bench.measure.children import Measures

FORMAT = 1
"""Raised when a reader of these files would have to know."""


class Results:
    """Of all benches of a run: figures with floors and goals, the measurements behind them, and tables as printed."""

    def __init__(self) -> None:
        self.bench = ""
        """The one that runs now."""
        self.figures: list[dict[str, Any]] = []
        self.series: list[dict[str, Any]] = []
        self.tables: list[dict[str, Any]] = []

    def note(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        sense: str | None = None,
        floor: float | None = None,
        kept: bool | None = None,
        goal: float | None = None,
        reached: bool | None = None,
    ) -> None:
        """Keep a figure of the bench that runs now; ``sense`` is that of floor and goal, <= or >=."""
        asked = {"sense": sense, "floor": floor, "kept": kept, "goal": goal, "reached": reached}
        self.figures.append({"bench": self.bench, "name": name, "value": value, "unit": unit, **asked})

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Keep a table as it is printed."""
        self.tables.append({"bench": self.bench, "head": list(head), "rows": [list(row) for row in rows]})

    def measured(self, job: str, engine: str, store: str, done: Measures, sync_us: float) -> None:
        """Keep what a job cost on an engine, with what a bare sync took beside it."""
        self.series.append({
            "bench": self.bench,
            "job": job,
            "engine": engine,
            "store": store,
            "steps_per_second": done.rates,
            "cpu_us_per_step": done.cpu_us,
            "syncs_per_step": done.per_step("syncs"),
            "bytes_written_per_step": done.per_step("written"),
            "peak_rss_mb": done.rss,
            "bare_sync_us": sync_us,
        })  # fmt: skip

    def write(self, path: Path, machine: dict[str, Any]) -> None:
        """Write all of it, with what it was measured on; what could not be measured is null."""
        whole = {
            "format": FORMAT,
            **machine,
            "figures": self.figures,
            "series": self.series,
            "tables": self.tables,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_finite(whole), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """Return the value with null in the place of what JSON has no number for."""
    if isinstance(value, dict):
        return {str(name): _finite(each) for name, each in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in cast("list[Any]", value)]
    return value if not isinstance(value, float) or isfinite(value) else None


RESULTS = Results()
"""Those of this process."""
