"""Shared state: what one instance writes, all see, in one order; what is decided holds in the store."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from reprise.coordination import replica
from reprise.coordination.managing import StateSyncManager
from reprise.coordination.merging import AddToSet, Increment, RemoveFromSet
from reprise.coordination.snapshots import StateSnapshot
from reprise.coordination.state import StateSync
from reprise.kernel.clock import VirtualClock
from reprise.kernel.errors import (
    CodecError,
    ConfigurationError,
    PayloadTooLarge,
    StateConflict,
    StateTypeError,
    StoreUnreachable,
)
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.cells import Change, View, tap_of
from reprise.stores.memory import MemoryStore
from reprise.stores.sqlite import SQLiteStore
from reprise.testing.suites import until

SPACE = "state/app"


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "s.db", synchronous="OFF")
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
async def here(store):
    async with StateSync(store, "app", origin="here") as sync:
        yield sync


@pytest.fixture
async def there(store):
    """Another instance, as another process has it."""
    async with StateSync(store, "app", origin="there") as sync:
        yield sync


async def seen(sync, key, value):
    """Wait until an instance has heard of a value."""

    async def has() -> bool:
        return await sync.get(key) == value

    await until(has, f"{key} is {value}")


# ---------------------------------------------------------------- reading and writing


async def test_what_is_written_is_read_here_at_once_and_there_soon(here, there):
    done = await here.set("count", 100)
    assert (done.applied, done.value, done.version > 0) == (True, 100, True)
    assert await here.get("count") == 100
    assert await here.get("nobody", "else") == "else"
    assert await there.get("count", fresh=True) == 100
    await there.set("config:mode", {"dark": [1, None, "ä"]})
    await seen(here, "config:mode", {"dark": [1, None, "ä"]})
    assert await here.keys() == ["config:mode", "count"]
    assert await here.items("config:*") == {"config:mode": {"dark": [1, None, "ä"]}}
    entry = await here.entry("count")
    assert (entry.value, entry.version, entry.expires_at) == (100, done.version, 0)
    assert await here.delete("count")
    assert not await here.delete("count")
    assert await here.get("count") is None
    assert await there.get("count", fresh=True) is None


async def test_what_is_read_is_the_callers_own(here):
    await here.set("list", [1, [2]])
    (await here.get("list"))[1].append(3)
    assert await here.get("list") == [1, [2]]


async def test_reads_cost_the_store_nothing(here, store, monkeypatch):
    await here.set("a", 1)
    await here.set("b", [1])

    def fails(*_, **__):
        raise AssertionError("the store was asked")

    for method in ("get", "scan", "feed", "apply"):
        monkeypatch.setattr(store.cells, method, fails)
    assert (await here.get("a"), await here.get("b"), await here.get("c")) == (1, [1], None)
    statistics = here.statistics()
    assert (statistics["hits"], statistics["misses"], statistics["connected"]) == (2, 1, 1)


async def test_namespaces_and_what_is_no_state_do_not_meet(here, store):
    async with StateSync(store, "other") as other:
        await other.set("a", 1)
        await store.cells.apply("cursor", [Change("a", b"x")])
        assert await here.get("a", fresh=True) is None


async def test_it_has_to_be_started_and_can_be_again(store):
    sync = StateSync(store, "app")
    for use in (sync.get("a"), sync.set("a", 1), sync.increment("a"), sync.keys(), sync.snapshot()):
        with pytest.raises(ConfigurationError, match="not started"):
            await use
    await sync.stop()
    await sync.start()
    await sync.start()
    await sync.set("a", 1)
    await sync.stop()
    await sync.stop()
    with pytest.raises(ConfigurationError, match="not started"):
        await sync.get("a")
    async with sync:
        assert await sync.get("a") == 1


async def test_what_does_not_fit_is_refused_before_anything_is_written(store):
    for options in ({"namespace": ""}, {"history": 0}, {"max_keys": 0}):
        with pytest.raises(ConfigurationError):
            StateSync(store, **options)
    async with StateSync(store, "app", max_value_bytes=10, max_keys=2) as sync:
        with pytest.raises(PayloadTooLarge, match=r"big has 12 bytes; a value of app may have 10"):
            await sync.set("big", "x" * 10)
        for key in ("", "a\nb", "x" * 513):
            with pytest.raises(ConfigurationError, match="cannot be a key"):
                await sync.set(key, 1)
        with pytest.raises(CodecError, match="tuple"):
            await sync.set("t", (1, 2))
        await sync.update({"a": 1, "b": 2})
        with pytest.raises(PayloadTooLarge, match="2 keys, and c would be one more"):
            await sync.set("c", 1)
        await sync.set("a", 2)
        with pytest.raises(ConfigurationError, match="ttl"):
            await sync.set("a", 1, ttl=0)
        with pytest.raises(ConfigurationError, match="Did you mean 'last_write_wins'"):
            await sync.set("a", 1, strategy="last_writer_wins")
        assert await sync.items() == {"a": 2, "b": 2}


# ---------------------------------------------------------------- conflicts


@pytest.mark.parametrize(
    ("strategy", "lives", "expected", "result"),
    [
        # No conflict: the key does not live, or is at the version that is expected.
        *((s, False, e, "new") for s in ("last_write_wins", "first_write_wins", "merge", "reject") for e in (None, 0, 7)),
        *((s, True, "right", "new") for s in ("last_write_wins", "first_write_wins", "merge", "reject")),
        # A conflict: it lives, and no version is expected, or another one.
        *(("last_write_wins", True, e, "new") for e in (None, 0, "wrong")),
        *(("first_write_wins", True, e, "old") for e in (None, 0, "wrong")),
        *(("merge", True, e, "both") for e in (None, 0, "wrong")),
        *(("reject", True, e, "refused") for e in (None, 0, "wrong")),
        # Nothing said of a strategy: a version that is expected must be there.
        (None, True, None, "new"),
        (None, False, 0, "new"),
        (None, True, 0, "refused"),
        (None, True, "wrong", "refused"),
        (None, True, "right", "new"),
    ],
)  # fmt: skip
async def test_what_becomes_of_a_conflict(here, there, strategy, lives, expected, result):
    """Also where this instance has not yet heard of what there is."""
    old, new = {"a": 1, "both": 1}, {"b": 2, "both": 2}
    version = (await there.set("k", old)).version if lives else 0
    expected = {"right": version, "wrong": version + 1}.get(expected, expected)
    if result == "refused":
        with pytest.raises(StateConflict) as refused:
            await here.set("k", new, strategy=strategy, expected_version=expected)
        assert (refused.value.key, refused.value.version) == ("k", version)
        result = "old"
    else:
        done = await here.set("k", new, strategy=strategy, expected_version=expected)
        assert done.applied is (result != "old")
    wanted = {"old": old, "new": new, "both": {"a": 1, "b": 2, "both": 2}}[result]
    assert await here.get("k") == await there.get("k", fresh=True) == wanted


async def test_a_function_decides_and_may_be_asked_again(here, there):
    await there.set("top", 5)
    assert (await here.set("top", 3, strategy=max)).value == 5
    assert (await here.set("top", 9, strategy=max)).value == 9
    assert (await here.set("new", 1, strategy=max)).value == 1
    with pytest.raises(ZeroDivisionError):
        await here.set("top", 1, strategy=lambda old, new: 1 / 0)
    assert await here.get("top", fresh=True) == 9


async def test_of_many_who_create_one_key_one_succeeds(store):
    async with AsyncExitStack() as stack:
        syncs = [await stack.enter_async_context(StateSync(store, "app")) for _ in range(5)]
        done = await asyncio.gather(
            *(sync.set("leader", n, strategy="first_write_wins") for n, sync in enumerate(syncs))
        )
        assert sum(each.applied for each in done) == 1
        assert {each.value for each in done} == {next(each.value for each in done if each.applied)}


async def test_a_delete_that_expects_another_version_is_refused(here):
    version = (await here.set("a", 1)).version
    with pytest.raises(StateConflict) as refused:
        await here.delete("a", expected_version=version + 1)
    assert refused.value.version == version
    assert await here.delete("a", expected_version=version)


async def test_keys_are_written_together_or_not_at_all(here, there):
    done = await here.update({"a": 1, "b": 2})
    versions = await there.update(
        {"a": 10, "c": 3}, delete=["b", "none"], expected_versions={"a": done["a"], "c": 0}
    )
    assert versions["c"] > versions["a"] > done["b"]
    assert await here.items(fresh=True) == {"a": 10, "c": 3}
    with pytest.raises(
        StateConflict, match=r"The key a is at version \d+, and version 1 was expected"
    ) as refused:
        await here.update({"d": 4, "a": 11}, expected_versions={"a": done["a"]})
    assert (refused.value.key, refused.value.version) == ("a", versions["a"])
    with pytest.raises(ConfigurationError, match="z: a version is expected"):
        await here.update({"d": 4}, expected_versions={"z": 1})
    assert await there.items(fresh=True) == {"a": 10, "c": 3}


# ---------------------------------------------------------------- counters and sets


async def test_no_increment_is_lost_and_those_of_one_process_are_combined(here, there):
    sums = await asyncio.gather(*(sync.increment("n") for sync in (here, there) for _ in range(200)))
    assert sorted(sums) == list(range(1, 401))
    assert await here.get("n", fresh=True) == 400
    assert await here.increment("n", -0.5) == 399.5
    assert here.statistics()["combined"] > 100


async def test_only_numbers_are_counted_up(here):
    for value in ("1", [1], {"n": 1}, True):
        await here.set("text", value)
        with pytest.raises(StateTypeError, match="is no number"):
            await here.increment("text")
    for by in ("1", True, None):
        with pytest.raises(StateTypeError, match="cannot be added"):
            await here.increment("n", by)
    with pytest.raises(StateTypeError, match="is no set"):
        await here.add("text", 1)
    results = await asyncio.gather(
        here.increment("n"), here.increment("text"), here.increment("n"), return_exceptions=True
    )
    assert (results[0], type(results[1]), results[2]) == (1, StateTypeError, 2)


async def test_members_of_a_set_are_never_lost(here, there):
    await asyncio.gather(*(sync.add("tags", f"{n}", "all") for sync in (here, there) for n in range(20)))
    assert sorted(await here.get("tags", fresh=True), key=str) == sorted([*map(str, range(20)), "all"])
    assert "all" not in await there.discard("tags", "all", "nobody")
    assert await here.add("odd", {"a": 1}, {"a": 1}) == [{"a": 1}]


async def test_a_merge_may_count_and_collect(here, there):
    patches = [
        {"visits": Increment(), "by": AddToSet(n), "last": n, "in": {"n": Increment(2)}} for n in range(10)
    ]
    await asyncio.gather(
        *((here, there)[n % 2].set("page", p, strategy="merge") for n, p in enumerate(patches))
    )
    page = await here.get("page", fresh=True)
    assert (page["visits"], sorted(page["by"]), page["in"]) == (10, list(range(10)), {"n": 20})
    done = await there.set("page", {"by": RemoveFromSet(*range(9)), "in": None}, strategy="merge")
    assert done.value == {"visits": 10, "by": [9], "last": page["last"]}
    assert (await here.set("n", Increment(5))).value == 5


# ---------------------------------------------------------------- time


async def test_a_key_ends_everywhere_and_all_hear_of_it(store):
    clock = VirtualClock()
    store = MemoryStore(clock)
    token = SURROUNDINGS.set(SURROUNDINGS.get()._replace(clock=clock))
    try:
        async with StateSync(store, "app") as here, StateSync(store, "app") as there:
            heard = []
            there.on_update(heard.append)
            await here.set("a", 1, ttl=timedelta(seconds=10))
            await here.set("kept", 1, ttl=10)
            await here.increment("kept")
            await here.set("merged", {"a": 1}, ttl=10)
            await here.set("merged", {"b": 1}, strategy="merge")
            await here.set("freed", 1, ttl=10)
            await here.set("freed", 2)
            await here.set("later", 1, ttl=10)
            await here.increment("later", ttl=20)
            await seen(there, "later", 2)
            clock.advance(10)
            for sync in (here, there):
                assert await sync.items() == {"freed": 2, "later": 2}
                assert await sync.get("a") is None
            await there.get("a", fresh=True)
            await until(lambda: asyncio.sleep(0, sum(u.deleted for u in heard) == 3), "all ends are heard of")
            ended = [(u.key, u.old_value, u.origin) for u in heard if u.deleted]
            assert sorted(ended) == [("a", 1, ""), ("kept", 2, ""), ("merged", {"a": 1, "b": 1}, "")]
            assert (await here.set("a", 2, expected_version=0)).applied
    finally:
        SURROUNDINGS.reset(token)


async def test_an_end_is_heard_of_without_anybody_touching_the_space(here, there, monkeypatch):
    """At the end itself, not at the next look."""
    monkeypatch.setattr(replica, "LOOK_AGAIN", 3600)
    heard = []
    there.on_update(heard.append, "a")
    await here.set("a", 1, ttl=0.2)
    await until(lambda: asyncio.sleep(0, len(heard) == 2), "the end is heard of")
    assert [(u.value, u.deleted) for u in heard] == [(1, False), (None, True)]


# ---------------------------------------------------------------- updates


async def test_handlers_hear_every_version_in_order_their_own_too(here, there):
    heard: dict[str, list] = {"all": [], "config": [], "slow": []}

    async def slow(update):
        await asyncio.sleep(0.001)
        heard["slow"].append(update)

    there.on_update(heard["all"].append)
    end = there.on_update(heard["config"].append, "config:*")
    there.on_update(slow, "n")
    first = await here.set("config:a", 1)
    await asyncio.gather(*(sync.set("n", n) for n in range(20) for sync in (here, there)))
    await there.set("config:a", {"x": 1})
    await here.delete("config:a")
    await until(
        lambda: asyncio.sleep(0, len(heard["all"]) == 43 and len(heard["slow"]) == 40), "all is heard"
    )
    assert [u.version for u in heard["all"]] == list(range(first.version, first.version + 43))
    told = [(u.key, u.value, u.old_value, u.deleted, u.origin) for u in heard["config"]]
    assert told == [
        ("config:a", 1, None, False, "here"),
        ("config:a", {"x": 1}, 1, False, "there"),
        ("config:a", None, {"x": 1}, True, "here"),
    ]
    numbers = heard["slow"]
    assert [u.old_value for u in numbers[1:]] == [u.value for u in numbers[:-1]]
    assert {u.origin for u in numbers} == {"here", "there"}
    assert not any(u.gap for u in heard["all"])
    end()
    end()
    await here.set("config:b", 1)
    await until(lambda: asyncio.sleep(0, len(heard["all"]) == 44), "others still hear")
    assert len(heard["config"]) == 3


async def test_a_handler_that_fails_is_told_to_the_loop_and_goes_on(here):
    errors, heard = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))

    def handler(update):
        heard.append(update.value)
        raise ValueError(update.value)

    here.on_update(handler)
    await here.set("a", 1)
    await here.set("a", 2)
    await until(lambda: asyncio.sleep(0, len(heard) == 2), "both are heard")
    assert [type(each["exception"]) for each in errors] == [ValueError] * 2
    assert "failed at a, version" in errors[0]["message"]


async def test_a_stop_lets_handlers_take_what_is_on_its_way(store):
    heard = []

    async def slow(update):
        await asyncio.sleep(0.005)
        heard.append(update.value)

    async with StateSync(store, "app") as sync:
        sync.on_update(slow)
        for n in range(10):
            await sync.set("a", n)
        await sync.get("a", fresh=True)
    assert heard == list(range(10))
    async with StateSync(store, "app") as sync:
        sync.on_update(lambda _: asyncio.sleep(3600))
        await sync.set("a", 1)
        await sync.get("a", fresh=True)
        await sync.stop(timeout=0.01)


class Weather:
    """Cells that cannot be reached for a while."""

    def __init__(self, cells):
        self.cells, self.is_down = cells, False

    def __getattr__(self, name):
        if self.is_down:
            raise StoreUnreachable("no way")
        return getattr(self.cells, name)


async def test_who_was_disconnected_misses_nothing(here, store, monkeypatch, caplog):
    monkeypatch.setattr(replica, "FIRST_PAUSE", 0.001)
    heard = []
    there = StateSync(store, "app")
    weather = there._replica._cells = Weather(store.cells)
    there.on_update(heard.append)
    async with there:
        await here.set("a", 0)
        await seen(there, "a", 0)
        weather.is_down = True
        for n in range(1, 30):
            await here.set("a", n)
        await until(lambda: asyncio.sleep(0, not there.statistics()["connected"]), "it is noticed")
        assert await there.get("a") == 0
        with pytest.raises(StoreUnreachable):
            await there.get("a", fresh=True)
        weather.is_down = False
        await seen(there, "a", 29)
        await until(lambda: asyncio.sleep(0, len(heard) == 30), "all is heard")
    assert [u.value for u in heard] == list(range(30))
    assert "cannot be followed for now" in caplog.text


async def test_who_missed_what_is_no_longer_kept_loads_anew_and_says_so(here, store, caplog):
    heard = []
    there = StateSync(store, "app")
    weather = there._replica._cells = Weather(store.cells)
    there.on_update(heard.append)
    await here.update({"same": 1, "goes": 1, "a": 1})
    async with there:
        weather.is_down = True
        await here.update({"a": 2, "new": 1}, delete=["goes"])
        await here.set("a", 3)
        await store.cells.prune(SPACE, 1)
        weather.is_down = False
        assert await there.items(fresh=True) == {"same": 1, "a": 3, "new": 1}
        await here.set("same", 2)
        await until(lambda: asyncio.sleep(0, len(heard) == 4), "all is heard")
    told = {u.key: (u.value, u.old_value, u.deleted, u.gap) for u in heard}
    assert told == {
        "goes": (None, 1, True, True),
        "a": (3, 1, False, True),
        "new": (1, None, False, True),
        "same": (2, 1, False, False),
    }
    assert there.statistics()["reloads"] == 1
    assert "loaded anew" in caplog.text


async def test_a_store_that_was_restored_is_what_counts(here, store):
    """What was written behind the copy never was, though this instance has it."""
    await here.update({"a": 1, "b": 1})
    copy = (await store.cells.scan(SPACE)).cells
    await here.set("a", 2)
    await here.set("lost", 1)
    await here.get("a", fresh=True)
    fresh = MemoryStore()
    await fresh.cells.apply(SPACE, [Change(cell.name, cell.data) for cell in copy])
    await fresh.begin_epoch()
    here._replica._cells = here._cells = fresh.cells
    await here.increment("b")
    assert await here.items(fresh=True) == {"a": 1, "b": 2}


class Busy:
    """Cells that are changed while they are scanned."""

    def __init__(self, cells):
        self.cells, self.left = cells, 5

    def __getattr__(self, name):
        return getattr(self.cells, name)

    async def scan(self, space, **how):
        position = (await self.cells.get(space, ())).position
        if self.left:
            self.left -= 1
            await self.cells.apply(space, [Change("a", b"%d" % self.left)])
            await self.cells.apply(space, [Change("b", None if self.left % 2 else b"1")])
            await self.cells.prune(space, 1 if self.left == 3 else 10)
        view = await self.cells.scan(space, **how)
        return View(view.cells, position, view.at)


async def test_what_is_written_while_all_is_loaded_is_there_and_not_told_in_part(here, store):
    await here.update({"a": 1, "b": 1})
    heard = []
    late = StateSync(store, "app")
    late._replica._cells = Busy(store.cells)
    late.on_update(heard.append)
    async with late:
        snapshot = await late.snapshot()
        assert snapshot.values == await here.items(fresh=True)
        await here.set("a", 2)
        await until(lambda: asyncio.sleep(0, len(heard) == 1), "what comes then is heard")
        assert [(u.version, u.value, u.gap) for u in heard] == [(snapshot.position + 1, 2, False)]


async def test_a_lost_tap_is_made_up_for(here, store, monkeypatch):
    monkeypatch.setattr(replica, "LOOK_AGAIN", 0.01)
    async with StateSync(store, "app") as deaf:
        deaf._replica._unlisten()
        await here.set("a", 1)
        await seen(deaf, "a", 1)


class OneByOne:
    """Cells whose feed tells one entry at a time."""

    def __init__(self, cells):
        self.cells = cells

    def __getattr__(self, name):
        return getattr(self.cells, name)

    async def feed(self, space, after, limit):
        return (await self.cells.feed(space, after, limit))[:1]


async def test_a_feed_that_lags_does_not_take_back_what_was_written_here(here, there, store):
    here._replica._cells = OneByOne(store.cells)
    for n in range(10):
        await there.set("k", -n)
        await there.set("k", -n - 1)
        await here.set("k", n)
        for _ in range(3):
            assert await here.get("k", fresh=True) == n
    await there.set("k", -1)
    await there.set("k", -2)
    await here.update({"j": 1}, delete=["k"])
    for _ in range(5):
        assert await here.get("k", fresh=True) is None
    assert await here.get("j") == 1


async def test_what_was_written_here_is_read_here_whatever_the_feed_says_meanwhile(here, there):
    """The feed comes later, and in between it tells what others wrote before."""
    for n in range(30):
        await asyncio.gather(there.set("k", -1), here.set("k", n), there.delete("k"))
        await here.set("k", n)
        for _ in range(3):
            assert await here.get("k") == n
            await asyncio.sleep(0)
        await there.get("k", fresh=True)
        await there.set("k", -2)
        await here.delete("k")
        for _ in range(3):
            assert await here.get("k") is None
            await asyncio.sleep(0)


# ---------------------------------------------------------------- history and snapshots


async def test_the_history_of_a_key_is_what_is_kept_of_it(here, there, store):
    for n in range(3):
        await here.set("a", n)
        await there.set("b", n)
    await there.delete("a")
    told = [(u.value, u.old_value, u.deleted, u.origin) for u in await there.history("a")]
    assert told == [
        (0, None, False, "here"),
        (1, 0, False, "here"),
        (2, 1, False, "here"),
        (None, 2, True, "there"),
    ]
    assert [u.value for u in await here.history("a", limit=2)] == [2, None]
    await store.cells.prune(SPACE, 3)
    assert [(u.value, u.old_value) for u in await here.history("a")] == [(2, None), (None, 2)]
    assert await here.history("nobody") == []


async def test_old_changes_are_forgotten(store):
    async with StateSync(store, "app", history=20) as sync:
        for n in range(100):
            await sync.set("a", n)
        await sync._pruning
        assert 20 <= len(await sync.history("a", limit=1000)) <= 24


async def test_a_snapshot_comes_back(here, there):
    await here.update({"a": 1, "b": [1], "same": "x"})
    await here.set("ends", 1, ttl=3600)
    snapshot = StateSnapshot.from_json((await there.snapshot()).to_json())
    assert snapshot.values == {"a": 1, "b": [1], "same": "x", "ends": 1}
    same = (await here.entry("same")).version
    await here.update({"a": 2, "later": 1}, delete=["b"])
    await here.set("ends", 2)
    assert await there.restore(snapshot) == 4
    assert await here.items(fresh=True) == {"a": 1, "b": [1], "same": "x", "ends": 1}
    assert (await here.entry("same")).version == same
    assert (await here.entry("ends")).expires_at == pytest.approx(
        snapshot.entries[2].expires_at, abs=2_000_000
    )
    await here.set("other", 1)
    assert await there.restore(snapshot, keep_others=True) == 0
    assert await there.get("other") == 1
    with pytest.raises(CodecError, match="no snapshot"):
        StateSnapshot.from_json(b"{}")


# ---------------------------------------------------------------- several namespaces


async def test_a_manager_starts_and_stops_all(store):
    manager = StateSyncManager(store, history=50)
    early = manager.namespace("early")
    assert manager.namespace("early") is early
    with pytest.raises(ConfigurationError, match="not started"):
        await early.set("a", 1)
    async with manager:
        await early.set("a", 1)
        late = manager.namespace("late")
        await late.set("a", 2)
        assert await early.get("a") == 1
        assert set(manager.statistics()) == {"early", "late"}
    for sync in (early, late):
        with pytest.raises(ConfigurationError, match="not started"):
            await sync.get("a")


async def test_a_url_is_opened_and_closed_with_it(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db?synchronous=OFF"
    async with StateSync(url, "app") as sync:
        await sync.set("a", 1)
    async with StateSyncManager(url) as manager:
        assert await manager.namespace("app").get("a") == 1


async def test_who_follows_listens_only_while_it_runs(store):
    if isinstance(store, MemoryStore):
        async with StateSync(store, "app"):
            assert tap_of(SPACE) in store.signal._exact
        assert not store.signal._exact
