"""What was acknowledged is there after power cuts and after a kill of the server: blobs, and runs that run ahead.

A payload above 32 KiB is written in the commit of the append that refers to it, many pages of it, so a cut in the middle
finds a blob half written far more often than a row. On PostgreSQL the postmaster is killed with all its processes and
the memory they share; what it had not written to its disk by then is gone. (Without ``fsync`` it would not be: the
system's cache outlives processes. So the control is ``synchronous_commit=off``, which a kill does tell from ``on``.)
"""

import asyncio
import itertools
import random
import shutil
import sys

import msgspec
import pytest
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.payload_main import check
from tests.crash.places import ServerPlace
from tests.crash.powerloss import Promise, Sync, Trace, Write, crashes
from tests.crash.test_payloads import judged, kill_after, start
from tests.crash.test_pipelined import Killing
from tests.crash.test_power_loss import is_prefix, place, small_wal  # noqa: F401  a fixture

from reprise.kernel.errors import StoreError
from reprise.kernel.events import Event, Kind
from reprise.kernel.ids import Counter
from reprise.stores.blobs import referred
from reprise.stores.log import Append, Group, append
from reprise.stores.packing import PackedStore
from reprise.stores.packing.writing import LARGE
from reprise.stores.sqlite import SQLiteStore

SITTINGS, APPENDS = 3, 16
"""How often the store of blobs is opened to write, and for how many appends."""
CUTS = max(40, CYCLES // 2)
SERVER_KILLS = max(4, CYCLES // 50)
"""Of each of the two that write to a server."""

MUST_OCCUR = dict.fromkeys(
    ("FULL: power cuts with half a blob written", "FULL: acknowledged blobs checked"), "FULL: power cuts"
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc to see what has ended")


# ---------------------------------------------------------------- blobs, power cuts


class Blobs:
    """Writes payloads that become blobs; some are written twice, so that streams share one."""

    def __init__(self, dice: random.Random, trace: Trace) -> None:
        self._dice, self._trace, self._numbers = dice, trace, Counter(dice.randbytes)
        self._earlier: list[bytes] = []

    def number(self) -> int:
        """Return a number for an append."""
        return self._numbers.new()

    def append(self) -> Append:
        """Return an append of a blob or two, and small records around it, that promises when it is durable."""
        events = [
            Event(Kind.PROGRESS, n, f"{n}", self._payload() if n % 2 else b'"small"')
            for n in range(self._dice.randint(2, 5))
        ]
        group = Group(f"run/{self._dice.randrange(6)}", events)
        return Append(self.number(), (group,), lambda append: self._trace.promise(append.position))

    def _payload(self) -> bytes:
        if self._earlier and self._dice.random() < 0.25:
            return self._dice.choice(self._earlier)
        size = self._dice.randint(LARGE + 100, 3 * LARGE)
        self._earlier.append(msgspec.json.encode(self._dice.randbytes(size).hex()))
        return self._earlier[-1]


async def record(folder, synchronous, dice):
    """Write blobs over the recording file system; return the trace and the whole log."""
    folder.mkdir()
    trace = Trace()
    blobs = Blobs(dice, trace)
    for _ in range(SITTINGS):
        store = SQLiteStore(folder / "x.db", synchronous=synchronous, connect=trace.connect, readers=1)
        packed = PackedStore(store)
        await packed.start()
        written = 0
        while written < APPENDS:
            batch = [blobs.append() for _ in range(dice.choice((1, 1, 2, 4)))]
            packed.log.submit(batch)
            await packed.log.head("run/0")  # beside what is under way
            written += len(batch)
        await append(packed.log, blobs.number(), Group("run/0", [Event(Kind.PROGRESS, 0, "last")]))
        records, kept = await packed.log.scan(0, 10_000), await store.log.scan(0, 10_000)
        await packed.stop()
    return trace, records, [referred(record.data) is not None for record in kept]


async def reopen(folder, files):
    """Read what a power cut left, blobs and all, and let the store check itself."""
    place(files, folder)
    store = PackedStore(SQLiteStore(folder / "x.db", synchronous="OFF", readers=1))
    try:
        await store.start()
        records = await store.log.scan(0, 10_000)
        assert await store.verify() == []
        return records
    finally:
        await store.stop()
        shutil.rmtree(folder)


def halves(ops, cut) -> bool:
    """Whether more of the write-ahead log than one blob takes was written by then, and not synced."""
    size = 0
    for op in reversed(ops[:cut]):
        if isinstance(op, Sync):
            return False
        if isinstance(op, Write) and op.file.endswith("-wal"):
            size += len(op.data)
            if size > LARGE:
                return True
    return False


async def cut_often(folder, counts, synchronous, count, where):
    """Cut the power and judge what is left; return how many cuts lost what was acknowledged."""
    dice = random.Random(SEED)
    trace, whole, large = await record(folder / "recorded", synchronous, dice)
    lossy = 0
    for number, (cut, style, files) in enumerate(crashes(trace.ops, count, dice)):
        position = max((op.what for op in trace.ops[:cut] if isinstance(op, Promise)), default=0)
        counts[f"{synchronous}: power cuts"] += 1
        counts[f"{synchronous}: power cuts with half a blob written"] += halves(trace.ops, cut)
        try:
            found = await reopen(folder / str(number), files)
            assert is_prefix(found, whole), f"cut after {cut} of {len(trace.ops)}, {style}; {where}"
        except (StoreError, AssertionError):
            if synchronous != "OFF":
                raise
            counts["OFF: power cuts that broke the store"] += 1
            lossy += 1
            continue
        lost = len(found) < position
        lossy += lost
        assert synchronous != "FULL" or not lost, f"cut after {cut} of {len(trace.ops)}, {style}; {where}"
        counts[f"{synchronous}: acknowledged blobs checked"] += sum(large[:position])
    counts[f"{synchronous}: power cuts that lost acknowledged"] += lossy
    return lossy


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("small_wal")
@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
async def test_no_acknowledged_blob_is_lost_or_half(synchronous, tmp_path, counts, request):
    await cut_often(tmp_path, counts, synchronous, CUTS, again(request, SEED))


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("small_wal")
async def test_control_without_syncs_blobs_are_lost(tmp_path, counts):
    lossy = await cut_often(tmp_path, counts, "OFF", 40, "")
    assert lossy, "a disk that is never synced loses nothing: the zero of the others means nothing"


# ---------------------------------------------------------------- PostgreSQL


_numbers = itertools.count()


@pytest.fixture
def schema(killable_postgres):
    place = ServerPlace(killable_postgres, f"lost_{next(_numbers)}")
    yield place
    place.close()


@on_linux
@pytest.mark.timeout(300)
def test_nothing_was_told_that_a_kill_of_the_server_took(nursery, tmp_path, schema, counts, request):
    """The server dies first: until the worker dies, too, it runs ahead of one that is gone, or just back."""
    killing = Killing(nursery, tmp_path, SEED, url=schema.url)
    for _ in range(SERVER_KILLS):
        killing.kill(before=schema.server.crash)
    missing = killing.finish()
    counts.update({f"pipelined on a server: {what}": n for what, n in killing.counts.items()})
    assert not missing, again(request, SEED)
    assert not killing.counts["executed with other arguments"]


@on_linux
@pytest.mark.timeout(120)
def test_control_without_synchronous_commits_a_kill_of_the_server_takes_what_was_told(
    nursery, tmp_path, schema, counts
):
    Killing(nursery, tmp_path, SEED, url=schema.url).kill()  # makes the tables, durably
    killing = Killing(nursery, tmp_path, SEED, url=schema.url, loose=True)
    for _ in range(5):  # the server writes by itself a few times a second
        killing.kill(before=schema.server.crash)
        if missing := killing.lost():
            break
    counts["control, pipelined on a server: told and lost"] += len(missing)
    assert missing, "a killed server loses nothing that was not on its disk: the zero means nothing"


@on_linux
@pytest.mark.timeout(300)
def test_no_acknowledged_payload_is_lost_with_the_server(schema, counts, request):
    dice = random.Random(SEED)
    for _ in range(SERVER_KILLS):
        process = start("write", schema.url, True)
        said = [process.stdout.readline() for _ in range(dice.randint(1, 30))]
        schema.server.crash()
        said += kill_after(process, 0, dice.random() * 0.03)
        records, _ = asyncio.run(judged(schema.url, True))
        assert len(records) >= int(said[-1]), f"acknowledged and lost; {again(request, SEED)}"
        check(record.data for record in records)
        counts["kills of the server between large payloads"] += 1
    counts["payloads acknowledged by a server"] += len(records)


@on_linux
@pytest.mark.timeout(120)
def test_control_without_synchronous_commits_acknowledged_payloads_are_lost(schema, counts):
    kill_after(start("write", schema.url, False), 1, 0)  # makes the tables, durably
    for _ in range(5):  # the server writes by itself a few times a second
        said = kill_after(start("write", schema.url, False, loose=True), 20, 0)
        schema.server.crash()
        records, _ = asyncio.run(judged(schema.url, False))
        if (lost := int(said[-1]) - len(records)) > 0:
            break
    counts["control: payloads acknowledged by a server and lost"] += lost
    assert lost > 0, "a killed server loses nothing that was not on its disk: the zero means nothing"
