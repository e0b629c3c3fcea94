"""Pairs on DBOS: `pairs_dbos FOLDER LIFE PAIRS`."""
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio

from dbos import DBOS, SetWorkflowID

from bench.programs import pairs

first, second, last = (DBOS.step()(function) for function in (pairs.first, pairs.second, pairs.last))


async def pair(i: int) -> str:
    """Two steps, the second on the result of the first."""
    return await second(await first(i))


@DBOS.workflow()
async def all_pairs(count: int) -> list[str]:
    """All pairs at once."""
    values = await asyncio.gather(*(pair(i) for i in range(count)))
    await last()
    return values


async def main() -> list[str]:
    """Start the run, or let DBOS recover it."""
    url = f"sqlite:///{pairs.folder / 'dbos.db'}"
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()
    try:
        if pairs.life == 1:
            with SetWorkflowID(pairs.RUN):
                handle = await DBOS.start_workflow_async(all_pairs, pairs.pairs)
        else:
            handle = await DBOS.retrieve_workflow_async(pairs.RUN)
        return await handle.get_result()
    finally:
        DBOS.destroy()


pairs.run(main)
