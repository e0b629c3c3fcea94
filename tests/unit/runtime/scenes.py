"""What the tests of the runtime share: an app without delays, looks into the log, and logs cut short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.replay.harness import fill

from reprise import Reprise
from reprise.kernel.events import Kind, Record, inbox_stream, run_stream
from reprise.runtime.dialogue import OpenQuestion
from reprise.runtime.worker import Worker
from reprise.stores.memory import MemoryStore
from reprise.stores.runs import RunRow

DELIVERED = range(16, 64)


class Shared(MemoryStore):
    """A memory store of several apps: closing one of them does not close it."""

    async def stop(self) -> None:
        """Stay open."""


@asynccontextmanager
async def opened(store: Any = None, **options: Any) -> AsyncIterator[Reprise]:
    """Open a Reprise over a memory store that closes at once."""
    store = store if store is not None else MemoryStore()
    async with Reprise(store, **({"capture_logs": False, "grace": 0.0} | options)) as app:
        yield app


async def history(store: Any, run: str) -> list[Record]:
    """Return the records of a run; the store may be closed."""
    await store.start()
    return await store.log.read(run_stream(run))


async def cut(store: Any, run: str, count: int, *, mail: bool = True) -> MemoryStore:
    """Return a new store in which the run is at ``count`` records, left by a worker that died."""
    fresh = MemoryStore()
    await fill(fresh, run_stream(run), (await history(store, run))[:count])
    letters = await store.log.read(inbox_stream(run))
    if letters and mail:
        await fill(fresh, inbox_stream(run), letters)
    return fresh


def kinds(records: list[Record]) -> list[str]:
    """Return the names of the kinds of records."""
    return [Kind(record.kind).name for record in records]


def keys(records: list[Record]) -> list[str]:
    """Return the keys of what is delivered to the body."""
    return [record.key for record in records if record.kind in DELIVERED]


async def until(condition: Callable[[], Any], seconds: float = 5) -> Any:
    """Wait until a condition of this process holds, and return what it gave."""
    async with asyncio.timeout(seconds):
        while True:
            if found := condition():
                return found
            await asyncio.sleep(0.001)


async def asked(app: Reprise, run: str, seconds: float = 5) -> OpenQuestion:
    """Wait until a run asks something, and return the question."""
    async with asyncio.timeout(seconds):
        while True:
            if found := await app.handle(run).questions():
                return found[0]
            await asyncio.sleep(0.001)


async def recorded(app: Reprise, run: str, kind: int, count: int = 1, seconds: float = 5) -> list[Record]:
    """Wait until a run's history has ``count`` records of a kind, and return the history."""
    async with asyncio.timeout(seconds):
        while True:
            records = await app.store.log.read(run_stream(run))
            if sum(record.kind == kind for record in records) >= count:
                return records
            await asyncio.sleep(0.001)


async def row_when(app: Reprise, run: str, holds: Callable[[RunRow], bool], seconds: float = 5) -> RunRow:
    """Wait until a run's row is as wanted, and return it."""
    async with asyncio.timeout(seconds):
        while True:
            row = await app.client.row(run)
            if holds(row):
                return row
            await asyncio.sleep(0.002)


async def status_is(app: Reprise, run: str, status: str) -> RunRow:
    """Wait until a run has a status, and return its row."""
    return await row_when(app, run, lambda row: row.status == status)


def worker_of(app: Reprise) -> Worker:
    """Return the app's worker."""
    worker = app._worker
    assert worker is not None
    return worker


def kill(app: Reprise) -> None:
    """Let an app's worker vanish as by kill -9: nothing more is written, nothing is given back."""
    worker, engine = worker_of(app), app.engine
    for task in worker._tasks:
        task.cancel()
    for undo in worker._undo:
        undo()
    worker._stopping = True
    engine.drop_all()
    engine.stopping = True


class Trouble:
    """Let the appends of a log fail for a while."""

    def __init__(self, store: Any, error: type[Exception], *, written: bool = False) -> None:
        self.error = error
        self.on = False
        self.met = 0
        self._written = written
        self._submit = store.log.submit
        store.log.submit = self.submit

    def submit(self, appends: Any) -> None:
        """Write, or fail; with ``written`` both."""
        if not self.on:
            self._submit(appends)
            return
        self.met += len(appends)
        done = [append.done for append in appends]
        if self._written:
            for append in appends:
                append.done = None
            self._submit(appends)
        for append, tell in zip(appends, done, strict=True):
            append.error = self.error("trouble")
            if tell is not None:
                asyncio.get_running_loop().call_soon(tell, append)
