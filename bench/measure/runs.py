"""A million runs that look like real ones, for benches of the index of runs."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

DAY = 86_400_000_000
NOW = 1_790_000_000_000_000
"""Microseconds: when the newest run was started."""
DAYS = 90

_WORKFLOWS = (
    "order",
    "survey",
    "import",
    "mail",
    "report",
    "ship",
    "refund",
    "index",
    "train",
    "sync",
    "audit",
    "rare",
)
_ERRORS = (
    "TimeoutError: no answer from 10.{}.{}.7 within 30 s",
    "ConnectionError: connection reset by peer while reading part {} of {}",
    "KeyError: 'customer_{}_{}'",
    "RateLimited: 429 from the model provider, retry after {}.{} s",
    "ValueError: the total {} does not match the sum {}",
    "StepFailed: card {}{} was declined",
)


class Run(NamedTuple):
    """One run of the bench."""

    id: str
    workflow: str
    status: str
    created_at: int
    parent: str | None
    owner: str | None
    due_at: int | None
    tags: dict[str, Any]
    error: str


def runs(count: int) -> Iterator[Run]:
    """Yield runs, oldest first: families of a parent and its children, tags of every frequency, some errors.

    ``legacy`` is a numeric tag of the oldest fifth alone, ``case`` a tag of every 50,000th run, the workflow ``rare`` is
    that of every 20,000th and the status ``stranded`` that of every 10,000th.
    """
    dice = Random(1)  # noqa: S311 (figures that are the same each time)
    step = DAYS * DAY // count
    parent: str | None = None
    left = 0
    for n in range(count):
        at = NOW - (count - n) * step
        id = f"{at // 1000:013x}{n:09x}"
        if left:
            left -= 1
        else:
            parent, left = None, dice.choice((0, 0, 1, 4, 20))
        yield _run(dice, n, count, id, at, parent)
        if parent is None:
            parent = id


def _run(dice: Random, n: int, count: int, id: str, at: int, parent: str | None) -> Run:
    workflow = "rare" if n % 20_000 == 7 else _WORKFLOWS[min(int(dice.expovariate(0.5)), 10)]
    chance = dice.random()
    status = "failed" if chance < 0.05 else "cancelled" if chance < 0.06 else "completed"
    if n % 10_000 == 3:
        status = "stranded"
    elif n > count - count // 100:
        status = "waiting" if chance < 0.5 else status
    tags: dict[str, Any] = {
        "env": "prod" if chance * 7 % 1 < 0.6 else "staging",
        "tenant": f"t{int(dice.paretovariate(0.7)) % 500}",
    }
    if dice.random() < 0.6:
        tags["amount"] = round(dice.expovariate(1 / 80), 2)
    if n < count // 5:
        tags["legacy"] = n
    if n % 50_000 == 11:
        tags["case"] = "needle"
    if n % 3 == 0:
        tags["vip"] = chance < 0.3
    error = (
        dice.choice(_ERRORS).format(dice.randrange(200), dice.randrange(200))
        if status in ("failed", "stranded")
        else ""
    )
    owner, due = (f"w{n % 4}", at + DAY) if status == "waiting" else (None, None)
    return Run(id, workflow, status, at, parent, owner, due, tags, error)
