"""Dramatiq: tasks of a worker without a heartbeat are put back when a command happens to do maintenance."""
# pyright: reportMissingImports=false, reportFunctionMemberAccess=false

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.recovering import ledger

EACH_COMMAND = {"maintenance_chance": 1_000_000} if ledger.tuned() == "maintained" else {}
dramatiq.set_broker(
    RedisBroker(url=os.environ[ledger.REDIS], heartbeat_timeout=ledger.lease() * 1000, **EACH_COMMAND)
)


@dramatiq.actor
def task(number: int, seconds: float) -> None:
    """Take a moment."""
    ledger.write("began", number)
    time.sleep(seconds)
    ledger.write("ended", number)


def put(numbers: Sequence[int], seconds: float) -> None:
    """Put tasks in."""
    for number in numbers:
        task.send(number, seconds)
