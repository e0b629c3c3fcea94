"""After a restore: whoever executed before writes nothing more, and who goes on has tokens of the new epoch."""

import asyncio

import msgspec
import pytest
from tests.unit.runtime.scenes import Shared, history, kinds, opened, recorded, until, worker_of

import reprise.runtime.worker
from reprise import Kind, step, wait_for_signal, workflow
from reprise.kernel.events import Owned
from reprise.stores.conditions import floor_of


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 0.01)


@step
async def one() -> int:
    return 1


@workflow
async def child() -> int:
    return await wait_for_signal("child", int)


@workflow
async def waits() -> int:
    await one()
    return await wait_for_signal("go", int) + await one()


@workflow
async def parent() -> int:
    return await one() + await child()


def tokens(records):
    return [
        msgspec.json.decode(record.data, type=Owned).token
        for record in records
        if record.kind == Kind.RUN_OWNED
    ]


async def children(app):
    """Wait until there are child runs; return their ids."""
    while not (found := [row.id for row in await app.store.runs.find() if row.parent]):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return found


async def test_a_worker_that_lost_its_lease_to_a_restore_goes_on_under_tokens_of_the_new_epoch():
    async with opened(lease=0.03) as app:
        run = await app.start(waits, id="a")
        await recorded(app, "a", Kind.STEP_COMPLETED)
        name = worker_of(app).id
        floor = floor_of(await app.store.begin_epoch())
        await until(lambda: worker_of(app).id != name)
        await run.signal("go", 5)
        assert await run.result(timeout=5) == 6
        assert tokens(await history(app.store, "a")) == [1, floor]


async def test_a_run_in_memory_since_before_a_restore_is_lost_at_its_next_write():
    async with opened() as app:
        await app.start(waits, id="a")
        before = await recorded(app, "a", Kind.STEP_COMPLETED)
        await app.store.begin_epoch()
        await app.handle("a").signal("go", 5)
        await until(lambda: "a" not in app.engine.executions)
        after = await history(app.store, "a")
        assert kinds(after[len(before) :]) == []


async def test_runs_and_children_begin_with_tokens_of_the_epoch():
    async with opened(Shared()) as app:
        floor = floor_of(await app.store.begin_epoch(above=4))
        run = await app.start(parent, id="a")
        (child_of_a,) = await children(app)
        await app.handle(child_of_a).signal("child", 2)
        assert await run.result(timeout=5) == 3
        for id in ("a", child_of_a):
            assert tokens(await history(app.store, id)) == [floor]


async def test_a_start_by_a_process_that_has_not_seen_the_restore_yet_is_made_again(monkeypatch):
    async with opened(Shared()) as app:
        floor = floor_of(await app.store.begin_epoch())
        seen = []

        class Late(type(app.store)):
            @property
            def epoch(self):
                seen.append(1)
                return 0 if len(seen) == 1 else self.log.epoch

        monkeypatch.setattr(app.store, "__class__", Late)
        run = await app.start(waits, id="a", signal=("go", 1))
        assert await run.result(timeout=5) == 2
        assert tokens(await history(app.store, "a")) == [floor]
