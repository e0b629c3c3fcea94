"""Moving house, over any keeper: what is written elsewhere is what was here, and nothing goes that should stay.

The runs are written by hand, so that every oddity is among them; whether real runs go on is tested in the crash tests.
"""

import asyncio
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from reprise.kernel.clock import VirtualClock
from reprise.kernel.errors import ArchiveCorrupt, ConfigurationError, StaleVersion, StoreUnreachable
from reprise.kernel.events import Event, Kind, streams_of_run
from reprise.kernel.query import Compare
from reprise.stores.archive import verify_archive
from reprise.stores.cells import Change
from reprise.stores.conditions import floor_of
from reprise.stores.log import Append, Group, RunChange, answer, enlist
from reprise.stores.memory import MemoryStore
from reprise.stores.moving import (
    copy_store,
    copying,
    export_runs,
    export_store,
    exporting,
    import_runs,
    importing,
    prune,
    pruning,
    receiving,
    restore_store,
)
from reprise.stores.queue import Settlement, Task
from reprise.stores.runs import RunFilter
from reprise.testing.suites import KeeperSuite
from reprise.testing.suites.keeper import LONG, fact, put, write

CLOCK = VirtualClock()
END = Event(Kind.RUN_FINISHED, 9, data=b'{"status":"completed"}')


async def start(store, id, parent="", *, at=1, token=1, tags=None, with_groups=()):
    """Start a run, in one append with ``with_groups``."""
    change = RunChange(id, "running", "w", parent or None, "worker-1", None, "b1", tags or {}, at=at)
    events = [
        Event(Kind.RUN_STARTED, at, data=b'{"workflow":"w","input":[[],{}]}'),
        fact(b'{"a": [1, 2.50]}', at=at),
    ]
    await put(store.log, Group(f"run/{id}", events, 0, token, takes=True, run=change), *with_groups)


async def finish(store, id, *, at=9, status="completed", with_groups=()):
    """End a run."""
    head = await store.log.head(f"run/{id}")
    change = RunChange(id, status, owner=None, due_at=None, at=at)
    group = Group(f"run/{id}", [END], head.version, head.token, closes=True, run=change)
    await put(store.log, group, *with_groups)


async def family(store, root, *, children=2, at=1, ends=True):
    """Write a run with children, each of which wrote to its parent's inbox as it ended."""
    await start(store, root, at=at)
    for n in range(children):
        note = Group(f"run/{root}", [fact(b"%d" % n, kind=Kind.CHILD_STARTED)], token=1)
        await start(store, f"{root}:{n}.c", root, at=at + 1 + n, with_groups=[note])
    for n in range(children):
        mail = Group(f"inbox/{root}", [fact(b'{"run":"%d"}' % n, kind=Kind.CHILD_FINISHED)])
        await finish(store, f"{root}:{n}.c", at=at + 20, with_groups=[mail])
    await write(store.log, f"log/{root}", b'"line"')
    if ends:
        await finish(store, root, at=at + 30)


async def town(store):
    """Write some of everything."""
    await family(store, "done", at=1)
    await family(store, "open", at=100, ends=False)
    await start(store, "parked", at=200, token=7, tags={"env": "prod", "n": "ü"})
    await put(
        store.log,
        Group("run/parked", (), token=7, run=RunChange("parked", "waiting", owner=None, due_at=555, at=210)),
    )
    await write(store.log, "inbox/parked", b"\xff\0not json", b"", b" 1", b'{"big": "%s"}' % (b"x" * 50_000))
    await start(store, "long", at=300, token=2)
    for n in range(40):
        await put(store.log, Group("run/long", [fact(b"%d" % n)] * 2, token=2))
    await store.log.trim("run/long", 31)
    await write(store.log, "free", b"1", b"2")
    await put(store.log, Group("held", [fact(b"3")], 0, token=9, takes=True))
    await put(store.log, Group("shut", [fact(b"4")], 0, closes=True))
    await store.queue.offer(
        [Task("t1", "q", b"\1", order=2.5, due_at=77), Task("t2", "q"), Task("t3", "other")]
    )
    (claimed,) = await store.queue.claim("other", "me", 1, LONG)
    await store.queue.settle([Settlement(claimed, "dead", note="why", outcome=b"history")])
    await store.lease.take("x", "me", LONG)
    await store.cells.apply(
        "state/app", [Change("ä", b"\0\xff"), Change("b", b"1", ttl=LONG), Change("c", b"")]
    )
    await store.cells.apply("other", [Change("a", b"2"), Change("gone", b"")])
    await store.cells.apply("other", [Change("gone", None)])


async def records(store, *streams):
    """Return the records of streams (of all, if none is named) without their places."""
    found: dict[str, list[Any]] = {}
    if streams:
        return {s: [replace(r, position=0) for r in await store.log.read(s)] for s in streams}
    after = 0
    while page := await store.log.scan(after, 700):
        after = page[-1].position
        for record in page:
            found.setdefault(record.stream, []).append(replace(record, position=0))
    return found


async def picture(store):
    """Return all that a move is to bring along, in comparable form."""
    rows = {}
    for row in await store.runs.find(limit=100_000):
        head = await store.log.head(f"run/{row.id}")
        life = "closed" if head.closed else "held" if head.token else "free"
        rows[row.id] = (replace(row, token=0, owner=None, due_at=None), life, head.version)
    others = {}
    for name in ("free", "held", "shut"):
        head = await store.log.head(name)
        others[name] = (head.version, bool(head.token), head.closed)
    tasks = [
        (task.id, task.queue, task.data, task.order, task.due_at, task.state, task.note, task.outcome)
        for queue in await store.queue.names()
        for task in await store.queue.find(queue)
    ]
    cells = [
        (space, cell.name, cell.data, bool(cell.expires_at))
        for space in await store.cells.spaces()
        for cell in (await store.cells.scan(space)).cells
    ]
    return await records(store), rows, others, tasks, cells


async def order_of(store):
    """Return the order of all records by stream and version."""
    return [(r.stream, r.version) for r in await store.log.scan(limit=100_000)]


async def go_on(store, id):
    """Let a run begin a new generation, which keeps nothing of what was before."""
    head = await store.log.head(f"run/{id}")
    change = RunChange(id, since=head.version, generation=1, at=5)
    await put(
        store.log, Group(f"run/{id}", [fact(kind=Kind.RUN_CONTINUED), fact(b"new")], token=1, run=change)
    )
    await write(store.log, f"inbox/{id}", b"4")
    await store.log.trim(f"run/{id}", head.version)
    await store.log.trim(f"inbox/{id}", 3)


class Looks:
    """Counts the looks at the log of a store and at its runs; before one of them, lets something else happen."""

    def __init__(self, store, number, meanwhile):
        self.store, self.left, self.meanwhile, self.happened = store, number, meanwhile, False

    @contextmanager
    def counted(self, monkeypatch):
        """Count from here on."""
        with monkeypatch.context() as patches:
            log, runs = self.store.log, self.store.runs
            for port, name in ((log, "read"), (log, "scan"), (log, "head"), (log, "end"), (runs, "find")):
                patches.setattr(port, name, partial(self._look, getattr(port, name)))
            yield

    async def _look(self, look, *args, **options):
        self.left -= 1
        if self.left == 0:
            self.happened = True
            await self.meanwhile()
        return await look(*args, **options)


class MovingScenes(KeeperSuite):
    """Tests of ``reprise.stores.moving``."""

    @pytest.fixture
    async def target(self):
        """An empty store of another kind."""
        return MemoryStore(CLOCK)

    # ------------------------------------------------------------ export and import

    async def test_what_is_imported_is_what_was_exported(self, store, target, tmp_path):
        await town(store)
        path = tmp_path / "a.jsonl"
        done = await export_runs(store, path, clock=CLOCK)
        assert (done.families, done.runs) == (4, 8)
        came = await import_runs(target, path, clock=CLOCK)
        assert (came.runs, came.records, came.present, came.conflicts) == (8, done.records, 0, ())
        assert came.hash == done.hash == verify_archive(path).hash
        there, here = await picture(store), await picture(target)
        runs_there = {s: r for s, r in there[0].items() if "/" in s}
        assert here[0] == runs_there
        assert here[1] == there[1]
        # And back: the same lines but for the order of families, which is that of their beginnings.
        again = await export_runs(target, tmp_path / "b.jsonl", clock=CLOCK)
        assert again.records == done.records

    async def test_an_unfinished_run_arrives_without_an_owner_and_due(self, store, target, tmp_path):
        await town(store)
        await export_runs(store, tmp_path / "a.jsonl")
        await import_runs(target, tmp_path / "a.jsonl", clock=CLOCK)
        rows = {row.id: row for row in await target.runs.find()}
        assert (rows["open"].owner, rows["open"].due_at, rows["open"].status) == (
            None,
            CLOCK.now(),
            "running",
        )
        assert (rows["parked"].owner, rows["parked"].due_at, rows["parked"].status) == (None, 555, "waiting")
        due = await target.runs.due(CLOCK.now(), owner="me")
        assert {row.id for row in due} == {"open", "parked", "long"}
        head = await target.log.head("run/parked")
        await put(target.log, Group("run/parked", [fact()], head.version, token=head.token + 1, takes=True))

    async def test_an_import_may_be_repeated(self, store, target, tmp_path):
        await town(store)
        path = tmp_path / "a.jsonl"
        await export_runs(store, path)
        dry = await import_runs(target, path, dry_run=True)
        assert await target.log.scan() == []
        first = await import_runs(target, path)
        assert (dry.runs, dry.records) == (first.runs, first.records)
        before = await picture(target)
        again = await import_runs(target, path)
        assert (again.runs, again.records, again.present) == (0, 0, 8)
        assert await picture(target) == before
        back = await import_runs(store, path)
        assert (back.runs, back.records, back.present, back.conflicts) == (0, 0, 8, ())

    async def test_a_run_that_went_on_since_is_left_as_it_is(self, store, tmp_path):
        await family(store, "open", ends=False)
        await export_runs(store, tmp_path / "a.jsonl")
        await finish(store, "open")
        before = await picture(store)
        done = await import_runs(store, tmp_path / "a.jsonl")
        assert (done.runs, done.present, done.conflicts) == (0, 3, ())
        assert await picture(store) == before

    async def test_another_history_or_an_older_one_is_a_conflict_of_the_whole_family(
        self, store, target, tmp_path
    ):
        await family(store, "same", at=1)
        await family(store, "other", at=100)
        await family(store, "older", at=200, ends=False)
        await export_runs(store, tmp_path / "a.jsonl", RunFilter(id="older"))
        await import_runs(target, tmp_path / "a.jsonl")
        await finish(store, "older")
        await start(target, "other:1.c", at=5)
        await export_runs(store, tmp_path / "b.jsonl")
        before = await picture(target)
        done = await import_runs(target, tmp_path / "b.jsonl")
        assert done.conflicts == ("older", "other")
        assert (done.runs, done.present) == (3, 0)
        after = await picture(target)
        assert {id for id in after[1] if id not in before[1]} == {"same", "same:0.c", "same:1.c"}
        assert {s: r for s, r in after[0].items() if "same" not in s} == before[0]

    @pytest.mark.parametrize("at", [2, 1])
    async def test_a_history_of_the_same_length_is_another_one_all_the_same(
        self, at, store, target, tmp_path
    ):
        """Also one that says the same at the same time: it came of another append."""
        await start(store, "twin", at=1)
        await start(target, "twin", at=at)
        await export_runs(store, tmp_path / "a.jsonl", clock=CLOCK)
        before = await picture(target)
        done = await import_runs(target, tmp_path / "a.jsonl", clock=CLOCK)
        assert done.conflicts == ("twin",), done
        assert (done.runs, done.present) == (0, 0)
        assert await picture(target) == before

    async def test_an_interrupted_import_is_ended_by_the_next(self, store, tmp_path, monkeypatch):
        monkeypatch.setattr(importing, "ROWS", 1)
        await town(store)
        path = tmp_path / "a.jsonl"
        await export_runs(store, path)
        whole = MemoryStore(CLOCK)
        await import_runs(whole, path, clock=CLOCK)
        writes = 0
        while True:
            fresh = MemoryStore(CLOCK)
            fresh.log.submit = _failing(fresh.log.submit, after=writes)
            try:
                await import_runs(fresh, path, clock=CLOCK)
            except StoreUnreachable:
                seen = {row.id for row in await fresh.runs.find()}
                for id in seen:  # whoever has a row has all its records
                    assert await records(fresh, *streams_of_run(id)) == await records(
                        whole, *streams_of_run(id)
                    )
            else:
                break
            del fresh.log.submit
            await import_runs(fresh, path, clock=CLOCK)
            assert await picture(fresh) == await picture(whole)
            writes += 1
        assert writes > 5

    async def test_nothing_of_a_broken_archive_is_used(self, store, target, tmp_path):
        await town(store)
        path = tmp_path / "a.jsonl"
        await export_runs(store, path)
        data = path.read_bytes()
        path.write_bytes(data[:-100])
        with pytest.raises(ArchiveCorrupt):
            await import_runs(target, path)
        assert await target.log.scan() == []

    async def test_a_family_is_written_as_it_was_at_one_moment(self, keeper, store, target, tmp_path):
        """A writer goes on during the export; what comes of it is whole appends, and rows that fit to the records."""
        stop, written = asyncio.Event(), []

        async def live():
            for n in range(1, 100):
                await family(store, f"f{n}", at=1000 * n)
                await start(store, f"g{n}", at=1000 * n)
                note = Group(f"run/g{n}", [fact(b'"with"')], token=1)
                await put(store.log, note, Group(f"inbox/g{n}", [fact(b'"with"')]))
                written.append(n)
                if stop.is_set():
                    return

        writer = asyncio.ensure_future(live())
        for n in range(3):
            await _grown(written, 2 + 3 * n)
            await export_runs(store, tmp_path / f"{n}.jsonl")
        stop.set()
        await writer
        for n in range(3):
            fresh = MemoryStore(CLOCK)
            done = await import_runs(fresh, tmp_path / f"{n}.jsonl", clock=CLOCK)
            assert done.runs
            there = await records(store)
            for stream, here in (await records(fresh)).items():
                assert here == there[stream][: len(here)]
            for row in await fresh.runs.find(limit=10_000):
                head = await fresh.log.head(f"run/{row.id}")
                assert head.closed is (row.status == "completed")
                assert head.closed or row.due_at is not None
                if row.id.startswith("g"):
                    letters = len(await fresh.log.read(f"inbox/{row.id}"))
                    assert head.version == 2 + letters
                elif ":" not in row.id and head.closed:
                    assert len(await fresh.log.read(f"inbox/{row.id}")) == 2

    @pytest.mark.parametrize("export", [export_runs, export_store])
    async def test_a_family_that_ends_between_two_looks_is_archived_before_or_after(
        self, store, tmp_path, monkeypatch, export
    ):
        """A child ends in one append with the letter to its parent: both are in the archive, or neither."""
        monkeypatch.setattr(exporting, "_PAGE", 2)
        for number in range(1, 100):
            root = f"r{number}"
            await family(store, root, children=1, ends=False)
            await start(store, f"{root}:1.c", root)

            async def ends(root=root):
                letter = Group(f"inbox/{root}", [fact(b"{}", kind=Kind.CHILD_FINISHED)])
                await finish(store, f"{root}:1.c", with_groups=[letter])
                await finish(store, root)

            looks = Looks(store, number, ends)
            path = tmp_path / f"{number}.jsonl"
            with looks.counted(monkeypatch):
                await export(store, path)
            fresh = MemoryStore(CLOCK)
            await import_runs(fresh, path, clock=CLOCK)
            heads = [await fresh.log.head(f"run/{run}") for run in (f"{root}:1.c", root)]
            letters = await fresh.log.read(f"inbox/{root}")
            assert (len(letters) == 2) is heads[0].closed
            assert heads[0].closed or not heads[1].closed
            for row in await fresh.runs.find():
                assert (row.status == "completed") is (await fresh.log.head(f"run/{row.id}")).closed
            if not looks.happened:
                assert number > 5
                return
            await store.log.drop(
                *(f"run/{run}" for run in (root, f"{root}:0.c", f"{root}:1.c")), f"inbox/{root}"
            )

    # ------------------------------------------------------------ everything

    async def test_an_archive_of_all_restores_all(self, store, target, tmp_path):
        await town(store)
        epoch = await store.begin_epoch(above=3)
        path = tmp_path / "a.jsonl.gz"
        done = await export_store(store, path)
        assert (done.tasks, done.cells) == (3, 4)
        restored = await restore_store(target, path, clock=CLOCK)
        assert restored.epoch == target.epoch > epoch
        assert restored.runs == 8
        there, here = await picture(store), await picture(target)
        assert here == there
        assert await order_of(target) == await order_of(store)
        floor = floor_of(target.epoch)
        assert (await target.log.head("run/open")).token >= floor
        assert (await target.log.head("held")).token >= floor
        assert await target.lease.holder("x") == []
        assert (await write(target.log, "free", b"5")).position > floor

    async def test_an_archive_is_restored_into_an_empty_store_only(self, store, target, tmp_path):
        await town(store)
        await export_store(store, tmp_path / "all.jsonl")
        await export_runs(store, tmp_path / "some.jsonl")
        with pytest.raises(ConfigurationError, match="is no backup"):
            await restore_store(target, tmp_path / "some.jsonl")
        before = await picture(store)
        with pytest.raises(ConfigurationError, match="holds data"):
            await restore_store(store, tmp_path / "all.jsonl")
        assert await picture(store) == before

    async def test_an_archive_of_all_is_one_moment_of_a_store_in_use(self, store, tmp_path):
        stop, written = asyncio.Event(), []

        async def live():
            for n in range(1, 100):
                await family(store, f"f{n}", children=1, at=1000 * n)
                written.append(n)
                if stop.is_set():
                    return

        writer = asyncio.ensure_future(live())
        await _grown(written, 3)
        await export_store(store, tmp_path / "a.jsonl")
        stop.set()
        await writer
        fresh = MemoryStore(CLOCK)
        await restore_store(fresh, tmp_path / "a.jsonl", clock=CLOCK)
        here = await order_of(fresh)
        assert here
        assert here == (await order_of(store))[: len(here)]
        assert {row.id for row in await fresh.runs.find(limit=10_000)} == {
            stream[4:] for stream, _ in here if stream.startswith("run/")
        }
        for row in await fresh.runs.find(limit=10_000):
            assert (await fresh.log.head(f"run/{row.id}")).closed is (row.status == "completed")

    @pytest.mark.parametrize("at_once", [2, 1000])
    @pytest.mark.parametrize("export", [export_runs, export_store])
    async def test_a_run_that_begins_a_new_generation_meanwhile_comes_back(
        self, store, tmp_path, monkeypatch, export, at_once
    ):
        """Between every two looks of an export: what stood in it before is trimmed away, and its row says so at once."""
        monkeypatch.setattr(exporting, "_PAGE", 2)
        monkeypatch.setattr(receiving, "MOST_RECORDS", at_once)
        for number in range(1, 100):
            id = f"a{number}"
            await start(store, id)
            await put(store.log, Group(f"run/{id}", [fact()] * 3, token=1))
            await write(store.log, f"inbox/{id}", b"1", b"2", b"3")
            looks = Looks(store, number, partial(go_on, store, id))
            path = tmp_path / f"{number}.jsonl"
            with looks.counted(monkeypatch):
                await export(store, path)
            fresh = MemoryStore(CLOCK)
            await import_runs(fresh, path, clock=CLOCK)
            [row] = await fresh.runs.find(RunFilter(id=id))
            history = await fresh.log.read(f"run/{id}", row.since)
            assert history[0].kind in (Kind.RUN_STARTED, Kind.RUN_CONTINUED)
            went_on = any(record.kind == Kind.RUN_CONTINUED for record in await fresh.log.read(f"run/{id}"))
            assert row.generation == went_on
            assert history[-1].data == (b"new" if went_on else b"x")
            mail = [record.data for record in await fresh.log.read(f"inbox/{id}")]
            assert mail in ([b"1", b"2", b"3"], [b"1", b"2", b"3", b"4"], [b"4"])
            assert went_on or mail[0] == b"1"
            if not looks.happened:
                assert number > 5
                return
            await store.log.drop(f"run/{id}", f"inbox/{id}")

    # ------------------------------------------------------------ prune

    async def test_prune_takes_whole_families_that_ended_and_nothing_else(self, store):
        await town(store)
        await family(store, "young", at=1000)
        await start(store, "half", at=400)
        await start(store, "half:1.c", "half", at=401)
        await finish(store, "half", at=402)
        before = await picture(store)
        dry = await prune(store, ended_before=1000, dry_run=True)
        assert await picture(store) == before
        done = await prune(store, ended_before=1000)
        assert (done.families, done.runs, done.kept) == (dry.families, dry.runs, dry.kept) == (1, 3, 1)
        assert done.records == sum(len(r) for s, r in before[0].items() if "done" in s)
        after = await picture(store)
        assert after[0] == {s: r for s, r in before[0].items() if "done" not in s}
        assert after[1] == {id: row for id, row in before[1].items() if not id.startswith("done")}
        assert after[2:] == before[2:]
        assert (await prune(store, ended_before=1000)).families == 0

    async def test_prune_asks_the_filter_of_the_first_run(self, store):
        for n in range(3):
            await start(store, f"r{n}", at=n + 1, tags={"env": "prod" if n else "test"})
            await finish(store, f"r{n}", status="failed" if n == 2 else "completed")
        assert (
            await prune(store, RunFilter(tags={"env": "prod"}, status=["failed", "running"]))
        ).families == 1
        assert {row.id for row in await store.runs.find()} == {"r0", "r1"}
        assert (await prune(store, RunFilter(status=["running"]))).families == 0
        assert (await prune(store, RunFilter(workflow="w", tags={"env": "test"}))).families == 1

    async def test_prune_finds_all_of_many_of_one_moment(self, store):
        appends = [
            Append(
                n + 1,
                (Group(f"run/r{n}", [END], 0, closes=True, run=RunChange(f"r{n}", "completed", "w", at=5)),),
            )
            for n in range(950)
        ]
        store.log.submit(appends[:-1])
        await put(store.log, *appends[-1].groups)
        done = await prune(store)
        assert (done.families, done.records) == (950, 950)
        assert await store.runs.count() == {}

    async def test_a_reader_never_sees_a_part_of_a_family(self, keeper, store, monkeypatch):
        """He looks all the time, and certainly between two transactions."""
        monkeypatch.setattr(pruning, "RUNS_PER_DROP", 10)
        sizes = {f"f{n}": 1 + n % 4 for n in range(30)}
        for n, (root, children) in enumerate(sizes.items()):
            await family(store, root, children=children, at=n)
        reader = await keeper.open() if keeper.factory else store
        parts = set()

        async def look():
            seen: dict[str, int] = {}
            for row in await reader.runs.find(limit=1000):
                root = row.id.partition(":")[0]
                seen[root] = seen.get(root, 0) + 1
            assert seen == {root: sizes[root] + 1 for root in seen}
            parts.add(len(seen))

        drop = store.log.drop

        async def watched(*streams):
            gone = await drop(*streams)
            await look()
            return gone

        monkeypatch.setattr(store.log, "drop", watched)
        pruning_all = asyncio.ensure_future(prune(store))
        while not pruning_all.done():
            await look()
            await asyncio.sleep(0)
        assert (await pruning_all).families == 30
        assert len(parts) > 5

    async def test_of_a_family_larger_than_a_transaction_the_first_run_goes_last(self, store, monkeypatch):
        monkeypatch.setattr(pruning, "RUNS_PER_DROP", 3)
        await family(store, "big", children=8)
        drop, calls = store.log.drop, []

        async def failing(*streams):
            calls.append([stream[4:] for stream in streams if stream.startswith("run/")])
            if len(calls) == 3:
                raise StoreUnreachable
            return await drop(*streams)

        monkeypatch.setattr(store.log, "drop", failing)
        with pytest.raises(StoreUnreachable):
            await prune(store)
        assert "big" in {row.id for row in await store.runs.find()}
        assert max(map(len, calls)) == 3
        assert (await prune(store)).families == 1
        assert await store.runs.count() == {}
        assert calls[-1][0] == "big"

    async def test_what_is_archived_comes_back_and_what_is_not_does_not_go(
        self, store, tmp_path, monkeypatch
    ):
        await town(store)
        before = await picture(store)
        done = await prune(store, archive=tmp_path / "a.jsonl")
        assert (done.families, done.hash) == (1, verify_archive(tmp_path / "a.jsonl").hash)
        assert "done" not in {row.id for row in await store.runs.find()}
        await import_runs(store, tmp_path / "a.jsonl")
        assert await picture(store) == before
        with pytest.raises(ConfigurationError, match="exists already"):
            await prune(store, archive=tmp_path / "a.jsonl")
        with pytest.raises(StoreUnreachable):
            await prune(store, archive=tmp_path / "none" / "a.jsonl")
        monkeypatch.setattr(pruning, "verify_archive", _broken)
        with pytest.raises(ArchiveCorrupt):
            await prune(store, archive=tmp_path / "b.jsonl")
        assert await picture(store) == before

    async def test_a_run_that_is_not_as_in_the_archive_any_more_stays(self, store, tmp_path, monkeypatch):
        await family(store, "a")
        await family(store, "b", at=50)

        def meanwhile(path):
            end = verify_archive(path)
            asyncio.run_coroutine_threadsafe(self._again(store, "a"), loop).result(10)
            return end

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(pruning, "verify_archive", meanwhile)
        done = await prune(store, archive=tmp_path / "a.jsonl")
        assert (done.families, done.kept) == (1, 1)
        assert {row.id for row in await store.runs.find()} == {"a"}

    async def _again(self, store, id):
        await store.log.drop(*(s for run in (id, f"{id}:0.c", f"{id}:1.c") for s in streams_of_run(run)))
        await start(store, id, at=99)

    async def test_runs_of_one_saga_go_together_and_what_was_said_in_it_with_them(
        self, store, target, tmp_path
    ):
        for saga in ("s", "t"):
            for n, service in enumerate(("stock", "bank", "post")):
                said = [Group(f"saga/{saga}", [fact(b'{"name":"%d"}' % n, kind=Kind.SAGA_EVENT)])]
                tags = {"saga": saga, "saga.service": service}
                await start(store, f"{saga}.{service}", at=10 + n, tags=tags, with_groups=said)
        await start(store, "s.stock:1.c", "s.stock", at=20)
        for id in ("s.stock:1.c", "s.stock", "s.bank", "t.stock", "t.bank", "t.post"):
            await finish(store, id, at=30)
        before = await records(store)
        done = await prune(store, Compare("created", "<", 12))
        assert (done.families, done.runs, done.kept) == (1, 3, 1), (
            "t, of which one matched only for its company"
        )
        assert set(before) - set(await records(store)) == {
            "saga/t", "run/t.stock", "run/t.bank", "run/t.post",
        }  # fmt: skip
        await finish(store, "s.post", at=40)
        before = await records(store)
        done = await prune(store, Compare("created", "<", 11), archive=tmp_path / "a")
        assert (done.families, done.runs, done.kept) == (1, 4, 0)
        assert not await records(store)
        for keeper in (target, store):
            back = await import_runs(keeper, tmp_path / "a")
            assert (back.runs, back.conflicts) == (4, ())
            assert await records(keeper) == before

    async def test_of_a_saga_larger_than_a_transaction_what_was_said_goes_last(self, store, monkeypatch):
        monkeypatch.setattr(pruning, "RUNS_PER_DROP", 2)
        await write(store.log, "saga/s", b"1")
        for n in range(5):
            await start(store, f"s.{n}", at=10 + n, tags={"saga": "s", "saga.service": f"{n}"})
            await finish(store, f"s.{n}", at=20)
        dropped = []
        drop = store.log.drop

        async def watched(*streams):
            dropped.append([stream for stream in streams if stream.startswith(("run/", "saga/"))])
            return await drop(*streams)

        monkeypatch.setattr(store.log, "drop", watched)
        await prune(store)
        assert dropped == [["run/s.3", "run/s.4"], ["run/s.1", "run/s.2"], ["run/s.0", "saga/s"]]

    async def test_a_copy_lets_go_what_belongs_to_no_run_and_was_dropped_meanwhile(self, store, target):
        await town(store)
        await write(store.log, "saga/s", b"1", b"2")
        follow = asyncio.Event()
        copying = asyncio.create_task(copy_store(store, target, follow=follow))
        async with asyncio.timeout(10):
            while not (await target.log.head("saga/s")).version:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await store.log.drop("saga/s")
        follow.set()
        assert "saga/s" not in "".join((await copying).differences)
        assert not (await target.log.head("saga/s")).version

    async def test_no_match_makes_no_archive(self, store, tmp_path):
        await family(store, "open", ends=False)
        assert (await prune(store, archive=tmp_path / "a.jsonl")).families == 0
        assert list(tmp_path.iterdir()) == []

    # ------------------------------------------------------------ copy

    async def test_a_copy_holds_all_that_the_source_holds(self, store, target):
        await town(store)
        for source, to in ((store, target), (target, MemoryStore(CLOCK))):
            done = await copy_store(source, to, clock=CLOCK)
            assert done.is_complete, done
            assert (done.runs, done.unfinished, done.tasks, done.cells) == (8, 3, 3, 4)
            assert await picture(to) == await picture(source)
            assert await order_of(to) == await order_of(source)
            assert to.epoch > source.epoch
            rows = {row.id: row for row in await to.runs.find()}
            assert (rows["open"].owner, rows["parked"].due_at) == (None, 555)
            assert rows["open"].token >= floor_of(to.epoch)

    async def test_a_copy_from_elsewhere_holds_all_that_is_there(self, store, target):
        await town(target)
        done = await copy_store(target, store, clock=CLOCK)
        assert done.is_complete, done
        assert await picture(store) == await picture(target)
        assert await order_of(store) == await order_of(target)
        again = await copy_store(target, store, clock=CLOCK)
        assert again.is_complete
        assert (again.records, again.runs, again.cells, again.epoch) == (0, 0, 0, done.epoch)

    async def test_a_copy_is_brought_up_to_date_by_the_next(self, store, target):
        await town(store)
        await copy_store(store, target, clock=CLOCK)
        await family(store, "later", at=5000)
        await finish(store, "open", at=6000)
        await write(store.log, "free", b"6")
        await store.cells.apply("other", [Change("a", None), Change("d", b"3")])
        await store.cells.apply("state/app", [Change("b", b"2", ttl=LONG)])
        done = await copy_store(store, target, clock=CLOCK)
        assert done.is_complete, done
        assert (done.runs, done.cells) == (4, 3)
        assert await picture(target) == await picture(store)

    async def test_cells_that_somebody_else_changed_are_left_as_they_are(self, store, target):
        await store.cells.apply("other", [Change("a", b"1"), Change("b", b"1")])
        await copy_store(store, target, clock=CLOCK)
        await target.cells.apply("other", [Change("a", b"2")])
        done = await copy_store(store, target, clock=CLOCK)
        assert done.differences == ("the cell a of other is not the same",)
        assert (await target.cells.get("other", ["a"])).cells[0].data == b"2"

    async def test_an_interrupted_copy_is_continued_by_the_next(self, store):
        await town(store)
        whole = await picture(store)
        writes = 0
        while True:
            fresh = MemoryStore(CLOCK)
            fresh.log.submit = _failing(fresh.log.submit, after=writes)
            try:
                await copy_store(store, fresh, clock=CLOCK)
            except StoreUnreachable:
                del fresh.log.submit
                done = await copy_store(store, fresh, clock=CLOCK)
                assert done.is_complete, done
                assert await picture(fresh) == whole
                writes += 1
            else:
                break
        assert writes > 3

    async def test_a_copy_keeps_up_with_writers_until_it_is_told_to_cut_over(self, store, target):
        await town(store)
        stop = asyncio.Event()
        copying = asyncio.ensure_future(copy_store(store, target, follow=stop, clock=CLOCK))
        for n in range(25):
            await family(store, f"f{n}", at=1000 * (n + 1))
        while (await target.log.head("run/f24")).version < (await store.log.head("run/f24")).version:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert {row.id for row in await target.runs.find()}.isdisjoint({"open", "parked"})
        stop.set()
        done = await copying
        assert done.is_complete, done
        assert await picture(target) == await picture(store)

    async def test_while_a_worker_holds_runs_of_the_source_they_do_not_live_in_the_target(
        self, store, target
    ):
        await town(store)
        grant = await store.lease.take("worker/worker-1", "worker-1", LONG)
        done = await copy_store(store, target, clock=CLOCK)
        assert (done.workers, done.is_complete, done.differences) == (("worker-1",), False, ())
        assert {row.status for row in await target.runs.find()} == {"completed"}
        assert await target.queue.names() == []
        assert target.epoch == 0
        await store.lease.drop([grant])
        done = await copy_store(store, target, clock=CLOCK)
        assert done.is_complete
        assert await picture(target) == await picture(store)

    async def test_a_worker_that_only_waits_for_work_counts_too(self, store, target):
        await town(store)
        await store.presence.enter("idle")
        seen = "idle" in await store.presence.seen()
        assert ("idle" in (await copy_store(store, target, clock=CLOCK)).workers) is seen
        await store.presence.leave("idle")
        assert (await copy_store(store, target, clock=CLOCK)).is_complete

    @pytest.mark.parametrize(
        ("plant", "told"),
        [
            ("value", "the stream free differs at version 2"),
            ("order", "the stream free differs at version 1"),
            ("stream", "the stream surplus goes on with version 1 in one only"),
            ("record", "the stream inbox/parked goes on with version 5 in one only"),
            ("run", "the run alien is not in the source"),
        ],
    )
    async def test_a_planted_difference_is_found(self, store, target, plant, told):
        await town(store)
        assert (await copy_store(store, target, clock=CLOCK)).is_complete
        await _plant(target, plant)
        done = await copy_store(store, target, clock=CLOCK)
        assert told in done.differences
        assert not done.is_complete

    async def test_what_the_target_lost_is_brought_again(self, store, target):
        await town(store)
        await copy_store(store, target, clock=CLOCK)
        await target.log.drop("log/done", "inbox/parked")
        await put(target.log, Group("side", [fact()], run=RunChange("done", "failed", error="no", at=3)))
        await target.log.drop("side")
        assert await picture(target) != await picture(store)
        done = await copy_store(store, target, clock=CLOCK)
        assert done.is_complete, done
        assert await picture(target) == await picture(store)

    async def test_what_the_source_drops_meanwhile_goes_from_the_target_too(self, store, target):
        await town(store)
        for n in range(20):
            await family(store, f"f{n}", at=1000 * (n + 1))
        stop = asyncio.Event()
        copying = asyncio.ensure_future(copy_store(store, target, follow=stop, clock=CLOCK))
        while not (await target.log.head("run/f19")).closed and not await target.log.read("run/f19"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await prune(store)
        stop.set()
        done = await copying
        assert done.is_complete, done
        assert await picture(target) == await picture(store)

    async def test_a_run_that_goes_before_its_row_was_copied_leaves_nothing_in_the_target(
        self, store, target
    ):
        await town(store)
        await start(store, "short-lived", at=900)
        follow = asyncio.Event()
        copying = asyncio.ensure_future(copy_store(store, target, follow=follow, clock=CLOCK))
        async with asyncio.timeout(10):
            while not (await target.log.head("run/short-lived")).version:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert "short-lived" not in {row.id for row in await target.runs.find()}
        await store.log.drop(*streams_of_run("short-lived"))
        follow.set()
        done = await copying
        assert done.is_complete, done
        assert not (await target.log.head("run/short-lived")).version

    async def test_rows_are_copied_page_by_page(self, store, target, monkeypatch):
        monkeypatch.setattr(copying, "_ROWS", 3)
        await town(store)
        done = await copy_store(store, target, clock=CLOCK)
        assert (done.is_complete, done.runs) == (True, 8)
        assert await picture(target) == await picture(store)

    async def test_a_target_that_went_its_own_way_refuses(self, store, target):
        await town(store)
        await copy_store(store, target, clock=CLOCK)
        await write(target.log, "free", b"mine")
        await write(store.log, "free", b"theirs", b"more")
        try:
            done = await copy_store(store, target, clock=CLOCK)
        except StaleVersion:
            return
        assert "free differs at version 3" in done.differences[0]

    async def test_a_store_is_not_copied_onto_itself(self, keeper, store):
        if keeper.factory:
            with pytest.raises(ConfigurationError, match="onto itself"):
                await copy_store(store, await keeper.open())


async def _grown(written, to):
    """Wait until a writer has written so many."""
    while len(written) < to:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def _failing(submit, after):
    """Return a ``submit`` that refuses everything after so many calls."""
    calls = 0

    def limited(appends):
        nonlocal calls
        calls += 1
        if calls <= after:
            submit(appends)
            return
        for append in appends:
            append.error = StoreUnreachable("The disk is gone.")
        asyncio.get_running_loop().call_soon(answer, appends)

    return limited


def _broken(path):
    raise ArchiveCorrupt(f"{path}: line 3 was changed.")


async def _change_stream(store, name, data):
    """Write a stream anew with other data, and all else as it was."""
    old = await store.log.read(name)
    await store.log.drop(name)
    events = [Event(r.kind, r.at, r.key, d, r.print, r.took) for r, d in zip(old, data, strict=True)]
    await enlist(store.log, [Append(old[0].append, (Group(name, events),))])


async def _plant(store, what):
    """Change something in a copy."""
    if what == "value":
        await _change_stream(store, "free", [b"1", b"8"])
    elif what == "order":
        await _change_stream(store, "free", [b"2", b"1"])
    elif what == "stream":
        await write(store.log, "surplus", b"")
    elif what == "record":
        await write(store.log, "inbox/parked", b"")
    else:
        await start(store, "alien", at=77, token=floor_of(store.epoch))
        await finish(store, "alien")
