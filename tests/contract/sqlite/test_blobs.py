"""Blobs in a file: what the suite cannot see from outside."""

import sqlite3
from contextlib import closing

import pytest
from tests.contract.test_sqlite import SQLiteKeeper

from reprise.kernel.errors import StoreCorrupt
from reprise.stores.log import Group
from reprise.stores.sqlite import blobs, ledger
from reprise.stores.sqlite.blobs import SQLiteBlobs
from reprise.testing.suites.blobs import collect_beside_writers, held, large, naming
from reprise.testing.suites.keeper import fact, put

UNREFERRED = "SELECT id FROM blobs b WHERE NOT EXISTS (SELECT 1 FROM blob_references r WHERE r.blob = b.id)"


@pytest.fixture
async def keeper():
    keeper = SQLiteKeeper()
    yield keeper
    await keeper.close()


async def test_control_collecting_without_the_guard_loses_a_blob(keeper, monkeypatch):
    """Look in one transaction and delete in another: the suite's test of this must then fail."""

    async def collect(self, limit=1000):
        ids = await self._readers.read(lambda connection: connection.execute(UNREFERRED).fetchall())

        def delete(transaction):
            for id in ids:
                transaction.connection.execute("DELETE FROM blobs WHERE id = ?", id)

        await self._writer.submit(delete)
        return len(ids)

    monkeypatch.setattr(SQLiteBlobs, "collect", collect)
    stores = await keeper.open(), await keeper.open()
    lost = []
    for _ in range(50):
        lost += (await collect_beside_writers(keeper, *stores))[0]
        if lost:
            return
    pytest.fail(
        "a collector without the guard lost nothing: that the one with it loses nothing shows nothing"
    )


async def test_a_drop_that_was_interrupted_releases_its_blobs_at_the_next_start(keeper):
    store = await keeper.open()
    await put(store.log, naming("run/a", *(large(n, 100) for n in range(5))))
    await store._writer.submit(lambda transaction: transaction.ledger.hide("run/a"))
    assert await store.blobs.collect() == 0
    store = await keeper.reopen(store)
    assert await store.blobs.collect() == 5


async def test_a_collected_blob_leaves_its_room_to_others(keeper):
    store = await keeper.open()
    size = {}
    for n in range(20):
        await put(store.log, naming(f"run/{n}", large(n, 200_000)))
        await store.log.drop(f"run/{n}")
        assert await store.blobs.collect() == 1
        size[n] = await store._readers.read(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    assert size[19] == size[2]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE blobs SET data = zeroblob(100) WHERE id = 1", "does not match its hash"),
        ("DELETE FROM blobs WHERE id = 1", "The stream run/a refers to a blob that is not there"),
        (
            "DELETE FROM blob_references WHERE blob = 1",
            "run/a) refers to a blob that its stream does not have",
        ),
        ("DELETE FROM blob_references WHERE blob = 1", "is kept by nobody"),
        ("UPDATE blob_references SET stream = 77 WHERE blob = 2", "is kept by a stream that is not there"),
    ],
)
async def test_verify_says_what_is_wrong(keeper, damage, said):
    store = await keeper.open()
    await put(store.log, naming("run/a", large(1)), naming("run/b", large(2)))
    assert await store.verify() == []
    await store.stop()
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute(damage)
    store = await keeper.open()
    problems = await store.verify()
    assert any(said in problem for problem in problems), problems
    if "hash" in said:
        with pytest.raises(StoreCorrupt, match="does not match its hash"):
            await held(store, large(1))


async def test_references_are_dropped_and_blobs_collected_a_few_at_a_time_to_the_last(keeper, monkeypatch):
    monkeypatch.setattr(ledger, "RECORDS_PER_DROP", 2)
    monkeypatch.setattr(blobs, "PER_TURN", 2)
    store = await keeper.open()
    loose = [large(number, 100) for number in range(7)]
    for stream, of_it in (("run/a", loose[:4]), ("run/b", loose[4:])):
        await put(store.log, Group(stream, [fact()], blobs=of_it))
    await put(store.log, Group("run/b", [fact()]))
    await store.log.trim("run/b", 1)
    assert await store.blobs.collect() == 3
    await store.log.drop("run/a", "run/b")
    assert await store.blobs.collect() == 4
    assert not any(await held(store, *loose))
