"""Sagas over the receiver, and the same written by hand as the control; what must be true of what it did."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from tests.crash import outside
from tests.crash.flows import executing, seconds_of
from tests.crash.receiver_main import Wish

from reprise import (
    Retry,
    SagaEvent,
    SagaService,
    SagaStep,
    StepRefused,
    Undo,
    current_step,
    step,
    workflow,
)
from reprise.kernel.clock import from_datetime
from reprise.workflows.saga import Saga
from reprise.workflows.saga_steps import read_plan
from reprise.workflows.services import LocalBus

BEFORE, AFTER = ("account", "card", "room"), ("charge", "letter")
"""Steps before the pivot, the pivot and what follows it."""
KINDS = ("completes", "room is refused", "charge is refused", "a person has to help", "is cancelled")
HELPED = "helped"
"""Name of the file that a person leaves who saw to what could not be compensated, with the number of the run."""


def kind_of(n: int) -> str:
    """Return what becomes of the saga of that number."""
    return KINDS[n % len(KINDS)]


def refuses(name: str, n: int) -> bool:
    """Tell whether a service does not do that step."""
    return kind_of(n) == f"{name} is refused"


def check_answer(name: str, n: int) -> None:
    """Fail where a service did the step and says something that nobody understands."""
    if name == "room" and kind_of(n) == "a person has to help":
        raise ValueError(f"{name} {n}?")


async def serve(action: str, payload: dict[str, Any], key: str) -> str:
    """Be all services: act at the receiver, or compensate there."""
    n, name = payload["input"], payload["step"]
    if action.startswith("undo "):
        with executing():
            await asyncio.sleep(seconds_of(n, 0.05))
            if name == "card" and kind_of(n) == "a person has to help" and not _helped(n).exists():
                raise ValueError(f"card {n}")
            await outside.ask(Wish("undo", payload["compensates"], name, payload["run_id"]))
        return "undone"
    until, attempt = current_step().until, current_step().attempt
    assert until is not None
    if refuses(name, n):
        with executing():
            await asyncio.sleep(seconds_of(n, 0.02))
            raise StepRefused(f"{name} {n}")
    said = await outside.act(name, n, hold=0.1, once=True, until=from_datetime(until))
    check_answer(name, n)
    if attempt == 1 and (n + len(name)) % 3 == 0:
        raise ConnectionError("the answer was lost")
    return said


def _helped(n: int) -> Path:
    return outside.folder() / f"{HELPED}-{n}"


FAST = {"timeout": 0.3, "backoff": 0.01, "max_retries": 50}
PLAN = read_plan(
    "onboarding",
    [
        *(SagaStep(name=name, service="all", compensation=f"undo {name}", **FAST) for name in BEFORE),
        SagaStep(name=AFTER[0], service="all", irreversible=True, **FAST),
        SagaStep(name=AFTER[1], service="all", **FAST),
    ],
)
onboarding = Saga(PLAN, LocalBus({"all": serve})).flow()


# ---------------------------------------------------------------- the control


@step(timeout=0.3, retry=Retry(50, backoff=0.01))
async def done_by_hand(name: str, n: int) -> str:
    if refuses(name, n):
        with executing():
            raise StepRefused(f"{name} {n}")
    await outside.act(f"{name} by hand", n, hold=0.1, once=True)
    check_answer(name, n)
    return current_step().idempotency_key


@step(timeout=0.3, retry=Retry(50, backoff=0.01))
async def undone_by_hand(name: str, key: str) -> None:
    with executing():
        await outside.ask(Wish("undo", key, f"{name} by hand", current_step().run))


@workflow
async def by_hand(n: int) -> int:
    """Be the same saga as people write it."""
    done: list[tuple[str, str]] = []
    try:
        for name in (*BEFORE, *AFTER):
            done.append((name, await done_by_hand(name, n)))
    except BaseException:
        for name, key in reversed(done):
            await undone_by_hand(name, key)
        raise
    return n


def ends_of_service(saga: str) -> set[str]:
    """Return how the run of a service in that saga may end."""
    ends = {"ends": {"completed"}, "is stopped": {"completed", "failed"}}
    return ends.get(dance_of(saga), {"failed"})


def ends_of(n: int) -> set[str]:
    """Return how the saga of that number may end."""
    ends = {"completes": {"completed"}, "is cancelled": {"cancelled", "completed"}}
    return ends.get(kind_of(n), {"failed"})


ENDS = {"onboarding": ends_of, "by_hand": ends_of} | dict.fromkeys(
    ("saga.stock", "saga.bank", "saga.post"), ends_of_service
)
EXPECTED = {
    "saga.stock": lambda saga: 2,
    "saga.bank": lambda saga: 1,
    "saga.post": lambda saga: 1,
    "onboarding": lambda n: {name: f"{name} {n}" for name in (*BEFORE, *AFTER)},
    "by_hand": lambda n: n,
}
WORKFLOWS = (onboarding, by_hand)


# ---------------------------------------------------------------- without a coordinator

DANCE = (("stock", "reserve"), ("bank", "hold"), ("stock", "pack"), ("post", "send"))
"""Reactions in the order in which each follows from the one before."""
DANCES = ("ends", "send is refused", "send makes no sense", "is stopped")


def dance_of(saga: str) -> str:
    """Return what becomes of the saga of that id."""
    return DANCES[int(saga.rpartition("-")[2]) % len(DANCES)]


async def unreact(event: SagaEvent, undo: Undo) -> None:
    with executing():
        await asyncio.sleep(seconds_of(event.data, 0.05))
        await outside.ask(Wish("undo", undo.key, undo.step, undo.run))


def _services() -> tuple[SagaService, ...]:
    services = {name: SagaService(name) for name, _ in DANCE}
    before = "begun"
    for name, reaction in DANCE:
        options = {"timeout": 0.3, "retry": Retry(50, backoff=0.01)}
        on = services[name].on(
            before, says=reaction, ends=reaction == "send", compensation=unreact, **options
        )
        before = reaction
        on(_reaction(reaction))
    return tuple(services.values())


def _reaction(name: str) -> Any:
    async def react(event: SagaEvent) -> int:
        becomes = dance_of(event.saga)
        if becomes == f"{name} is refused":
            with executing():
                raise StepRefused(event.saga)
        until = current_step().until
        assert until is not None
        await outside.act(name, event.data, hold=0.1, once=True, until=from_datetime(until))
        if becomes == f"{name} makes no sense":
            raise ValueError(event.saga)
        return int(event.data)

    react.__name__ = name
    return react


SERVICES = _services()


def left(folder: Path, run: str, *, by_hand: bool = False) -> list[str]:
    """Return the steps of a run whose effect is at the receiver and was not compensated."""
    names = [f"{name} by hand" if by_hand else name for name in (*BEFORE, *AFTER)]
    return [name for name in names if outside.left(folder, name).get(run)]


def times(folder: Path) -> Counter[str]:
    """Return how often the receiver acted for each key of a saga's step since it was last compensated."""
    found: Counter[str] = Counter()
    names = {*BEFORE, *AFTER, *(reaction for _, reaction in DANCE)}
    for one in outside.acts(folder):
        if one.name in names:
            found[one.key] = found[one.key] + 1 if one.what == "act" else 0
    return found
