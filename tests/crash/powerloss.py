"""What a keeper asked of its disk, with what it promised meanwhile, and the files that power cuts would have left of it.

``kill -9`` proves recovery, not durability: the pages of a dead process are still written. Here the keeper runs, by
its ``connect=``, over the drive of the kit, which lets everything pass and tells of each write, truncation, sync,
creation and deletion. From one such trace the disk is built as it may be after power failed between any two of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from reprise.testing.disk import STYLES, Disk, Drive, DrivenConnection, Op, Sync, Write

__all__ = ["Promise", "Sync", "Trace", "Write", "crashes"]


class Promise(msgspec.Struct, frozen=True):
    """The keeper acknowledged something to somebody."""

    what: Any


class Trace:
    """Everything that one or more connections asked of the file system, in order."""

    def __init__(self) -> None:
        self.ops: list[Op | Promise] = []
        self._drive = Drive(self.ops.append)

    def promise(self, what: Any) -> None:
        """Note that something was acknowledged now."""
        self.ops.append(Promise(what))

    def connect(self, uri: str) -> DrivenConnection:
        """Open a recorded connection; what the keeper wants of its ``connect=``."""
        return DrivenConnection(uri, self._drive)


def crashes(
    ops: Sequence[Op | Promise], count: int, dice: random.Random
) -> Iterator[tuple[int, str, dict[str, bytes]]]:
    """Yield (how many things had happened, style, files) for ``count`` power cuts, half of them beside a sync."""
    syncs = [n for n, op in enumerate(ops) if isinstance(op, Sync)] or range(len(ops))
    cuts = [dice.randint(0, len(ops)) for _ in range(count - count // 2)]
    cuts += [min(len(ops), dice.choice(syncs) + dice.randint(0, 2)) for _ in range(count // 2)]
    disk, played = Disk({}), 0
    for cut in sorted(cuts):
        for op in ops[played:cut]:
            if not isinstance(op, Promise):
                disk.play(op)
        played = cut
        style = dice.choice(STYLES)
        yield cut, style, disk.after_power_loss(dice, style)
