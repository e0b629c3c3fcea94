"""Whether the results of a natural fan-out in two stages are in their places when it is killed after its last step.

    async def pair(i): return await second(await first(i))
    await asyncio.gather(*(pair(i) for i in range(n)))

The steps of the second stage begin in the order in which those of the first end. An engine that numbers steps as they
are called gives them other results when it recovers, unless it notices. Peers are added where REPRISE_PEERS_PYTHON
names their interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure.children import ROOT
from bench.measure.report import Floors, table

PAIRS = 20


def main(*, once: bool) -> bool:
    """Print the table; return whether Reprise was right every time."""
    peers = os.environ.get("REPRISE_PEERS_PYTHON", "")
    times = 1 if once else 5
    floors = Floors()
    rows: list[tuple[str, ...]] = []
    for engine in ("reprise", *(("dbos", "langgraph") if peers and not once else ())):
        python = sys.executable if engine == "reprise" else str(Path(peers).absolute())
        outcomes = Counter(_kill_and_recover(engine, python) for _ in range(times))
        rows.append(
            (engine, str(times), *(str(outcomes[name]) for name in ("right", "WRONG", "error", "again")))
        )
        if engine == "reprise":
            floors.least(f"reprise: right of {times}", outcomes["right"], times, 0, unit="kills")
    table((f"{PAIRS} pairs", "kills", "right", "silently wrong", "error", "right, steps again"), rows)
    floors.print()
    return floors.kept


def _kill_and_recover(engine: str, python: str) -> str:
    """Return what became of the results: right, WRONG, error, or again (right, but recorded steps ran again)."""
    with TemporaryDirectory(prefix="reprise-bench-") as folder:
        for life in ("1", "2"):
            command = [python, "-m", f"bench.programs.pairs_{engine}", folder, life, str(PAIRS)]
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, encoding="utf-8"
            )
        if done.returncode:
            return "error"
        if json.loads(done.stdout) != [f"t{i}" for i in range(PAIRS)]:
            return "WRONG"
        executed = (Path(folder) / "executed").read_text().split("\n")
        return "again" if any(line.startswith("2 ") for line in executed) else "right"
