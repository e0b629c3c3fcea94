"""Holders that stand still past their time, and leaders that are killed: what checks their tokens takes no stale write.

The same resource without the check does take stale writes. Without such a control the zero would mean nothing.
"""

import asyncio
import os
import random
import signal
import sqlite3
import time
from contextlib import closing

import pytest
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.holder_main import RESOURCE, TTL, Resource
from tests.crash.places import ServerPlace

from reprise import LeaderElection

PROCESSES = 3
STOPS = 12
KILLS = 6
ROUNDS = max(1, CYCLES // 200)
MUST_OCCUR = {
    "holders that stood still": "rounds",
    "locks that were lost": "rounds",
    "writes refused for their token": "rounds",
    "leaders killed": "rounds of leaders",
    "writes of leaders refused for their token": "leaders that stood still",
    "control: stale writes taken": "control: writes taken",
}


def stale(writes):
    """Return how many writes were taken under a lower token than one taken before."""
    highest = found = 0
    for token, _, taken in writes:
        found += bool(taken) and token < highest
        highest = max(highest, token if taken else 0)
    return found


def wait_for_writes(resource, more=1):
    """Wait until somebody wrote so often again; return who wrote last."""
    before, until = len(resource.all()), time.monotonic() + 30
    while len(writes := resource.all()) < before + more:
        assert time.monotonic() < until, "nobody writes any more"
        time.sleep(0.005)
    return writes[-1][1]


def live(nursery, folder, seed, *, stops, **options):
    """Let processes hold a lock and write, and stop the one that does, for longer than its time; return all writes."""
    folder.mkdir()
    options = {"store": f"sqlite:///{folder}/locks.db", **options}
    resource, dice = Resource(folder), random.Random(seed)
    for _ in range(PROCESSES):
        nursery.spawn("holder", folder, **options)
    try:
        for _ in range(stops):
            victim = wait_for_writes(resource, dice.randint(1, 20))
            os.kill(victim, signal.SIGSTOP)
            time.sleep(TTL * (1.2 + dice.random()))
            os.kill(victim, signal.SIGCONT)
        wait_for_writes(resource, 20)
        nursery.kill(*nursery.alive)
        return resource.all()
    finally:
        nursery.kill(*nursery.alive)
        resource.close()


def check(writes, folder, counts, hint):
    """Hold what was written against the promise."""
    counts["rounds"] += 1
    counts["holders that stood still"] += STOPS
    counts["locks that were lost"] += (folder / "lost").read_text().count("Lost")
    counts["writes refused for their token"] += sum(not taken for _, _, taken in writes)
    assert stale(writes) == 0, hint
    assert len({token for token, _, taken in writes if taken}) > STOPS, hint


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_resource_that_checks_tokens_takes_no_stale_write(number, nursery, tmp_path, counts, request):
    writes = live(nursery, tmp_path / "s", SEED + number, stops=STOPS)
    check(writes, tmp_path / "s", counts, again(request, SEED + number))


@pytest.mark.timeout(120)
def test_the_same_on_a_server(nursery, tmp_path, counts, request, killable_postgres):
    place = ServerPlace(killable_postgres, "locks")
    try:
        writes = live(nursery, tmp_path / "s", SEED, stops=STOPS, store=place.url)
        check(writes, tmp_path / "s", counts, again(request, SEED))
    finally:
        nursery.kill(*nursery.alive)
        place.close()


@pytest.mark.timeout(120)
def test_control_a_resource_that_does_not_check_takes_stale_writes(nursery, tmp_path, counts):
    writes = live(nursery, tmp_path / "s", SEED, stops=STOPS, fenced=False)
    counts["control: writes taken"] += len(writes)
    counts["control: stale writes taken"] += stale(writes)
    assert stale(writes), (
        "nothing stale was taken where it must be: the zero of the other tests means nothing"
    )


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def keeper(request, tmp_path):
    """The URL of each keeper in turn; what it answered is on its disk."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/locks.db"
    elif request.param == "redis":
        yield f"{request.getfixturevalue('killable_redis').url}?prefix=leaders"
    else:
        place = ServerPlace(request.getfixturevalue("killable_postgres"), "leaders")
        request.getfixturevalue("nursery")  # so that its processes end before the schema does
        yield place.url
        place.close()


@pytest.mark.timeout(120)
def test_killed_leaders_are_succeeded_and_none_writes_after_its_successor(
    nursery, tmp_path, counts, request, keeper
):
    """Of those that are replaced some are killed, others stand still past their time and write on."""
    folder = tmp_path / "s"
    folder.mkdir()
    resource, dice = Resource(folder), random.Random(SEED)
    for _ in range(PROCESSES):
        nursery.spawn("holder", folder, store=keeper, leads=True)
    try:
        for turn in range(KILLS):
            leader = wait_for_writes(resource, dice.randint(1, 20))
            if turn % 2:
                stand_still(leader, folder)
                wait_for_successor(resource, leader)
                os.kill(leader, signal.SIGCONT)
                counts["leaders that stood still"] += 1
            else:
                nursery.kill(leader)
                nursery.spawn("holder", folder, store=keeper, leads=True)
                counts["leaders killed"] += 1
        wait_for_writes(resource, 20)
        nursery.kill(*nursery.alive)
        counts["rounds of leaders"] += 1
        counts["writes of leaders refused for their token"] += sum(not taken for *_, taken in resource.all())
        assert stale(resource.all()) == 0, again(request, SEED)
        asyncio.run(_nobody_leads_for_long(keeper))
    finally:
        nursery.kill(*nursery.alive)
        resource.close()


def stand_still(process, folder):
    """Stop a process, but not while it writes to the resource: nobody else could then."""
    with closing(sqlite3.connect(folder / RESOURCE, timeout=0.2, isolation_level=None)) as file:
        while True:
            os.kill(process, signal.SIGSTOP)
            try:
                file.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(process, signal.SIGCONT)
                time.sleep(0.01)
            else:
                file.execute("ROLLBACK")
                return


def wait_for_successor(resource, leader):
    """Wait until somebody else leads and writes.

    Who stands still in the middle of a commit to SQLite keeps all others out of the file: it is let go on for a moment.
    """
    until, again = time.monotonic() + 30, time.monotonic() + 5
    while resource.all()[-1][1] == leader:
        assert time.monotonic() < until, "nobody leads any more"
        if time.monotonic() > again:
            os.kill(leader, signal.SIGCONT)
            time.sleep(0.1)
            os.kill(leader, signal.SIGSTOP)
            again = time.monotonic() + 5
        time.sleep(0.005)


async def _nobody_leads_for_long(store):
    """Lead oneself: what is left of the dead does not stand in the way."""
    async with LeaderElection(store, "x", ttl=TTL) as election, election.campaign(timeout=30) as term:
        assert (await election.leader()).token == term.token
