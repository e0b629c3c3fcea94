"""Count syncs and bytes that a process writes to files, by a preloaded shim where a C compiler is at hand."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from math import nan
from pathlib import Path
from tempfile import mkdtemp

SOURCE = Path(__file__).with_name("counters.c")


@cache
def library() -> Path | None:
    """Compile the shim; None where that is not possible."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    built = Path(mkdtemp(prefix="reprise-bench-")) / "counters.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(built), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, check=False)
    return built if done.returncode == 0 else None


def environment() -> dict[str, str]:
    """Return the environment for a process whose system calls are to be counted."""
    shim = library()
    return dict(os.environ) if shim is None else {**os.environ, "LD_PRELOAD": str(shim)}


def described() -> str:
    """Say how syncs and bytes are counted here."""
    if library() is not None:
        return "fsync, fdatasync, write and pwrite counted by a preloaded shim (bench/measure/counters.c)"
    return "no C compiler, or not Linux: bytes by /proc/self/io where there is one, syncs not counted"


@cache
def _shim() -> Callable[[], tuple[float, float]] | None:
    try:
        shim = ctypes.CDLL(None)
        syncs, written = shim.bench_syncs, shim.bench_written
    except (AttributeError, TypeError, OSError):
        return None
    syncs.restype = written.restype = ctypes.c_longlong
    return lambda: (syncs(), written())


def peak_mb() -> float:
    """Return the most memory that this process had so far, in MB; NaN where that is not known.

    Not ``ru_maxrss``: that begins with what the process had that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return nan
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def counters() -> tuple[float, float]:
    """Return syncs and bytes written to files by this process so far; NaN where they are not counted."""
    if (shim := _shim()) is not None:
        return shim()
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return nan, nan
    return nan, float(next(line for line in lines if line.startswith("wchar")).split()[1])
