"""A worker killed at each append of a run, and another that goes on: the end is the same, or it is said what is not."""

import asyncio
import itertools

import pytest

from reprise import (
    NOT_DONE,
    AgentChain,
    ConfigurationError,
    Done,
    Retry,
    SagaOrchestrator,
    Undo,
    WorkflowOrchestrator,
    WorkflowStep,
    current_step,
    step,
    wait_for_signal,
    workflow,
)
from reprise.testing import Delay, EffectsLedger, PointDiffers, ScriptedAgent, crash_points

bank = EffectsLedger()


@step
async def double(n: int) -> int:
    return 2 * n


@step
async def pay(amount: int) -> str:
    return bank.do("pay", amount, key=current_step().idempotency_key, answer="paid")


@step
async def pay_without_key(amount: int) -> str:
    return bank.do("pay", amount, answer="paid")


@workflow
async def plain(n: int) -> int:
    return await double(await double(n))


@workflow
async def order(amount: int) -> str:
    first, _ = await asyncio.gather(pay(amount), double(1))
    await asyncio.sleep(3 * 86_400)
    who = await wait_for_signal("approve", str)
    return f"{first} for {who}, {await pay(1)}"


@workflow
async def careless() -> str:
    return await pay_without_key(5)


async def approve(run):
    await asyncio.sleep(86_400)
    await run.signal("approve", "ada")


def test_a_plain_run():
    points = crash_points(plain, 5)
    seen = [(point.number, point.when) for point in points if point.check() is None and point.result == 20]
    assert seen == list(itertools.product(range(1, len(points) // 2 + 1), ("before", "after")))
    assert len(points) >= 8


def test_timers_signals_and_receivers_that_honour_keys():
    points = crash_points(order, 7, driver=approve, effects=bank)
    count = points.check()
    assert count >= 16
    assert points.undisturbed.seconds >= 3 * 86_400
    assert bank.count("pay") == 2
    lives = {each.life for point in points for each in point.executed}
    assert lives == {1, 2}


def test_a_receiver_that_knows_no_key_is_told_twice():
    points = crash_points(careless, effects=bank)
    differ = []
    for point in points:
        try:
            point.check()
        except PointDiffers as error:
            differ.append(str(error))
    assert len(differ) == 1
    assert "The worker was killed before append" in differ[0]
    assert "step completed pay_without_key (" in differ[0]
    assert "test_crash_points.py:" in differ[0]
    assert "pay(5) happened 2 times; undisturbed 1" in differ[0]
    assert "current_step().idempotency_key" in differ[0]


@workflow
async def depends_on_its_worker() -> int:
    return WORKERS.count(await who())


WORKERS: list[str] = []


@step
async def who() -> str:
    WORKERS.append("x")
    return "x"


def test_another_result_is_shown():
    with pytest.raises(PointDiffers, match=r"it returned \d+; undisturbed \d+"):
        crash_points(depends_on_its_worker).check()
    crash_points(depends_on_its_worker, same=lambda mine, undisturbed: True).check()


@workflow
async def fails_the_second_time() -> None:
    await second_time_fails()


@step(retry=Retry(1))
async def second_time_fails() -> None:
    WORKERS.append("y")
    if WORKERS.count("y") > 1:
        raise ValueError("again?")


def test_another_end_is_shown():
    WORKERS.clear()
    with pytest.raises(PointDiffers) as caught:
        crash_points(fails_the_second_time).check()
    said = str(caught.value)
    assert "it ended with ValueError: again?" in said
    assert "undisturbed with no error" in said
    assert "run crash-point: failed: ValueError: again?; undisturbed: completed" in said
    assert (
        "step second_time_fails (:1.second_time_fails of crash-point): step failed; undisturbed: step completed"
        in said
    )


async def find_out(intent):
    return Done("paid") if bank.knows(intent.key) else NOT_DONE


@step(effect="pay", reconcile=find_out)
async def pay_with_intent(amount: int) -> str:
    return bank.do("pay", amount, key=current_step().idempotency_key, answer="paid")


@step
async def pay_back(undo: Undo) -> None:
    bank.do("pay back", undo.args[0], key=current_step().idempotency_key)


@step(undo=pay_back)
async def pay_undoably(amount: int) -> str:
    return bank.do("pay", amount, key=current_step().idempotency_key, answer="paid")


@workflow
async def with_effect() -> str:
    return await pay_with_intent(3)


@workflow
async def is_undone() -> None:
    await pay_undoably(4)
    await with_effect()
    raise ValueError("no")


def test_effects_children_and_undo():
    assert crash_points(with_effect, effects=bank).check() >= 8
    points = crash_points(is_undone, effects=bank, app={"workflows": [with_effect]})
    points.check()
    assert [each.name for each in bank.done] == ["pay", "pay", "pay back"]
    assert isinstance(points.at(1).error, ValueError)
    with pytest.raises(ValueError, match="no"):
        points.at(0).result  # noqa: B018


def plan():
    made = WorkflowOrchestrator(name="report")
    made.add_step(WorkflowStep(name="collect", agent_type="researcher", task="Collect"))
    made.add_step(WorkflowStep(name="look", agent_type="critic", task="Look"))
    return made.add_step(
        WorkflowStep(name="write", agent_type="writer", task="Write", dependencies=("collect", "look"))
    )


def test_plans_chains_and_parallel_executors():
    agent = ScriptedAgent(
        {"researcher": [["bees"]], "critic": ["fine"], "writer": ["They hum."], "editor": ["Good."]}
    )
    points = crash_points(plan(), agent)
    assert points.check() >= 8
    assert points.at(0).result.results["write"] == "They hum."
    chain = AgentChain().then("writer").then("editor")
    assert crash_points(chain, agent, kwargs={"initial_input": "x"}).check() >= 6


def test_sagas():
    async def define():
        saga = SagaOrchestrator(
            services={
                "accounts": {
                    "create": lambda told: bank.do("create", told["input"], key=f"c{told['run_id']}"),
                    "delete": lambda told: bank.do("delete", told["input"], key=f"d{told['run_id']}"),
                },
                "billing": {"charge": lambda told: 1 / 0},
            }
        )
        await saga.define_saga(
            "onboarding",
            [
                {"step": "create", "service": "accounts", "compensation": "delete"},
                {"step": "charge", "service": "billing", "max_retries": 0},
            ],
        )
        return saga

    points = crash_points(asyncio.run(define()), "onboarding", "ada", effects=bank)
    assert points.check() >= 10
    assert points.at(0).result.status == "failed"
    assert [each.name for each in bank.done] == ["create", "delete"]


def test_whatever_starts_a_run():
    async def start(app, id, n):
        return 1 + await app.run(plain, n, id=id)

    points = crash_points(start, 5, app={"workflows": [plain]})
    assert points.check() >= 8
    assert points.at(1).result == 21
    with pytest.raises(ConfigurationError, match="Give a workflow"):
        crash_points(5)


def test_a_sample_of_the_points():
    assert len(crash_points(plain, 5)) == 8
    sample = [(each.number, each.when) for each in crash_points(plain, 5, most=3)]
    assert sample == [(1, "before"), (2, "before"), (3, "after")]


def test_beside_other_faults():
    crash_points(order, 7, driver=approve, effects=bank, faults=[Delay(0.05)]).check()


async def test_beside_a_loop_that_runs():
    numbers = [point.number async for point in crash_points(plain, 5) if point.check() is None]
    assert len(numbers) >= 8


@workflow
async def never_ends() -> None:
    await wait_for_signal("never")


def test_a_run_that_never_ends():
    error = crash_points(never_ends).at(0).error
    assert error is not None
