"""Processes that use the ports directly: a queue, a lease with a fenced stream, a tail. And what must come of that."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing, suppress

from reprise.kernel.errors import AppendRefused, OutcomeUnknown, StoreError, StoreUnreachable
from reprise.kernel.events import Event, Kind
from reprise.kernel.ids import Counter as Numbers
from reprise.stores.lease import Grant
from reprise.stores.log import EXISTS, Group, append
from reprise.stores.queue import Settlement, Task
from reprise.stores.store import Store
from reprise.stores.tail import tail
from reprise.testing import World
from reprise.testing.node import Crashed

TASKS = 6
WRITES = 12
TTL = 1.0
SHARED = "shared/register"


class Ledger:
    """What was seen, outside of all processes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.claimed: dict[str, int] = {}
        """By task, the highest token under which it was seen claimed."""
        self.settled: Counter[str] = Counter()
        self.written = 0
        self.read: list[int] = []
        """Positions that the reader was given, in order."""
        self.saved = 0
        """Position up to which the reader has done its work, as it remembers it across crashes."""

    async def moment(self, most: float = 0.5) -> None:
        await asyncio.sleep(self.world.chance.random() * most)


async def works_off(ledger: Ledger, store: Store, name: str) -> None:
    """Claim tasks, work for a while, settle them."""
    while True:
        with suppress(StoreUnreachable):
            for task in await store.queue.claim("jobs", name, 2, TTL):
                ledger.claimed[task.id] = max(task.token, ledger.claimed.get(task.id, 0))
                await ledger.moment(1.5)
                is_current = ledger.claimed[task.id] == task.token
                [done] = await store.queue.settle([Settlement(task, "done")])
                assert not done or is_current, f"{task.id} was settled by {name}, and others had claimed it"
                ledger.settled[task.id] += done
                assert ledger.settled[task.id] <= 1, f"{task.id} was settled twice"
        await ledger.moment()


async def writes(ledger: Ledger, store: Store, name: str) -> None:
    """Take a lease, take a stream with its token, write to it, as long as the log lets us."""
    numbers = Numbers()
    while True:
        with suppress(StoreError):
            grant = await store.lease.take("register", name, TTL)
            if grant is not None:
                await _write_under(ledger, store, numbers, grant)
        await ledger.moment()


async def _write_under(ledger: Ledger, store: Store, numbers: Numbers, grant: Grant) -> None:
    with suppress(AppendRefused):
        await _insist(store, numbers, Group(SHARED, [note(grant, 0)], token=grant.token, takes=True))
        for number in range(1, 4):
            await ledger.moment(TTL / 2)
            await _insist(store, numbers, Group(SHARED, [note(grant, number)], EXISTS, grant.token))
            ledger.written += 1
    await store.lease.drop([grant])


async def _insist(store: Store, numbers: Numbers, group: Group) -> None:
    """Append, and once more when nobody said what came of it."""
    try:
        await append(store.log, numbers.new(), group)
    except OutcomeUnknown:
        await append(store.log, numbers.new(), group)


def note(grant: Grant, number: int) -> Event:
    return Event(Kind.LOG_LINE, 0, f"{grant.token}-{number}", grant.holder.encode())


async def reads(ledger: Ledger, store: Store) -> None:
    """Follow the log from where we were, and remember how far we came."""
    while True:
        with suppress(StoreUnreachable):
            async with aclosing(tail(store, ledger.saved, batch=3)) as records:
                async for record in records:
                    ledger.read.append(record.position)
                    ledger.saved = record.position


async def uses_ports(world: World) -> None:
    """Let three processes work, write and read until all is done."""
    ledger = Ledger(world)
    await world.store.queue.offer([Task(f"task-{i}", "jobs") for i in range(TASKS)])

    async def lives(name: str) -> None:
        node = world.node(name)

        async def main() -> None:
            store = world.link(node, world.weather)
            await store.start()
            async with asyncio.TaskGroup() as group:
                group.create_task(works_off(ledger, store, name))
                group.create_task(writes(ledger, store, name))
                if name == "a":
                    group.create_task(reads(ledger, store))

        while True:
            with suppress(Crashed):
                await node.run(main)
            await ledger.moment(1.0)

    lives_on = [asyncio.create_task(lives(name)) for name in ("a", "b", "c")]
    while ledger.written < WRITES or (await world.store.queue.stats("jobs")).done < TASKS:
        await asyncio.sleep(0.5)
        for one in lives_on:
            if one.done():
                one.result()
    world.calm_down()
    end = await world.store.log.end()
    await asyncio.sleep(10)
    for one in lives_on:
        one.cancel()
    await asyncio.gather(*lives_on, return_exceptions=True)
    there = [record.position for record in await world.store.log.scan(0, 10_000)]
    assert ledger.read == [position for position in there if position <= ledger.saved], (
        "the tail skipped or repeated"
    )
    assert ledger.saved >= end, f"the tail came to {ledger.saved} in 10 s without faults, and there was {end}"
