"""Fail when code grows past the house numbers: no function over 60 lines (95 % within 35), no file over 600 (400).

Lines are counted as they stand, with docstrings, comments and blanks; a function from `def` to its end.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import NamedTuple


class Size(NamedTuple):
    """How long one thing is, and where it stands."""

    lines: int
    where: str


class Limit(NamedTuple):
    """How long things of a kind may be."""

    kind: str
    most: int
    p95: int


FUNCTION = Limit("function", most=60, p95=35)
FILE = Limit("file", most=600, p95=400)


def functions(path: Path, text: str) -> Iterator[Size]:
    """Yield the size of every function of a file; one inside another counts for both."""
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Size(
                (node.end_lineno or node.lineno) - node.lineno + 1, f"{path}:{node.lineno} {node.name}"
            )


def percentile(sizes: list[Size], share: float) -> int:
    """Return the size that `share` of all do not pass (nearest rank).

    >>> percentile([Size(lines, "") for lines in range(1, 101)], 0.95)
    95
    """
    ordered = sorted(size.lines for size in sizes)
    return ordered[ceil(share * len(ordered)) - 1] if ordered else 0


def judge(limit: Limit, sizes: list[Size]) -> bool:
    """Print the figures of one kind, and what is too long; return whether all is within the limit."""
    p50, p95 = percentile(sizes, 0.5), percentile(sizes, 0.95)
    longest = max(sizes, default=Size(0, "-"))
    print(
        f"{limit.kind}s {len(sizes)}: median {p50}, p95 {p95} (limit {limit.p95}), longest {longest.lines} ({limit.most})"
    )
    too_long = sorted((size for size in sizes if size.lines > limit.most), reverse=True)
    for size in too_long:
        print(
            f"  {size.where}: {size.lines} lines, limit {limit.most}: split it where a name for the part suggests itself"
        )
    if p95 > limit.p95:
        print(f"  the longest {limit.kind}s, of which 95 % must be within {limit.p95} lines:")
        for size in sorted(sizes, reverse=True)[:10]:
            print(f"    {size.lines:4} {size.where}")
    return not too_long and p95 <= limit.p95


def main(roots: list[str]) -> int:
    """Measure all Python files below the roots (`src`); return the exit code."""
    texts = {
        path: path.read_text("utf-8")
        for root in roots or ["src"]
        for path in sorted(Path(root).rglob("*.py"))
    }
    if not texts:
        print(f"no Python files below {', '.join(roots)}")
        return 2
    files = [Size(len(text.splitlines()), str(path)) for path, text in texts.items()]
    kept = [
        judge(FUNCTION, [size for path, text in texts.items() for size in functions(path, text)]),
        judge(FILE, files),
    ]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
