"""Results of pure steps that other runs use."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.runtime.scenes import Shared, history, opened, until

from reprise import (
    Budget,
    CodecError,
    ConfigurationError,
    Cost,
    KeyRing,
    Kind,
    Retry,
    VirtualClock,
    current_step,
    step,
    workflow,
)
from reprise.kernel.errors import StoreUnreachable
from reprise.kernel.events import cache_stream
from reprise.runtime.caching import identity
from reprise.stores import open_store
from reprise.stores.moving import copy_store, export_runs, export_store, import_runs, prune_cache
from reprise.stores.packing import digest

DAY = 86_400
executed: list[Any] = []
fate: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def nothing_executed():
    executed.clear()
    fate.clear()


@step(pure=True, cache="30d")
async def costly(n: int, unit: str = "m") -> str:
    executed.append(n)
    await asyncio.sleep(fate.get("pause", 0))
    return f"{n} {unit}" + fate.get("text", "")


@step(pure=True, cache=True, retry=Retry(1))
async def moody(n: int) -> int:
    executed.append(n)
    if "error" in fate:
        raise fate["error"]
    return n


@workflow
async def asks(n: int) -> str:
    return await costly(n)


@workflow
async def asks_moody(n: int) -> int:
    return await moody(n)


async def entries(store: Any) -> dict[str, int]:
    """Return how many records each entry of the cache has."""
    await store.start()
    found: dict[str, int] = {}
    for record in await store.log.scan(0, 10_000, cache_stream("")):
        assert record.kind == Kind.CACHED
        found[record.stream] = found.get(record.stream, 0) + 1
    return found


async def test_another_run_uses_what_one_computed():
    store = Shared()
    fate["pause"] = 0.002
    async with opened(store) as app:
        assert await app.run(asks, 5, id="one") == "5 m"
        assert await app.run(asks, 5, id="two") == "5 m"
        assert await app.run(asks, 6, id="three") == "6 m"
        counts = app.engine.statistics()
        assert (counts["cache_hits"], counts["cache_misses"], counts["steps"]) == (1, 2, 2)
    assert executed == [5, 6]
    (miss,) = [r for r in await history(store, "one") if r.kind == Kind.STEP_COMPLETED]
    (hit,) = [r for r in await history(store, "two") if r.kind == Kind.STEP_COMPLETED]
    assert (hit.key, hit.data, hit.print) == (miss.key, miss.data, miss.print)
    assert miss.took >= 2000
    assert hit.took == -miss.took, "so much was saved"
    assert list((await entries(store)).values()) == [1, 1]


async def test_an_entry_is_in_the_commit_of_its_step():
    store = Shared()
    async with opened(store) as app:
        await app.run(asks, 5, id="one")
    records = await store.log.scan(0, 1000)
    cached = next(r for r in records if r.kind == Kind.CACHED)
    step = next(r for r in records if r.kind == Kind.STEP_COMPLETED)
    begin = next(
        r for r in reversed(records) if r.append and r.stream == "run/one" and r.position <= step.position
    )
    assert cached.append == begin.append
    assert (cached.key, cached.data, cached.took) == ("costly", step.data, step.took)


async def test_results_hold_for_so_long():
    store, clock = Shared(), VirtualClock()
    async with opened(store, clock=clock) as app:
        for number, (days, count) in enumerate([(0, 1), (29, 1), (2, 2), (29, 2), (31, 3), (31, 4), (1, 4)]):
            clock.advance(days * DAY)
            await app.run(asks, 5, id=f"run{number}")
            assert len(executed) == count
        await until(
            lambda: len(store.log._streams[next(s for s in store.log._streams if s[:5] == "cache")]) == 1
        )


async def test_a_shorter_time_holds_for_older_results_too():
    async with opened(clock=(clock := VirtualClock())) as app:
        await app.run(asks, 5, id="one")
        clock.advance(2 * DAY)

        @workflow
        async def asks_for_fresh(n: int) -> str:
            return await costly.options(cache=timedelta(days=1))(n)

        await app.run(asks_for_fresh, 5, id="two")
        assert executed == [5, 5]
        clock.advance(2 * DAY)
        await app.run(asks, 5, id="three")
    assert executed == [5, 5, 5], "and a longer one does not make what was kept for a day hold for more"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (((5,), {}), ((5,), {"unit": "m"}), False),
        (((5, "km"), {}), ((), {"unit": "km", "n": 5}), True),
        (((5, "km"), {}), ((5, "mm"), {}), False),
    ],
)
async def test_it_is_known_by_its_arguments(first, second, same):
    @workflow
    async def flow(args: list[Any], kwargs: dict[str, Any]) -> str:
        return await costly(*args, **kwargs)

    async with opened() as app:
        for args, kwargs in (first, second):
            await app.run(flow, list(args), kwargs)
    assert len(executed) == (1 if same else 2)


def made(source: str, **options: Any) -> Any:
    """Return a cached step of another source."""
    scope: dict[str, Any] = {"__name__": "made"}
    exec(source, scope)
    return step(pure=True, cache=True, **options)(scope["f"])


def test_it_is_known_by_its_code_or_version():
    one = identity(made("def f(n): return n + 1"))
    assert identity(made("\n\ndef f(n):\n    return n + 1  # as before")) == one
    for other in ("def f(n): return n + 2", "def f(n): return n - 1", "def f(n, m=3): return n + 1",
                  "def f(n): return (lambda: n + 1)()"):  # fmt: skip
        assert identity(made(other)) != one
    versions = [
        made(code, version=v) for code, v in (("def f(n): return 1", "a"), ("def f(n): return 2", "a"))
    ]
    assert identity(versions[0]) == identity(versions[1]) != identity(versions[0].options(version="b"))
    assert identity(versions[0]) != identity(versions[0].options(name="g"))


def test_it_is_known_by_what_it_closes_over():
    def scaled(by: Any) -> Any:
        @step(pure=True, cache=True)
        async def scale(n: int) -> int:
            return n * by

        return scale

    assert identity(scaled(2)) == identity(scaled(2)) != identity(scaled(3))
    with pytest.raises(ConfigurationError, match="closes over"):
        identity(scaled(object()))
    assert identity(scaled(object()).options(version="1"))
    with pytest.raises(ConfigurationError, match="no Python code"):
        identity(step(pure=True, cache=True, name="absolute")(abs))


def test_it_is_known_to_other_processes():
    code = (
        "from tests.unit.runtime.test_caching import *\n"
        "asked = costly.arguments.canonical((5, 'km'), {})\n"
        "words = step(pure=True, cache=True)(lambda w: w in {'a', 'bc', 'd', 'ef'})\n"
        "print(digest(Shared(), identity(words) + identity(costly) + asked), words.arguments.canonical(({},), {}))\n"
    )
    said = {
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed},
                       capture_output=True, text=True, check=True).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(said) == 1


async def test_failures_are_not_kept():
    async with opened() as app:
        fate["error"] = ValueError("no")
        with pytest.raises(ValueError, match="no"):
            await app.run(asks_moody, 1)
        fate.clear()
        assert await app.run(asks_moody, 1) == 1
    assert executed == [1, 1]


async def test_arguments_that_cannot_be_compared_are_an_error():
    @step(pure=True, cache=True)
    async def takes(client: Any) -> int:
        return 1

    @workflow
    async def flow() -> int:
        return await takes(object())

    async with opened() as app:
        with pytest.raises(CodecError, match="client"):
            await app.run(flow)


@dataclass
class Wide:
    n: int
    more: int


async def test_a_result_of_another_type_is_computed_again():
    def returning(type: Any, value: Any) -> Any:
        async def f(n: int) -> Any:
            executed.append(n)
            return value

        f.__annotations__["return"] = type
        cached = step(pure=True, cache=True, name="f", version="1")(f)

        @workflow
        async def flow() -> Any:
            return (await cached(1)) is not None

        return flow

    async with opened() as app:
        await app.run(returning(int, 3), id="one")
        await app.run(workflow(name="other")(returning(Wide, Wide(1, 2)).function), id="two")
    assert executed == [1, 1]


async def test_the_same_call_twice_at_once(tmp_path):
    @workflow
    async def flow() -> list[str]:
        return await asyncio.gather(costly(1), costly(1), costly(2))

    for store in (Shared(), open_store(f"sqlite:///{tmp_path}/x.db")):
        executed.clear()
        async with opened(store) as app:
            assert await app.run(flow, id="one") == ["1 m", "1 m", "2 m"]
            assert sorted(executed) in ([1, 1, 2], [1, 2]), "they are pure: both may compute"
            computed = len(executed)
            assert await app.run(flow, id="two") == ["1 m", "1 m", "2 m"]
            assert len(executed) == computed


async def test_a_call_may_be_cancelled_while_it_is_looked_up():
    store = Shared()
    go = asyncio.Event()
    read = store.log.read

    async def slow(stream: str, *rest: Any) -> Any:
        if stream.startswith("cache/"):
            await go.wait()
        return await read(stream, *rest)

    store.log.read = slow

    @workflow
    async def flow() -> str:
        try:
            async with asyncio.timeout(0.005):
                return await costly(1)
        except TimeoutError:
            return "late"

    async with opened(store) as app:
        assert await app.run(flow) == "late"
        go.set()
        await asyncio.sleep(0.005)
        counts = app.engine.statistics()
        assert (counts["cache_hits"], counts["cache_misses"]) == (0, 0)
    assert not executed


async def test_what_cannot_be_read_is_computed():
    store = Shared()
    read = store.log.read

    async def broken(stream: str, *rest: Any) -> Any:
        if stream.startswith("cache/"):
            raise StoreUnreachable("no")
        return await read(stream, *rest)

    store.log.read = broken
    async with opened(store) as app:
        assert [await app.run(asks, 1), await app.run(asks, 1)] == ["1 m", "1 m"]
    assert executed == [1, 1]


@step(pure=True, cache=True, executor="process")
def elsewhere(n: int) -> list[int]:
    return [n, os.getpid()]


@step(pure=True, executor="process", retry=Retry(1))
def asks_for_a_key() -> str:
    return current_step().name + current_step().idempotency_key


async def test_a_process_computes_and_everybody_uses_it():
    @workflow
    async def flow(n: int) -> list[int]:
        return await elsewhere(n)

    @workflow
    async def keyless() -> str:
        return await asks_for_a_key()

    async with opened() as app:
        first = await app.run(flow, 3)
        assert first[1] != os.getpid()
        assert await app.run(flow, 3) == first
        assert app.engine.statistics()["cache_hits"] == 1
        with pytest.raises(ConfigurationError, match="asks_for_a_key is pure"):
            await app.run(keyless)


async def test_what_came_from_the_cache_costs_nothing():
    dear = costly.options(costs=Cost(tokens=100))

    @workflow(budget=Budget(tokens=150))
    async def flow(calls: list[int]) -> list[str]:
        return [await dear(n) for n in calls]

    async with opened() as app:
        assert await app.run(flow, [1]) == ["1 m"]
        assert await app.run(flow, [1, 2]) == ["1 m", "2 m"]
    assert executed == [1, 2]


@pytest.mark.parametrize(
    "options",
    [
        {"cache": "30d"},
        {"pure": True, "version": "1"},
        {"pure": True, "cache": 0},
        {"pure": True, "cache": "soon"},
        {"pure": True, "transaction": True},
    ],
    ids=str,
)
def test_options_that_make_no_sense(options):
    with pytest.raises(ConfigurationError):
        step(**options)(abs)


def test_a_method_has_more_than_its_arguments():
    class Shop:
        @step(pure=True, cache=True)
        async def price(self, n: int) -> int:
            return n

    with pytest.raises(ConfigurationError, match="method"):
        Shop().price(1)


# ---------------------------------------------------------------- sealed stores

KEYS = {"old": bytes(range(32)), "new": bytes(range(1, 33))}


async def test_a_hit_is_never_one_of_another_key(tmp_path):
    """The name of an entry cannot be guessed without the key, and each key has its own."""
    url = f"sqlite:///{tmp_path}/x.db"
    for ring, count in [
        (KeyRing(KEYS, "old"), 1),
        (KeyRing(KEYS, "old"), 1),
        (KeyRing(KEYS, "new"), 2),
        (KeyRing({"new": KEYS["new"]}, "new"), 2),
        (None, 3),
        (None, 3),
    ]:
        async with opened(url, keys=ring) as app:
            assert await app.run(asks, 5) == "5 m"
            assert len(executed) == count
    plain = open_store(url)
    await plain.start()
    names = {record.stream for record in await plain.keeper.log.scan(0, 1000, cache_stream(""))}
    said = digest(plain, identity(costly) + b"\0" + costly.arguments.canonical((5,), {}))
    assert len(names) == 3
    assert cache_stream(said) in names, "that without a key, and only that, can be told from outside"
    sealed = [r.data for r in await plain.keeper.log.scan(0, 1000, cache_stream("")) if b"5 m" not in r.data]
    assert len(sealed) == 2
    await plain.stop()


# ---------------------------------------------------------------- what becomes of it


async def test_large_results_are_kept_once(tmp_path):
    fate["text"] = os.urandom(60_000).hex()
    store = open_store(f"sqlite:///{tmp_path}/x.db")
    async with opened(store) as app:
        for n in range(3):
            await app.run(asks, 7, id=f"run{n}")
        stats = await app.store.blobs.stats()
        assert stats["blobs"] == 1


async def test_what_holds_no_more_is_pruned():
    store, clock = Shared(), VirtualClock()
    async with opened(store, clock=clock) as app:
        await app.run(asks, 1)
        await app.run(asks_moody, 1)
        clock.advance(20 * DAY)
        await app.run(asks, 2)
        assert await pruned(store, clock) == (0, 3)
        clock.advance(11 * DAY)
        assert await pruned(store, clock, dry_run=True) == (1, 2)
        assert await pruned(store, clock) == (1, 2)
        assert await pruned(store, clock, written_before=clock.now() - 20 * DAY * 1_000_000) == (1, 1)
        assert await pruned(store, clock, all=True) == (1, 0)
        assert not await entries(store)
        executed.clear()
        assert await app.run(asks, 2) == "2 m"
        assert executed == [2]


async def pruned(store: Any, clock: VirtualClock, **options: Any) -> tuple[int, int]:
    done = await prune_cache(store, clock=clock, **options)
    return done.entries, done.kept


async def test_a_copy_of_all_has_it_and_an_archive_of_runs_has_not(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/x.db")
    async with opened(store) as app:
        await app.run(asks, 1, id="one")
    await store.start()
    copy = open_store(f"sqlite:///{tmp_path}/copy.db")
    await copy.start()
    await copy_store(store, copy)
    assert await entries(copy) == await entries(store) != {}
    await copy.stop()
    await export_store(store, tmp_path / "all.gz")
    await export_runs(store, tmp_path / "runs.gz")
    kept = await entries(store)
    await store.stop()
    for archive, expected in (("all.gz", kept), ("runs.gz", {})):
        other = open_store(f"sqlite:///{tmp_path}/{archive}.db")
        await other.start()
        await import_runs(other, tmp_path / archive)
        assert await entries(other) == expected
        executed.clear()
        async with opened(other) as app:
            assert await app.run(asks, 1, id="two") == "1 m"
        assert executed == ([] if expected else [1])
