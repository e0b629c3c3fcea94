"""Print what the tests reached, by room: share of lines and of branches."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from coverage import Coverage


def room_of(file: str) -> str:
    """Return the room of a file, `door` for the package's own `__init__`.

    >>> room_of("src/reprise/stores/sqlite/log.py"), room_of("src/reprise/__init__.py")
    ('stores', 'door')
    """
    inside = file.partition("reprise/")[2]
    return inside.partition("/")[0] if "/" in inside else "door"


def main() -> int:
    """Read the combined data file of this folder; return the exit code."""
    with TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        data = Coverage()
        data.load()
        data.json_report(outfile=str(report))
        files = json.loads(report.read_text())["files"]
    rooms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for file, measured in files.items():
        for room in (room_of(file), "all"):
            rooms[room].update(
                {key: value for key, value in measured["summary"].items() if isinstance(value, int)}
            )
    print(f"{'room':16} {'lines':>7} {'hit':>6} {'branches':>9} {'hit':>6}")
    for room in sorted(rooms, key=lambda room: (room == "all", room)):
        sums = rooms[room]
        lines, branches = sums["num_statements"], sums["num_branches"]
        print(
            f"{room:16} {lines:7} {share(sums['covered_lines'], lines):>6}"
            f" {branches:9} {share(sums['covered_branches'], branches):>6}"
        )
    return 0


def share(part: int, whole: int) -> str:
    """Return a percentage, `-` where there is nothing.

    >>> share(2, 3), share(0, 0)
    ('66.7%', '-')
    """
    return f"{part / whole:.1%}" if whole else "-"


if __name__ == "__main__":
    sys.exit(main())
