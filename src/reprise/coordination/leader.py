"""Electing a leader: a lease that candidates stand in line for, and work that ends with its term.

The token of a term is a fencing token: higher than that of every term before. Work is cancelled when its term is lost, yet
a leader that stands still does not notice; whoever takes its writes checks the token (see the guide on locks).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from reprise.coordination.keepers import Source, name_of_process
from reprise.coordination.terms import LEADER, Callback, Campaign, Leader, Office, Term, leader_of
from reprise.kernel.errors import ConfigurationError, LeadershipLost
from reprise.kernel.policy import Duration, seconds
from reprise.stores.store import Store

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

LOOK = 1 / 3
"""Part of the time to live after which whoever observes looks again: a leader that died taps nobody."""


class LeaderElection:
    """An election that one of any number of candidates has won, at most.

    >>> async def main() -> bool:
    ...     async with LeaderElection("memory://", "reports", ttl=15) as election, election.campaign() as term:
    ...         return term.token > 0
    >>> asyncio.run(main())
    True

    Args:
        source: a URL, a store, a ``Reprise``, or a client of redis-py's asyncio side; or a list of three or five of them
            that know nothing of each other: then who leads is what a majority says.
        name: what is led.
        ttl: seconds (or timedelta) after which another one leads when the leader is killed.
        candidate_id: how this candidate is called; default host, process and a number.
        on_gain: called with each term that is won; plain or async, and then it goes on beside the work.
        on_loss: called with each term that is over, for whatever reason (``term.lost``), as soon as that is known.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        *,
        ttl: Duration = 15.0,
        candidate_id: str = "",
        on_gain: Callback | None = None,
        on_loss: Callback | None = None,
    ) -> None:
        length = seconds(ttl, "ttl")
        if not name or length <= 0:
            raise ConfigurationError(
                f"LeaderElection({name!r}, ttl={length:g})", hint="It needs a name and a positive ttl."
            )
        self.name = name
        self.candidate_id = candidate_id or name_of_process()
        self._office = Office(source, name, length, self.candidate_id)
        self._office.on_gain, self._office.on_loss = on_gain, on_loss

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Open what is ours; idempotent, and done by the first campaign if nobody else does it.

        Raises:
            StoreUnreachable: there is no server.
        """
        await self._office.start()

    async def stop(self) -> None:
        """Resign, wait until the work has ended (a time to live at most), and close what is ours; idempotent."""
        await self.resign()
        await self._office.stop()

    def campaign(self, timeout: Duration | None = None) -> Campaign:
        """Return a scope: ``async with election.campaign() as term`` waits to be elected, and leads while its body runs.

        Candidates are elected in the order in which they came. The body is cancelled when the term is lost, and
        ``LeadershipLost`` comes out. After ``resign`` it ends without an error.

        ``timeout`` is in seconds, None = for ever; over it is ``LockNotAcquired``.
        """
        return Campaign(self._office, None if timeout is None else seconds(timeout, "timeout"))

    async def lead(self, work: Callable[[Term], Awaitable[T]]) -> T | None:
        """Do work as the leader, again from its start in a later term if one is lost; return what it returns.

        After ``resign`` or ``stop`` it returns None. Raises what the work raises, and ``StoreUnreachable`` when the
        keeper cannot be asked who leads.
        """
        while True:
            try:
                async with self.campaign() as term:
                    return await work(term)
            except LeadershipLost as lost:
                _LOG.warning("%s", lost)
            else:
                return None

    async def leader(self) -> Leader | None:
        """Return who leads now, None = nobody.

        Raises:
            StoreUnreachable: the keeper cannot be asked.
        """
        store = await self._office.start()
        grants = await store.lease.holder(self._office.lease_name)
        return leader_of(grants[0]) if grants else None

    async def observe(self) -> AsyncGenerator[Leader | None]:
        """Yield who leads, at once and again whenever that changes; None = nobody.

        A change that another one follows at once may be left out; the newest never is. That a leader died is noticed
        within a third of the time to live after the end of its term.
        """
        office, tapped = self._office, asyncio.Event()
        store = await office.start()
        unlisten = store.signal.listen(office.lease_name, lambda _: tapped.set())
        seen = -1
        try:
            while True:
                tapped.clear()
                leader = await self.leader()
                token = leader.token if leader else 0
                if token != seen:
                    seen = token
                    yield leader
                with suppress(TimeoutError):
                    async with asyncio.timeout(office.ttl * LOOK):
                        await tapped.wait()
        finally:
            unlisten()

    async def resign(self) -> bool:
        """Give up the term that is held here, if any; return whether there was one.

        Its body is cancelled where it waits, or at its next ``await`` if it is what calls, and its scope ends without
        an error. The next candidate in line is elected when the body has ended.
        """
        campaigns = tuple(self._office.campaigns)
        for campaign in campaigns:
            campaign.resign()
        return bool(campaigns)

    async def depose(self) -> Leader | None:
        """End the term of whoever leads, here or elsewhere, and return who did; None = nobody.

        Its work is cancelled as soon as it hears of it; a process that stands still does not hear, and only its token
        keeps it from writing.
        """
        store = await self._office.start()
        grants = await store.lease.holder(self._office.lease_name)
        await store.lease.drop(grants)
        self._office.tap()
        return leader_of(grants[0]) if grants else None

    def statistics(self) -> dict[str, int]:
        """Return counters: terms won and lost; whether one is held now; renewals, and those that failed."""
        office, renewer = self._office, self._office.renewer
        return {
            **office.counters,
            "leading": len(office.campaigns),
            "renewals": renewer.renewals if renewer else 0,
            "failed_renewals": renewer.failures if renewer else 0,
        }


async def leaders(store: Store) -> list[Leader]:
    """Return who leads in all elections of a store, by name."""
    return [leader_of(grant) for grant in await store.lease.find(LEADER)]
