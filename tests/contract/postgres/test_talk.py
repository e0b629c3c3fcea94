"""Talking with runs over PostgreSQL, from a process of another store object: the taps and the streams of a server."""

import asyncio

import pytest
from tests.unit.runtime.scenes import row_when
from tests.unit.runtime.test_queries import Line, cart
from tests.unit.runtime.test_streams import read, speaker
from tests.unit.runtime.test_updates import fresh, order

from reprise import QuestionClosed, Reprise, UpdateRefused, ask, prune, workflow
from reprise.stores.packing import packed

assert fresh


@workflow
async def asks() -> int:
    return await ask(int, "How many?")


async def test_runs_are_asked_changed_answered_and_read_over_a_server(keeper):
    here, there = packed(await keeper.open()), packed(await keeper.open())
    flows = [cart, order, asks, speaker]
    async with Reprise(there, workflows=flows, grace=0), Reprise(here, worker=False) as desk:
        await desk.start(cart, "gin", id="c")
        assert await desk.handle("c").query("find", "gin", type=Line) == Line("gin")

        handle = await desk.start(order, 2, id="o")
        replies = await asyncio.gather(
            *(handle.update("add", "tea", id=f"u{n % 2}") for n in range(6)), return_exceptions=True
        )
        assert sorted(map(str, replies)) == ["1", "1", "1", "2", "2", "2"]
        with pytest.raises(UpdateRefused):
            await handle.update("add", "rum")

        handle = await desk.start(asks, id="a")
        await row_when(desk, "a", lambda row: bool(row.warning), seconds=20)
        outcomes = await asyncio.gather(
            *(handle.answer(n, question=":1.ask") for n in range(4)), return_exceptions=True
        )
        won = [n for n, outcome in enumerate(outcomes) if outcome is None]
        assert len(won) == 1
        assert await handle.result(20) == won[0]
        with pytest.raises(QuestionClosed):
            await handle.answer(9, question=":1.ask")

        handle = await desk.start(speaker, id="s")
        assert [chunk.value for chunk in await read(desk, "s", "said")][-1] == "bye"
        assert await handle.result(20) == 3
        await prune(here)
        assert {record.stream.partition("/")[2] for record in await here.log.scan()} <= {"c", "o"}
