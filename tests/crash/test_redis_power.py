"""Power fails under a Redis: what it answered is there with ``appendfsync always``, and is not with ``everysec``.

``kill -9`` alone does not show it: the pages of a dead process are still written. So the server runs over a shim that notes
how far its file is synced, and after the kill the file is cut there: the worst that a disk may leave of a file that only grows.
"""

import asyncio
import itertools
import random
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from tests.conftest import oldest_and_newest, start_or_skip
from tests.crash.conftest import CYCLES, SEED, again
from tests.servers import redis_installs, start_redis

from reprise import Task, TaskQueue
from reprise.stores import open_store

SHIM = Path(__file__).with_name("synced.c")
CUTS = max(2, CYCLES // 200)
BEHIND = 10
"""So many tasks after a task was offered it is done."""
KILLED = "everysec and kill -9"
"""The power stays on: what is written and not synced is the system's, and outlives the server."""
LOST = "{}: answered tasks that were lost"
UNDONE = "everysec: tasks that were done, and are to be done again"
OLDEST = "most milliseconds that a lost answer was old (everysec)"
MUST_OCCUR = {LOST.format("everysec"): "everysec: cuts", UNDONE: "everysec: cuts"}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler for the shim"
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    built = tmp_path_factory.mktemp("shim") / "synced.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", built, SHIM, "-ldl"], check=True)
    return built


@pytest.fixture(params=["always", "everysec", KILLED])
def redis(request, shim):
    """A Redis of one way to sync, and what becomes of it."""
    install = oldest_and_newest(redis_installs())[-1]
    if install.url:
        pytest.skip("the server of REPRISE_TEST_REDIS is not ours to kill")

    def start(install, *options):
        return start_redis(install, *options, preload=shim)

    server = start_or_skip(
        install, "--appendonly", "yes", "--appendfsync", request.param.split()[0], start=start
    )
    yield server, request.param
    server.stop()


def unsynced(server):
    """Return the files of the log that a power cut may shorten, each with how much of it is on the disk."""
    for file in (server.folder / "data").rglob("*.aof"):
        synced = file.with_name(f"{file.name}.synced")
        yield file, synced.stat().st_size if synced.exists() else 0


def cut_power(server):
    """Leave what a disk has whose power failed: kill the server, take what it had not synced, start it again."""

    def take():
        for file, size in unsynced(server):
            with file.open("r+b") as opened:
                opened.truncate(size)

    server.crash(meanwhile=take)


class Told:
    """What a queue answered: which tasks are in it, with the time of the answer, and which are done."""

    def __init__(self):
        self.offered, self.done = {}, []


async def answered(queue, server, numbers, enough):
    """Offer tasks and do them until ``enough`` were told after a sync; return what was told."""
    told = Told()
    [(_, before)] = unsynced(server)
    after = 0
    while after < enough:
        id = await queue.enqueue(Task(task_id=f"{next(numbers)}", task_type="work"))
        told.offered[id] = time.monotonic()
        if len(told.offered) > BEHIND:
            task = await queue.dequeue(timeout=5)
            await queue.complete_task(task, "did it")
            told.done.append(task.task_id)
        [(_, synced)] = unsynced(server)
        after += synced != before
    return told


async def judge(store, queue, told, way, counts, where):
    """Look for what was told; return ids that are gone, and ids that were done and are to be done again."""
    found = {
        row.id: row.state
        for row in await store.queue.find(queue.name, ids=list(told.offered), limit=len(told.offered))
    }
    gone = [id for id in told.offered if id not in found]
    assert gone == list(told.offered)[len(told.offered) - len(gone) :], f"a hole, not an end; {where}"
    counts[f"{way}: answered tasks"] += len(told.offered)
    counts[LOST.format(way)] += len(gone)
    return gone, [id for id in told.done if found.get(id, "done") != "done"]


async def rounds(store, server, way, counts, where):
    """Cut the power again and again, each time some answers after a sync."""
    dice = random.Random(SEED)
    numbers = itertools.count()
    for number in range(CUTS):
        async with TaskQueue(store, f"work{number}") as queue:
            told = await answered(queue, server, numbers, dice.randint(30, 100))
        cut = time.monotonic()
        await asyncio.to_thread(server.crash if way == KILLED else partial(cut_power, server))
        gone, undone = await judge(store, queue, told, way, counts, where)
        counts[f"{way}: cuts"] += 1
        assert way == "everysec" or not (gone or undone), where
        counts[UNDONE] += len(undone)
        if gone:
            counts[OLDEST] = max(counts[OLDEST], round((cut - told.offered[gone[0]]) * 1000))


async def play(server, way, counts, where):
    """Open a store on the server for the rounds."""
    store = open_store(f"{server.url}?patience=30")
    await store.start()
    try:
        await rounds(store, server, way, counts, where)
    finally:
        await store.stop()


@pytest.mark.timeout(300)
def test_what_is_left_when_power_fails(redis, counts, request):
    """``always`` keeps all that it answered; ``everysec`` loses the end of it, and what is left has no holes."""
    server, way = redis
    asyncio.run(play(server, way, counts, again(request, SEED)))
