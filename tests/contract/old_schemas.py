"""What stands in a store of an older schema, for both keepers: histories that real runs wrote, one of them unfinished.

The rows are written by hand in the shape of the first schema, so that the code of today has no part in them; what the
numbered scripts make of them must be read, verified, found, and go on.
"""

import asyncio

from reprise import Reprise, step, wait_for_signal, workflow
from reprise.stores.cells import Change
from reprise.stores.memory import MemoryStore
from reprise.stores.runs import RunFilter


@step
async def add(a: int, b: int) -> int:
    return a + b


@workflow
async def asks(n: int) -> int:
    """Wait in the middle for a number."""
    return await add(await add(n, 1), await wait_for_signal("number", int))


@workflow
async def parent(n: int) -> int:
    return await asks(n) + await add(n, n)


@workflow
async def fails() -> None:
    raise ValueError("connection reset by ä peer")


WORKFLOWS = [asks, parent, fails]


class Past(MemoryStore):
    """A store that was left in the middle."""

    async def stop(self) -> None:
        """Stay open, to be looked into."""


async def past() -> Past:
    """Return what was there before the upgrade."""
    store = Past()
    async with Reprise(store, workflows=WORKFLOWS, capture_logs=False, grace=0) as app:
        done = await app.start(asks, 1, id="done", tags={"team": "ü", "n": "7"}, signal=("number", 5))
        assert await done.result() == 7
        failed = await app.start(fails, id="failed")
        await failed.finished()
        await app.start(parent, 10, id="open", tags={"team": "red"})
        while len(await store.log.read("run/open:1.asks")) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return store


async def check(store, before: Past) -> None:
    """Hold an upgraded store against what was there, and let the unfinished run go on."""
    records = await before.log.scan(limit=10_000)
    assert await store.log.scan(limit=10_000) == records
    for stream in {record.stream for record in records}:
        assert await store.log.read(stream) == await before.log.read(stream)
        assert await store.log.head(stream) == await before.log.head(stream)
    rows = {row.id: row for row in await store.runs.find()}
    assert rows == {row.id: row for row in await before.runs.find()}
    assert await _found(store, RunFilter(tags={"team": "ü", "n": "7"})) == {"done"}
    assert await _found(store, RunFilter(status=["failed"])) == {"failed"}
    assert await _found(store, RunFilter(parent="open")) == {"open:1.asks"}
    assert await store.runs.count() == await before.runs.count()
    assert (await store.lease.holder("x"))[0].token == 41
    (task,) = await store.queue.find("q")
    assert (task.id, task.data, task.order, task.state) == ("t", b"\1\xff", 2.5, "ready")
    (cell,) = (await store.cells.get("s", ["c"])).cells
    assert (cell.data, cell.version, cell.expires_at) == (b"\2\xfe", 3, 0)
    assert [(each.name, each.data) for each in await store.cells.feed("s", 2)] == [("c", b"\2\xfe")]
    assert (await store.cells.apply("s", [Change("c", b"", 3)])).position == 4
    assert store.epoch == 0
    async with Reprise(store, workflows=WORKFLOWS, capture_logs=False, grace=0, claims=True) as app:
        await app.handle("open:1.asks").signal("number", 4)
        assert await app.handle("open", parent).result(timeout=30) == 35
        assert await app.run(asks, 1, id="new", signal=("number", 1)) == 3


async def _found(store, where) -> set[str]:
    return {row.id for row in await store.runs.find(where)}
