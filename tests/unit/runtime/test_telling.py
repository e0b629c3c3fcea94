"""What many runs are told at once, and what one in memory waits for, as people are shown it."""

import asyncio

import pytest
from tests.unit.runtime.scenes import opened, status_is, until

from reprise import Reprise, ask, step, wait_for_signal, workflow
from reprise.kernel.events import Kind
from reprise.runtime.batch import Verb, tell
from reprise.runtime.waits import Waits, waits_of


@step
async def endless(name: str) -> None:
    await asyncio.Event().wait()


@workflow
async def waits() -> str:
    return await wait_for_signal("go", str)


@workflow
async def parent() -> None:
    await asyncio.gather(
        endless("a"), endless("b"), waits(), wait_for_signal("stop"), ask(bool, "Go on?", to="Ada")
    )


@workflow
async def sleeps() -> None:
    await asyncio.sleep(3600)


async def told(app: Reprise, verb: Verb, *runs: str, **how: object) -> list[str]:
    return [
        str(one.error)
        for some in [each async for each in tell(app.client, verb, runs, **how)]
        for one in some
    ]


async def test_what_a_run_waits_for():
    async with opened(redact=lambda text: text.replace("Ada", "***")) as app:
        for flow in (parent, sleeps):
            await app.start(flow, id=flow.name)
            await until(lambda flow=flow: flow.name in app.engine.loaded.idle or flow is parent)
        execution = await until(lambda: (e := app.engine.executions["parent"]).talk and e.in_flight and e)
        await until(lambda: waits_of(execution).questions)
        assert waits_of(execution) == Waits({"endless": 2, "waits": 1}, (), ("stop",), ("***: Go on?",))
        due = await app.client.row("sleeps")
        [timer] = waits_of(app.engine.executions["sleeps"]).timers
        assert timer >= due.created_at + 3_600_000_000


async def test_who_follows_a_history_gets_each_record_once():
    async with opened() as app:
        handle = await app.start(waits, id="r")
        seen = []
        async for record in app.client.events("r", follow=True):
            seen.append(record.version)
            if record.kind == Kind.RUN_OWNED:
                await handle.signal("go", "x")
        assert seen == list(range(1, len(seen) + 1))


@pytest.mark.parametrize(("verb", "status"), [(Verb.PAUSE, "paused"), (Verb.CANCEL, "cancelled")])
async def test_runs_do_what_they_are_told(verb, status):
    async with opened() as app:
        for run in ("a", "b"):
            await app.start(waits, id=run)
        errors = await told(app, verb, "a", "none", "b", reason="enough")
        assert [error == "None" for error in errors] == [True, False, True]
        for run in ("a", "b"):
            await status_is(app, run, status)


async def test_runs_are_pinned_and_unpinned():
    async with opened(build="v1") as app:
        await app.start(waits, id="a")
        await told(app, Verb.PIN, "a")
        assert (await app.client.row("a")).pinned == "v1"
        errors = await told(app, Verb.UNPIN, "a", "none")
        assert (await app.client.row("a")).pinned == ""
        assert "none" in errors[1]
