"""Long runs: going on as a new generation, what passes the border, what is trimmed, who is warned."""

import asyncio
import gc
import json
import weakref
from datetime import timedelta

import msgspec
import pytest
from tests.unit.runtime.scenes import (
    kinds,
    opened,
    row_when,
    status_is,
    until,
    worker_of,
)

import reprise.runtime.execution
import reprise.runtime.generation
import reprise.runtime.starting
from reprise import (
    BodyError,
    CodecError,
    DeadlineExceeded,
    Kind,
    RunCancelled,
    RunConflict,
    continue_as,
    current_run,
    current_step,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import inbox_stream, log_stream, run_stream
from reprise.runtime.parking import park
from reprise.stores.memory import MemoryStore
from reprise.stores.runs import RunFilter

ran: list[str] = []


@pytest.fixture(autouse=True)
def _clear():
    ran.clear()


@step
async def one(n: int = 1) -> int:
    ran.append(f"one-{n}")
    return n


@workflow
async def counts(to: int, n: int = 0) -> int:
    await one(n)
    if n < to:
        continue_as(to, n + 1)
    return current_run().generation


@workflow
async def collects(until: int, got: list[int] | None = None) -> list[int]:
    got = [*(got or []), await wait_for_signal("go", int)]
    return got if len(got) == until else continue_as(until, got)


async def quiet_in(app, run: str, generation: int):
    """Wait until a run in memory only waits in a generation, and return its execution."""

    def found():
        execution = app.engine.executions.get(run)
        return (
            execution is not None
            and execution.generation == generation
            and run in app.engine.loaded.idle
            and execution
        )

    return await until(found)


# ---------------------------------------------------------------- one run, many histories


async def test_a_run_goes_on_under_the_same_id_and_handle():
    seen = []
    async with opened(observers=[lambda run, events: seen.extend(kinds(events))]) as app:
        handle = await app.start(counts, 3, id="one", tags={"team": "a"})
        assert await handle.result(5) == 3
        row = await app.client.row("one")
        assert (row.status, row.generation, row.tags) == ("completed", 3, {"team": "a"})
        records = await handle.events()
        assert [r.version for r in records] == list(range(1, len(records) + 1))
        assert row.since == [r.version for r in records if r.kind == Kind.RUN_CONTINUED][-1] - 1
        assert await app.store.runs.count() == {"completed": 1}
        assert app.engine.counters["continued"] == 3
    assert ran == ["one-0", "one-1", "one-2", "one-3"]
    assert seen == kinds(records)
    assert seen.count("RUN_CONTINUED") == 3


async def test_both_ends_are_one_commit_and_the_next_owner_reads_from_there():
    store = MemoryStore()
    async with opened(store, workflows=[collects]) as app:
        handle = await app.start(collects, 3, id="one")
        await handle.signal("go", 1)
        await quiet_in(app, "one", 1)
    await store.start()
    read = []
    original = store.log.read

    async def noted(stream, after=0, limit=None):
        read.append((stream, after))
        return await original(stream, after, limit)

    store.log.read = noted
    row = (await store.runs.find())[0]
    async with opened(store, workflows=[collects]) as app:
        await quiet_in(app, "one", 1)
        assert (run_stream("one"), row.since) in read
        assert (run_stream("one"), 0) not in read
        await app.client.signal("one", "go", 2)
        await app.client.signal("one", "go", 3)
        assert await app.handle("one").result(5) == [1, 2, 3]


async def test_arguments_are_checked_where_the_wish_is_made():
    @workflow
    async def flow(n: int, tries: int = 0) -> list[str]:
        found = []
        for args in ((object(),), (), (1, 2, 3)):
            try:
                continue_as(*args)
            except (CodecError, TypeError) as error:
                found.append(type(error).__name__)
        await one()
        return found

    async with opened() as app:
        assert await app.run(flow, 1) == ["CodecError", "TypeError", "TypeError"]


async def test_only_a_body_continues():
    @step
    async def wishful() -> None:
        continue_as()

    @workflow
    async def flow() -> None:
        await wishful()

    with pytest.raises(BodyError, match="no run to be continued"):
        continue_as()
    async with opened() as app:
        with pytest.raises(BodyError, match="not in a step"):
            await app.run(flow)


async def test_a_wish_beside_another_failure_is_a_failure():
    @workflow
    async def flow() -> None:
        async def breaks() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("broken")

        async with asyncio.TaskGroup() as group:
            group.create_task(breaks())
            await one()
            continue_as()

    async with opened() as app:
        with pytest.raises(BaseExceptionGroup) as caught:
            await app.run(flow, id="one")
        assert caught.group_contains(ValueError)
        assert (await app.client.row("one")).generation == 0


async def test_the_length_is_counted_anew_and_alike_in_replay():
    lengths = []

    @workflow
    async def flow(again: bool) -> int:
        await asyncio.gather(*(one(i) for i in range(4)))
        lengths.append(current_run().length)
        await wait_for_signal("go")
        if again:
            continue_as(False)
        return current_run().length

    async with opened() as app:
        handle = await app.start(flow, True, id="one")
        await handle.signal("go")
        await park(app.engine, [await quiet_in(app, "one", 1)])
        await handle.signal("go")
        assert await handle.result(5) == 5
    assert lengths == [4, 4, 4]


# ---------------------------------------------------------------- what passes the border


async def test_signals_that_nobody_took_are_the_next_generations():
    async with opened() as app:
        handle = await app.start(collects, 4, id="one", signal=("go", 0))
        for n in (1, 2, 3):
            await handle.signal("go", n)
        assert await handle.result(5) == [0, 1, 2, 3]
        assert (await app.client.row("one")).generation == 3


async def test_a_signal_that_comes_again_in_a_later_generation_is_dropped():
    async with opened() as app:
        handle = await app.start(collects, 3, id="one")
        await handle.signal("go", 1, id="first")
        await quiet_in(app, "one", 1)
        await handle.signal("go", 1, id="first")
        await handle.signal("go", 2, id="second")
        await quiet_in(app, "one", 2)
        await handle.signal("go", 1, id="first")
        await handle.signal("go", 3)
        assert await handle.result(5) == [1, 2, 3]


async def test_ids_of_mail_are_not_remembered_without_end(monkeypatch):
    monkeypatch.setattr(reprise.runtime.generation, "REMEMBERED", 3)

    @workflow
    async def flow(last: bool = False) -> int:
        for _ in range(0 if last else 9):
            await wait_for_signal("go")
        return 0 if last else continue_as(True)

    async with opened() as app:
        handle = await app.start(flow, id="one")
        for n in range(9):
            await handle.signal("go", id=f"m{n}")
        assert await handle.result(5) == 0
        (continued,) = [r for r in await handle.events() if r.kind == Kind.RUN_CONTINUED]
        assert json.loads(continued.data)["seen"] == ["m6", "m7", "m8"]
        assert json.loads(continued.data)["inbox"] == 9


async def test_a_request_to_cancel_reaches_the_generation_that_is_there():
    @workflow
    async def flow(n: int = 0) -> None:
        try:
            await wait_for_signal("go")
        except asyncio.CancelledError:
            ran.append(f"cancelled in {n}")
            raise
        continue_as(n + 1)

    async with opened() as app:
        handle = await app.start(flow, id="one")
        for n in range(2):
            await handle.signal("go")
            await quiet_in(app, "one", n + 1)
        await handle.cancel("enough")
        with pytest.raises(RunCancelled, match="enough"):
            await handle.result(5)
    assert ran == ["cancelled in 2"]


async def test_the_deadline_is_that_of_the_run():
    async with opened() as app:
        handle = await app.start(collects, 3, id="one", deadline=timedelta(milliseconds=150))
        await handle.signal("go", 1)
        await quiet_in(app, "one", 1)
        with pytest.raises(DeadlineExceeded):
            await handle.result(5)
        assert (await app.client.row("one")).generation == 1


async def test_a_deadline_passes_once():
    @workflow
    async def flow(tidying: bool = False) -> str:
        if tidying:
            await one(7)
            return "tidy"
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue_as(True)
        return "slept"

    async with opened() as app:
        assert await app.run(flow, deadline=0.05) == "tidy"


async def test_a_pause_at_the_border_comes_first():
    gate = asyncio.Event()

    @step
    async def slow() -> int:
        ran.append("slow")
        await gate.wait()
        return 1

    @workflow
    async def flow(n: int = 0) -> int:
        if n:
            return await one(n)
        await slow()
        return continue_as(1)

    async with opened() as app:
        handle = await app.start(flow, id="one")
        await until(lambda: ran)
        await handle.pause()
        await until(lambda: app.engine.executions["one"].holding)
        gate.set()
        await status_is(app, "one", "paused")
        assert (await app.client.row("one")).generation == 0
        await handle.resume()
        await status_is(app, "one", "completed")
    assert ran == ["slow", "one-1"]


async def test_a_paused_later_generation_goes_on_where_it_was():
    async with opened(workflows=[collects]) as app:
        handle = await app.start(collects, 2, id="one")
        await handle.signal("go", 1)
        await quiet_in(app, "one", 1)
        await handle.pause()
        await status_is(app, "one", "paused")
        await handle.signal("go", 2)
        await handle.resume()
        await status_is(app, "one", "completed")
        assert await handle.result(5) == [1, 2]


async def test_a_child_that_continues_answers_its_parent_once():
    @workflow
    async def parent() -> list[int]:
        return [await counts(2), await counts(0)]

    async with opened() as app:
        assert await app.run(parent, id="one") == [2, 0]
        children = await app.store.runs.find(RunFilter(parent="one"), newest_first=False)
        assert [(row.id, row.generation) for row in children] == [("one:1.counts", 2), ("one:2.counts", 0)]


async def test_children_carry_the_generation_in_their_ids():
    @workflow
    async def parent(n: int = 0) -> int:
        await counts(0)
        return n if n == 2 else continue_as(n + 1)

    async with opened() as app:
        assert await app.run(parent, id="order-7") == 2
        children = await app.store.runs.find(RunFilter(parent="order-7"), newest_first=False)
        assert [row.id for row in children] == [
            "order-7:1.counts",
            "order-7:~1:1.counts",
            "order-7:~2:1.counts",
        ]


async def test_a_fork_shares_what_chance_gave_and_nothing_that_others_see(monkeypatch):
    """What the body is given by chance follows from the origin; keys for others from the run itself."""
    given, keys = {}, {}

    @step
    async def key() -> None:
        keys.setdefault(current_step().run, []).append(current_step().idempotency_key)

    @workflow
    async def flow(n: int = 0) -> None:
        given.setdefault(current_run().id, []).append((current_run().random().random(), current_run().uuid()))
        await key()
        if n == 0:
            continue_as(1)

    def forked(engine, workflow, input, id, **options):
        started, group = opening(engine, workflow, input, id, **options)
        origin = "one" if id == "fork" else ""
        return msgspec.structs.replace(started, origin=origin), group

    opening = reprise.runtime.starting.opening
    monkeypatch.setattr(reprise.runtime.starting, "opening", forked)
    async with opened() as app:
        await app.run(flow, id="one")
        await app.run(flow, id="fork")
    assert given["one"] == given["fork"]
    assert len(set(keys["one"] + keys["fork"])) == 4


# ---------------------------------------------------------------- bounded, however long


async def test_a_thousand_generations_leave_a_bounded_history_and_load_at_once():
    @workflow
    async def forever(n: int = 0) -> None:
        await wait_for_signal("go", int)
        await asyncio.gather(one(n), one(-n))
        continue_as(n + 1)

    async with opened(workflows=[forever], keep_generations=2) as app:
        handle = await app.start(forever, id="one")
        sizes = []
        for n in range(1000):
            await handle.signal("go", n)
            execution = await quiet_in(app, "one", n + 1)
            if n not in (499, 999):
                continue
            await until(lambda: not app.engine._tasks)
            assert await park(app.engine, [execution])
            log, row = app.store.log, await app.client.row("one")
            sizes += [len(await log.read(stream)) for stream in (run_stream("one"), inbox_stream("one"))]
            assert len(await log.read(run_stream("one"), row.since)) == 1
            await worker_of(app)._try(row)
            await quiet_in(app, "one", n + 1)
        assert max(sizes) < 300
        assert (await app.client.row("one")).generation == 1000


@pytest.mark.parametrize("keep", [None, 0, 1, 3])
async def test_earlier_generations_are_kept_as_many_as_wanted(keep, monkeypatch):
    monkeypatch.setattr(reprise.runtime.generation, "WORTH", 1)
    async with opened(keep_generations=keep) as app:
        handle = await app.start(counts, 6, id="one")
        assert await handle.result(5) == 6
        await until(lambda: not app.engine._tasks)
        records = await handle.events()
        generations = 7 if keep is None else keep + 1
        assert kinds(records).count("STEP_COMPLETED") == generations
        assert kinds(records)[0] == ("RUN_STARTED" if keep is None else "RUN_CONTINUED")


async def test_short_generations_are_trimmed_many_at_once():
    async with opened(keep_generations=1) as app:
        handle = await app.start(counts, 6, id="one")
        assert await handle.result(5) == 6
        await until(lambda: not app.engine._tasks)
        assert kinds(await handle.events())[0] == "RUN_STARTED"


async def test_the_same_start_is_known_again_though_it_was_trimmed_away(monkeypatch):
    monkeypatch.setattr(reprise.runtime.generation, "WORTH", 1)

    @workflow(name="other")
    async def other(to: int) -> int:
        return to

    async with opened(keep_generations=0) as app:
        await app.run(counts, 5, id="one")
        await until(lambda: not app.engine._tasks)
        assert (await app.handle("one").events())[0].kind == Kind.RUN_CONTINUED
        assert await (await app.start(counts, 5, id="one")).result(5) == 5
        with pytest.raises(RunConflict, match="another input"):
            await app.start(counts, 6, id="one")
        with pytest.raises(RunConflict, match="not of 'other'"):
            await app.start(other, 5, id="one")


async def test_somebody_is_told_once_that_a_history_is_long(monkeypatch):
    monkeypatch.setattr(reprise.runtime.execution, "LONG", 20)

    @workflow
    async def flow(n: int = 0) -> int:
        for i in range(30 if n == 0 else 3):
            await one(i)
        await wait_for_signal("go")
        if n == 0:
            continue_as(1)
        return n

    async with opened(capture_logs=True, workflows=[flow]) as app:
        handle = await app.start(flow, id="one")
        row = await row_when(app, "one", lambda row: bool(row.warning))
        assert "continue_as()" in row.warning
        await park(app.engine, [await quiet_in(app, "one", 0)])
        await handle.signal("go")
        await row_when(app, "one", lambda row: row.generation == 1)
        assert (await app.client.row("one")).warning == ""
        app.engine.side.flush()
        await until(lambda: True)
        await handle.signal("go")
        assert await handle.result(5) == 1
        lines = await app.store.log.read(log_stream("one"))
        assert ["continue_as()" in json.loads(r.data)["text"] for r in lines] == [True]


# ---------------------------------------------------------------- memory


async def test_a_run_that_left_memory_is_gone_without_the_collector():
    @workflow
    async def waits_for_much() -> None:
        async def wait() -> None:
            async with asyncio.timeout(60):
                await asyncio.gather(wait_for_signal("a"), wait_for_signal("b"))

        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(asyncio.sleep(60))
            await asyncio.wait([asyncio.create_task(wait()), asyncio.create_task(asyncio.Event().wait())])

    @workflow
    async def flow(n: int = 0) -> int:
        async with asyncio.timeout(60):
            await asyncio.gather(one(n), asyncio.sleep(0.001))
        if n == 0:
            continue_as(1)
        return n

    @workflow
    async def fails() -> None:
        await one()
        raise ValueError("no")

    gone = []
    async with opened() as app:
        gc.collect()
        gc.disable()
        try:
            for body in (flow, fails, counts):
                handle = await app.start(body, *([0] if body is counts else []))
                gone.append(weakref.ref(app.engine.executions[handle.id]))
                await handle.finished(5)
            parked = await quiet_in(app, (await app.start(waits_for_much)).id, 0)
            gone.append(weakref.ref(parked))
            assert await park(app.engine, [parked])
            del parked
            await asyncio.sleep(0)
            assert [ref() for ref in gone] == [None] * 4
        finally:
            gc.enable()


async def test_leaving_memory_never_calls_what_finally_would():
    """Eviction is no end: the refund of a body that only left memory is not made."""

    @step
    async def refund() -> None:
        ran.append("refund")

    @workflow
    async def order() -> str:
        try:
            return await wait_for_signal("paid", str)
        finally:
            await refund()

    async with opened(workflows=[order]) as app:
        handle = await app.start(order, id="one")
        for _ in range(3):
            assert await park(app.engine, [await quiet_in(app, "one", 0)]) == 1
            assert "one" not in app.engine.executions
            await worker_of(app)._try(await app.client.row("one"))
        await quiet_in(app, "one", 0)
        assert ran == []
        await handle.signal("paid", "yes")
        assert await handle.result(5) == "yes"
    assert ran == ["refund"]
