"""Random sagas with random failures, cancellations and crash points leave nothing behind that nobody knows of.

Without a crash and without a cancellation a saga ends as a straightforward model says, which knows no log and no time.
In any case every effect at the services whose step has a compensation is compensated, under one key; or the saga is complete;
or it says that a person has to see to it, and to what.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from tests.replay.harness import LateStore, Outcome, cut, is_possible

from reprise import Reprise, RunEnded, SagaOrchestrator, SagaResult, StepRefused, current_step
from reprise.kernel.events import Record, run_stream

EXAMPLES = int(os.environ.get("REPRISE_SAGAS", "25"))
CUTS = 5
OPTIONS = {"backoff": 0, "max_retries": 2, "timeout": 0.3}
pytestmark = pytest.mark.replay


class Service(NamedTuple):
    """What a service does when it is asked for a step, and when it is asked to compensate it."""

    answers: str = "ok"
    """ok; refuses; breaks; stumbles: twice the connection breaks, then it is ok; turns: once, then it refuses."""
    acts: bool = True
    """Whether it has acted when it does not answer well; who refuses at once has not."""
    undo: str = "ok"
    """none: there is no compensation; ok; stumbles; breaks."""


class Case(NamedTuple):
    """A saga, and what happens to it."""

    services: tuple[Service, ...]
    pivot: int
    """Number of the irreversible step, that of the steps = there is none."""
    cancelled_at: int = -1
    """Number of the step in which somebody cancels the run, -1 = nobody does."""

    def steps(self) -> list[dict[str, Any]]:
        """Return the steps as ``define_saga`` takes them."""
        return [
            {
                "step": f"{n}",
                "service": "all",
                "compensation": f"undo {n}" if self.can_undo(n) else None,
                "irreversible": n == self.pivot,
                **OPTIONS,
            }
            for n in range(len(self.services))
        ]

    def can_undo(self, n: int) -> bool:
        """Tell whether a step has a compensation; from the pivot on none has."""
        return n < self.pivot and self.services[n].undo != "none"


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(1, 6))
    pivot = draw(st.one_of(st.just(count), st.integers(0, count - 1)))
    services: list[Service] = []
    for n in range(count):
        answers = ["ok", "ok", "ok", "stumbles", "breaks", "refuses", "turns"]
        if n == pivot:
            answers = answers[:4] + ["refuses"]  # it says that nothing was done, and says it rightly
        answer = draw(st.sampled_from(answers))
        undo = draw(st.sampled_from(["ok", "ok", "ok", "none", "stumbles", "breaks"]))
        services.append(Service(answer, draw(st.booleans()), undo))
    return Case(tuple(services), pivot, draw(st.one_of(st.just(-1), st.integers(0, count - 1))))


# ---------------------------------------------------------------- the world


@dataclass
class World:
    """What the services did, by the keys of the requests, and when: after how many records of the history."""

    did: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """By key: number of the step, and when."""
    undid: dict[str, tuple[str, int, int]] = field(default_factory=dict[str, tuple[str, int, int]])
    """By key: key of the step, its number, and when; in the order in which it was done."""

    wrong: list[str] = field(default_factory=list[str])
    """What services were told that is not so."""

    def at(self, count: int, dice: random.Random) -> World:
        """Return the world at a crash after so many records; what was asked for just then may have been done, or not."""

        def was_before(at: int) -> bool:
            return at < count or (at == count and dice.random() < 0.5)

        did = {key: one for key, one in self.did.items() if was_before(one[1])}
        return World(did, {key: one for key, one in self.undid.items() if was_before(one[2])})


class Serving:
    """All services of a case."""

    def __init__(self, case: Case, world: World, app: Reprise) -> None:
        self._case, self._world, self._app = case, world, app

    async def __call__(self, action: str, payload: dict[str, Any], key: str) -> Any:
        at = (await self._app.store.log.head(run_stream("r"))).version
        n = int(payload["step"])
        if list(payload["results"]) != [f"{other}" for other in range(n)]:
            self._world.wrong.append(f"{action}: {payload['results']}")
        if action.startswith("undo"):
            self._answer(self._case.services[n].undo)
            self._world.undid.setdefault(key, (payload["compensates"], n, at))
            return None
        service = self._case.services[n]
        if (service.acts or service.answers == "ok") and service.answers != "refuses":
            self._world.did.setdefault(key, (n, at))
        if n == self._case.cancelled_at:
            with suppress(RunEnded):
                await self._app.client.cancel("r")
            if n < self._case.pivot:
                await asyncio.Event().wait()
        self._answer(service.answers)
        self._world.did.setdefault(key, (n, at))
        return f"{n} of {payload['input']}"

    def _answer(self, how: str) -> None:
        if how == "turns" and current_step().attempt == 1:
            raise ConnectionError("the line went dead")
        if how in ("refuses", "turns"):
            raise StepRefused("no")
        if how == "breaks":
            raise ValueError("?")
        if how == "stumbles" and current_step().attempt <= 2:
            raise ConnectionError("the line went dead")


async def drive(case: Case, store: Any, world: World) -> tuple[Outcome, SagaResult]:
    """Execute the saga, or let it go on."""
    async with Reprise(store, capture_logs=False, grace=0.0) as app:
        saga = SagaOrchestrator(services={"all": Serving(case, world, app)})
        await saga.define_saga("random", case.steps())
        async with asyncio.timeout(20):
            result = await saga.execute("random", "it", app=app, id="r")
            # A person has to see to it, and does nothing; the history is what it is by then.
    await store.start()
    streams: dict[str, list[Record]] = {}
    for record in await store.log.scan(limit=100_000):
        streams.setdefault(record.stream, []).append(record)
    return Outcome(None, streams), result  # type: ignore[arg-type]


# ---------------------------------------------------------------- what must be true


class Expected(NamedTuple):
    """How a saga ends that nobody cancels and whose workers live."""

    status: str
    failed_step: str | None
    results: list[str]
    compensated: list[str]
    left: list[str]
    """What could not be compensated."""


def expected_of(case: Case) -> Expected:
    done: list[int] = []
    for n, service in enumerate(case.services):
        if service.answers in ("ok", "stumbles"):
            done.append(n)
            continue
        results = [f"{each}" for each in done]
        if n > case.pivot:
            return Expected("needs_attention", f"{n}", results, [], [])
        if service.answers in ("breaks", "turns"):
            done.append(n)
        undone = [each for each in reversed(done) if case.can_undo(each)]
        left = [f"{each}" for each in undone if case.services[each].undo == "breaks"]
        compensated = [f"{each}" for each in undone if f"{each}" not in left]
        return Expected("needs_attention" if left else "failed", f"{n}", results, compensated, left)
    return Expected("completed", None, [f"{each}" for each in done], [], [])


def said_by(result: SagaResult) -> Expected:
    left = [each.step for each in result.uncompensated]
    # Owed is what was done first, first.
    return Expected(result.status, result.failed_step, list(result.results), result.compensated, left[::-1])


def check(case: Case, world: World, result: SagaResult) -> None:
    """Check that nothing is at the services that nobody knows of."""
    assert result.status in ("completed", "failed", "cancelled", "needs_attention")
    assert not world.wrong
    of_step = [key for key, _, _ in world.undid.values()]
    assert len(of_step) == len(set(of_step)), "compensated under two keys"
    order = [n for _, n, _ in world.undid.values()]
    assert order == sorted(order, reverse=True), "compensated in another order than the reverse"
    if result.status == "completed":
        assert not world.undid
        assert {n for n, _ in world.did.values()} == set(range(len(case.services)))
        return
    left = {int(each.step) for each in result.uncompensated}
    went_on = any(n >= case.pivot for n, _ in world.did.values())
    if went_on:
        assert (result.status, world.undid) == ("needs_attention", {}), "there is no way back"
        return
    assert bool(left) == (result.status == "needs_attention"), result
    for key, (n, _) in world.did.items():
        if case.can_undo(n):
            assert (key in of_step) != (n in left), f"the effect of step {n}"
    assert set(result.compensated) == {f"{n}" for _, n, _ in world.undid.values()}


async def trial(case: Case, seed: int) -> None:
    dice = random.Random(seed)
    world = World()
    first, result = await drive(case, LateStore(dice), world)
    check(case, world, result)
    if case.cancelled_at < 0:
        assert said_by(result) == expected_of(case)
    records = first.streams[run_stream("r")]
    for count in places_in(records, dice):
        store, then = LateStore(dice), world.at(count, dice)
        await cut(first, "r", count, dice, store)
        _, again = await drive(case, store, then)
        check(case, then, again)
        if case.cancelled_at < 0:
            after, before = said_by(again), expected_of(case)
            # Who was asked before and refuses now may have acted then: it is compensated, to be sure.
            doubted = [each for each in after.compensated + after.left if each == after.failed_step]
            if doubted and case.services[int(doubted[0])].answers == "refuses":
                assert (after.failed_step, after.results) == (before.failed_step, before.results)
            else:
                assert after == before, f"after {count} of {len(records)} records"


def places_in(records: Sequence[Record], dice: random.Random) -> list[int]:
    places = [count for count in range(1, len(records)) if is_possible(records, count)]
    return dice.sample(places, min(CUTS, len(places)))


@given(cases(), st.integers(0, 1 << 30))
@example(Case((Service(), Service(undo="breaks"), Service("breaks")), 3), 0)
@example(Case((Service(), Service("stumbles"), Service(), Service("breaks")), 2), 0)
@example(Case((Service(), Service(), Service()), 3, cancelled_at=1), 0)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_random_saga_leaves_nothing_behind_from_every_crash_point(case: Case, seed: int) -> None:
    asyncio.run(trial(case, seed))
