"""What a log must prove: one writer at a time."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from reprise.kernel.errors import (
    AppendRefused,
    StaleToken,
    StaleVersion,
    StoreClosed,
    StreamClosed,
    StreamMissing,
)
from reprise.kernel.events import Event, Record
from reprise.stores.log import ANY, EXISTS, Append, Group, Head, RunChange, enlist
from reprise.stores.store import Store
from reprise.testing.suites.keeper import IDS, Keeper, KeeperSuite, fact, put, soon, until, write
from reprise.testing.suites.log_model import LogMachine


class LogSuite(KeeperSuite):
    """Tests of the port ``Log``."""

    # ------------------------------------------------------------ writing and reading

    async def test_what_was_appended_is_read_back_whole(self, store: Store) -> None:
        """Every field comes back as it was written."""
        event = Event(17, 1_700_000_000_123_456, "brånch/ß:1", bytes(range(256)), 2**63 - 1, 12_345)
        done = await put(store.log, Group("run/a", [event, fact(b"")]))
        first, second = await store.log.read("run/a")
        assert first == Record(
            done.position - 1,
            "run/a",
            1,
            17,
            event.at,
            event.key,
            event.data,
            event.print,
            event.took,
            done.id,
        )
        assert (second.version, second.data, second.append) == (2, b"", 0)

    async def test_large_and_many_events_in_one_append(self, store: Store) -> None:
        """Size is no reason to cut or reorder."""
        data = [bytes([n % 256]) * (300_000 if n == 7 else n) for n in range(1500)]
        await write(store.log, "run/a", *data)
        assert [row.data for row in await store.log.read("run/a")] == data

    async def test_versions_have_no_hole_and_positions_only_grow(self, store: Store) -> None:
        """Refused appends leave no gap in a stream."""
        for n in range(1, 6):
            await put(store.log, Group("run/a", [fact()], expected=n - 1), Group("run/b", [fact(), fact()]))
            with pytest.raises(StaleVersion):
                await put(store.log, Group("run/a", [fact()], expected=n - 1))
        assert [row.version for row in await store.log.read("run/a")] == [1, 2, 3, 4, 5]
        assert [row.version for row in await store.log.read("run/b")] == list(range(1, 11))
        positions = [row.position for row in await store.log.scan()]
        assert len(positions) == 15
        assert positions == sorted(set(positions))

    async def test_the_answer_tells_versions_and_position(self, store: Store) -> None:
        """Versions are those of the streams after the commit; the position is that of the last record."""
        done = await put(store.log, Group("run/a", [fact()]), Group("run/b"), Group("run/a", [fact()]))
        assert done.versions == (2, 0, 2)
        assert done.position == (await store.log.scan())[-1].position == await store.log.end()
        nothing = await put(store.log, Group("run/a", expected=2))
        assert (nothing.versions, nothing.position) == ((2,), 0)

    async def test_read_pages(self, store: Store) -> None:
        """``after`` and ``limit`` cut the stream."""
        await write(store.log, "run/a", *(bytes([n]) for n in range(10)))
        assert [row.version for row in await store.log.read("run/a", 3, 4)] == [4, 5, 6, 7]
        assert [row.version for row in await store.log.read("run/a", 8)] == [9, 10]
        assert await store.log.read("run/a", 10) == []
        assert await store.log.read("run/a", 0, 0) == []
        assert await store.log.read("run/none") == []

    async def test_scan_pages_over_all_streams_or_a_prefix(self, store: Store) -> None:
        """A prefix is taken as it is spelled; no character in it is a wildcard."""
        for n in range(6):
            await write(store.log, ("run/a", "run_a", "run%b")[n % 3], bytes([n]))
        whole = await store.log.scan()
        assert [row.data[0] for row in whole] == [0, 1, 2, 3, 4, 5]
        assert await store.log.scan(whole[1].position, 2) == whole[2:4]
        assert await store.log.scan(whole[5].position) == []
        assert [row.data[0] for row in await store.log.scan(prefix="run_")] == [1, 4]
        assert [row.data[0] for row in await store.log.scan(prefix="run%")] == [2, 5]
        assert [row.data[0] for row in await store.log.scan(whole[0].position, 1, "run/")] == [3]

    async def test_an_empty_log(self, store: Store) -> None:
        """Nothing is there, and asking is no error."""
        assert await store.log.head("run/a") == Head()
        assert await store.log.end() == 0
        assert await store.log.scan() == []
        assert await store.log.lookup("run/a", IDS.new()) is None
        assert await store.log.drop("run/a") == 0

    # ------------------------------------------------------------ answers

    async def test_done_comes_later_once_and_in_log_order(self, store: Store) -> None:
        """``submit`` never answers itself; answers come in the order of the log."""
        answered: list[Append] = []
        appends = [Append(IDS.new(), (Group(f"run/{n % 7}", [fact()]),), answered.append) for n in range(200)]
        store.log.submit(appends[:50])
        last = enlist(store.log, appends[50:])
        assert answered == []
        await soon(last)
        assert [append.id for append in answered] == [append.id for append in appends[:-1]]
        positions = [append.position for append in appends]
        assert positions == sorted(set(positions))
        assert await store.log.end() == positions[-1]

    async def test_a_caller_whose_done_fails_does_not_silence_the_others(self, store: Store) -> None:
        """The error goes to the loop's handler."""
        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))

        def fail(_: Append) -> None:
            raise ZeroDivisionError

        broken = Append(IDS.new(), (Group("run/a", [fact()]),), fail)
        await soon(enlist(store.log, [broken, Append(IDS.new(), (Group("run/b", [fact()]),))]))
        assert [type(context["exception"]) for context in seen] == [ZeroDivisionError]

    async def test_who_was_refused_leaves_nothing_behind(self, store: Store) -> None:
        """An error holds those who raised it, and the append the error: the collector has to see that circle."""
        await write(store.log, "run/a", b"1")

        class Ours:
            pass

        kept = weakref.WeakSet[Ours]()

        async def attempt() -> None:
            mine = Ours()
            kept.add(mine)
            await put(store.log, Group("run/a", [fact()], 0))

        async def fail() -> None:
            try:
                await attempt()
            except StaleVersion:
                return
            pytest.fail("it was not refused")

        async def let_go() -> bool:
            gc.collect()
            return not kept

        await fail()
        await write(store.log, "run/b", b"2")  # a keeper may hold its latest commit
        await until(let_go, "the error is let go")

    async def test_of_a_burst_only_the_stale_append_fails(self, store: Store) -> None:
        """Of 100 appends that travel together one is stale: 99 are written."""
        await write(store.log, "run/41", b"in the way")
        answered: list[Append] = []
        appends = [Append(IDS.new(), (Group(f"run/{n}", [fact()], 0),), answered.append) for n in range(100)]
        appends.append(Append(IDS.new(), (Group("run/last", [fact()]),)))
        await soon(enlist(store.log, appends))
        assert [n for n, append in enumerate(answered) if append.error] == [41]
        assert isinstance(answered[41].error, StaleVersion)
        assert len(await store.log.scan()) == 1 + 99 + 1

    async def test_appends_of_a_burst_see_each_other(self, store: Store) -> None:
        """A chain of exact versions may be handed over at once; a fork in it fails alone."""
        answered: list[Append] = []
        chain = [Append(IDS.new(), (Group("run/a", [fact()], n),), answered.append) for n in range(50)]
        fork = Append(IDS.new(), (Group("run/a", [fact()], 10),), answered.append)
        await soon(
            enlist(store.log, [*chain[:20], fork, *chain[20:], Append(IDS.new(), (Group("z", [fact()]),))])
        )
        assert [append.id for append in answered if append.error] == [fork.id]
        assert (await store.log.head("run/a")).version == 50

    async def test_cancelling_the_waiter_does_not_cancel_the_append(self, store: Store) -> None:
        """What was handed over is written, whoever still waits."""
        waiter = asyncio.create_task(put(store.log, Group("run/a", [fact(b"kept")])))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await write(store.log, "run/b", b"after")
        assert [row.data for row in await store.log.read("run/a")] == [b"kept"]

    async def test_stop_writes_what_was_handed_over(self, keeper: Keeper, store: Store) -> None:
        """Nothing that was submitted before ``stop`` is lost, and it is answered."""
        answered: list[Append] = []
        store.log.submit(
            [Append(IDS.new(), (Group(f"run/{n}", [fact()]),), answered.append) for n in range(300)]
        )
        fresh = await keeper.reopen(store)
        assert len(await fresh.log.scan(limit=1000)) == 300
        await write(fresh.log, "run/z", b"")
        assert [append.error for append in answered] == [None] * 300

    async def test_what_was_acknowledged_is_there_after_a_restart(self, keeper: Keeper, store: Store) -> None:
        """Records, heads and the end survive."""
        await put(store.log, Group("run/a", [fact(b"1"), fact(b"2")], 0, token=7, takes=True, closes=True))
        before = await store.log.scan()
        fresh = await keeper.reopen(store)
        assert await fresh.log.scan() == before
        assert await fresh.log.head("run/a") == Head(2, 7, closed=True)
        assert await fresh.log.end() == before[-1].position

    async def test_a_stopped_store_says_so(self, keeper: Keeper, store: Store) -> None:
        """Start and stop are idempotent; between them the store works, afterwards it refuses."""
        await store.start()
        await store.stop()
        await store.stop()
        with pytest.raises(StoreClosed):
            await write(store.log, "run/a", b"")
        with pytest.raises(StoreClosed):
            await store.log.read("run/a")
        assert await (await keeper.open()).log.scan() == []

    async def test_statistics_count(self, store: Store) -> None:
        """The counters that every keeper has."""
        await write(store.log, "run/a", b"12345")
        with pytest.raises(StaleVersion):
            await put(store.log, Group("run/a", [fact()], 0))
        counters = store.statistics()
        assert (counters["appends"], counters["records"], counters["refused"]) == (1, 1, 1)
        assert int(counters["commits"]) >= 1
        assert int(counters["bytes"]) >= 5

    # ------------------------------------------------------------ conditions

    async def test_groups_commit_together_or_not_at_all(self, store: Store) -> None:
        """One stale group undoes its whole append, also the groups before it."""
        await write(store.log, "run/b", b"")
        with pytest.raises(StaleVersion):
            await put(
                store.log, Group("run/a", [fact()], token=3, takes=True), Group("run/b", [fact()], expected=0)
            )
        assert await store.log.head("run/a") == Head()
        assert len(await store.log.scan()) == 1

    @pytest.mark.parametrize(
        ("expected", "exists", "refusal"),
        [
            (ANY, False, None),
            (ANY, True, None),
            (EXISTS, True, None),
            (EXISTS, False, StreamMissing),
            (0, False, None),
            (0, True, StaleVersion),
            (2, True, None),
            (1, True, StaleVersion),
            (3, True, StaleVersion),
            (2, False, StaleVersion),
        ],
    )
    @pytest.mark.parametrize("events", [0, 1])
    async def test_expected_version(
        self, store: Store, expected: int, exists: bool, refusal: type[AppendRefused] | None, events: int
    ) -> None:
        """Also in a group without events, which is a pure condition and makes no stream."""
        if exists:
            await write(store.log, "run/a", b"1", b"2")
        groups = Group("side", [fact()]), Group("run/a", [fact()] * events, expected)
        if refusal is None:
            await put(store.log, *groups)
        else:
            with pytest.raises(refusal):
                await put(store.log, *groups)
        assert (await store.log.head("side")).version == (refusal is None)
        assert (await store.log.head("run/a")).version == 2 * exists + events * (refusal is None)

    async def test_a_closed_stream_takes_nothing_more(self, store: Store) -> None:
        """Not even from its holder; that it exists may still be asked, and that it should be new is told first."""
        await put(store.log, Group("run/a", [fact()], token=1, takes=True, closes=True))
        for group in (
            Group("run/a", [fact()], token=1),
            Group("run/a", [fact()], token=2, takes=True),
            Group("run/a", token=1, closes=True),
        ):
            with pytest.raises(StreamClosed):
                await put(store.log, group)
        await put(store.log, Group("run/a", expected=EXISTS, token=1))
        with pytest.raises(StaleVersion):
            await put(store.log, Group("run/a", [fact()], 0, token=3, takes=True))
        assert await store.log.head("run/a") == Head(1, 1, closed=True)

    async def test_a_guard_must_exist_and_be_open(self, store: Store) -> None:
        """The letter to a run is refused before the run exists and after it ended."""
        letter = Group("inbox/a", [fact()], guard="run/a")
        with pytest.raises(StreamMissing):
            await put(store.log, letter)
        await put(store.log, Group("run/a", [fact()], token=9, takes=True))
        assert (await put(store.log, letter)).versions == (1,)
        await put(store.log, Group("run/a", [fact()], token=9, closes=True))
        with pytest.raises(StreamClosed):
            await put(store.log, letter)
        assert (await store.log.head("inbox/a")).version == 1

    async def test_a_later_group_sees_the_earlier_ones(self, store: Store) -> None:
        """A run and the first letter to it are one commit; so are its last record and a letter that comes too late."""
        await put(
            store.log,
            Group("run/a", [fact()], 0, token=1, takes=True),
            Group("inbox/a", [fact()], guard="run/a"),
        )
        with pytest.raises(StreamClosed):
            await put(
                store.log,
                Group("run/a", [fact()], token=1, closes=True),
                Group("inbox/a", [fact()], guard="run/a"),
            )
        assert await store.log.head("run/a") == Head(1, 1)

    # ------------------------------------------------------------ fencing

    async def test_only_the_current_token_writes(self, store: Store) -> None:
        """After a take-over the holder before is refused, also when its version is right."""
        await put(store.log, Group("run/a", [fact()], 0, token=5, takes=True))
        await put(store.log, Group("run/a", [fact()], 1, token=5))
        await put(store.log, Group("run/a", [fact()], token=6, takes=True))
        for token in (5, 7, 0):
            with pytest.raises(StaleToken):
                await put(store.log, Group("run/a", [fact()], 3, token=token))
        await put(store.log, Group("run/a", [fact()], 3, token=6))
        assert await store.log.head("run/a") == Head(4, 6)

    async def test_a_take_needs_a_higher_token(self, store: Store) -> None:
        """Equal is not higher: a holder takes once."""
        await put(store.log, Group("run/a", [fact()], 0, token=2**62, takes=True))
        for token in (2**62, 2**62 - 1, 1):
            with pytest.raises(StaleToken):
                await put(store.log, Group("run/a", [fact()], token=token, takes=True))
        await put(store.log, Group("run/a", token=2**62 + 1, takes=True))
        assert await store.log.head("run/a") == Head(1, 2**62 + 1)

    async def test_a_token_for_a_stream_without_one_is_refused(self, store: Store) -> None:
        """Zero is the only token of a stream that nobody took; a stream made without one can be taken later."""
        with pytest.raises(StaleToken):
            await put(store.log, Group("inbox/a", [fact()], token=4))
        await write(store.log, "inbox/a", b"")
        with pytest.raises(StaleToken):
            await put(store.log, Group("inbox/a", [fact()], token=4))
        await put(store.log, Group("inbox/a", [fact()], token=4, takes=True))
        assert await store.log.head("inbox/a") == Head(2, 4)

    async def test_a_stale_token_in_a_pure_condition_refuses_the_append(self, store: Store) -> None:
        """That is how a write elsewhere is protected by the run's token."""
        await put(store.log, Group("run/a", [fact()], token=5, takes=True))
        with pytest.raises(StaleToken):
            await put(store.log, Group("run/a", token=4), Group("side", [fact()]))
        assert (await store.log.head("side")).version == 0

    # ------------------------------------------------------------ trim

    async def test_trim_takes_the_oldest_and_leaves_versions_as_they_were(
        self, keeper: Keeper, store: Store
    ) -> None:
        """What is left is read, scanned and continued as before; what went is not missed."""
        await put(store.log, Group("run/a", [fact(bytes([n])) for n in range(1, 8)], 0, token=3, takes=True))
        await write(store.log, "run/b", b"other")
        assert await store.log.trim("run/a", 4) == 4
        for again in (False, True):
            log = (await keeper.reopen(store) if again else store).log
            assert [row.version for row in await log.read("run/a")] == [5, 6, 7]
            assert [row.version for row in await log.read("run/a", 2, 2)] == [5, 6]
            assert [row.version for row in await log.read("run/a", 5)] == [6, 7]
            assert await log.read("run/a", 7) == []
            assert [row.data for row in await log.scan()] == [b"\5", b"\6", b"\7", b"other"]
            assert await log.head("run/a") == Head(7, 3)
        assert (await put(log, Group("run/a", [fact()], 7, token=3))).versions == (8,)
        assert [row.version for row in await log.read("run/a")] == [5, 6, 7, 8]

    async def test_trim_again_takes_only_what_is_left(self, store: Store) -> None:
        """Trimming less than before changes nothing, and an unknown stream has nothing to lose."""
        await write(store.log, "run/a", *(bytes([n]) for n in range(6)))
        counts = [await store.log.trim("run/a", through) for through in (2, 2, 1, 0, -1, 4)]
        assert counts == [2, 0, 0, 0, 0, 2]
        assert await store.log.trim("run/none", 9) == 0
        assert await store.log.head("run/none") == Head()

    async def test_trim_never_takes_the_newest(self, keeper: Keeper, store: Store) -> None:
        """So a stream keeps its version and the log its end, also over a restart."""
        done = await put(store.log, Group("run/a", [fact()] * 3, closes=True))
        assert await store.log.trim("run/a", 99) == 2
        fresh = await keeper.reopen(store)
        assert [row.version for row in await fresh.log.read("run/a")] == [3]
        assert await fresh.log.head("run/a") == Head(3, closed=True)
        assert await fresh.log.end() == done.position
        assert await fresh.log.drop("run/a") == 1

    async def test_a_dropped_stream_was_never_trimmed(self, store: Store) -> None:
        """Its name begins anew at version 1."""
        await write(store.log, "run/a", b"1", b"2", b"3")
        await store.log.trim("run/a", 2)
        assert await store.log.drop("run/a") == 1
        await write(store.log, "run/a", b"new", b"er")
        assert [(row.version, row.data) for row in await store.log.read("run/a")] == [(1, b"new"), (2, b"er")]

    async def test_a_long_stream_is_trimmed_while_others_write(self, store: Store) -> None:
        """However much goes at once, appends find their place, and readers see no hole."""
        await write(store.log, "run/a", *([b""] * 2500))
        trimming = asyncio.create_task(store.log.trim("run/a", 2400))
        while not trimming.done():
            await write(store.log, "run/a", b"more")
            versions = [row.version for row in await store.log.read("run/a")]
            assert versions == list(range(versions[0], versions[-1] + 1))
        assert await trimming == 2400
        assert (await store.log.read("run/a", 0, 1))[0].version == 2401

    # ------------------------------------------------------------ lookup and drop

    async def test_an_append_is_found_by_its_id(self, store: Store) -> None:
        """In each stream it wrote to, and nowhere else; a refused one is not found."""
        await write(store.log, "run/a", b"before")
        done = await put(
            store.log, Group("run/a", [fact(), fact()]), Group("run/b", [fact()]), Group("run/c")
        )
        await write(store.log, "run/a", b"after")
        found = [await store.log.lookup(f"run/{name}", done.id) for name in "abc"]
        assert found == [2, 1, None]
        refused = Append(IDS.new(), (Group("run/a", [fact()], 0),))
        with pytest.raises(StaleVersion):
            await soon(enlist(store.log, [refused]))
        assert await store.log.lookup("run/a", refused.id) is None

    async def test_drop_deletes_one_stream_only(self, store: Store) -> None:
        """The stream is as if it had never been, the rest stays."""
        await put(store.log, Group("run/a", [fact()] * 3, token=8, takes=True), Group("run/ab", [fact()]))
        assert await store.log.drop("run/a") == 3
        assert await store.log.read("run/a") == []
        assert await store.log.head("run/a") == Head()
        assert [row.stream for row in await store.log.scan()] == ["run/ab"]
        assert (await put(store.log, Group("run/a", [fact()], 0))).versions == (1,)

    async def test_drop_deletes_many_streams_at_once(self, store: Store) -> None:
        """With their runs, and whatever of them does not exist; a reader never sees some of them only."""
        for name in "abc":
            change = RunChange(name, "completed", "w", at=1)
            await put(
                store.log, Group(f"run/{name}", [fact()] * 2, run=change), Group(f"log/{name}", [fact()])
            )
        names = [f"{kind}/{name}" for name in "ab" for kind in ("run", "inbox", "log")]
        dropping = asyncio.ensure_future(store.log.drop(*names, "run/a"))
        seen: set[tuple[str, ...]] = set()
        while not dropping.done():
            seen.add(tuple(row.stream for row in await store.log.scan()))
            await asyncio.sleep(0)
        assert await dropping == 6
        left = ("run/c", "run/c", "log/c")
        assert {rows for rows in seen if len(rows) < 9} <= {left}
        assert tuple(row.stream for row in await store.log.scan()) == left
        assert await store.log.drop() == 0

    async def test_positions_are_used_up_also_by_dropped_records(self, keeper: Keeper, store: Store) -> None:
        """After the newest records went, and after a restart, the next position is still a new one."""
        used = (await write(store.log, "run/a", b"1", b"2", b"3")).position
        await store.log.drop("run/a")
        assert await store.log.end() == used
        after = (await write(store.log, "run/b", b"")).position
        assert after > used
        await store.log.drop("run/b")
        fresh = await keeper.reopen(store)
        assert await fresh.log.end() == after
        assert (await write(fresh.log, "run/c", b"")).position > after

    async def test_drops_and_appends_keep_their_order(self, store: Store) -> None:
        """An append that was answered before is dropped, one that comes after is not."""
        for n in range(5):
            await write(store.log, "run/a", bytes([n]))
            assert await store.log.drop("run/a") == 1
        await write(store.log, "run/a", b"last")
        assert [row.data for row in await store.log.read("run/a")] == [b"last"]

    # ------------------------------------------------------------ model

    def test_random_histories_agree_with_the_model(self) -> None:
        """Hypothesis looks for a history in which the keeper and a dictionary disagree."""
        self.compare(LogMachine)
