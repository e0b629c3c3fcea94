"""Keeping what one holds: one alarm of the loop renews all leases of a face, and notices each that is lost.

Whether a lease is still held is judged twice. The keeper says so at each renewal. And if it cannot be asked, we do: a
lease counts as lost when its time is over by our own monotonic clock, counted from *before* it was asked for. So nobody
goes on under a lease that others may have by then, whether or not the keeper can be reached.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from math import inf
from typing import Protocol

from reprise.kernel.errors import StoreError
from reprise.stores.lease import Grant, Lease

_LOG = logging.getLogger(__name__)

SHARE = 1 / 3
"""Part of the time to live after which a lease is renewed; so two renewals may fail."""
TOGETHER = 1 / 12
"""Part of the time to live by which a renewal may come early, so that it goes with others."""
AGAIN = 1.0
"""Seconds after which a renewal that failed is tried again at the latest."""
EARLY = 0.001
"""Seconds by which a loop may call back early; what ends by then has ended."""
DRIFT = 0.01
"""Part of the time to live by which the keeper's clock may be faster than ours."""


class Company(Protocol):
    """Others who have a lease in turn with its holder."""

    async def hand_on(self, holding: Holding) -> bool:
        """Give the lease to the next; False = there is none."""
        ...

    def over(self) -> None:
        """Hear that the lease was lost."""
        ...


class Holding:
    """A lease that is held here.

    ``on_lost`` is called once, from the loop, when it is known that the lease is lost.
    """

    __slots__ = (
        "asked_at",
        "company",
        "depth",
        "due",
        "ends",
        "grant",
        "lost",
        "on_lost",
        "owner",
        "renews",
        "shared",
        "since",
        "token",
        "ttl",
    )

    def __init__(
        self,
        grant: Grant,
        ttl: float,
        asked_at: float,
        now: float,
        *,
        renews: bool = True,
        owner: str = "",
        shared: bool = False,
        on_lost: Callable[[], None] | None = None,
        token: int = 0,
        company: Company | None = None,
    ) -> None:
        self.grant = grant
        self.token = token or grant.token
        """Its fencing token: that of its lease, or of its turn in company."""
        self.company = company
        """With whom it has the lease in turn, if with anybody."""
        self.ttl = ttl
        self.renews = renews
        self.owner = owner
        """Who holds it, as the face sees it."""
        self.shared = shared
        self.on_lost = on_lost
        self.since = now
        self.depth = 1
        """How often its owner has entered it."""
        self.lost = ""
        """Why it is not held any more, '' while it is."""
        self.ends = inf
        """When it is over unless it is renewed, by the loop's clock."""
        self.due = inf
        """When to renew it."""
        self.asked_at = asked_at
        """When the keeper was last asked, of what it answered; long ago where that is not known."""
        # Whoever had to wait does not know when the lease was given, and asks at once.
        waited = now - asked_at > ttl * SHARE
        self.given(now if waited else asked_at)
        if waited:
            self.asked_at = -inf
        if waited and renews:
            self.due = now

    def given(self, at: float) -> None:
        """Note that the lease was given or renewed at ``at`` or later."""
        self.asked_at = at
        self.ends = at + self.ttl * (1 - DRIFT)
        self.due = at + self.ttl * SHARE if self.renews else inf


class Renewer:
    """Renews holdings until they are let go of; ``on_lost`` is told of each that is lost, before the holding itself."""

    def __init__(self, lease: Lease, on_lost: Callable[[Holding], None] | None = None) -> None:
        self._lease = lease
        self._on_lost = on_lost
        self._holdings: dict[Holding, None] = {}
        """In the order in which they were taken; a set would go by addresses."""
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.renewals = 0
        self.failures = 0
        """Renewals that the keeper could not be asked for."""

    def watch(self, holding: Holding) -> None:
        """Keep a holding from now on."""
        self._holdings[holding] = None
        self._arm(min(holding.due, holding.ends))

    def forget(self, holding: Holding) -> None:
        """Keep a holding no more: its lease is about to be dropped, or may end."""
        self._holdings.pop(holding, None)

    def renew_by_itself(self, holding: Holding, *, renews: bool) -> None:
        """Renew a holding from now on, or no more."""
        holding.renews = renews
        holding.due = asyncio.get_running_loop().time() if renews else inf
        self._arm(min(holding.due, holding.ends))

    def look_now(self) -> None:
        """Renew all holdings at once: one of them may have been taken away."""
        for holding in self._holdings:
            holding.asked_at = -inf
            if holding.renews:
                holding.due = 0.0
                self._arm(0.0)

    async def extend(self, holding: Holding, ttl: float) -> None:
        """Renew a holding now, for ``ttl`` seconds from now on each time. Afterwards it may be ``lost``.

        Raises:
            StoreUnreachable: the keeper cannot be reached.
        """
        holding.ttl = ttl
        asked_at = asyncio.get_running_loop().time()
        [grant] = await self._lease.renew([holding.grant], ttl)
        self._take_in(holding, grant, ttl, asked_at)

    async def stop(self, why: str) -> None:
        """Keep nothing more: all that is held counts as lost. Idempotent."""
        for holding in tuple(self._holdings):
            self._lose(holding, why)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------ the alarm

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        due: defaultdict[float, list[Holding]] = defaultdict(list)
        for holding in tuple(self._holdings):
            if holding.ends <= now + EARLY:
                self._lose(holding, f"it was not renewed within its {holding.ttl:g} s")
            elif holding.due <= now + holding.ttl * TOGETHER:
                holding.due = inf
                due[holding.ttl].append(holding)
        for ttl, holdings in due.items():
            task = asyncio.create_task(self._renew(holdings, ttl))
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)
        if self._holdings:
            self._arm(min(min(holding.due, holding.ends) for holding in self._holdings))

    async def _renew(self, holdings: list[Holding], ttl: float) -> None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            grants = await self._lease.renew([holding.grant for holding in holdings], ttl)
        except StoreError as error:
            self.failures += 1
            _LOG.warning("%s leases could not be renewed, they are tried again: %s", len(holdings), error)
            for holding in holdings:
                holding.due = loop.time() + min(ttl * TOGETHER, AGAIN)
                self._arm(holding.due)
            return
        self.renewals += len(holdings)
        for holding, grant in zip(holdings, grants, strict=True):
            self._take_in(holding, grant, ttl, asked_at)

    def _take_in(self, holding: Holding, grant: Grant | None, ttl: float, asked_at: float) -> None:
        if holding not in self._holdings:
            return
        if grant is None:
            self._lose(holding, "it ended, passed to another holder or was broken")
            return
        holding.grant = grant
        holding.given(asked_at)
        if holding.ttl != ttl:  # it was asked for another time meanwhile; nobody knows which came last
            holding.ends, holding.due = asked_at + min(ttl, holding.ttl) * (1 - DRIFT), asked_at
        self._arm(min(holding.due, holding.ends))

    def _lose(self, holding: Holding, why: str) -> None:
        self._holdings.pop(holding, None)
        holding.lost = why
        if self._on_lost is not None:
            self._on_lost(holding)
        if holding.on_lost is not None:
            holding.on_lost()
