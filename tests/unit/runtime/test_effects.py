"""Effects: durable intents, what is asked after an unknown outcome, and what is never done twice in silence."""

import asyncio
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
    UNKNOWN,
    BodyError,
    ConfigurationError,
    Done,
    EffectNotOpen,
    Kind,
    PayloadTooLarge,
    Retry,
    RunNeedsAttention,
    UnknownOption,
    current_step,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import EffectAnswer, ErrorValue, Intended, Record, Resolved
from reprise.runtime.effect_rows import effects_in
from reprise.stores.memory import MemoryStore


class Receiver:
    """What is outside: it acts, and may lose the connection before or after that."""

    def __init__(self):
        self.done = []
        self.keys = []
        self.breaks = []
        self.reached = asyncio.Event()
        self.gate = None

    async def act(self, what):
        self.keys.append(current_step().idempotency_key)
        self.done.append(what)
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.breaks:
            raise self.breaks.pop()
        return f"did {what}"


def flow_of(call):
    @workflow
    async def flow(n: int = 1) -> object:
        return await call(n)

    return flow


async def finished(store, run="one"):
    return kinds(await history(store, run))


# ---------------------------------------------------------------- the intent


async def test_the_intent_is_durable_before_the_call_and_the_outcome_after_it():
    out = Receiver()
    seen = []
    store = Shared()

    @step(effect="charge", key=lambda n: f"order-{n}")
    async def charge(n: int) -> str:
        seen.extend(kinds(await store.log.read("run/one")))
        return await out.act(n)

    async with opened(store) as app:
        assert await app.run(flow_of(charge), id="one") == "did 1"
        (effect,) = await app.client.effects("one")
    assert seen[2] == "STEP_INTENDED"
    # On a busy machine the call takes long enough to have a note that it began.
    assert [kind for kind in await finished(store) if kind != "STEP_STARTED"] == [
        "RUN_STARTED",
        "RUN_OWNED",
        "STEP_INTENDED",
        "STEP_COMPLETED",
        "RUN_FINISHED",
    ]
    assert out.keys == ["order-1"]
    assert (effect.effect, effect.key, effect.state, effect.step) == ("charge", "order-1", "done", "charge")
    assert effect.until > effect.at


async def test_nothing_is_called_while_the_intent_is_on_its_way():
    out, store = Receiver(), MemoryStore()
    held = []

    @step(effect="charge", idempotent=True)
    async def charge(n: int) -> str:
        return await out.act(n)

    async with opened(store) as app:
        submit = store.log.submit

        def hold(appends):
            if any(event.kind == Kind.STEP_INTENDED for a in appends for g in a.groups for event in g.events):
                held.extend(appends)
            else:
                submit(appends)

        store.log.submit = hold
        handle = await app.start(flow_of(charge), id="one")
        await until(lambda: held)
        for _ in range(10):
            await asyncio.sleep(0)
        assert out.done == []
        submit(held)
        assert await handle.result(5) == "did 1"


async def test_until_when_a_call_may_act_is_said_where_there_is_an_end_to_that():
    ends = []

    @step(effect="charge", idempotent=True, timeout=30)
    async def charge(n: int) -> int:
        ends.append(current_step().until)
        return n

    @workflow
    async def flow() -> int:
        await charge(1)
        return await charge.options(timeout=None)(2)

    async with opened() as app:
        await app.run(flow, id="one")
        effects = await app.client.effects("one")
    assert [end is None for end in ends] == [False, True]
    assert [effect.until > effect.at for effect in effects] == [True, False]
    assert effects[1].until == 0


async def test_a_plain_step_writes_no_intent():
    @step
    async def plain(n: int) -> int:
        return n

    store = MemoryStore()
    async with opened(store) as app:
        assert await app.run(flow_of(plain), id="one") == 1
    assert "STEP_INTENDED" not in await finished(store)


async def test_a_text_as_key_is_that_of_the_step_and_the_receiver_gets_one_of_the_run():
    out = Receiver()

    @step(effect="charge", key="payment")
    async def charge(n: int) -> str:
        return await out.act(n)

    flow, store = flow_of(charge), MemoryStore()
    async with opened(store) as app:
        await app.run(flow, id="one")
        await app.run(flow, id="two")
    first, second = out.keys
    assert first != second
    records = await history(store, "one")
    assert [r.key for r in records if r.kind == Kind.STEP_COMPLETED] == ["payment"]


@pytest.mark.parametrize("sync", [False, True])
async def test_sync_effects_and_those_with_context_have_intents_too(sync):
    store = MemoryStore()

    @step(effect="charge", idempotent=True)
    def charge(n: int) -> int:
        return n + 1

    @step(effect="charge", idempotent=True)
    async def charge_async(n: int) -> int:
        return n + 1

    async with opened(store) as app:
        assert await app.run(flow_of(charge if sync else charge_async), id="one") == 2
    assert "STEP_INTENDED" in await finished(store)


# ---------------------------------------------------------------- after a worker died


async def left_in_the_middle(flow, out):
    """Return a store in which a run is left by a worker that died while its effect was being called."""
    store = Shared()
    async with opened(store) as app:
        await app.start(flow, id="one")
        await out.reached.wait()
        kill(app)
    out.gate = None
    return await cut(store, "one", 3)


def called_once(**options):
    """Return a receiver that holds the first call, and a flow with one effect that calls it."""
    out = Receiver()
    out.gate = asyncio.Event()

    @step(effect="charge", **options)
    async def charge(n: int) -> str:
        return await out.act(n)

    return out, flow_of(charge)


async def test_with_a_key_the_call_is_made_again_under_the_same_key():
    out, flow = called_once(key=lambda n: f"order-{n}")
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        assert await app.handle("one", flow).result(5) == "did 1"
    assert out.keys == ["order-1", "order-1"]


async def test_without_anything_the_run_needs_attention_and_nothing_is_done_twice():
    out, flow = called_once()
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        with pytest.raises(
            RunNeedsAttention, match=r"effect 'charge' of step charge .* resolve .* --not-done"
        ):
            await app.handle("one", flow).result(5)
        assert out.done == [1]
        row = await app.client.row("one")
        assert (row.status, row.owner) == ("needs_attention", None)
        assert "one" not in app.engine.executions


async def test_a_person_says_that_it_is_done():
    out, flow = called_once()
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        await status_is(app, "one", "needs_attention")
        (effect,) = await app.client.effects("one")
        assert effect.state == "open"
        await app.client.resolve_effect("one", effect.key, Done("by hand"))
        assert await app.handle("one", flow).result(5) == "by hand"
        (effect,) = await app.client.effects("one")
        assert effect.state == "done"
    assert out.done == [1]


async def test_a_person_says_that_it_is_not_done_and_it_is_done():
    out, flow = called_once()
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        await status_is(app, "one", "needs_attention")
        await app.client.resolve_effect("one", ":1.charge", NOT_DONE)
        assert await app.handle("one", flow).result(5) == "did 1"
    assert out.done == [1, 1]
    assert (await finished(store)).count("STEP_INTENDED") == 2


async def test_an_answer_counts_for_the_call_it_was_given_for_and_no_later_one():
    """The answer is still in the inbox when the second call is in doubt."""
    out, flow = called_once()
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        await status_is(app, "one", "needs_attention")
        out.gate = asyncio.Event()
        out.reached.clear()
        await app.client.resolve_effect("one", ":1.charge", NOT_DONE)
        await out.reached.wait()
        records = await app.store.log.read("run/one")
        kill(app)
    again = await cut(store, "one", len(records))
    out.gate = None
    async with opened(again, workflows=[flow]) as app:
        await status_is(app, "one", "needs_attention")
        assert out.done == [1, 1]


async def test_a_second_answer_to_the_same_question_is_dropped():
    out, flow = called_once()
    store = await left_in_the_middle(flow, out)
    async with opened(store, worker=False) as app:
        effect = (await app.client.effects("one"))[0]
        answer = EffectAnswer(effect.step_key, effect.number, Resolved("not_done"))
        for id in ("first", "second"):
            await app.client._mail("one", Kind.EFFECT_ANSWER, id, msgspec.json.encode(answer))
    out.breaks = [ConnectionError()]
    async with opened(store, workflows=[flow]) as app:
        row = await status_is(app, "one", "needs_attention")
        assert "ConnectionError" in row.error
        owned = kinds(await app.store.log.read("run/one")).count("RUN_OWNED")
        await app.client.resume("one")  # whoever takes the run reads all mail again
        await recorded(app, "one", Kind.RUN_OWNED, owned + 1)
        await row_when(app, "one", lambda row: row.status == "needs_attention" and row.due_at is None)
    assert out.done == [1, 1]


async def test_an_answer_that_is_no_result_of_the_step_changes_nothing():
    out = Receiver()
    out.gate = asyncio.Event()

    @step(effect="count")
    async def count(n: int) -> int:
        await out.act(n)
        return n

    flow = flow_of(count)
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        await status_is(app, "one", "needs_attention")
        await app.client.resolve_effect("one", ":1.count", Done("many"))
        await row_when(app, "one", lambda row: row.status == "needs_attention" and row.due_at is None)
        await app.client.resolve_effect("one", ":1.count", Done(7))
        assert await app.handle("one", flow).result(5) == 7


async def test_who_asks_for_what_is_not_open_is_told_what_is():
    out, flow = called_once()
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        await status_is(app, "one", "needs_attention")
        with pytest.raises(EffectNotOpen, match="Those that have"):
            await app.client.resolve_effect("one", "other", NOT_DONE)
        (effect,) = await app.client.effects("one")
        await app.client.resolve_effect("one", effect.key, Done("x"))
        await app.handle("one", flow).finished(5)
        with pytest.raises(EffectNotOpen, match="unknown outcome"):
            await app.client.resolve_effect("one", effect.key, Done("x"))


async def test_a_run_in_doubt_can_be_cancelled():
    out, flow = called_once()
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        await status_is(app, "one", "needs_attention")
        await app.client.cancel("one")
        assert (await app.handle("one", flow).finished(5)).status == "cancelled"
    assert out.done == [1]


async def test_what_else_the_run_does_goes_on_first_and_mail_brings_it_back():
    out = Receiver()
    out.gate = asyncio.Event()

    @step(effect="charge")
    async def charge(n: int) -> str:
        return await out.act(n)

    @step
    async def beside(n: int) -> int:
        return n

    @workflow
    async def flow() -> list[object]:
        async def others() -> list[object]:
            return [await beside(1), await wait_for_signal("go"), await beside(3)]

        return await asyncio.gather(charge(1), others())

    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        await status_is(app, "one", "needs_attention")
        await app.client.signal("one", "go", 2)
        records = await recorded(app, "one", Kind.STEP_COMPLETED, 2)
        assert "STEP_COMPLETED" in kinds(records)
        row = await row_when(app, "one", lambda row: row.status == "needs_attention" and row.owner is None)
        assert row.error
        await app.client.resolve_effect("one", out.keys[0], Done("x"))
        assert await app.handle("one", flow).result(5) == ["x", [1, 2, 3]]
    assert out.done == [1]


async def test_code_that_calls_the_effect_elsewhere_is_stopped_before_it_does():
    out, flow = called_once()
    store = await left_in_the_middle(flow, out)

    @step(effect="charge")
    async def pay(n: int) -> str:
        return await out.act(n)

    other = flow_of(pay)
    async with opened(store, workflows=[other]) as app:
        row = await status_is(app, "one", "stranded")
        assert "does not reach" in row.error
    assert out.done == [1]


# ---------------------------------------------------------------- reconcile


def reconciled(answers, **options):
    """Return a receiver, a flow with one effect, and the intents that its ``reconcile`` was asked about."""
    asked = []

    async def look(intent):
        asked.append((intent, time.time()))
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    out, flow = called_once(**({"reconcile": look, "timeout": 0.05} | options))
    return out, flow, asked


async def test_reconcile_says_done_and_its_value_is_the_result():
    out, flow, asked = reconciled([Done("found")])
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        assert await app.handle("one", flow).result(5) == "found"
    ((intent, at),) = asked
    assert (intent.run, intent.step, intent.effect, intent.args) == ("one", "charge", "charge", (1,))
    assert intent.key == out.keys[0]
    assert at * 1_000_000 >= intent.until, "the call could have acted still"
    assert out.done == [1]
    assert "EFFECT_RESOLVED" in await finished(store)


async def test_reconcile_says_not_done_and_the_call_is_made():
    out, flow, _ = reconciled([NOT_DONE])
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        assert await app.handle("one", flow).result(5) == "did 1"
    assert len(set(out.keys)) == 1
    assert len(out.done) == 2


async def test_reconcile_that_cannot_tell_asks_a_person_and_is_asked_again_when_resumed():
    out, flow, asked = reconciled([UNKNOWN, Done("found")])
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        await status_is(app, "one", "needs_attention")
        await app.client.resume("one")
        assert await app.handle("one", flow).result(5) == "found"
    assert len(asked) == 2
    assert out.done == [1]


@pytest.mark.parametrize("answer", [ValueError("broken"), "yes"])
async def test_reconcile_that_fails_asks_a_person(answer):
    out, flow, _ = reconciled([answer])
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        row = await status_is(app, "one", "needs_attention")
        assert "reconcile failed" in row.error
    assert out.done == [1]


async def test_reconcile_is_tried_again_when_it_cannot_reach_the_receiver():
    out, flow, asked = reconciled([ConnectionError(), Done("found")], retry=Retry(3, backoff=0))
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        assert await app.handle("one", flow).result(5) == "found"
    assert len(asked) == 2


async def test_a_sync_reconcile():
    def look(intent):
        return Done(f"found {intent.key}")

    out, flow = called_once(reconcile=look, timeout=0.05, key=lambda n: "k")
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        assert await app.handle("one", flow).result(5) == "found k"


async def test_where_the_receiver_knows_the_key_unknown_means_again():
    out, flow, asked = reconciled([UNKNOWN], key=lambda n: f"order-{n}")
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        assert await app.handle("one", flow).result(5) == "did 1"
    assert out.keys == ["order-1", "order-1"]
    assert len(asked) == 1


async def test_a_run_that_waits_for_reconcile_can_be_cancelled():
    out, flow, asked = reconciled([], timeout=60)
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow]) as app:
        await row_when(app, "one", lambda row: row.owner is not None)
        await app.client.cancel("one")
        assert (await app.handle("one", flow).finished(5)).status == "cancelled"
    assert asked == []


# ---------------------------------------------------------------- an unknown outcome without a crash


@pytest.mark.parametrize("error", [ConnectionError("gone"), TimeoutError()])
async def test_a_broken_connection_says_nothing_so_nothing_is_done_again(error):
    out, flow = called_once(retry=Retry(3, backoff=0))
    out.gate, out.breaks = None, [error]
    async with opened(workflows=[flow]) as app:
        with pytest.raises(RunNeedsAttention, match=type(error).__name__):
            await app.run(flow, id="one")
    assert out.done == [1]


async def test_an_error_of_the_program_is_a_failure_as_ever():
    out, flow = called_once()
    out.gate, out.breaks = None, [ValueError("bad card")]
    async with opened(workflows=[flow]) as app:
        with pytest.raises(ValueError, match="bad card"):
            await app.run(flow, id="one")


async def test_with_a_key_a_broken_connection_is_tried_again():
    out, flow = called_once(key=lambda n: "k", retry=Retry(3, backoff=0))
    out.gate, out.breaks = None, [ConnectionError()]
    store = MemoryStore()
    async with opened(store) as app:
        assert await app.run(flow, id="one") == "did 1"
    assert out.keys == ["k", "k"]


async def test_reconcile_is_asked_after_a_broken_connection_when_the_timeout_has_passed():
    out, flow, asked = reconciled([NOT_DONE, Done("second")], retry=Retry(3, backoff=0))
    out.gate, out.breaks = None, [ConnectionError(), ConnectionError()]
    async with opened(workflows=[flow]) as app:
        assert await app.run(flow, id="one") == "second"
    assert [intent.attempt for intent, _ in asked] == [1, 2]
    assert out.done == [1, 1]


async def test_attempts_that_were_not_done_are_counted():
    out, flow, asked = reconciled([NOT_DONE] * 5, retry=Retry(2, backoff=0))
    out.gate, out.breaks = None, [ConnectionError("gone")] * 5
    async with opened(workflows=[flow]) as app:
        with pytest.raises(ConnectionError, match="gone"):
            await app.run(flow, id="one")
    assert len(asked) == 2


async def test_a_sync_effect_that_ran_out_of_time_needs_attention():
    gate = asyncio.Event()

    @step(effect="charge", timeout=0.02)
    def charge(n: int) -> int:
        until_open(gate)
        return n

    def until_open(gate):
        while not gate.is_set():
            time.sleep(0.001)

    async with opened() as app:
        try:
            with pytest.raises(RunNeedsAttention, match="OutcomeUnknownStep"):
                await app.run(flow_of(charge), id="one")
        finally:
            gate.set()


async def test_the_question_is_redacted():
    out, flow = called_once(name="hunter2")
    out.gate, out.breaks = None, [ConnectionError("token hunter2")]
    async with opened(redact=lambda text: text.replace("hunter2", "***")) as app:
        await app.start(flow, id="one")
        row = await status_is(app, "one", "needs_attention")
        assert "***" in row.error
        assert "hunter2" not in row.error


# ---------------------------------------------------------------- limits, sealed payloads, declarations


async def test_a_run_in_doubt_keeps_no_place_and_takes_one_to_go_on():
    from reprise import Limit

    out = Receiver()
    out.breaks = [ConnectionError()]

    @step(effect="charge")
    async def charge(n: int) -> str:
        return await out.act(n)

    @workflow(limits=Limit(1))
    async def flow(n: int) -> str:
        return await charge(n)

    async with opened() as app:
        await app.start(flow, 1, id="one")
        await status_is(app, "one", "needs_attention")
        assert await app.run(flow, 2, id="two") == "did 2"
        await app.client.resolve_effect("one", ":1.charge", NOT_DONE)
        assert await app.handle("one", flow).result(5) == "did 1"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"reconcile": print}, "no effect="),
        ({"key": lambda n: "x"}, "no effect="),
        ({"effect": "e", "reconcile": print, "timeout": None}, "no timeout"),
        ({"effect": "e", "reconcile": "look"}, "give a function"),
        ({"undo": 3}, "give a function"),
    ],
)
def test_declarations_that_cannot_hold_are_refused_at_once(options, what):
    with pytest.raises(ConfigurationError, match=what):

        @step(**options)
        async def charge(n: int) -> int:
            return n


def test_a_typo_names_the_nearest():
    with pytest.raises(UnknownOption, match="reconcile"):
        step(reconcil=print)


async def test_a_key_that_is_no_text_fails_the_call_before_it_is_made():
    out = Receiver()

    @step(effect="charge", key=lambda n: n)
    async def charge(n: int) -> str:
        return await out.act(n)

    async with opened() as app:
        with pytest.raises(ConfigurationError, match="gave 1"):
            await app.run(flow_of(charge))
    assert out.done == []


async def test_options_of_one_call_keep_what_is_declared():
    @step(effect="charge", key=lambda n: f"k{n}")
    async def charge(n: int) -> str:
        return current_step().idempotency_key

    async with opened() as app:
        assert await app.run(flow_of(charge.options(timeout=5))) == "k1"


async def test_an_answer_has_the_size_of_payloads():
    out, flow = called_once()
    store = await left_in_the_middle(flow, out)
    async with opened(store, workflows=[flow], max_payload=100) as app:
        await status_is(app, "one", "needs_attention")
        with pytest.raises(PayloadTooLarge):
            await app.client.resolve_effect("one", ":1.charge", Done("x" * 200))


def test_the_last_that_is_known_of_an_effect_is_shown():
    def record(version, kind, data):
        return Record(0, "run/r", version, kind, version, ":1.charge", msgspec.json.encode(data))

    records = [
        record(1, Kind.STEP_INTENDED, Intended("charge", "k", effect="pay", undo="refund")),
        record(2, Kind.EFFECT_RESOLVED, Resolved("not_done")),
        record(3, Kind.STEP_FAILED, ErrorValue("ValueError", "no")),
        record(4, Kind.UNDO_FAILED, ErrorValue("OSError", "gone")),
        record(5, Kind.UNDO_DONE, None),
    ]
    shown = [effects_in(records[:n])[0] for n in range(1, 6)]
    assert [(one.state, one.undo, one.error) for one in shown] == [
        ("open", "owed", ""),
        ("not_done", "owed", ""),
        ("failed", "owed", "ValueError: no"),
        ("failed", "failed", "OSError: gone"),
        ("failed", "undone", "OSError: gone"),
    ]


async def test_doubts_of_many_effects_are_settled_one_by_one():
    out = Receiver()

    @step(effect="charge", key=lambda n: f"order-{n}", retry=Retry(1))
    async def kept(n: int) -> str:
        return await out.act(n)

    @step(effect="mail")
    async def mail(n: int) -> str:
        out.done.append(n)
        raise ConnectionError

    @workflow
    async def flow() -> list[str]:
        return await asyncio.gather(*(mail(n) for n in range(3)), kept(7))

    async with opened(workflows=[flow]) as app:
        handle = await app.start(flow, id="one")
        for left in (3, 2, 1):
            await row_when(app, "one", lambda row: row.status == "needs_attention" and row.due_at is None)
            open = [effect for effect in await app.client.effects("one") if effect.state == "open"]
            assert len(open) == left
            await app.client.resolve_effect("one", open[0].key, Done(f"mail {left}"))
        assert await handle.result(5) == ["mail 3", "mail 2", "mail 1", "did 7"]
    assert sorted(out.done) == [0, 1, 2, 7]


@pytest.mark.parametrize("options", [{"effect": "charge", "key": "once"}, {"undo": lambda undo: None}])
async def test_inside_of_another_step_it_is_refused(options):
    @step(**options)
    async def inner() -> int:
        return 1

    @step
    async def outer() -> int:
        return await inner()

    @workflow
    async def flow() -> int:
        return await outer()

    assert await inner() == 1, "outside of any run it is a plain call"
    async with opened() as app:
        with pytest.raises(BodyError, match="inside of another step"):
            await app.run(flow)
