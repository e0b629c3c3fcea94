"""Payloads that are packed and sealed move house as they are; in archives they stand as JSON."""

import json
import random

import pytest

from reprise.kernel.errors import KeyMissing
from reprise.kernel.events import Event, Kind
from reprise.stores.log import Group, RunChange
from reprise.stores.moving import copy_store, export_runs, import_runs, prune
from reprise.stores.packing import KeyRing, packed
from reprise.stores.sqlite import SQLiteStore
from reprise.testing.suites.keeper import put

TURNS = 60
KEYS = KeyRing({"a": b"k" * 32}, "a")


async def talk(store, id="talk"):
    """Write a conversation that grows by 2 kB a turn, under a token, as a run does."""
    words = random.Random(7)
    change = RunChange(id, "running", "w", owner=None, due_at=1, at=1)
    await put(store.log, Group(f"run/{id}", [Event(Kind.RUN_STARTED, 1)], 0, 1, takes=True, run=change))
    said = []
    for n in range(TURNS):
        said.append(words.randbytes(1000).hex())
        event = Event(Kind.STEP_COMPLETED, n, f":{n}.turn", json.dumps(said).encode())
        await put(store.log, Group(f"run/{id}", [event], 1 + n, 1))
    large = Event(Kind.STEP_COMPLETED, 99, "large", json.dumps(words.randbytes(150_000).hex()).encode())
    await put(store.log, Group(f"run/{id}", [large], 1 + TURNS, 1), Group(f"inbox/{id}", [large]))
    end = RunChange(id, "completed", owner=None, due_at=None, at=9)
    await put(
        store.log, Group(f"run/{id}", [Event(Kind.RUN_FINISHED, 9)], 2 + TURNS, 1, closes=True, run=end)
    )


async def kept(store):
    """Return how many bytes of payloads a store keeps, with its blobs."""
    blobs = await store.blobs.stats()
    return sum(len(r.data) for r in await store.keeper.log.scan()) + blobs["bytes"]


@pytest.fixture
async def opened(tmp_path):
    """Make stores that pack; they are closed in the end."""
    stores = []

    async def open_one(name, keys=None):
        stores.append(packed(SQLiteStore(tmp_path / name, synchronous="OFF"), keys))
        await stores[-1].start()
        return stores[-1]

    yield open_one
    for store in stores:
        await store.stop()


@pytest.mark.parametrize("way", ["copy", "archive"])
async def test_growing_and_large_payloads_take_no_more_room_where_they_come_to(opened, tmp_path, way):
    old, new = await opened("a.db"), await opened("b.db")
    await talk(old)
    if way == "copy":
        assert (await copy_store(old, new)).is_complete
    else:
        await export_runs(old, tmp_path / "x.jsonl")
        assert (await import_runs(new, tmp_path / "x.jsonl")).runs == 1
    plain = sum(len(r.data) for r in await old.log.scan())
    assert await kept(old) < plain / 5
    assert await kept(new) <= 1.05 * await kept(old)
    assert await new.log.read("run/talk") == await old.log.read("run/talk")
    assert (await new.blobs.stats())["blobs"] == (await old.blobs.stats())["blobs"] == 1
    assert await new.verify() == []


async def test_sealed_payloads_are_copied_without_their_keys(opened):
    old, new = await opened("a.db", KEYS), await opened("b.db")
    await talk(old)
    assert (await copy_store(await opened("a.db"), new)).is_complete
    with pytest.raises(KeyMissing):
        await new.log.read("run/talk")
    assert await (await opened("b.db", KEYS)).log.read("run/talk") == await old.log.read("run/talk")


async def test_a_blob_that_the_target_lost_is_found(opened, monkeypatch):
    old, new = await opened("a.db"), await opened("b.db")
    await talk(old)
    await copy_store(old, new)
    await new.keeper._writer.submit(lambda t: t.connection.execute("DELETE FROM blobs"))
    done = await copy_store(old, new)
    assert "the blob of run/talk, version 62, is missing" in done.differences


async def test_blobs_of_what_is_pruned_go_too(opened, tmp_path):
    store = await opened("a.db")
    await talk(store)
    await talk(store, "other")
    assert (await store.blobs.stats())["blobs"] == 1  # the same value is stored once
    done = await prune(store, archive=tmp_path / "a.jsonl")
    assert done.families == 2
    assert await store.blobs.stats() == {"blobs": 0, "bytes": 0, "references": 0, "loose": 0}
    await import_runs(store, tmp_path / "a.jsonl")
    assert (await store.blobs.stats())["blobs"] == 1
    assert await store.verify() == []
