"""Let cached results go: those that hold no more, in small transactions, beside workers."""

from __future__ import annotations

import msgspec

from reprise.kernel.clock import Clock
from reprise.kernel.events import cache_stream
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.moving.pruning import collect
from reprise.stores.packing import keeper_of
from reprise.stores.progress import Report, nobody
from reprise.stores.store import Store

_PAGE = 1000
ENTRIES_PER_DROP = 100


class CachePruned(msgspec.Struct, frozen=True):
    """What went of the cache."""

    entries: int
    blobs: int
    """Large results that nobody refers to any more; 0 for a dry run."""
    kept: int


async def prune_cache(
    store: Store,
    *,
    written_before: int = 0,
    all: bool = False,
    dry_run: bool = False,
    clock: Clock | None = None,
    report: Report = nobody,
) -> CachePruned:
    """Delete cached results of pure steps that hold no more.

    Also those that were written before a moment (microseconds, 0 = none for that), or ``all``. It reads no result, so
    no key is needed. One that is written meanwhile may go with an older one of the same call; it is computed again.
    """
    now = (clock or SURROUNDINGS.get().clock).now()
    log = keeper_of(store).log
    until, position = await log.end(), 0
    latest: dict[str, bool] = {}
    while records := await log.scan(position, _PAGE, cache_stream("")):
        position = records[-1].position
        for record in records:
            latest[record.stream] = bool(
                all or record.at < written_before or (record.print and record.print <= now)
            )
        if position >= until:
            break
    doomed = [stream for stream, goes in latest.items() if goes]
    for first in range(0, 0 if dry_run else len(doomed), ENTRIES_PER_DROP):
        await store.log.drop(*doomed[first : first + ENTRIES_PER_DROP])
        report("cached results deleted", first, len(doomed))
    blobs = 0 if dry_run else await collect(store, report)
    return CachePruned(len(doomed), blobs, len(latest) - len(doomed))
