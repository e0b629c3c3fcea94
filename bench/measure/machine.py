"""What figures were measured on: versions, the machine, and what it can do at best."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from tests.servers import postgres_installs, redis_installs

from bench.measure.children import ROOT
from bench.measure.disk import sync_us
from bench.measure.yardstick import task_us
from reprise import __version__

OURS = ("msgspec", "asyncpg", "uvloop", "redis", "hiredis")
PEERS = (
    "dbos", "langgraph", "langgraph-checkpoint-sqlite", "aiosqlite", "SQLAlchemy", "psycopg",
    "celery", "pgqueuer", "taskiq", "taskiq-redis", "redis", "python-redis-lock",
)  # fmt: skip
ASK = """
import json, sqlite3, sys
from importlib.metadata import version
own = {"Python": sys.version.split()[0], "SQLite": sqlite3.sqlite_version}
print(json.dumps(own | {name: version(name) for name in sys.argv[1:]}))
"""
BLOCK = 64 << 20


def described() -> dict[str, Any]:
    """Return versions and the machine."""
    return {
        "versions": {
            "Reprise": __version__,
            "commit": _commit(),
            "Python": f"{platform.python_implementation()} {platform.python_version()}",
            "SQLite": sqlite3.sqlite_version,
            "PostgreSQL": _postgres(),
            "Redis": _redis(),
            **{name: _version(name) for name in OURS},
            "peers": _peers(),
        },
        "machine": {
            "system": platform.system(),
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
            "processors": os.cpu_count(),
            "memory": _field("/proc/meminfo", "MemTotal"),
            "disk": _disk(),
        },
    }


def limits() -> dict[str, Any]:
    """Return what the machine can do right now with nobody's code in between."""
    with TemporaryDirectory(prefix="reprise-bench-") as folder:
        syncs = sorted(sync_us(Path(folder), 20) for _ in range(5))
    return {
        "bare_sync_us": median(syncs),
        "bare_sync_us_least": syncs[0],
        "bare_sync_us_most": syncs[-1],
        "task_us": task_us(),
        "memory_copy_gb_s": _copy_gb_s(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def _copy_gb_s() -> float:
    source = bytes(BLOCK)
    taken: list[float] = []
    for _ in range(5):
        begun = perf_counter()
        bytearray(source)
        taken.append(perf_counter() - begun)
    return BLOCK / median(taken) / 1e9


def _commit() -> str | None:
    """Return the commit of the code, with a plus where files differ from it; None outside of a repository."""
    asked = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _postgres() -> str | None:
    """Return the version of the newest server there is, which is the one that benches run."""
    installs = postgres_installs()
    if not installs or installs[-1].root is None:
        return installs[-1].name if installs else None
    asked = [installs[-1].root / "bin" / "postgres", "--version"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[2]


def _redis() -> str | None:
    """Return the version of the newest server there is, which is the one that benches run."""
    installs = redis_installs()
    if not installs or installs[-1].root is None:
        return installs[-1].name if installs else None
    asked = [installs[-1].root / "bin" / "redis-server", "--version"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return told.partition("v=")[2].partition(" ")[0]


def _peers() -> dict[str, str] | None:
    """Return the versions of the peers, of the interpreter that REPRISE_PEERS_PYTHON names."""
    python = os.environ.get("REPRISE_PEERS_PYTHON")
    if not python:
        return None
    done = subprocess.run([python, "-c", ASK, *PEERS], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _field(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _disk() -> dict[str, str] | None:
    """Return the file system that benches write to, its device and what that says of itself; known on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    with TemporaryDirectory(prefix="reprise-bench-") as folder:
        device = Path(folder).stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    kinds = [line.partition(" - ")[2].split()[:2] for line in lines if line.split()[2] == number]
    found: dict[str, str] = {}
    if kinds:
        found["file_system"], found["device"] = kinds[0]
    queue = Path(f"/sys/dev/block/{number}").resolve()
    for name in ("rotational", "write_cache", "fua"):
        for file in (queue / "queue" / name, queue.parent / "queue" / name):
            if file.exists():
                found[name] = file.read_text().strip()
                break
    return found
