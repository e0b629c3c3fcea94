"""Every pattern of the corpus, every prefix of its log, with random timing."""

from __future__ import annotations

import asyncio
import os

import pytest
from tests.replay import crossing, effects, generations, pure, rules, talking, together
from tests.replay.harness import trial
from tests.replay.patterns import CORPUS

assert rules.CHOICE, "its patterns are in the corpus, too"
assert generations.SENT, "likewise"
assert pure.SENT, "likewise"
assert effects.DONE == {}, "likewise"
assert talking.TALKED, "likewise"
assert together.TOGETHER, "likewise"
assert crossing.CROSSING, "likewise"
TRIALS = int(os.environ.get("REPRISE_TRIALS", "2"))

pytestmark = pytest.mark.replay


@pytest.mark.parametrize("name", CORPUS)
async def test_every_prefix_resumes_to_the_stated_result(name: str) -> None:
    counts = await asyncio.gather(*(trial(name, seed) for seed in range(TRIALS)))
    assert all(count >= 1 for count in counts)
