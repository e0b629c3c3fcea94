"""Find the same lines in two places: fingerprints for each file, merged once.

Significant lines (no blanks, comments, imports or lone brackets; spacing does not count) are hashed in windows of
``WINDOW``; of every ``CHOICE`` windows in a row the smallest hash is kept. That is winnowing (Schleimer, Wilkerson
and Aiken, 2003): any run of ``WINDOW + CHOICE - 1`` equal lines shares at least one kept hash.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import combinations

from .facts import Clone, Clones, Traces

WINDOW = 6
CHOICE = 4
SHORTEST = WINDOW + CHOICE - 1
_TOO_COMMON = 16
"""A hash in more places than this is a habit of the language, not a copy."""
_LISTED = 200
_NOISE = re.compile(r"#|//|/?\*|--\s|import\b|from\b.*\bimport\b|using\b|\W*$")


def fingerprints(source: list[str]) -> list[list[int]]:
    """Return the kept windows of a file's lines as ``[hash, ordinal of the first line, first line, last line]``."""
    lines = [
        (number, _hash(" ".join(line.split()).encode()))
        for number, line in enumerate(source, 1)
        if not _NOISE.match(line.strip())
    ]
    windows = [
        [
            int.from_bytes(_hash(b"".join(part for _, part in lines[at : at + WINDOW]))),
            at,
            lines[at][0],
            lines[at + WINDOW - 1][0],
        ]
        for at in range(len(lines) - WINDOW + 1)
    ]
    kept = {min(windows[at : at + CHOICE])[1] for at in range(max(1, len(windows) - CHOICE + 1)) if windows}
    return [windows[at] for at in sorted(kept)]


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=6).digest()


def find_clones(traces: list[Traces]) -> Clones:
    """Merge the fingerprints of all files into clones, the longest first."""
    places: defaultdict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for which, file in enumerate(traces):
        for print_ in file.prints:
            places[print_[0]].append((which, print_))
    # The windows of one copy lie on one diagonal: equal difference of ordinals in the same two files.
    diagonals: defaultdict[tuple[int, int, int], list[tuple[list[int], list[int]]]] = defaultdict(list)
    for same in places.values():
        if 1 < len(same) <= _TOO_COMMON:
            for (one, left), (two, right) in combinations(same, 2):
                diagonals[one, two, right[1] - left[1]].append((left, right))
    clones = [
        clone
        for (one, two, _), pairs in diagonals.items()
        for clone in _along(pairs, traces[one].path, traces[two].path)
    ]
    clones.sort(key=lambda clone: (-clone.lines, clone.path, clone.line, clone.other, clone.other_line))
    return Clones(clones=clones[:_LISTED], repeated=_repeated(clones))


def _along(pairs: list[tuple[list[int], list[int]]], path: str, other: str) -> Iterator[Clone]:
    """Join the windows of one diagonal that touch each other."""
    pairs.sort(key=lambda pair: pair[0][1])
    start = end = pairs[0]
    for pair in [*pairs[1:], None]:
        if pair and pair[0][1] - end[0][1] <= SHORTEST:
            end = pair
            continue
        lines = min(end[0][3] - start[0][2], end[1][3] - start[1][2]) + 1
        overlaps = path == other and start[1][2] <= end[0][3]
        if not overlaps:
            yield Clone(path, start[0][2], lines, other, start[1][2])
        if pair:
            start = end = pair


def _repeated(clones: Iterable[Clone]) -> dict[str, int]:
    lines: defaultdict[str, set[int]] = defaultdict(set)
    for clone in clones:
        lines[clone.path].update(range(clone.line, clone.line + clone.lines))
        lines[clone.other].update(range(clone.other_line, clone.other_line + clone.lines))
    return {path: len(lines[path]) for path in sorted(lines)}
