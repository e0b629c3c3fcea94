"""A store that is taken back to a backup while its workers go on: nobody may write with what he knew from before."""

from __future__ import annotations

import asyncio
from copy import copy, deepcopy
from typing import Any

from tests.simulation import ports
from tests.simulation.ports import SHARED, TTL, Ledger

from reprise.kernel.errors import AppendRefused, StoreError
from reprise.kernel.ids import Counter as Numbers
from reprise.stores.log import ANY, Group, append
from reprise.stores.store import Store
from reprise.testing import World


class Backup:
    """What a memory keeper's log held at a moment."""

    def __init__(self, world: World) -> None:
        log: Any = world.store.log
        self._world = world
        self._log = {
            name: deepcopy(getattr(log, name)) for name in ("heads", "_all", "_streams", "_gone", "_end")
        }
        self._books = deepcopy(world.books.pages())

    async def restore(self) -> None:
        """Put it back, as `reprise db restore` does: in place, then a new epoch begins."""
        log: Any = self._world.store.log
        heads: Any = log.heads
        for name, value in self._log.items():
            if name == "heads":
                heads.clear()
                heads.update(value)
            else:
                setattr(log, name, copy(value))
        self._world.books.turn_back(self._books)
        await self._world.store.begin_epoch()


async def restores(world: World) -> None:
    """Write to a fenced stream from two processes; take a backup, go on, restore it, go on."""
    ledger = Ledger(world)

    async def writes_on(name: str) -> None:
        node = world.node(name)
        await node.run(lambda: _writes(ledger, world.link(node, world.weather), name))

    writers = [asyncio.create_task(writes_on(name)) for name in ("a", "b")]
    await _until(ledger, 3, writers)
    backup = Backup(world)
    await _until(ledger, ledger.written + 2, writers)
    await backup.restore()
    restored = world.store.epoch
    await _until(ledger, ledger.written + 4, writers)
    for writer in writers:
        writer.cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    head = await world.store.log.head(SHARED)
    assert head.token >> 40 == restored == 1, f"{SHARED} is held under {head.token} in epoch {restored}"


async def _until(ledger: Ledger, written: int, writers: list[asyncio.Task[None]]) -> None:
    while ledger.written < written:
        await asyncio.sleep(0.2)
        for writer in writers:
            if writer.done():
                writer.result()


async def _writes(ledger: Ledger, store: Store, name: str) -> None:
    """Take the lease and write for as long as the log lets us; the version does not matter, the token does."""
    numbers = Numbers()
    while True:
        try:
            grant = await store.lease.take("register", name, TTL)
            if grant is not None:
                take = Group(SHARED, [ports.note(grant, 0)], token=grant.token, takes=True)
                await append(store.log, numbers.new(), take)
                number = 0
                while True:
                    number += 1
                    await ledger.moment(TTL / 2)
                    group = Group(SHARED, [ports.note(grant, number)], ANY, grant.token)
                    await append(store.log, numbers.new(), group)
                    ledger.written += 1
        except AppendRefused:
            pass
        except StoreError:
            pass
        await ledger.moment()
