"""Pure steps run ahead of the log: kill -9 and power cuts take what nobody has seen, and nothing else."""

import asyncio
import random
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.crash import pure_main
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.ledger import read_lines
from tests.crash.powerloss import Promise, Trace, crashes
from tests.crash.pure_main import BRANCHES, DRAWS, ROUNDS, TOLD, Told, draws_and_tells
from tests.crash.test_power_loss import place

from reprise import Reprise, open_store
from reprise.kernel.errors import StoreError
from reprise.kernel.events import Finished, Kind, run_stream
from reprise.runtime.execution import Execution
from reprise.runtime.pipelining import Pipelined
from reprise.stores.packing import PackedStore
from reprise.stores.sqlite import SQLiteStore, database

PER_ROUND = 12
"""Kills on one file; then all runs must come to their end, and everything is compared."""
ROUND = max(1, CYCLES // 4 // PER_ROUND)
PATIENCE = 60.0

by_processes = pytest.mark.skipif(sys.platform != "linux", reason="forks processes and kills them")


def told_in(path: Path) -> list[Told]:
    """Return the whole lines of what was told."""
    return read_lines(path, Told)[0]


async def drawn_in(store) -> dict[str, dict[str, float]]:
    """Return what the log says was drawn: by run, the value by key; and check that its histories are whole."""
    found: dict[str, dict[str, float]] = {}
    for row in await store.runs.find(limit=100_000):
        records = await store.log.read(run_stream(row.id))
        assert [record.version for record in records] == list(range(1, len(records) + 1))
        completed = [record for record in records if record.kind == Kind.STEP_COMPLETED]
        keys = [record.key for record in completed]
        assert len(keys) == len(set(keys)), f"{row.id} recorded a step twice"
        found[row.id] = {r.key: msgspec.json.decode(r.data) for r in completed if not r.key.endswith("tell")}
        if records[-1].kind == Kind.RUN_FINISHED:
            value = msgspec.json.decode(msgspec.json.decode(records[-1].data, type=Finished).value)
            assert [value[n] for n in range(0, 2 * BRANCHES, 2)] == [
                value[n] for n in range(1, 2 * BRANCHES, 2)
            ]
            assert sorted(v for part in value[::2] for v in part) == sorted(found[row.id].values())
    return found


def lost(told: list[Told], drawn: dict[str, dict[str, float]]) -> list[Told]:
    """Return what was told of values that the log does not have."""
    return [one for one in told if not set(one.values) <= set(drawn.get(one.run, {}).values())]


def by_many_minds(told: list[Told]) -> list[str]:
    """Return the steps that were executed with other arguments the second time."""
    ways: defaultdict[tuple[str, str], set[tuple[float, ...]]] = defaultdict(set)
    for one in told:
        ways[one.run, one.key].add(tuple(one.values))
    return [f"{run} {key}" for (run, key), values in ways.items() if len(values) > 1]


# ---------------------------------------------------------------- kill -9


class Killing:
    """One process after the other works on a store and is killed, the last one ends."""

    def __init__(self, nursery, folder, seed, *, url="", gated=True, loose=False):
        self.folder, self.url = folder, url or f"sqlite:///{folder}/runs.db"
        self.counts = Counter()
        self._nursery, self._dice, self._options = (
            nursery,
            random.Random(seed),
            {"gated": gated, "loose": loose},
        )
        self._runs = 0

    def _spawn(self) -> int:
        self._runs += 2
        return self._nursery.spawn("pure", self.folder, store=self.url, runs=self._runs, **self._options)

    def kill(self, *, before: Callable[[], None] = lambda: None) -> None:
        """Let a process work for a moment that it tells something in, do something else, and kill it."""
        told, more = len(told_in(self.folder / TOLD)), self._dice.randint(1, 20)
        process = self._spawn()
        until = asyncio.run(_seconds(lambda: self._told_or_ended(process, told + more)))
        assert until, f"nothing was told in {PATIENCE} s"
        before()
        self._nursery.kill(process)
        self.counts["kills"] += 1

    def lost(self) -> list[Told]:
        """Return what was told so far and is not in the log."""
        return lost(told_in(self.folder / TOLD), asyncio.run(self._drawn()))

    def _told_or_ended(self, process: int, count: int) -> bool:
        return len(told_in(self.folder / TOLD)) >= count or self._nursery.ended(process) is not None

    def finish(self) -> list[Told]:
        """Let everything end; return what was told and is not in the log."""
        process = self._spawn()
        ended = asyncio.run(_seconds(lambda: self._nursery.ended(process) is not None))
        stderr = self.folder / "stderr"
        assert ended, f"it did not end in {PATIENCE} s"
        assert not stderr.exists() or not stderr.read_text(), stderr.read_text()
        told = told_in(self.folder / TOLD)
        drawn = asyncio.run(self._drawn())
        assert len(drawn) == self._runs
        assert all(len(values) == BRANCHES * ROUNDS * DRAWS for values in drawn.values())
        self.counts["plain steps executed"] += len(told)
        self.counts["executed again"] += len(told) - len({(one.run, one.key) for one in told})
        self.counts["values drawn and kept"] += sum(map(len, drawn.values()))
        self.counts["executed with other arguments"] += len(by_many_minds(told))
        return lost(told, drawn)

    async def _drawn(self):
        store = open_store(self.url)
        await store.start()
        try:
            return await drawn_in(store)
        finally:
            await store.stop()


async def _seconds(holds) -> bool:
    for _ in range(int(PATIENCE / 0.002)):
        if holds():
            return True
        await asyncio.sleep(0.002)
    return False


@by_processes
@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", range(ROUND))
def test_nothing_was_told_that_a_kill_took(number, nursery, tmp_path, counts, request):
    killing = Killing(nursery, tmp_path, SEED + number)
    for _ in range(PER_ROUND):
        killing.kill()
    missing = killing.finish()
    counts.update(killing.counts)
    assert not missing, again(request, SEED + number)
    assert not killing.counts["executed with other arguments"]
    shutil.rmtree(tmp_path)


@by_processes
@pytest.mark.timeout(180)
def test_control_steps_that_do_not_wait_tell_what_is_lost(nursery, tmp_path, counts):
    killing = Killing(nursery, tmp_path, SEED, gated=False)
    for _ in range(PER_ROUND * 2):
        killing.kill()
    missing = killing.finish()
    counts["control: told and lost in kills"] += len(missing)
    counts["control: kills"] += killing.counts["kills"]
    counts["control: executed with other arguments"] += killing.counts["executed with other arguments"]
    assert missing, "nothing that was told too early was lost: the zero of the others means nothing"


# ---------------------------------------------------------------- power cuts


async def trace_of(folder: Path, synchronous: str, runs: int = 6) -> tuple[Trace, list[Told], dict]:
    """Let runs draw and tell over the recording file system, with a promise for each time something is told."""
    trace = Trace()
    pure_main.keep_told(folder)
    store = SQLiteStore(folder / "x.db", synchronous=synchronous, connect=trace.connect, readers=1)
    count = 0

    async def tells(call, next):
        nonlocal count
        if call.name == "tell":
            trace.promise(count)
            count += 1
        return await next(call)

    async with Reprise(store, middleware=[tells], capture_logs=False) as app:
        for first in range(0, runs, 2):
            handles = [await app.start(draws_and_tells, n, id=f"run-{n}") for n in (first, first + 1)]
            for handle in handles:
                await handle.result(30)
        whole = await drawn_in(app.store)
    return trace, told_in(folder / TOLD), whole


async def left(folder: Path, files: dict[str, bytes]):
    """Return what was drawn by what a power cut left; the store stays for who wants to go on with it."""
    place(files, folder)
    store = PackedStore(SQLiteStore(folder / "x.db", synchronous="OFF", readers=1))
    await store.start()
    try:
        return await drawn_in(store)
    finally:
        await store.stop()


@pytest.fixture
def small_wal(monkeypatch):
    monkeypatch.setattr(database, "WAL_BYTES", 256 << 10)
    monkeypatch.setattr(database, "_CHECKPOINT_PAGES", 48)


@pytest.mark.timeout(300)
async def test_nothing_was_told_that_a_power_cut_took(tmp_path, counts, small_wal, request):
    dice = random.Random(SEED)
    trace, told, whole = await trace_of(tmp_path / "recorded", "FULL")
    for number, (cut, style, files) in enumerate(crashes(trace.ops, max(20, CYCLES // 2), dice)):
        where = f"cut after {cut} of {len(trace.ops)}, {style}; {again(request, SEED)}"
        drawn = await left(folder := tmp_path / str(number), files)
        promised = told[: sum(isinstance(op, Promise) for op in trace.ops[:cut])]
        assert not lost(promised, drawn), where
        for run, values in drawn.items():
            assert values.items() <= whole[run].items(), where
        counts["power cuts"] += 1
        counts["told before a power cut"] += len(promised)
        if number % 25 == 24:
            counts["runs that went on after a power cut"] += await go_on(folder, promised, where)
        shutil.rmtree(folder)


async def go_on(folder: Path, promised: list[Told], where: str) -> int:
    """Let another worker go on with what a power cut left: it tells nobody anything else."""
    (folder / TOLD).unlink(missing_ok=True)
    pure_main.keep_told(folder)
    store = SQLiteStore(folder / "x.db", synchronous="OFF", readers=1)
    async with Reprise(store, workflows=[draws_and_tells], capture_logs=False) as app:
        rows = await app.store.runs.find(limit=100)
        for row in rows:
            await app.handle(row.id).result(30)
        drawn = await drawn_in(app.store)
    told = promised + told_in(folder / TOLD)
    assert not lost(told, drawn), where
    assert not by_many_minds(told), where
    return len(rows)


async def cut_often(folder, counts, synchronous, count) -> int:
    """Cut the power of a disk that is not synced at each commit; return how much of what was told is lost."""
    dice = random.Random(SEED)
    trace, told, whole = await trace_of(folder / "recorded", synchronous)
    missing = 0
    for number, (cut, style, files) in enumerate(crashes(trace.ops, count, dice)):
        promised = told[: sum(isinstance(op, Promise) for op in trace.ops[:cut])]
        counts[f"{synchronous}: power cuts"] += 1
        try:
            drawn = await left(folder / str(number), files)
        except (StoreError, AssertionError):
            assert synchronous == "OFF", f"cut after {cut} of {len(trace.ops)}, {style}"
            counts[f"{synchronous}: power cuts that broke the store"] += 1
            continue
        if synchronous != "OFF":
            assert all(values.items() <= whole[run].items() for run, values in drawn.items())
        missing += len(lost(promised, drawn))
        shutil.rmtree(folder / str(number))
    counts[f"{synchronous}: told and lost"] += missing
    return missing


@pytest.mark.timeout(300)
async def test_without_a_sync_at_each_commit_histories_stay_whole(tmp_path, counts, small_wal):
    """What was told may be lost then, as the guide says; what is left is a beginning, by the checks of ``drawn_in``."""
    await cut_often(tmp_path, counts, "NORMAL", max(20, CYCLES // 4))


@pytest.mark.timeout(300)
async def test_control_without_syncs_a_power_cut_takes_what_was_told(tmp_path, counts, small_wal):
    missing = await cut_often(tmp_path, counts, "OFF", 60)
    assert missing, "a disk that is never synced loses nothing: the zero of the others means nothing"


@pytest.mark.timeout(300)
async def test_control_a_power_cut_takes_what_was_told_too_early(tmp_path, counts, small_wal, monkeypatch):
    dice = random.Random(SEED)
    monkeypatch.setattr(Pipelined, "go_out", Execution.go_out)
    trace, told, _ = await trace_of(tmp_path / "recorded", "FULL")
    missing = 0
    for number, (cut, _, files) in enumerate(crashes(trace.ops, 40, dice)):
        drawn = await left(tmp_path / str(number), files)
        missing += len(lost(told[: sum(isinstance(op, Promise) for op in trace.ops[:cut])], drawn))
        shutil.rmtree(tmp_path / str(number))
    counts["control: told and lost in power cuts"] += missing
    assert missing, "nothing that was told too early was lost: the zero of the others means nothing"
