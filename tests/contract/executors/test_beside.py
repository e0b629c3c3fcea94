"""Steps in processes beside effects, undoing, budgets, cancelling, updates and streams: killed in the middle of each."""

import asyncio
import os
from contextlib import suppress
from itertools import count

import pytest
from tests.contract.executors import beside
from tests.contract.executors.test_processes import is_gone, read_pid
from tests.unit.runtime.scenes import opened, status_is

from reprise import (
    Budget,
    BudgetExceeded,
    Done,
    ProcessDied,
    RunEnded,
    update,
    wait_for_signal,
    workflow,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups")
_numbers = count()


def flow_of(asked, **options):
    @workflow(name=f"beside{next(_numbers)}", **options)
    async def flow() -> object:
        return await asked()

    return flow


@pytest.fixture
def receiver(tmp_path):
    return tmp_path / "acts"


# ---------------------------------------------------------------- effects


async def test_an_effect_whose_process_died_is_asked_for_and_not_done_again(receiver):
    async with opened(processes=1) as app:
        assert await app.run(flow_of(lambda: beside.found(receiver))) == -1
    assert len(beside.acts(receiver)) == 1
    assert beside.acts(receiver.with_suffix(".asked")) == beside.acts(receiver)


async def test_one_whose_process_died_before_it_acted_is_done(receiver):
    async with opened(processes=1) as app:
        assert await app.run(flow_of(lambda: beside.died_before(receiver))) == 1
    assert len(beside.acts(receiver)) == 1


async def test_one_with_a_key_is_told_the_same_key_from_another_process(receiver):
    async with opened(processes=1) as app:
        assert await app.run(flow_of(lambda: beside.keyed(receiver))) == 2
    first, second = beside.acts(receiver)
    assert first == second


async def test_one_without_anything_waits_for_a_person(receiver):
    async with opened(processes=1) as app:
        handle = await app.start(flow_of(lambda: beside.bare(receiver)), id="one")
        row = await status_is(app, "one", "needs_attention")
        assert "SIGKILL" in row.error or "SIGKILL" in row.warning
        (effect,) = await app.client.effects("one")
        await app.client.resolve_effect("one", effect.key, Done(3))
        assert await handle.result(10) == 3
    assert len(beside.acts(receiver)) == 1


async def test_a_cancelled_one_is_killed_before_it_is_undone(receiver):
    async with opened(processes=1) as app:
        handle = await app.start(flow_of(lambda: beside.lends_for_long(str(receiver))), id="one")
        pid = await read_pid(receiver.with_suffix(".pid"))
        await handle.cancel()
        assert (await handle.finished(30)).status == "cancelled"
        assert is_gone(pid)
    assert receiver.with_suffix(".undone").read_text() == "None 7\n"


# ---------------------------------------------------------------- budgets


async def test_what_died_in_a_process_is_paid_and_no_attempt_beyond_the_budget_is_begun(receiver):
    async with opened(processes=1) as app:
        with pytest.raises((BudgetExceeded, ProcessDied)) as caught:
            await app.run(
                flow_of(lambda: beside.spends_and_dies(receiver)), budget=Budget(tokens=30), id="one"
            )
        spent = (await app.client.spent("one")).taken
    assert isinstance(caught.value, BudgetExceeded)
    assert (len(beside.acts(receiver)), spent.tokens, spent.steps) == (2, 24, 2)


async def test_a_cancelled_call_in_a_process_gives_back_no_more_than_it_may(receiver):
    async def asked():
        busy = asyncio.create_task(beside.spends_for_long(receiver))
        await wait_for_signal("enough")
        busy.cancel()
        await asyncio.wait([busy])
        done = 0
        with suppress(BudgetExceeded):
            for n in range(5):
                await beside.spends(n)
                done += 1
        return done

    async with opened(processes=1) as app:
        handle = await app.start(flow_of(asked), budget=Budget(tokens=25), id="one")
        pid = await read_pid(receiver.with_suffix(".pid"))
        await handle.signal("enough")
        assert await handle.result(30) == 2
        assert is_gone(pid)
        assert (await app.client.spent("one")).taken.tokens == 10 + 5 + 5


# ---------------------------------------------------------------- updates, cancelling


async def test_an_update_has_a_step_in_a_process(receiver):
    @workflow
    async def entity() -> int:
        total = 0

        @update
        async def add(n: int) -> int:
            nonlocal total
            total += await beside.takes_its_time(receiver, n)
            return total

        await wait_for_signal("end")
        return total

    async with opened(processes=2) as app:
        handle = await app.start(entity, id="one")
        receiver.touch()
        assert await handle.update("add", 3) == 3
        receiver.unlink()
        receiver.with_suffix(".pid").unlink()
        caller = asyncio.create_task(handle.update("add", 4))
        pid = await read_pid(receiver.with_suffix(".pid"))
        await handle.cancel()
        with pytest.raises(RunEnded, match="before"):
            await caller
        assert (await handle.finished(30)).status == "cancelled"
        assert is_gone(pid)


# ---------------------------------------------------------------- streams


async def test_what_a_process_wrote_before_it_died_is_void(receiver):
    async with opened(processes=1) as app:
        handle = await app.start(flow_of(lambda: beside.speaks_and_dies(receiver)), id="one")
        assert await handle.result(30) == 4
        chunks = [(c.value, c.restarts) async for c in handle.stream("words", follow=False)]
    void = chunks.index((None, True))
    assert chunks[:void] == [(0, False), (1, False)]
    assert chunks[void + 1 :] == [(n, False) for n in range(4)]
