"""Order keys of queues: pure functions from what is known when a task is offered to a number; smaller goes first.

Tasks with equal keys go in the order in which they were offered. Every key is a finite float, so that any store can
sort by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.priority import Priority

NEVER = float(2**62)
"""Key of a task without a deadline: microseconds beyond any date."""

WEIGHTS: Mapping[Priority, float] = MappingProxyType(
    {
        Priority.CRITICAL: 16.0,
        Priority.HIGH: 8.0,
        Priority.NORMAL: 4.0,
        Priority.LOW: 2.0,
        Priority.BACKGROUND: 1.0,
    }
)
"""Shares of the priorities where queues are fair: twice as much on each step."""


_STRICT = {priority: float(Priority.CRITICAL - priority) for priority in Priority}


def strict(priority: Priority) -> float:
    """Return the key by which the more urgent always goes first; the others may starve.

    >>> strict(Priority.CRITICAL) < strict(Priority.HIGH)
    True
    """
    return _STRICT[priority]


def aged(priority: Priority, at: int, *, step: float = 60.0) -> float:
    """Return the key by which the more urgent goes first, and none starves: each ``step`` seconds are worth one priority.

    ``at`` is when the task could first be done, in microseconds since the epoch. All grow old at the same pace, so the
    order of two tasks never changes and can be fixed when they are offered.

    >>> minute = 60_000_000
    >>> aged(Priority.HIGH, at=0) < aged(Priority.NORMAL, at=0)
    True
    >>> aged(Priority.NORMAL, at=0) < aged(Priority.HIGH, at=2 * minute)
    True
    """
    return at / MICROSECONDS + step * _STRICT[priority]


def earliest_deadline(deadline: int | None) -> float:
    """Return the key by which what is due first goes first; without a deadline, last.

    ``deadline`` is in microseconds since the epoch: the task's own, or the time of the offer plus the latency promised
    to its priority.
    """
    return NEVER if deadline is None else min(float(deadline), NEVER)


def weighted_fair(weight: float, *, last: float, served: float, cost: float = 1.0) -> float:
    """Return the key by which flows (tenants, priorities) share a queue by their weights, and none starves.

    ``last`` is the key of the flow's latest task, 0 if it has none; ``served`` that of the task that was claimed last
    in the whole queue; ``cost`` what the task takes, in any unit. A flow that was silent starts at ``served`` and so
    cannot save up credit. This is self-clocked fair queueing (Golestani 1994): the key is the virtual time at which
    the task would be finished if all flows were served at once. Raises ``ConfigurationError`` unless weight and cost
    are positive.

    >>> weighted_fair(2, last=0, served=10), weighted_fair(1, last=12, served=10)
    (10.5, 13.0)
    """
    if not (weight > 0 and cost > 0):
        raise ConfigurationError(f"weight is {weight!r}, cost is {cost!r}.", hint="Both are greater than 0.")
    return max(last, served) + cost / weight
