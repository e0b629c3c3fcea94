"""The promise of the queue: work that somebody will do, one claimer at a time.

Order is by ``order`` (smaller first), a number that one pure function computes when the task is offered
(``kernel.order``: strict with ageing, weighted fair, earliest deadline), then by the offer. A claim is a lease: it has
a token, ends after its time, and a settle with an old token is refused. Dead letters are a state.

Time is the keeper's clock: what is to happen later is said as seconds from now. What only the faces above understand
(type, payload, priority, history, result) is in ``data`` and ``outcome``, which no keeper reads; places under a limit
are leases and no matter of the queue. An offer of something new taps those who listen to :func:`tap_of` the queue; whoever
makes it claimable in another way taps them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import msgspec

from reprise.kernel.errors import ConfigurationError

STATES = ("ready", "later", "claimed", "done", "dead")
"""What tasks are found by; ``later`` = ready and not due yet."""
SETTLED = ("done", "dead", "ready", "back", "gone")
"""What a claim may end as."""
CHANGED = ("ready", "dead", "gone")
"""What a task that nobody has may become."""


class Task(msgspec.Struct, frozen=True):
    """One piece of queued work."""

    id: str
    """Also its idempotency key: offering a live id again changes nothing."""
    queue: str
    data: bytes = b""
    """What is to be done; empty once it is done."""
    order: float = 0.0
    due_at: int = 0
    """Not before this time (microseconds); 0 = at once."""
    state: str = "ready"
    """ready, claimed, done, dead."""
    claims: int = 0
    """How often it was claimed, without those that were given back untried."""
    token: int = 0
    worker: str = ""
    until: int = 0
    """End of the claim (microseconds); of one that is done or dead: end of its being kept, 0 = never."""
    note: str = ""
    """Why it was put back or died."""
    outcome: bytes = b""
    """What those who settled it left."""
    level: int = 0
    """What ``stats`` counts it under."""
    offered_at: int = 0
    ended_at: int = 0
    """When it was done or died (microseconds)."""
    delay: float = 0.0
    """A wish of the offer: not before so many seconds have passed. Not kept."""
    again: float = 0.0
    """A wish of the offer: nothing is offered while the same id was done less than so many seconds ago. Not kept."""
    is_new: bool = False
    """The id was made for it, so no other task has it and the keeper need not look. Not kept."""


class Settlement(msgspec.Struct, frozen=True):
    """How a claim ends.

    ``state``
        ``done``; ``dead``; ``ready`` = tried in vain, again after ``delay`` seconds; ``back`` = not tried, the same, but
        the claim does not count; ``gone`` = done, and nothing is kept.
    ``outcome``
        Replaces the task's; None = it stays.
    ``keep``
        Seconds for which it is kept when done or dead; None = until somebody removes it.
    """

    task: Task
    state: str
    delay: float = 0.0
    note: str = ""
    outcome: bytes | None = None
    keep: float | None = None


class QueueStats(msgspec.Struct, frozen=True):
    """What is in a queue, and what went through it."""

    ready: int = 0
    """May be claimed."""
    later: int = 0
    """Not due yet."""
    claimed: int = 0
    done: int = 0
    """Done and kept."""
    dead: int = 0
    finished: int = 0
    """Claims that ended as done or gone, ever."""
    failed: int = 0
    """Claims that ended as ready or dead, ever."""
    oldest_us: int = 0
    """For how long the oldest that may be claimed could have been claimed."""
    levels: Mapping[int, int] = {}
    """Tasks that may be claimed, by level."""
    paused: bool = False


class Queue(Protocol):
    """Queues by name."""

    claims_at_once: ClassVar[int]
    """Claims that a worker has under way at one time: 2 where the keeper does one after the other and finds the next when it
    is done with one, 1 where they would be in each other's way."""

    async def offer(self, tasks: Sequence[Task]) -> list[bool]:
        """Add tasks, all or none; return of each whether it is new.

        An id is not new while it is ready, claimed or dead, while it was done less than ``again`` seconds ago, and the
        second time in one offer.
        """
        ...

    async def claim(self, queue: str, worker: str, limit: int, ttl: float) -> list[Task]:
        """Claim up to ``limit`` ready, due tasks (and claimed ones whose claim ended) for ``ttl`` seconds.

        A queue that is paused gives nothing.
        """
        ...

    async def due(self, queue: str) -> float | None:
        """Return in how many seconds there will be something to claim; None = not by the passing of time."""
        ...

    async def extend(self, tasks: Sequence[Task], ttl: float) -> list[Task | None]:
        """Extend claims; None in the place of each that was lost."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """End claims, each for itself; return of each whether it was ended: its token is not old.

        A late settle still counts as long as nobody else has claimed the task. Raises ``ConfigurationError`` for
        another state than those of ``SETTLED``; nothing is changed.
        """
        ...

    async def names(self) -> list[str]:
        """Return the names of the queues that have tasks of any state."""
        ...

    async def find(
        self,
        queue: str,
        state: str = "",
        limit: int = 100,
        *,
        ids: Sequence[str] | None = None,
        skip: int = 0,
    ) -> list[Task]:
        """Return tasks of one state if given, of ``ids`` if given, after the first ``skip``.

        Ready ones stand in the order in which they are claimed, later ones by when they are due, claimed ones by when
        their claim ends, those that have ended by when they did. Of all states together: in their ``order``.
        """
        ...

    async def change(
        self,
        queue: str,
        ids: Sequence[str],
        *,
        order: float | None = None,
        due_at: int | None = None,
        state: str | None = None,
    ) -> int:
        """Change tasks that are ready or dead (redrive, delay, re-order, remove); return how many.

        ``state`` is one of ``CHANGED``: ``ready`` begins the count of claims anew, ``gone`` removes, also what is done.
        Raises ``ConfigurationError`` for another.
        """
        ...

    async def pause(self, queue: str, paused: bool) -> None:
        """Let nobody claim until it is resumed (``paused`` False); claims that there are go on."""
        ...

    async def stats(self, queue: str) -> QueueStats:
        """Return counts."""
        ...

    async def sweep(self, queue: str, limit: int = 1000) -> int:
        """Remove up to ``limit`` tasks that were kept for as long as they should; return how many.

        They are there for nobody any more: not found, and their ids may be offered.
        """
        ...


def taps(tasks: Sequence[Task], new: Sequence[bool]) -> list[str]:
    """Return the names to tap after an offer."""
    return list(dict.fromkeys(tap_of(task.queue) for task, is_new in zip(tasks, new, strict=True) if is_new))


def tap_of(queue: str) -> str:
    """Return the name that is tapped when there may be something to claim.

    >>> tap_of("mail")
    'queue/mail'
    """
    return f"queue/{queue}"


def check_settlements(settlements: Sequence[Settlement]) -> None:
    """Raise ``ConfigurationError`` unless all are of states that a claim may end as."""
    for settlement in settlements:
        _check(settlement.state, SETTLED)


def check_change(state: str | None) -> None:
    """Raise ``ConfigurationError`` unless it is a state that a task may be put in which nobody has."""
    if state is not None:
        _check(state, CHANGED)


def _check(state: str, known: Sequence[str]) -> None:
    if state not in known:
        raise ConfigurationError(
            f"A task cannot be put in state {state!r}.", hint=f"Use {', '.join(known[:-1])} or {known[-1]}."
        )
