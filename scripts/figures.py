"""Put what the benches measured into docs/guide/performance.md: `scripts/figures.py [FOLDER]`, after `make bench-peers bench`.

A part of the page between `<!-- measured: NAME -->` and `<!-- end -->` is written anew from bench.json, peers.json and
coordination.json (`python -m bench queues locks state --json …` alone) in FOLDER (.bench), where several have it from the
first of these; one whose bench has not run stays as it is.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "performance.md"
COORDINATION = ("queues", "locks", "state")
PART = re.compile(r"(<!-- measured: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str, parts: dict[str, str]) -> str:
    r"""Return a page with its parts written anew.

    >>> filled("<!-- measured: a -->\nold\n<!-- end -->", {"a": "new", "b": "of another page"})
    '<!-- measured: a -->\nnew\n<!-- end -->'
    """
    return PART.sub(
        lambda found: (
            found[0] if found["name"] not in parts else f"{found[1]}{parts[found['name']]}\n{found[3]}"
        ),
        page,
    )


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table.

    >>> print(markdown(("", "us"), [("a step", "41.0")]))
    |  | us |
    |---|--:|
    | a step | 41.0 |
    """
    lines = [f"| {' | '.join(line)} |" for line in (head, *rows)]
    return "\n".join([lines[0], f"|---|{'--:|' * (len(head) - 1)}", *lines[1:]])


def parts_of(found: dict[str, Any]) -> dict[str, str]:
    """Return the parts that a file of results has something for."""
    parts: dict[str, str] = {}
    for table in found["tables"]:
        if table["bench"] == "breakdown":
            parts[table["head"][0].split(",")[0]] = markdown(table["head"], table["rows"])
        elif table["bench"] == "recovered" and not all(row[0].startswith("Reprise") for row in table["rows"]):
            parts["recovered"] = markdown(table["head"], table["rows"])
    if any(one["bench"] == "peers" for one in found["figures"]):
        parts["peers"] = goals(found, ("peers",))
    if any(one["bench"] in COORDINATION for one in found["figures"]):
        parts["coordination"] = goals(found, COORDINATION)
    if any(one["bench"] == "jobs" for one in found["figures"]):
        parts["own"] = goals(found, ("jobs", "recovery"))
    if parts:
        parts["machine"] = machine(found)
    return parts


def goals(found: dict[str, Any], benches: Sequence[str]) -> str:
    """Return a table of figures that have a goal."""
    rows = [
        (
            one["name"],
            f"{said(one['value'])} {one['unit']}",
            f"{one['sense']} {said(one['goal'])}",
            "reached" if one["reached"] else "not reached",
        )
        for one in found["figures"]
        if one["bench"] in benches and one["goal"] is not None
    ]
    return markdown(("", "measured", "goal", ""), rows)


def said(value: float | None) -> str:
    """Return a figure with three digits that mean something.

    >>> said(0.00312), said(2.5), said(183.4), said(9641.2), said(None)
    ('0.00312', '2.5', '183', '9,641', '-')
    """
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine(found: dict[str, Any]) -> str:
    """Return what was measured on what."""
    versions, about, before = found["versions"], found["machine"], found["limits"]["before"]
    disk = about["disk"] or {}
    return (
        f"Measured with Reprise {versions['Reprise']} ({versions['commit']}), {versions['Python']}, SQLite {versions['SQLite']},"
        f" PostgreSQL {versions['PostgreSQL']}, Redis {versions.get('Redis', '-')}, on {about['processors']} × {about['processor']}, {about['memory']} of memory,"
        f" {about['system']} {about['kernel']}, {disk.get('file_system')}. A bare `fdatasync` took"
        f" {before['bare_sync_us']:.0f} µs, an asyncio task {before['task_us']:.1f} µs; the load was {before['load'][0]:.1f}."
    )


def main(folder: Path) -> None:
    """Write the page, and the plot beside it."""
    page, parts = PAGE.read_text(), {}
    for name in ("coordination", "peers", "bench"):
        file = folder / f"{name}.json"
        if file.exists():
            found = json.loads(file.read_text())
            if found["once"]:
                sys.exit(f"{file} was written with --once: its figures mean nothing")
            parts |= parts_of(found)
    plot = folder / "peers.png"
    if plot.exists():
        shutil.copy(plot, PAGE.with_suffix(".png"))
        parts["plot"] = (
            f"![Steps per second of Reprise, DBOS, LangGraph and the limit of the machine]({PAGE.stem}.png)"
        )
    if homeless := parts.keys() - {found["name"] for found in PART.finditer(page)}:
        sys.exit(
            f"{PAGE} has no place for {', '.join(sorted(homeless))}: write <!-- measured: NAME --> and <!-- end -->"
        )
    PAGE.write_text(filled(page, parts))
    print(f"{PAGE}: {', '.join(parts) or 'nothing'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".bench"))
