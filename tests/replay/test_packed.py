"""Histories that are packed and sealed replay as plain ones do."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.replay import harness
from tests.replay.harness import LateStore, trial
from tests.replay.patterns import CORPUS, Pattern, gives, nap

from reprise import KeyRing, step, workflow
from reprise.kernel.events import Kind
from reprise.stores.packing import PackedStore

RING = KeyRing({"old": bytes(32), "new": bytes(range(32))}, "new")
TEXTS = [random.Random(n).randbytes(1000).hex() for n in range(6)]


@step
async def says(talk: list[str], n: int) -> list[str]:
    await asyncio.sleep(nap())
    return [*talk, TEXTS[n]]


@workflow
async def talks() -> list[list[str]]:
    """Three conversations that grow side by side."""

    async def one(first: int) -> list[str]:
        talk: list[str] = []
        for n in range(4):
            talk = await says(talk, (first + n) % 6)
        return talk

    return await asyncio.gather(*(one(n) for n in range(3)))


CHOICE = ["talks", "chain_of_steps", "nested_gather", "task_group", "two_stage_gather"]


@pytest.mark.replay
@pytest.mark.parametrize("name", CHOICE)
@pytest.mark.parametrize("keys", [None, RING], ids=["packed", "sealed"])
async def test_every_prefix_resumes_to_the_stated_result(name, keys, monkeypatch):
    stores: list[PackedStore] = []

    def packing(dice: random.Random) -> PackedStore:
        stores.append(PackedStore(LateStore(dice), keys))
        return stores[-1]

    whole = [[TEXTS[(first + n) % 6] for n in range(4)] for first in range(3)]
    monkeypatch.setattr(harness, "LateStore", packing)
    monkeypatch.setitem(CORPUS, "talks", Pattern(talks, gives(whole)))
    assert await trial(name, 1) >= 1
    if name == "talks":
        [first, *_] = stores
        steps = [r for r in await first.keeper.log.scan() if r.kind == Kind.STEP_COMPLETED]
        assert sum(len(r.data) for r in steps) < 12 * 1600, "they are differences"
