"""What is PostgreSQL's own in blobs: rows that others change, and looking at few at a time."""

import pytest

from reprise.kernel.errors import StoreCorrupt
from reprise.stores.postgres import blobs
from reprise.testing.suites.blobs import held, large, naming
from reprise.testing.suites.keeper import put


async def test_a_blob_that_was_changed_by_others_is_told(store, neighbour):
    blob = large(1, 100)
    await put(store.log, naming("run/a", blob))
    await neighbour.execute("UPDATE blobs SET data = 'other'")
    with pytest.raises(StoreCorrupt, match=blob.hash.hex()[:16]):
        await store.blobs.get([blob.hash])


async def test_no_more_are_collected_than_asked_for_however_few_are_looked_at_once(store, monkeypatch):
    monkeypatch.setattr(blobs, "PER_TURN", 3)
    loose = [large(number, 100) for number in range(7)]
    await put(store.log, naming("run/a", *loose))
    await store.log.drop("run/a")
    assert await store.blobs.collect(4) == 4
    assert sum(await held(store, *loose)) == 3
    assert await store.blobs.collect(0) == 0
    assert await store.blobs.collect() == 3
