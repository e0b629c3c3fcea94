"""kill -9 of workers while schedules fire every 50 to 100 ms: each fire time has one run, and none is missing."""

import asyncio
import random
import time
from collections import Counter
from itertools import pairwise, takewhile

import pytest
from tests.crash import schedule_main
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.helping import help_some
from tests.crash.places import FilePlace, ServerPlace

from reprise import Reprise
from reprise.kernel.events import run_stream
from reprise.stores.runs import RunFilter
from reprise.workflows.calendar import moments
from reprise.workflows.schedule import FIRE_TIME_TAG, SCHEDULE_TAG, fire_id

WORKERS = 3
KILLS = 40
ROUNDS = max(1, CYCLES // 100)
MUST_OCCUR = {
    "workers killed": "rounds",
    "commits refused because another was first": "rounds",
    "control: fire times with more runs than one": "control: fire times",
}


class Fleet:
    """Workers on one store, and the schedules in it."""

    def __init__(self, nursery, folder, seed, *, store="", **options):
        folder.mkdir()
        self.nursery, self.folder, self.options = nursery, folder, options
        self.store = store or f"sqlite:///{folder}/runs.db"
        self.dice = random.Random(seed)
        self.before = asyncio.run(self.add())
        self.workers = [self.start() for _ in range(WORKERS)]

    async def add(self):
        async with Reprise(self.store, worker=False, capture_logs=False) as app:
            return [
                await app.schedule(name, schedule_main.tick, catch_up="all", **options)
                for name, options in schedule_main.SCHEDULES.items()
            ]

    def start(self):
        return self.nursery.spawn("schedule", self.folder, store=self.store, **self.options)

    def kill(self, count, counts):
        """Kill one after another at random moments, now and then all of them at once."""
        for _ in range(count):
            time.sleep(self.dice.random() * 0.12)
            victims = self.workers if self.dice.random() < 0.1 else [self.dice.choice(self.workers)]
            for victim in victims:
                assert self.nursery.ended(victim) is None, (self.folder / "stderr").read_text()
            self.nursery.kill(*victims)
            counts["workers killed"] += len(victims)
            self.workers = [each for each in self.workers if each not in victims]
            self.workers += [self.start() for _ in victims]

    async def settle(self, counts):
        """Let no more be fired, and what was started come to its end; return the schedules, the runs and their lives."""
        async with Reprise(self.store, worker=False, capture_logs=False) as app:
            until = time.monotonic() + 30
            while any(not state.runs for state in await app.schedules.list()):
                assert time.monotonic() < until, (self.folder / "stderr").read_text()
                await asyncio.sleep(0.02)
            states = [await app.schedules.pause(name) for name in schedule_main.SCHEDULES]
            while await app.count("not status:completed"):
                assert time.monotonic() < until, (self.folder / "stderr").read_text()
                await help_some(app, counts)
                await asyncio.sleep(0.05)
            rows = await app.store.runs.find(RunFilter(), limit=100_000, newest_first=False)
            lives = {row.id: await app.store.log.read(run_stream(row.id)) for row in rows}
            return states, rows, lives


def refused(fleet):
    return (fleet.folder / schedule_main.NOTES).read_text().count("1")


def live(nursery, folder, counts, seed, kills, **options):
    """Let schedules fire under kills; return the fleet, and what :meth:`Fleet.settle` does."""
    fleet = Fleet(nursery, folder, seed, **options)
    fleet.kill(kills, counts)
    return fleet, *asyncio.run(fleet.settle(counts))


def check(live, counts, hint):
    """Hold the runs that there are against the fire times that there were."""
    counts["rounds"] += 1
    fleet, states, rows, lives = live
    for before, state in zip(fleet.before, states, strict=True):
        name, timing = state.schedule.name, state.schedule.timing
        met = list(takewhile(lambda at, end=state.through: at <= end, moments(timing, before.through)))
        assert len(met) > KILLS / 4
        started = sorted(fire_id(name, at) for at in met if at not in state.waiting)
        found = sorted(row.id for row in rows if row.tags[SCHEDULE_TAG] == name)
        assert found == started, hint
        assert (state.skipped, state.missed, state.started) == (0, 0, len(started))
        counts["fire times with one run each"] += len(started)
    one_by_one = [lives[row.id] for row in rows if row.tags[SCHEDULE_TAG] == "queued"]
    for earlier, later in pairwise(one_by_one):
        assert earlier[-1].position < later[0].position, hint
    counts["commits refused because another was first"] += refused(fleet)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_each_fire_time_has_one_run_and_none_is_missing(number, nursery, tmp_path, counts, request):
    seed = SEED + number
    check(live(nursery, tmp_path / "s", counts, seed, KILLS), counts, again(request, seed))
    assert FilePlace(tmp_path / "s").integrity() == []


@pytest.mark.timeout(120)
def test_the_same_on_a_server(nursery, tmp_path, counts, request, killable_postgres):
    place = ServerPlace(killable_postgres, "schedules")
    try:
        check(
            live(nursery, tmp_path / "s", counts, SEED, KILLS, store=place.url), counts, again(request, SEED)
        )
        assert place.integrity() == []
    finally:
        nursery.kill(*nursery.alive)
        place.close()


@pytest.mark.timeout(120)
def test_control_without_the_fence_fire_times_have_several_runs(nursery, tmp_path, counts):
    _, _, rows, _ = live(nursery, tmp_path / "s", counts, SEED, KILLS // 4, fenced=False)
    runs = Counter((row.tags[SCHEDULE_TAG], row.tags[FIRE_TIME_TAG]) for row in rows)
    doubled = sum(number > 1 for number in runs.values())
    counts["control: fire times"] += len(runs)
    counts["control: fire times with more runs than one"] += doubled
    assert doubled, "nothing was doubled where it must be: the zero of the other test means nothing"
