"""The orchestrator as its users see it: who is asked what, in which order, what comes of failures, and how it ends."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from tests.unit.runtime.scenes import Shared, history, opened, recorded, status_is, until

from reprise import (
    PlanFailed,
    PlanResult,
    Retry,
    RetryRefused,
    RunCancelled,
    RunConflict,
    StepTimeout,
    UnknownAgent,
    UnknownWorkflow,
    WorkflowOrchestrator,
    WorkflowStep,
    workflow,
)
from reprise.kernel.events import Kind
from reprise.kernel.settings import WorkflowSettings


def plan_of(*steps: WorkflowStep, name: str = "plan", **options: Any) -> WorkflowOrchestrator:
    made = WorkflowOrchestrator(name, **options)
    for each in steps:
        made.add_step(each)
    return made


def do(name: str, *dependencies: str, task: Any = "", **options: Any) -> WorkflowStep:
    options = {"agent_type": "worker", "retry": Retry(1)} | options
    if options.keys() & {"tool", "workflow", "function"}:
        del options["agent_type"]
    if options.keys() & {"wait_for", "ask", "sleep", "switch"}:
        del options["agent_type"], options["retry"]
    return WorkflowStep(name=name, task=task, dependencies=dependencies, **options)


class Agent:
    """Does what it is told, fails where it is told, and remembers."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.calls: list[str] = []
        self.contexts: dict[str, dict[str, Any]] = {}
        self.at_once = self.most = 0

    async def __call__(self, agent_type: str, task: Any, context: dict[str, Any]) -> Any:
        name = context["step"] + (f"[{context['index']}]" if "index" in context else "")
        self.calls.append(name)
        self.contexts[name] = context
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        if name in self.broken:
            raise ValueError(f"{name} is broken")
        return task or f"{name} done"


def statuses(result: PlanResult) -> dict[str, str]:
    return {name: step.status for name, step in result.steps.items()}


# ---------------------------------------------------------------- order


async def test_a_step_is_told_the_results_of_its_dependencies_the_inputs_and_the_shared_context():
    agent = Agent()
    plan = plan_of(do("a"), do("b", "a", task="see ${steps.a.result} of ${inputs.shop}"))
    result = await plan.execute(agent, inputs={"shop": "x"}, context={"lang": "en"})
    assert result.status == "completed"
    assert result.results == {"a": "a done", "b": "see a done of x"}
    assert agent.contexts["b"] == {
        "lang": "en", "inputs": {"shop": "x"}, "results": {"a": "a done"}, "step": "b", "attempt": 1,
    }  # fmt: skip
    assert result.workflow_id == result.run_id == result.execution_id
    assert result.output == {"b": "see a done of x"}
    assert result.metrics.planned == result.metrics.completed == 2


async def test_steps_begin_when_their_own_dependencies_have_ended_not_level_by_level():
    gate = asyncio.Event()

    async def agent(agent_type: str, task: Any, context: dict[str, Any]) -> None:
        if context["step"] == "slow":
            await gate.wait()
        if context["step"] == "below quick":
            gate.set()

    plan = plan_of(do("slow"), do("quick"), do("below quick", "quick"), do("last", "slow", "below quick"))
    async with asyncio.timeout(5):
        assert (await plan.execute(agent)).status == "completed"


async def test_priority_decides_who_begins_and_no_more_than_max_concurrent_work_at_once():
    agent = Agent()
    urgent = {"low": 1, "critical": 4, "normal": 2, "high": 3}
    await plan_of(*[do(name, priority=p) for name, p in urgent.items()], max_concurrent=1).execute(agent)
    assert agent.calls == ["critical", "high", "normal", "low"]
    assert agent.most == 1
    agent = Agent()
    await plan_of(*[do(f"s{n}") for n in range(12)], max_concurrent=4).execute(agent)
    assert agent.most == 4


async def test_steps_that_only_wait_take_no_room():
    plan = plan_of(do("pause", sleep=0.2), do("word", wait_for="go"), do("a"), do("b", "a"), max_concurrent=1)
    async with opened() as app:
        agent = Agent()
        running = asyncio.create_task(plan.execute(agent, app=app, id="r"))
        await until(lambda: agent.calls == ["a", "b"])
        await app.client.signal("r", "go", {"by": "ann"})
        result = await running
    assert result.results["word"] == {"by": "ann"}
    assert result.results["pause"] is None


# ---------------------------------------------------------------- skipped and failed


async def test_a_condition_that_is_false_skips_and_dependents_run_unless_they_read_the_result():
    plan = plan_of(
        do("a"),
        do("called", "a", condition=lambda context: context["results"]["a"] == "other"),
        do("written", "a", condition="steps.a.result == 'other'"),
        do("below", "called"),
        do("reader", "written", task="${steps.written.result}"),
        do("asker", "called", condition="steps.called.status == 'skipped'"),
    )
    result = await plan.execute(Agent())
    assert result.status == "completed"
    assert result.skipped == {
        "called": "its condition is false",
        "written": "its condition is false",
        "reader": "it needs the result of written, which was skipped",
    }
    assert statuses(result)["below"] == statuses(result)["asker"] == "completed"


async def test_a_condition_that_raises_is_a_failure_of_its_step():
    result = await plan_of(do("a", condition="inputs.missing > 3"), do("b", "a")).execute(Agent())
    assert result.status == "failed"
    assert list(result.errors) == ["a"]
    assert result.skipped == {"b": "a failed"}


async def test_below_a_failed_step_all_is_skipped_with_the_cause_and_the_rest_is_done():
    plan = plan_of(do("bad"), do("below", "bad"), do("lower", "below"), do("beside"), do("last", "beside"))
    result = await plan.execute(Agent("bad"))
    assert result.status == "failed"
    assert isinstance(result.errors["bad"], ValueError)
    assert list(result.errors) == ["bad"]
    assert result.skipped == {"below": "bad failed", "lower": "bad failed"}
    assert result.results == {"beside": "beside done", "last": "last done"}
    with pytest.raises(PlanFailed, match="failed at step bad: ValueError: bad is broken") as caught:
        result.raise_for_status()
    assert caught.value.failed == ["bad"]


async def test_what_is_passed_over_makes_the_result_partial():
    plan = plan_of(
        do("skipped", on_error="skip"),
        do("passed", on_error="continue"),
        do("below", "skipped", "passed"),
        do("reader", "skipped", task="${steps.skipped.result}"),
        do("null", "passed", task={"is": "${steps.passed.result}"}),
    )
    result = await plan.execute(Agent("skipped", "passed"))
    assert result.status == "partial"
    assert result.raise_for_status() is result
    assert sorted(result.errors) == ["passed", "skipped"]
    assert list(result.skipped) == ["reader"]
    assert result.results["null"] == {"is": None}
    assert "below" in result.results


async def test_a_fallback_takes_the_place_of_a_step_that_failed_and_is_skipped_otherwise():
    plan = plan_of(
        do("first", on_error="fallback", fallback="second"),
        do("second", task="second best"),
        do("last", "first", task="${steps.first.result}"),
    )
    replaced = await plan.execute(Agent("first"))
    assert replaced.status == "partial"
    assert replaced.results == {"first": "second best", "second": "second best", "last": "second best"}
    unneeded = await plan.execute(Agent())
    assert unneeded.status == "completed"
    assert list(unneeded.skipped) == ["second"]
    both = await plan.execute(Agent("first", "second"))
    assert both.status == "failed"
    assert sorted(both.errors) == ["first", "second"]
    assert both.skipped == {"last": "first failed"}


@pytest.mark.parametrize(
    ("broken", "calls"),
    [
        ((), ["a", "b"]),
        (("a",), ["a", "spare", "b"]),
        (("b",), ["a", "b", "spare"]),
        (("a", "b"), ["a", "spare", "b"]),
    ],
)
async def test_a_fallback_of_a_step_and_of_one_below_it_is_done_once_for_the_first_that_fails(broken, calls):
    plan = plan_of(
        do("a", on_error="fallback", fallback="spare"),
        do("b", "a", on_error="fallback", fallback="spare"),
        do("spare"),
    )
    agent = Agent(*broken)
    result = await plan.execute(agent)
    assert result.status == ("partial" if broken else "completed")
    assert agent.calls == calls
    results = {name: f"{'spare' if name in broken else name} done" for name in ("a", "b")}
    assert {name: result.results[name] for name in results} == results


async def test_compensate_begins_nothing_more_and_undoes_in_reverse_order():
    undone: list[tuple[str, Any, Any]] = []

    async def agent(agent_type: str, task: Any, context: dict[str, Any]) -> str:
        if agent_type == "undoer":
            undone.append((context["step"], task, context["result"]))
            return ""
        if context["step"] == "ship":
            raise ValueError("no lorry")
        return f"{context['step']} done"

    plan = plan_of(
        do("later", priority=0),
        do("reserve", compensation={"agent": "undoer", "task": "release ${steps.reserve.result}"}),
        do("charge", "reserve", compensation={"agent": "undoer", "task": "refund"}),
        do("ship", "charge", on_error="compensate"),
        max_concurrent=1,
    )
    result = await plan.execute(agent)
    assert result.status == "failed"
    assert result.skipped == {"later": "ship failed"}
    assert undone == [
        ("charge", "refund", "charge done"),
        ("reserve", "release reserve done", "reserve done"),
    ]


async def test_nothing_is_undone_once_a_step_from_which_there_is_no_way_back_is_done():
    undone: list[str] = []

    async def agent(agent_type: str, task: Any, context: dict[str, Any]) -> str:
        if task == "undo":
            undone.append(context["step"])
        elif context["step"] == "bad":
            raise ValueError("bad")
        return ""

    pivot = do("pivot", "reserve", irreversible=True)
    plan = plan_of(do("reserve", compensation="undo"), pivot, do("bad", "pivot"))
    assert (await plan.execute(agent)).status == "failed"
    assert undone == []
    early = plan_of(
        do("reserve", compensation="undo"), do("bad", "reserve"), do("pivot", "bad", irreversible=True)
    )
    assert (await early.execute(agent)).status == "failed"
    assert undone == ["reserve"]


async def test_whole_timeout_stops_what_goes_on_and_says_what_was_not_reached():
    gate = asyncio.Event()

    async def agent(agent_type: str, task: Any, context: dict[str, Any]) -> None:
        if context["step"] == "slow":
            await gate.wait()

    plan = plan_of(
        do("quick"), do("slow", "quick"), do("wait", wait_for="never"), do("last", "slow"), timeout=0.1
    )
    async with asyncio.timeout(5):
        result = await plan.execute(agent)
    assert result.status == "failed"
    assert statuses(result) == {
        "quick": "completed",
        "slow": "cancelled",
        "wait": "failed",
        "last": "skipped",
    }
    assert "took longer than 0.1 s" in result.skipped["last"]
    assert isinstance(result.errors["wait"], StepTimeout)


async def test_a_cancelled_run_says_what_was_never_reached():
    async with opened() as app:
        running = asyncio.create_task(
            plan_of(do("a"), do("wait", "a", wait_for="x"), do("b", "wait")).execute(Agent(), app=app, id="r")
        )
        await recorded(app, "r", Kind.STEP_COMPLETED)
        await app.client.cancel("r", "enough")
        result = await running
    assert result.status == "cancelled"
    assert statuses(result) == {"a": "completed", "wait": "planned", "b": "planned"}
    with pytest.raises(RunCancelled, match="enough"):
        result.raise_for_status()


# ---------------------------------------------------------------- retries and timeouts of steps


async def test_transient_errors_are_tried_again_by_default_and_others_are_not():
    tries: list[str] = []

    def agent(agent_type: str, task: Any, context: dict[str, Any]) -> int:
        tries.append(context["step"])
        if context["attempt"] <= 3:
            raise ConnectionError("flaky") if context["step"] == "flaky" else ValueError("wrong")
        return context["attempt"]

    quick = Retry(max_retries=3, backoff=0)
    result = await plan_of(do("flaky", retry=quick), do("wrong", retry=quick)).execute(agent)
    assert result.results == {"flaky": 4}
    assert tries.count("wrong") == 1
    assert result.steps["flaky"].retries == 3 == result.metrics.retries
    default = plan_of(WorkflowStep(name="a", agent_type="w")).flow(agent)
    assert default.steps(WorkflowSettings()).of(default.planned.steps[0], default, "").retry == Retry(
        max_retries=3
    )


async def test_a_retry_with_a_function_of_its_own_is_used():
    seen: list[BaseException] = []
    retry = Retry(2, backoff=0, retry_on=lambda error: bool(seen.append(error)) or True)
    result = await plan_of(do("bad", retry=retry)).execute(Agent("bad"))
    assert result.steps["bad"].retries == 1
    assert seen


async def test_a_step_that_takes_too_long_fails():
    async def agent(agent_type: str, task: Any, context: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    result = await plan_of(do("slow", timeout=0.02)).execute(agent)
    assert isinstance(result.errors["slow"], StepTimeout)


# ---------------------------------------------------------------- kinds of steps


@dataclass
class Invoice:
    total: int


@workflow
async def billing(total: int) -> Invoice:
    if total < 0:
        raise ValueError("negative")
    return Invoice(total)


async def test_a_child_workflow_is_a_step_and_its_typed_result_is_plain():
    plan = plan_of(
        do("bill", workflow="billing", parameters={"total": "${inputs.sum}"}),
        do("mail", "bill", task="${steps.bill.result.total}"),
    )
    async with opened(workflows=[billing]) as app:
        result = await plan.execute(Agent(), app=app, inputs={"sum": 12}, id="r")
        assert result.results == {"bill": {"total": 12}, "mail": 12}
        assert (await app.client.row("r:bill")).status == "completed"
        failed = await plan.execute(Agent(), app=app, inputs={"sum": -1})
    assert isinstance(failed.errors["bill"], ValueError)


@workflow
async def endless() -> None:
    await asyncio.sleep(3600)


async def test_a_child_that_takes_too_long_is_stopped():
    plan = plan_of(do("child", workflow="endless", timeout=0.05, on_error="continue"), do("b", "child"))
    async with asyncio.timeout(20), opened(workflows=[endless]) as app:
        result = await plan.execute(Agent(), app=app, id="r")
        await status_is(app, "r:child", "cancelled")
    assert statuses(result) == {"child": "cancelled", "b": "completed"}


async def test_another_plan_is_a_child_too():
    inner = plan_of(do("twice", task="${inputs.n}"), name="inner", output="${steps.twice.result}")
    plan = plan_of(do("sub", workflow="inner", parameters={"n": 4}))
    unknown = plan_of(do("sub", workflow="iner", on_error="skip"), name="unknown")
    async with opened() as app:
        app.register(inner, Agent())
        assert (await plan.execute(Agent(), app=app)).results == {"sub": 4}
        with pytest.raises(UnknownWorkflow, match="Did you mean 'inner'"):
            await unknown.execute(Agent(), app=app)
        assert await app.find("workflow:unknown") == []


async def test_functions_and_tools_are_called_with_parameters():
    def add(a: int, b: int) -> int:
        return a + b

    async def later(text: str) -> str:
        return text.upper()

    plan = plan_of(
        do("sum", function=add, parameters={"a": 1, "b": "${inputs.b}"}),
        do("loud", "sum", function=later, parameters={"text": "n${steps.sum.result}"}),
        do("tool", tool="echo", parameters={"x": 1}),
    )
    result = await plan.execute({"echo": lambda task: {"got": task}}, inputs={"b": 2})
    assert result.results == {"sum": 3, "loud": "N3", "tool": {"got": {"x": 1}}}


async def test_a_switch_takes_the_first_branch_that_holds():
    plan = plan_of(
        do("route", switch=({"when": "inputs.n > 10", "then": ["big"]}, {"else": ["small", "tiny"]})),
        do("big"),
        do("small"),
        do("tiny", "small"),
        do("join", "big", "tiny"),
    )
    few = await plan.execute(Agent(), inputs={"n": 3})
    assert few.skipped == {"big": "route took another branch"}
    assert "join" in few.results
    many = await plan.execute(Agent(), inputs={"n": 30})
    assert sorted(many.skipped) == ["small", "tiny"]
    assert many.results["route"] == ["big"]


async def test_a_person_is_asked_with_a_schema():
    form = {"title": "Pay ${inputs.sum}?", "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}},
            "required": ["ok"]}, "to": "boss"}  # fmt: skip
    plan = plan_of(do("approve", ask=form), do("pay", "approve", condition="steps.approve.result.ok"))
    async with opened() as app:
        running = asyncio.create_task(plan.execute(Agent(), app=app, id="r", inputs={"sum": 5}))
        async with asyncio.timeout(5):
            await until(lambda: "r" in app.engine.executions)
            while not (open := await app.client.questions("r")):
                await app.store.signal.wait("talk/r", 0.01)
        assert (open[0].text, open[0].to) == ("Pay 5?", "boss")
        with pytest.raises(Exception, match="ok"):
            await app.client.answer("r", {"no": 1})
        await app.client.answer("r", {"ok": True})
        result = await running
    assert result.results == {"approve": {"ok": True}, "pay": "pay done"}


async def test_a_wait_that_takes_too_long_fails_its_step():
    result = await plan_of(
        do("word", wait_for="go", timeout=0.02, on_error="continue"), do("b", "word")
    ).execute(Agent())
    assert result.status == "partial"
    assert isinstance(result.errors["word"], TimeoutError)


# ---------------------------------------------------------------- where it runs


async def test_the_same_id_gives_what_there_is_and_another_input_is_refused():
    agent = Agent()
    plan = plan_of(do("a"))
    async with opened() as app:
        first = await plan.execute(agent, app=app, id="r")
        again = await plan.execute(agent, app=app, id="r")
        assert agent.calls == ["a"]
        assert again.results == first.results
        with pytest.raises(RunConflict):
            await plan.execute(agent, app=app, id="r", inputs={"x": 1})


async def test_it_goes_on_in_another_app_that_knows_it():
    store, agent = Shared(), Agent()
    plan = plan_of(do("a"), do("wait", "a", wait_for="go"), do("b", "wait"))
    async with opened(store) as app:
        running = asyncio.create_task(plan.execute(agent, app=app, id="r"))
        await recorded(app, "r", Kind.STEP_COMPLETED)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    async with opened(store) as app:
        app.register(plan, agent)
        await app.client.signal("r", "go", 1)
        await status_is(app, "r", "completed")
    assert agent.calls == ["a", "b"]


async def test_in_the_body_of_a_workflow_it_is_a_child_run_whose_result_is_recorded():
    plan = plan_of(do("a"), do("bad", "a", on_error="continue"), name="inner")
    failing = plan_of(do("bad"), name="failing")

    @workflow
    async def outer() -> list[str]:
        good = await plan.execute(Agent("bad"))
        bad = await failing.execute(Agent("bad"), id="own-key")
        assert isinstance(bad.errors["bad"], ValueError)
        return [good.status, good.results["a"], bad.status, bad.run_id]

    async with opened() as app:
        assert await app.run(outer, id="o") == ["partial", "a done", "failed", "o:own-key"]
    records = await history(app.store, "o")
    assert [r.key for r in records if r.kind == Kind.STEP_COMPLETED][-1] == "own-key/outcome"


async def test_an_unknown_agent_is_an_error_before_anything_is_started():
    async with opened() as app:
        with pytest.raises(UnknownAgent, match="Did you mean 'coder'"):
            await plan_of(do("a", agent_type="codr")).execute({"coder": print}, app=app)
        assert await app.find() == []


async def test_in_memory_results_may_be_of_any_type_and_in_a_store_the_error_says_which_step():
    thing = object()

    def agent(agent_type: str, task: Any, context: dict[str, Any]) -> Any:
        return thing if context["step"] == "a" else context["results"]["a"] is thing

    plan = plan_of(do("a"), do("b", "a"))
    result = await plan.execute(agent)
    assert result.results == {"a": thing, "b": True}
    async with opened() as app:
        durable = await plan.execute(agent, app=app)
    assert "What step a returned cannot be kept" in str(durable.errors["a"])


async def test_progress_is_told_step_by_step_and_a_callback_that_fails_harms_nothing(caplog):
    told: list[str] = []

    async def watch(news: Any) -> None:
        told.append(f"{news.step} {news.status} {news.done}")
        raise RuntimeError("watcher")

    result = await plan_of(do("a"), do("bad", "a")).execute(Agent("bad"), on_progress=watch)
    assert told == ["a completed 1", "bad failed 2"]
    assert result.status == "failed"
    assert "on_progress failed for step a" in caplog.text


async def test_writes_enter_the_shared_context_of_those_that_begin_later():
    agent = Agent()
    plan = plan_of(do("a", task={"lang": "de", "other": 1}, writes=("lang",)), do("b", "a"))
    result = await plan.execute(agent, context={"lang": "en", "keep": 1})
    assert agent.contexts["b"]["lang"] == "de"
    assert "other" not in agent.contexts["b"]
    assert (
        result.context
        == {"lang": "de", "keep": 1}
        == {key: agent.contexts["b"][key] for key in ("lang", "keep")}
    )
    assert agent.contexts["a"]["lang"] == "en"


# ---------------------------------------------------------------- tried again


async def test_a_retry_of_the_run_does_again_what_failed_and_what_was_skipped_because_of_it():
    agent = Agent("bad", "soft")
    plan = plan_of(
        do("a"), do("bad", "a"), do("below", "bad"), do("soft", "a", on_error="continue"), do("after soft", "soft"),
        do("never", "a", condition="false"),
    )  # fmt: skip
    async with opened() as app:
        failed = await plan.execute(agent, app=app, id="r")
        assert failed.status == "failed"
        agent.broken.clear()
        agent.calls.clear()
        handle = await app.retry("r")
        assert (await handle.finished(5)).status == "completed"
    assert agent.calls == ["bad", "below"]


async def test_a_plan_whose_time_was_over_can_only_begin_anew():
    plan = plan_of(do("wait", wait_for="never"), timeout=0.02)
    async with opened() as app:
        assert (await plan.execute(Agent(), app=app, id="r")).status == "failed"
        with pytest.raises(RetryRefused, match="the plan took longer than"):
            await app.retry("r")
        assert (await app.retry("r", fresh=True)).id == "r~2"


async def test_a_retry_finds_what_was_done_behind_a_failure_that_took_the_only_place():
    agent = Agent("bad")
    async with opened() as app:
        await plan_of(do("bad"), do("b"), do("c", "b"), max_concurrent=1).execute(agent, app=app, id="r")
        agent.broken.clear()
        agent.calls.clear()
        assert await (await app.retry("r")).result(5) == {"bad": "bad done", "c": "c done"}
    assert agent.calls == ["bad"]


async def test_a_retry_asks_a_fallback_again_that_failed_with_its_step():
    agent = Agent("first", "second")
    plan = plan_of(do("first", on_error="fallback", fallback="second"), do("second", on_error="continue"))
    async with opened() as app:
        assert (await plan.execute(agent, app=app, id="r")).status == "failed"
        agent.broken.clear()
        agent.calls.clear()
        assert await (await app.retry("r")).result(5) == {"first": "first done"}
    assert agent.calls == ["first"]


async def test_a_retry_does_not_know_whether_a_fallback_was_needed_by_a_step_that_was_not_done():
    agent = Agent("bad")
    plan = plan_of(do("bad"), do("user", "bad", on_error="fallback", fallback="other"), do("other"))
    async with opened() as app:
        failed = await plan.execute(agent, app=app, id="r")
        assert failed.skipped == {"user": "bad failed", "other": "user was not done"}
        agent.broken.clear()
        assert await (await app.retry("r")).result(5) == {"user": "user done"}
