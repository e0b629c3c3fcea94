"""Run benches by name, without one all but the long ones and those beside others; exit 1 when a floor was not kept.

`plot FILE.json [FILE.png]` draws what `--json FILE.json` wrote.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.measure import machine
from bench.measure.results import RESULTS

ASKED_FOR = {"peers"}
"""Benches that need more than the tests' environment: run only by name."""
LONG = {"search", "locks", "queues", "state"}
"""Benches that take minutes, some of them beside other systems: run only by name, and once by the tests."""


def names() -> list[str]:
    """Return the benches of this package."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def main(arguments: list[str]) -> int:
    """Run the benches that are named; return the exit code."""
    if arguments[:1] == ["plot"]:
        return plot(arguments[1:])
    parser = ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all but the long ones without")
    parser.add_argument("--once", action="store_true", help="do the least that shows it still works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured, and on what")
    wanted = parser.parse_intermixed_args(arguments)
    benches = wanted.names or [name for name in names() if name not in ASKED_FOR | LONG]
    if unknown := set(benches) - set(names()):
        print(f"no bench named {', '.join(sorted(unknown))}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    failed = run(benches, once=wanted.once, file=wanted.json)
    if failed:
        print(f"\nfloors not kept: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(benches: Sequence[str], *, once: bool, file: Path | None) -> list[str]:
    """Run benches, write what they measured after each; return those whose floors were not kept."""
    failed: list[str] = []
    about: dict[str, Any] = {}
    if file is not None:
        about = {**machine.described(), "once": once, "limits": {"before": machine.limits()}, "seconds": {}}
    for name in benches:
        print(f"\n== {name}", flush=True)
        RESULTS.bench, begun = name, perf_counter()
        if not import_module(f"bench.{name}").main(once=once):
            failed.append(name)
        if file is not None:
            about["seconds"][name] = round(perf_counter() - begun, 1)
            about["limits"]["after"] = machine.limits()
            RESULTS.write(file, about)
    return failed


def plot(arguments: list[str]) -> int:
    """Draw a file of results, by an interpreter that has matplotlib: the peers' where there is one."""
    python = os.environ.get("REPRISE_PEERS_PYTHON") or sys.executable
    return subprocess.run([python, "-m", "bench.programs.plot", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
