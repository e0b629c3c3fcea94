"""Limits on tasks: how many of a kind are done at one time, and how many begin in a time.

A place is a lease. One for doing is held while the task is done, and renewed with its claim; one for beginning is never
given back and ends by itself. So limits hold over all workers, whatever keeps the queue, by the keeper's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from reprise.coordination.tasks import Task
from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.limit import Limit, Slot, parse_limits
from reprise.stores.lease import Grant, Lease


class Place(NamedTuple):
    """One place that a task needs."""

    lease: str
    most: int
    period: float
    """Seconds after which it is free again, whatever becomes of the task; 0 = when the task has ended."""


class Places:
    """The limits of a queue."""

    def __init__(self, queue: str, limits: Mapping[str, Limit | Iterable[Limit]]) -> None:
        self._prefix = f"queue/{queue}/"
        self._limits = {type: parse_limits(given, type) for type, given in limits.items()}

    def of(self, task: Task) -> tuple[Place, ...]:
        """Return the places that a task needs: those that are given back first.

        Raises whatever a function ``per`` of a limit raises.
        """
        if not self._limits and not task.concurrency_key:
            return ()
        slots = [
            slot
            for limit in self._limits.get(task.task_type, ())
            for slot in limit.slots(task.task_type, task.metadata, (task.payload,), {})
        ]
        if task.concurrency_key:
            slots.append(Slot("key", task.concurrency_key, task.concurrency))
        slots.sort(key=lambda slot: slot.period)
        return tuple(Place(self._prefix + s.lease, s.most, s.period / MICROSECONDS) for s in slots)


async def take(
    lease: Lease, places: Iterable[Place], holder: str, ttl: float, wait: float | None = 0
) -> list[Grant] | Place:
    """Take all places, or none and return the one that is not free; ``wait`` seconds for each, None = for ever.

    What has to be given back is taken first, so a place that ends by itself is not taken in vain.
    """
    taken: list[Grant] = []
    try:
        for place in places:
            grant = await lease.take(place.lease, holder, place.period or ttl, limit=place.most, wait=wait)
            if grant is None:
                await lease.drop(taken)
                return place
            if not place.period:
                taken.append(grant)
    except BaseException:
        await lease.drop(taken)
        raise
    return taken
