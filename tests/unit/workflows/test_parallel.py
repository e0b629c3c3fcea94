"""Tasks side by side: the rule, who starts first, what is cancelled, what is reported."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tests.unit.runtime.scenes import Shared, cut, history, keys, opened

from reprise import (
    AggregationStrategy,
    CodecError,
    ConfigurationError,
    ParallelExecutor,
    ParallelResult,
    ParallelTask,
    RuleNotMet,
    RunConflict,
    TaskPriority,
    UnknownAgent,
    UnknownOption,
)
from reprise.workflows.parallel_result import TaskResult, metrics_of

ALL, FIRST, MAJORITY, THRESHOLD = AggregationStrategy


class Thing:
    """Nothing that a codec knows."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and self.n == other.n

    __hash__ = None  # type: ignore[assignment]


@dataclass
class Answer:
    text: str
    by: str


class Gates:
    """An executor whose tasks end when the test lets them."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.ended: dict[Any, asyncio.Future[Any]] = {}
        self._news = asyncio.Event()

    async def __call__(self, agent: str, task: Any, context: dict[str, Any]) -> Any:
        self.started.append(task)
        self.ended[task] = asyncio.get_running_loop().create_future()
        self._news.set()
        return await self.ended[task]

    async def until(self, count: int) -> None:
        while len(self.started) < count:
            self._news.clear()
            await self._news.wait()


def fails_if(condition: Callable[[Any], bool]) -> Callable[[str, Any], Any]:
    """Return an executor that gives tasks back, or fails."""

    async def executor(agent: str, task: Any) -> Any:
        if condition(task):
            raise ValueError(task)
        return task

    return executor


def executor_of(strategy: AggregationStrategy, tasks: list[Any], **options: Any) -> ParallelExecutor:
    ex = ParallelExecutor(strategy=strategy, **options)
    for task in tasks:
        ex.create_task("a", task)
    return ex


def statuses(result: ParallelResult) -> list[str]:
    return [task.status for task in result.tasks]


# ---------------------------------------------------------------- rules


async def test_all():
    result = await executor_of(ALL, [3, 1, 2]).execute(fails_if(lambda task: False))
    assert (result.value, result.status, result.errors) == ([3, 1, 2], "completed", {})
    assert result.results == {"a-1": 3, "a-2": 1, "a-3": 2}


async def test_all_reports_partial_failures():
    result = await executor_of(ALL, [3, 1, 2]).execute(fails_if(lambda task: task == 1))
    assert (result.value, result.status) == ([3, None, 2], "partial")
    assert result.errors == {"a-2": "ValueError: 1"}
    assert statuses(result) == ["completed", "failed", "completed"]
    result.raise_for_status()


async def test_all_of_them_fail():
    result = await executor_of(ALL, [1, 2]).execute(fails_if(lambda task: True))
    assert (result.value, result.status, len(result.errors)) == (None, "failed", 2)
    with pytest.raises(RuleNotMet, match=r"0 of 2 succeeded\. a-1: ValueError: 1; a-2: ValueError: 2"):
        result.raise_for_status()


async def test_nothing_to_do():
    assert (await executor_of(ALL, []).execute(fails_if(bool))).value == []
    assert (await executor_of(FIRST, []).execute(fails_if(bool))).status == "failed"


async def test_first_cancels_the_rest():
    gates = Gates()
    running = asyncio.create_task(executor_of(FIRST, [1, 2, 3, 4], max_concurrent=3).execute(gates))
    await gates.until(3)
    gates.ended[2].set_result("two")
    result = await running
    assert (result.value, result.status) == ("two", "completed")
    assert statuses(result) == ["cancelled", "completed", "cancelled", "skipped"]
    assert gates.ended[1].cancelled()
    assert result.tasks[3].error == "not started: the rule was met before"


async def test_first_passes_over_failures():
    result = await executor_of(FIRST, [1, 2, 3], max_concurrent=1).execute(fails_if(lambda task: task < 3))
    assert (result.value, result.status, list(result.errors)) == (3, "completed", ["a-1", "a-2"])


async def test_majority_is_decided_as_soon_as_it_is_one():
    gates = Gates()
    running = asyncio.create_task(executor_of(MAJORITY, [1, 2, 3, 4, 5]).execute(gates))
    await gates.until(5)
    for task in (1, 3, 4):
        gates.ended[task].set_result({"answer": 42})
    result = await running
    assert result.value == {"answer": 42}
    assert statuses(result) == ["completed", "cancelled", "completed", "completed", "cancelled"]


async def test_majority_is_lost_as_soon_as_there_can_be_none():
    gates = Gates()
    running = asyncio.create_task(executor_of(MAJORITY, [1, 2, 3, 4]).execute(gates))
    await gates.until(4)
    gates.ended[1].set_result("x")
    gates.ended[2].set_exception(ValueError("no"))
    gates.ended[3].set_result("y")
    result = await running
    assert (result.status, result.value) == ("failed", None)
    assert statuses(result) == ["completed", "failed", "completed", "cancelled"]


async def test_majority_of_answers_that_a_key_makes_equal():
    tasks = [Answer("Yes", "a"), Answer("yes", "b"), Answer("no", "c")]
    ex = executor_of(MAJORITY, tasks, key=lambda answer: answer.text.lower(), max_concurrent=1)
    assert (await ex.execute(fails_if(lambda task: False))).value == Answer("Yes", "a")


async def test_a_key_that_fails_is_a_failure_of_its_task():
    ex = executor_of(MAJORITY, [{"n": 1}, {}, {"n": 1}], key=lambda answer: answer["n"])
    result = await ex.execute(fails_if(lambda task: False))
    assert (result.value, result.errors) == ({"n": 1}, {"a-2": "key: KeyError: 'n'"})


async def test_majority_of_things_that_no_codec_knows():
    ex = executor_of(MAJORITY, [Thing(1), Thing(2), Thing(1)])
    assert (await ex.execute(fails_if(lambda task: False))).value.n == 1


async def test_true_and_one_are_different_answers():
    result = await executor_of(MAJORITY, [True, 1, 1.0]).execute(fails_if(lambda task: False))
    assert result.status == "failed"


@pytest.mark.parametrize(("threshold", "expected"), [(2, [1, 2]), (0.5, [1, 2]), (0.6, [1, 2, 4]), (1, [1])])
async def test_threshold(threshold, expected):
    ex = executor_of(THRESHOLD, [1, 2, 3, 4], threshold=threshold, max_concurrent=1)
    result = await ex.execute(fails_if(lambda task: task == 3))
    assert (result.value, result.status) == (expected, "completed")


async def test_threshold_that_cannot_be_reached_any_more():
    ex = executor_of(THRESHOLD, [1, 2, 3, 4], threshold=3, max_concurrent=1)
    result = await ex.execute(fails_if(lambda task: task < 3))
    assert result.status == "failed"
    assert statuses(result) == ["failed", "failed", "skipped", "skipped"]
    assert "Fewer than 3 of 4 can succeed" in result.tasks[3].error


answers = st.lists(st.sampled_from(["x", "y", "fails"]), max_size=7)


@settings(max_examples=60, deadline=None)
@given(
    answers, st.sampled_from(AggregationStrategy), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99)
)
def test_what_comes_out_is_what_the_rule_says_of_all_answers(answers, strategy, most, number, seed):
    """However tasks race, what is decided early is what would be decided with everything known."""
    dice = random.Random(seed)

    async def executor(agent: str, task: str) -> str:
        for _ in range(dice.randrange(3)):
            await asyncio.sleep(0)
        if task == "fails":
            raise ValueError(task)
        return task

    threshold = number if strategy is THRESHOLD else None
    ex = executor_of(strategy, answers, max_concurrent=most, threshold=threshold)
    result = asyncio.run(ex.execute(executor))
    good = [answer for answer in answers if answer != "fails"]
    if strategy is ALL:
        expected = [None if answer == "fails" else answer for answer in answers]
        assert result.value == (expected if good or not answers else None)
    elif strategy is MAJORITY:
        winner, votes = next(iter(Counter(good).most_common(1)), (None, 0))
        assert result.value == (winner if 2 * votes > len(answers) else None)
    else:
        needed = number if strategy is THRESHOLD else 1
        value = [result.value] if strategy is FIRST and result.value else result.value or []
        assert len(value) == (needed if len(good) >= needed else 0)
        assert not Counter(value) - Counter(good)
    assert (result.status == "failed") == (result.value is None)


# ---------------------------------------------------------------- who starts first, and how many


async def test_priorities_decide_who_starts_first():
    started: list[int] = []
    ex = ParallelExecutor(max_concurrent=1)
    for n, priority in enumerate(["low", TaskPriority.HIGH, "critical", 2, "high"]):
        ex.create_task("a", n, priority=priority)
    await ex.execute(lambda agent, task: started.append(task))
    assert started == [2, 1, 4, 3, 0]


async def test_no_more_at_work_than_may_be():
    most = at_work = 0

    async def executor(agent: str, task: int) -> None:
        nonlocal most, at_work
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1

    await executor_of(ALL, list(range(12)), max_concurrent=3).execute(executor)
    assert most == 3


async def test_ids_and_tasks():
    ex = ParallelExecutor()
    assert ex.create_task("researcher", "x", priority=TaskPriority.HIGH) == "researcher-1"
    assert ex.add_task(ParallelTask(agent_type="coder", task="y", timeout=5, max_retries=1)) == "coder-2"
    assert ex.add_task(ParallelTask(agent_type="coder", id="mine")) == "mine"
    assert list(ex.tasks) == ["researcher-1", "coder-2", "mine"]
    seen: dict[str, Any] = {}

    async def executor(agent: str, task: Any, context: dict[str, Any]) -> None:
        seen[context["step"]] = (agent, task, context["team"], context["attempt"])

    await ex.execute(executor, context={"team": "blue"})
    assert seen["coder-2"] == ("coder", "y", "blue", 1)


async def test_what_may_pass_is_tried_again_as_often_as_the_task_says():
    tried = Counter[str]()

    async def executor(agent: str, task: str) -> None:
        tried[task] += 1
        raise ConnectionError(task)

    ex = ParallelExecutor()
    ex.create_task("a", "once", max_retries=0)
    ex.create_task("a", "twice", max_retries=1)
    assert (await ex.execute(executor)).status == "failed"
    assert tried == {"once": 1, "twice": 2}


async def test_a_task_that_takes_too_long_fails():
    ex = ParallelExecutor()
    ex.create_task("a", "slow", timeout=0.01, max_retries=0)

    async def executor(agent: str, task: str) -> None:
        await asyncio.Event().wait()

    assert "StepTimeout" in (await ex.execute(executor)).errors["a-1"]


# ---------------------------------------------------------------- metrics


async def test_metrics():
    tasks = [
        TaskResult(id=str(n), agent_type="a", status="completed", wait=float(n), run=2.0) for n in range(20)
    ]
    tasks.append(TaskResult(id="x", agent_type="a", status="skipped"))
    metrics = metrics_of(tasks)
    assert (metrics.total, metrics.work, metrics.speed_up) == (21.0, 40.0, 40 / 21)
    assert (metrics.wait_p50, metrics.wait_p95, metrics.run_p50) == (9.0, 18.0, 2.0)
    assert metrics_of([]).total == 0


async def test_metrics_of_a_run():
    async def executor(agent: str, task: Any) -> None:
        await asyncio.sleep(0.01)

    result = await executor_of(ALL, [1, 2, 3, 4], max_concurrent=2).execute(executor)
    assert 0 < result.metrics.run_p50 <= result.metrics.run_p95
    assert result.metrics.wait_p95 > result.metrics.run_p50 / 2, "the second pair waited for the first"
    assert 1 < result.metrics.speed_up <= 2


# ---------------------------------------------------------------- durable


async def test_a_run_goes_on_by_its_id_and_gives_what_came_of_it():
    store, calls = Shared(), []

    async def executor(agent: str, task: Any) -> Any:
        calls.append(task)
        return task

    ex = executor_of(ALL, [1, 2, 3], max_concurrent=1)
    first = await ex.execute(executor, id="r", store=store)
    assert await ex.execute(executor, id="r", store=store) == first
    assert calls == [1, 2, 3]
    assert keys(await history(store, "r")) == ["a-1", "a-2", "a-3"]
    ex.create_task("a", 4)
    with pytest.raises(RunConflict):
        await ex.execute(executor, id="r", store=store)


async def test_a_worker_that_knows_the_tasks_recovers_their_runs():
    store, calls = Shared(), []

    async def executor(agent: str, task: Any) -> Any:
        calls.append(task)
        return task

    ex = executor_of(ALL, [1, 2, 3], max_concurrent=1, name="side by side")
    await ex.execute(executor, id="r", store=store)
    calls.clear()
    async with opened(await cut(store, "r", 3)) as app:  # the first has ended
        app.register(ex, executor)
        await app.resume("r")
        assert await app.handle("r").result(10) == [1, 2, 3]
    assert calls == [2, 3]


async def test_what_cannot_be_kept_is_named_with_a_cure():
    store = Shared()
    ex = executor_of(ALL, [1, 2], name="side by side")
    result = await ex.execute(lambda agent, task: Thing(task) if task == 1 else task, store=store)
    assert (result.status, result.value) == ("partial", [None, 2])
    assert "What task 'a-1' of 'side by side' returned cannot be kept" in result.errors["a-1"]
    assert "returns=" in result.errors["a-1"]
    with pytest.raises(CodecError, match="Task 'a-1' of 'parallel' cannot be kept"):
        await executor_of(ALL, [Thing(1)]).execute(lambda agent, task: 1, store=store)


async def test_declared_types_come_back_as_what_they_are():
    store = Shared()
    ex = executor_of(
        MAJORITY, ["x", "x", "y"], key=lambda answer: answer.text, returns=Answer, max_concurrent=1
    )
    for _ in range(2):  # the second time from the history
        result = await ex.execute(lambda agent, task: Answer(task, agent), id="r", store=store)
        assert result.value == Answer("x", "a")
        assert result.results["a-2"] == Answer("x", "a")


async def test_cancelled():
    gates = Gates()
    async with opened() as app:
        running = asyncio.create_task(
            executor_of(ALL, [1, 2], max_concurrent=1).execute(gates, id="r", app=app)
        )
        await gates.until(1)
        await app.client.cancel("r", "enough")
        result = await running
    assert (result.status, statuses(result)) == ("cancelled", ["cancelled", "skipped"])


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "frist"}, "Did you mean 'first'"),
        ({"strategy": THRESHOLD}, "They go together"),
        ({"threshold": 2}, "They go together"),
        ({"strategy": THRESHOLD, "threshold": 1.5}, "threshold is 1.5"),
        ({"key": len}, "goes with MAJORITY"),
        ({"max_concurrent": 0}, "Give 1 or more"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ParallelExecutor(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": "a-1"}, "'a-1' of a task is taken"),
        ({"id": "a.refused"}, "means a note"),
        ({"priority": "hihg"}, "Did you mean 'high'"),
        ({"timeout": -1}, "timeout is -1"),
        ({"max_retries": -1}, "max_retries is -1"),
    ],
)
def test_a_task_that_cannot_be_is_refused(options, message):
    ex = executor_of(ALL, [1])
    with pytest.raises(ConfigurationError, match=message):
        ex.create_task("a", 2, **options)
    assert list(ex.tasks) == ["a-1"]


def test_strategies_by_name():
    assert ParallelExecutor(strategy="ALL").strategy is ALL
    with pytest.raises(UnknownOption):
        ParallelExecutor(strategy="most")


async def test_who_does_it_is_checked_before_it_starts():
    store = Shared()
    with pytest.raises(UnknownAgent):
        await executor_of(ALL, [1]).execute({"b": lambda task: task}, store=store)
    assert not await store.runs.find()
