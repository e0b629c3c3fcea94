"""Every pattern of the corpus: rehearsed from every prefix of its log, and forked from every record of it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from tests.replay import effects, generations, pure, rules, talking, together
from tests.replay.harness import PATIENCE, LateStore, Outcome, drive_to_the_end
from tests.replay.patterns import CORPUS, KIDS

from reprise import Reprise
from reprise.kernel.events import Kind, run_stream
from reprise.runtime.branch import name_in

OTHERS = (effects, generations, pure, rules, talking, together)
"""Modules that add to the corpus."""
ALONE = [
    name
    for name, one in CORPUS.items()
    if one.drive is None
    and one.workflow.function.__module__ in ("tests.replay.patterns", "tests.replay.rules")
]
"""Patterns that nobody disturbs from outside, so that a fork comes to an end by itself, and in whose steps nothing counts."""

pytestmark = pytest.mark.replay


async def played(name: str) -> tuple[LateStore, Outcome, list[Any]]:
    """Run a pattern to its end; return its store, open, and its history."""
    store = LateStore(random.Random(name))
    outcome = await drive_to_the_end(CORPUS[name], store, "r", start=True)
    return store, outcome, outcome.streams[run_stream("r")]


@pytest.mark.parametrize("name", CORPUS)
async def test_every_prefix_is_rehearsed_and_nothing_diverges(name: str) -> None:
    store, outcome, records = await played(name)
    before = await store.log.end()
    async with Reprise(store, worker=False, capture_logs=False) as app:
        for record in records:
            seen = await app.replay("r", CORPUS[name].workflow, until=record.version)
            assert seen.verdict == "reached", (record.version, seen.reason)
        whole = await app.replay("r", CORPUS[name].workflow)
        assert (whole.verdict, whole.reason) == ("reached", "")
        assert whole.finished is not None
        assert whole.finished.status == outcome.status
    await store.start()
    assert await store.log.end() == before, "nothing was written"


@pytest.mark.parametrize("name", ALONE)
async def test_a_fork_from_every_record_comes_to_the_stated_result(name: str) -> None:
    store, _, records = await played(name)
    workflows = [CORPUS[name].workflow, *KIDS.values()]
    async with Reprise(store, workflows=workflows, capture_logs=False, grace=0.0) as app:
        versions = [record.version for record in records if record.kind != Kind.RUN_FINISHED]
        handles = [await app.fork("r", at=version) for version in versions]
        ends = await asyncio.gather(*(handle.finished(PATIENCE) for handle in handles))
    for version, end in zip(versions, ends, strict=True):
        one = Outcome(end, {}, [])
        assert CORPUS[name].check(one.status, one.value), (version, one.status, one.value)


@pytest.mark.parametrize("name", ALONE)
async def test_a_fork_from_a_record_begins_with_just_what_came_before(name: str) -> None:
    store, _, records = await played(name)
    await store.start()
    async with Reprise(store, worker=False, capture_logs=False) as app:
        for record in records[:-1]:
            made = await app.client.fork("r", at=record.version)
            given = [r for r in records if r.version <= record.version and 16 <= r.kind < 64]
            kept = [r for r in await app.store.log.read(run_stream(made.id)) if 16 <= r.kind < 64]
            assert [(r.kind, r.key, r.data, r.at) for r in kept] == [
                (r.kind, r.key, r.data, r.at) for r in given
            ]
            done = {name_in(r.key) for r in given if r.kind <= Kind.STEP_CANCELLED}
            ended = {name_in(r.key) for r in records if 16 <= r.kind <= Kind.STEP_CANCELLED}
            assert set(made.again) >= ended - done
