"""kill -9 of workers, of PostgreSQL's own processes and of PostgreSQL as a whole, with workers on several connections.

The same rounds, and the same judge, as on one SQLite file. A backend that is killed makes the postmaster throw
everybody out and recover from its log; a postmaster that is killed takes the memory shared by all with it, and is
started again on the same folder. What a client may not know then is whether its commit was one.
"""

import itertools
import os
import random
import shutil
import signal
import sys
from contextlib import suppress

import pytest
from tests.crash import client_main, ledger
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.places import ServerPlace
from tests.crash.rounds import Round

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc to see what has ended")

PER_ROUND = 25
"""Kills in one schema; then all runs must come to their end, and everything is compared."""
OF_WORKERS = CYCLES * 3 // 10
OF_SERVERS = CYCLES // 10

MUST_OCCUR = dict.fromkeys(
    (
        "kills with steps in flight",
        "kills of a backend at a commit",
        "connections_lost by the survivors",
        "pauses past the lease",
        "take-overs",
        "refused stale writes",
        "executed again",
        "acknowledged",
        # a few in a hundred:
        *(("kills inside a commit", "outcomes_found by the survivors") if OF_SERVERS >= 100 else ()),
    ),
    "kills of the postmaster",
)

_numbers = itertools.count()


@pytest.fixture
def place(killable_postgres):
    place = ServerPlace(killable_postgres, f"crash_{next(_numbers)}")
    yield place
    place.close()


def rounds(cycles):
    return range(-(-cycles // PER_ROUND))


def begin(nursery, folder, seed, place, workers):
    round = Round(nursery, folder, seed, place)
    for _ in range(workers):
        round.start_worker()
    round.start_client()
    return round


def judge(round, counts, request, seed):
    verdict = round.finish()
    counts.update(verdict.counts)
    assert not verdict.faults, again(request, seed)
    assert verdict.counts["finished"] == verdict.counts["runs"] > 0
    shutil.rmtree(round.folder)
    return verdict


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", rounds(OF_WORKERS))
def test_nothing_is_lost_over_kills_of_workers(number, nursery, tmp_path, place, counts, request):
    seed = SEED + number
    round = begin(nursery, tmp_path, seed, place, 2 + seed % 2)
    cycles = min(PER_ROUND, OF_WORKERS - number * PER_ROUND)
    for cycle in range(cycles):
        round.cycle()
        if cycle == seed % cycles:
            round.wait_until_began(5)
            round.pause()
    judge(round, counts, request, seed)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", rounds(OF_SERVERS))
def test_nothing_is_lost_over_kills_of_the_server(number, nursery, tmp_path, place, counts, request):
    seed = SEED + number
    dice = random.Random(seed)
    round = begin(nursery, tmp_path, seed, place, 3)
    for _ in range(min(PER_ROUND, OF_SERVERS - number * PER_ROUND)):
        round.wait_until_began(dice.randint(1, 40))
        if dice.random() < 0.5:
            kill_backend(round, place, dice, counts)
        else:
            counts["kills of the postmaster"] += 1
            place.server.crash()
    judge(round, counts, request, seed)


def kill_backend(round, place, dice, counts):
    """Kill a process of the server; in two of three cases one that is at a commit, if one is caught at it."""
    backends = []
    round.wait_until(lambda: backends.extend(place.backends()) or backends, "connections")
    if dice.random() < 0.67:
        looks = (place.backends() for _ in range(20))
        busy = next(filter(None, ([each for each in look if each.commits] for look in looks)), [])
        backends = busy or backends
    victim = dice.choice(backends)
    with suppress(ProcessLookupError):  # its client was killed, too, and it has ended since
        os.kill(victim.pid, signal.SIGKILL)
        counts["kills of a backend"] += 1
        counts["kills of a backend at a commit"] += victim.commits


def test_a_killed_worker_is_succeeded_long_before_its_lease_ends(nursery, tmp_path, place, counts, request):
    """Its connection ends with it; the lease would last longer than the test has patience."""
    round = Round(nursery, tmp_path, SEED, place)
    for _ in range(2):
        round.start_worker(lease=3600)
    run = round.start_run("slow_fan", 40)
    round.wait_until_began(20)
    victim = round.executing()
    nursery.kill(victim)
    round.workers.remove(victim)
    round.wait_for_end(run)
    verdict = round.judge()
    assert not verdict.faults, again(request, SEED)
    assert verdict.counts["take-overs"] == 1


def test_control_without_fencing_a_paused_owner_records_twice(nursery, tmp_path, place, counts):
    round = Round(nursery, tmp_path, SEED, place)
    for _ in range(2):
        round.start_worker(fenced=False)
    # Twice as many steps as execute at once: else the paused owner ends the run before its successor records anything.
    run = round.start_run("slow_fan", 40)
    round.wait_until_began(20)
    round.pause()
    round.wait_for_end(run)
    verdict = round.judge()
    counts["control: recorded twice without fencing"] += len(verdict.twice)
    assert verdict.twice, "the checker sees no double record where there must be some: its zero means nothing"


def test_control_without_synchronous_commits_a_killed_server_loses_some(nursery, tmp_path, place, counts):
    """The client is told of commits that only the server's memory holds; the first kill of the server takes them."""
    round = Round(nursery, tmp_path, SEED, place)
    round.start_run("chain", 0)  # makes the tables, durably
    promised = ledger.Reader(tmp_path / client_main.PROMISED)
    client = nursery.spawn("client", tmp_path, store=place.url, loose=True, first=1)
    seen = []
    round.wait_until(lambda: seen.extend(promised.new()) or len(seen) >= 5, "promises")
    nursery.kill(client)
    place.server.crash()
    verdict = round.judge()
    counts["control: lost without synchronous commits"] += len(verdict.lost)
    assert verdict.lost, "a killed server loses nothing that was not on its disk: the zeros mean nothing"
