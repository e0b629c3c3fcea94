"""Talking with runs beside steps in the log's transaction: each is alone on its way, neither waits for the other."""

import asyncio
import sqlite3

import pytest

from reprise import ConfigurationError, Reprise, Retry, step, stream, update, workflow

SOON = Retry(40, max_delay=0.002)
tries: list[int] = []


@step(transaction=True, retry=SOON)
def moody(connection: sqlite3.Connection, n: int) -> int:
    tries.append(n)
    if len(tries) % 3:
        raise ConnectionError(n)
    return n


@workflow
async def busy(count: int) -> int:
    level = 0
    full = asyncio.Event()

    def is_even() -> None:
        if level % 2:
            raise ValueError("odd")

    @update(validator=is_even)
    async def look() -> int:
        return level

    @update
    def count_one() -> None:
        nonlocal count
        count -= 1
        if not count:
            full.set()

    async def rise() -> None:
        nonlocal level
        while not full.is_set():
            await moody(level)
            level += 1

    await asyncio.gather(rise(), rise(), full.wait())
    return level


async def test_updates_are_admitted_beside_transactions_that_fail_and_try_again(tmp_path):
    tries.clear()
    async with Reprise(f"sqlite:///{tmp_path}/a.db?synchronous=OFF", grace=0) as app:
        handle = await app.start(busy, 15, id="b")
        async with asyncio.timeout(30):
            looks = [
                await asyncio.gather(
                    handle.update("look"), handle.update("count_one"), return_exceptions=True
                )
                for _ in range(15)
            ]
            levels = [level for level, _ in looks if isinstance(level, int)]
            assert [level for level in levels if level % 2] == []
            assert [one for _, one in looks] == [None] * 15
            assert await handle.result() > 0


async def test_a_transaction_writes_to_no_stream(tmp_path):
    @step(transaction=True, retry=Retry(1))
    def writes(connection: sqlite3.Connection) -> None:
        stream("words")

    @workflow
    async def tries_it() -> None:
        await writes()

    async with Reprise(f"sqlite:///{tmp_path}/a.db?synchronous=OFF", grace=0) as app:
        with pytest.raises(ConfigurationError, match="in the transaction that records it"):
            await app.run(tries_it)
