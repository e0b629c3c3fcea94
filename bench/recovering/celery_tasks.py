"""Celery on Redis, with threads: as it comes, or with late acknowledgement, or with its sweep made tighter, too."""
# pyright: reportMissingImports=false, reportFunctionMemberAccess=false

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from celery import Celery

from bench.recovering import ledger

transport: dict[str, Any] = {"visibility_timeout": ledger.lease()}
if ledger.tuned() == "swept":
    transport |= {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
app = Celery("bench", broker=os.environ[ledger.REDIS])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=bool(ledger.tuned()),
    worker_prefetch_multiplier=1,
    broker_transport_options=transport,
    broker_connection_retry_on_startup=True,
)


@app.task(name="task")
def task(number: int, seconds: float) -> None:
    """Take a moment."""
    ledger.write("began", number)
    time.sleep(seconds)
    ledger.write("ended", number)


def put(numbers: Sequence[int], seconds: float) -> None:
    """Put tasks in."""
    for number in numbers:
        task.delay(number, seconds)
