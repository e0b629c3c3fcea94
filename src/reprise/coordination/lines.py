"""Waiting for a lock in company: those of one process who want the same one stand in line at the keeper together.

Who comes alone stands in line itself. Of those who come while it waits one stands in for all: when that one is given the
lease, they have it in turn, each under a token of its own, and hand it on without asking the keeper; then it is given back.
Meanwhile the next stands in for those who came since. So a turn costs a fraction of a call. Whoever stands in line, here or
elsewhere, is overtaken by nobody who came later, and who waits behind one that stands in is in the next company: at the
latest when the line has gone round once more.

At the keeper a company is one holder of one lease, named after its first: renewed, lost and broken like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from reprise.coordination.renewing import Holding
from reprise.kernel.errors import StoreClosed, StoreUnreachable
from reprise.stores.lease import Grant, Lease

FRESH = 0.01
"""Part of the time to live for which the keeper's word that a lease is held is good enough to hand it on."""


class Turn(NamedTuple):
    """The lease as one gets it: alone, or in company for a turn."""

    grant: Grant
    asked_at: float
    """The keeper was asked for it then, by the loop's clock."""
    token: int
    """The fencing token: higher than that of the turn before, and not above that of the lease."""
    company: Company | None = None


class _Waiter:
    """One who waits in company; answered with None when its time is over."""

    __slots__ = ("among", "answer", "holder", "ttl")

    def __init__(self, holder: str, ttl: float) -> None:
        self.holder, self.ttl = holder, ttl
        self.among: dict[_Waiter, None] = {}
        self.answer: asyncio.Future[Turn | None] = asyncio.get_running_loop().create_future()

    def stand(self, among: dict[_Waiter, None]) -> None:
        self.among = among
        among[self] = None

    def end(self, turn: Turn | None = None) -> None:
        self.among.pop(self, None)
        if not self.answer.done():
            self.answer.set_result(turn)


class Company:
    """Those for whom one stands in; ``again`` is given who has to stand in line again since the lease was lost."""

    def __init__(
        self, lease: Lease, waiting: dict[_Waiter, None], again: Callable[[dict[_Waiter, None]], None]
    ) -> None:
        self._lease, self._again = lease, again
        self.waiting = waiting
        """Who has not had a turn yet, in the order of coming."""
        self.is_in_line = True
        self._token = 0

    async def stand_in(self, name: str) -> None:
        """Stand in line until the lease is given, and give the first one its turn."""
        first, asked_at = next(iter(self.waiting)), asyncio.get_running_loop().time()
        grant = await self._lease.take(name, first.holder, first.ttl, wait=None)
        self.is_in_line = False
        if grant is not None:
            self._token = grant.token - 1
            if len(self.waiting) > 1:
                grant = await self._lift(grant)
        if grant is None:
            self.over()
        elif not await self._give(grant, first.ttl, asked_at, known=True):
            await self._lease.drop([grant])

    async def hand_on(self, holding: Holding) -> bool:
        """Give the lease to the next; False = there is none, and it is to be given back.

        Raises ``StoreError`` where the keeper has to be asked and cannot be.
        """
        return await self._give(holding.grant, holding.ttl, holding.asked_at, known=False)

    def over(self) -> None:
        """Let those who had no turn stand in line again: the lease is lost."""
        waiting, self.waiting = self.waiting, {}
        if waiting:
            self._again(waiting)

    def fail(self, error: BaseException) -> None:
        """Tell all who wait what went wrong."""
        for waiter in tuple(self.waiting):
            if not waiter.answer.done():
                waiter.answer.set_exception(error)
        self.waiting.clear()

    async def _lift(self, grant: Grant) -> Grant | None:
        """Let the lease have tokens for all; None = it was lost, or given back since the keeper did not say whether it has."""
        try:
            return await self._lease.lift(grant, self._token + len(self.waiting))
        except StoreUnreachable:
            await self._lease.drop([grant])
            return None

    async def _give(self, grant: Grant, ttl: float, asked_at: float, *, known: bool) -> bool:
        """Give the lease to the next; ask the keeper first unless it is ``known`` that it is held for as long as wanted."""
        loop = asyncio.get_running_loop()
        while self.waiting:
            waiter = next(iter(self.waiting))
            if self._token >= grant.token:  # more came than there are tokens
                self.over()
                break
            if waiter.ttl == ttl and (known or loop.time() - asked_at <= ttl * FRESH):
                self._token += 1
                waiter.end(Turn(grant, asked_at, self._token, self))
                return True
            ttl, asked_at, known = waiter.ttl, loop.time(), True
            try:
                [renewed] = await self._lease.renew([grant], ttl)
            except BaseException:
                self.over()
                raise
            if renewed is None:
                self.over()
                return True
            grant = renewed
        return False


class Line:
    """Those of one process who wait for one lock; among its ``lines`` while somebody does.

    ``back`` is given a turn whose taker has gone, and the time to live that was wanted.
    """

    def __init__(
        self, lease: Lease, name: str, lines: dict[str, Line], back: Callable[[Turn, float], None]
    ) -> None:
        self._lease, self._name, self._lines, self._give_back = lease, name, lines, back
        self._alone = 0
        """How many stand in line themselves."""
        self._waiting: dict[_Waiter, None] = {}
        """For whom nobody stands in yet."""
        self._company: Company | None = None
        """For whom somebody does."""
        self._task: asyncio.Task[None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits."""
        return not (self._alone or self._waiting or self._task)

    async def enter(self, holder: str, ttl: float, wait: float | None) -> Turn | None:
        """Take the lease, or return None when it is not free within ``wait`` seconds; None = for ever."""
        if not self.is_empty:
            return await self._in_company(_Waiter(holder, ttl), wait)
        asked_at = asyncio.get_running_loop().time()
        self._alone += 1
        try:
            grant = await self._lease.take(self._name, holder, ttl, wait=wait)
        finally:
            self._alone -= 1
            self._look()
        return None if grant is None else Turn(grant, asked_at, grant.token)

    async def close(self) -> None:
        """Let nobody wait any longer."""
        closed = StoreClosed("The LockManager was stopped.", hint="Its locks cannot be waited for any more.")
        for company in (Company(self._lease, self._waiting, self.again), self._company):
            if company is not None:
                company.fail(closed)
        self._look()
        if self._task is not None:
            await asyncio.wait([self._task])

    def again(self, waiters: dict[_Waiter, None]) -> None:
        """Let some stand in line again, before those for whom nobody stands in yet."""
        line = self._lines.setdefault(self._name, self)
        if line is not self:
            return line.again(waiters)
        everybody = {**waiters, **self._waiting}
        self._waiting = {}
        for waiter in everybody:
            waiter.stand(self._waiting)
        self._call_for_one()
        return None

    async def _in_company(self, waiter: _Waiter, wait: float | None) -> Turn | None:
        waiter.stand(self._waiting)
        self._call_for_one()
        alarm = None if wait is None else asyncio.get_running_loop().call_later(wait, waiter.end)
        try:
            return await waiter.answer
        except asyncio.CancelledError:
            if not waiter.answer.cancelled() and (turn := waiter.answer.result()) is not None:
                self._give_back(turn, waiter.ttl)
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
            waiter.among.pop(waiter, None)
            self._look()

    def _call_for_one(self) -> None:
        """Let somebody stand in for those who will have come when this turn of the loop is over."""
        if self._task is None and self._waiting:
            self._task = asyncio.create_task(self._stand_in())
            self._task.add_done_callback(self._stood)

    async def _stand_in(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        company = self._company = Company(self._lease, waiting, self.again)
        await company.stand_in(self._name)

    def _stood(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and self._company is not None:
            self._company.fail(error)
        self._task = self._company = None
        self._call_for_one()
        self._look()

    def _look(self) -> None:
        """Leave the line if those for whom somebody stands there have gone, and end if there is nobody at all."""
        company, task = self._company, self._task
        if company is not None and task is not None and company.is_in_line and not company.waiting:
            task.cancel()
        if self.is_empty and self._lines.get(self._name) is self:
            del self._lines[self._name]
