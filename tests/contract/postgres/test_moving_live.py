"""From a file to PostgreSQL while a worker writes, and on there; and all the way back by a backup."""

import asyncio

import pytest
from tests.contract.moving import order_of, picture, records
from tests.contract.old_schemas import WORKFLOWS, asks, parent

from reprise import Reprise
from reprise.stores.moving import back_up_store, copy_store, restore_store
from reprise.stores.packing import packed
from reprise.stores.runs import RunFilter
from reprise.stores.sqlite import SQLiteStore


@pytest.fixture
async def file(tmp_path):
    store = packed(SQLiteStore(tmp_path / "a.db", synchronous="OFF"))
    await store.start()
    yield store
    await store.stop()


async def test_a_file_moves_to_postgresql_while_a_worker_writes(file, store, tmp_path):
    target, stop = packed(store), asyncio.Event()
    copying = asyncio.ensure_future(copy_store(file, target, follow=stop))
    async with Reprise(f"sqlite:///{file.keeper.path}?synchronous=OFF", workflows=WORKFLOWS, grace=0) as app:
        for n in range(30):
            run = await app.start(parent, n, id=f"r{n}")
            if n % 2:
                async with asyncio.timeout(30):
                    while not await app.store.runs.find(RunFilter(parent=f"r{n}")):  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
                await app.handle(f"r{n}:1.asks").signal("number", 1)
                assert await run.result(timeout=30) == 3 * n + 2
        while (await target.log.head("run/r29")).version < (await file.log.head("run/r29")).version:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    stop.set()
    done = await copying
    assert done.is_complete, done
    assert (done.runs, done.unfinished) == (60, 30)
    assert await records(target) == await records(file)
    assert await order_of(target) == await order_of(file)
    assert await picture(target) == await picture(file)
    async with Reprise(target, workflows=WORKFLOWS, grace=0) as app:
        for n in range(0, 30, 2):
            await app.handle(f"r{n}:1.asks").signal("number", 1)
        for n in range(0, 30, 2):
            assert await app.handle(f"r{n}", parent).result(timeout=30) == 3 * n + 2
        assert await app.run(asks, 1, id="new", signal=("number", 1)) == 3
        # Back into a file: the backup of any store is an archive, which any store takes.
        made = await back_up_store(target, tmp_path / "b.jsonl.gz")
        assert made.kind == "archive"
        back = packed(SQLiteStore(tmp_path / "b.db", synchronous="OFF"))
        restored = await restore_store(back, tmp_path / "b.jsonl.gz")
        assert restored.runs == 61
        assert await records(back) == await records(target)
        assert await back.verify() == []
        await back.stop()
