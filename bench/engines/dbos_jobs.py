"""DBOS with its defaults; stores: sqlite, postgres."""
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dbos import DBOS, SetWorkflowID

from bench.engines.work import Work, place, server

WAVE = 100
"""Steps at once; the ids of steps must be given in a fixed order, so a semaphore is not possible."""

work: Work
"""Set before the first run."""


@DBOS.step()
async def make(run: str, i: int, pause: float) -> str:
    """Return a value of the bench."""
    return await work(run, i, pause)


@DBOS.workflow()
async def chain(run: str, steps: int, pause: float) -> int:
    """One step after the other."""
    for i in range(steps):
        await make(run, i, pause)
    return steps


@DBOS.workflow()
async def fan(run: str, steps: int, pause: float) -> int:
    """All steps, in waves."""
    for first in range(0, steps, WAVE):
        await asyncio.gather(*(make(run, i, pause) for i in range(first, min(first + WAVE, steps))))
    return steps


class Dbos:
    """A launched DBOS."""

    async def chain(self, run: str, steps: int, pause: float) -> None:
        """Execute one run whose steps follow each other."""
        with SetWorkflowID(run):
            handle = await DBOS.start_workflow_async(chain, run, steps, pause)
        await handle.get_result()

    async def fan(self, run: str, steps: int, pause: float) -> None:
        """Execute one run whose steps start at once."""
        with SetWorkflowID(run):
            handle = await DBOS.start_workflow_async(fan, run, steps, pause)
        await handle.get_result()


@asynccontextmanager
async def opened(store: str, folder: Path, work_of_steps: Work) -> AsyncIterator[Dbos]:
    """Launch on a file in the folder, or on a database of its own of the server."""
    global work  # noqa: PLW0603 - steps are functions of the module
    work = work_of_steps
    url = f"sqlite:///{folder / 'dbos.db'}"
    if store == "postgres":
        url = server().replace("/postgres?", f"/{place(folder)}?")
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    try:
        yield Dbos()
    finally:
        DBOS.destroy()
