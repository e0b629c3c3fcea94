"""A cut or damaged file gives a prefix of what was written, or is refused: never a wrong event."""

import asyncio
import random
import shutil
import sqlite3
import tempfile
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.crash.conftest import CYCLES, SEED, again

from reprise import Reprise
from reprise.kernel.errors import StoreError
from reprise.kernel.events import Event, Kind
from reprise.kernel.ids import Counter
from reprise.stores.log import Group, RunChange, append
from reprise.stores.runs import RunFilter
from reprise.stores.sqlite import SQLiteStore

STREAMS = 8
DEEP = CYCLES >= 5000
"""Whether to take the time that everything takes, as ``make crash`` does."""
BITS = {"x.db": 16, "x.db-wal": 4} if not DEEP else {"x.db": 64, "x.db-wal": 32}
"""Flipped in each page of the file, one at a time, and in each frame of the write-ahead log."""
FRAME, FRAME_HEADER, WAL_HEADER = 4120, 24, 32
SLICES = 16
"""Tests that share the cuts of a file."""
CUTS = 1 if DEEP else 1024
"""Bytes between two sizes to which a file is cut."""


class Whole:
    """What was written, and the files it was written to."""

    def __init__(self, folder: Path, files: dict[str, bytes], records, streams, rows):
        self.folder = folder
        self.files = files
        self.records = records
        self.streams = streams
        self.rows = rows


async def read_all(folder: Path, names):
    """Return everything that a store gives: the log, the runs' histories as a user asks for them, the index of runs."""
    store = SQLiteStore(folder / "x.db", synchronous="OFF", readers=1)
    async with Reprise(store, worker=False, capture_logs=False) as app:
        records = await store.log.scan(0, 100_000)
        streams = {name: await app.handle(name.removeprefix("run/")).events() for name in names}
        for name in names:
            head = await store.log.head(name)
            assert head.version == len(streams[name])
        rows = {row.id: row for row in await store.runs.find(RunFilter(), limit=1000)}
        return records, streams, rows


def keep(folder: Path) -> dict[str, bytes]:
    """Return the files of a store as they are."""
    return {name: (folder / name).read_bytes() for name in ("x.db", "x.db-wal")}


async def write_some(store: SQLiteStore, numbers: Counter, dice: random.Random, count: int) -> None:
    for _ in range(count):
        run = f"{dice.randrange(STREAMS)}"
        events = [
            Event(Kind.PROGRESS, n, f"k{n}", dice.randbytes(dice.choice((3, 30, 450))).hex().encode())
            for n in range(3)
        ]
        change = RunChange(
            run, status="running", workflow="w", tags={"of": run}, due_at=dice.randrange(99), at=7
        )
        await append(store.log, numbers.new(), Group(f"run/{run}", events, run=change))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store with much in its file and much in its write-ahead log."""
    folder = tmp_path_factory.mktemp("whole")
    dice = random.Random(SEED)
    numbers = Counter(dice.randbytes)

    async def make():
        for count in (60, 12):
            store = SQLiteStore(folder / "x.db", synchronous="OFF", readers=1)
            await store.start()
            await write_some(store, numbers, dice, count)
            files = keep(folder)
            await store.stop()
            for name in ("x.db-wal", "x.db-shm"):
                if count == 60 and (folder / name).exists():
                    raise AssertionError("the first half should be in the file alone")
        names = [f"run/{n}" for n in range(STREAMS)]
        return Whole(folder, files, *await read_all(folder, names))

    return asyncio.run(make())


@pytest.fixture(scope="module")
def of_200(tmp_path_factory):
    """A run of 200 events: half of them in the file, half in its write-ahead log, some in each append."""
    folder = tmp_path_factory.mktemp("of_200")
    dice = random.Random(SEED)
    numbers = Counter(dice.randbytes)

    async def make():
        done = 0
        for half in (100, 200):
            store = SQLiteStore(folder / "x.db", synchronous="OFF", readers=1)
            await store.start()
            while done < half:
                count = min(dice.randint(5, 20), half - done)
                events = [Event(Kind.STEP_COMPLETED, n, f"step-{done + n}", b"1" * 40) for n in range(count)]
                change = RunChange("0", status="running", workflow="w", tags={}, due_at=done, at=7)
                await append(store.log, numbers.new(), Group("run/0", events, run=change))
                done += count
            files = keep(folder)
            await store.stop()
        return Whole(folder, files, *await read_all(folder, ["run/0"]))

    return asyncio.run(make())


class Judge:
    """Opens damaged files, hundreds in a second: one loop, and one folder in memory where there is one."""

    def __init__(self, whole: Whole, folder: Path) -> None:
        self._whole, self._folder, self._runner = whole, folder, asyncio.Runner()

    def close(self) -> None:
        self._runner.close()
        shutil.rmtree(self._folder)

    def open(self, files: dict[str, bytes]) -> str:
        """Return what became of the files, or raise ``AssertionError`` where it must not come to that."""
        self._place(files)
        try:
            return self._opened(*self._runner.run(read_all(self._folder, self._whole.streams)))
        except (StoreError, sqlite3.DatabaseError) as error:
            return type(error).__name__

    def _place(self, files: dict[str, bytes]) -> None:
        (self._folder / "x.db-shm").unlink(missing_ok=True)
        for name, content in files.items():
            (self._folder / name).write_bytes(content)

    def _opened(self, records, streams, rows) -> str:
        whole, length = self._whole, len(records)
        assert records == whole.records[:length], "the log is no prefix"
        assert length == len(whole.records) or whole.records[length].append, (
            "the log ends in the middle of an append"
        )
        told = {name: [record for record in records if record.stream == name] for name in streams}
        for name, found in streams.items():
            assert found == told[name][: len(found)], f"{name} is not what the log says"
        if length < len(whole.records):
            assert streams == told, "a stream is shorter than the log says"
            return f"prefix of {length}"
        assert all(whole.rows[id] == row for id, row in rows.items()), "a run's row is another"
        if streams == told and rows == whole.rows:
            return "whole"
        # SQLite's indexes carry no checksums of ours: a name may not be found. That is no wrong event, and it shows.
        assert not is_sound(self._folder / "x.db"), "something is not found, and integrity_check says nothing"
        return "not found by its index"


@contextmanager
def judging(whole: Whole) -> Iterator[Judge]:
    """Open and close a judge."""
    memory = Path("/dev/shm")
    judge = Judge(whole, Path(tempfile.mkdtemp(prefix="reprise-", dir=memory if memory.is_dir() else None)))
    try:
        yield judge
    finally:
        judge.close()


def is_sound(path: Path) -> bool:
    """Return whether SQLite's own check finds nothing."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_write_ahead_log_cut_anywhere_gives_a_prefix(whole, counts, request):
    wal = whole.files["x.db-wal"]
    dice = random.Random(SEED)
    frames = range(WAL_HEADER, len(wal), FRAME)
    sizes = {
        0,
        1,
        WAL_HEADER - 1,
        *(frame + d for frame in frames for d in (-1, 0, 1, FRAME_HEADER, FRAME // 2)),
    }
    sizes = set(dice.sample(sorted(sizes), 200)) | {dice.randrange(len(wal)) for _ in range(50)}
    lengths = Tally()
    with judging(whole) as judge:
        for size in sorted(size for size in sizes if size <= len(wal)):
            what = judge.open({**whole.files, "x.db-wal": wal[:size]})
            assert what == "whole" or what.startswith("prefix"), (
                f"{what} when cut to {size} bytes; {again(request, SEED)}"
            )
            lengths[what] += 1
            counts["cuts of the write-ahead log"] += 1
    counts["different prefixes"] += len(lengths)
    assert len(lengths) > 10


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "start", "page"), [("x.db", 0, 4096), ("x.db-wal", WAL_HEADER, FRAME)])
@pytest.mark.parametrize("store", ["whole", "of_200"])
def test_no_flipped_bit_gives_a_wrong_event(store, name, start, page, counts, request):
    whole: Whole = request.getfixturevalue(store)
    content = whole.files[name]
    dice = random.Random(SEED)
    wrong = []
    with judging(whole) as judge:
        for first in [*range(0, start, page), *range(start, len(content), page)]:
            for _ in range(BITS[name]):
                bit = dice.randrange(8 * first, 8 * min(first + page, len(content)))
                flipped = bytearray(content)
                flipped[bit // 8] ^= 1 << bit % 8
                try:
                    what = judge.open({**whole.files, name: bytes(flipped)})
                except AssertionError as error:
                    wrong.append(f"bit {bit} (page {bit // 8 // page + 1}): {str(error).splitlines()[0]}")
                    what = "WRONG"
                counts[f"{store}, {name}: bits flipped, {what.partition(' of ')[0]}"] += 1
    assert not wrong, "\n".join([*wrong, again(request, SEED)])


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("name", ["x.db", "x.db-wal"])
def test_a_run_of_200_events_cut_at_every_byte_gives_the_truth_or_an_error(name, part, of_200, counts):
    """What remains of the log is a prefix. A file that lacks its end is refused, unless the write-ahead log has it.

    Also one of which nothing is left: beside a log with commits it is not a new one.
    """
    content = of_200.files[name]
    with judging(of_200) as judge:
        for size in list(range(0, len(content), CUTS))[part::SLICES]:
            what = judge.open({**of_200.files, name: content[:size]})
            assert name == "x.db-wal" or not what.startswith("prefix"), f"{what} when cut to {size} bytes"
            counts[f"of_200, {name} cut, {what.partition(' of ')[0]}"] += 1
