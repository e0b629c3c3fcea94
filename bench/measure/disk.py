"""What the disk costs right now, without anybody's code in between."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from time import perf_counter

PAGE = b"x" * 4096


def sync_us(folder: Path, times: int = 40) -> float:
    """Return the median microseconds of overwriting a page and ``fdatasync``."""
    path = folder / "bare"
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.write(fd, PAGE * times)
        os.fsync(fd)
        taken: list[float] = []
        for i in range(times):
            begun = perf_counter()
            os.pwrite(fd, PAGE, i * len(PAGE))
            os.fdatasync(fd)
            taken.append(perf_counter() - begun)
    finally:
        os.close(fd)
        path.unlink()
    return median(taken) * 1e6
