"""What talking with a run costs: queries here and through the store, updates, chunks; beside a plain step of the same run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from bench.engines.reprise_jobs import url
from bench.measure.report import Floors, figure, table
from reprise import Reprise, RunHandle, query, step, stream, update, wait_for_signal, workflow

STORES = ("full", "memory")
NEAR, FAR, UPDATES, STEPS, CHUNKS = 2000, 300, 600, 600, 50_000
MOST_OF_A_SIGNAL = 8
"""Times a signal that an update may take, one after the other: it waits for three commits (sent, recorded, replied)."""
LEAST_CHUNKS = 5000
"""Chunks a second on a disk, at least."""


@step
async def plain(n: int) -> int:
    """Do nothing."""
    return n


@step
async def speaks(count: int) -> None:
    """Write words."""
    out = stream("words")
    for _ in range(count):
        await out.write("token")


@workflow
async def listens() -> int:
    """Answer and take updates until it is told to stop."""
    total = 0

    @query
    def sum_so_far() -> int:
        return total

    def is_positive(n: int) -> None:
        if n < 0:
            raise ValueError(n)

    @update(validator=is_positive)
    def add(n: int) -> int:
        nonlocal total
        total += n
        return total

    await wait_for_signal("stop")
    return total


@workflow
async def steps(count: int) -> int:
    """One plain step after the other."""
    return len([await plain(n) for n in range(count)])


@workflow
async def chats(count: int) -> None:
    """Let a step write."""
    await speaks(count)


def main(*, once: bool) -> bool:
    """Print the table; return whether the floors were kept."""
    floors = Floors()
    rows: list[tuple[str, ...]] = []
    with TemporaryDirectory(prefix="reprise-bench-") as folder:
        for store in STORES:
            rows += asyncio.run(_store(Path(folder), store, floors, 50 if once else 1))
    table(("", "µs each", "per second"), rows)
    floors.print()
    return once or floors.kept


async def _store(folder: Path, store: str, floors: Floors, less: int) -> list[tuple[str, ...]]:
    took: dict[str, float] = {}
    async with Reprise(url(store, folder), capture_logs=False) as app:
        run = await app.start(listens, id="listens")
        took["plain step, in a row"] = await _timed(STEPS // less, lambda n: app.run(steps, n))
        took["signal, sent"] = await _timed(UPDATES // less, lambda n: _signals(run, n))
        took["query, here"] = await _timed(NEAR // less, lambda n: _queries(run, n))
        near, app.client.near = app.client.near, None
        took["query, through the store"] = await _timed(FAR // less, lambda n: _queries(run, n))
        app.client.near = near
        took["update, in a row"] = await _timed(UPDATES // less, lambda n: _updates(run, n))
        took["update, at once"] = await _timed(
            UPDATES // less, lambda n: asyncio.gather(*(run.update("add", 1) for _ in range(n)))
        )
        took["chunk, written"] = await _timed(CHUNKS // less, lambda n: app.run(chats, n, id="chats"))
        took["chunk, read"] = await _timed(CHUNKS // less, lambda _: _read(app))
        await run.signal("stop")
        await run.result()
    if store == "full":
        relation = took["update, in a row"] / took["signal, sent"]
        floors.most("full: an update over a signal", relation, MOST_OF_A_SIGNAL, unit="times")
        floors.least("full: chunks", 1 / took["chunk, written"], LEAST_CHUNKS, 0, unit="per s")
    return [(f"{store}, {name}", figure(each * 1e6, 1), figure(1 / each, 0)) for name, each in took.items()]


async def _timed(count: int, work: Callable[[int], Awaitable[object]]) -> float:
    """Return the seconds that each of so many took."""
    began = perf_counter()
    await work(count)
    return (perf_counter() - began) / count


async def _queries(run: RunHandle[int], count: int) -> None:
    for _ in range(count):
        await run.query("sum_so_far", type=int)


async def _signals(run: RunHandle[int], count: int) -> None:
    for n in range(count):
        await run.signal("heard", n)


async def _updates(run: RunHandle[int], count: int) -> None:
    for _ in range(count):
        await run.update("add", 1, type=int)


async def _read(app: Reprise) -> None:
    async for _ in app.client.stream("chats", "words", type=str):
        pass
