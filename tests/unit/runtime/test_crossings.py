"""Where mechanisms meet: effects beside budgets, tries, executors, cancellation and updates."""

import asyncio

import pytest
from tests.unit.runtime.scenes import Shared, cut, history, kill, opened, status_is, until

from reprise import (
    NOT_DONE,
    Budget,
    BudgetExceeded,
    Cost,
    Done,
    Kind,
    Retry,
    current_step,
    step,
    workflow,
)


class Receiver:
    """What is outside: it acts by key, and holds a call until it may go on."""

    def __init__(self):
        self.done = []
        self.asked = []
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()

    async def act(self, what):
        self.done.append((current_step().idempotency_key, what))
        self.reached.set()
        await self.gate.wait()
        return f"did {what}"

    async def find(self, intent):
        self.asked.append(intent.key)
        did = [what for key, what in self.done if key == intent.key]
        return Done(f"did {did[0]}") if did else NOT_DONE

    def open(self):
        """Let every call go on from now on."""
        self.gate.set()


# ---------------------------------------------------------------- a budget


def buying(out, **options):
    @step(effect="purchase", costs=Cost(usd=6), **options)
    async def buy(n: int) -> str:
        return await out.act(n)

    @workflow(budget=Budget(usd=10))
    async def shop() -> str:
        try:
            return await buy(1)
        except BudgetExceeded as error:
            return error.what

    return shop


async def died_while_it_called(flow, out):
    """Return a store in which a run is left by a worker that died while its effect was being called."""
    store = Shared()
    async with opened(store) as app:
        await app.start(flow, id="one")
        await out.reached.wait()
        kill(app)
    out.open()
    records = await history(store, "one")
    intended = next(n for n, r in enumerate(records, 1) if r.kind == Kind.STEP_INTENDED)
    return await cut(store, "one", intended)


async def test_what_may_have_been_bought_is_found_out_though_nothing_is_left_to_buy_it_again():
    out = Receiver()
    flow = buying(out, reconcile=out.find, timeout=0.05)
    store = await died_while_it_called(flow, out)
    async with opened(store, workflows=[flow]) as app:
        assert await app.handle("one", flow).result(5) == "did 1"
        assert (await app.client.spent("one")).taken.usd == 6
    assert len(out.asked) == len(out.done) == 1


async def test_what_was_not_bought_is_refused_when_nothing_is_left():
    out = Receiver()
    flow = buying(out, reconcile=out.find, timeout=0.05)
    store = await died_while_it_called(flow, out)
    out.done.clear()  # the request never got there
    async with opened(store, workflows=[flow]) as app:
        assert "Not enough is left" in await app.handle("one", flow).result(5)
    assert (len(out.asked), out.done) == (1, [])


async def test_a_person_is_asked_though_nothing_is_left():
    out = Receiver()
    flow = buying(out)
    store = await died_while_it_called(flow, out)
    async with opened(store, workflows=[flow]) as app:
        await status_is(app, "one", "needs_attention")
        (effect,) = await app.client.effects("one")
        await app.client.resolve_effect("one", effect.key, Done("by hand"))
        assert await app.handle("one", flow).result(5) == "by hand"
    assert len(out.done) == 1


async def test_a_refusal_does_not_hide_that_a_call_before_it_may_have_happened():
    out = Receiver()
    flow = buying(out, key=lambda n: f"order-{n}")
    store = await died_while_it_called(flow, out)
    async with opened(store, workflows=[flow]) as app:
        assert "may have happened" in await app.handle("one", flow).result(5)
    assert len(out.done) == 1


# ---------------------------------------------------------------- another try


def cancelled_in_the_middle(out, **options):
    @step(effect="charge", **options)
    async def charge(n: int) -> str:
        return await out.act(n)

    @workflow
    async def flow() -> str:
        return await charge(1)

    return flow


@pytest.mark.parametrize("options", [{"timeout": 0.05, "reconcile": True}, {"key": "order"}, {}])
async def test_a_try_does_not_call_again_what_may_have_happened_when_the_run_was_cancelled(options):
    out = Receiver()
    if "reconcile" in options:
        options = options | {"reconcile": out.find}
    flow = cancelled_in_the_middle(out, **options, retry=Retry(1))
    store = Shared()
    async with opened(store) as app:
        await app.start(flow, id="one")
        await out.reached.wait()
        await app.client.cancel("one")
        assert (await app.handle("one").finished(5)).status == "cancelled"
        out.open()
        again = await app.client.retry("one")
        if not options:
            await status_is(app, again, "needs_attention")
            assert len(out.done) == 1
            return
        assert await app.handle(again, flow).result(5) == "did 1"
    assert len({key for key, _ in out.done}) == 1
    assert len(out.done) == (1 if "reconcile" in options else 2)


# ---------------------------------------------------------------- a store that stalls, and middleware


def stalls(store, kind):
    """Hold back the first append with an event of a kind, and all behind it, until the list is called."""
    held, submit = [], store.log.submit

    def hold(appends):
        is_it = any(event.kind == kind for a in appends for g in a.groups for event in g.events)
        if held or is_it:
            held.extend(appends)
        else:
            submit(appends)

    def go_on():
        store.log.submit = submit
        submit(held)

    store.log.submit = hold
    return held, go_on


@pytest.mark.parametrize("executor", ["inline", "thread"])
@pytest.mark.parametrize("is_bare", [False, True])
async def test_a_call_whose_intent_is_late_was_not_made_and_nobody_is_asked(executor, is_bare):
    out, store = Receiver(), Shared()
    out.open()
    options = {} if is_bare else {"reconcile": out.find}

    async def charge(n: int) -> str:
        return await out.act(n)

    def charge_sync(n: int) -> str:
        out.done.append((current_step().idempotency_key, n))
        return f"did {n}"

    function = charge if executor == "inline" else charge_sync
    charged = step(effect="charge", timeout=1, retry=Retry(50, backoff=0), **options)(function)

    @workflow
    async def flow() -> str:
        return await charged(1)

    async with opened(store) as app:
        held, go_on = stalls(store, Kind.STEP_INTENDED)
        handle = await app.start(flow, id="one")
        await until(
            lambda: any(e.kind == Kind.STEP_RETRYING for a in held for g in a.groups for e in g.events)
        )
        go_on()
        assert await handle.result(5) == "did 1"
        (effect,) = await app.client.effects("one")
        assert effect.state == "done"
    assert (len(out.done), out.asked) == (1, [])


async def test_an_intent_that_is_never_in_time_fails_the_step_that_was_not_called():
    out, store = Receiver(), Shared()

    @step(effect="charge", timeout=0.03, retry=Retry(1))
    def charge(n: int) -> None:
        out.done.append(n)

    @workflow
    async def flow() -> str:
        try:
            await charge(1)
        except TimeoutError as error:
            return f"{type(error).__name__}: {error}"
        return ""

    async with opened(store) as app:
        held, go_on = stalls(store, Kind.STEP_INTENDED)
        handle = await app.start(flow, id="one")
        await until(lambda: any(e.kind == Kind.STEP_FAILED for a in held for g in a.groups for e in g.events))
        go_on()
        assert "StepTimeout: Step charge was not called" in await handle.result(5)
    assert out.done == []


async def test_an_error_of_middleware_before_the_call_says_that_it_was_not_made():
    out = Receiver()
    out.open()
    left = [ConnectionError("no permission server"), ConnectionError("again")]

    async def permits(call, next):
        if left:
            raise left.pop()
        return await next(call)

    @step(effect="charge", reconcile=out.find, timeout=5, retry=Retry(3, backoff=0))
    async def charge(n: int) -> str:
        return await out.act(n)

    @workflow
    async def flow() -> str:
        return await charge(1)

    async with opened(middleware=[permits]) as app:
        assert await app.run(flow) == "did 1"
    assert (len(out.done), out.asked) == (1, [])


async def test_an_error_of_middleware_after_the_call_leaves_it_in_doubt():
    out = Receiver()
    out.open()

    async def loses_the_answer(call, next):
        answer = await next(call)
        if call.name == "charge":
            raise ConnectionError("gone")
        return answer

    @step(effect="charge", reconcile=out.find, timeout=0.05)
    async def charge(n: int) -> str:
        return await out.act(n)

    @workflow
    async def flow() -> str:
        return await charge(1)

    async with opened(middleware=[loses_the_answer]) as app:
        assert await app.run(flow) == "did 1"
    assert len(out.asked) == len(out.done) == 1
