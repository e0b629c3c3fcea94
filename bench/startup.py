"""How long it takes until Reprise is there: fresh interpreters, in turn with a bare one and a bare typer program."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter

from bench.measure.report import Floors, figure, table
from reprise.cli.main import TABLE

LIMIT_MS = 30
"""`import reprise` may cost this much more than starting Python."""

HELP_RATIO = 1.3
"""`reprise --help` may take this many times what a typer program with as many empty commands takes."""

BARE_TYPER = """
import sys, typer
app = typer.Typer()
for number in range({commands}):
    exec(f"def command_{{number}}(name: str, count: int = 1) -> None: 'Do what number {{number}} does.'")
    app.command()(locals()[f"command_{{number}}"])
sys.argv = ["bare", "--help"]
app()
"""

PROGRAMS = {
    "bare interpreter": "pass",
    "import reprise": "import reprise",
    "+ its errors": "from reprise import RunFailed",
    "+ the log's facts": "from reprise import Event",
    "bare typer --help": BARE_TYPER.format(commands=len(TABLE)),
    "reprise --help": "import sys; sys.argv = ['reprise', '--help']; from reprise.cli.main import main; main()",
}


def start(code: str) -> float:
    """Return the milliseconds that a fresh interpreter takes for `code`."""
    begun = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return (perf_counter() - begun) * 1000


def main(*, once: bool) -> bool:
    """Print medians; return whether `import reprise` and `reprise --help` are within their limits."""
    rounds = 1 if once else 25
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(rounds):
        for name, code in PROGRAMS.items():
            taken[name].append(start(code))
    bare = median(taken["bare interpreter"])
    rows = [(name, figure(median(times)), f"{median(times) - bare:+.1f}") for name, times in taken.items()]
    table(("", "ms", "over bare"), rows)
    ratios = [
        ours / theirs
        for ours, theirs in zip(taken["reprise --help"], taken["bare typer --help"], strict=True)
    ]
    floors = Floors()
    floors.most("import reprise", median(taken["import reprise"]) - bare, LIMIT_MS, 1, unit="ms")
    floors.most("reprise --help over a bare typer program", median(ratios), HELP_RATIO, unit="times")
    floors.print()
    return once or floors.kept
