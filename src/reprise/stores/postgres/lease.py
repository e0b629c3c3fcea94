"""Leases in PostgreSQL: decided by the server, under its clock.

Who waits holds a ticket in a table, so the order is the same for all processes. Whoever leaves a lease taps the first
in line; when a lease ends by itself, the first in line looks again at that time. A ticket is shown again every few
seconds; that of a process that died is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.ids import Counter
from reprise.stores.lease import Grant
from reprise.stores.postgres.connections import Pool
from reprise.stores.postgres.statements import statements
from reprise.stores.postgres.taps import Taps

SQL = statements("lease.sql")

SHOWN_EVERY, TICKET_LIFE = 5.0, 15.0
"""Seconds after which who waits looks again unasked, and after which a ticket not shown is void."""


class _Wish(msgspec.Struct, frozen=True):
    name: str
    holder: str
    ttl: float
    limit: int
    shared: bool
    ticket: int = 0


class PostgresLease:
    """Leases by name."""

    def __init__(self, pool: Pool, taps: Taps) -> None:
        self._pool = pool
        self._taps = taps
        self._tickets = Counter()
        self._cleaning: set[asyncio.Task[None]] = set()

    async def take(
        self,
        name: str,
        holder: str,
        ttl: float,
        *,
        limit: int = 1,
        shared: bool = False,
        wait: float | None = 0,
    ) -> Grant | None:
        """Take the lease for ``ttl`` seconds, or return None when it is not free within ``wait`` seconds.

        Raises ``ConfigurationError`` for a ``ttl`` or ``limit`` that is not positive.
        """
        if ttl <= 0 or limit < 1:
            raise ConfigurationError(
                f"The lease {name} was asked for {ttl} s and {limit} holders.", hint="Both must be positive."
            )
        wish = _Wish(name, holder, ttl, limit, shared)
        if wait == 0:
            return (await self._attempt(wish))[0]
        wish = msgspec.structs.replace(wish, ticket=self._tickets.new())
        with self._taps.expect(wish.ticket) as tapped:
            try:
                return await self._wait(wish, tapped, wait)
            except asyncio.CancelledError:
                self._clean_up(self._leave(wish))
                raise

    async def _wait(self, wish: _Wish, tapped: asyncio.Event, wait: float | None) -> Grant | None:
        loop = asyncio.get_running_loop()
        until = None if wait is None else loop.time() + wait
        while True:
            tapped.clear()
            await self._taps.listening()
            grant, look_again = await self._attempt(wish)
            if grant is not None:
                return grant
            left = SHOWN_EVERY if until is None else until - loop.time()
            if left <= 0:
                await self._leave(wish)
                return None
            try:
                async with asyncio.timeout(min(look_again, SHOWN_EVERY, left)):
                    await tapped.wait()
            except TimeoutError:
                continue

    async def _attempt(self, wish: _Wish) -> tuple[Grant | None, float]:
        """Try once; return the grant, or after how many seconds another try may help.

        What the server does is not undone by the caller's cancellation, so that waits for the answer and gives a lease
        that came too late back.
        """
        attempt = asyncio.ensure_future(self._ask(wish))
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            self._clean_up(self._return(attempt))
            raise

    async def _ask(self, wish: _Wish) -> tuple[Grant | None, float]:
        arguments = (
            wish.name,
            wish.holder,
            _us(wish.ttl),
            wish.limit,
            wish.shared,
            wish.ticket,
            _us(TICKET_LIFE),
        )
        [row] = await self._pool.run(lambda c: c.fetch(SQL["take"], *arguments))
        if row["token"] is not None:
            return Grant(wish.name, wish.holder, row["token"], row["expires_at"]), 0.0
        return None, max(row["look_again_us"] or 0, 1000) / MICROSECONDS

    async def _return(self, attempt: asyncio.Future[tuple[Grant | None, float]]) -> None:
        grant, _ = await attempt
        if grant is not None:
            await self.drop([grant])

    async def _leave(self, wish: _Wish) -> None:
        await self._pool.run(lambda c: c.execute(SQL["leave"], wish.name, wish.ticket))

    def _clean_up(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def renew(self, grants: Sequence[Grant], ttl: float) -> list[Grant | None]:
        """Extend grants by ``ttl`` seconds from now; None in the place of each that was lost."""
        if not grants:
            return []
        columns = _columns(grants)
        rows = await self._pool.run(lambda c: c.fetch(SQL["renew"], *columns, _us(ttl)))
        renewed = {(fresh.name, fresh.holder, fresh.token): fresh for fresh in _grants(rows)}
        return [renewed.get((grant.name, grant.holder, grant.token)) for grant in grants]

    async def drop(self, grants: Sequence[Grant]) -> None:
        """Give grants back; those already lost are ignored."""
        if grants:
            columns = _columns(grants)
            await self._pool.run(lambda c: c.execute(SQL["drop"], *columns))

    async def holder(self, name: str) -> list[Grant]:
        """Return the live grants of a name, oldest first."""
        return _grants(await self._pool.run(lambda c: c.fetch(SQL["holder"], name)))

    async def find(self, prefix: str = "") -> list[Grant]:
        """Return the live grants of all names that begin with ``prefix``, by name, then oldest first."""
        return _grants(await self._pool.run(lambda c: c.fetch(SQL["find"], prefix)))

    async def lift(self, grant: Grant, token: int) -> Grant | None:
        """Give a grant a token that is at least ``token``, and every later one a higher; None when it was lost.

        One call goes a million further at most.
        """
        arguments = (grant.name, grant.holder, grant.token, token)
        rows = await self._pool.run(lambda c: c.fetch(SQL["lift"], *arguments))
        return next(iter(_grants(rows)), None)

    async def settle(self) -> None:
        """Wait until what cancelled callers left behind is cleaned up."""
        await asyncio.gather(*self._cleaning, return_exceptions=True)


def _grants(rows: Iterable[Mapping[str, Any]]) -> list[Grant]:
    return [Grant(row["name"], row["holder"], row["token"], row["expires_at"]) for row in rows]


def _columns(grants: Sequence[Grant]) -> tuple[list[str], list[str], list[int]]:
    return (
        [grant.name for grant in grants],
        [grant.holder for grant in grants],
        [grant.token for grant in grants],
    )


def _us(seconds: float) -> int:
    return round(seconds * MICROSECONDS)
