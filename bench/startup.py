"""How long it takes until Reprise is there: fresh interpreters, in turn with a bare one."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter

LIMIT_MS = 30
"""`import reprise` may cost this much more than starting Python."""

PROGRAMS = {
    "bare interpreter": "pass",
    "import reprise": "import reprise",
    "+ its errors": "from reprise import RunFailed",
    "+ the log's facts": "from reprise import Event",
}


def start(code: str) -> float:
    """Return the milliseconds that a fresh interpreter takes for `code`."""
    begun = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (perf_counter() - begun) * 1000


def main(*, once: bool) -> bool:
    """Print medians; return whether `import reprise` is within its limit."""
    rounds = 1 if once else 25
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(rounds):
        for name, code in PROGRAMS.items():
            taken[name].append(start(code))
    bare = median(taken["bare interpreter"])
    for name, times in taken.items():
        print(f"{name:20} {median(times):7.1f} ms  (+{median(times) - bare:.1f})")
    return once or median(taken["import reprise"]) - bare <= LIMIT_MS
