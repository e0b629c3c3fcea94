"""Electing a leader: a lease that candidates stand in line for, and work that ends with its term.

The token of a term is a fencing token: higher than that of every term before. Work is cancelled when its term is lost, yet
a leader that stands still does not notice; whoever takes its writes checks the token (see the guide on locks).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

import msgspec

from reprise.coordination.deadlocks import owner_of
from reprise.coordination.guarding import Guard
from reprise.coordination.keepers import Keeper, Source
from reprise.coordination.renewing import Holding, Renewer
from reprise.kernel.errors import ConfigurationError, LeadershipLost, LockNotAcquired, StoreError
from reprise.kernel.policy import Duration, seconds
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.lease import Grant
from reprise.stores.store import Store

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

LEADER = "leader/"
"""Begins the names of the leases of leaders, and of what is tapped when one changes."""
LOOK = 1 / 3
"""Part of the time to live after which whoever observes looks again: a leader that died taps nobody."""


class Leader(msgspec.Struct, frozen=True):
    """Who leads."""

    name: str
    """Of the election."""
    candidate_id: str
    token: int
    """The fencing token of the term."""
    expires_at: int
    """Microseconds since the epoch by the keeper's clock; later when it is renewed."""


class Term:
    """The time for which a candidate leads."""

    def __init__(self, name: str, candidate_id: str, holding: Holding) -> None:
        self.name = name
        self.candidate_id = candidate_id
        self._holding = holding
        self.resigned = False
        """Whether it was given up."""

    @property
    def token(self) -> int:
        """The fencing token: higher than that of every term before."""
        return self._holding.grant.token

    @property
    def lost(self) -> str:
        """Why it is known to be over, '' while it is not."""
        return "it was given up" if self.resigned else self._holding.lost

    def check(self) -> None:
        """Raise ``LeadershipLost`` when the term is known to be over; for threads, which cannot be cancelled."""
        if self.lost:
            raise _lost(self)


Callback: TypeAlias = Callable[[Term], Awaitable[None] | None]
"""What is told of a term; plain or async."""


class _Office:
    """What an election and its terms have in common."""

    def __init__(self, source: Source, name: str, ttl: float, candidate_id: str) -> None:
        self.name, self.ttl, self.candidate_id = name, ttl, candidate_id
        self.lease_name = LEADER + name
        self.on_gain: Callback | None = None
        self.on_loss: Callback | None = None
        self.campaigns: set[Campaign] = set()
        """Those that lead."""
        self.counters = {"won": 0, "lost": 0}
        self.renewer: Renewer | None = None
        self._keeper = Keeper(source)
        self._unlisten: Callable[[], None] = lambda: None
        self._telling: set[asyncio.Task[None]] = set()

    async def start(self) -> Store:
        """Open what is ours; idempotent."""
        store = await self._keeper.start()
        if self.renewer is None:
            self.renewer = renewer = Renewer(store.lease)
            self._unlisten = store.signal.listen(self.lease_name, lambda _: renewer.look_now())
        return store

    async def stop(self) -> None:
        """End all terms when their work has ended, or has had a time to live to do so; close what is ours."""
        here = asyncio.current_task()
        ending = [asyncio.create_task(c.ended.wait()) for c in self.campaigns if c.task is not here]
        if ending:
            _, late = await asyncio.wait(ending, timeout=self.ttl)
            for waiting in late:
                waiting.cancel()
        for campaign in tuple(self.campaigns):
            await self.end(campaign)
        if self.renewer is not None:
            self._unlisten()
            await self.renewer.stop("its election was stopped")
            self.renewer = None
        await asyncio.gather(*self._telling, return_exceptions=True)
        await self._keeper.stop()

    def begin(self, campaign: Campaign) -> None:
        """Begin a term."""
        assert self.renewer is not None
        self.campaigns.add(campaign)
        self.counters["won"] += 1
        self.renewer.watch(campaign.holding)
        self.tap()
        self._tell(self.on_gain, campaign.term)

    async def end(self, campaign: Campaign) -> None:
        """End a term after its work."""
        self.campaigns.discard(campaign)
        campaign.ended.set()
        if campaign.holding.lost or self.renewer is None:
            return
        self.renewer.forget(campaign.holding)
        self.give_up(campaign.term)
        # Nobody may have to wait for the end of a term because its leader was in a hurry.
        await asyncio.shield(self._keep(asyncio.create_task(self._give_back(campaign.holding.grant))))

    def give_up(self, term: Term) -> None:
        """Note that a term is given up."""
        if not term.lost:
            term.resigned = True
            self._tell(self.on_loss, term)

    def lose(self, term: Term) -> None:
        """Note that a term is lost."""
        self.counters["lost"] += 1
        if not term.resigned:
            self._tell(self.on_loss, term)

    def tap(self) -> None:
        """Tell all who observe that something has changed."""
        self._keeper.store.signal.wake([self.lease_name])

    def _tell(self, callback: Callback | None, term: Term) -> None:
        if callback is not None:
            self._keep(asyncio.create_task(_told(callback, term)))

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._telling.add(task)
        task.add_done_callback(self._kept)
        return task

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("A callback of the election of %r failed", self.name, exc_info=error)

    async def _give_back(self, grant: Grant) -> None:
        try:
            await self._keeper.store.lease.drop([grant])
        except StoreError as error:
            _LOG.warning("That %r has no leader any more could not be said: %s", self.name, error)
        else:
            self.tap()


class Campaign:
    """Stands for election and leads: what :meth:`LeaderElection.campaign` returns, for one ``async with``."""

    holding: Holding
    term: Term
    task: asyncio.Task[Any] | None = None
    _guard: Guard

    def __init__(self, office: _Office, wait: float | None) -> None:
        self._office = office
        self._wait = wait
        self.ended = asyncio.Event()

    async def __aenter__(self) -> Term:
        office, self._guard, self.task = self._office, Guard(), asyncio.current_task()
        store = await office.start()
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        # Each term is a holder of its own: two processes that share a name by mistake do not share a term.
        holder = f"{office.candidate_id}~{_number()}"
        grant = await store.lease.take(office.lease_name, holder, office.ttl, wait=self._wait)
        if grant is None:
            raise LockNotAcquired(
                f"{office.candidate_id} was not elected leader of {office.name!r} within {self._wait:g} s.",
                hint="Wait longer (timeout=), or without an end.",
            )
        self.holding = Holding(grant, office.ttl, asked_at, loop.time(), on_lost=self._lost)
        self.term = Term(office.name, office.candidate_id, self.holding)
        office.begin(self)
        return self.term

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        ours = self._guard.leave(error)
        await self._office.end(self)
        if self.term.resigned:
            return ours
        if error is None or ours:
            raise _lost(self.term) from error
        error.add_note(f"The term as leader of {self.term.name!r} was lost meanwhile: {self.term.lost}.")
        return False

    def resign(self) -> None:
        """End the term and its body."""
        self._office.give_up(self.term)
        self._guard.end()

    def _lost(self) -> None:
        self._office.lose(self.term)
        self._guard.end()


class LeaderElection:
    """An election that one of any number of candidates has won, at most.

    >>> async def main() -> bool:
    ...     async with LeaderElection("memory://", "reports", ttl=15) as election, election.campaign() as term:
    ...         return term.token > 0
    >>> asyncio.run(main())
    True

    Args:
        source: a URL, a store, a ``Reprise``, or a client of redis-py's asyncio side.
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
        self.candidate_id = candidate_id or f"{socket.gethostname()}:{os.getpid()}:{_number()}"
        self._office = _Office(source, name, length, self.candidate_id)
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


async def _told(callback: Callback, term: Term) -> None:
    told = callback(term)
    if isawaitable(told):
        await told


async def leaders(store: Store) -> list[Leader]:
    """Return who leads in all elections of a store, by name."""
    return [leader_of(grant) for grant in await store.lease.find(LEADER)]


def leader_of(grant: Grant) -> Leader:
    """Return the leader that a grant makes."""
    return Leader(grant.name.removeprefix(LEADER), owner_of(grant.holder), grant.token, grant.expires_at)


def _lost(term: Term) -> LeadershipLost:
    return LeadershipLost(
        f"{term.candidate_id} leads {term.name!r} no more (token {term.token}): {term.lost}.",
        hint="Another one may lead by now; what was begun is for that one to finish.",
    )


def _number() -> str:
    return SURROUNDINGS.get().randomness(3).hex()
