"""kill -9 and pauses over real processes on one SQLite file: nothing acknowledged is lost, nothing recorded twice."""

import random
import shutil
import sys
from collections import Counter

import pytest
from tests.crash import client_main, ledger
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.rounds import Round

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks into /proc to see what a process holds"
)

PER_ROUND = 25
"""Cycles on one file; then all runs must come to their end, and everything is compared."""
ROUNDS = -(-CYCLES // PER_ROUND)

MUST_OCCUR = dict.fromkeys(
    (
        "kills with steps in flight",
        "kills inside a commit",
        "pauses past the lease",
        "take-overs",
        "refused stale writes",
        "executed again",
        "acknowledged",
    ),
    "cycles",
)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_nothing_is_lost_over_kills(number, nursery, tmp_path, counts, request):
    seed = SEED + number
    round = Round(nursery, tmp_path, seed)
    for _ in range(2 + seed % 2):
        round.start_worker()
    round.start_client()
    cycles = min(PER_ROUND, CYCLES - number * PER_ROUND)
    for cycle in range(cycles):
        round.cycle()
        if cycle == seed % cycles:
            round.wait_until_began(5)
            round.pause()
    verdict = round.finish()
    counts.update(verdict.counts)
    assert not verdict.faults, again(request, seed)
    assert verdict.counts["finished"] == verdict.counts["runs"] > 0
    shutil.rmtree(tmp_path)  # thousands of cycles would fill the disk; what failed stays


def pause_an_owner(nursery, folder, *, fenced):
    """Let a worker be paused with 20 steps in flight until another took its run, and go on beside it."""
    round = Round(nursery, folder, SEED)
    for _ in range(2):
        round.start_worker(fenced=fenced)
    run = round.start_run("slow_fan", 20)
    # Counted from nothing: the first may have begun before we look.
    round.wait_until(lambda: round.began() >= 20, "all 20 steps to begin")
    paused = round.pause()
    said = [ledger.Reader(path) for path in folder.glob(f"*-{paused}.said.jsonl")]
    if fenced:
        round.wait_until(lambda: any(isinstance(line, ledger.Refused) for file in said for line in file.new()),
                         "the paused worker to be refused")  # fmt: skip
    round.wait_for_end(run)
    return round.judge()


@pytest.mark.parametrize("number", range(2))
def test_a_paused_owner_does_not_write(number, nursery, tmp_path, counts, request):
    verdict = pause_an_owner(nursery, tmp_path, fenced=True)
    counts.update(verdict.counts)
    assert not verdict.faults, again(request, SEED)
    assert verdict.counts["refused stale writes"] > 0
    assert verdict.counts["executed again"] > 0


def test_control_without_fencing_a_paused_owner_records_twice(nursery, tmp_path, counts):
    verdict = pause_an_owner(nursery, tmp_path, fenced=False)
    counts["control: recorded twice without fencing"] += len(verdict.twice)
    assert verdict.twice, "the checker sees no double record where there must be some: its zero means nothing"


def test_control_a_promise_before_the_commit_is_lost(nursery, tmp_path, counts):
    """Only the client runs, so nothing is finished; what counts is that starts it promised are not there."""
    round = Round(nursery, tmp_path, SEED)
    promised = ledger.Reader(tmp_path / client_main.PROMISED)
    dice = random.Random(SEED)
    seen = Counter()

    def enough():
        seen["promises"] += len(promised.new())
        return seen["promises"] >= seen["wanted"]

    for number in range(10):
        # Each client has runs of its own: one that started those of the last again would mend what was lost.
        client = nursery.spawn("client", tmp_path, store=round.place.url, early=True, first=1000 * number)
        seen["wanted"] = seen["promises"] + dice.randint(10, 40)
        round.wait_until(enough, "promises")
        nursery.kill(client)
    verdict = round.judge()
    counts["control: lost when promised too early"] += len(verdict.lost)
    assert verdict.lost, (
        "the checker misses no start that was promised before its commit: its zero means nothing"
    )
