"""Queries over a million runs: pages and counts on each keeper, what the indexes take, and traps for planners.

A trap is a rare tag with a common status, written both ways, conditions that are common but met only by old runs, and two
common ones that seldom meet. Each page is asked for several times: the first is that of a fresh connection.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from bench.engines.work import SERVER
from bench.measure.indexes import fill_postgres, fill_sqlite, sizes_postgres, sizes_sqlite
from bench.measure.report import Floors, table
from bench.measure.runs import NOW
from bench.measure.server import postgres
from reprise.kernel.query_text import parse
from reprise.stores import open_store
from reprise.stores.store import Store

RUNS = 1_000_000
LIMIT_MS = 200
TIMES = 5
PAGES = {
    "all": ["", "parent:none"],
    "status": ["status:failed", "status:open", "status!=completed", "status:stranded"],
    "workflow": ["workflow:order", "workflow:rare", "workflow:r*"],
    "tag": ["env:prod", "tenant:t77", "case:needle", "vip:true"],
    "number": ["amount>100", "amount>600", "amount>=100 amount<101"],
    "time": ["age<2h", "created>=2026-08-01 created<2026-08-02", "age>80d", "idle<1d"],
    "words": ["error:timeouterror", 'error:"connection reset"', "error:conn*", "error:150"],
    "several": [
        "status:failed workflow:order env:prod amount>100",
        "error:declined tenant:t1 age>10d",
        "(env:prod or tenant:t3) status:failed not error:timeouterror",
        "status:failed vip:true tenant:t1 amount>300 parent:none workflow:sync",
    ],
    "trap": [
        "case:needle status:completed",
        "status:completed case:needle",
        "legacy<50000 env:prod",
        "legacy>0 amount>100 env:staging",
        "vip:true amount>200 status:completed",
    ],
}
COUNTS = [
    ("", "status"),
    ("", "workflow"),
    ("status:failed", "workflow"),
    ("workflow:order", "status"),
    ("parent:none", "status"),
    ("env:prod", "status"),
    ("amount>100", "status"),
    ("error:timeouterror", "workflow"),
    ("status:failed env:prod", "tag.tenant"),
]


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    return asyncio.run(_main(2_000 if once else RUNS, once=once))


async def _main(count: int, *, once: bool) -> bool:
    floors = Floors()
    with TemporaryDirectory(prefix="reprise-bench-") as folder, postgres() as server:
        path = Path(folder, "runs.db")
        fill_sqlite(path, count)
        await _keeper("sqlite", f"sqlite:///{path}", floors, once=once)
        _print_sizes(sizes_sqlite(path))
        if server:
            print(f"\n{server}")
            address = os.environ[SERVER]
            url = f"{address}&schema=search"
            store = open_store(url)
            await store.start()
            await store.stop()
            await fill_postgres(address, "search", count)
            await _keeper("postgres", url, floors, once=once)
            _print_sizes(await sizes_postgres(address, "search"))
    floors.print()
    return once or floors.kept


async def _keeper(name: str, url: str, floors: Floors, *, once: bool) -> None:
    store = open_store(url)
    await store.start()
    rows: list[tuple[str, ...]] = []
    slowest = 0.0
    for kind, queries in PAGES.items():
        for text in queries:
            query = parse(text, NOW)
            found = len(await store.runs.find(query))
            first, often = await _timed(store, lambda store, query=query: store.runs.find(query), once=once)
            slowest = max(slowest, often)
            rows.append((text or "(all)", kind, str(found), f"{first:.1f}", f"{often:.1f}"))
    print(f"\n{name}: pages of 50")
    table(("query", "by", "found", "first ms", "ms"), rows)
    floors.most(f"{name}: slowest page", slowest, LIMIT_MS, 0, unit="ms")
    rows = []
    for text, by in COUNTS:
        query = parse(text, NOW)
        counts = await store.runs.count(query, by=by)
        first, often = await _timed(
            store, lambda store, query=query, by=by: store.runs.count(query, by=by), once=once
        )
        rows.append((text or "(all)", by, f"{sum(counts.values()):,}", f"{first:.1f}", f"{often:.1f}"))
    print(f"\n{name}: counts")
    table(("query", "by", "runs", "first ms", "ms"), rows)
    await store.stop()


async def _timed(
    store: Store, ask: Callable[[Store], Awaitable[object]], *, once: bool
) -> tuple[float, float]:
    """Return milliseconds of the first time, on a store just opened, and the median of some more."""
    fresh = open_store(store.url)
    await fresh.start()
    taken: list[float] = []
    for _ in range(2 if once else TIMES + 1):
        begun = perf_counter()
        await ask(fresh)
        taken.append((perf_counter() - begun) * 1000)
    await fresh.stop()
    return taken[0], median(taken[1:])


def _print_sizes(sizes: dict[str, int]) -> None:
    print()
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    rows = [(name, f"{size / 1e6:.1f}") for name, size in ordered if size >= 1e5]
    table(("table or index", "MB"), [*rows, ("together", f"{sum(sizes.values()) / 1e6:.1f}")])
