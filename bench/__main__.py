"""Run benches by name, all but `peers` and `search` without one; exit 1 when a floor was not kept."""

from __future__ import annotations

import platform
import sys
from importlib import import_module
from pathlib import Path

ASKED_FOR = {"peers"}
"""Benches that need more than the tests' environment: run only by name."""
LONG = {"search"}
"""Benches that take minutes: run only by name, and once by the tests."""


def names() -> list[str]:
    """Return the benches of this package."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def main(arguments: list[str]) -> int:
    """Run the benches that are named; return the exit code."""
    once = "--once" in arguments
    wanted = [name for name in arguments if name != "--once"] or [
        name for name in names() if name not in ASKED_FOR | LONG
    ]
    if unknown := set(wanted) - set(names()):
        print(f"no bench named {', '.join(sorted(unknown))}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    failed: list[str] = []
    for name in wanted:
        print(f"\n== {name}", flush=True)
        if not import_module(f"bench.{name}").main(once=once):
            failed.append(name)
    if failed:
        print(f"\nfloors not kept: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
