"""Streams of partial output: nothing lost, nothing doubled, beside the history and never in it."""

import asyncio
from dataclasses import dataclass

import pytest
from tests.replay.harness import fill
from tests.unit.runtime.scenes import Shared, cut, history, kill, kinds, opened, until

from reprise import (
    BodyError,
    ChunksGone,
    CodecError,
    ConfigurationError,
    PayloadTooLarge,
    Retry,
    RunNotFound,
    continue_as,
    copy_store,
    export_runs,
    import_runs,
    prune,
    step,
    stream,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import Kind, out_stream
from reprise.runtime import streams

gate = asyncio.Event()
tries: list[int] = []


@dataclass
class Piece:
    text: str


@step(retry=Retry(3, max_delay=0.001))
async def speaks(words: str, fail: int = 0) -> int:
    out = stream("tokens")
    tries.append(1)
    for n, word in enumerate(words.split()):
        if len(tries) <= fail and n == 2:
            raise ConnectionError(word)
        await out.write(word)
    return len(words.split())


@step
async def waits() -> None:
    await stream("tokens").write("before")
    await gate.wait()
    await stream("tokens").write("after")


@step
def thread(count: int) -> int:
    out = stream("numbers")
    for n in range(count):
        out.write(n)
    return count


@step(executor="process")
def elsewhere(count: int) -> int:
    out = stream("numbers", keep=10_000)
    for n in range(count):
        out.write({"n": n, "text": "x" * 500})
    return count


@step(executor="process", retry=Retry(1))
async def too_large_elsewhere() -> None:
    await stream("numbers").write("x" * 2000)


@workflow
async def talk(words: str = "a b c", fail: int = 0) -> int:
    return await speaks(words, fail)


@pytest.fixture(autouse=True)
def fresh():
    gate.clear()
    tries.clear()


async def read(app, run, name="tokens", **options):
    async with asyncio.timeout(10):
        return [chunk async for chunk in app.client.stream(run, name, **options)]


async def trimmed(app, run, most):
    """Wait until a stream has at most so many chunks, and return them."""
    async with asyncio.timeout(5):
        while True:
            found = await read(app, run, follow=False)
            if len(found) <= most:
                return found
            await asyncio.sleep(0.001)


async def test_what_a_step_writes_is_read_until_the_run_ends_and_from_any_place_on():
    async with opened() as app:
        handle = await app.start(talk, id="t")
        chunks = [chunk async for chunk in handle.stream("tokens", type=str)]
        assert [(c.offset, c.value, c.step, c.restarts) for c in chunks] == [
            (n, word, ":1.speaks", False) for n, word in enumerate("abc", 1)
        ]
        assert [c.value for c in await read(app, "t", after=2)] == ["c"]
        assert await app.client.streams("t") == ["tokens"]
        assert kinds(await history(app.store, "t")) == [
            "RUN_STARTED",
            "RUN_OWNED",
            "STEP_COMPLETED",
            "RUN_FINISHED",
        ]


async def test_chunks_are_seen_while_the_step_goes_on():
    @workflow
    async def slow() -> None:
        await waits()

    store = Shared()
    async with opened(store) as app, opened(store, worker=False) as desk:
        await app.start(slow, id="s")
        seen = []
        async with asyncio.timeout(10):
            async for chunk in desk.client.stream("s", "tokens"):
                seen.append(chunk.value)
                gate.set()
        assert seen == ["before", "after"]


async def test_an_attempt_that_follows_says_that_the_one_before_is_void():
    async with opened() as app:
        assert await app.run(talk, "a b c", 2, id="t") == 3
        found = [(c.value, c.restarts) for c in await read(app, "t")]
        again, words = (None, True), [("a", False), ("b", False)]
        assert found == [*words, again, *words, again, *words, ("c", False)]


async def test_an_attempt_after_a_crash_says_so_too():
    store = Shared()

    @workflow
    async def slow() -> None:
        await waits()

    async with opened(store, lease=0.2) as first:
        await first.start(slow, id="s")
        async for chunk in first.client.stream("s", "tokens"):
            assert chunk.value == "before"
            break
        kill(first)
        gate.set()
        async with opened(store, workflows=[slow]) as second:
            chunks = [(c.value, c.restarts) for c in await read(second, "s")]
            # On a busy machine the first worker may have lost its short lease before, and begun anew.
            assert chunks[0] == ("before", False)
            assert chunks[-3:] == [(None, True), ("before", False), ("after", False)]


async def test_a_step_that_writes_fast_waits_for_the_store(monkeypatch):
    monkeypatch.setattr(streams, "MOST", 16)
    monkeypatch.setattr(streams, "TOGETHER", 8)
    most = 0

    @step
    async def flood(n: int) -> None:
        nonlocal most
        out = stream("tokens")
        for i in range(n):
            await out.write(i)
            most = max(most, out._outlet.chunks)

    @workflow
    async def floods() -> None:
        await flood(500)

    async with opened() as app:
        await app.run(floods, id="f")
        assert [c.value for c in await read(app, "f")] == list(range(500))
        assert most <= 16


async def test_a_step_in_a_thread_writes_without_await_and_waits_too(monkeypatch):
    monkeypatch.setattr(streams, "MOST", 16)
    monkeypatch.setattr(streams, "TOGETHER", 8)

    @workflow
    async def threads() -> int:
        return await thread(300)

    async with opened() as app:
        assert await app.run(threads, id="t") == 300
        assert [c.value for c in await read(app, "t", "numbers")] == list(range(300))


async def test_a_step_in_a_process_of_its_own_writes_and_waits(monkeypatch):
    monkeypatch.setattr(streams, "MOST", 16)
    monkeypatch.setattr(streams, "TOGETHER", 8)

    @workflow
    async def processes() -> int:
        return await elsewhere(3000)

    @workflow
    async def large() -> None:
        await too_large_elsewhere()

    async with opened(max_payload=1000) as app:
        assert await app.run(processes, id="p") == 3000
        assert [c.value["n"] for c in await read(app, "p", "numbers")] == list(range(3000))
        with pytest.raises(PayloadTooLarge):
            await app.run(large)


async def test_only_the_latest_are_kept_where_that_is_wished(monkeypatch):
    @step
    async def many(n: int) -> None:
        out = stream("tokens", keep=100)
        for i in range(n):
            await out.write(i)

    @workflow
    async def writes() -> None:
        await many(1000)
        await wait_for_signal("end")

    async with opened() as app:
        handle = await app.start(writes, id="w")
        await until(lambda: "w" in app.engine.loaded.idle)
        found = await trimmed(app, "w", 400)
        assert [c.value for c in found] == list(range(1000 - len(found), 1000))
        assert len(found) >= 100
        with pytest.raises(ChunksGone, match=r"chunks 6 to \d+ of stream 'tokens'"):
            await read(app, "w", after=5)
        await handle.signal("end")
        await handle.result(5)


async def test_how_much_is_kept_may_be_said_later_and_holds_until_something_else_is_said():
    @step
    async def many(n: int) -> None:
        await stream("tokens").write(-1)
        stream("tokens", keep=100)
        out = stream("tokens")
        for i in range(n):
            await out.write(i)

    @workflow
    async def writes() -> None:
        await many(1000)
        await wait_for_signal("end")

    async with opened() as app:
        handle = await app.start(writes, id="w")
        await until(lambda: "w" in app.engine.loaded.idle)
        assert len(await trimmed(app, "w", 400)) >= 100
        await handle.signal("end")
        await handle.result(5)


@workflow
async def speaker(n: int = 3) -> int:
    """A body that writes; every word follows from the log."""
    out = stream("said")
    await out.write("hello")
    for i in range(n):
        await out.write(await speaks(f"w{i}"))
        await out.write(Piece(f"p{i}"))
    await out.write("bye")
    return n


async def test_a_replayed_body_writes_only_what_is_missing():
    async with opened() as app:
        await app.run(speaker, id="b")
        whole = [c.value for c in await read(app, "b", "said")]
        assert whole == ["hello", 1, {"text": "p0"}, 1, {"text": "p1"}, 1, {"text": "p2"}, "bye"]
        for count in range(2, len(await history(app.store, "b"))):
            for written in range(2 * (count - 2) + 2):
                store = await cut(app.store, "b", count)
                some = await app.store.log.read(out_stream("b", "said"))
                if written:
                    await fill(store, out_stream("b", "said"), some[:written])
                async with opened(store, workflows=[speaker]) as again:
                    assert await again.handle("b", speaker).result(5) == 3
                    assert [c.value for c in await read(again, "b", "said")] == whole, (count, written)


async def test_generations_write_one_after_the_other():
    @workflow
    async def goes_on(n: int) -> None:
        await stream("said").write(n)
        await speaks(f"w{n}")
        await stream("said").write("bye")
        if n < 3:
            continue_as(n + 1)

    async with opened() as app:
        await app.run(goes_on, 0, id="g")
        assert [c.value for c in await read(app, "g", "said")] == [0, "bye", 1, "bye", 2, "bye", 3, "bye"]
        assert [(c.value, c.restarts) for c in await read(app, "g")] == [(f"w{n}", False) for n in range(4)]


async def test_streams_go_with_the_run():
    async with opened() as app:
        await app.run(talk, id="t")
        await app.run(talk, id="other")
        await prune(app.store, ended_before=0, clock=app.clock)
        left = {record.stream for record in await app.store.log.scan()}
        assert left == set()


async def test_streams_and_what_was_said_move_with_the_run(tmp_path):
    async with opened() as app, opened(Shared()) as target, opened(Shared()) as other:
        await app.run(talk, id="t")
        await app.run(speaker, id="b")
        streams = {record.stream for record in await app.store.log.scan()}
        assert {"out/t", "out/t/tokens", "out/b/said", "out/b/tokens"} <= streams
        assert (await export_runs(app.store, tmp_path / "a.jsonl")).runs == 2
        await import_runs(target.store, tmp_path / "a.jsonl")
        copied = await copy_store(app.store, other.store)
        assert copied.differences == ()
        for there in (target, other):
            assert await read(there, "t") == await read(app, "t")
            assert await read(there, "b", "said") == await read(app, "b", "said")
            assert await there.client.streams("b") == ["said", "tokens"]


async def test_what_cannot_be_written_or_read_is_said():
    @step
    async def bad(what: str) -> None:
        if what == "name":
            stream("a/b")
        elif what == "keep":
            stream("a", keep=0)
        elif what == "large":
            await stream("a").write("x" * 2000)
        else:
            await stream("a").write(object())

    @workflow
    async def tries_it(what: str) -> None:
        await bad.options(retry=Retry(1))(what)

    async with opened(max_payload=1000) as app:
        for what, error in [
            ("name", ConfigurationError),
            ("keep", ConfigurationError),
            ("large", PayloadTooLarge),
            ("type", CodecError),
        ]:
            with pytest.raises(error):
                await app.run(tries_it, what)
        await app.run(talk, id="t")
        with pytest.raises(CodecError):
            await read(app, "t", type=int)
        with pytest.raises(RunNotFound):
            await read(app, "nobody")
        assert await read(app, "t", "nothing") == []
    assert await speaks.function("a b") == 2  # outside of a run: a plain function
    assert BodyError
    assert Kind.CHUNK == 130
