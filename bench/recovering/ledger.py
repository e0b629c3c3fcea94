"""What tasks write down, whatever queue they came by: that they began, and that they ended."""

from __future__ import annotations

import os
import time

LEDGER = "REPRISE_BENCH_LEDGER"
"""Variable with the path of the file."""
REDIS, PORT = "REPRISE_BENCH_REDIS", "REPRISE_BENCH_REDIS_PORT"
"""Variables with the URL of the Redis that queues use, and its port of this machine."""
POSTGRES, SCHEMA = "REPRISE_BENCH_POSTGRES", "REPRISE_BENCH_SCHEMA"
"""Variables with the URL of the PostgreSQL, and the schema that queues use there."""
LEASE, TUNED = "REPRISE_BENCH_LEASE", "REPRISE_BENCH_TUNED"
"""Variables with the seconds after which a dead worker's tasks may come back, and with how a queue is set."""


def write(what: str, number: int) -> None:
    """Add a line; the clock is that of the machine, the same for all processes."""
    path = os.environ[LEDGER]
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{what} {number} {time.monotonic()}\n".encode())
    finally:
        os.close(file)


def lease() -> int:
    """Return the seconds after which the tasks of a dead worker may come back."""
    return int(os.environ[LEASE])


def tuned() -> str:
    """Return how a queue is to be set, if there are several ways."""
    return os.environ.get(TUNED, "")
