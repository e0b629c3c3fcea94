"""pgqueuer: a worker's heartbeat keeps what it has."""
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from bench.recovering import ledger


async def driver() -> Any:
    """Connect."""
    schema = os.environ[ledger.SCHEMA]
    connection = await asyncpg.connect(os.environ[ledger.POSTGRES], server_settings={"search_path": schema})
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    return AsyncpgDriver(connection)


async def put(numbers: Sequence[int], seconds: float) -> None:
    """Put tasks in; the first time make the tables."""
    opened = await driver()
    queries = Queries(opened)
    if not (await opened.fetch("SELECT to_regclass('pgqueuer') AS found"))[0]["found"]:
        await queries.install()
    payloads = [json.dumps([number, seconds]).encode() for number in numbers]
    await queries.enqueue(["task"] * len(payloads), payloads, [0] * len(payloads))


async def work() -> None:
    """Be a worker."""
    queuer = PgQueuer(await driver())

    @queuer.entrypoint("task")
    async def task(job: Any) -> None:
        number, seconds = json.loads(job.payload)
        ledger.write("began", number)
        await asyncio.sleep(seconds)
        ledger.write("ended", number)

    assert task
    await queuer.run(
        batch_size=25,
        max_concurrent_tasks=50,
        dequeue_timeout=timedelta(seconds=1),
        heartbeat_timeout=timedelta(seconds=ledger.lease()),
    )
