"""Sagas: what is done, what is compensated and in which order, what interrupts that, and what a person is told."""

import asyncio

import pytest
from tests.unit.runtime.scenes import Shared, cut, history, opened, recorded, row_when, status_is, until

from reprise import (
    NOT_DONE,
    ConfigurationError,
    Done,
    Kind,
    PlanInvalid,
    RunNeedsAttention,
    SagaOrchestrator,
    SagaStep,
    StepRefused,
    workflow,
)

TRIP = (
    {"step": "flight", "service": "airline", "compensation": "cancel_flight"},
    {"step": "room", "service": "hotel", "compensation": "cancel_room"},
    {"step": "pay", "service": "bank", "compensation": "refund"},
)
AT_ONCE = {"backoff": 0, "max_retries": 1, "timeout": 5}


class World:
    """Services that do a request once per key, and remember what they were asked for and did."""

    def __init__(self):
        self.asked = []
        self.done = {}
        self.fails = {}
        """What an action raises: an exception for ever, a list one after the other."""
        self.gates = {}

    async def __call__(self, action, payload, key):
        self.asked.append((action, payload, key))
        if (gate := self.gates.get(action)) is not None:
            await gate.wait()
        error = self.fails.get(action)
        if isinstance(error, list):
            error = error.pop(0) if error else None
        if error is not None:
            raise error
        return self.done.setdefault(key, f"{action} {payload['input']}")

    @property
    def actions(self):
        return [action for action, _, _ in self.asked]

    def keys(self, wanted):
        return {key for action, _, key in self.asked if action == wanted}

    def payload(self, wanted):
        return next(payload for action, payload, _ in self.asked if action == wanted)


async def trip_of(world, steps=TRIP, **options):
    services = {step["service"]: world for step in steps}
    saga = SagaOrchestrator(services=services)
    await saga.define_saga("trip", [AT_ONCE | step | options for step in steps])
    return saga


# ---------------------------------------------------------------- what is done and compensated


async def test_all_steps_are_done_one_after_the_other():
    world = World()
    saga = await trip_of(world)
    result = await saga.execute(saga_id="trip", input_data="rome")
    assert (result.saga_id, result.status, result.compensated, result.failed_step) == (
        "trip",
        "completed",
        [],
        None,
    )
    assert result.results == {"flight": "flight rome", "room": "room rome", "pay": "pay rome"}
    assert result.raise_for_status() is result
    assert world.actions == ["flight", "room", "pay"]
    assert world.payload("room") == {
        "saga_id": "trip",
        "run_id": result.run_id,
        "step": "room",
        "input": "rome",
        "results": {"flight": "flight rome"},
    }


async def test_what_was_done_is_compensated_in_reverse_order_and_nothing_is_raised():
    world = World()
    world.fails["pay"] = ValueError("no money")
    saga = await trip_of(world)
    result = await saga.execute("trip", "rome")
    assert (result.status, result.failed_step) == ("failed", "pay")
    assert result.compensated == ["pay", "room", "flight"]
    assert result.results == {"flight": "flight rome", "room": "room rome"}
    assert world.actions == ["flight", "room", "pay", "refund", "cancel_room", "cancel_flight"]
    (flight,) = world.keys("flight")
    undo = world.payload("cancel_flight")
    assert (undo["happened"], undo["result"], undo["compensates"]) == (True, "flight rome", flight)
    assert world.keys("cancel_flight") != {flight}
    assert (world.payload("refund")["happened"], world.payload("refund")["result"]) == (None, None)
    with pytest.raises(ValueError, match="no money"):
        result.raise_for_status()


async def test_a_step_that_was_refused_is_not_compensated():
    world = World()
    world.fails["pay"] = StepRefused("no money")
    saga = await trip_of(world)
    result = await saga.execute("trip", "rome")
    assert (result.failed_step, result.compensated) == ("pay", ["room", "flight"])
    assert "refund" not in world.actions


async def test_one_that_was_refused_after_an_attempt_of_unknown_outcome_is_compensated():
    world = World()
    world.fails["pay"] = [RuntimeError("?"), StepRefused("no money")]
    saga = await trip_of(world)
    result = await saga.execute("trip", "rome")
    assert result.compensated == ["pay", "room", "flight"]
    assert len(world.keys("pay")) == 1


async def test_a_step_without_compensation_has_nothing_to_be_undone():
    world = World()
    world.fails["pay"] = ValueError()
    saga = await trip_of(world, [TRIP[0], {"step": "look", "service": "hotel"}, TRIP[2]])
    result = await saga.execute("trip", "rome")
    assert result.compensated == ["pay", "flight"]


async def test_a_call_that_raised_is_over_and_compensating_does_not_wait_for_its_time():
    world = World()
    world.fails["pay"] = RuntimeError("down")
    saga = await trip_of(world, timeout=3600)
    async with asyncio.timeout(10):
        result = await saga.execute("trip", "rome")
    assert result.compensated == ["pay", "room", "flight"]
    assert world.actions.count("pay") == 2


async def test_a_call_that_nobody_answered_is_compensated_when_it_cannot_act_any_more():
    world, clock = World(), asyncio.get_running_loop().time
    world.fails["pay"] = ConnectionError()
    saga = await trip_of(world, timeout=0.3, max_retries=0)
    began = clock()
    await saga.execute("trip", "rome")
    assert clock() - began >= 0.3


async def test_in_memory_any_value_passes_from_step_to_step():
    class Ticket:
        pass

    seen = []

    def services(action, payload):
        seen.append((action, payload["results"], payload.get("result")))
        if action == "pay":
            raise ValueError
        return Ticket()

    saga = SagaOrchestrator(services=dict.fromkeys(("airline", "hotel", "bank"), services))
    await saga.define_saga("trip", TRIP)
    result = await saga.execute("trip")
    assert isinstance(result.results["flight"], Ticket)
    (_, given, _), (_, _, undone) = seen[1], seen[-1]
    assert given["flight"] is undone is result.results["flight"]


async def test_a_saga_in_the_body_of_a_run_is_its_child():
    world = World()
    world.fails["pay"] = ValueError("no money")
    saga = await trip_of(world)

    @workflow
    async def plan(where: str) -> list[str]:
        result = await saga.execute("trip", where)
        return [result.status, *result.compensated]

    async with opened() as app:
        assert await app.run(plan, "rome") == ["failed", "pay", "room", "flight"]


# ---------------------------------------------------------------- what interrupts it


async def test_cancelling_compensates_and_is_not_heard_while_compensating():
    world = World()
    pay, room = world.gates["pay"], world.gates["cancel_room"] = asyncio.Event(), asyncio.Event()
    saga = await trip_of(world, timeout=0.2)
    async with opened() as app:
        executing = asyncio.create_task(saga.execute("trip", "rome", id="one", app=app))
        await until(lambda: "pay" in world.actions)
        await app.client.cancel("one", "enough")
        await until(lambda: "cancel_room" in world.actions)
        await app.client.cancel("one", "enough!")
        room.set()
        result = await executing
    assert not pay.is_set()
    assert (result.status, result.compensated) == ("cancelled", ["pay", "room", "flight"])


async def test_leaving_execute_in_memory_compensates_first():
    world = World()
    world.gates["pay"] = asyncio.Event()
    saga = await trip_of(world, timeout=0.2)
    executing = asyncio.create_task(saga.execute("trip", "rome"))
    await until(lambda: "pay" in world.actions)
    executing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await executing
    assert world.actions[3:] == ["refund", "cancel_room", "cancel_flight"]


async def test_whoever_takes_the_run_over_goes_on_with_what_is_left_from_every_record():
    world, store = World(), Shared()
    world.fails["pay"] = ValueError("no money")
    saga = await trip_of(world)
    async with opened(store) as app:
        first = await saga.execute("trip", "rome", id="one", app=app)
    keys = {action: world.keys(action) for action in world.actions}
    length = len(await history(store, "one"))
    compensating = 0
    for count in range(1, length):
        again = await cut(store, "one", count)
        async with opened(again) as app:
            app.register(saga.sagas["trip"])
            result = await saga.execute("trip", "rome", id="one", app=app)
        assert result == first, count
        assert {action: world.keys(action) for action in world.actions} == keys, count
        compensating += any(record.kind == Kind.UNDO_DONE for record in (await history(store, "one"))[:count])
    assert compensating >= 2


async def test_executing_a_run_that_has_ended_gives_its_result():
    world, store = World(), Shared()
    saga = await trip_of(world)
    async with opened(store) as app:
        first = await saga.execute("trip", "rome", id="one", app=app)
        assert await saga.execute("trip", "rome", id="one", app=app) == first
    assert world.actions == ["flight", "room", "pay"]


# ---------------------------------------------------------------- compensations that fail


async def test_a_compensation_is_tried_again_under_one_key():
    world = World()
    world.fails = {"pay": StepRefused(), "cancel_room": [RuntimeError(), ConnectionError()]}
    saga = await trip_of(world)
    result = await saga.execute("trip", "rome")
    assert result.compensated == ["room", "flight"]
    assert world.actions.count("cancel_room") == 3
    assert len(world.keys("cancel_room")) == 1


async def test_one_that_fails_for_good_is_left_to_a_person_with_all_that_is_needed():
    world, store = World(), Shared()
    world.fails = {"pay": StepRefused("no money"), "cancel_room": ValueError("which room?")}
    saga = await trip_of(world)
    async with opened(store) as app:
        result = await saga.execute("trip", "rome", id="one", app=app)
        assert (result.status, result.failed_step, result.compensated) == (
            "needs_attention",
            "pay",
            ["flight"],
        )
        (left,) = result.uncompensated
        assert (left.step, left.service, left.compensation) == ("room", "hotel", "cancel_room")
        assert left.idempotency_key in world.keys("room")
        assert left.result == "room rome"
        assert "which room?" in left.error
        assert "reprise resume one" in result.attention
        with pytest.raises(RunNeedsAttention, match="room"):
            result.raise_for_status()
        del world.fails["cancel_room"]
        await app.client.resume("one")
        await status_is(app, "one", "failed")
        result = await saga.execute("trip", "rome", id="one", app=app)
    assert (result.compensated, result.uncompensated) == (["flight", "room"], [])


# ---------------------------------------------------------------- the pivot

ORDER = (
    {"step": "reserve", "service": "stock", "compensation": "release"},
    {"step": "charge", "service": "bank", "irreversible": True},
    {"step": "ship", "service": "post"},
)


async def order_of(world, **options):
    return await trip_of(world, ORDER, **options)


async def test_a_pivot_that_is_refused_lets_what_was_before_it_be_compensated():
    world = World()
    world.fails["charge"] = StepRefused("no money")
    saga = await order_of(world)
    result = await saga.execute("trip", 1)
    assert (result.status, result.compensated) == ("failed", ["reserve"])


@pytest.mark.parametrize("step", ["charge", "ship"])
async def test_from_the_pivot_on_it_is_a_person_who_sees_to_what_fails(step):
    world = World()
    world.fails[step] = RuntimeError("down")
    saga = await order_of(world)
    async with opened() as app:
        result = await saga.execute("trip", 1, id="one", app=app)
        assert (result.status, result.failed_step, result.compensated) == ("needs_attention", step, [])
        assert "release" not in world.actions
        assert f"resolve {next(iter(world.keys(step)))}" in result.attention
        del world.fails[step]
        await app.client.resume("one")
        await status_is(app, "one", "completed")
    assert len(world.keys(step)) == 1


@pytest.mark.parametrize(("answer", "asked"), [(Done("by hand"), 1), (NOT_DONE, 2)])
async def test_a_person_says_what_became_of_a_step_past_the_pivot(answer, asked):
    world = World()
    world.fails["ship"] = [ValueError("no address")]
    saga = await order_of(world)
    async with opened() as app:
        result = await saga.execute("trip", 1, id="one", app=app)
        assert result.status == "needs_attention"
        (key,) = world.keys("ship")
        await app.client.resolve_effect("one", key, answer)
        await status_is(app, "one", "completed")
        result = await saga.execute("trip", 1, id="one", app=app)
    assert result.results["ship"] == ("by hand" if asked == 1 else "ship 1")
    assert world.actions.count("ship") == asked


@pytest.mark.parametrize("at", ["charge", "ship"])
async def test_from_the_pivot_on_cancelling_does_not_stop_it(at):
    world = World()
    world.gates[at] = asyncio.Event()
    saga = await order_of(world)
    async with opened() as app:
        executing = asyncio.create_task(saga.execute("trip", 1, id="one", app=app))
        await until(lambda: at in world.actions)
        await app.client.cancel("one", "enough")
        await app.client.cancel("one", "enough!")
        await recorded(app, "one", Kind.CANCEL_REQUESTED)
        world.gates[at].set()
        result = await executing
    assert (result.status, result.compensated) == ("completed", [])


async def test_a_run_past_the_pivot_goes_on_from_every_record():
    world, store = World(), Shared()
    saga = await order_of(world)
    async with opened(store) as app:
        first = await saga.execute("trip", 1, id="one", app=app)
    for count in range(1, len(await history(store, "one"))):
        async with opened(await cut(store, "one", count)) as app:
            app.register(saga.sagas["trip"])
            assert await saga.execute("trip", 1, id="one", app=app) == first
    assert all(len(world.keys(action)) == 1 for action in ("reserve", "charge", "ship"))


# ---------------------------------------------------------------- definitions and buses


async def test_all_faults_of_a_definition_are_named_at_once():
    saga = SagaOrchestrator(services={"hotel": lambda action, payload: None})
    steps = [
        {"step": "room", "service": "hotel", "compensaton": "cancel"},
        {"step": "pay"},
        SagaStep(name="charge", service="hotel", compensation="refund", irreversible=True),
        SagaStep(name="ship", service="hotel", compensation="return"),
        SagaStep(name="ship", service="hotel", timeout=0),
        {"step": "late", "service": "hotel", "timeout": "soon"},
    ]
    with pytest.raises(PlanInvalid) as caught:
        await saga.define_saga("trip", steps)
    assert str(caught.value).splitlines() == [
        "Saga 'trip' cannot be carried out:",
        "- step room: 'compensaton' is unknown; did you mean 'compensation'?",
        "- step pay: 'service' is missing",
        "- step late: Expected `float`, got `str` - at `$.timeout`",
        "- step charge: it is irreversible and has a compensation",
        "- step ship: it comes after the irreversible step charge, so its compensation would never be done",
        "- step ship: another step is called so",
        "- step ship: timeout, backoff and max_retries cannot be negative, and timeout not 0",
    ]
    with pytest.raises(PlanInvalid, match="no steps"):
        await saga.define_saga("trip", [])


async def test_services_that_are_not_there_are_named_when_the_saga_is_defined():
    saga = SagaOrchestrator(
        services={"hotel": {"room": lambda payload: 1}, "bank": lambda action, payload: 1}
    )
    with pytest.raises(PlanInvalid) as caught:
        await saga.define_saga("trip", TRIP)
    assert str(caught.value).splitlines()[1:] == [
        "- service 'airline' is not known",
        "- service 'hotel' has no action 'cancel_room'",
    ]


class Bus:
    """A bus that reaches some services, and says so in one way or another."""

    def __init__(self, known, error):
        self.known, self.error = known, error
        self.asked = []

    async def request(self, service, action, payload, timeout, idempotency_key):
        self.asked.append((service, action, timeout, bool(idempotency_key)))
        if service not in self.known:
            raise self.error(service)
        if action == "ping":
            raise ValueError("no ping here")
        return action


@pytest.mark.parametrize("error", [ConnectionRefusedError, KeyError, TimeoutError])
async def test_a_bus_is_asked_whom_it_reaches(error):
    bus = Bus({"airline", "hotel"}, error)
    saga = SagaOrchestrator(message_bus=bus)
    with pytest.raises(PlanInvalid, match="service 'bank'"):
        await saga.define_saga("trip", TRIP)
    bus.known.add("bank")
    await saga.define_saga("trip", TRIP)
    bus.asked.clear()
    assert (await saga.execute("trip")).results == {"flight": "flight", "room": "room", "pay": "pay"}
    assert bus.asked[0] == ("airline", "flight", 30.0, True)


async def test_a_bus_that_says_whom_it_reaches_is_not_pinged():
    bus = Bus({"airline", "hotel"}, KeyError)
    bus.reaches = lambda service: service in bus.known
    with pytest.raises(PlanInvalid, match="service 'bank' cannot be reached"):
        await SagaOrchestrator(message_bus=bus).define_saga("trip", TRIP)
    assert bus.asked == []


async def test_what_is_no_bus_or_no_saga_is_refused():
    with pytest.raises(ConfigurationError, match="one of the two"):
        SagaOrchestrator()
    with pytest.raises(ConfigurationError, match="request"):
        SagaOrchestrator(message_bus=object())
    with pytest.raises(ConfigurationError, match="'hotel' is 7"):
        SagaOrchestrator(services={"hotel": 7})
    saga = await trip_of(World())
    with pytest.raises(ConfigurationError, match="Did you mean 'trip'"):
        await saga.execute("tripp")
    with pytest.raises(ConfigurationError, match="agent_executor"):
        saga.sagas["trip"].flow(lambda agent, task: None)


async def test_a_run_keeps_the_definition_that_it_began_with():
    world, store = World(), Shared()
    world.gates["pay"] = asyncio.Event()
    saga = await trip_of(world)
    async with opened(store) as app:
        await app.start(saga.sagas["trip"].flow(), saga.sagas["trip"].plan, "rome", id="one")
        await until(lambda: "pay" in world.actions)
    world.gates.clear()
    world.fails["pay"] = StepRefused()
    await saga.define_saga("trip", [TRIP[2]])
    async with opened(await cut(store, "one", len(await history(store, "one")))) as app:
        app.register(saga.sagas["trip"])
        row = await row_when(app, "one", lambda row: row.status in ("failed", "stranded"), 10)
    assert row.status == "failed"
    assert world.actions[-2:] == ["cancel_room", "cancel_flight"]


# ---------------------------------------------------------------- what it takes


@pytest.mark.parametrize("fails", [False, True])
async def test_a_history_grows_by_the_same_for_each_step_however_many_there_are(fails):
    """An intent that held what was there before it would make a saga of 200 steps forty times larger."""

    async def size(count):
        def serve(action, payload):
            if action == "last" and fails:
                raise StepRefused("no")
            return {"said": action.ljust(500, ".")} if not action.startswith("undo") else None

        steps = [
            {"step": f"s{n}", "service": "all", "compensation": f"undo s{n}", **AT_ONCE} for n in range(count)
        ]
        saga = SagaOrchestrator(services={"all": serve})
        await saga.define_saga("long", [*steps, {"step": "last", "service": "all"}])
        async with opened() as app:
            result = await saga.execute("long", {"of": "x" * 500}, app=app, id="r")
            assert (result.status, len(result.compensated)) == (
                ("failed", count) if fails else ("completed", 0)
            )
            return sum(len(record.data) + len(record.key) for record in await history(app.store, "r"))

    small, large = await size(20), await size(200)
    assert large < 10.5 * small
    assert large / 200 < 1400, "some 500 of that is what a service says"
