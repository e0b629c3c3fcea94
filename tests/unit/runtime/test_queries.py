"""Queries: a body's state is read, never changed, from wherever."""

import asyncio
import gc
from dataclasses import dataclass

import pytest
from tests.unit.runtime.scenes import Shared, history, kinds, opened, recorded, row_when, status_is, until

from reprise import (
    BodyError,
    CodecError,
    ConfigurationError,
    ResultTimeout,
    RunEnded,
    RunNotFound,
    RunPaused,
    UnknownHandler,
    current_run,
    query,
    set_tags,
    step,
    update,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import Kind


@dataclass
class Line:
    item: str
    count: int = 1


@step
async def price(line: Line) -> int:
    return len(line.item) * line.count


@workflow
async def cart(first: str = "tea") -> int:
    lines = [Line(first)]
    paid = asyncio.Event()
    run = current_run()

    @query
    def total() -> int:
        return sum(line.count for line in lines)

    @query
    def find(item: str, *, least: int = 0) -> Line | None:
        return next((line for line in lines if line.item == item and line.count >= least), None)

    @query(name="all")
    def every() -> list[Line]:
        return lines

    @query
    def broken() -> None:
        raise LookupError("no such thing")

    @query
    def wakes() -> None:
        paid.set()

    @query
    def starts() -> None:
        asyncio.get_running_loop().call_later(1, print)

    @query
    def calls():
        return price(lines[0])

    @query
    def tags() -> None:
        set_tags(a=1)

    @query
    def dice() -> int:
        return run.random().getrandbits(30)

    while True:
        waiting = asyncio.create_task(paid.wait())
        line = await wait_for_signal("add", Line)
        waiting.cancel()
        if line.item == "pay":
            return await price(lines[0])
        lines.append(line)


async def test_the_state_of_a_run_is_read_by_types_and_nothing_is_recorded():
    async with opened() as app:
        handle = await app.start(cart, id="c")
        assert await handle.query("total") == 1
        await handle.signal("add", Line("rum", 3), type=Line)
        await until(lambda: len(app.engine.executions["c"].mail._waiters) == 1)
        before = kinds(await history(app.store, "c"))
        await recorded(app, "c", Kind.SIGNAL_RECEIVED)
        assert await handle.query("total") == 4
        assert await handle.query("find", "rum", kwargs={"least": 2}, type=Line | None) == Line("rum", 3)
        assert await handle.query("find", "gin", type=Line | None) is None
        assert await handle.query("all", type=list[Line]) == [Line("tea"), Line("rum", 3)]
        assert await handle.query("dice") == await handle.query("dice")
        after = kinds(await history(app.store, "c"))
        assert set(after) - set(before) <= {"SIGNAL_RECEIVED"}


async def test_what_a_query_may_not_do_is_told_to_the_caller_and_the_run_goes_on():
    async with opened() as app:
        handle = await app.start(cart, id="c")
        with pytest.raises(LookupError, match="no such thing"):
            await handle.query("broken")
        with pytest.raises(UnknownHandler, match=r"no query 'totl'.*It has: all, broken"):
            await handle.query("totl")
        with pytest.raises(CodecError, match="'item'"):
            await handle.query("find", 7)
        with pytest.raises(TypeError, match="unexpected keyword"):
            await handle.query("total", kwargs={"of": 1})
        with pytest.raises(BodyError, match="has to wait"):
            await handle.query("calls")
        with pytest.raises(BodyError, match="no run here"):
            await handle.query("tags")
        with pytest.raises(BodyError, match="timer is not possible"):
            await handle.query("starts")
        assert await handle.query("total") == 1
        await handle.signal("add", Line("pay"), type=Line)
        assert await handle.result(5) == 3


async def test_a_query_that_wakes_a_task_leaves_nothing_of_it():
    async with opened() as app:
        handle = await app.start(cart, id="c")
        await handle.query("total")
        body = app.engine.executions["c"]
        with pytest.raises(BodyError, match="Waking a task"):
            await handle.query("wakes")
        await until(lambda: app.engine.executions.get("c") not in (None, body))
        assert await handle.query("total") == 1
        await handle.signal("add", Line("pay"), type=Line)
        assert await handle.result(5) == 3


async def test_a_run_of_another_worker_answers():
    store = Shared()
    async with opened(store) as there, opened(store, worker=False) as here:
        await there.start(cart, "gin", id="c")
        assert await here.handle("c").query("find", "gin", type=Line) == Line("gin")
        with pytest.raises(LookupError):
            await here.handle("c").query("broken")
        with pytest.raises(UnknownHandler):
            await here.handle("c").query("nothing")
        with pytest.raises(BodyError, match="Waking a task"):
            await here.handle("c").query("wakes")
        assert await here.handle("c").query("total") == 1
        assert "QUERY" not in str(kinds(await history(store, "c")))


async def test_a_run_that_nobody_has_in_memory_is_loaded_for_a_query():
    store = Shared()
    async with opened(store) as app:
        handle = await app.start(cart, id="c")
        await until(lambda: "c" in app.engine.loaded.idle)
        app._worker._idle = 0.0
        await row_when(app, "c", lambda row: row.owner is None)
        await until(lambda: "c" not in app.engine.executions)
        app._worker._idle = 60.0
        assert await handle.query("total") == 1


async def test_nobody_who_could_answer_is_said_at_once_or_after_a_while():
    store = Shared()
    async with opened(store) as app:
        handle = await app.start(cart, id="c")
        await handle.pause()
        await status_is(app, "c", "paused")
        await row_when(app, "c", lambda row: row.due_at is None)
        with pytest.raises(RunPaused, match="reprise resume"):
            await handle.query("total")
        with pytest.raises(RunNotFound):
            await app.handle("d").query("total")
    async with opened(store, worker=False) as app:
        await app.client.resume("c")
        with pytest.raises(ResultTimeout, match="Nobody who has run c"):
            await app.handle("c").query("total", timeout=0.05)


async def test_who_asks_elsewhere_waits_no_longer_than_was_said(monkeypatch):
    waited, timeout = [], asyncio.timeout
    async with opened(worker=False) as desk:
        await desk.start(cart, id="c", detach=True)
        monkeypatch.setattr(asyncio, "timeout", lambda delay: (waited.append(delay), timeout(delay))[1])
        with pytest.raises(ResultTimeout, match="Nobody who has run c"):
            await desk.handle("c").query("total", timeout=0.01)
    assert any(0 <= delay <= 0.01 for delay in waited)


async def test_what_would_have_to_wait_in_another_way_is_refused_too_and_garbage_is_collected_again():
    class Later:
        def __await__(self):
            yield

    @workflow
    async def body() -> None:
        @query
        def later() -> Later:
            return Later()

        await wait_for_signal("end")

    async with opened() as app:
        handle = await app.start(body, id="b")
        with pytest.raises(BodyError, match="has to wait for something"):
            await handle.query("later")
        assert gc.isenabled()


async def test_a_run_that_has_ended_answers_no_more():
    async with opened() as app:
        handle = await app.start(cart, id="c", signal=("add", {"item": "pay", "count": 1}))
        await handle.result(5)
        with pytest.raises(RunEnded):
            await handle.query("total")


async def test_many_queries_from_elsewhere_do_not_pile_up():
    store = Shared()
    async with opened(store) as there, opened(store, worker=False) as here:
        await there.start(cart, id="c")
        there.engine.desk.keep = 4
        for _ in range(20):
            assert await here.handle("c").query("total") == 1
        assert len(await store.log.read("query/c")) < 30


async def test_what_is_no_query_is_refused_where_it_is_declared():
    @workflow
    async def twice() -> None:
        @query
        def a() -> None: ...

        query(name="a")(lambda: None)

    @workflow
    async def waits() -> None:
        @query
        async def a() -> None: ...

    async with opened() as app:
        with pytest.raises(ConfigurationError, match="two handlers for the query 'a'"):
            await app.run(twice)
        with pytest.raises(ConfigurationError, match="plain function"):
            await app.run(waits)
    for decorator in (query, update):
        with pytest.raises(BodyError, match="body of a workflow"):
            decorator(print)
