"""rq: one job at a time in a process, so ten processes; maintenance each second gives abandoned jobs back."""
# pyright: reportMissingImports=false

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from redis import Redis
from rq import Queue, Retry, SimpleWorker

from bench.recovering import ledger

PROCESSES = 10
SHORTEST_TTL = 16
"""Seconds; a worker at rest looks around, and does maintenance, 15 s before that time is over."""


def task(number: int, seconds: float) -> None:
    """Take a moment."""
    ledger.write("began", number)
    time.sleep(seconds)
    ledger.write("ended", number)


def queue() -> Queue:
    """Return the queue."""
    return Queue(connection=Redis.from_url(os.environ[ledger.REDIS]))


def put(numbers: Sequence[int], seconds: float) -> None:
    """Put tasks in."""
    opened = queue()
    for number in numbers:
        opened.enqueue(task, number, seconds, job_timeout=ledger.lease(), result_ttl=0, retry=Retry(max=3))


def work() -> None:
    """Be a worker in each of the processes."""
    for _ in range(PROCESSES - 1):
        if not os.fork():
            break
    opened = queue()
    worker = SimpleWorker(
        [opened], connection=opened.connection, maintenance_interval=1, worker_ttl=SHORTEST_TTL
    )
    worker.work(logging_level="ERROR")
