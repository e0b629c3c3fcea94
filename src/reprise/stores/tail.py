"""Follow a log: everything there is, then everything that comes, in order. Written once, above the ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from reprise.kernel.events import Record
from reprise.stores.store import Store

LOOK_AGAIN = 0.5
"""Seconds between two looks when nobody taps."""


async def tail(
    store: Store, after: int = 0, prefix: str = "", *, batch: int = 1000, look_again: float = LOOK_AGAIN
) -> AsyncGenerator[Record]:
    """Yield records with position > ``after``, of streams whose name starts with ``prefix``; never ends by itself.

    None is skipped under concurrent writers, because positions become visible in order; and none is waited for longer
    than ``look_again`` seconds, because a tap that is lost is only a look that comes later. The position of the last
    record that was dealt with is all there is to remember.
    """
    tapped = asyncio.Event()
    unlisten = store.signal.listen("*", lambda _: tapped.set())
    try:
        while True:
            tapped.clear()
            records = await store.log.scan(after, batch, prefix)
            for record in records:
                after = record.position
                yield record
            if len(records) == batch:
                continue
            try:
                async with asyncio.timeout(look_again):
                    await tapped.wait()
            except TimeoutError:
                continue
    finally:
        unlisten()
