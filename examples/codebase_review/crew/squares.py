"""Lay out a treemap: nested rectangles as square as possible.

The rows are chosen as in "Squarified Treemaps" (Bruls, Huizing and van Wijk, 2000): a row takes the next largest
value as long as that does not make its worst rectangle more oblong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

HEADER = 15.0
GAP = 1.5
DEEPEST = 12
"""Folders below this depth are drawn as part of the names in them."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: left, top, width, height."""

    x: float
    y: float
    width: float
    height: float


@dataclass(slots=True)
class Folder:
    """A folder of the treemap: its leaves by name with their values, and the folders in it."""

    leaves: dict[str, float] = field(default_factory=dict[str, float])
    folders: dict[str, Folder] = field(default_factory=dict[str, "Folder"])

    @property
    def value(self) -> float:
        """Return the sum of all values below."""
        return sum(self.leaves.values()) + sum(folder.value for folder in self.folders.values())


def grow(values: dict[str, float]) -> Folder:
    """Make the tree of folders from paths; a chain of lone folders becomes one folder ``a/b/c``."""
    root = Folder()
    for path, value in values.items():
        *parts, _ = path.split("/", DEEPEST)
        here = root
        for part in parts:
            here = here.folders.setdefault(part, Folder())
        here.leaves[path] = value
    return _shorten(root)


def _shorten(folder: Folder) -> Folder:
    short = Folder(folder.leaves)
    for name, child in folder.folders.items():
        kept = _shorten(child)
        while not kept.leaves and len(kept.folders) == 1:
            (inner, kept), = kept.folders.items()  # fmt: skip
            name = f"{name}/{inner}"  # noqa: PLW2901 (the name grows with the chain)
        short.folders[name] = kept
    return short


def place(folder: Folder, box: Box, name: str = "") -> Iterator[tuple[str, bool, Box]]:
    """Yield ``(name, is a leaf, box)`` for everything in a folder; a folder's own box comes before what it holds."""
    values = {("leaf", path): value for path, value in folder.leaves.items()}
    values |= {("folder", part): child.value for part, child in folder.folders.items()}
    ranked = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    boxes = squarify([value for _, value in ranked], box)
    for ((kind, part), _), each in zip(ranked, boxes, strict=True):
        if kind == "leaf":
            yield part, True, each
            continue
        full = f"{name}/{part}" if name else part
        yield full, False, each
        yield from place(folder.folders[part], _inside(each), full)


def has_header(box: Box) -> bool:
    """Tell whether a folder's box has room for its name."""
    return box.width > 56 and box.height > 44


def _inside(box: Box) -> Box:
    top = HEADER if has_header(box) else GAP
    width, height = max(0.0, box.width - 2 * GAP), max(0.0, box.height - top - GAP)
    return Box(box.x + GAP, box.y + top, width, height)


def squarify(values: Sequence[float], box: Box) -> list[Box]:
    """Divide a box among values given in falling order; values that are not above 0 get empty boxes."""
    total = sum(value for value in values if value > 0)
    area = box.width * box.height
    if not total or area <= 0:
        return [Box(box.x, box.y, 0, 0) for _ in values]
    sizes = [max(0.0, value) * area / total for value in values]
    boxes: list[Box] = []
    at = 0
    while at < len(sizes):
        side = min(box.width, box.height)
        end = at + 1
        while end < len(sizes) and _worst(sizes[at : end + 1], side) <= _worst(sizes[at:end], side):
            end += 1
        row, box = _row(sizes[at:end], box)
        boxes += row
        at = end
    return boxes


def _worst(row: Sequence[float], side: float) -> float:
    """Return the largest ratio of the sides in a row of areas laid along ``side``."""
    total, low = sum(row), min(row)
    if low <= 0 or side <= 0:
        return float("inf")
    return max(side * side * max(row) / (total * total), total * total / (side * side * low))


def _row(row: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    total = sum(row)
    if box.width >= box.height:
        across = total / box.height if box.height else 0.0
        laid, y = [], box.y
        for size in row:
            length = size / across if across else 0.0
            laid.append(Box(box.x, y, across, length))
            y += length
        return laid, Box(box.x + across, box.y, max(0.0, box.width - across), box.height)
    turned, rest = _row(row, Box(box.y, box.x, box.height, box.width))
    return [Box(b.y, b.x, b.height, b.width) for b in turned], Box(rest.y, rest.x, rest.height, rest.width)
