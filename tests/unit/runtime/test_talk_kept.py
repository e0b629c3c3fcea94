"""What a run said goes with the generations that said it, but for the latest; nothing is asked, or done, twice by that."""

import asyncio

import pytest
from tests.unit.runtime.scenes import Shared, kill, opened, until

import reprise.runtime.generation
import reprise.runtime.talk
from reprise import ReplyGone, ask, continue_as, step, update, workflow
from reprise.kernel.events import Kind, talk_stream
from reprise.stores.moving import prune

EACH = 4
"""Updates of a generation."""
applied: list[int] = []


@step
async def note(n: int) -> int:
    applied.append(n)
    return n


@workflow
async def entity(count: int = 0) -> int:
    """Take updates and one answer for each generation."""
    full = asyncio.Event()
    taken = 0

    @update
    async def add(n: int) -> int:
        nonlocal count, taken
        await note(n)
        count, taken = count + 1, taken + 1
        if taken == EACH:
            full.set()
        return count

    question = asyncio.ensure_future(ask(bool, "Go on?"))
    await full.wait()
    if await question:
        continue_as(count)
    return count


@pytest.fixture(autouse=True)
def trims_at_once(monkeypatch):
    monkeypatch.setattr(reprise.runtime.generation, "WORTH", 1)
    monkeypatch.setattr(reprise.runtime.talk, "KEPT", 8)
    applied.clear()


async def lives_of(app, handle, lives):
    """Let a run live that often, and return how long what it said was after each life."""
    lengths = []
    for life in lives:
        for n in range(EACH):
            await handle.update("add", n, id=f"{life}-{n}")
        await handle.answer(True, id=f"answer-{life}")
        await until(lambda life=life: app.engine.executions["e"].generation == life + 1)
        await until(lambda: not app.engine._tasks)
        lengths.append(len(await app.store.log.read(talk_stream("e"))))
    return lengths


async def test_it_does_not_grow_with_the_life_of_the_run():
    async with opened(keep_generations=1) as app:
        handle = await app.start(entity, id="e")
        lengths = await lives_of(app, handle, range(20))
        # A life says EACH replies, asks, is answered and closes; two lives are kept, and what the next began with.
        assert max(lengths) <= 3 * (EACH + 3)
        head = await app.store.log.head(talk_stream("e"))
        assert head.version >= 20 * (EACH + 3)
        assert len(await handle.questions()) == 1
        assert len(applied) == 20 * EACH


async def test_the_latest_stay_though_no_generation_of_theirs_is_kept():
    async with opened(keep_generations=0) as app:
        handle = await app.start(entity, id="e")
        assert min((await lives_of(app, handle, range(6)))[1:]) >= 8
        assert await handle.update("add", 3, id="5-3") == 6 * EACH, "the same id has the same answer"
        assert len(applied) == 6 * EACH


@pytest.mark.parametrize("taken_over", [False, True])
async def test_who_asks_again_after_long_is_told_so_and_nothing_is_done_twice(taken_over):
    store = Shared()
    options = {"keep_generations": 0, "lease": 0.2}
    async with opened(store, **options) as app:
        handle = await app.start(entity, id="e")
        await lives_of(app, handle, range(6))
        if taken_over:
            kill(app)
    async with opened(store, workflows=[entity], **options) as app:
        handle = app.handle("e", entity)
        for again in range(2):
            with pytest.raises(ReplyGone, match=r"the update '0-0' long ago"):
                await handle.update("add", 0, id="0-0", timeout=10)
            assert len(applied) == 6 * EACH, again
        (question,) = await handle.questions()
        with pytest.raises(ReplyGone, match="the answer 'answer-0'"):
            await handle.answer(False, id="answer-0", question=question.key, timeout=10)
        assert len(await handle.questions()) == 1
        assert await handle.update("add", 1, id="new", timeout=10) == 6 * EACH + 1


async def test_what_is_not_kept_in_a_small_life_is_not_missed():
    """Within a generation nothing goes, whatever its length: what was refused there may be looked at again."""
    async with opened(keep_generations=0) as app:
        handle = await app.start(entity, id="e")
        for n in range(EACH - 1):
            await handle.update("add", n, id=f"u{n}")
        for n in range(30):
            with pytest.raises(Exception, match="no update"):
                await handle.update("missing", id=f"m{n}")
        records = await app.store.log.read(talk_stream("e"))
        assert sum(record.kind == Kind.REPLIED for record in records) == EACH - 1 + 30


async def test_it_goes_with_the_run():
    async with opened() as app:
        handle = await app.start(entity, id="e")
        for n in range(EACH):
            await handle.update("add", n)
        await handle.answer(False)
        assert await handle.result(5) == EACH
        assert await app.store.log.read(talk_stream("e"))
        await prune(app.store, ended_before=0, clock=app.clock)
        assert await app.store.log.scan() == []
