"""Processes that move house, forked by the nursery: one prunes, one executes runs whose steps wait at a gate."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from reprise import Reprise, step, workflow
from reprise.kernel.clock import SystemClock
from reprise.stores import open_store
from reprise.stores.moving import copy_store, prune
from reprise.stores.store import Store

A_WHILE = 1_000_000
"""Microseconds for which a run that ended is left to who asks for its result."""
NAME: list[str] = []
"""Of this process, for its steps."""


class Options(msgspec.Struct):
    """What a process is told."""

    folder: str
    store: str
    does: str
    name: str = ""
    archive: str = ""
    target: str = ""


def mark(options: Options, what: str, count: int = 0) -> None:
    """Let the test see how far this process is."""
    Path(options.folder, f"{options.name}.{what}").write_text(str(count))


@step(timeout=None)
def held(folder: str) -> str:
    """Wait at the gate of this process; say which one it was."""
    Path(folder, f"{NAME[0]}.came").touch()
    gate = Path(folder, f"{NAME[0]}.gate")
    while not gate.exists():
        time.sleep(0.002)
    return NAME[0]


@step
async def plain(n: int) -> int:
    """Return at once."""
    return n


@workflow
async def gated(folder: str) -> list[str]:
    """Do something, wait at the gate, do something."""
    await plain(1)
    where = await held(folder)
    return [where, str(await plain(2))]


@workflow
async def busy(n: int) -> int:
    """Do a little, with a child."""
    return await plain(n) + await lesser(n)


@workflow
async def lesser(n: int) -> int:
    """Do less."""
    return await plain(n)


async def work(options: Options, store: Store) -> None:
    """Execute runs until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Reprise(store, workflows=[gated, busy, lesser], capture_logs=False, grace=0.1) as app:
        while not stop.is_set():
            await asyncio.sleep(0.01)
            if app.engine.counters["lost"]:
                mark(options, "lost")


async def start(options: Options, store: Store) -> None:
    """Start runs that end soon, until SIGTERM; say how many did."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    count = 0
    async with Reprise(store, workflows=[busy, lesser], capture_logs=False) as app:
        while not stop.is_set():
            runs = [await app.start(busy, n, id=f"{options.name}-{count}-{n}") for n in range(10)]
            for n, run in enumerate(runs):
                assert await run.result() == 2 * n
            count += 1
            mark(options, "count", 10 * count)


async def prune_once(options: Options, store: Store) -> None:
    """Prune everything that ended, archived before if an archive is named."""
    await store.start()
    mark(options, "ready")
    await prune(store, archive=Path(options.archive) if options.archive else None)
    await store.stop()


async def prune_always(options: Options, store: Store) -> None:
    """Prune what ended a while ago, again and again, until SIGTERM; write how much went."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await store.start()
    gone = 0
    while not stop.is_set():
        gone += (await prune(store, ended_before=SystemClock().now() - A_WHILE)).families
        mark(options, "count", gone)
    await store.stop()


async def copy(options: Options, store: Store) -> None:
    """Copy to another store."""
    target = open_store(options.target)
    await store.start()
    await target.start()
    mark(options, "ready")
    await copy_store(store, target, clock=SystemClock())
    await target.stop()
    await store.stop()


DOES: dict[str, Callable[[Options, Store], Awaitable[None]]] = {
    "work": work,
    "start": start,
    "prune": prune_once,
    "prune always": prune_always,
    "copy": copy,
}


def main(arguments: dict[str, Any]) -> None:
    """Do what the options say."""
    options = msgspec.convert(arguments, Options)
    NAME[:] = [options.name]
    asyncio.run(DOES[options.does](options, open_store(options.store)))
