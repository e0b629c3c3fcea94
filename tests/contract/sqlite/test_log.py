"""What is special about the log in a file: its cache of heads, its checksums, its row per stream."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from reprise.kernel.errors import (
    CodecError,
    StaleToken,
    StaleVersion,
    StoreCorrupt,
    StreamClosed,
    StreamMissing,
)
from reprise.kernel.events import Event, Kind
from reprise.kernel.limit import Slot
from reprise.stores.log import EXISTS, Append, Group, Head, RunChange, append, enlist
from reprise.stores.runs import RunFilter
from reprise.stores.sqlite import SQLiteStore, ledger
from reprise.stores.sqlite.writer import Transaction


def events(count: int, data: bytes = b"{}") -> list[Event]:
    return [
        Event(Kind.STEP_COMPLETED, at=1_000 + i, key=f"k{i}", data=data, print=2**62, took=5)
        for i in range(count)
    ]


def tamper(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


async def test_what_is_appended_is_read_and_scanned(store: SQLiteStore) -> None:
    done = await append(store.log, 7, Group("run/a", events(3), expected=0), Group("inbox/a", events(1)))
    assert done.versions == (3, 1)
    assert done.position == 4
    records = await store.log.read("run/a")
    assert [(r.version, r.position, r.key, r.append) for r in records] == [
        (1, 1, "k0", 7),
        (2, 2, "k1", 0),
        (3, 3, "k2", 0),
    ]
    assert [r.stream for r in await store.log.scan()] == ["run/a"] * 3 + ["inbox/a"]
    assert [r.position for r in await store.log.scan(prefix="inbox/")] == [4]
    assert await store.log.read("run/a", after=1, limit=1) == [records[1]]
    assert await store.log.head("run/a") == Head(3)
    assert await store.log.lookup("inbox/a", 7) == 1
    assert await store.log.lookup("run/a", 8) is None


async def test_one_stale_append_of_a_hundred_fails_alone(store: SQLiteStore) -> None:
    await append(store.log, 1, Group("s50", events(1)))
    appends = [Append(100 + i, (Group(f"s{i}", events(1), expected=0),)) for i in range(100)]
    await enlist(store.log, appends)
    failed = [a for a in appends if a.error is not None]
    assert [a.id for a in failed] == [150]
    assert isinstance(failed[0].error, StaleVersion)
    assert store.statistics()["commits"] <= 3
    assert len(await store.log.scan()) == 100


async def test_an_event_that_cannot_be_written_fails_alone(store: SQLiteStore) -> None:
    bad = [
        Event(16, 1, key="\ud800"),  # no UTF-8
        Event(16, 1, print=2**63),  # too large for the file, not for the checksum
        Event(16, 2**70),
    ]
    appends = [Append(i, (Group(f"bad{i}", [event]),)) for i, event in enumerate(bad)]
    appends += [
        Append(3, (Group("bad3", [*events(2), bad[2]]),)),
        Append(4, (Group("bad4", events(2)), Group("bad5", [*events(1), bad[0]]))),
    ]
    appends += [Append(10 + i, (Group(f"good{i}", events(1)),)) for i in range(20)]
    await enlist(store.log, appends)
    assert [a.id for a in appends if a.error is not None] == [0, 1, 2, 3, 4]
    assert isinstance(appends[0].error, CodecError)
    records = await store.log.scan()
    assert [r.stream for r in records] == [f"good{i}" for i in range(20)]
    assert [r.position for r in records] == list(range(1, 21))
    assert [a.position for a in appends[5:]] == list(range(1, 21))


async def test_fencing_and_closing_hold_across_processes(store: SQLiteStore, other: SQLiteStore) -> None:
    await append(store.log, 1, Group("run/a", events(1), expected=0, token=5, takes=True))
    await append(store.log, 2, Group("run/a", events(1), expected=1, token=5))
    await append(other.log, 3, Group("run/a", events(1), expected=2, token=6, takes=True))
    with pytest.raises(StaleToken):
        await append(store.log, 4, Group("run/a", events(1), expected=3, token=5))
    with pytest.raises(StreamMissing):
        await append(store.log, 5, Group("inbox/b", events(1), guard="run/b"))
    with pytest.raises(StreamMissing):
        await append(store.log, 6, Group("run/b", expected=EXISTS))
    await append(store.log, 7, Group("inbox/a", events(1), guard="run/a"))
    await append(other.log, 8, Group("run/a", events(1), token=6, closes=True))
    with pytest.raises(StreamClosed):
        await append(store.log, 9, Group("inbox/a", events(1), guard="run/a"))
    assert await store.log.head("run/a") == Head(4, 6, closed=True)


async def test_positions_are_not_used_again_after_a_drop(
    store: SQLiteStore, other: SQLiteStore, path: Path
) -> None:
    await append(store.log, 1, Group("a", events(3)))
    await append(store.log, 2, Group("b", events(2)))
    assert await other.log.drop("b") == 2
    assert await store.log.end() == 5
    assert await store.log.head("b") == Head()
    assert (await append(store.log, 3, Group("b", events(1), expected=0))).position == 6
    assert await store.log.drop("b") == 1
    await store.stop()
    await store.start()
    assert (await append(store.log, 4, Group("c", events(1)))).position == 7


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE records SET data = x'00' WHERE version = 2",
        "UPDATE records SET took = 6 WHERE version = 2",
        "UPDATE records SET kind = 17 WHERE version = 2",
        "DELETE FROM records WHERE version = 2",
        "DELETE FROM records WHERE version = 64",
        "UPDATE streams SET token = 3",
    ],
)
async def test_damage_is_named(store: SQLiteStore, path: Path, damage: str) -> None:
    await append(store.log, 1, Group("run/a", events(64)))
    tamper(path, damage)
    with pytest.raises(StoreCorrupt, match="run/a"):
        await store.log.read("run/a")


async def test_damage_of_what_a_run_waits_in_line_for_is_named(store: SQLiteStore, path: Path) -> None:
    start = RunChange("a", "pending", workflow="w", slots=(Slot("w", "lane", 1),), in_line=True, at=1)
    await append(store.log, 1, Group("run/a", events(1), run=start))
    [row] = await store.runs.find()
    assert row.in_line
    tamper(path, "UPDATE terms SET in_line = 0")
    with pytest.raises(StoreCorrupt, match="terms"):
        await store.runs.find()


@pytest.mark.parametrize("damage", ["UPDATE streams SET name = 'run/b'", "DELETE FROM streams"])
async def test_a_scan_does_not_give_records_to_another_stream(
    store: SQLiteStore, path: Path, damage: str
) -> None:
    await append(store.log, 1, Group("run/a", events(3)))
    tamper(path, damage)
    with pytest.raises(StoreCorrupt, match="in the table streams does not match"):
        await store.log.scan()


@pytest.mark.parametrize("damage", ["UPDATE streams SET token = 3", "DELETE FROM records WHERE version = 64"])
async def test_a_damaged_stream_takes_no_append_and_others_do(
    store: SQLiteStore, path: Path, damage: str
) -> None:
    await append(store.log, 1, Group("run/a", events(64)))
    tamper(path, damage)
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match="run/a"):
            await append(store.log, 2, Group("run/a", events(1)))
    await append(store.log, 3, Group("run/b", events(1)))


async def test_a_text_that_is_none_is_damage(store: SQLiteStore, path: Path) -> None:
    await append(store.log, 1, Group("run/a", events(64)))
    tamper(path, "UPDATE records SET key = CAST(x'ff' AS TEXT) WHERE version = 2")
    with pytest.raises(StoreCorrupt, match="decode"):
        await store.log.read("run/a")


async def test_appends_that_were_written_and_refused_are_counted_apart(store: SQLiteStore) -> None:
    before = store.statistics()
    for id in (1, 2):
        await append(store.log, id, Group("run/a", events(2)))
    with pytest.raises(StaleVersion):
        await append(store.log, 3, Group("run/a", events(1), expected=7))
    after = store.statistics()
    assert [after[what] - before[what] for what in ("appends", "refused", "records")] == [2, 1, 4]


async def test_a_stream_that_was_mended_takes_appends_again(store: SQLiteStore, path: Path) -> None:
    await append(store.log, 1, Group("run/a", events(1)))
    tamper(path, "UPDATE streams SET token = 3")
    with pytest.raises(StoreCorrupt, match="run/a"):
        await append(store.log, 2, Group("run/a", events(1)))
    tamper(path, "UPDATE streams SET token = 0")
    done = await append(store.log, 3, Group("run/a", events(1)), Group("run/b", events(1)))
    assert done.versions == (2, 1)


async def test_small_streams_that_are_dropped_together_leave_nothing(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a commit takes only some of them, and when another process was faster with the first."""
    monkeypatch.setattr(ledger, "RECORDS_PER_DROP", 2)
    await append(store.log, 1, *(Group(name, events(1)) for name in "abcd"))
    await append(store.log, 2, Group("long", events(3)))
    await store.log.trim("long", 2)
    assert await store.log.drop("a", "b", "c") == 3
    await store.log.drop("long")

    def hide(transaction: Transaction) -> int:
        id, _ = transaction.ledger.hide("d")
        return id

    await store.log._clear([10_000, await store._writer.submit(hide)])
    connection = sqlite3.connect(path)
    for table in ("records", "streams", "trims"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    connection.close()


async def test_run_rows_follow_the_appends(store: SQLiteStore, other: SQLiteStore) -> None:
    start = RunChange(
        "r1", status="running", workflow="w", owner="me", due_at=5, tags={"team": "x", "b": "2"}, at=10
    )
    await append(store.log, 1, Group("run/r1", events(1), expected=0, token=9, takes=True, run=start))
    (row,) = await other.runs.find(RunFilter(tags={"team": "x", "b": "2"}))
    assert (row.id, row.status, row.token, row.created_at, row.tags["b"]) == ("r1", "running", 9, 10, "2")
    assert await store.runs.find(RunFilter(tags={"team": "y"})) == []
    assert [r.id for r in await store.runs.due(6, owner="me")] == ["r1"]
    assert await store.runs.due(6, owner="you") == []
    assert [r.id for r in await store.runs.due(6, owner="you", dead=["me"])] == ["r1"]
    await other.runs.mark("r1", None)
    assert await store.runs.due(6, owner="me") == []
    retag = RunChange("r1", tags={"team": "y"}, at=20)
    await append(store.log, 2, Group("run/r1", events(1), token=9, run=retag))
    assert [r.updated_at for r in await store.runs.find(RunFilter(tags={"team": "y"}))] == [20]
    assert await store.runs.find(RunFilter(tags={"team": "x"})) == []
    end = RunChange("r1", status="completed", owner=None, at=30)
    await append(store.log, 3, Group("run/r1", events(1), token=9, closes=True, run=end))
    await store.runs.mark("r1", 1)
    assert await store.runs.due(100, owner="me") == []
    assert await store.runs.count() == {"completed": 1}
    assert await store.runs.count(RunFilter(tags={"team": "y"}), by="owner") == {"": 1}
    assert await store.log.drop("run/r1") == 3
    assert await store.runs.find() == []


async def test_pages_of_runs_are_in_order_whatever_the_filter(store: SQLiteStore) -> None:
    for i in range(30):
        status = ("running", "failed", "completed")[i % 3]
        change = RunChange(f"r{i:02}", status=status, workflow="w", tags={"t": "x"}, at=i // 2)
        await append(store.log, i, Group(f"run/r{i:02}", events(1), run=change))
    for where in (
        RunFilter(),
        RunFilter(tags={"t": "x"}),
        RunFilter(status=("running", "failed", "completed")),
    ):
        for newest_first in (True, False):
            seen: list[str] = []
            while page := await store.runs.find(
                where, limit=7, before=seen[-1] if seen else "", newest_first=newest_first
            ):
                seen += [row.id for row in page]
            assert seen == sorted((f"r{i:02}" for i in range(30)), reverse=newest_first)
    assert [r.id for r in await store.runs.find(RunFilter(prefix="r1", status=("failed",)))] == [
        "r19",
        "r16",
        "r13",
        "r10",
    ]


async def test_cancelling_who_waits_does_not_cancel_the_append(store: SQLiteStore) -> None:
    waiting = asyncio.ensure_future(append(store.log, 1, Group("a", events(1))))
    await asyncio.sleep(0)
    waiting.cancel()
    await append(store.log, 2, Group("b", events(1)))
    assert (await store.log.head("a")).version == 1
