"""Reprise, by its public face and with its defaults; stores: memory, full, normal (SQLite), postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.engines.work import Work, place, server
from reprise import Event, Reprise, step, workflow

work: Work
"""Set before the first run."""


def url(store: str, folder: Path) -> str:
    """Return the URL of a store by its name in the tables."""
    if store == "postgres":
        return f"{server()}&schema={place(folder)}"
    urls = {"memory": "memory://", "full": "sqlite:///{}", "normal": "sqlite:///{}?synchronous=NORMAL"}
    return urls[store].format(folder / "reprise.db")


@step
async def make(run: str, i: int, pause: float) -> str:
    """Return a value of the bench."""
    return await work(run, i, pause)


@step(pure=True)
async def make_purely(run: str, i: int, pause: float) -> str:
    """Return a value of the bench; it may run ahead of the log."""
    return await work(run, i, pause)


@workflow
async def chain(run: str, steps: int, pause: float) -> int:
    """One step after the other."""
    for i in range(steps):
        await make(run, i, pause)
    return steps


@workflow
async def pure(run: str, steps: int, pause: float) -> int:
    """One pure step after the other."""
    for i in range(steps):
        await make_purely(run, i, pause)
    return steps


@workflow
async def fan(run: str, steps: int, pause: float) -> int:
    """All steps at once; the worker limits them to 100."""
    return len(await asyncio.gather(*(make(run, i, pause) for i in range(steps))))


class Ours:
    """An open Reprise with its defaults, and an observer that is told of each event, as a tracer would be."""

    def __init__(self, app: Reprise) -> None:
        self._app = app

    async def chain(self, run: str, steps: int, pause: float) -> None:
        """Execute one run whose steps follow each other."""
        await self._app.run(chain, run, steps, pause, id=run)

    async def pure(self, run: str, steps: int, pause: float) -> None:
        """Execute one run whose steps follow each other and are declared pure."""
        await self._app.run(pure, run, steps, pause, id=run)

    async def fan(self, run: str, steps: int, pause: float) -> None:
        """Execute one run whose steps start at once."""
        await self._app.run(fan, run, steps, pause, id=run)


@asynccontextmanager
async def opened(
    store: str, folder: Path, work_of_steps: Work, *, traced: bool = True, **options: Any
) -> AsyncIterator[Ours]:
    """Open the store; benches of engines do it with the defaults, and an observer."""
    global work  # noqa: PLW0603 - steps are functions of the module
    work = work_of_steps
    seen = 0

    def trace(run: str, events: Sequence[Event]) -> None:
        nonlocal seen
        seen += len(events)

    async with Reprise(url(store, folder), observers=[trace] if traced else (), **options) as app:
        yield Ours(app)
