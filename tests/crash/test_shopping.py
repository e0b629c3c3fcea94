"""Effects within a budget under kill -9 and pauses: a call that is refused did not happen, and all that happened is paid.

The control stands in the same runs: a plain step, of which it is not found out what a lost attempt did, is refused although
it happened. A receiver that knows a call by its key is called again only if that can be paid, and a refusal says so.
"""

import shutil
import sys
from collections import Counter, defaultdict

import msgspec
import pytest
from tests.crash import outside
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.places import FilePlace
from tests.crash.test_effects import RUNS, meet

from reprise.kernel.events import ErrorValue, Intended, Kind
from reprise.runtime.branch import idempotency_key

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks into /proc to see what a process holds"
)

ROUNDS = max(1, CYCLES // 100)
"""make test: 2 rounds; make crash: 50."""
MUST_OCCUR = {
    "kills with steps in flight": "cycles",
    "take-overs": "cycles",
    "bought: refused": "cycles",
    "bought: recovered": "cycles",
    "tried: refused though it happened": "cycles",
    "tried: done twice or more": "cycles",
}


def said_of(place, run):
    """Return what a run recorded of its calls: by key of the receiver, the step's name and the refusal or None."""
    intents = {
        key: msgspec.json.decode(data, type=Intended).key
        for key, data in place.records(run, Kind.STEP_INTENDED)
    }
    said = {}
    for kind in (Kind.STEP_COMPLETED, Kind.STEP_FAILED):
        for key, data in place.records(run, kind):
            refusal = msgspec.json.decode(data, type=ErrorValue) if kind == Kind.STEP_FAILED else None
            known_as = intents.get(key) or idempotency_key(run, key)
            said[known_as] = (key.rpartition(".")[2].partition("#")[0], refusal)
    return said


def judge(folder, counts, said_again):
    place = FilePlace(folder)
    done = Counter(one.key for one in outside.acts(folder) if one.what == "act")
    paid = defaultdict(int)
    for n in range(RUNS):
        run = f"shopping-{n}"
        said = said_of(place, run)
        assert len(said) == outside.CALLS
        for key, (name, refusal) in said.items():
            paid[run] += done[key] * outside.COST
            counts[f"{name}: calls"] += 1
            counts[f"{name}: done twice or more"] += done[key] > 1
            counts[f"{name}: refused"] += refusal is not None
            counts[f"{name}: refused though it happened"] += refusal is not None and done[key] > 0
            if refusal is None:
                assert done[key], f"{name} {key} of {run} completed and did not happen; {said_again}"
                continue
            assert refusal.type == "reprise.BudgetExceeded", refusal
            if name == "bought":
                assert not done[key], f"{key} of {run} was refused and happened; {said_again}"
            elif name == "posted" and done[key]:
                assert "may have happened" in refusal.message, f"{key} of {run}; {said_again}"
        resolved = {key for key, _ in place.records(run, Kind.EFFECT_RESOLVED)}
        counts["bought: recovered"] += len(resolved)
    assert not counts["bought: done twice or more"], said_again
    assert not counts["posted: done twice or more"], said_again
    most = max(paid.values())
    counts["most tokens that a run paid"] = max(most, counts["most tokens that a run paid"])
    assert most <= outside.COST * outside.PAID, said_again
    shutil.rmtree(folder)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_what_is_refused_did_not_happen(number, nursery, tmp_path, counts, request):
    seed = SEED + number
    verdict = meet(nursery, tmp_path, seed, outside.shopping)
    said = again(request, seed)
    counts.update(verdict.counts)
    assert not verdict.faults, said
    assert verdict.counts["finished"] == RUNS
    judge(tmp_path, counts, said)
