"""The queue: workers are killed again and again, and every task is done, its effect exactly once."""

import asyncio
import itertools
import random
import sqlite3
import time
from collections import Counter
from typing import NamedTuple

import pytest
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.places import PATIENCE
from tests.crash.queue_main import EARLY, EFFECTS, KEYLESS, TRIED, make_receiver, queue_of

from reprise import Task
from reprise.stores import open_store

WORKERS = 3
AT_ONCE = 1000
"""Tasks that are offered, and results that are read, at one time."""
DONE_EARLY = "settled before the work, and lost with a kill (the control)"
DOUBLED = "effects doubled where no key was looked at (the control)"
MUST_OCCUR = {"tried again": "kills", DONE_EARLY: "kills", DOUBLED: "kills"}


class Pace(NamedTuple):
    """So many tasks, and how fast the kills follow each other."""

    tasks: int
    gap: tuple[float, float]
    """Least and most seconds between two kills of workers."""
    kills: int | None = None
    """None = until there is nothing left to do."""
    of_server: int = 3
    """Each so many kills the server is killed, too, if there is one to kill."""


KILLS = max(5, CYCLES // 20)
SHORT = Pace(40 * KILLS, (0.05, 0.15), KILLS)
"""So many tasks that there is work at each kill."""
LONG = Pace(20 * CYCLES, (0.5, 0.5), None, 20)
"""A worker each 0.5 s, the server each 10 s: `make crash`, some minutes."""
IS_LONG = CYCLES >= 5000


class Round:
    """Some tasks, and workers that are killed."""

    def __init__(self, nursery, folder, url, pace=SHORT, server=None):
        self.nursery, self.folder, self.url, self.pace, self.server = nursery, folder, url, pace, server
        self.dice = random.Random(SEED)
        self.workers, self.killed = [], set()
        self.server_kills = 0
        make_receiver(folder)

    async def run(self):
        """Kill workers until all is done."""
        store = open_store(self.url)
        await store.start()
        self.queue, early = queue_of(store), queue_of(store, EARLY)
        try:
            self.ids = await offer(self.queue, "t", self.pace.tasks)
            await offer(early, "e", self.pace.tasks // 4)
            self.start_workers()
            await self.kill_workers()
            stats = await self.until_done()
            assert (stats.dead, stats.pending, stats.processing, stats.scheduled) == (0, 0, 0, 0)
            self.results = []
            for some in in_parts(self.ids):
                self.results += await asyncio.gather(*map(self.queue.result, some))
        finally:
            self.nursery.kill(*self.workers)
            await early.stop()
            await self.queue.stop()
            await store.stop()

    async def kill_workers(self):
        crashing, due = None, time.monotonic()
        for number in itertools.count(1) if self.pace.kills is None else range(1, self.pace.kills + 1):
            due = max(due + self.dice.uniform(*self.pace.gap), time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            if self.pace.kills is None and (crashing is None or crashing.done()) and await self.is_done():
                break
            self.kill_one()
            if self.server and number % self.pace.of_server == 0:
                if crashing is not None:
                    await crashing
                crashing = asyncio.create_task(asyncio.to_thread(self.server.crash))
                self.server_kills += 1
        if crashing is not None:
            await crashing

    async def is_done(self):
        return (await self.queue.get_queue_stats()).completed >= self.pace.tasks

    async def until_done(self):
        until = time.monotonic() + PATIENCE
        while (stats := await self.queue.get_queue_stats()).completed < self.pace.tasks:
            assert time.monotonic() < until, stats
            await asyncio.sleep(0.05)
        return stats

    def start_workers(self):
        while len(self.workers) < WORKERS:
            self.workers.append(self.nursery.spawn("queue", self.folder, store=self.url))

    def kill_one(self):
        worker = self.workers.pop(self.dice.randrange(len(self.workers)))
        self.nursery.kill(worker)
        self.killed.add(str(worker))
        self.start_workers()

    def effects(self):
        """Return the keys that the receiver noted: those of tasks, and those of the control that settles first."""
        with sqlite3.connect(self.folder / EFFECTS) as file:
            keys = {key for (key,) in file.execute("SELECT key FROM effects")}
        early = {key for key in keys if key.startswith("e")}
        return keys - early, early

    def lines(self, name):
        return [line.split() for line in (self.folder / name).read_text().splitlines()]

    def judge(self, counts, told):
        """Hold what was done against what was asked, and count what the controls got wrong meanwhile."""
        tried = Counter(task for task, _ in self.lines(TRIED) if task.startswith("t"))
        effects, early = self.effects()
        keyless = Counter(task for (task,) in self.lines(KEYLESS) if task.startswith("t"))
        counts["tasks"] += self.pace.tasks
        counts["kills"] += len(self.killed)
        counts["kills of redis"] += self.server_kills
        counts["tried again"] += sum(tried.values()) - self.pace.tasks
        counts["tasks that were lost"] += len(set(self.ids) - effects)
        counts[DOUBLED] += sum(keyless.values()) - len(keyless)
        counts[DONE_EARLY] += sum(
            task.startswith("e") and task not in early and pid in self.killed
            for task, pid in self.lines(TRIED)
        )
        assert effects == set(self.ids), told
        assert tried.keys() == set(self.ids), told
        assert self.results == [f"did {n}" for n in range(self.pace.tasks)], told


def in_parts(items):
    return (items[at : at + AT_ONCE] for at in range(0, len(items), AT_ONCE))


async def offer(queue, letter, count):
    """Put tasks in; return their ids."""
    ids = []
    for some in in_parts(range(count)):
        ids += await queue.enqueue(
            [Task(task_id=f"{letter}{n:06}", task_type="work", payload=n, max_retries=1000) for n in some]
        )
    return ids


def play(round, counts, request):
    begun = time.monotonic()
    asyncio.run(round.run())
    counts["slowest round, seconds"] = max(
        counts["slowest round, seconds"], round_up(time.monotonic() - begun)
    )
    round.judge(counts, again(request, SEED))


def round_up(seconds):
    return int(seconds) + 1


@pytest.mark.timeout(180)
def test_no_task_is_lost_over_kills_in_a_file(nursery, tmp_path, counts, request):
    play(Round(nursery, tmp_path, f"sqlite:///{tmp_path}/queue.db"), counts, request)


@pytest.mark.timeout(180)
def test_no_task_is_lost_over_kills_on_a_server(nursery, tmp_path, killable_postgres, counts, request):
    play(Round(nursery, tmp_path, f"{killable_postgres.url}&schema=crash_queue"), counts, request)


@pytest.mark.timeout(3600 if IS_LONG else 180)
@pytest.mark.parametrize("pace", {"short": SHORT, "long": LONG} if IS_LONG else {"short": SHORT})
def test_no_task_is_lost_over_kills_of_workers_and_of_redis(
    nursery, tmp_path, killable_redis, counts, request, pace
):
    """What it answered is on its disk (``appendfsync always``), and what was asked again is done once."""
    url = f"{killable_redis.url}?prefix={pace}&patience=60"
    play(
        Round(nursery, tmp_path, url, LONG if pace == "long" else SHORT, server=killable_redis),
        counts,
        request,
    )
