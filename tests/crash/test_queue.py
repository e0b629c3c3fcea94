"""The queue: workers are killed again and again, and every task is done, its effect exactly once."""

import asyncio
import random
import sqlite3
import time
from collections import Counter

import pytest
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.places import PATIENCE
from tests.crash.queue_main import EFFECTS, TRIED, make_receiver, queue_of

from reprise import Task
from reprise.stores import open_store

WORKERS, KILLS = 3, max(5, CYCLES // 20)
TASKS = 40 * KILLS
"""So many that there is work at each kill."""
MUST_OCCUR = {"tried again": "kills", "effects lost by the control": "kills of the control"}


class Round:
    """Some tasks, and workers that are killed."""

    def __init__(self, nursery, folder, url, seed, **how):
        self.nursery, self.folder, self.url, self.how = nursery, folder, url, how
        self.dice = random.Random(seed)
        self.workers = []
        self.server = None
        """Killed, too, now and then, if there is one."""
        self.server_kills = 0
        make_receiver(folder)

    async def run(self, kills):
        """Kill workers until all is done; return the queue's last word."""
        store = open_store(self.url)
        await store.start()
        queue = queue_of(store)
        self.ids = await queue.enqueue(
            [Task(task_id=f"t{n:04}", task_type="work", payload=n, max_retries=1000) for n in range(TASKS)]
        )
        self.start_workers()
        try:
            for _ in range(kills):
                await asyncio.sleep(self.dice.uniform(0.05, 0.15))
                self.kill_one()
                if self.server and self.dice.random() < 0.3:
                    await asyncio.to_thread(self.server.crash)
                    self.server_kills += 1
            until = time.monotonic() + PATIENCE
            while (stats := await queue.get_queue_stats()).completed < TASKS:
                assert time.monotonic() < until, stats
                await asyncio.sleep(0.05)
            if not self.how:
                self.results = [await queue.result(id) for id in self.ids]
                assert (stats.dead, stats.pending, stats.processing, stats.scheduled) == (0, 0, 0, 0)
            await asyncio.sleep(0.2)  # the control has still to do what it said that it did
        finally:
            self.nursery.kill(*self.workers)
            await queue.stop()
            await store.stop()

    def start_workers(self):
        while len(self.workers) < WORKERS:
            self.workers.append(self.nursery.spawn("queue", self.folder, store=self.url, **self.how))

    def kill_one(self):
        worker = self.workers.pop(self.dice.randrange(len(self.workers)))
        self.nursery.kill(worker)
        self.start_workers()

    def effects(self):
        with sqlite3.connect(self.folder / EFFECTS) as file:
            return Counter(key for (key,) in file.execute("SELECT key FROM effects"))

    def tried(self):
        return Counter(line.split()[0] for line in (self.folder / TRIED).read_text().splitlines())


def judge(round, counts, kills, told):
    asyncio.run(round.run(kills))
    tried = round.tried()
    counts["kills"] += kills
    counts["tasks"] += TASKS
    counts["tried again"] += sum(tried.values()) - TASKS
    assert round.effects() == Counter(round.ids), told
    assert tried.keys() == set(round.ids), told
    assert round.results == [f"did {n}" for n in range(TASKS)], told


@pytest.mark.timeout(180)
def test_no_task_is_lost_over_kills_in_a_file(nursery, tmp_path, counts, request):
    round = Round(nursery, tmp_path, f"sqlite:///{tmp_path}/queue.db", SEED)
    judge(round, counts, KILLS, again(request, SEED))


@pytest.mark.timeout(180)
def test_no_task_is_lost_over_kills_on_a_server(nursery, tmp_path, killable_postgres, counts, request):
    round = Round(nursery, tmp_path, f"{killable_postgres.url}&schema=crash_queue", SEED)
    judge(round, counts, KILLS, again(request, SEED))


@pytest.mark.timeout(180)
def test_no_task_is_lost_over_kills_of_workers_and_of_redis(
    nursery, tmp_path, killable_redis, counts, request
):
    """What it answered is on its disk (``appendfsync always``), and what was asked again is done once."""
    round = Round(nursery, tmp_path, f"{killable_redis.url}?prefix=crash&patience=60", SEED)
    round.server = killable_redis
    judge(round, counts, KILLS, again(request, SEED))
    counts["kills of redis"] += round.server_kills


@pytest.mark.timeout(180)
def test_who_settles_before_the_work_loses_some(nursery, tmp_path, counts):
    """The control: the same kills are noticed."""
    round = Round(nursery, tmp_path, f"sqlite:///{tmp_path}/queue.db", SEED, settles_first=True)
    asyncio.run(round.run(KILLS))
    lost = TASKS - len(round.effects())
    counts["kills of the control"] += KILLS
    counts["effects lost by the control"] += lost
