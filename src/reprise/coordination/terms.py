"""Terms of leaders: what an election and those who stand for it have in common."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from types import TracebackType
from typing import Any, TypeAlias

import msgspec

from reprise.coordination.acquiring import Keeps, Opens
from reprise.coordination.deadlocks import owner_of
from reprise.coordination.guarding import Guard
from reprise.coordination.keepers import Source, random_number
from reprise.coordination.masters import keeping
from reprise.coordination.metrics import LEADER_CHANGES, LEADER_LOST
from reprise.coordination.renewing import Holding, Renewer
from reprise.kernel.errors import LeadershipLost, LockNotAcquired, StoreError
from reprise.kernel.settings import LockSettings
from reprise.stores.lease import Grant

_LOG = logging.getLogger(__name__)

VOTES = LockSettings()
"""How several keepers are asked; as for locks."""
LEADER = "leader/"
"""Begins the names of the leases of leaders, and of what is tapped when one changes."""


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


class Office:
    """What an election and its terms have in common."""

    def __init__(self, source: Source, name: str, ttl: float, candidate_id: str) -> None:
        self.name, self.ttl, self.candidate_id = name, ttl, candidate_id
        self.lease_name = LEADER + name
        self.on_gain: Callback | None = None
        self.on_loss: Callback | None = None
        self.campaigns: dict[Campaign, None] = {}
        """Those that lead."""
        self.counters = {"won": 0, "lost": 0}
        self.renewer: Renewer | None = None
        self._keeper: Opens = keeping(source, VOTES.retry_delay, VOTES.node_timeout)
        self._keeps: Keeps | None = None
        self._unlisten: Callable[[], None] = lambda: None
        self._telling: dict[asyncio.Task[None], None] = {}

    async def start(self) -> Keeps:
        """Open what is ours; idempotent."""
        store = self._keeps = await self._keeper.start()
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
        self.campaigns[campaign] = None
        self.counters["won"] += 1
        LEADER_CHANGES.of(self.name).add()
        self.renewer.watch(campaign.holding)
        self.tap()
        self._tell(self.on_gain, campaign.term)

    async def end(self, campaign: Campaign) -> None:
        """End a term after its work."""
        self.campaigns.pop(campaign, None)
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
        LEADER_LOST.of(self.name).add()
        if not term.resigned:
            self._tell(self.on_loss, term)

    def tap(self) -> None:
        """Tell all who observe that something has changed."""
        assert self._keeps is not None, "not started"
        self._keeps.signal.wake([self.lease_name])

    def _tell(self, callback: Callback | None, term: Term) -> None:
        if callback is not None:
            self._keep(asyncio.create_task(_told(callback, term)))

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._telling[task] = None
        task.add_done_callback(self._kept)
        return task

    def _kept(self, task: asyncio.Task[None]) -> None:
        del self._telling[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("A callback of the election of %r failed", self.name, exc_info=error)

    async def _give_back(self, grant: Grant) -> None:
        try:
            assert self._keeps is not None
            await self._keeps.lease.drop([grant])
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

    def __init__(self, office: Office, wait: float | None) -> None:
        self._office = office
        self._wait = wait
        self.ended = asyncio.Event()

    async def __aenter__(self) -> Term:
        office, self._guard, self.task = self._office, Guard(), asyncio.current_task()
        store = await office.start()
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        # Each term is a holder of its own: two processes that share a name by mistake do not share a term.
        holder = f"{office.candidate_id}~{random_number()}"
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


async def _told(callback: Callback, term: Term) -> None:
    told = callback(term)
    if isawaitable(told):
        await told


def leader_of(grant: Grant) -> Leader:
    """Return the leader that a grant makes."""
    return Leader(grant.name.removeprefix(LEADER), owner_of(grant.holder), grant.token, grant.expires_at)


def _lost(term: Term) -> LeadershipLost:
    return LeadershipLost(
        f"{term.candidate_id} leads {term.name!r} no more (token {term.token}): {term.lost}.",
        hint="Another one may lead by now; what was begun is for that one to finish.",
    )
