"""Checking before a deploy: which runs do not go on with new code, and both sides of each disagreement."""

import asyncio
from contextvars import ContextVar
from pathlib import Path

import pytest
from tests.unit.runtime.scenes import Shared, opened, recorded, status_is

from reprise import (
    ConfigurationError,
    Fit,
    QueryError,
    Undo,
    check_runs,
    deprecate_patch,
    patched,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import Kind
from reprise.runtime.workflow import Workflow

ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()


@step
async def do(what: str) -> str:
    ran.append(what)
    return what


@step
async def pack(what: str) -> str:
    ran.append(what)
    return what


@workflow
async def order(n: int) -> str:
    await do("reserve")
    await wait_for_signal("paid")
    await do("ship")
    return await wait_for_signal("end")


def named(name: str):
    """Make a function another version of the workflow of that name."""
    return workflow(name=name)


async def in_flight(count: int = 1, flow: Workflow = order, *signals: str) -> Shared:
    """Return a store in which runs r-0, r-1 … of a workflow wait for their next signal."""
    store = Shared()
    async with opened(store) as app:
        for n in range(count):
            await app.start(flow, n, id=f"r-{n}")
            for name in signals:
                await app.client.signal(f"r-{n}", name)
            await recorded(app, f"r-{n}", Kind.STEP_COMPLETED, 1 + len(signals))
    ran.clear()
    return store


async def only_misfit(store: Shared, *flows: Workflow):
    checked = await check_runs(store, flows)
    ((misfit, found),) = checked.misfits.items()
    return misfit, found


async def test_runs_of_the_same_code_go_on_and_nothing_is_done_or_written():
    store = await in_flight(3)
    end = await store.log.end()
    checked = await check_runs(store, [order])
    assert (checked.ok, checked.counts, checked.records) == (True, {"compatible": 3}, 3)
    assert ran == []
    assert await store.log.end() == end


async def test_a_call_that_was_put_in_needs_a_patch_and_both_sides_are_named():
    @named("order")
    async def changed(n: int) -> str:
        await do("reserve")
        await wait_for_signal("paid")
        await pack("parcel")  # new
        await do("ship")
        return await wait_for_signal("end")

    store = await in_flight(2, order, "paid")
    misfit, found = await only_misfit(store, changed)
    assert misfit.fit is Fit.NEEDS_PATCH
    assert misfit.recorded == ":2.do completed"
    assert misfit.asks == (":2.pack",)
    assert misfit.source == 'await pack("parcel")  # new'
    assert Path(misfit.file) == Path(__file__)
    assert misfit.reason == "the code calls 'pack' where the log has 'do'"
    assert [(one.run, one.step, one.of, one.version) for one in found] == [
        (f"r-{n}", 3, 3, found[0].version) for n in range(2)
    ]
    (record,) = await store.log.read("run/r-0", found[0].version - 1, 1)
    assert (record.key, record.at) == (":2.do", found[0].at)


async def test_a_call_that_was_taken_out_diverges_where_the_code_waits_instead():
    @named("order")
    async def changed(n: int) -> str:
        await do("reserve")
        await wait_for_signal("paid")
        return await wait_for_signal("end")

    misfit, _ = await only_misfit(await in_flight(1, order, "paid"), changed)
    assert (misfit.fit, misfit.recorded, misfit.asks) == (Fit.DIVERGES, ":2.do completed", ())
    assert misfit.source == 'return await wait_for_signal("end")'


async def test_other_arguments_diverge_at_the_call():
    @named("order")
    async def changed(n: int) -> str:
        await do("reserve all")
        return await wait_for_signal("end")

    misfit, _ = await only_misfit(await in_flight(), changed)
    assert (misfit.fit, misfit.source) == (Fit.DIVERGES, 'await do("reserve all")')
    assert "other arguments" in misfit.reason


async def test_what_another_branch_waits_for_is_not_taken_for_the_cause():
    @workflow(name="two")
    async def before(n: int) -> None:
        async def branch() -> None:
            await do("branch")
            await wait_for_signal("end")

        await asyncio.gather(branch(), other())

    async def other() -> None:
        await wait_for_signal("go")
        await do("late")

    async def other_without() -> None:
        await wait_for_signal("go")

    @workflow(name="two")
    async def after(n: int) -> None:
        async def branch() -> None:
            await wait_for_signal("end")

        task = asyncio.create_task(branch())
        await asyncio.gather(pack("new"), other_without())
        await task

    misfit, _ = await only_misfit(await in_flight(1, before), after)
    assert (misfit.fit, misfit.asks) == (Fit.DIVERGES, ())


async def test_a_new_error_of_the_body_is_found_with_its_line():
    @named("order")
    async def broken(n: int) -> str:
        await do("reserve")
        return [][n]

    misfit, (found,) = await only_misfit(await in_flight(), broken)
    assert (misfit.fit, misfit.source) == (Fit.FAILS, "return [][n]")
    assert misfit.reason.startswith("IndexError")
    assert found.step == 1


async def test_what_only_a_step_may_do_is_found():
    @named("order")
    async def wrong(n: int) -> str:
        await do("reserve")
        await asyncio.get_running_loop().run_in_executor(None, print)
        return ""

    misfit, _ = await only_misfit(await in_flight(), wrong)
    assert misfit.fit is Fit.FAILS
    assert "run_in_executor" in misfit.reason


async def test_a_body_that_would_wait_for_ever_is_found():
    @named("order")
    async def stuck(n: int) -> str:
        await do("reserve")
        await asyncio.Event().wait()
        return ""

    misfit, _ = await only_misfit(await in_flight(), stuck)
    assert misfit.fit is Fit.FAILS
    assert "waits for something that is no step" in misfit.reason


async def test_no_such_workflow_and_an_input_that_does_not_fit_are_stranded():
    @named("order")
    async def other_input(n: int, more: str) -> str:
        return more

    store = await in_flight(2)
    misfit, found = await only_misfit(store, named("orders")(order.function))
    assert (misfit.fit, len(found)) == (Fit.STRANDED, 2)
    assert "no such workflow: 'order'" in misfit.reason
    assert "'orders'" in misfit.hint
    misfit, _ = await only_misfit(store, other_input)
    assert misfit.fit is Fit.STRANDED
    assert "more" in misfit.reason


async def test_equal_misfits_are_one_and_name_the_first_runs():
    @named("order")
    async def changed(n: int) -> str:
        if n % 2:
            await pack("first")
        await do("reserve")
        return await wait_for_signal("end")

    store = await in_flight(50)
    checked = await check_runs(store, [changed])
    ((misfit, found),) = checked.misfits.items()
    assert checked.counts == {"compatible": 25, "needs_patch": 25}
    assert checked.affected == {misfit: 25}
    assert [one.run for one in found] == [f"r-{n}" for n in range(1, 41, 2)]


async def test_runs_that_have_ended_are_left_out_and_a_query_leaves_out_more():
    store = await in_flight(3)
    async with opened(store, workflows=[order]) as app:
        for name in ("paid", "end"):
            await app.client.signal("r-0", name, "x")
        await (await app.resume("r-0")).result(5)
    assert (await check_runs(store, [])).counts == {"stranded": 2}
    assert (await check_runs(store, [], "id:r-1")).counts == {"stranded": 1}
    with pytest.raises(QueryError):
        await check_runs(store, [], "nonsense:")


async def test_two_workflows_of_one_name_are_an_error():
    store = await in_flight()
    with pytest.raises(ConfigurationError, match="Two workflows"):
        await check_runs(store, [order, named("order")(do.function)])


async def test_who_watches_is_told_how_far_it_is():
    told: list[tuple[str, int, int]] = []
    await check_runs(await in_flight(3), [order], report=lambda *far: told.append(far))
    assert told == [("runs", n, 3) for n in (1, 2, 3)]


async def test_a_run_that_undoes_what_it_did_is_not_suspected():
    async def take_back(undo: Undo) -> None:
        await hold.wait()

    @step(undo=take_back)
    async def book(n: int) -> int:
        return n

    @workflow
    async def trip(n: int) -> None:
        await book(n)
        raise ValueError("no seat")

    hold = asyncio.Event()
    store = Shared()
    async with opened(store) as app:
        await app.start(trip, 1, id="r")
        await status_is(app, "r", "compensating")
        assert (await check_runs(store, [trip])).ok
        hold.set()


async def test_variables_enter_the_body_as_they_do_on_a_worker():
    tenant: ContextVar[str] = ContextVar("tenant")

    @workflow
    async def flow(n: int) -> None:
        await do(tenant.get())
        await wait_for_signal("end")

    store = Shared()
    async with opened(store, variables={"tenant": tenant}) as app:
        tenant.set("shop")
        await app.start(flow, 1, id="r")
        await recorded(app, "r", Kind.STEP_COMPLETED)
    assert not (await check_runs(store, [flow])).ok
    assert (await check_runs(store, [flow], variables={"tenant": tenant})).ok


def with_patch(how: str) -> Workflow:
    @named("order")
    async def changed(n: int) -> str:
        await do("reserve")
        await wait_for_signal("paid")
        if how == "deprecated":
            deprecate_patch("parcel")
        if how in ("deprecated", "forgotten") or patched("parcel"):
            await pack("parcel")
        await do("ship")
        return await wait_for_signal("end")

    return changed


async def test_a_patch_lets_all_runs_go_on():
    for signals in ((), ("paid",)):
        assert (await check_runs(await in_flight(2, order, *signals), [with_patch("patched")])).ok


async def test_the_old_way_must_stay_while_a_run_goes_it():
    misfit, _ = await only_misfit(await in_flight(1, order, "paid"), with_patch("deprecated"))
    assert misfit.fit is Fit.DIVERGES
    assert misfit.reason.startswith("A run went past the patch 'parcel' without it")
    assert "if not patched('parcel')" in misfit.hint


async def test_the_call_must_stay_while_a_run_has_the_patch():
    store = await in_flight(1, with_patch("patched"), "paid")
    misfit, _ = await only_misfit(store, with_patch("forgotten"))
    assert misfit.reason == "the log has the patch 'parcel', which the code does not ask for"
    assert (await check_runs(store, [with_patch("deprecated")])).ok


@pytest.mark.parametrize(("build", "ok"), [("v2", True), ("v3", False)])
async def test_a_patch_is_judged_as_the_build_that_is_to_be_deployed(build, ok):
    """Who had the run before decides about the way, so the name of the build is asked for."""

    @named("order")
    async def changed(n: int) -> str:
        if not patched("all"):
            await pack("another")
        await do("reserve")
        return await wait_for_signal("end")

    store = Shared()
    async with opened(store, build="v2") as app:
        await app.start(order, 1, id="r")
        await recorded(app, "r", Kind.STEP_COMPLETED)
    assert (await check_runs(store, [changed], build=build)).ok is ok


async def test_an_effect_that_may_have_happened_must_be_called():
    """Else the code might call it at another place, under another key."""

    @step(effect="charge")
    async def charge() -> int:
        raise ConnectionError("the line went dead")

    @workflow(name="order")
    async def pays(n: int) -> int:
        return await charge()

    store = Shared()
    async with opened(store) as app:
        await app.start(pays, 1, id="r")
        await status_is(app, "r", "needs_attention")
    assert (await check_runs(store, [pays])).ok
    misfit, (found,) = await only_misfit(store, order)
    assert (misfit.fit, misfit.recorded) == (Fit.NEEDS_PATCH, ":1.charge may have happened")
    assert (misfit.asks, found.step, found.of) == ((":1.do",), 0, 0)
