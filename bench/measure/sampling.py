"""Where a loop's thread is, looked at every half millisecond: what it does, by the file that asked for it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bench.measure.children import ROOT

EVERY = 0.0005
"""Seconds between two looks; one costs some ten microseconds."""
SOURCE = str(Path("src", "reprise")) + os.sep
BENCH = str(ROOT / "bench") + os.sep
WAITING, LOOP, BODY = "(waits)", "(asyncio)", "(body)"
"""What is no file of ours: the loop has nothing to do, its own work, the code of the bench."""
_TURN = "_run_once"


@contextmanager
def looking(writer: str = "") -> Generator[tuple[Counter[str], Counter[str]]]:
    """Count looks at the main thread by file, and at the thread named ``writer`` by function.

    The handler of a signal runs when the interpreter is back from what it was called for, and so in the frame that
    called: a sync on the loop's thread counts for the file that commits.
    """
    loop: Counter[str] = Counter()
    other: Counter[str] = Counter()
    threads: dict[str, int] = {}

    def look(_signal: int, frame: FrameType | None) -> None:
        loop[_place(frame)] += 1
        if writer and writer not in threads:
            threads.update({each.name: each.ident or 0 for each in threading.enumerate()})
        if (found := sys._current_frames().get(threads.get(writer, 0))) is not None:
            other[_function(found)] += 1

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)
    try:
        yield loop, other
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _place(frame: FrameType | None) -> str:
    """Return the nearest file that is ours or the bench's, below the turn of the loop."""
    leaf = frame
    while frame is not None and frame.f_code.co_name != _TURN:
        name = frame.f_code.co_filename
        if SOURCE in name:
            return name.partition(SOURCE)[2]
        if name.startswith(BENCH):
            return BODY
        frame = frame.f_back
    return WAITING if leaf is not None and leaf.f_code.co_name == "select" else LOOP


def _function(frame: FrameType) -> str:
    """Return file and function of the nearest frame of ours."""
    found: FrameType | None = frame
    while found is not None:
        if SOURCE in found.f_code.co_filename:
            return f"{found.f_code.co_filename.partition(SOURCE)[2]}: {found.f_code.co_name}"
        found = found.f_back
    return LOOP
