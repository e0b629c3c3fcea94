"""Undoing what a run did: in which order, with which arguments, what interrupts it, and what is left to a person."""

import asyncio
import os
import threading
import time

import msgspec
import pytest
from tests.unit.runtime.scenes import (
    Shared,
    cut,
    history,
    kill,
    kinds,
    opened,
    recorded,
    row_when,
    status_is,
    until,
)

from reprise import (
    NOT_DONE,
    BodyError,
    CodecError,
    ConfigurationError,
    Done,
    Intent,
    Kind,
    Limit,
    PayloadTooLarge,
    Retry,
    RunNeedsAttention,
    Undo,
    continue_as,
    current_step,
    set_undo,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import Intended, Record
from reprise.kernel.failures import encode_error
from reprise.runtime import undo as undoing
from reprise.runtime.owing import owed_in
from reprise.runtime.step import UNDOABLE
from reprise.stores import open_store
from reprise.stores.memory import MemoryStore
from reprise.stores.sqlite.lending import SQLiteConnection


class World:
    """What is outside: what was done and undone there."""

    def __init__(self):
        self.done = []
        self.undone = []
        self.undos = []
        self.breaks = {}
        self.gate = None
        self.reached = asyncio.Event()
        self.undoing = asyncio.Event()
        self.undo_gate = None

    async def act(self, what):
        self.done.append(what)
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        return f"did {what}"

    async def undo(self, undo: Undo):
        self.undos.append(undo)
        self.undoing.set()
        if self.undo_gate is not None:
            await self.undo_gate.wait()
        if self.breaks.get(undo.step):
            raise self.breaks[undo.step].pop()
        self.undone.append((undo.step, undo.args[0] if undo.args else None))


def steps_of(world, **options):
    """Return three steps that are undone in the world."""

    @step(undo=world.undo, **options)
    async def book(n: int) -> str:
        return await world.act(("book", n))

    @step(undo=world.undo, **options)
    async def pay(n: int) -> str:
        return await world.act(("pay", n))

    @step
    async def fail(n: int) -> None:
        raise ValueError(f"no {n}")

    return book, pay, fail


def trip_of(world, **options):
    book, pay, fail = steps_of(world, **options)

    @workflow
    async def trip(n: int = 1) -> None:
        await book(n)
        await pay(n)
        await fail(n)

    return trip


# ---------------------------------------------------------------- order, arguments, ends


async def test_what_was_done_is_undone_the_latest_first_and_the_run_fails_as_it_would_have():
    world, store = World(), MemoryStore()
    async with opened(store) as app:
        with pytest.raises(ValueError, match="no 1"):
            await app.run(trip_of(world), id="one")
        rows = await app.client.effects("one")
    assert world.undone == [("pay", 1), ("book", 1)]
    undo = world.undos[0]
    assert (undo.run, undo.step, undo.happened, undo.value) == ("one", "pay", True, "did ('pay', 1)")
    assert (undo.args, undo.kwargs) == ((1,), {})
    assert [(row.step, row.undo) for row in rows] == [("book", "undone"), ("pay", "undone")]
    assert kinds(await history(store, "one"))[-3:] == ["UNDO_DONE", "UNDO_DONE", "RUN_FINISHED"]


async def test_a_run_that_completes_undoes_nothing():
    world = World()
    book, _, _ = steps_of(world)

    @workflow
    async def trip() -> str:
        return await book(1)

    async with opened() as app:
        assert await app.run(trip, id="one") == "did ('book', 1)"
        (row,) = await app.client.effects("one")
    assert world.undone == []
    assert row.undo == "owed"


async def test_a_cancelled_run_undoes_and_ends_cancelled():
    world = World()
    book, _, _ = steps_of(world)

    @workflow
    async def trip() -> None:
        await book(1)
        await wait_for_signal("never")

    async with opened() as app:
        handle = await app.start(trip, id="one")
        await recorded(app, "one", Kind.STEP_COMPLETED)
        await handle.cancel("enough")
        finished = await handle.finished(5)
    assert finished.status == "cancelled"
    assert "enough" in finished.error.message
    assert world.undone == [("book", 1)]


async def test_what_failed_or_was_cancelled_may_have_happened_and_is_undone_too():
    world = World()
    hold = asyncio.Event()

    @step(undo=world.undo)
    async def fails(n: int) -> None:
        world.done.append("fails")
        raise ValueError

    @step(undo=world.undo, timeout=0.05)
    async def hangs(n: int) -> None:
        world.done.append("hangs")
        await hold.wait()

    @step
    async def until_hanging() -> None:
        await until(lambda: "hangs" in world.done)

    @workflow
    async def trip() -> None:
        async def after() -> None:
            await until_hanging()
            await fails(1)

        async with asyncio.TaskGroup() as group:
            group.create_task(hangs(2))
            group.create_task(after())

    async with opened() as app:
        await (await app.start(trip)).finished(5)
    assert [(undo.step, undo.happened) for undo in world.undos] == [("fails", None), ("hangs", None)]


async def test_a_step_that_never_began_is_not_undone():
    world = World()
    book, _, _ = steps_of(world)

    @workflow
    async def trip() -> None:
        asyncio.create_task(book(1))  # noqa: RUF006
        raise ValueError

    async with opened() as app:
        await (await app.start(trip)).finished(5)
    assert world.undos == []


@pytest.mark.parametrize("sync", [False, True])
async def test_a_step_sets_the_arguments_of_its_undo(sync):
    world = World()

    @step(undo=world.undo)
    async def pay(n: int) -> int:
        set_undo("receipt", at=n)
        return n

    @step(undo=world.undo)
    def pay_in_thread(n: int) -> int:
        set_undo("receipt", at=n)
        return n

    @workflow
    async def trip() -> None:
        await (pay_in_thread if sync else pay)(7)
        raise ValueError

    async with opened() as app:
        await (await app.start(trip)).finished(5)
    (undo,) = world.undos
    assert (undo.args, undo.kwargs, undo.value) == (("receipt",), {"at": 7}, 7)


async def in_another_process_undone(undo: Undo) -> None:
    UNDONE.append(undo)


UNDONE: list[Undo] = []


@step(
    executor="process", effect="pay", key=lambda n: f"order-{n}", undo=in_another_process_undone, timeout=20
)
def pay_in_a_process(n: int) -> list[str]:
    this = current_step()
    set_undo(f"receipt {n}")
    assert this.until is not None
    return [this.idempotency_key, str(os.getpid())]


async def test_a_step_in_a_process_has_an_intent_and_sets_the_arguments_of_its_undo():
    @workflow
    async def trip() -> None:
        key, pid = await pay_in_a_process(7)
        raise ValueError(f"{key} {int(pid) != os.getpid()}")

    async with opened() as app:
        with pytest.raises(ValueError, match="order-7 True"):
            await app.run(trip)
    (undo,) = UNDONE
    assert (undo.args, undo.key, undo.value[0]) == (("receipt 7",), "order-7", "order-7")


async def test_a_step_in_the_logs_transaction_is_undone_but_is_no_effect(tmp_path):
    world = World()

    @step(transaction=True, undo=world.undo)
    def note(db: SQLiteConnection, n: int) -> int:
        db.execute("CREATE TABLE noted (n INT)")
        return n + 1

    @workflow
    async def trip() -> None:
        await note(7)
        raise ValueError

    async with opened(open_store(f"sqlite:///{tmp_path}/runs.db")) as app:
        await (await app.start(trip)).finished(5)
    (undo,) = world.undos
    assert (undo.happened, undo.value, undo.args) == (True, 8, (7,))
    with pytest.raises(ConfigurationError, match="exactly once"):

        @step(transaction=True, effect="note")
        def noted(db: SQLiteConnection) -> None: ...


async def test_what_an_attempt_gave_for_the_undo_holds_for_those_after_it():
    world = World()

    @step(undo=world.undo, timeout=0.05, retry=Retry(2, backoff=0))
    async def pay(n: int) -> None:
        if current_step().attempt == 1:
            set_undo("receipt")
        raise ConnectionError

    @workflow
    async def trip() -> None:
        await pay(7)

    async with opened() as app:
        await (await app.start(trip)).finished(5)
    (undo,) = world.undos
    assert undo.args == ("receipt",)


async def test_each_attempt_has_a_time_until_which_it_may_act():
    untils = []

    @step(effect="pay", key=lambda n: "k", timeout=5, retry=Retry(2, backoff=0))
    async def pay(n: int) -> None:
        untils.append(current_step().until)
        await asyncio.sleep(0.001)
        raise ConnectionError

    @step
    async def plain(n: int) -> object:
        return current_step().until

    @workflow
    async def trip() -> None:
        assert await plain(1) is None
        await pay(7)

    async with opened() as app:
        with pytest.raises(ConnectionError):
            await app.run(trip)
    first, second = untils
    assert first < second


async def test_an_undo_that_is_a_step_has_its_own_retries_and_knows_itself():
    tries = []

    @step(retry=Retry(2, backoff=0))
    async def refund(undo: Undo) -> None:
        tries.append((current_step().attempt, current_step().idempotency_key, undo.key))
        raise ConnectionError

    @step(undo=refund, effect="pay", key=lambda n: f"order-{n}")
    async def pay(n: int) -> int:
        return n

    @workflow
    async def trip() -> None:
        await pay(7)
        raise ValueError

    async with opened() as app:
        await app.start(trip, id="one")
        await status_is(app, "one", "needs_attention")
    assert [attempt for attempt, _, _ in tries] == [1, 2]
    assert len({key for _, key, _ in tries}) == 1
    assert tries[0][2] == "order-7"


@pytest.mark.parametrize("is_step", [True, False])
async def test_an_undo_in_a_thread_that_takes_too_long_is_tried_again(monkeypatch, is_step):
    """Whether it happened is unknown, but an undo may be done twice."""
    monkeypatch.setattr(undoing, "DEFAULT_TIMEOUT", 0.05)
    monkeypatch.setattr(undoing, "UNDO_RETRY", Retry(2, backoff=0))
    tries, over = [], threading.Event()

    def take_back(undo: Undo) -> None:
        tries.append(undo.step)
        if len(tries) == 1:
            over.wait(20)

    given = step(timeout=0.05, retry=Retry(2, backoff=0))(take_back) if is_step else take_back

    @step(undo=given)
    async def book() -> str:
        return "booked"

    @workflow
    async def flow() -> None:
        await book()
        raise ValueError("no")

    try:
        async with opened() as app:
            finished = await (await app.start(flow)).finished(20)
            over.set()
    finally:
        over.set()
    assert (finished.status, tries) == ("failed", ["book", "book"])


async def test_a_body_that_breaks_the_rules_is_undone_too():
    world = World()
    book, _, _ = steps_of(world)

    @workflow
    async def trip() -> None:
        await book(1)
        await asyncio.open_connection("127.0.0.1", 1)

    async with opened() as app:
        with pytest.raises(BodyError):
            await app.run(trip)
    assert world.undone == [("book", 1)]


async def test_a_child_undoes_before_its_parent_and_both_end():
    world = World()
    book, pay, fail = steps_of(world)

    @workflow
    async def inner(n: int) -> None:
        await pay(n)
        await fail(n)

    @workflow
    async def outer() -> None:
        await book(1)
        await inner(2)

    async with opened() as app:
        with pytest.raises(ValueError, match="no 2"):
            await app.run(outer)
    assert world.undone == [("pay", 2), ("book", 1)]


async def test_a_child_that_goes_on_is_cancelled_and_undone_first():
    world = World()
    book, pay, fail = steps_of(world)

    @workflow
    async def inner(n: int) -> None:
        await pay(n)
        await wait_for_signal("never")

    @workflow
    async def outer() -> None:
        await book(1)
        child = asyncio.create_task(inner(2))
        await wait_for_signal("go")
        assert not child.done()
        await fail(1)

    async with opened() as app:
        handle = await app.start(outer, id="one")
        await until(lambda: ("pay", 2) in world.done)
        await handle.signal("go")
        await handle.finished(5)
    assert world.undone == [("pay", 2), ("book", 1)]


# ---------------------------------------------------------------- crashes


async def test_whoever_takes_the_run_over_goes_on_with_what_is_left():
    world, store = World(), Shared()
    trip = trip_of(world)
    async with opened(store) as app:
        await app.start(trip, id="one")
        await app.handle("one").finished(5)
    records = await history(store, "one")
    at = next(i for i, record in enumerate(records) if record.kind == Kind.UNDO_DONE) + 1
    for count, undone in ((at, ["book"]), (at - 1, ["pay", "book"])):
        world.undos.clear()
        async with opened(await cut(store, "one", count), workflows=[trip]) as app:
            assert (await app.handle("one").finished(5)).status == "failed"
        assert [undo.step for undo in world.undos] == undone


async def test_the_undo_is_found_in_a_file_that_was_loaded_under_another_name(monkeypatch):
    world, store = World(), Shared()
    world.undo_gate = asyncio.Event()
    trip = trip_of(world)
    async with opened(store) as app:
        await app.start(trip, id="one")
        await world.undoing.wait()
    world.undo_gate = None
    known = {f"elsewhere.{step.name}": step for name, step in UNDOABLE.items() if "steps_of" in name}
    monkeypatch.setattr("reprise.runtime.undo.UNDOABLE", known)
    async with opened(store, workflows=[trip]) as app:
        assert (await app.handle("one").finished(5)).status == "failed"
    assert len(world.undone) == 2


async def test_an_undo_that_is_not_known_here_is_left_to_a_person(monkeypatch):
    world, store = World(), Shared()
    world.undo_gate = asyncio.Event()
    trip = trip_of(world)
    async with opened(store) as app:
        await app.start(trip, id="one")
        await world.undoing.wait()
    monkeypatch.setattr("reprise.runtime.undo.UNDOABLE", {})
    async with opened(store, workflows=[trip]) as app:
        row = await status_is(app, "one", "needs_attention")
        assert "Import the module" in row.error


async def test_every_prefix_of_the_history_comes_to_the_same_end():
    world, store = World(), Shared()
    trip = trip_of(world, timeout=0.05)
    async with opened(store) as app:
        await app.start(trip, id="one")
        await app.handle("one").finished(5)
    records = await history(store, "one")
    for count in range(2, len(records)):
        world.undone.clear()
        fresh = await cut(store, "one", count)
        async with opened(fresh, workflows=[trip]) as app:
            assert (await app.handle("one").finished(5)).status == "failed"
        ends = [
            (r.kind, r.key)
            for r in await history(fresh, "one")
            if r.kind in (Kind.UNDO_DONE, Kind.RUN_FINISHED)
        ]
        assert [key for kind, key in ends if kind == Kind.UNDO_DONE] == [":2.pay", ":1.book"]


async def test_a_call_of_a_dead_worker_is_undone_when_it_cannot_act_any_more():
    world = World()
    world.gate = asyncio.Event()
    at = []

    async def undo(undo: Undo) -> None:
        at.append(time.time_ns() // 1000)
        world.undos.append(undo)

    @step(undo=undo, effect="pay", timeout=0.2, on_cancel="abandon")
    async def pay(n: int) -> str:
        return await world.act(n)

    @workflow
    async def trip() -> None:
        paying = asyncio.create_task(pay(1))
        await wait_for_signal("fail")
        raise ValueError(paying)

    store = Shared()
    async with opened(store) as app:
        await app.start(trip, id="one")
        await world.reached.wait()
        kill(app)
    again = await cut(store, "one", 3)
    async with opened(again, worker=False) as app:
        await app.client.signal("one", "fail")
        await app.client.cancel("one")
    async with opened(again, workflows=[trip]) as app:
        await app.handle("one").finished(5)
        (row,) = await app.client.effects("one")
    (undone,) = world.undos
    assert undone.happened is None
    assert at[0] >= row.until


async def test_the_worker_stops_politely_while_undoing_and_the_next_goes_on():
    world, store = World(), Shared()
    world.undo_gate = asyncio.Event()
    trip = trip_of(world)
    async with opened(store) as app:
        await app.start(trip, id="one")
        await world.undoing.wait()
        await status_is(app, "one", "compensating")
    row = (await store.runs.find())[0]
    assert (row.status, row.owner) == ("compensating", None)
    world.undo_gate = None
    async with opened(store, workflows=[trip]) as app:
        assert (await app.handle("one").finished(5)).status == "failed"
    assert world.undone == [("pay", 1), ("book", 1)]


# ---------------------------------------------------------------- what interrupts it, and what does not


async def test_cancel_and_the_runs_deadline_do_not_interrupt_it():
    world = World()
    world.undo_gate = asyncio.Event()
    async with opened() as app:
        handle = await app.start(trip_of(world), id="one", deadline=0.2)
        await world.undoing.wait()
        await handle.cancel("twice")
        records = await recorded(app, "one", Kind.CANCEL_REQUESTED, 2)
        assert "RUN_FINISHED" not in kinds(records)
        assert (await app.client.row("one")).status == "compensating"
        world.undo_gate.set()
        finished = await handle.finished(5)
    assert finished.status == "failed"
    assert "no 1" in finished.error.message
    assert len(world.undone) == 2


async def test_only_force_stops_it_and_resume_tries_the_rest_again():
    world = World()
    world.undo_gate = asyncio.Event()
    async with opened() as app:
        handle = await app.start(trip_of(world), id="one")
        await world.undoing.wait()
        await handle.cancel("stop it", force=True)
        with pytest.raises(RunNeedsAttention, match=r"not undone: pay .*; book "):
            await handle.result(5)
        assert world.undone == []
        rows = await app.client.effects("one")
        assert {row.undo for row in rows} == {"failed"}
        world.undo_gate = None
        await app.client.signal("one", "whatever")  # mail alone does not begin it anew
        await row_when(app, "one", lambda row: row.status == "needs_attention" and row.due_at is None)
        assert world.undone == []
        await handle.resume()
        await until(lambda: len(world.undone) == 2)
        assert (await app.client.wait("one", 5)).status == "failed"


async def test_what_cannot_be_undone_is_listed_and_the_rest_is_undone():
    world = World()
    world.breaks["pay"] = [ValueError("gone")]
    async with opened() as app:
        handle = await app.start(trip_of(world), id="one")
        with pytest.raises(RunNeedsAttention, match=r"pay .*ValueError: gone.*reprise resume one"):
            await handle.result(5)
        assert world.undone == [("book", 1)]
        await handle.resume()
        assert (await app.client.wait("one", 5)).status == "failed"
        assert world.undone == [("book", 1), ("pay", 1)]


async def test_the_deadline_of_undoing_leaves_the_rest_to_a_person():
    world = World()
    world.undo_gate = asyncio.Event()
    book, pay, fail = steps_of(world)

    @workflow(undo_deadline=0.05)
    async def trip(n: int) -> None:
        await book(n)
        await pay(n)
        await fail(n)

    async with opened() as app:
        handle = await app.start(trip, 1, id="one")
        with pytest.raises(RunNeedsAttention, match="DeadlineExceeded"):
            await handle.result(5)
        world.undo_gate = None
        await handle.resume()
        assert (await app.client.wait("one", 5)).status == "failed"
    assert len(world.undone) == 2


async def test_a_pause_waits_for_the_undo_under_way_and_resume_goes_on():
    world = World()
    world.undo_gate = asyncio.Event()
    async with opened() as app:
        handle = await app.start(trip_of(world), id="one")
        await world.undoing.wait()
        await handle.pause()
        await until(lambda: app.engine.executions["one"].holding)
        world.undo_gate.set()
        await status_is(app, "one", "paused")
        assert len(world.undone) == 1
        await handle.resume()
        assert (await app.client.wait("one", 5)).status == "failed"
    assert world.undone == [("pay", 1), ("book", 1)]


async def test_a_pause_while_a_call_may_still_act_does_not_hurry_its_undo():
    world = World()
    world.gate = asyncio.Event()
    book, _, _ = steps_of(world, timeout=60)

    @workflow
    async def trip() -> None:
        await book(1)

    async with opened() as app:
        handle = await app.start(trip, id="one")
        await world.reached.wait()
        await handle.cancel()
        await status_is(app, "one", "compensating")
        await handle.pause()
        await status_is(app, "one", "paused")
    assert world.undos == []


# ---------------------------------------------------------------- generations, limits, payloads, declarations


async def test_what_a_generation_did_is_undone_by_the_one_that_fails():
    world = World()
    book, _, fail = steps_of(world)

    @workflow
    async def years(n: int = 0) -> None:
        await book(n)
        if n < 2:
            continue_as(n + 1)
        await fail(n)

    store = Shared()
    async with opened(store) as app:
        await app.start(years, id="one")
        assert (await app.handle("one").finished(5)).status == "failed"
        rows = await app.client.effects("one")
    assert world.undone == [("book", 2), ("book", 1), ("book", 0)]
    assert [row.step_key for row in rows] == ["~0:1.book", "~1:1.book", ":1.book"]
    records = await history(store, "one")
    world.undone.clear()
    async with opened(await cut(store, "one", len(records) - 2), workflows=[years]) as app:
        assert (await app.handle("one").finished(5)).status == "failed"
    assert world.undone == [("book", 0)]


async def test_places_are_kept_while_undoing_and_taken_for_it():
    world = World()
    book, _, _ = steps_of(world)

    @workflow(limits=Limit(1))
    async def trip(n: int) -> None:
        await book(n)
        if n == 1:
            await wait_for_signal("never")
        await asyncio.sleep(0)

    async with opened() as app:
        first = await app.start(trip, 1, id="one")
        await row_when(app, "one", lambda row: row.status == "waiting")
        world.gate = asyncio.Event()
        second = await app.start(trip, 2, id="two")
        await until(lambda: ("book", 2) in world.done)
        await first.cancel()
        await row_when(app, "one", lambda row: row.in_line)
        assert world.undone == [], "another has the only place"
        world.gate.set()
        assert (await second.finished(5)).status == "completed"
        assert (await app.client.wait("one", 5)).status == "cancelled"
    assert world.undone == [("book", 1)]


async def test_arguments_that_cannot_be_written_fail_the_call_before_it_is_made():
    world = World()

    @step(undo=world.undo)
    async def pay(client: object) -> None:
        world.done.append(client)

    @workflow
    async def trip() -> None:
        await pay(object())

    async with opened() as app:
        with pytest.raises(CodecError):
            await app.run(trip)
    assert world.done == world.undos == []


async def test_arguments_for_an_undo_have_the_size_of_payloads():
    world = World()

    @step(undo=world.undo)
    async def pay(text: str) -> None:
        set_undo("y" * 3000)

    @workflow
    async def trip(size: int) -> None:
        await pay("x" * size)

    async with opened(max_payload=2000) as app:
        with pytest.raises(PayloadTooLarge, match="arguments of step pay"):
            await app.run(trip, 3000)
        with pytest.raises(PayloadTooLarge, match="gave for its undo"):
            await app.run(trip, 1)
    assert [undo.args for undo in world.undos] == [("x",)]


async def test_set_undo_needs_an_undo_and_outside_of_runs_does_nothing():
    @step
    async def plain() -> None:
        set_undo(1)

    @workflow
    async def trip() -> None:
        await plain()

    set_undo(1)
    async with opened() as app:
        with pytest.raises(ConfigurationError, match="no undo="):
            await app.run(trip)


async def test_an_effect_found_not_to_have_happened_is_not_undone():
    world = World()

    async def look(intent: Intent) -> object:
        return NOT_DONE

    @step(undo=world.undo, effect="pay", reconcile=look, timeout=0.01, retry=Retry(1))
    async def pay(n: int) -> None:
        raise ConnectionError

    @workflow
    async def trip() -> None:
        await pay(1)

    async with opened() as app:
        assert (await (await app.start(trip)).finished(5)).status == "failed"
    assert world.undos == []


async def test_an_effect_in_doubt_is_undone_when_the_run_is_cancelled_and_kept_when_it_is_done():
    world = World()

    @step(undo=world.undo, effect="pay", timeout=0.05)
    async def pay(n: int) -> None:
        raise ConnectionError

    @workflow
    async def trip() -> None:
        await pay(1)

    async with opened() as app:
        handle = await app.start(trip, id="one")
        await status_is(app, "one", "needs_attention")
        await handle.cancel()
        assert (await handle.finished(5)).status == "cancelled"
        assert [undo.happened for undo in world.undos] == [None], "nobody said that it did not happen"
        two = await app.start(trip, id="two")
        await status_is(app, "two", "needs_attention")
        await app.client.resolve_effect("two", ":1.pay", Done(None))
        assert (await two.finished(5)).status == "completed"


def test_of_a_call_whose_worker_died_nobody_knows_whether_it_still_acts():
    def record(version, kind, data=None):
        return Record(0, "run/r", version, kind, version, ":1.book", msgspec.json.encode(data))

    intended = record(1, Kind.STEP_INTENDED, Intended("book", "k", undo="m.book"))
    taken = record(2, Kind.RUN_OWNED)
    failed = record(3, Kind.STEP_FAILED, encode_error(ValueError("no")))

    def looseness(*records):
        return [owed_in(records[:n])[0].loose for n in range(1, len(records) + 1)]

    assert looseness(intended, failed) == [False, False]
    assert looseness(intended, taken, failed) == [False, True, True]
    assert looseness(intended, failed, taken) == [False, False, False]
