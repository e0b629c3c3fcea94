"""Power fails between any two writes: with FULL nothing acknowledged is lost, with NORMAL never the order."""

import asyncio
import random
import shutil
from pathlib import Path

import pytest
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.powerloss import Promise, Sync, Trace, crashes

from reprise.kernel.errors import StoreError
from reprise.kernel.events import Event, Kind
from reprise.kernel.ids import Counter
from reprise.stores.log import Append, Group
from reprise.stores.sqlite import SQLiteStore, database

APPENDS = 250
STREAMS = 12
LEASE = "leader"


@pytest.fixture
def small_wal(monkeypatch):
    """A write-ahead log that is full after a dozen commits, so that a trace has many checkpoints."""
    monkeypatch.setattr(database, "WAL_BYTES", 256 << 10)
    monkeypatch.setattr(database, "_CHECKPOINT_PAGES", 48)


async def record(folder: Path, synchronous: str, dice: random.Random, appends: int = APPENDS):
    """Write through the recording file system, in three sittings; return the trace and the whole log."""
    trace = Trace()
    numbers = Counter(dice.randbytes)
    for _ in range(3):
        store = SQLiteStore(folder / "x.db", synchronous=synchronous, connect=trace.connect, readers=1)
        await store.start()
        written = 0
        while written < appends // 3:
            batch = [an_append(numbers.new(), dice, trace) for _ in range(dice.choice((1, 1, 2, 5)))]
            store.log.submit(batch)
            written += len(batch)
            grant = await store.lease.take(LEASE, str(written), 0.000001)
            if grant is not None:
                trace.promise(("token", grant.token))
        records = []
        while found := await store.log.scan(len(records), 1000):
            records += found
        await store.stop()
    return trace, records


def an_append(id: int, dice: random.Random, trace: Trace) -> Append:
    """Return an append to one or two streams that promises its position when it is durable."""
    groups = tuple(
        Group(
            f"run/{dice.randrange(STREAMS)}",
            [
                Event(Kind.PROGRESS, n, f"{id}", dice.randbytes(dice.choice((10, 300, 3000))))
                for n in range(dice.randint(1, 4))
            ],
        )
        for _ in range(dice.randint(1, 2))
    )
    return Append(id, groups, lambda append: trace.promise(("position", append.position)))


class Found:
    """What was there after one power cut."""

    def __init__(self, records, tokens):
        self.records = records
        self.tokens = tokens


def place(files: dict[str, bytes], folder: Path) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


async def reopen(folder: Path, files: dict[str, bytes]) -> Found:
    """Open what the crash left with the plain keeper, read all, and go on writing."""
    place(files, folder)
    store = SQLiteStore(folder / "x.db", synchronous="OFF", readers=1)
    try:
        await store.start()
        records = await store.log.scan(0, 1_000_000)
        by_stream = {}
        for record in records:
            by_stream.setdefault(record.stream, []).append(record)
        for name, expected in by_stream.items():
            assert await store.log.read(name) == expected
            assert [r.version for r in expected] == list(range(1, len(expected) + 1))
        grant = await store.lease.take(LEASE, "after", 10)
        done = asyncio.get_running_loop().create_future()
        store.log.submit([Append(1, (Group("run/new", [Event(Kind.PROGRESS, 0, "new")]),), done.set_result)])
        written = await done
        assert written.error is None
        assert written.position == (records[-1].position if records else 0) + 1
        return Found(records, grant.token if grant else 0)
    finally:
        await store.stop()
        shutil.rmtree(folder)


def is_prefix(found, whole) -> bool:
    """Whether the records are the first of the log, up to the end of an append."""
    count = len(found)
    return found == whole[:count] and (count == len(whole) or whole[count].append != 0)


def promised(ops, cut):
    """Return the highest position and token that were acknowledged before the cut."""
    highest = {"position": 0, "token": 0}
    for op in ops[:cut]:
        if isinstance(op, Promise):
            what, number = op.what
            highest[what] = max(highest[what], number)
    return highest["position"], highest["token"]


def checkpoints_of(trace) -> int:
    """Return how often the file itself was synced: once in a checkpoint."""
    return sum(isinstance(op, Sync) and op.file == "x.db" for op in trace.ops)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("synchronous", "share"), [("FULL", 1.0), ("NORMAL", 0.5)])
async def test_no_acknowledged_event_is_lost(synchronous, share, tmp_path, counts, small_wal, request):
    dice = random.Random(SEED)
    (tmp_path / "recorded").mkdir()
    trace, whole = await record(tmp_path / "recorded", synchronous, dice)
    for number, (cut, style, files) in enumerate(crashes(trace.ops, round(CYCLES * 1.5 * share), dice)):
        position, token = promised(trace.ops, cut)
        where = f"cut after {cut} of {len(trace.ops)} operations, {style}; {again(request, SEED)}"
        found = await reopen(tmp_path / str(number), files)
        assert is_prefix(found.records, whole), where
        assert synchronous != "FULL" or (len(found.records) >= position and found.tokens > token), where
        counts[f"{synchronous}: power cuts"] += 1
        counts[f"{synchronous}: acknowledged events checked"] += position
        counts[f"{synchronous}: cuts that lost acknowledged"] += len(found.records) < position
    counts[f"{synchronous}: operations recorded"] += len(trace.ops)
    counts[f"{synchronous}: checkpoints recorded"] += (checkpoints := checkpoints_of(trace))
    assert checkpoints > 5


async def test_control_with_synchronous_off_events_are_lost(tmp_path, counts, small_wal):
    dice = random.Random(SEED)
    (tmp_path / "recorded").mkdir()
    trace, whole = await record(tmp_path / "recorded", "OFF", dice)
    for number, (cut, _, files) in enumerate(crashes(trace.ops, 60, dice)):
        position, _ = promised(trace.ops, cut)
        counts["control OFF: power cuts"] += 1
        try:
            found = await reopen(tmp_path / str(number), files)
        except (StoreError, AssertionError):
            counts["control OFF: cuts that broke the store"] += 1
            continue
        lost = len(found.records) < position or not is_prefix(found.records, whole)
        counts["control OFF: cuts that lost acknowledged"] += lost
    assert counts["control OFF: cuts that lost acknowledged"] > 0, "the disk loses nothing: it proves nothing"
