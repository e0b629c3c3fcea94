"""A process beside others at one store: `neighbour STORE FOLDER ROLE SECONDS`. Prints what it measured as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.engines import reprise_jobs
from bench.engines.work import Work
from reprise import Reprise, open_store, step, wait_for_signal, workflow
from reprise.stores.signal import Signal


async def saturate(store: str, folder: Path, seconds: float) -> int:
    """Fan out 1,000 steps again and again; return how many steps that were."""
    work = Work()
    until = time.monotonic() + seconds
    runs = 0
    async with reprise_jobs.opened(store, folder, work) as jobs:
        while time.monotonic() < until:
            runs += 1
            await jobs.fan(f"{id(folder)}-{until}-{runs}", 1000, 0)
            work.made.clear()
    return runs * 1000


async def renew(store: str, folder: Path, seconds: float) -> list[float]:
    """Renew a lease again and again; return the milliseconds of each time."""
    taken: list[float] = []
    async with Reprise(reprise_jobs.url(store, folder), worker=False) as app:
        lease = app.store.lease
        grant = await lease.take("bench", "neighbour", 60)
        until = time.monotonic() + seconds
        while (begun := time.monotonic()) < until:
            assert grant is not None
            (grant,) = await lease.renew([grant], 60)
            taken.append((time.monotonic() - begun) * 1000)
            await asyncio.sleep(0.005)
    return taken


delays: list[float] = []


@step
async def arrived(sent: float) -> None:
    """Note how long ago the signal was sent: when it runs, the signal is durable and was taken by the body."""
    delays.append((time.monotonic() - sent) * 1000)


@workflow
async def listen() -> None:
    """Take signals until one says that it is enough."""
    while (sent := await wait_for_signal("bench", float)) > 0:
        await arrived(sent)


async def take_signals(store: str, folder: Path, seconds: float) -> list[float]:
    """Execute a run that others send signals to; return the milliseconds from each sending to the step after it."""
    async with Reprise(reprise_jobs.url(store, folder)) as app:
        run = await app.start(listen, id="listen")
        async with asyncio.timeout(seconds + 60):
            await run.result()
    return delays


async def send_signals(store: str, folder: Path, seconds: float) -> None:
    """Send signals to a run that another process executes."""
    async with Reprise(reprise_jobs.url(store, folder), worker=False) as app:
        run = app.handle("listen")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await run.signal("bench", time.monotonic())
            await asyncio.sleep(0.01)
        await run.signal("bench", 0.0)


async def answer_taps(store: str, folder: Path, seconds: float) -> None:
    """Answer each tap by one, until the last."""
    async with opened(store, folder) as signal:
        enough = asyncio.Event()
        ends = [
            signal.listen("ping", lambda _: signal.wake(["pong"])),
            signal.listen("enough", lambda _: enough.set()),
        ]
        async with asyncio.timeout(seconds + 60):
            await enough.wait()
        for end in ends:
            end()


async def tap(store: str, folder: Path, seconds: float) -> list[float]:
    """Tap who answers; return the milliseconds of one way, which are half of there and back."""
    taken: list[float] = []
    async with opened(store, folder) as signal:
        answered = asyncio.Event()
        end = signal.listen("pong", lambda _: answered.set())
        until = time.monotonic() + seconds
        while (begun := time.monotonic()) < until:
            answered.clear()
            signal.wake(["ping"])
            async with asyncio.timeout(10):
                await answered.wait()
            taken.append((time.monotonic() - begun) * 500)
            await asyncio.sleep(0.002)
        end()
        signal.wake(["enough"])
    return taken


async def tap_at_home(store: str, folder: Path, seconds: float) -> list[float]:
    """Be both ends, in one process."""
    taken: list[float] = []
    async with opened(store, folder) as signal:
        tapped = asyncio.Event()
        signal.listen("ping", lambda _: tapped.set())
        until = time.monotonic() + seconds
        while (begun := time.monotonic()) < until:
            tapped.clear()
            signal.wake(["ping"])
            await tapped.wait()
            taken.append((time.monotonic() - begun) * 1000)
            await asyncio.sleep(0.002)
    return taken


@asynccontextmanager
async def opened(store: str, folder: Path) -> AsyncIterator[Signal]:
    """Open only the store, for its signals."""
    opened = open_store(reprise_jobs.url(store, folder))
    await opened.start()
    try:
        yield opened.signal
    finally:
        await opened.stop()


async def rest(store: str, folder: Path, seconds: float) -> float:
    """Keep a worker open that has nothing to do; return the share of one CPU it takes, in percent."""
    async with Reprise(reprise_jobs.url(store, folder)):
        await asyncio.sleep(0.5)
        begun = time.process_time()
        await asyncio.sleep(seconds)
        return (time.process_time() - begun) / seconds * 100


async def main() -> None:
    """Play the role that is asked for."""
    store, folder, role, seconds = sys.argv[1:]
    answer: Any = await globals()[role](store, Path(folder), float(seconds))
    print(json.dumps(answer))


asyncio.run(main())
