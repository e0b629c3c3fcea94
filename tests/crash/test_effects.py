"""Effects under kill -9 and pauses past the lease: what a receiver outside did, held against what the runs say.

The control stands in the same runs: a plain step, which must be seen to act twice, or the zeros mean nothing.
"""

import asyncio
import random
import shutil
import sys
import time
from contextlib import suppress

import pytest
from tests.crash import outside
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.helping import help_some
from tests.crash.places import ServerPlace
from tests.crash.receiver_main import ADDRESS
from tests.crash.rounds import SOMEBODY_AT_WORK, Round

from reprise import Reprise, RunEnded

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks into /proc to see what a process holds"
)

PER_ROUND = 12
ROUNDS = max(1, CYCLES // 100)
"""make test: 2 rounds of each kind; make crash: 50."""
RUNS = 30
"""Runs of a round; their steps are what the kills meet."""
THOSE_THAT_WAIT = range(2, RUNS, 3)
"""Runs of ``lending`` that only end when they are cancelled."""
MUST_OCCUR = {
    "kills with steps in flight": "cycles",
    "take-overs": "cycles",
    "pauses past the lease": "cycles",
    "plain: done twice or more": "plain: calls",
    "by_hand: missed": "by_hand: done",
}
"""Without the mechanism, in the same runs, the same receiver acted twice, and an undo written into the body did not."""


async def start_all(round, flow):
    async with Reprise(round.place.url, worker=False, capture_logs=False) as app:
        await asyncio.gather(*(app.start(flow, n, id=f"{flow.name}-{n}", detach=True) for n in range(RUNS)))


async def cancel_those_that_wait(round):
    """Cancel runs at whatever point they have come to; the others ignore it or have ended."""
    async with Reprise(round.place.url, worker=False, capture_logs=False) as app:
        for n in THOSE_THAT_WAIT:
            with suppress(RunEnded):
                await app.client.cancel(f"lending-{n}", "enough")


async def help_on(round, *, to_the_end=False):
    """Help once, or until all runs have ended; return how many have."""
    async with Reprise(round.place.url, worker=False, capture_logs=False) as app, asyncio.timeout(60):
        while True:
            await help_some(app, round.counts)
            states = await app.count()
            ended = sum(states.get(state, 0) for state in ("completed", "failed", "cancelled"))
            if ended == RUNS or not to_the_end:
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
            if not what.startswith("all threads") and time.monotonic() > self._helped_at + 0.5:
                self._helped_at = time.monotonic()
                ended = asyncio.run(help_on(self))
                if ended == RUNS and what == SOMEBODY_AT_WORK and not holds():
                    raise NothingLeft
            return False

        super().wait_until(holds_with_help, what)


def meet(nursery, folder, seed, flow, place=None):
    """Let workers on the runs of a flow be killed and paused, and all runs come to their end."""
    dice = random.Random(seed)
    round = Helped(nursery, folder, seed, place)
    nursery.spawn("receiver", folder)
    Round.wait_until(round, (folder / ADDRESS).exists, "the receiver")
    asyncio.run(start_all(round, flow))
    for _ in range(3):
        round.start_worker()
    pauses = dice.sample(range(PER_ROUND // 2), 2)
    by_themselves = RUNS - len(THOSE_THAT_WAIT) if flow is outside.lending else RUNS
    cancelled = flow is not outside.lending
    for cycle in range(PER_ROUND):
        goal = round.began() + dice.randint(1, 15)
        most = RUNS if cancelled else by_themselves
        round.wait_until(
            lambda goal=goal, most=most: round.began() >= goal or asyncio.run(help_on(round)) >= most, "steps"
        )
        ended = asyncio.run(help_on(round))
        if ended == RUNS:
            break
        if not cancelled and (cycle >= PER_ROUND // 3 or ended >= by_themselves):
            asyncio.run(cancel_those_that_wait(round))
            cancelled = True
        if cycle in pauses:
            try:
                round.pause()
            except NothingLeft:
                break
        round.kill([round.executing() if dice.random() < 0.7 else dice.choice(round.workers)])
    asyncio.run(help_on(round, to_the_end=True))
    return round.judge()


@pytest.mark.timeout(120)
def test_when_all_runs_have_ended_nobody_can_be_met_at_work_and_all_else_is_waited_for(nursery, tmp_path):
    round = Helped(nursery, tmp_path, SEED)
    nursery.spawn("receiver", tmp_path)
    Round.wait_until(round, (tmp_path / ADDRESS).exists, "the receiver")
    asyncio.run(start_all(round, outside.effects))
    round.start_worker()
    asyncio.run(help_on(round, to_the_end=True))
    with pytest.raises(NothingLeft):
        round.pause()
    looks = set()

    def looked_twice():
        looks.add(round._helped_at)
        return len(looks) > 2

    round.wait_until(looked_twice, "what ends the round")


def judge_effects(verdict, folder, counts, said):
    counts.update(verdict.counts)
    assert not verdict.faults, said
    assert verdict.counts["finished"] == RUNS
    times = outside.times(folder)
    for name, done in times.items():
        counts[f"{name}: calls"] += len(done)
        counts[f"{name}: done twice or more"] += sum(count > 1 for count in done.values())
        assert len(done) == 3 * RUNS, f"{name} was not done for all; {said}"
    for name in ("keyed", "reconciled"):
        twice = [key for key, count in times[name].items() if count > 1]
        assert not twice, f"{name} was done twice: {twice}; {said}"
    shutil.rmtree(folder)


def judge_lending(verdict, folder, counts, said):
    counts.update(verdict.counts)
    assert not verdict.faults, said
    ends = {f"lending-{n}": outside.end_of_lending(n) for n in range(RUNS)}
    for name in ("lent", "by_hand"):
        there = outside.left(folder, name)
        counts[f"{name}: done"] += len({one.key for one in outside.acts(folder) if one.name == name})
        for run, keys in there.items():
            counts[f"{name}: left of runs that {ends[run]}"] += len(keys)
    still_there = outside.left(folder, "lent")
    counts["by_hand: missed"] += sum(
        len(keys) for run, keys in outside.left(folder, "by_hand").items() if ends[run] != "completed"
    )
    wrong = {run: keys for run, keys in still_there.items() if ends[run] != "completed"}
    assert not wrong, f"done and not undone: {wrong}; {said}"
    completed = [run for run, end in ends.items() if end == "completed"]
    assert all(len(still_there.get(run, ())) == 3 for run in completed), f"undone: {said}"
    shutil.rmtree(folder)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_no_effect_is_done_twice(number, nursery, tmp_path, counts, request):
    seed = SEED + number
    verdict = meet(nursery, tmp_path, seed, outside.effects)
    judge_effects(verdict, tmp_path, counts, again(request, seed))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_what_is_there_of_a_run_that_failed_is_undone(number, nursery, tmp_path, counts, request):
    seed = SEED + 1000 + number
    verdict = meet(nursery, tmp_path, seed, outside.lending)
    judge_lending(verdict, tmp_path, counts, again(request, seed))


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("flow", "judge"), [(outside.effects, judge_effects), (outside.lending, judge_lending)]
)
def test_the_same_on_postgresql(flow, judge, nursery, tmp_path, killable_postgres, counts, request):
    place = ServerPlace(killable_postgres, f"outside_{flow.name}")
    try:
        verdict = meet(nursery, tmp_path, SEED, flow, place)
    finally:
        place.close()
    judge(verdict, tmp_path, counts, again(request, SEED))
