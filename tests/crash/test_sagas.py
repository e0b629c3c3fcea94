"""Sagas under kill -9 and pauses past the lease: what is at the receiver, held against how each run ended.

The control stands in the same rounds: the same saga written with try and except, which must be seen to leave things.
"""

import asyncio
import random
import shutil
import sys
import time
from collections import Counter
from contextlib import suppress

import pytest
from tests.crash import outside, sagas
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.helping import help_some
from tests.crash.places import ServerPlace
from tests.crash.receiver_main import ADDRESS
from tests.crash.rounds import Round

from reprise import Choreography, Kind, Reprise, RunEnded

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks into /proc to see what a process holds"
)

PER_ROUND = 12
ROUNDS = max(1, CYCLES // 100)
"""make test: 2 rounds; make crash: 50."""
RUNS = 20
"""Sagas of a round; as many are written by hand."""
ENDED = ("completed", "failed", "cancelled")
MUST_OCCUR = {
    "kills with steps in flight": "cycles",
    "taken over while it compensated": "saga: kills",
    "left to a person": "saga: kills",
    "by hand: missed": "by hand: not completed",
    "saga: compensated": "saga: not completed",
    "dance: compensated": "dance: failed",
    "dance: take-overs": "dance: kills",
}
"""Without the mechanism, in the same rounds, what had been done was left there."""


async def start_all(url):
    async with Reprise(url, worker=False, capture_logs=False) as app:
        for n in range(RUNS):
            await app.start(sagas.onboarding, sagas.PLAN, n, id=f"onboarding-{n}", detach=True)
            await app.start(sagas.by_hand, n, id=f"by_hand-{n}", detach=True)


async def cancel_some(url):
    """Cancel those that are to be cancelled, wherever they are."""
    async with Reprise(url, worker=False, capture_logs=False) as app:
        for n in range(RUNS):
            if sagas.kind_of(n) == "is cancelled":
                for flow in sagas.WORKFLOWS:
                    with suppress(RunEnded):
                        await app.client.cancel(f"{flow.name}-{n}", "enough")


async def help_on(round, *, to_the_end=False):
    """See to what needs a person, once or until all runs have ended; return how many have."""
    async with Reprise(round.place.url, worker=False, capture_logs=False) as app, asyncio.timeout(60):
        while True:
            await help_some(app, round.counts)
            for row in await app.find("status:needs_attention", limit=1000):
                if row.due_at is None and "times without progress" not in row.error:
                    assert "not undone: card" in row.error, row.error
                    round.counts["left to a person"] += 1
                    (round.folder / f"{sagas.HELPED}-{row.id.rpartition('-')[2]}").touch()
                    await app.client.resume(row.id)
            states = await app.count()
            ended = sum(states.get(state, 0) for state in ENDED)
            if ended == 2 * RUNS or not to_the_end:
                return ended
            await asyncio.sleep(0.05)


class NothingLeft(Exception):
    """All runs ended before what was waited for."""


class Helped(Round):
    """A round in which whatever is waited for may need a person's help."""

    _helped_at = 0.0

    def wait_until(self, holds, what):
        def holds_with_help():
            if holds():
                return True
            # Not while a process may be stopped inside a commit: it keeps everybody from the file.
            if not what.startswith(("all threads", "worker ")) and time.monotonic() > self._helped_at + 0.5:
                self._helped_at = time.monotonic()
                if asyncio.run(help_on(self)) == 2 * RUNS and not holds():
                    raise NothingLeft
            return False

        super().wait_until(holds_with_help, what)


def meet(nursery, folder, seed, place=None):
    """Let workers on sagas be killed and paused, and all runs come to their end."""
    dice = random.Random(seed)
    round = Helped(nursery, folder, seed, place)
    nursery.spawn("receiver", folder)
    Round.wait_until(round, (folder / ADDRESS).exists, "the receiver")
    asyncio.run(start_all(round.place.url))
    for _ in range(3):
        round.start_worker()
    pause_at, cancel_at = dice.randrange(PER_ROUND // 2), dice.randrange(PER_ROUND)
    with suppress(NothingLeft):
        for cycle in range(PER_ROUND):
            goal = round.began() + dice.randint(1, 20)
            round.wait_until(lambda g=goal: round.began() >= g, "steps")
            if cycle == cancel_at:
                asyncio.run(cancel_some(round.place.url))
            if cycle == pause_at:
                round.pause()
            round.kill([round.executing() if dice.random() < 0.7 else dice.choice(round.workers)])
    asyncio.run(cancel_some(round.place.url))
    asyncio.run(help_on(round, to_the_end=True))
    return round, round.judge()


async def stories(round, counts):
    """Return how each saga ended, and count what its log says of compensating."""
    ends = {}
    async with Reprise(round.place.url, worker=False, capture_logs=False) as app:
        for row in await app.find("workflow:onboarding", limit=1000):
            ends[row.id] = row.status
            records = [record async for record in app.client.events(row.id)]
            undone = Counter(record.key for record in records if record.kind == Kind.UNDO_DONE)
            assert all(count == 1 for count in undone.values()), f"{row.id}: {undone}"
            first = next(
                (i for i, record in enumerate(records) if record.kind == Kind.UNDO_DONE), len(records)
            )
            taken = sum(record.kind == Kind.RUN_OWNED for record in records[first:])
            counts["taken over while it compensated"] += taken
            counts["saga: compensated"] += len(undone)
    return ends


def judge(round, verdict, folder, counts, said):
    counts.update(verdict.counts)
    counts["saga: kills"] += verdict.counts["cycles"]
    ends = asyncio.run(stories(round, counts))
    assert not verdict.faults, said
    assert verdict.counts["finished"] == 2 * RUNS
    for n in range(RUNS):
        run, missed = f"onboarding-{n}", sagas.left(folder, f"by_hand-{n}", by_hand=True)
        still = sagas.left(folder, run)
        counts["saga: not completed"] += ends[run] != "completed"
        if sagas.ends_of(n) == {"failed"}:
            counts["by hand: not completed"] += 1
            counts["by hand: missed"] += len(missed)
        wanted = [*sagas.BEFORE, *sagas.AFTER] if ends[run] == "completed" else []
        assert still == wanted, f"{run} {ends[run]}: {still} is there; {said}"
    assert set(sagas.times(folder).values()) <= {0, 1}, f"done twice under one key; {said}"
    shutil.rmtree(folder)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_every_effect_of_a_saga_that_did_not_complete_is_compensated(
    number, nursery, tmp_path, counts, request
):
    seed = SEED + number
    judge(*meet(nursery, tmp_path, seed), tmp_path, counts, again(request, seed))


@pytest.mark.timeout(180)
def test_the_same_on_postgresql(nursery, tmp_path, killable_postgres, counts, request):
    place = ServerPlace(killable_postgres, "sagas")
    try:
        round, verdict = meet(nursery, tmp_path, SEED, place)
        judge(round, verdict, tmp_path, counts, again(request, SEED))
    finally:
        place.close()


# ---------------------------------------------------------------- without a coordinator


async def begin_all(url):
    async with Reprise(url, worker=False, capture_logs=False) as app:
        for n in range(RUNS):
            await Choreography(app).say(f"dance-{n}", "begun", n)


async def stop_some(url):
    """Let those fail that are to be stopped, wherever they are."""
    async with Reprise(url, worker=False, capture_logs=False) as app:
        for n in range(RUNS):
            if sagas.dance_of(f"dance-{n}") == "is stopped":
                await Choreography(app).fail(f"dance-{n}", "enough")


async def over(round):
    """Return the stories of the sagas that are over."""
    async with Reprise(round.place.url, worker=False, capture_logs=False) as app:
        await help_some(app, round.counts)
        stories = [await Choreography(app).story(f"dance-{n}") for n in range(RUNS)]
        wrong = [story for story in stories if story.status == "needs_attention"]
        rows = await app.find("status:needs_attention", limit=100)
        assert not wrong or all("times without progress" in row.error for row in rows), wrong
        return [story for story in stories if story.status in ENDED]


def dance(nursery, folder, seed):
    """Let workers whose services take part in sagas be killed, and all sagas come to their end."""
    dice = random.Random(seed)
    round = Round(nursery, folder, seed)
    nursery.spawn("receiver", folder)
    round.wait_until((folder / ADDRESS).exists, "the receiver")
    asyncio.run(begin_all(round.place.url))
    for _ in range(3):
        round.start_worker(serves=True)
    stop_at = dice.randrange(PER_ROUND)
    for cycle in range(PER_ROUND):
        goal, until = round.began() + dice.randint(1, 15), time.monotonic() + 2
        round.wait_until(lambda g=goal, u=until: round.began() >= g or time.monotonic() > u, "steps")
        if cycle == stop_at:
            asyncio.run(stop_some(round.place.url))
        if len(asyncio.run(over(round))) == RUNS:
            break
        round.kill([round.executing() if dice.random() < 0.7 else dice.choice(round.workers)], serves=True)
    asyncio.run(stop_some(round.place.url))
    until = 0.0

    def all_over():
        nonlocal until
        if time.monotonic() < until:
            return False
        until = time.monotonic() + 0.3
        return len(asyncio.run(over(round))) == RUNS

    round.wait_until(all_over, "all sagas to be over")
    stories = asyncio.run(over(round))
    return stories, round.judge()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_services_without_a_coordinator_compensate_all_that_was_done(
    number, nursery, tmp_path, counts, request
):
    seed = SEED + 1000 + number
    said = again(request, seed)
    stories, verdict = dance(nursery, tmp_path, seed)
    counts.update(verdict.counts)
    assert not verdict.faults, said
    for story in stories:
        events = [(event.by, event.name) for event in story.events]
        assert len(set(events)) == len(events), f"said twice: {events}; {said}"
        becomes = sagas.dance_of(story.saga_id)
        wanted = {"ends": {"completed"}, "is stopped": {"completed", "failed"}}.get(becomes, {"failed"})
        assert story.status in wanted, f"{story}; {said}"
        still = [
            name
            for service, name in sagas.DANCE
            if outside.left(tmp_path, name).get(f"{story.saga_id}.{service}")
        ]
        assert still == ([name for _, name in sagas.DANCE] if story.status == "completed" else []), (
            f"{story}; {said}"
        )
        counts["dance: failed"] += story.status == "failed"
        counts["dance: compensated"] += len(story.compensated)
    counts["dance: take-overs"] += verdict.counts["take-overs"]
    counts["dance: kills"] += verdict.counts["cycles"]
    assert set(sagas.times(tmp_path).values()) <= {0, 1}, f"done twice under one key; {said}"
    shutil.rmtree(tmp_path)
