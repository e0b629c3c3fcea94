"""Chains and parallel executors go on from every prefix of their history, and come to what they would have come to."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from tests.replay.harness import STEPS, LateStore, fill, is_possible
from tests.unit.runtime.scenes import opened

from reprise import AgentChain, ChainResult, ParallelExecutor, ParallelResult
from reprise.kernel.events import Kind, Record, run_stream

pytestmark = pytest.mark.replay
RUN = "r"


class Kept(LateStore):
    """Stays open when its app closes."""

    async def stop(self) -> None:
        """Stay open."""


class Agents:
    """An executor whose answers follow from the task and the context alone, in a time of its own; it counts calls."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.calls = Counter[str]()

    async def __call__(self, agent: str, task: Any, context: dict[str, Any]) -> Any:
        step, times = context["step"], context.get("refused", {}).get("times", 0)
        self.calls[step if not times else f"{step}.{times + 1}"] += 1
        await asyncio.sleep(self._dice.random() * 0.001)
        if agent == "fails":
            raise ValueError(f"{step} cannot {task}")
        if agent == "learns":
            return {"text": task, "good": times}
        return {"text": f"{agent} did {task}"[:60]}


def learned(answer: dict[str, Any]) -> bool | str:
    return answer["good"] >= 2 or f"only {answer['good']}"


def chain() -> AgentChain:
    """Every way that a chain can take, and then it stops."""
    made = AgentChain("all ways", "x")
    made.then("one", transform=str.upper)
    made.then("learns", transform=lambda x: x["text"], validate=learned)
    made.then("fails", on_error="skip", name="skipped")
    made.then(
        "one",
        transform=lambda x: x["nothing"],
        on_error="default",
        default={"text": "default"},
        name="defaulted",
    )
    made.then("learns", validate=learned, tries=1, on_error="goto", goto="last", name="jumps")
    made.then("one", name="over")
    return made.then("one", transform=lambda x: x["text"], name="last")


def parallel(strategy: str, **options: Any) -> ParallelExecutor:
    ex = ParallelExecutor(3, strategy, key=key if strategy == "majority" else None, **options)
    for n, agent in enumerate(["one", "fails", "one", "learns", "one", "one"]):
        ex.create_task(agent, "work", priority=n % 3)
    return ex


def key(answer: dict[str, Any]) -> str:
    if "good" in answer:
        raise KeyError("good")
    return answer["text"]


FACES = {
    "chain": chain,
    "stopped chain": lambda: chain().then("fails", name="stops").then("one", name="never"),
    "refused chain": lambda: AgentChain("refused", "x").then("one").then("learns", validate=learned, tries=2),
    "all": lambda: parallel("all"),
    "first": lambda: parallel("first"),
    "majority": lambda: parallel("majority"),
    "threshold": lambda: parallel("threshold", threshold=0.5),
    "lost": lambda: parallel("threshold", threshold=6),
}


def compared(result: ChainResult | ParallelResult) -> Any:
    """Return what must be the same in every replay, whoever was faster."""
    if isinstance(result, ChainResult):
        steps = [(step.name, step.status, step.result, step.error, step.refused) for step in result.steps]
        return result.status, result.output, result.errors, steps
    racing = result.value is not None and len(result.tasks) != len(result.value)
    return result.status, len(result.value) if racing else result.value


async def executed(face: Any, store: Kept, dice: random.Random) -> tuple[Any, Counter[str], list[Record]]:
    agents = Agents(dice)
    async with opened(store) as app:
        result = await asyncio.wait_for(face.execute(agents, id=RUN, app=app, context={"team": "blue"}), 20)
    return result, agents.calls, list(await store.log.read(run_stream(RUN)))


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize("seed", range(2))
async def test_every_prefix_comes_to_the_same(name: str, seed: int) -> None:
    dice = random.Random(seed)
    first, calls, records = await executed(FACES[name](), Kept(dice), dice)
    assert calls
    tried = 0
    for count in range(1, len(records) + 1):
        if not is_possible(records, count):
            continue
        store = Kept(dice)
        await fill(store, run_stream(RUN), records[:count])
        result, again, now = await executed(FACES[name](), store, dice)
        where = f"after {count} of {len(records)} records"
        assert compared(result) == compared(first), where
        assert [(r.kind, r.key, r.data) for r in now[:count]] == [
            (r.kind, r.key, r.data) for r in records[:count]
        ]
        ended = {r.key for r in records[:count] if r.kind in STEPS}
        assert not ended & again.keys(), f"{where}: recorded and called again"
        if count == len(records):
            assert not again
            assert result == first
        tried += 1
    assert tried > 3


async def test_what_was_refused_stands_in_the_history():
    _, _, records = await executed(chain(), Kept(random.Random(1)), random.Random(1))
    ends = [record.key for record in records if record.kind in STEPS]
    assert ends[:7] == [
        "one",
        "learns",
        "learns.refused",
        "learns.2",
        "learns.2.refused",
        "learns.3",
        "skipped",
    ]
    assert "defaulted.refused" in ends
    assert records[-1].kind == Kind.RUN_FINISHED
