"""Taking leases for a face, keeping them, and giving them back: what all locks of one manager have in common."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from itertools import count
from typing import Protocol

import msgspec

from reprise.coordination.deadlocks import AT_ONCE, TURNS, WAITS, find_cycle, owner_of, told
from reprise.coordination.keepers import name_of_process
from reprise.coordination.lines import Line, Turn
from reprise.coordination.metrics import LOCK_HOLD, LOCK_LOST, LOCK_REFUSED, LOCK_WAIT
from reprise.coordination.renewing import Holding, Renewer
from reprise.kernel.errors import DeadlockDetected, StoreError
from reprise.stores.lease import Grant, Lease
from reprise.stores.signal import Signal

_LOG = logging.getLogger(__name__)

_WAIT, _HOLD, _LOST, _REFUSED = LOCK_WAIT.of(), LOCK_HOLD.of(), LOCK_LOST.of(), LOCK_REFUSED.of()

LOCKS = "lock/"
"""Begins the names of the leases of locks."""
BROKEN = "locks/broken"
"""Tapped when somebody breaks a lock, so that who had it hears of it now and not at the next renewal."""
OWNER: ContextVar[str] = ContextVar("reprise_lock_owner", default="")
"""Who acts, where it is not the asyncio task: the thread that waits for an answer."""


class Keeps(Protocol):
    """Where leases are: one keeper, or several that vote."""

    @property
    def lease(self) -> Lease:
        """The leases."""
        ...

    @property
    def signal(self) -> Signal:
        """The taps."""
        ...


class Opens(Protocol):
    """What opens and closes it."""

    async def start(self) -> Keeps:
        """Open; idempotent."""
        ...

    async def stop(self) -> None:
        """Close; idempotent, safe before start."""
        ...


class Want(msgspec.Struct, frozen=True):
    """What kind of lock is wanted."""

    name: str
    ttl: float
    limit: int = 1
    shared: bool = False
    reentrant: bool = False

    @property
    def lease(self) -> str:
        """The name of its lease."""
        return LOCKS + self.name


class Acquirer:
    """Takes and gives back the leases of one manager."""

    def __init__(self, keeper: Opens, owner: str, wait_ttl: float) -> None:
        self.owner = owner or name_of_process()
        self._keeper = keeper
        self._wait_ttl = wait_ttl
        """Time to live of the lease by which somebody says that it waits."""
        self._lease: Lease | None = None
        self._renewer: Renewer | None = None
        self._unlisten = lambda: None
        self._numbers = count(1)
        self._lines: dict[str, Line] = {}
        """Those who wait and hold nothing, by the name of the lease."""
        self._mine: dict[str, list[Holding]] = {}
        """What is held, by owner."""
        self._dropping: dict[asyncio.Task[None], None] = {}
        self._waiting = 0
        self.counters: dict[str, int | float] = {
            "acquired": 0, "refused": 0, "released": 0, "lost": 0, "broken": 0, "deadlocks": 0,
            "wait_seconds": 0.0, "longest_wait_seconds": 0.0, "hold_seconds": 0.0, "longest_hold_seconds": 0.0,
        }  # fmt: skip

    # ------------------------------------------------------------ life

    async def start(self) -> Lease:
        """Open the keeper if it is ours, and return its leases; idempotent."""
        store = await self._keeper.start()
        if self._lease is None:
            self._lease = store.lease
            self._renewer = renewer = Renewer(self._lease, self._lost)
            self._unlisten = store.signal.listen(BROKEN, lambda _: renewer.look_now())
        return self._lease

    async def stop(self) -> None:
        """Give everything back; bodies that still run are told that they lost their locks. Idempotent."""
        if self._renewer is not None:
            self._unlisten()
            held = [holding for mine in self._mine.values() for holding in mine if not holding.lost]
            await self._renewer.stop("its manager was stopped")
            for line in tuple(self._lines.values()):
                await line.close()
            for holding in held:
                self._drop_later(holding)
            await asyncio.gather(*self._dropping, return_exceptions=True)
            self._lease = self._renewer = None
        await self._keeper.stop()

    def statistics(self) -> dict[str, int | float]:
        """Return counters, and how many locks are held and waited for now."""
        renewer = self._renewer
        return {
            **self.counters,
            "held": sum(map(len, self._mine.values())),
            "waiting": self._waiting,
            "renewals": renewer.renewals if renewer else 0,
            "failed_renewals": renewer.failures if renewer else 0,
        }

    # ------------------------------------------------------------ locks

    async def acquire(self, want: Want, wait: float | None, *, renews: bool) -> Holding | None:
        """Take a lock, None = it was not free within ``wait`` seconds (None = for ever).

        Raises:
            DeadlockDetected: it would be waited for in vain.
            StoreUnreachable: the keeper cannot be asked.
        """
        lease = self._lease or await self.start()
        owner = self._label()
        mine = self._mine.get(owner)
        if mine and want.reentrant and (again := _held_already(mine, want)) is not None:
            again.depth += 1
            return again
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        self._waiting += 1
        try:
            turn = await self._take(lease, want, owner, wait, mine)
        finally:
            self._waiting -= 1
        now = loop.time()
        self._note("wait_seconds", now - asked_at)
        _WAIT.observe(now - asked_at)
        if turn is None:
            self.counters["refused"] += 1
            _REFUSED.add()
            return None
        self.counters["acquired"] += 1
        grant, asked_at, token, company = turn
        holding = Holding(
            grant, want.ttl, asked_at, now, renews=renews, owner=owner, shared=want.shared, token=token, company=company
        )  # fmt: skip
        self._mine.setdefault(owner, []).append(holding)
        self.renewer.watch(holding)
        return holding

    async def release(self, holding: Holding, *, forgiving: bool = False) -> None:
        """Give a lock back; one that is lost is only forgotten.

        Raises:
            StoreUnreachable: the keeper cannot be told; the lock ends by itself when its time is over. With ``forgiving``
                that is only logged.
        """
        holding.depth -= 1
        if holding.depth:
            return
        self.renewer.forget(holding)
        self._forget(holding)
        now = asyncio.get_running_loop().time()
        self._note("hold_seconds", now - holding.since)
        _HOLD.observe(now - holding.since)
        if holding.lost or self._lease is None:
            return
        self.counters["released"] += 1
        try:
            await self._give_back(self._lease, holding)
        except asyncio.CancelledError:
            # Nobody may have to wait for the end of a lease because its holder was in a hurry.
            self._drop_later(holding)
            raise
        except StoreError as error:
            if not forgiving:
                raise
            _say_kept(holding.grant, error)

    @property
    def renewer(self) -> Renewer:
        """What renews the locks that are held."""
        assert self._renewer is not None, "not started"
        return self._renewer

    async def holders(self, name: str) -> list[Grant]:
        """Return who holds a lock, oldest first."""
        return await (self._lease or await self.start()).holder(LOCKS + name)

    async def find(self, prefix: str) -> list[Grant]:
        """Return who holds the locks whose names begin so, by name."""
        return await (self._lease or await self.start()).find(LOCKS + prefix)

    async def break_(self, name: str) -> list[Grant]:
        """Take a lock away from all its holders, who hear of it; return what they had."""
        lease = await self.start()
        broken = await lease.holder(LOCKS + name)
        await lease.drop(broken)
        (await self._keeper.start()).signal.wake([BROKEN])
        self.counters["broken"] += len(broken)
        return broken

    # ------------------------------------------------------------ waiting

    async def _take(
        self, lease: Lease, want: Want, owner: str, wait: float | None, mine: list[Holding] | None
    ) -> Turn | None:
        """Take a lease; whoever holds another one first says that it waits, and looks whether that can end."""
        holder, name = f"{owner}~{next(self._numbers)}", want.lease
        if not mine and wait != 0 and want.limit == 1 and not want.shared:
            return await self._line(lease, name).enter(holder, want.ttl, wait)
        asked_at = asyncio.get_running_loop().time()
        at_once = wait if not mine or want.limit > 1 else 0
        grant = await lease.take(name, holder, want.ttl, limit=want.limit, shared=want.shared, wait=at_once)
        if grant is None and at_once != wait:
            grant = await self._take_or_hang(lease, want, owner, holder, wait, mine or [])
        return None if grant is None else Turn(grant, asked_at, grant.token)

    async def _take_or_hang(
        self, lease: Lease, want: Want, owner: str, holder: str, wait: float | None, mine: list[Holding]
    ) -> Grant | None:
        loop = asyncio.get_running_loop()
        until = None if wait is None else loop.time() + wait
        said = await self._say(lease, want.lease, owner, mine)
        try:
            if said:
                await self._refuse_deadlock(lease, want, said[-1].grant, bounded=wait is not None)
            left = None if until is None else max(until - loop.time(), 0)
            return await lease.take(want.lease, holder, want.ttl, shared=want.shared, wait=left)
        finally:
            self._unsay(said)

    async def _say(self, lease: Lease, name: str, owner: str, mine: list[Holding]) -> list[Holding]:
        """Say that somebody waits for a lease, and before that whose leases it has in turn; return what says so.

        Nothing where a hundred of its waits were not taken back yet: it waits like one that holds nothing.
        """
        firsts = dict.fromkeys(owner_of(holding.grant.holder) for holding in mine)
        firsts.pop(owner, None)
        turn = [(TURNS + owner, f"{owner}~{next(self._numbers)}")] if firsts else []
        said: list[Holding] = []
        try:
            for says, what in (
                *turn,
                *((WAITS + first, TURNS + owner) for first in firsts),
                (WAITS + owner, name),
            ):
                grant = await lease.take(says, what, self._wait_ttl, limit=AT_ONCE)
                if grant is None:
                    self._unsay(said)
                    return []
                now = asyncio.get_running_loop().time()
                said.append(Holding(grant, self._wait_ttl, now, now))
                self.renewer.watch(said[-1])
        except BaseException:
            self._unsay(said)
            raise
        return said

    def _unsay(self, said: list[Holding]) -> None:
        for each in said:
            self.renewer.forget(each)
            self._drop_later(each)

    async def _refuse_deadlock(self, lease: Lease, want: Want, said: Grant, *, bounded: bool) -> None:
        cycle = await find_cycle(lease, said)
        words = told(cycle, LOCKS) if cycle else []
        # Who tries for a while what it holds itself asks whether it is free; the answer is no.
        if not words or (bounded and len(words) == 1):
            return
        self.counters["deadlocks"] += 1
        raise DeadlockDetected(
            f"To wait for the lock {want.name!r} would never end: {'; '.join(words)}.",
            hint="Take locks in the same order everywhere, or take one lock for both.",
            cycle=words,
        )

    # ------------------------------------------------------------ bookkeeping

    def _label(self) -> str:
        given = OWNER.get()
        if given:
            return f"{self.owner}/{given}"
        task = asyncio.current_task()
        # Tasks may share a name; those that live at the same time do not share an identity.
        return f"{self.owner}/{task.get_name()}.{id(task):x}" if task else self.owner

    def _lost(self, holding: Holding) -> None:
        if holding.owner:
            self.counters["lost"] += 1
            _LOST.add()
            self._forget(holding)
        if holding.company is not None:
            holding.company.over()

    def _forget(self, holding: Holding) -> None:
        mine = self._mine.get(holding.owner)
        if mine is not None and holding in mine:
            mine.remove(holding)
            if not mine:
                del self._mine[holding.owner]

    def _line(self, lease: Lease, name: str) -> Line:
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = Line(lease, name, self._lines, self._unwanted)
        return line

    def _unwanted(self, turn: Turn, ttl: float) -> None:
        """Give back what came when nobody waited for it any more."""
        self._drop_later(Holding(turn.grant, ttl, turn.asked_at, turn.asked_at, company=turn.company))

    async def _give_back(self, lease: Lease, holding: Holding) -> None:
        if holding.company is None or not await holding.company.hand_on(holding):
            await lease.drop([holding.grant])

    def _drop_later(self, holding: Holding) -> None:
        task = asyncio.create_task(self._drop(holding))
        self._dropping[task] = None
        task.add_done_callback(self._dropping.pop)

    async def _drop(self, holding: Holding) -> None:
        try:
            assert self._lease is not None
            await self._give_back(self._lease, holding)
        except StoreError as error:
            _say_kept(holding.grant, error)

    def _note(self, name: str, passed: float) -> None:
        self.counters[name] += passed
        if passed > self.counters[f"longest_{name}"]:
            self.counters[f"longest_{name}"] = passed


def _say_kept(grant: Grant, error: StoreError) -> None:
    _LOG.warning("The lease %s could not be given back, it ends by itself: %s", grant.name, error)


def _held_already(mine: list[Holding], want: Want) -> Holding | None:
    """Return what an owner holds that is as good as what it wants: the same lock, at least as exclusive."""
    name = want.lease
    for holding in mine:
        if holding.grant.name == name and (want.shared or not holding.shared):
            return holding
    return None
