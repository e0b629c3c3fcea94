"""huey on Redis, with threads."""
# pyright: reportMissingImports=false

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from huey import RedisHuey

from bench.recovering import ledger

huey = RedisHuey("bench", url=os.environ[ledger.REDIS], results=False, immediate=False)


@huey.task(retries=2)
def task(number: int, seconds: float) -> None:
    """Take a moment."""
    ledger.write("began", number)
    time.sleep(seconds)
    ledger.write("ended", number)


def put(numbers: Sequence[int], seconds: float) -> None:
    """Put tasks in."""
    for number in numbers:
        task(number, seconds)
