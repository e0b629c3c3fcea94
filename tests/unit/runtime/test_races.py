"""Races that the crash suite found, each held still."""

import asyncio

from reprise import Reprise, workflow
from reprise.kernel.clock import SystemClock
from reprise.stores.memory import MemoryStore


@workflow
async def sleeper(n: int) -> int:
    await asyncio.sleep(3600)
    return n


@workflow
async def at_once(n: int) -> int:
    return n


async def test_a_run_that_somebody_took_since_the_index_was_read_is_not_taken_again(tmp_path):
    url = f"sqlite:///{tmp_path / 'runs.db'}?synchronous=OFF"
    async with (
        Reprise(url, worker=False) as client,
        Reprise(url, workflows=[sleeper], claims=False) as first,
        Reprise(url, workflows=[sleeper], claims=False) as second,
    ):
        await client.start(sleeper, 1, id="one", detach=True)
        (row,) = await client.store.runs.due(SystemClock().now(), owner="nobody")
        assert await first.engine.take_over(row) is not None
        assert await second.engine.take_over(row) is None
        assert (await client.client.row("one")).owner == first.engine.worker


async def test_a_waiter_that_looks_while_the_run_ends_gets_the_result():
    async with Reprise(MemoryStore()) as app:
        await app.run(at_once, 7, id="one")
        ended = app.client.finished
        looks = 0

        async def finished(run: str) -> object:
            nonlocal looks
            looks += 1
            return None if looks == 1 else await ended(run)  # the run ends between the looks at log and index

        app.client.finished = finished
        found = await app.client.wait("one", 5, settled=True)
        assert (found.status, bytes(found.value)) == ("completed", b"7")
