"""What blobs must prove: stored once, there while anybody refers to them, gone afterwards."""

from __future__ import annotations

import asyncio
from hashlib import shake_128
from itertools import count

import pytest

from reprise.kernel.errors import StaleVersion
from reprise.stores.blobs import Blob, blob_of, hash_of, reference_to
from reprise.stores.log import Group
from reprise.stores.store import Store
from reprise.testing.suites.keeper import Keeper, KeeperSuite, fact, put, write


def large(number: int, size: int = 40_000) -> Blob:
    """Return a blob of its own; the same for the same number."""
    return blob_of(shake_128(b"%d" % number).digest(size))


def naming(stream: str, *blobs: Blob, expected: int = -1) -> Group:
    """Return a group whose events refer to blobs."""
    events = [fact(reference_to(blob.hash)) for blob in blobs]
    return Group(stream, events, expected, blobs=blobs)


async def held(store: Store, *blobs: Blob) -> list[bool]:
    """Tell which blobs the store gives back whole."""
    found = await store.blobs.get([blob.hash for blob in blobs])
    assert all(hash_of(data) == hash for hash, data in found.items())
    return [blob.hash in found for blob in blobs]


class BlobsSuite(KeeperSuite):
    """Tests of the port ``Blobs``."""

    async def test_a_blob_is_there_when_its_append_is_durable(self, store: Store) -> None:
        """Also of many in one append, also in the same append as records of other streams."""
        blobs = [large(n, 30_000 + n) for n in range(40)]
        await put(store.log, naming("run/a", *blobs[:30]), naming("run/b", *blobs[30:]), Group("z", [fact()]))
        found = await store.blobs.get([blob.hash for blob in blobs] + [hash_of(b"never written")])
        assert found == {blob.hash: blob.data for blob in blobs}
        assert await store.blobs.get([]) == {}
        assert [row.data for row in await store.log.read("run/b")] == [
            reference_to(blob.hash) for blob in blobs[30:]
        ]

    async def test_a_refused_append_writes_no_blob(self, store: Store) -> None:
        """Neither by itself nor beside one that is written."""
        await write(store.log, "run/a", b"x")
        with pytest.raises(StaleVersion):
            await put(store.log, naming("run/b", large(1)), naming("run/a", large(2), expected=7))
        await put(store.log, naming("run/a", large(3)))
        assert await held(store, large(1), large(2), large(3)) == [False, False, True]
        assert (await store.blobs.stats())["blobs"] == 1

    async def test_stored_once_per_hash(self, store: Store) -> None:
        """However often, in one append, one stream or many."""
        same = large(1)
        await put(store.log, naming("run/a", same, same), naming("run/b", same))
        for n in range(5):
            await put(store.log, naming(f"run/{n % 3}", same))
        stats = await store.blobs.stats()
        assert (stats["blobs"], stats["bytes"], stats["references"]) == (1, len(same.data), 5)

    async def test_collected_only_when_no_stream_refers_to_it(self, store: Store) -> None:
        """The last stream that goes takes the blob along, some time later."""
        shared, own = large(1), large(2)
        await put(store.log, naming("run/a", shared, own), naming("run/b", shared))
        assert await store.blobs.collect() == 0
        await store.log.drop("run/a")
        assert await store.blobs.collect() == 1
        assert await held(store, shared, own) == [True, False]
        await store.log.drop("run/b")
        assert await store.blobs.collect() == 1
        assert await store.blobs.collect() == 0
        assert await held(store, shared) == [False]
        assert await store.blobs.stats() == {"blobs": 0, "bytes": 0, "references": 0, "loose": 0}

    async def test_referred_to_again_before_it_was_collected(self, store: Store) -> None:
        """A blob that was loose for a while stays; one that was collected is written anew."""
        for collects in (False, True):
            await put(store.log, naming("run/a", large(1)))
            await store.log.drop("run/a")
            assert await store.blobs.collect() == 1 if collects else True
            await put(store.log, naming("run/b", large(1)))
            assert await store.blobs.collect() == 0
            assert await held(store, large(1)) == [True]
            await store.log.drop("run/b")
            assert await store.blobs.collect() == 1

    async def test_trimming_a_stream_lets_go_what_only_its_old_records_refer_to(self, store: Store) -> None:
        """What a later record refers to again stays."""
        old, again, new = large(1), large(2), large(3)
        for blob in (old, again, again, new):
            await put(store.log, naming("run/a", blob))
        assert await store.log.trim("run/a", 2) == 2
        assert await store.blobs.collect() == 1
        assert await held(store, old, again, new) == [False, True, True]
        await put(store.log, naming("run/a", old))
        assert await held(store, old) == [True]

    async def test_collects_no_more_than_asked(self, store: Store) -> None:
        """And all, when asked again; also past blobs that are no longer loose."""
        blobs = [large(n, 100) for n in range(250)]
        await put(store.log, naming("run/a", *blobs))
        await put(store.log, naming("run/b", *blobs[:120:2]))
        await store.log.drop("run/a")
        collected = [await store.blobs.collect(40) for _ in range(6)]
        assert collected == [40, 40, 40, 40, 30, 0]
        assert await held(store, *blobs) == [n < 120 and n % 2 == 0 for n in range(250)]

    async def test_a_restart_keeps_blobs_and_what_is_to_be_collected(self, keeper: Keeper) -> None:
        """What was dropped before the restart is collected after it."""
        store = await keeper.open()
        await put(store.log, naming("run/a", large(1)), naming("run/b", large(2)))
        await store.log.drop("run/a")
        store = await keeper.reopen(store)
        assert await store.blobs.collect() == 1
        assert await held(store, large(1), large(2)) == [False, True]

    async def test_nothing_that_is_referred_to_is_collected_while_runs_go_on(self, keeper: Keeper) -> None:
        """Writers and droppers share few blobs, beside one who collects without a pause."""
        lost, gone = await collect_beside_writers(keeper, await keeper.open(), await keeper.open())
        assert not lost
        assert gone > 0


async def collect_beside_writers(keeper: Keeper, store: Store, other: Store) -> tuple[list[str], int]:
    """Write, drop and collect the same few blobs at once.

    Return the streams that refer to a blob which is not there, and how many were collected meanwhile.
    """
    working = True
    lost: list[str] = []
    numbers = count()

    async def work() -> None:
        for _ in range(60):
            number = next(numbers)
            stream, blob = f"run/{number}", large(number * number % 5)
            await put(store.log, naming(stream, blob))
            if not all(await held(store, blob)):
                lost.append(stream)
            await store.log.drop(stream)

    async def collect() -> int:
        gone = 0
        while working:
            gone += await other.blobs.collect()
            await asyncio.sleep(0)
        return gone

    collecting = asyncio.create_task(collect())
    await asyncio.gather(*(work() for _ in range(3)))
    working = False
    return lost, await collecting
