"""Tags: given at the start, set by the body, found by everybody; and the same after a take-over."""

import asyncio

import pytest
from tests.unit.runtime.scenes import Shared, cut, history, kinds, opened, until

from reprise import (
    BodyError,
    ConfigurationError,
    QueryError,
    continue_as,
    current_run,
    set_tags,
    step,
    wait_for_signal,
    workflow,
)
from reprise.stores.memory import MemoryStore


@step
async def one() -> int:
    return 1


async def tags_of(store, run):
    (row,) = [row for row in await store.runs.find() if row.id == run]
    return row.tags


@workflow
async def stages(amount: float = 12.5) -> dict:
    set_tags(stage="begun", amount=amount)
    await one()
    set_tags({"shop.stage": True}, stage=None, count=2)
    await wait_for_signal("go")
    set_tags(count=3)
    return current_run().tags


async def test_tags_are_found_while_the_run_goes_on_and_when_it_ended():
    async with opened() as app:
        handle = await app.start(stages, id="one", tags={"team": "red", "amount": 1})
        await until(app.engine.idle)
        assert await tags_of(app.store, "one") == {
            "team": "red",
            "amount": 12.5,
            "shop.stage": True,
            "count": 2,
        }
        assert [row.id for row in await app.find("amount>12 shop.stage:true team:red stage:none")] == ["one"]
        await handle.signal("go")
        assert await handle.result(5) == {"team": "red", "amount": 12.5, "shop.stage": True, "count": 3}
        assert await app.count("count:3") == {"completed": 1}
        assert await app.count(by="tag.team") == {"red": 1}
        assert await app.find("count:2") == []


async def test_setting_tags_adds_nothing_to_the_history():
    store = MemoryStore()
    async with opened(store) as app:
        handle = await app.start(stages, id="one", signal=("go", None))
        await handle.result(5)
    assert set(kinds(await history(store, "one"))) == {
        "RUN_STARTED", "RUN_OWNED", "STEP_COMPLETED", "SIGNAL_RECEIVED", "RUN_FINISHED",
    }  # fmt: skip


async def test_a_body_that_is_replayed_sets_its_tags_again_wherever_its_history_was_cut():
    store = MemoryStore()
    async with opened(store) as app:
        handle = await app.start(stages, id="one", tags={"team": "red"}, signal=("go", None))
        whole = await handle.result(5)
    for count in range(1, len(await history(store, "one"))):
        fresh = await cut(store, "one", count)
        async with opened(fresh, workflows=[stages]) as app:
            assert await app.handle("one", stages).result(5) == whole
        await fresh.start()
        assert await tags_of(fresh, "one") == whole


async def test_what_the_index_lost_is_there_when_the_run_waits_again():
    """The owner died between the body's call and the append that had it."""
    store = Shared()
    async with opened(store) as app:
        await app.start(stages, id="one")
        await until(app.engine.idle)
    async with opened(store) as app:
        change = (await store.runs.find())[0]
        store.runs._rows["one"] = type(change)(
            **{**{f: getattr(change, f) for f in change.__struct_fields__}, "tags": {}}
        )
        handle = await app.resume("one", stages)
        await until(app.engine.idle)
        assert await tags_of(store, "one") == {"amount": 12.5, "shop.stage": True, "count": 2}
        await handle.signal("go")
        await handle.result(5)


async def test_what_the_index_has_is_not_written_again():
    store = Shared()
    async with opened(store) as app:
        await app.start(stages, id="one")
        await until(app.engine.idle)
    told = []
    apply = store.runs.apply
    store.runs.apply = lambda change: (told.append(change), apply(change))
    async with opened(store) as app:
        await app.resume("one", stages)
        await until(app.engine.idle)
    assert told
    assert all(not change.tags or "tags" not in str(change) for change in told)


async def test_the_same_tags_again_are_not_written():
    @workflow
    async def repeats() -> None:
        for _ in range(3):
            set_tags(a=1)
            await asyncio.sleep(0)
        set_tags(a=True)
        await wait_for_signal("go")

    store = MemoryStore()
    told = []
    apply = store.runs.apply
    store.runs.apply = lambda change: (told.append(change), apply(change))
    async with opened(store) as app:
        await app.start(repeats, id="one", tags={"a": 1})
        await until(app.engine.idle)
        assert (await tags_of(store, "one"))["a"] is True
    assert [change.tags for change in told if isinstance(change.tags, dict)] == [{"a": 1}, {"a": True}]


async def test_children_have_the_tags_that_their_parent_had_when_it_started_them():
    @workflow
    async def child() -> dict:
        await one()
        return current_run().tags

    @workflow
    async def parent() -> list[dict]:
        set_tags(n=1)
        first = await child()
        set_tags(n=2, team=None)
        return [first, await child()]

    async with opened() as app:
        assert await app.run(parent, id="one", tags={"team": "a"}) == [{"team": "a", "n": 1}, {"n": 2}]
        assert [row.id for row in await app.find("n:2")] == ["one:2.child", "one"]


async def test_a_body_that_sets_tags_and_ends_at_once_is_found_by_them():
    @workflow
    async def brief() -> None:
        set_tags(done="yes")

    async with opened() as app:
        await app.run(brief, id="one")
        assert await app.count("done:yes") == {"completed": 1}


async def test_tags_that_cannot_be_are_refused_where_they_are_given():
    @workflow
    async def wrong() -> str:
        try:
            set_tags({"no name": 1}, fine=1)
        except ConfigurationError as error:
            return f"{error.what} {current_run().tags}"
        return ""

    async with opened() as app:
        assert await app.run(wrong) == "A tag cannot be named 'no name'. {}"
        with pytest.raises(ConfigurationError, match="tag 'x' cannot be"):
            await app.start(wrong, tags={"x": object()})


async def test_tags_are_the_bodys_business():
    @step
    async def outside() -> None:
        set_tags(a=1)

    @workflow
    async def flow() -> None:
        await outside()

    async with opened() as app:
        with pytest.raises(BodyError, match="in the body of a workflow, not in a step"):
            await app.run(flow)


async def test_the_error_of_a_run_is_found_by_its_words_and_its_class():
    @workflow
    async def fails() -> None:
        raise KeyError("user_7")

    async with opened() as app:
        handle = await app.start(fails, id="one")
        with pytest.raises(KeyError):
            await handle.result(5)
        for query in ("error:keyerror", 'error:"user 7"', "error:user_7 status:failed"):
            assert [row.id for row in await app.find(query)] == ["one"]


async def test_a_query_that_cannot_be_read_is_refused():
    async with opened() as app:
        with pytest.raises(QueryError, match="Did you mean 'failed'"):
            await app.find("status:faild")
        with pytest.raises(ConfigurationError, match="Runs cannot be counted by 'size'"):
            await app.count(by="size")


async def test_tags_stay_when_the_run_goes_on_as_a_new_generation():
    @workflow
    async def goes_on(n: int) -> dict:
        set_tags({f"t{n}": n}, last=n)
        if n < 2:
            continue_as(n + 1)
        await wait_for_signal("go")
        return current_run().tags

    store = Shared()
    async with opened(store) as app:
        await app.start(goes_on, 0, id="one", tags={"team": "red"})
        await until(app.engine.idle)
        whole = {"team": "red", "t0": 0, "t1": 1, "t2": 2, "last": 2}
        assert await tags_of(store, "one") == whole
    async with opened(store, workflows=[goes_on]) as app:
        await app.client.signal("one", "go")
        assert await app.handle("one").result(5) == whole
        assert await app.count("last:2 t0:0") == {"completed": 1}
