"""Chains and parallel executors go on by their id after kill -9: what came of a call is not asked again."""

import asyncio
import random
import shutil
import sys
import time
from collections import Counter

import pytest
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.faces_main import CALLED, EXPECTED, Called
from tests.crash.ledger import read_lines
from tests.crash.places import PATIENCE

from reprise import open_store
from reprise.kernel.events import Kind, run_stream

PER_ROUND = 15
ROUNDS = max(1, CYCLES // 4 // PER_ROUND)
ENDS = (Kind.STEP_COMPLETED, Kind.STEP_FAILED)
MUST_OCCUR = {
    "faces: calls made again": "faces: kills",
    "faces: killed with calls recorded in a run that goes on": "faces: kills",
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks processes and kills them")


class Killing:
    """One process after the other executes the same work and is killed; the last one ends."""

    def __init__(self, nursery, folder, seed, *, durable=True):
        self.folder, self.url = folder, f"sqlite:///{folder}/runs.db"
        self.counts = Counter()
        self.again: list[tuple[str, str]] = []
        """Calls that were made although what came of them was recorded."""
        self._nursery, self._dice, self._durable = nursery, random.Random(seed), durable
        self._lives = 0
        self._recorded: set[tuple[str, str]] = set()

    def _spawn(self):
        self._lives += 1
        options = {"runs": 2 + self._lives, "life": self._lives, "durable": self._durable}
        return self._nursery.spawn("faces", self.folder, store=self.url, **options)

    def called(self):
        return read_lines(self.folder / CALLED, Called)[0]

    def kill(self):
        """Let a process work until some agents were called, kill it, and look at what is recorded."""
        before, more = len(self.called()), self._dice.randint(1, 30)
        process = self._spawn()
        until = time.monotonic() + PATIENCE
        while len(self.called()) < before + more and self._nursery.ended(process) is None:
            assert time.monotonic() < until, f"no agent was called in {PATIENCE} s"
            time.sleep(0.001)
        self._nursery.kill(process)
        self.counts["kills"] += 1
        self._compare(before)

    def finish(self):
        """Let everything end."""
        before = len(self.called())
        process = self._spawn()
        assert self._nursery.ended(process, wait=True) == 0, (self.folder / "stderr").read_text()
        self._compare(before)
        calls = Counter((one.name, one.key) for one in self.called())
        self.counts["calls"] += calls.total()
        self.counts["calls made again"] += calls.total() - len(calls)

    def _compare(self, before):
        life = [(one.name, one.key) for one in self.called()[before:]]
        self.again += [call for call in life if call in self._recorded]
        open_runs, self._recorded = asyncio.run(self._look())
        self.counts["killed with calls recorded in a run that goes on"] += open_runs

    async def _look(self):
        """Return how many runs have outcomes and have not ended, and all outcomes."""
        store = open_store(self.url)
        await store.start()
        try:
            open_runs, recorded = 0, set[tuple[str, str]]()
            for row in await store.runs.find(limit=10_000):
                records = await store.log.read(run_stream(row.id))
                keys = [record.key for record in records if record.kind in ENDS]
                assert len(keys) == len(set(keys)), f"{row.id} recorded a step twice"
                open_runs += bool(keys) and records[-1].kind != Kind.RUN_FINISHED
                recorded |= {(row.id.partition(".")[0], key) for key in keys}
            return open_runs, recorded
        finally:
            await store.stop()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_what_came_of_a_call_is_not_asked_again(number, nursery, tmp_path, counts, request):
    killing = Killing(nursery, tmp_path, SEED + number)
    for _ in range(PER_ROUND):
        killing.kill()
    killing.finish()
    for name, count in killing.counts.items():
        counts[f"faces: {name}"] += count
    assert not killing.again, again(request, SEED + number)
    assert EXPECTED, "each process compares what comes out"
    shutil.rmtree(tmp_path)


@pytest.mark.timeout(180)
def test_control_what_begins_anew_asks_again(nursery, tmp_path, counts):
    killing = Killing(nursery, tmp_path, SEED, durable=False)
    for _ in range(PER_ROUND):
        killing.kill()
    counts["faces: control: recorded and asked again"] += len(killing.again)
    counts["faces: control: kills"] += killing.counts["kills"]
    assert killing.again, "nothing was asked again: the zero of the others means nothing"
