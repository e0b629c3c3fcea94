"""Each rule of the ready queue is there for a reason: taken out, a pattern that holds with it goes wrong.

The numbers are those of the rules in the architecture. What is proved is run with the rule in place too, so that a
proof that always fails proves nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
from typing import Any

import pytest
from tests.replay import harness, rules
from tests.replay.ablation import Ablations, corpus
from tests.replay.loops import LOOP
from tests.unit.runtime.scenes import history, keys, opened

import reprise.runtime.execution
import reprise.runtime.executors.here
import reprise.runtime.loop
import reprise.runtime.pool
from reprise import step, wait_for_signal, workflow
from reprise.runtime.ending import unreached
from reprise.runtime.execution import Execution
from reprise.runtime.handles import RunTask, StepFuture
from reprise.runtime.loop import RunLoop
from reprise.runtime.outward import go_out
from reprise.runtime.step import Recorded, StepCall
from reprise.stores.memory import MemoryStore

pytestmark = pytest.mark.replay

ABLATIONS = Ablations()
rule = ABLATIONS.rule


# ---------------------------------------------------------------- the barrier and the order of delivery


@rule(0, corpus("sets_of_tasks", "two_stage_gather"))
def replay_is_a_barrier(patch):
    def deliver(self, record):
        original(self, record)
        go_out(self)  # before the history ends

    original = Execution.deliver
    patch.setattr(Execution, "deliver", deliver)


@rule(0, corpus("sets_of_tasks", "signal_step_and_timer_race"))
def one_record_a_drain(patch):
    def deliver(self, record):
        original(self, record)
        while self.history:
            original(self, self.history.popleft())

    original = Execution.deliver
    patch.setattr(Execution, "deliver", deliver)


# ---------------------------------------------------------------- 1 late records


@rule(1, corpus("cancelled_tasks", "late_record_after_the_end"))
def a_cancelled_step_stays_known(patch):
    def ask(self, key):
        original(self, key)
        future = self.waiting.get(key)
        if future is not None and not future.waits:
            del self.waiting[key]

    original = Execution._ask
    patch.setattr(Execution, "_ask", ask)


@rule(1, corpus("nearly_firing_wait_for", "timeouts_fire_and_do_not", "signal_step_and_timer_race"))
def a_cancelled_timer_stays_known(patch):
    def cancelled(self, handle):
        original(self, handle)
        return False

    original = Execution._timer_cancelled
    patch.setattr(Execution, "_timer_cancelled", cancelled)


@rule(1, corpus("late_record_after_the_end"))
def records_after_the_end_are_legal(patch):
    def at_end(self):
        if self.history:
            raise unreached(self, "step", self.history[0].key)
        return original(self)

    original = Execution._at_end
    patch.setattr(Execution, "_at_end", at_end)


# ---------------------------------------------------------------- 2 cancelling a step


@rule(2, corpus("cancelled_step_has_stopped"))
def the_body_goes_on_when_the_step_has_stopped(patch):
    def make(loop, key, step, number, ask, waits):
        return original(loop, key, step, number, ask, False)

    original = StepFuture.make
    patch.setattr(StepFuture, "make", make)


@rule(2, corpus("cancelled_tasks"))
def what_came_of_a_cancelled_step_is_recorded(patch):
    def job_ended(self, job, kind, data, took):
        if job.asked:
            self.in_flight.pop(job.key, None)
            return
        original(self, job, kind, data, took)

    original = Execution.job_ended
    patch.setattr(Execution, "job_ended", job_ended)


@rule(2, corpus("cancelled_step_has_stopped", "cancelled_tasks"))
def steps_are_asked_to_stop(patch):
    patch.setattr(reprise.runtime.pool.Pool, "stop", lambda self, job: None)


# ---------------------------------------------------------------- 3 one decoded world


@rule(3, corpus("results_are_nobody_elses"))
def live_code_gets_the_decoded_value(patch):
    lives: dict[bytes, Any] = {}

    def encode(self):
        write = original(self)

        def keep(value):
            data = write(value)
            lives[data] = value
            return data

        return keep

    original = Recorded.encode.func
    patch.setattr(Recorded, "encode", property(encode))
    patch.setattr(Recorded, "decode", property(lambda self: lambda data: lives[data]))


@rule(3, corpus("steps_see_the_callers_variables"))
def step_code_gets_the_callers_context(patch):
    patch.setattr(reprise.runtime.executors.here, "outside", lambda context, job: contextvars.Context())


@rule(3, corpus("steps_see_the_callers_variables"))
def step_code_does_not_know_the_run(patch):
    patch.setattr(reprise.runtime.executors.here, "outside", lambda context, job: context.copy())


async def eager(seed: int) -> None:
    @step
    async def where() -> bool:
        return type(asyncio.get_running_loop()) is not RunLoop

    @workflow
    async def asks() -> list[bool]:
        return await asyncio.gather(where(), where())

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    try:
        async with opened() as app:
            handle = await app.start(asks)
            assert await handle.result(3) == [True, True]
    finally:
        asyncio.get_running_loop().set_task_factory(None)


if sys.version_info >= (3, 12) and LOOP == "asyncio":  # uvloop 0.22 cannot do it on 3.13

    @rule(3, eager)
    def steps_start_after_the_drain(patch):
        def call(self, *args):
            future = original(self, *args)
            go_out(self)
            return future

        original = Execution.call
        patch.setattr(Execution, "call", call)


# ---------------------------------------------------------------- 4 time


@rule(4, corpus("time_decides"))
def time_is_that_of_the_record(patch):
    patch.setattr(RunLoop, "time", lambda self: time.time())


async def still(seed: int) -> None:
    @workflow
    async def looks() -> bool:
        loop = asyncio.get_running_loop()
        before = loop.time()
        time.sleep(0.002)  # noqa: ASYNC251 - a body that works long
        await asyncio.sleep(0)
        return loop.time() == before

    async with opened() as app:
        assert await app.run(looks)


async def the_same_start(seed: int) -> None:
    @workflow
    async def looks() -> float:
        began = asyncio.get_running_loop().time()
        await wait_for_signal("go")
        return began

    store = MemoryStore()
    async with opened(store) as app:
        await app.start(looks, id="one")
    await asyncio.sleep(0.002)
    began = (await history(store, "one"))[1].at / 1_000_000
    async with opened(store, workflows=[looks]) as app:
        await app.client.signal("one", "go")
        assert await app.handle("one").result(5) == began


@rule(4, the_same_start)
def time_begins_where_it_began(patch):
    def execution(self, host, id, token, history, *others):
        history.began = history.at
        original(self, host, id, token, history, *others)

    original = Execution.__init__
    patch.setattr(Execution, "__init__", execution)


@rule(4, still)
def time_stands_still_in_a_drain(patch):
    patch.setattr(RunLoop, "time", lambda self: time.time())


# ---------------------------------------------------------------- 5 the end


async def tidy_end(seed: int) -> None:
    @workflow
    async def leaves() -> str:
        async def background() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await rules.at_once(1)

        asyncio.create_task(background())  # noqa: RUF006 - nobody but the run holds it
        await rules.collect()
        return "done"

    store = MemoryStore()
    async with opened(store) as app:
        assert await app.run(leaves, id="one") == "done"
    assert any(key.endswith("background:1.at_once") for key in keys(await history(store, "one")))


@rule(5, tidy_end)
def leftover_tasks_are_cancelled_and_waited_for(patch):
    def begin_end(self):
        self.ending = True
        self.loop.tasks.clear()

    patch.setattr(Execution, "_begin_end", begin_end)


# ---------------------------------------------------------------- 6 order


@rule(6, corpus("sets_in_order"))
def tasks_hash_by_their_number(patch):
    patch.setattr(RunTask, "__hash__", asyncio.Task.__hash__)


async def sets_of_steps(seed: int) -> None:
    @workflow
    async def asks() -> list[int]:
        calls = {asyncio.create_task(rules.at_once(i)) for i in range(9)}
        return [await call for call in calls]

    async with opened() as app:
        assert await app.run(asks) == list(range(9)), "a set of small numbers in a row gives them in order"


@rule(6, sets_of_steps, lambda patch: patch.setattr(reprise.runtime.loop, "blake2b", Zero))
def step_futures_hash_by_their_number(patch):
    patch.setattr(StepFuture, "__hash__", asyncio.Future.__hash__)


class Zero:
    """A hash that lets the numbers of tasks begin at 0."""

    def __init__(self, data: bytes, digest_size: int) -> None: ...

    def digest(self) -> bytes:
        return b"\0"


@rule(6, tidy_end)
def tasks_are_strongly_held(patch):
    def create_task(self, coro, **options):
        task = original(self, coro, **options)
        self.tasks.pop(task, None)
        return task

    original = RunLoop.create_task
    patch.setattr(RunLoop, "create_task", create_task)


async def unshifted(seed: int) -> None:
    """A step added at the end of one branch does not move those of the other."""

    async def branch(n: int, more: list[int]) -> int:
        total = sum([await rules.at_once(n) for n in more])
        return total + await rules.at_once(n) if n else total

    async def flow(more: list[int]) -> list[int]:
        return await asyncio.gather(branch(0, more), branch(1, []), branch(2, []))

    found = []
    for more in ([1], [1, 2]):
        store = MemoryStore()
        async with opened(store) as app:
            await app.run(workflow(flow), more, id="one")
        found.append(set(keys(await history(store, "one"))))
    assert found[0] < found[1]


@rule(6, unshifted)
def keys_follow_the_branch(patch):
    counts = iter(range(1_000_000))
    patch.setattr(reprise.runtime.branch.Branch, "step", lambda self, name: f":{next(counts)}.{name}")


# ---------------------------------------------------------------- 7 fairness


def no_slice(patch):
    patch.setattr(reprise.runtime.loop, "SLICE", 0)


@rule(7, corpus("long_drain"), no_slice)
def nothing_is_delivered_until_it_is_quiet(patch):
    def drain(self):
        original(self)
        return True

    original = RunLoop.drain
    patch.setattr(RunLoop, "drain", drain)


async def fair(seed: int) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    @workflow
    async def spins() -> None:
        for _ in range(30_000):
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    async with opened() as app:
        handle = await app.start(spins)
        before = turns
        await handle.result(10)
        assert turns - before > 20, "the outer loop was held up"
    task.cancel()


@rule(7, fair, no_slice)
def a_drain_pauses(patch):
    patch.setattr(reprise.runtime.loop, "FAST", 10**9)


# ---------------------------------------------------------------- 8 async generators


@rule(8, corpus("lost_generator"))
def generators_are_the_bodys_own(patch):
    def enter(self):
        hooks = sys.get_asyncgen_hooks()
        before = original(self)
        sys.set_asyncgen_hooks(*hooks)
        return before

    original = RunLoop.enter
    patch.setattr(RunLoop, "enter", enter)


async def closed_at_the_end(seed: int) -> None:
    store = MemoryStore()
    async with opened(store) as app:
        await app.run(harness.CORPUS["lost_generator"].workflow, id="one")
    assert [key for key in keys(await history(store, "one")) if key.endswith("stubborn")]


@rule(8, closed_at_the_end)
def lost_generators_are_closed_at_the_end(patch):
    patch.setattr(RunLoop, "close_generators", lambda self, context: None)


# ---------------------------------------------------------------- 9 context


async def nothing_comes_in(seed: int) -> None:
    token = rules.CHOICE.set(3)
    try:
        async with opened() as app:
            assert await app.run(harness.CORPUS["starts_with_nothing"].workflow) == 7
    finally:
        rules.CHOICE.reset(token)


@rule(9, nothing_comes_in)
def a_body_starts_in_an_empty_context(patch):
    patch.setattr(reprise.runtime.execution, "Context", contextvars.copy_context)


# ---------------------------------------------------------------- 10 quiet


def little_patience(patch):
    patch.setattr(reprise.runtime.loop, "BUSY", 3_000)


@rule(10, corpus("anyio_unshielded_finally"), little_patience)
def a_round_that_only_repeats_itself_is_quiet(patch):
    patch.setattr(RunLoop, "_at_fixed_point", lambda self: False)


async def busy(seed: int) -> None:
    @workflow
    async def spins() -> None:
        while True:  # noqa: ASYNC110 - that is the fault
            await asyncio.sleep(0)

    async with opened() as app:
        handle = await app.start(spins)
        finished = await handle.finished(1)
        assert finished.error is not None
        assert finished.error.type == "reprise.BusyBodyError"


@rule(10, busy, little_patience)
def a_body_that_is_never_quiet_is_given_up(patch):
    patch.setattr(reprise.runtime.loop, "BUSY", 10**9)


# ---------------------------------------------------------------- 11 forbidden is sticky


async def swallowed(seed: int) -> None:
    @workflow
    async def swallows() -> int:
        try:
            await asyncio.to_thread(int)
        except Exception:  # noqa: BLE001 - that is the fault
            return await rules.at_once(1)
        return 0

    async with opened() as app:
        finished = await (await app.start(swallows)).finished(1)
        assert finished.status == "failed"


@rule(11, swallowed)
def forbidden_is_sticky(patch):
    patch.setattr(RunLoop, "poison", property(lambda self: None, lambda self, error: None), raising=False)


async def stuck(seed: int) -> None:
    @workflow
    async def waits() -> None:
        await asyncio.Event().wait()

    async with opened() as app:
        finished = await (await app.start(waits)).finished(0.3)
        assert finished.status == "failed"


@rule(11, stuck)
def a_quiet_body_with_nothing_outstanding_is_stuck(patch):
    patch.setattr(Execution, "_look_if_stuck", lambda self: None)


# ---------------------------------------------------------------- 12 explicit keys


async def key_survives(seed: int) -> None:
    keyed = rules.at_once.options(key="front-page")

    async def helper() -> int:
        return await keyed(1)

    async def plain() -> int:
        return await keyed(1)

    async def moved() -> int:
        return await asyncio.create_task(helper())

    found = []
    for body in (plain, moved):
        store = MemoryStore()
        async with opened(store) as app:
            await app.run(workflow(body), id="one")
        found.append(keys(await history(store, "one")))
    assert found[0] == found[1]


@rule(12, key_survives)
def an_explicit_key_is_the_key(patch):
    def start(self, key):
        return original(self, key)

    original = StepCall.start
    patch.setattr(Recorded, "key", property(lambda self: "", lambda self, key: None), raising=False)


# ---------------------------------------------------------------- with and without


@pytest.mark.parametrize("name", ABLATIONS)
async def test_with_the_rule_it_holds(name, monkeypatch):
    await ABLATIONS[name].holds(monkeypatch)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ABLATIONS)
async def test_without_the_rule_it_goes_wrong(name, monkeypatch):
    await ABLATIONS[name].goes_wrong(monkeypatch)


def test_every_rule_is_here():
    assert {ablation.number for ablation in ABLATIONS.values()} == set(range(13))
