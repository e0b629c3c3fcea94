"""Pairs on LangGraph's functional API: `pairs_langgraph FOLDER LIFE PAIRS`."""
# pyright: reportMissingImports=false, reportFunctionMemberAccess=false

from __future__ import annotations

import asyncio

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task

from bench.programs import pairs

first, second, last = task(pairs.first), task(pairs.second), task(pairs.last)


async def pair(i: int) -> str:
    """Two steps, the second on the result of the first."""
    return await second(await first(i))


async def main() -> list[str]:
    """Invoke with the input, or with nothing to go on."""
    async with AsyncSqliteSaver.from_conn_string(str(pairs.folder / "langgraph.db")) as saver:

        @entrypoint(checkpointer=saver)
        async def all_pairs(count: int) -> list[str]:
            values = await asyncio.gather(*(pair(i) for i in range(count)))
            await last()
            return values

        config = {"configurable": {"thread_id": pairs.RUN}}
        given = pairs.pairs if pairs.life == 1 else None
        return await all_pairs.ainvoke(given, config, durability="sync")


pairs.run(main)
