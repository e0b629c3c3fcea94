"""What is checked before a deploy is what a worker finds: no pattern of the corpus is ever suspected, wherever its log ends."""

from __future__ import annotations

import random

import pytest
from tests.replay import effects, generations, pure, rules, talking, together
from tests.replay.harness import LateStore, cut, drive_to_the_end, is_possible
from tests.replay.patterns import CORPUS, KIDS

from reprise import Fit, check_runs
from reprise.kernel.events import run_stream

assert rules.CHOICE, "its patterns are in the corpus, too"
assert generations.SENT, "likewise"
assert pure.SENT, "likewise"
assert effects.DONE == {}, "likewise"
assert talking.TALKED, "likewise"
assert together.TOGETHER, "likewise"

pytestmark = pytest.mark.replay


@pytest.mark.parametrize("name", CORPUS)
async def test_code_fits_the_history_that_it_wrote_at_every_prefix(name: str) -> None:
    pattern, dice, run = CORPUS[name], random.Random(7), f"{name}-7"
    first = await drive_to_the_end(pattern, LateStore(dice), run, start=True)
    records = first.streams[run_stream(run)]
    fails = first.status in ("failed", "needs_attention")
    for count in range(1, len(records)):
        if not is_possible(records, count):
            continue
        store = LateStore(dice)
        await store.start()
        await cut(first, run, count, dice, store)
        end = await store.log.end()
        checked = await check_runs(store, [pattern.workflow, *KIDS.values()])
        # A body that is about to end by an error of its own says nothing about whether this is because of the code.
        fits = {Fit.COMPATIBLE, Fit.FAILS} if fails else {Fit.COMPATIBLE}
        assert set(checked.counts) <= fits, f"after {count} of {len(records)} records: {checked.misfits}"
        assert checked.runs >= 1
        assert await store.log.end() == end, "something was written"
        await store.stop()
