"""The whole platform: a fan-out of 1,000 steps, killed in the middle, never does a recorded step again."""

import random

import pytest
from tests.crash import ledger
from tests.crash.conftest import SEED, again
from tests.crash.rounds import Round


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(3))
def test_finished_steps_of_a_wide_fan_never_run_again(number, nursery, tmp_path, counts, request):
    seed = SEED + number
    dice = random.Random(seed)
    round = Round(nursery, tmp_path, seed)
    round.start_worker()
    run = round.start_run("wide", 1000)
    recorded = 0
    for _ in range(3):
        round.wait_until_began(dice.randint(100, 300))
        (worker,) = round.workers
        nursery.kill(worker)
        counts["begun and unrecorded at kills"] += (unrecorded := round.unrecorded(worker))
        round.counts["unrecorded"] += unrecorded
        recorded = sum(
            isinstance(line, ledger.Durable) for line in ledger.lines(*tmp_path.glob("*.said.jsonl"))
        )
        round.workers.remove(worker)
        round.start_worker()
    counts["acknowledged before the last kill"] += recorded
    round.wait_for_end(run)
    verdict = round.judge()
    counts.update(verdict.counts)
    assert not verdict.faults, again(request, seed)
    assert verdict.counts["executed again"] == verdict.counts["unrecorded"] > 0, again(request, seed)
    assert verdict.counts["executed"] == 1000 + verdict.counts["unrecorded"]
    assert recorded > 0
