"""What a pure step returns runs ahead of the log, and nothing else does. Each rule taken out shows.

The corpus (``pure.py``) proves that every prefix of a log resumes; here a store keeps back what a run writes, as a disk
does that is slow, and steps look at what the log holds when they are executed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.replay import pure
from tests.replay.ablation import Ablations, corpus
from tests.replay.harness import LateStore
from tests.replay.loops import loop_factory
from tests.unit.runtime.scenes import Shared, history, keys, opened, recorded, until

import reprise.runtime.pipelining
from reprise import (
    ConfigurationError,
    Reprise,
    Retry,
    SQLiteConnection,
    current_step,
    step,
    workflow,
)
from reprise.kernel.errors import StaleToken, StoreFull
from reprise.kernel.events import Kind, inbox_stream, run_stream
from reprise.runtime.execution import Execution
from reprise.runtime.pipelining import Pipeline, Pipelined, past_is_durable
from reprise.stores.log import Append
from reprise.stores.memory import MemoryStore

assert pure.SENT, "its patterns are in the corpus"
pytestmark = pytest.mark.replay

RUN = "one"


class HeldStore(MemoryStore):
    """A store that keeps back what the run ``one`` writes after its start, until it is told to let it through."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = False
        self.holds_from = ""
        """How the key of a record ends with which it begins to."""
        self.held: list[Append] = []
        self.handed = 0
        """How many appends of the run were handed over."""
        self._submit = self.log.submit
        self.log.submit = self._submit_or_hold  # type: ignore[method-assign]

    def _submit_or_hold(self, appends: Sequence[Append]) -> None:
        for append in appends:
            own = [
                event for group in append.groups if group.stream == run_stream(RUN) for event in group.events
            ]
            self.handed += bool(own)
            if self.holds_from and any(event.key.endswith(self.holds_from) for event in own):
                self.holds, self.holds_from = True, ""
            if own and self.holds and not any(group.takes for group in append.groups[:1]):
                self.held.append(append)
            else:
                self._submit([append])

    def let_through(self, count: int | None = None) -> None:
        """Let the oldest through, all of them if not said how many."""
        count = len(self.held) if count is None else count
        some, self.held = self.held[:count], self.held[count:]
        self._submit(some)

    async def values(self) -> list[Any]:
        """Return what the log holds of steps of the run."""
        await self.start()
        records = await self.log.read(run_stream(RUN))
        return [msgspec.json.decode(r.data) for r in records if r.kind == Kind.STEP_COMPLETED]


@asynccontextmanager
async def over(store: HeldStore, **options: Any) -> AsyncIterator[Reprise]:
    """Open an app over a store that holds nothing back at the end."""
    async with opened(store, **options) as app:
        try:
            yield app
        finally:
            store.holds = False
            store.let_through()


@step(pure=True)
async def draw(i: int) -> float:
    return await pure.draw.function(i)


@step(pure=True)
async def hold_on() -> None:
    await asyncio.Event().wait()


async def turns(count: int = 30) -> None:
    """Let everybody do what can be done now."""
    for _ in range(count):
        await asyncio.sleep(0)


# ---------------------------------------------------------------- proofs


async def plain_steps_know_what_is_durable(seed: int) -> None:
    """Whenever a plain step begins, what it was called with is in the log."""
    store = HeldStore()
    missed: list[float] = []

    @step
    async def tell(values: list[float]) -> int:
        there = await store.values()
        missed.extend(value for value in values if value not in there)
        return len(values)

    @workflow
    async def flow() -> int:
        drawn: list[float] = []

        async def one(i: int) -> int:
            for n in range(3):
                drawn.append(await draw(10 * i + n))
            return await tell(list(drawn))

        return sum(await asyncio.gather(*(one(i) for i in range(3))))

    async with over(store) as app:
        handle = await app.start(flow, id=RUN)
        store.holds = True
        asking = asyncio.create_task(handle.result(3))
        while not asking.done():
            await asyncio.sleep(0.0005 * (seed % 3))
            store.let_through(1)
        assert await asking >= 9
    assert not missed


async def plain_steps_are_stopped_for_what_is_durable(seed: int) -> None:
    """A plain step, and a child, are asked to stop only when what the body stops them for is in the log."""
    store = HeldStore()
    found: list[bool] = []

    @step
    async def works() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            found.append(bool(await store.values()))

    @workflow
    async def kid() -> None:
        await hold_on()

    @workflow
    async def flow() -> float:
        calls = [asyncio.create_task(works()), asyncio.create_task(kid())]
        await asyncio.sleep(0.002)
        drawn = await draw(1)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        return drawn

    async with over(store) as app:
        store.holds_from = ".draw"
        handle = await app.start(flow, id=RUN)
        await until(lambda: store.held)
        await turns()
        mail = await store.log.read(inbox_stream(f"{RUN}/kid:1"))
        assert not found
        assert not mail, "its child was cancelled"
        store.holds = False
        store.let_through()
        await handle.result(3)
    assert found == [True]


async def what_the_end_stops_is_justified(seed: int) -> None:
    """A plain step that nobody waits for is stopped with the body, for what is in the log."""
    store = HeldStore()
    found: list[bool] = []

    @step(on_cancel="abandon")
    async def works() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            found.append(bool(await store.values()))

    @workflow
    async def flow() -> float:
        call = asyncio.create_task(works())
        await asyncio.sleep(0.002)
        drawn = await draw(1)
        await draw(2)
        return drawn if not call.done() else 0

    async with over(store) as app:
        store.holds_from = ".draw"
        handle = await app.start(flow, id=RUN)
        await until(lambda: store.held)
        await turns()
        assert not found
        store.holds = False
        store.let_through()
        await handle.result(3)
        await until(lambda: found)
    assert found == [True]


async def only_so_much_runs_ahead(seed: int) -> None:
    """A disk that stands still stops the body sooner or later."""
    store = HeldStore()
    drawn: list[float] = []

    @workflow
    async def flow() -> int:
        for i in range(60):
            drawn.append(await draw(i))
        return len(drawn)

    async with over(store) as app:
        store.holds = True
        handle = await app.start(flow, id=RUN)
        await turns(600)
        assert 10 <= len(drawn) <= 21, len(drawn)
        store.holds = False
        store.let_through()
        assert await handle.result(3) == 60


async def each_is_delivered_once(seed: int) -> None:
    @step
    async def count(values: list[float]) -> int:
        return len(values)

    @workflow
    async def flow() -> int:
        return await count([await draw(i) for i in range(4)])

    store = HeldStore()
    async with over(store) as app:
        handle = await app.start(flow, id=RUN)
        store.holds = True
        await turns()
        store.holds = False
        store.let_through()
        assert await handle.result(1) == 4


async def nothing_overtakes_what_was_on_its_way(seed: int) -> None:
    """When the first pure step ends, the record of a plain one is on its way to the log: it comes first."""
    store, go, out = HeldStore(), asyncio.Event(), list[Any]()

    @step
    async def begins() -> str:
        return "begins"

    @step
    async def follows() -> str:
        await go.wait()
        return "follows"

    @workflow
    async def flow() -> list[Any]:
        async def one() -> None:
            out.append(await follows())

        async def two() -> None:
            await begins()
            out.append(await draw(1))

        await asyncio.gather(one(), two())
        return out

    async with over(store) as app:
        handle = await app.start(flow, id=RUN)
        store.holds = True
        await until(lambda: store.held)
        go.set()
        await until(lambda: len(store.held) == 2)
        store.let_through(1)
        await until(lambda: app.engine.executions[RUN].pipeline is not None)
        await turns()
        assert out == []
        store.holds = False
        store.let_through()
        assert (await handle.result(3))[0] == "follows"
    assert (await store.values())[:2] == ["begins", "follows"]


async def nothing_overtakes_a_transaction(seed: int) -> None:
    """The order in which a body is given results is that of the log, also of steps that are written another way."""

    @step(transaction=True)
    def put(connection: SQLiteConnection, i: int) -> int:
        connection.execute("CREATE TABLE IF NOT EXISTS puts (i)")
        connection.execute("INSERT INTO puts VALUES (?)", (i,))
        time.sleep(0.002)
        return i

    @workflow
    async def flow() -> list[float]:
        out: list[float] = []

        async def puts(i: int) -> None:
            for n in range(3):
                out.append(await put(10 * i + n))

        async def draws(i: int) -> None:
            for n in range(20):
                out.append(await draw(100 * i + n))

        await asyncio.gather(puts(1), draws(2), puts(3), draws(4))
        return out

    with TemporaryDirectory() as folder:
        async with opened(f"sqlite:///{folder}/x.db") as app:
            given = await app.run(flow, id=RUN)
            records = await app.store.log.read(run_stream(RUN))
    assert given == [msgspec.json.decode(r.data) for r in records if r.kind == Kind.STEP_COMPLETED]
    assert len(given) == 46


def little_ahead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reprise.runtime.pipelining, "AHEAD", 20)


# ---------------------------------------------------------------- the rules, taken out

ABLATIONS = Ablations()
rule = ABLATIONS.rule
"""The numbers are those of the module."""


@rule(1, corpus("drawn_beside_plain_steps", "drawn_beside_signals_and_timers"))
def records_are_delivered_in_the_order_of_the_log(patch):
    def release(self):
        early = [event for event, is_pure in self.behind if is_pure]
        self.behind = type(self.behind)(one for one in self.behind if not one[1])
        self.ahead.extend(early)
        self.released += len(early)
        return early

    patch.setattr(Pipeline, "release", release)


@rule(1, nothing_overtakes_what_was_on_its_way)
def what_was_on_its_way_comes_first(patch):
    def pipeline(self, execution):
        original(self, execution)
        self.known = len(execution.acks)

    original = Pipeline.__init__
    patch.setattr(Pipeline, "__init__", pipeline)


@rule(1, nothing_overtakes_a_transaction)
def what_is_written_another_way_comes_in_its_turn(patch):
    def record(self, *what, **more):
        self.pipeline.known = len(self.acks)
        original(self, *what, **more)

    original = Pipelined.record
    patch.setattr(Pipelined, "record", record)


@rule(1, each_is_delivered_once)
def what_ran_ahead_is_not_delivered_again(patch):
    patch.setattr(Pipelined, "arrived", Execution.arrived)


@rule(2, plain_steps_know_what_is_durable)
def plain_steps_start_when_their_past_is_durable(patch):
    patch.setattr(Pipelined, "go_out", Execution.go_out)


@rule(2, plain_steps_are_stopped_for_what_is_durable)
def plain_steps_and_children_stop_when_it_is(patch):
    def must_wait(self, job):
        return original(self, job) and job.key not in (self.in_flight | self.child_jobs)

    original = Pipelined._must_wait
    patch.setattr(Pipelined, "_must_wait", must_wait)


@rule(2, what_the_end_stops_is_justified)
def the_end_stops_nothing_before_it_is(patch):
    patch.setattr(Pipelined, "_at_end", Execution._at_end)


@rule(3, only_so_much_runs_ahead, little_ahead)
def what_a_crash_may_cost_is_bounded(patch):
    patch.setattr(reprise.runtime.pipelining, "AHEAD", 10**9)


@pytest.mark.parametrize("name", ABLATIONS)
async def test_with_the_rule_it_holds(name, monkeypatch):
    await ABLATIONS[name].holds(monkeypatch)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ABLATIONS)
async def test_without_the_rule_it_goes_wrong(name, monkeypatch):
    await ABLATIONS[name].goes_wrong(monkeypatch)


# ---------------------------------------------------------------- any body, any disk, a crash at any moment

BRANCHES = st.lists(
    st.lists(st.sampled_from(["draw", "draw", "draw", "tell", "nap"]), max_size=6), max_size=4
)
DISK = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), max_size=12)
"""How many turns pass, and how many appends are let through then."""


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(BRANCHES, DISK)
def test_whatever_a_crash_takes_nobody_has_seen(
    branches: list[list[str]], disk: list[tuple[int, int]]
) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_crash(branches, disk))


async def _crash(branches: list[list[str]], disk: list[tuple[int, int]]) -> None:
    """Let a disk be as slow as ``disk`` says, take the worker away, let another go on, and compare what all saw."""
    store = HeldStore()
    store.stop = Shared().stop  # type: ignore[method-assign]
    told: list[tuple[str, list[float]]] = []

    @step
    async def tell(values: list[float]) -> list[float]:
        there = await store.values()
        assert set(values) <= {value for value in there if isinstance(value, float)}
        told.append((current_step().key, values))
        return values

    @workflow(name="random")
    async def flow() -> list[float]:
        drawn: list[float] = []

        async def branch(names: list[str]) -> None:
            for name in names:
                if name == "draw":
                    drawn.append(await draw(len(drawn)))
                elif name == "tell":
                    assert await tell(list(drawn)) is not drawn
                else:
                    await asyncio.sleep(0)

        await asyncio.gather(*(branch(names) for names in branches))
        return drawn

    async with opened(store) as app:
        store.holds = True
        handle = await app.start(flow, id=RUN)
        for count, appends in disk:
            await turns(count)
            store.let_through(appends)
        app.engine.drop_all()
        store.held, store.holds = [], False
    survived = await history(store, RUN)
    async with opened(store, workflows=[flow]) as app:
        result = await app.handle(handle.id, flow).result(20)
    whole = await history(store, RUN)
    assert [(r.key, r.data) for r in whole[: len(survived)]] == [(r.key, r.data) for r in survived]
    by_key: dict[str, list[float]] = {}
    for key, values in told:  # executed again after the crash perhaps, but never with something else
        assert by_key.setdefault(key, values) == values
        assert values == result[: len(values)]


# ---------------------------------------------------------------- what else is promised


async def test_the_body_goes_on_before_anything_is_durable():
    store, seen = HeldStore(), []

    @workflow
    async def flow() -> int:
        for i in range(50):
            seen.append(await draw(i))
        return len(seen)

    async with over(store) as app:
        handle = await app.start(flow, id=RUN)
        store.holds, store.handed = True, 0
        await until(lambda: len(seen) == 50)
        assert await store.values() == []
        assert store.handed <= 2, "results that nobody waits for are gathered while an append is on its way"
        asking = asyncio.create_task(handle.result(3))
        await turns()
        assert not asking.done(), "a result is told when it is durable"
        store.holds = False
        store.let_through()
        assert await asking == 50
        assert store.handed <= 3
    assert await store.values() == seen


async def test_a_crash_costs_what_ran_ahead_and_nothing_else():
    """What the log refused was seen by nobody: another worker draws again, and tells what is in the log."""
    store, told = HeldStore(), []

    @step
    async def tell(values: list[float]) -> list[float]:
        told.append(values)
        return values

    @workflow
    async def flow() -> list[float]:
        return await tell([await draw(i) for i in range(5)])

    store.stop = Shared().stop
    async with over(store) as app:
        store.holds = True
        await app.start(flow, id=RUN)
        await turns(100)
        (first,) = app.engine.executions.values()
        assert first.pipeline.released == 5
        app.engine.drop_all()
        lost, store.held, store.holds = store.held, [], False
    assert lost
    async with over(store, workflows=[flow]) as app:
        result = await app.handle(RUN).result(20)
    assert told == [result]
    assert (await store.values())[:5] == result


@pytest.mark.parametrize("error", [StoreFull("no room"), StaleToken("another owns it")])
async def test_a_run_whose_append_fails_leaves_memory(error):
    store, told = HeldStore(), []

    @step
    async def tell(value: float) -> float:
        told.append(value)
        return value

    @workflow
    async def flow() -> float:
        return await tell(await draw(1))

    async with over(store) as app:
        await app.start(flow, id=RUN)
        store.holds = True
        append = await until(lambda: store.held and store.held[0])
        await turns()
        append.error = error
        append.done(append)
        await until(lambda: not app.engine.executions)
        assert not told
        app.engine.drop_all()


async def test_whoever_is_to_be_answered_waits_for_the_past():
    store = HeldStore()

    @workflow
    async def flow() -> None:
        for i in range(3):
            await draw(i)
        await hold_on()

    async with over(store) as app:
        await app.start(flow, id=RUN)
        execution = app.engine.executions[RUN]
        assert await past_is_durable(execution), "of a run without pure results it is"
        store.holds = True
        await until(lambda: getattr(execution.pipeline, "released", 0) == 3)
        asking = asyncio.create_task(past_is_durable(execution))
        await turns()
        assert not asking.done()
        store.holds = False
        store.let_through()
        assert await asyncio.wait_for(asking, 1)
        assert await past_is_durable(execution)
        app.engine.drop_all()
        assert not await past_is_durable(execution)


async def test_who_waits_while_a_run_ends_is_told():
    store = HeldStore()

    @workflow
    async def flow() -> float:
        return await draw(1)

    async with over(store) as app:
        store.holds_from = ".draw"
        await app.start(flow, id=RUN)
        execution = app.engine.executions[RUN]
        await until(lambda: execution.pipeline is not None and execution.pipeline.ahead)
        asking = asyncio.create_task(past_is_durable(execution))
        await turns()
        assert execution.finishing
        store.holds = False
        store.let_through()
        assert await asyncio.wait_for(asking, 1)


async def test_who_waits_for_a_run_that_is_lost_is_told():
    store = HeldStore()

    @workflow
    async def flow() -> None:
        await draw(1)
        await hold_on()

    async with over(store) as app:
        store.holds = True
        await app.start(flow, id=RUN)
        execution = app.engine.executions[RUN]
        await until(lambda: execution.pipeline is not None and execution.pipeline.ahead)
        asking = asyncio.create_task(past_is_durable(execution))
        await turns()
        app.engine.drop_all()
        assert await asyncio.wait_for(asking, 1) is False


@pytest.mark.parametrize("how", ["pause", "close"])
async def test_what_ran_ahead_is_kept_when_a_run_is_put_away(how):
    """A run that rests, or is given to others, takes nothing along that the log does not have."""
    store = LateStore(random.Random(7))
    store.stop = Shared().stop  # type: ignore[method-assign]
    seen: list[float] = []

    @workflow
    async def flow() -> list[float]:
        return [seen.append(value := await draw(i)) or value for i in range(400)]

    async with opened(store, grace=5.0) as app:
        handle = await app.start(flow, id=RUN)
        await until(lambda: len(seen) > 50)
        if how == "pause":
            await app.client.pause(RUN)
            await recorded(app, RUN, Kind.RUN_PAUSED)
    kept = [msgspec.json.decode(r.data) for r in await history(store, RUN) if r.kind == Kind.STEP_COMPLETED]
    assert len(seen) < 400
    assert kept[: len(seen)] == seen
    async with opened(store, workflows=[flow]) as app:
        if how == "pause":
            await app.client.resume(RUN)
        result = await app.handle(handle.id, flow).result(20)
    assert result[: len(kept)] == kept
    assert len(result) == 400


async def test_pure_steps_fail_and_are_tried_again():
    store, tries = HeldStore(), []

    @step(pure=True, retry=Retry(3, backoff=0.001))
    async def third_time() -> int:
        tries.append(current_step().attempt)
        if len(tries) < 3:
            raise ConnectionError("not yet")
        return len(tries)

    @step(pure=True)
    async def never() -> int:
        raise ValueError("no")

    @workflow
    async def flow() -> list[Any]:
        first = await third_time()
        try:
            await never()
        except ValueError as error:
            return [first, str(error), await draw(1) > 0]
        return []

    async with over(store) as app:
        assert await app.run(flow, id=RUN) == [3, "no", True]
    assert tries == [1, 2, 3]
    records = await history(store, RUN)
    assert [r.kind for r in records].count(Kind.STEP_RETRYING) == 2
    assert keys(records) == [":1.third_time", ":2.never", ":3.draw"]


async def test_a_synchronous_pure_step_is_tried_again_after_a_timeout():
    @step(pure=True, timeout=0.01, retry=Retry(2, backoff=0.001))
    def late() -> int:
        if current_step().attempt == 1:
            time.sleep(0.05)
        return current_step().attempt

    @workflow
    async def flow() -> int:
        return await late()

    async with opened() as app:
        assert await app.run(flow) == 2


async def test_there_is_no_idempotency_key_for_a_pure_step():
    @step(pure=True, retry=Retry(1))
    async def asks() -> str:
        return current_step().idempotency_key

    @workflow
    async def flow() -> str:
        return await asks()

    async with opened() as app:
        with pytest.raises(ConfigurationError, match="asks is pure"):
            await app.run(flow)


async def test_a_run_without_pure_steps_is_not_pipelined():
    @step
    async def plain() -> int:
        return 1

    @workflow
    async def flow() -> int:
        await plain()
        await hold_on.options(pure=False)()
        return 1

    app: Reprise
    async with opened() as app:
        await app.start(flow, id=RUN)
        await recorded(app, RUN, Kind.STEP_COMPLETED)
        assert type(app.engine.executions[RUN]) is Execution
        app.engine.drop_all()
