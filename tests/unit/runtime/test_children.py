"""Child runs: how they are started, addressed, ended, and what their parents hear of them."""

import asyncio

import pytest
from tests.replay.harness import fill
from tests.unit.runtime.scenes import cut, history, kinds, opened, row_when, status_is, until

from reprise import Kind, RunCancelled, step, wait_for_signal, workflow
from reprise.runtime.parking import park
from reprise.stores.memory import MemoryStore


@step
async def one(n: int = 1) -> int:
    return n


@workflow
async def adds(a: int, b: int) -> int:
    return await one(a) + await one(b)


@workflow
async def waits() -> str:
    return await wait_for_signal("go", str)


@workflow
async def fails() -> None:
    await one()
    raise KeyError("broken")


async def test_a_child_is_one_step_of_its_parent_and_a_run_of_its_own():
    @workflow
    async def parent() -> list[int]:
        return [await adds(1, 2), *await asyncio.gather(adds(3, 4), adds.options(key="total")(5, 6))]

    store = MemoryStore()
    async with opened(store) as app:
        assert await app.run(parent, id="one", tags={"team": "a"}) == [3, 7, 11]
        rows = {row.id: row for row in await app.store.runs.find()}
    assert set(rows) == {"one", "one:1.adds", "one/adds:1", "one:total"}
    assert all(rows[id].parent == "one" and rows[id].tags == {"team": "a"} for id in rows if id != "one")
    records = await history(store, "one")
    assert kinds(records).count("CHILD_STARTED") == kinds(records).count("STEP_COMPLETED") == 3


async def test_a_child_is_started_in_the_commit_that_notes_it():
    @workflow
    async def parent() -> int:
        return await adds(1, 2)

    store = MemoryStore()
    async with opened(store) as app:
        await app.run(parent, id="one")
    (noted,) = [r for r in await history(store, "one") if r.kind == Kind.CHILD_STARTED]
    opening = await history(store, "one:1.adds")
    assert [r.position - noted.position for r in opening[:2]] == [1, 2]
    end = [r for r in await history(store, "one") if r.kind == Kind.STEP_COMPLETED]
    assert opening[-1].position < end[0].position


async def test_a_parent_gets_the_error_of_its_child():
    @workflow
    async def parent() -> str:
        try:
            await fails()
        except KeyError as error:
            return f"caught {error}"
        return ""

    async with opened() as app:
        assert await app.run(parent, id="one") == "caught 'broken'"
        assert (await app.client.row("one:1.fails")).status == "failed"


async def test_a_child_cancelled_by_somebody_else_is_an_error_for_its_parent():
    @workflow
    async def parent() -> str:
        try:
            await waits()
        except RunCancelled as error:
            return str(error)
        return ""

    async with opened() as app:
        handle = await app.start(parent, id="one")
        await until(lambda: "one:1.waits" in app.engine.executions)
        await app.client.cancel("one:1.waits", "by hand")
        assert "one:1.waits was cancelled: by hand" in await handle.result(5)


async def test_cancelling_the_wait_cancels_the_child():
    @workflow
    async def parent() -> str:
        try:
            return await asyncio.wait_for(waits(), 0.005)
        except TimeoutError:
            return "gave up"

    async with opened() as app:
        assert await app.run(parent, id="one") == "gave up"
        (child,) = [row for row in await app.store.runs.find() if row.parent]
        assert child.status == "cancelled", "the parent went on when its child had ended"


@pytest.mark.parametrize("way", ["cancel", "wait", "abandon"])
@pytest.mark.parametrize("how", ["it returns", "it fails", "it breaks a rule"])
async def test_what_becomes_of_a_child_when_its_parent_ends(way, how):
    child = waits.options(on_parent_end=way)

    @workflow
    async def parent() -> int:
        asyncio.create_task(child())  # noqa: RUF006 - nobody waits for it
        await one()
        if how == "it fails":
            raise KeyError("broken")
        if how == "it breaks a rule":
            await asyncio.to_thread(print)
        return 7

    async with opened() as app:
        handle = await app.start(parent, id="one")
        if way == "wait" and how != "it breaks a rule":
            await until(lambda: app.engine.executions["one"].ending)
            assert await handle.status() == "running"
            await app.client.signal("one/waits:1", "go", "x")
        finished = await handle.finished(5)
        assert finished.status == ("completed" if how == "it returns" else "failed")
        if way == "cancel":
            await status_is(app, "one/waits:1", "cancelled")
        elif way == "wait" and how != "it breaks a rule":
            assert (await app.client.row("one/waits:1")).status == "completed"
        else:
            await app.client.signal("one/waits:1", "go", "x")
            await status_is(app, "one/waits:1", "completed")


async def test_at_every_cut_a_parent_goes_on_with_the_children_there_are():
    @workflow
    async def parent() -> list[int]:
        return await asyncio.gather(adds(1, 2), adds(3, 4))

    store = MemoryStore()
    async with opened(store) as app:
        await app.run(parent, id="one")
    length = len(await history(store, "one"))
    for count in range(1, length):
        piece = await cut(store, "one", count, mail=False)
        for record in (await history(store, "one"))[:count]:
            if record.kind == Kind.CHILD_STARTED:
                child = f"one{record.key}"
                await fill(piece, f"run/{child}", (await history(store, child))[:3])
        async with opened(piece, workflows=[parent, adds]) as app:
            assert await app.handle("one").result(5) == [3, 7]
            assert len(await app.store.runs.find()) == 3


async def test_children_of_children_end_together():
    @workflow
    async def middle() -> str:
        return await waits()

    @workflow
    async def top() -> str:
        return await middle()

    async with opened() as app:
        handle = await app.start(top, id="one")
        await until(lambda: "one:1.middle:1.waits" in app.engine.executions)
        await handle.cancel("enough")
        with pytest.raises(RunCancelled, match="enough"):
            await handle.result(5)
        rows = await app.store.runs.find()
        assert {row.status for row in rows} == {"cancelled"}
        assert len(rows) == 3


async def test_a_child_that_left_memory_and_its_parent_too_still_meet():
    @workflow
    async def parent() -> str:
        return await waits()

    async with opened() as app:
        handle = await app.start(parent, id="one")
        for run in ("one", "one:1.waits"):
            execution = await until(lambda run=run: app.engine.executions.get(run))
            await until(lambda e=execution: e.live and e.idle)
            assert await park(app.engine, [execution])
        await row_when(app, "one", lambda row: row.owner is None and row.status == "waiting")
        await app.client.signal("one:1.waits", "go", "x")
        assert await handle.result(5) == "x"


class Held(MemoryStore):
    """A store whose commits wait until the test lets them happen."""

    def __init__(self) -> None:
        super().__init__()
        self.held = []
        self._submit = self.log.submit
        self.log.submit = self.held.extend  # type: ignore[method-assign]

    def let(self, count: int) -> None:
        some, self.held[:] = self.held[:count], self.held[count:]
        self._submit(some)

    def open(self) -> None:
        self.log.submit = self._submit  # type: ignore[method-assign]
        self.let(len(self.held))


async def test_a_child_begins_only_when_its_own_start_is_durable():
    """Also when an append that has nothing to do with it is on its way."""
    gate = asyncio.Event()

    @step
    async def gated() -> int:
        await gate.wait()
        return 5

    @workflow
    async def parent() -> list[int]:
        async def first() -> int:
            return await one(1) + await adds(2, 3)

        return await asyncio.gather(first(), gated())

    store = Held()
    async with opened(store) as app:
        starting = asyncio.create_task(app.start(parent, id="one"))
        await until(lambda: store.held)
        store.let(1)
        handle = await starting
        await until(lambda: store.held)  # what came of one()
        gate.set()
        await until(lambda: len(store.held) == 2)  # what came of gated()
        store.let(1)
        await until(lambda: len(store.held) == 2)  # the start of the child
        store.let(1)
        await until(lambda: not app.engine.executions["one"].waiting.get("/gated:1"))
        assert list(app.engine.executions) == ["one"]
        assert store.held
        store.open()
        assert await handle.result(5) == [6, 5]
        assert app.engine.counters["started"] == 2
