"""What is pruned of cached results: from the first entry on, to the moment, and nothing of it for a look."""

from reprise.kernel.clock import VirtualClock
from reprise.kernel.events import cache_stream
from reprise.stores.log import Group, append
from reprise.stores.memory import MemoryStore
from reprise.stores.moving import CachePruned, prune_cache
from reprise.testing.suites.blobs import held, large, naming
from reprise.testing.suites.keeper import fact


async def test_a_look_deletes_nothing_and_the_first_entry_counts():
    clock = VirtualClock()
    store, blob = MemoryStore(clock), large(1)
    await append(store.log, 1, Group(cache_stream("a"), [fact(at=5)]))
    await append(store.log, 2, naming("run/a", blob))
    await store.log.drop("run/a")
    assert (await prune_cache(store, written_before=5, dry_run=True, clock=clock)).entries == 0
    assert await prune_cache(store, written_before=6, dry_run=True, clock=clock) == CachePruned(1, 0, 0)
    assert await held(store, blob) == [True]
    assert await prune_cache(store, written_before=6, clock=clock) == CachePruned(1, 1, 0)
    assert await held(store, blob) == [False]
    assert not await store.log.scan()
