"""What a log must prove when several stores and processes write at once."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import suppress

from reprise.kernel.errors import StaleVersion
from reprise.kernel.events import Record
from reprise.stores.log import Append, Group, Log, enlist
from reprise.stores.store import Store
from reprise.testing.suites.keeper import IDS, PATIENCE, Keeper, KeeperSuite, fact, put, soon

WRITERS = 4
BURSTS = 25
BURST = 8


class ConcurrentLogSuite(KeeperSuite):
    """Tests of the port ``Log`` with more than one writer."""

    async def test_a_tailing_reader_skips_nothing(self, keeper: Keeper, store: Store) -> None:
        """What a reader saw page by page while several stores wrote equals what is there in the end."""
        stores = [await keeper.open() for _ in range(WRITERS)]
        expected = WRITERS * BURSTS * BURST
        reader = asyncio.create_task(tail(store.log, expected))
        await soon(asyncio.gather(*(write_bursts(s.log, f"run/{n}") for n, s in enumerate(stores))))
        seen = await soon(reader)
        assert seen == await store.log.scan(limit=expected + 1)
        for n in range(WRITERS):
            assert [row.data for row in seen if row.stream == f"run/{n}"] == numbered(BURSTS * BURST)

    async def test_a_tailing_reader_skips_nothing_that_other_processes_write(
        self, keeper: Keeper, store: Store
    ) -> None:
        """The same with writers in processes of their own."""
        if keeper.factory is None:
            self.skip_if("one_process")
            raise AssertionError(f"{type(keeper).__name__} has neither a factory nor the tag one_process")
        context = multiprocessing.get_context("spawn")
        children = [context.Process(target=_child, args=(keeper.factory, f"run/{n}")) for n in range(2)]
        for child in children:
            child.start()
        try:
            expected = 2 * BURSTS * BURST
            seen = await tail(store.log, expected)
            assert seen == await store.log.scan(limit=expected + 1)
        finally:
            for child in children:
                await asyncio.to_thread(child.join, PATIENCE)
                child.kill()
        assert [child.exitcode for child in children] == [0, 0]

    async def test_of_rivals_for_one_version_exactly_one_wins(self, keeper: Keeper) -> None:
        """Optimistic versions are checked in the commit, not before it."""
        stores = [await keeper.open() for _ in range(WRITERS)]

        async def compete(store: Store, name: int) -> int:
            won = 0
            for version in range(30):
                with suppress(StaleVersion):
                    await put(store.log, Group("run/a", [fact(bytes([name]))], expected=version))
                    won += 1
            return won

        wins = await soon(asyncio.gather(*(compete(s, n) for n, s in enumerate(stores))))
        rows = await stores[0].log.read("run/a")
        assert [row.version for row in rows] == list(range(1, len(rows) + 1))
        assert len(rows) == sum(wins)
        assert [sum(row.data[0] == n for row in rows) for n in range(WRITERS)] == wins

    async def test_after_a_take_over_the_holder_before_cannot_write(self, keeper: Keeper) -> None:
        """The old owner sits in another store and writes on; nothing of it follows the take-over."""
        old, new = await keeper.open(), await keeper.open()
        await put(old.log, Group("run/a", [fact(b"old")], 0, token=1, takes=True))
        answered: list[Append] = []
        appends = [
            Append(IDS.new(), (Group("run/a", [fact(b"old")], token=1),), answered.append) for _ in range(100)
        ]
        old.log.submit(appends[:50])
        takeover = asyncio.create_task(put(new.log, Group("run/a", [fact(b"new")], token=2, takes=True)))
        old.log.submit(appends[50:])
        await soon(takeover)
        await put(old.log, Group("side", [fact()]))
        rows = [row.data for row in await new.log.read("run/a")]
        assert b"old" not in rows[rows.index(b"new") :]
        assert rows.count(b"old") == 1 + sum(append.error is None for append in answered)


def numbered(count: int) -> list[bytes]:
    """Return the data that :func:`write_bursts` writes."""
    return [n.to_bytes(2, "big") for n in range(count)]


async def write_bursts(log: Log, stream: str) -> None:
    """Write ``BURSTS`` bursts of ``BURST`` appends each, one event per append."""
    data = numbered(BURSTS * BURST)
    for start in range(0, len(data), BURST):
        burst = data[start : start + BURST]
        await enlist(log, [Append(IDS.new(), (Group(stream, [fact(piece)]),)) for piece in burst])


async def tail(log: Log, expected: int) -> Sequence[Record]:
    """Read on from the last position seen, in small pages, until ``expected`` records came."""
    seen: list[Record] = []
    async with asyncio.timeout(PATIENCE):
        while len(seen) < expected:
            page = await log.scan(seen[-1].position if seen else 0, limit=17)
            seen.extend(page)
            if not page:
                await asyncio.sleep(0)
    return seen


def _child(factory: Callable[[], Store], stream: str) -> None:
    async def main() -> None:
        store = factory()
        await store.start()
        await write_bursts(store.log, stream)
        await store.stop()

    asyncio.run(main())
