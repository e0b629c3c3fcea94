"""Updates: applied once for their id, in the order of the log, or refused without a trace."""

import asyncio
import gc
import random
from functools import partial

import pytest
from tests.replay.harness import LateStore
from tests.unit.runtime.scenes import Shared, cut, history, kill, kinds, opened, recorded, row_when, until

from reprise import (
    BodyError,
    CodecError,
    NonDeterminismError,
    ReplyGone,
    ResultTimeout,
    RunEnded,
    RunNotFound,
    RunStatus,
    StoreUnreachable,
    UnknownHandler,
    UpdateRefused,
    continue_as,
    query,
    step,
    update,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import Kind, inbox_stream, talk_stream
from reprise.runtime.parking import give_back

gate = asyncio.Event()
seen: list[str] = []


@step
async def reserve(item: str) -> str:
    seen.append(item)
    return f"{item}!"


@step
async def waits_for_gate() -> None:
    await gate.wait()


@workflow
async def order(limit: int = 3) -> list[str]:
    items: list[str] = []
    closed = asyncio.Event()

    def is_room(item: str) -> None:
        if len(items) >= limit:
            raise ValueError(f"no room for {item}")
        if item == "touch":
            closed.set()

    @update(validator=is_room)
    async def add(item: str) -> int:
        items.append(await reserve(item))
        return len(items)

    @update
    def close(reason: str = "") -> str:
        closed.set()
        return reason

    @update
    async def fails() -> None:
        await reserve("once")
        raise LookupError("not here")

    @update
    async def hangs() -> None:
        await asyncio.sleep(1000)

    @query
    def content() -> list[str]:
        return items

    await closed.wait()
    return items


@pytest.fixture(autouse=True)
def fresh():
    seen.clear()
    gate.clear()


async def test_an_update_has_steps_and_its_caller_gets_the_result():
    async with opened() as app:
        handle = await app.start(order, id="o")
        assert await handle.update("add", "tea", type=int) == 1
        assert await handle.query("content") == ["tea!"]
        with pytest.raises(LookupError, match="not here"):
            await handle.update("fails")
        assert await handle.update("close", kwargs={"reason": "done"}) == "done"
        assert await handle.result(5) == ["tea!"]
        records = await history(app.store, "o")
        assert [r.key for r in records if r.kind == Kind.STEP_COMPLETED] == [
            "/update/add:1.reserve",
            "/update/fails:1.reserve",
        ]


async def test_an_update_waits_for_all_that_is_written_alone_before_it():
    """As steps with ``transaction=True`` are, one after the other: its validator must see what came of each."""
    async with opened() as app:
        handle = await app.start(order, id="o")
        await until(lambda: "o" in app.engine.loaded.idle)
        execution, loop = app.engine.executions["o"], asyncio.get_running_loop()
        execution.acks.append(())
        first = execution.alone = loop.create_future()
        adding = asyncio.create_task(handle.update("add", "tea", type=int))
        await until(lambda: execution.talk.held)
        execution.alone = loop.create_future()
        first.set_result(None)
        for _ in range(10):
            await asyncio.sleep(0)
        assert execution.out == []
        execution.acks.pop()
        execution.release()
        assert await adding == 1


async def test_what_is_refused_leaves_no_trace_in_the_history():
    async with opened() as app:
        handle = await app.start(order, 1, id="o")
        await handle.update("add", "tea")
        before = await history(app.store, "o")
        with pytest.raises(UpdateRefused, match="'add': no room for rum"):
            await handle.update("add", "rum", id="u")
        with pytest.raises(UnknownHandler, match=r"no update 'ad'.*add, close"):
            await handle.update("ad")
        with pytest.raises(CodecError, match="'item'"):
            await handle.update("add", 7)
        with pytest.raises(CodecError, match="misses 'item'"):
            await handle.update("add")
        assert await history(app.store, "o") == before
        with pytest.raises(UpdateRefused):
            await handle.update("add", "rum", id="u")
        assert len([r for r in await app.store.log.read(inbox_stream("o")) if r.key == "update/u"]) == 1


async def test_the_same_id_is_applied_once_and_has_one_answer():
    async with opened() as app:
        handle = await app.start(order, id="o")
        answers = await asyncio.gather(*(handle.update("add", "tea", id="u") for _ in range(5)))
        assert answers == [1] * 5
        assert seen == ["tea"]
        await handle.update("close")
        await handle.result(5)
        assert await handle.update("add", "tea", id="u") == 1
        with pytest.raises(RunEnded):
            await handle.update("add", "tea", id="v")


async def test_a_validator_sees_what_the_handler_will_meet():
    async with opened() as app:
        handle = await app.start(order, 5, id="o")
        outcomes = await asyncio.gather(
            *(handle.update("add", f"{i}") for i in range(20)), return_exceptions=True
        )
        # Handlers wait for a step, so several are admitted before the first has added: what counts is that none is lost.
        assert all(isinstance(one, int | UpdateRefused) for one in outcomes)
        assert len(seen) == sum(isinstance(one, int) for one in outcomes) >= 5


@workflow
async def counter(limit: int) -> int:
    """Counts at once, so that the validator's look is exact, however busy the body is."""
    count = 0
    full = asyncio.Event()

    def below() -> None:
        if count >= limit:
            raise ValueError("full")

    @update(validator=below)
    async def up() -> int:
        nonlocal count
        count += 1
        if count == limit:
            full.set()
        return count

    busy = asyncio.create_task(noise())
    await full.wait()
    await asyncio.sleep(0.05)
    busy.cancel()
    return count


async def noise() -> None:
    while True:
        await reserve("noise")


async def test_no_update_too_many_is_admitted_beside_a_busy_body():
    async with opened() as app:
        handle = await app.start(counter, 7, id="o")
        outcomes = await asyncio.gather(*(handle.update("up") for _ in range(12)), return_exceptions=True)
        assert sorted(one for one in outcomes if isinstance(one, int)) == [1, 2, 3, 4, 5, 6, 7]
        assert await handle.result(5) == 7


@workflow
async def tide() -> None:
    """Its level changes with every step that ends, from many tasks."""
    level = 0
    over = asyncio.Event()

    def is_even() -> None:
        if level % 2:
            raise ValueError("odd")

    @update(validator=is_even)
    async def look() -> int:
        return level

    @update
    def stop() -> None:
        over.set()

    async def rise() -> None:
        nonlocal level
        while True:
            await reserve("water")
            level += 1

    tasks = [asyncio.create_task(rise()) for _ in range(3)]
    await over.wait()
    for task in tasks:
        task.cancel()


async def test_what_the_validator_saw_is_what_the_handler_meets():
    async with opened(LateStore(random.Random(1))) as app:
        handle = await app.start(tide, id="t")
        outcomes = await asyncio.gather(*(handle.update("look") for _ in range(60)), return_exceptions=True)
        levels = [one for one in outcomes if isinstance(one, int)]
        assert levels
        assert [level for level in levels if level % 2] == []
        assert all(isinstance(one, UpdateRefused) for one in outcomes if not isinstance(one, int))
        await handle.update("stop")
        await handle.result(5)


async def test_an_update_under_way_when_the_body_breaks_the_rules_is_told_so():
    @workflow
    async def breaks() -> None:
        @update
        async def hangs() -> None:
            await asyncio.sleep(1000)

        await wait_for_signal("go")
        await asyncio.open_connection("127.0.0.1", 1)

    async with opened() as app:
        handle = await app.start(breaks, id="b")
        hanging = asyncio.create_task(handle.update("hangs"))
        await recorded(app, "b", Kind.UPDATE_RECEIVED)
        await handle.signal("go")
        with pytest.raises(RunEnded, match="before the update was through"):
            await hanging


async def test_mail_that_is_no_update_is_refused_and_stops_nothing():
    async with opened() as app:
        handle = await app.start(order, id="o")
        await app.client._mail("o", Kind.UPDATE_SENT, "update/bad", b'{"name": 1}')
        await app.client._mail("o", Kind.ANSWER_SENT, "worse", b"[]")
        assert await handle.update("add", "tea") == 1
        with pytest.raises(CodecError):
            await handle.update("add", "tea", id="bad")


async def test_a_signal_of_the_same_id_is_another_thing():
    async with opened() as app:
        handle = await app.start(order, id="o", signal=("x", 1))
        await handle.signal("x", id="one")
        assert await handle.update("add", "tea", id="one") == 1
        assert await handle.update("add", "tea", id="start-0") == 2


async def test_an_update_wakes_a_run_that_nobody_has_in_memory():
    store = Shared()
    async with opened(store) as app:
        handle = await app.start(order, id="o")
        await until(lambda: "o" in app.engine.loaded.idle)
        app._worker._idle = 0.0
        await row_when(app, "o", lambda row: row.owner is None)
        app._worker._idle = 60.0
        assert await handle.update("add", "tea") == 1


async def test_a_caller_whose_update_nobody_takes_may_ask_again():
    store = Shared()
    async with opened(store, worker=False) as app:
        handle = await app.start(order, id="o")
        with pytest.raises(ResultTimeout, match="same id: u"):
            await handle.update("add", "tea", id="u", timeout=0.05)
        with pytest.raises(RunNotFound):
            await app.handle("p").update("add", "tea")
    async with opened(store, workflows=[order]) as app:
        assert await app.handle("o").update("add", "tea", id="u") == 1
        assert seen == ["tea"]


async def test_an_update_that_the_end_of_the_run_meets_is_told_so():
    async with opened() as app:
        handle = await app.start(order, id="o")
        hanging = asyncio.create_task(handle.update("hangs", id="h"))
        await recorded(app, "o", Kind.UPDATE_RECEIVED)
        await handle.update("close")
        with pytest.raises(RunEnded, match="before it was through"):
            await hanging
        assert await handle.result(5) == []
        with pytest.raises(RunEnded):
            await handle.update("hangs", id="h")


async def test_a_validator_that_changes_the_body_is_refused_and_leaves_nothing():
    async with opened() as app:
        handle = await app.start(order, id="o")
        await handle.update("add", "tea")
        with pytest.raises(UpdateRefused, match="Waking a task"):
            await handle.update("add", "touch", id="t")
        assert await handle.query("content") == ["tea!"]
        with pytest.raises(UpdateRefused, match="Waking a task"):
            await handle.update("add", "touch", id="t")
        assert await handle.update("add", "rum") == 2


async def test_a_worker_that_dies_between_refusal_and_the_next_change_does_not_admit_it_later():
    store = Shared()
    async with opened(store, lease=0.2) as first:
        handle = await first.start(order, 0, id="o")
        with pytest.raises(UpdateRefused):
            await handle.update("add", "tea", id="u")
        kill(first)
        async with opened(store, workflows=[order]) as second:
            await second.store.runs.mark("o", 1)
            with pytest.raises(UpdateRefused):
                await second.handle("o").update("add", "tea", id="u")
            await second.handle("o").update("close")
            assert seen == []


@workflow
async def pair() -> list[str]:
    items: list[str] = []
    full, closed = asyncio.Event(), asyncio.Event()

    @update
    async def add(item: str) -> str:
        items.append(await reserve(item))
        if len(items) == 2:
            full.set()
        return items[-1]

    @update
    async def close(reason: str = "") -> str:
        closed.set()
        return reason

    await full.wait()
    await closed.wait()
    return sorted(items)


async def test_every_prefix_of_an_updated_run_gives_the_same_answers():
    async with opened() as app:
        handle = await app.start(pair, id="o")
        for item in ("tea", "rum"):
            await handle.update("add", item, id=item)
        await handle.update("close", "x", id="close")
        await handle.result(5)
    for count in range(2, len(await history(app.store, "o"))):
        fresh = await cut(app.store, "o", count)
        seen.clear()
        async with opened(fresh, workflows=[pair]) as app2:
            handle = app2.handle("o", pair)
            assert await handle.result(5) == ["rum!", "tea!"]
            assert [await handle.update("add", "?", id=i) for i in ("tea", "rum")] == ["tea!", "rum!"]
            assert await handle.update("close", id="close") == "x"
            said = [r.key for r in await fresh.log.read(talk_stream("o"))]
            assert sorted(said) == ["update/close", "update/rum", "update/tea"]


async def test_code_without_the_update_strands_the_run():
    async with opened() as app:
        handle = await app.start(order, id="o")
        await handle.update("add", "tea")
        store = await cut(app.store, "o", len(await history(app.store, "o")))

    @workflow(name="order")
    async def other(limit: int = 3) -> None:
        await wait_for_signal("x")

    async with opened(store, workflows=[other]) as app:
        row = await row_when(app, "o", lambda row: row.status == RunStatus.STRANDED)
        assert "the update 'add'" in row.error
    assert NonDeterminismError.__name__


@workflow
async def entity(n: int = 0) -> int:
    changed = asyncio.Event()

    @update
    async def up(by: int) -> int:
        nonlocal n
        n += by
        changed.set()
        return n

    await changed.wait()
    if n < 20:
        continue_as(n)
    return n


async def test_updates_cross_the_border_of_generations():
    async with opened() as app:
        handle = await app.start(entity, id="e")
        answers = await asyncio.gather(*(handle.update("up", 1, id=f"u{i}") for i in range(20)))
        assert sorted(answers) == list(range(1, 21))
        assert await handle.result(5) == 20


async def test_what_is_recorded_while_an_update_is_looked_at_stands_behind_it():
    async with opened() as app:
        handle = await app.start(order, id="o")
        answers = await asyncio.gather(
            handle.update("add", "a"), handle.signal("x"), handle.update("add", "b")
        )
        assert sorted(answers[::2]) == [1, 2]
        names = kinds(await history(app.store, "o"))
        assert names.count("UPDATE_RECEIVED") == 2
        with pytest.raises(BodyError):
            update(print)


async def test_what_others_left_to_the_collector_touches_no_body():
    """A finalizer that runs while a validator reads would be taken for the validator's doing, and the update refused."""
    told = []

    class Leftover:
        def __init__(self):
            self.me = self

        def __del__(self):
            told.append(asyncio.get_running_loop())
            asyncio.get_running_loop().call_soon(print)

    @workflow
    async def flow() -> int:
        enough = asyncio.Event()

        def reads(n: int) -> None:
            gc.set_threshold(100, 1, 1)
            Leftover()
            assert len([[] for _ in range(2000)]) == 2000

        @update(validator=reads)
        def add(n: int) -> int:
            enough.set()
            return n

        await enough.wait()
        return 1

    before = gc.get_threshold()
    try:
        async with opened() as app:
            run = await app.start(flow)
            assert await run.update("add", 7) == 7
            assert await run.result() == 1
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert told


async def test_a_body_that_ends_while_an_update_is_admitted_ends(monkeypatch):
    """What it records is kept back in that moment; its end must not be."""

    @step
    async def last() -> int:
        return 7

    @workflow
    async def flow() -> int:
        @update
        def add(n: int) -> int:
            return n

        nobody_waits = asyncio.create_task(asyncio.sleep(0.02))
        assert nobody_waits
        return await last()

    async with opened() as app:
        kept, submit = [], app.store.log.submit

        def late(appends):
            for append in appends:
                is_last = any(event.kind == Kind.STEP_COMPLETED for event in append.groups[0].events)
                kept.append(append) if is_last else submit([append])

        monkeypatch.setattr(app.store.log, "submit", late)
        run = await app.start(flow, id="r")
        await until(lambda: kept)
        updating = asyncio.ensure_future(run.update("add", 1))
        execution = app.engine.executions["r"]
        await until(lambda: execution.talk.held and execution.out and not app.engine._dirty)
        submit(kept)
        assert await run.result(5) == 7
        with pytest.raises(RunEnded):
            await updating


async def test_a_reply_that_was_lost_with_its_worker_is_not_taken_for_nothing_happened(monkeypatch):
    """What is said goes by itself to the log; it may be refused, and the end of the run be taken."""
    async with opened() as app:
        handle = await app.start(order, id="o")
        submit = app.store.log.submit

        def without_words(appends):
            for one in appends:
                one.groups = tuple(group for group in one.groups if group.stream != talk_stream("o"))
            submit(appends)

        monkeypatch.setattr(app.store.log, "submit", without_words)
        with pytest.raises(ReplyGone, match="'close' of run o was taken"):
            await handle.update("close", id="late")
        assert await handle.result() == []


@workflow
async def listen() -> None:
    @update
    def note(text: str) -> str:
        return f"noted {text}"

    await asyncio.sleep(0.05)


async def test_the_end_does_not_overtake_what_was_said_before_it(monkeypatch):
    """What is said goes by itself to the log. While that is on its way the end waits; if it is refused, it is said again."""
    async with opened() as app:
        handle = await app.start(listen, id="l")
        submit, kept = app.store.log.submit, []

        def keeps_words(appends):
            for one in appends:
                is_word = any(group.stream == talk_stream("l") for group in one.groups)
                kept.append(one) if is_word and not kept else submit([one])

        monkeypatch.setattr(app.store.log, "submit", keeps_words)
        noting = asyncio.ensure_future(handle.update("note", "it"))
        await until(lambda: kept)
        execution = app.engine.executions["l"]
        await until(lambda: execution.finishing and not app.engine._dirty)
        [word] = kept
        word.error = StoreUnreachable("The connection was cut.")
        word.done(word)
        assert await noting == "noted it"
        await handle.result()


async def test_a_worker_that_stops_writes_the_end_behind_what_was_said_before_it(monkeypatch):
    async with opened() as app:
        handle = await app.start(listen, id="l")
        submit, kept, told = app.store.log.submit, [], []

        def answers_words_late(appends):
            for one in appends:
                if not kept and any(group.stream == talk_stream("l") for group in one.groups):
                    kept.append(partial(one.done, one))
                    one.done = told.append
                submit([one])

        monkeypatch.setattr(app.store.log, "submit", answers_words_late)
        noting = asyncio.ensure_future(handle.update("note", "it"))
        await until(lambda: told)
        execution = app.engine.executions["l"]
        await until(lambda: execution.finishing and not app.engine._dirty)
        stopping = asyncio.ensure_future(give_back(app.engine))
        await asyncio.sleep(0.01)
        assert not stopping.done()
        kept[0]()
        await stopping
        assert await noting == "noted it"
        assert (await handle.status()) == "completed"
