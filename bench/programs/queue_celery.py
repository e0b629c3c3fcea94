"""Celery on Redis: threads, which are its fastest pool here; no results, tasks acknowledged when they begin."""
# pyright: reportMissingImports=false, reportFunctionMemberAccess=false

from __future__ import annotations

import os
import sys

from celery import Celery

from bench.programs.queueing import CONCURRENCY, SERVER, done

app = Celery("bench.programs.queue_celery", broker=SERVER)
app.conf.update(
    task_ignore_result=True, worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True
)


@app.task(name="note")
def note(sent_at: float) -> None:
    """Note that it is done."""
    done(sent_at)


class Queue:
    """Celery."""

    async def put(self, count: int) -> None:
        """Put in tasks one by one; there is no other way."""
        for _ in range(count):
            note.delay(0.0)

    async def send(self, sent_at: float) -> None:
        """Put in one."""
        note.delay(sent_at)

    def work(self) -> None:
        """Become its worker."""
        options = [
            "-P",
            "threads",
            "-c",
            str(CONCURRENCY),
            "-l",
            "ERROR",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
        os.execv(  # noqa: S606
            sys.executable,
            [sys.executable, "-m", "celery", "-A", "bench.programs.queue_celery", "worker", *options],
        )

    async def close(self) -> None:
        """Leave all as it is."""
