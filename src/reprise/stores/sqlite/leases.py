"""Leases over one SQLite file.

A take, a renewal and a drop are jobs of the writer and share its commits. Who waits draws a ticket; only the holder
of the lowest live ticket of a name may take it, and it is tapped when the lease is dropped or looks again when it
ends. Nobody hands a lease to anybody, so a waiter that dies in the moment of its turn takes nothing along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import ConfigurationError
from reprise.stores.lease import Grant
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.meta import KeeperClock, stored
from reprise.stores.sqlite.readers import Readers
from reprise.stores.sqlite.rows import check_row, sealed
from reprise.stores.sqlite.signal import SQLiteSignal
from reprise.stores.sqlite.statements import Statements
from reprise.stores.sqlite.writer import Transaction, Writer

SQL = Statements("leases.sql")

TICKET_TTL = 30.0
"""Seconds after which the ticket of a process that lives but does not look (it is stopped) is void."""
LOOK_AGAIN = 10.0
"""Seconds after which a waiter looks again, whatever happens, and renews its ticket."""
KEPT_ENDED = 3600
"""Seconds for which a grant that ended is kept when its name is not asked for."""
_LAST_TICKET = 2**63 - 1


class _Wish(msgspec.Struct):
    """What a caller asks for."""

    name: str
    holder: str
    ttl: float
    limit: int
    shared: bool
    waits: bool
    ticket: int = 0


class _Answer(msgspec.Struct, frozen=True):
    """What a try came to."""

    grant: Grant | None
    fresh: bool = False
    """Whether the grant did not exist before."""
    ticket: int = 0
    look_in: float = LOOK_AGAIN
    """Seconds until a lease that stands in the way ends."""
    wanted: bool = False
    """Whether others still wait for the name."""


class SQLiteLease:
    """Leases by name."""

    def __init__(self, writer: Writer, readers: Readers, signal: SQLiteSignal, clock: KeeperClock) -> None:
        self._writer = writer
        self._readers = readers
        self._signal = signal
        self._clock = clock
        self._lines: dict[str, list[_Wish]] = {}
        """Those of this process that wait, by name, in the order of their tickets."""

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
        wish = _Wish(name, holder, ttl, limit, shared, waits=wait != 0)
        if not wish.waits:
            return (await self._try(wish)).grant
        line = self._lines.setdefault(name, [])
        line.append(wish)
        try:
            return await self._wait(wish, line, wait)
        finally:
            line.remove(wish)
            if line:
                self._tap([name])
            else:
                self._lines.pop(name, None)

    async def renew(self, grants: Sequence[Grant], ttl: float) -> list[Grant | None]:
        """Extend grants by ``ttl`` seconds from now; None in the place of each that was lost."""
        return (
            await self._writer.submit(lambda transaction: _renew(transaction, grants, ttl)) if grants else []
        )

    async def drop(self, grants: Sequence[Grant]) -> None:
        """Give grants back; those already lost are ignored."""
        if grants:
            await self._submit(lambda transaction: _drop(transaction, grants))

    async def holder(self, name: str) -> list[Grant]:
        """Return the live grants of a name, oldest first."""

        def look(connection: Connection) -> list[Grant]:
            now = self._clock.read(stored(connection, "clock"))
            return [grant for grant, _ in _grants(connection, name) if grant.expires_at > now]

        return await self._readers.read(look)

    async def find(self, prefix: str = "") -> list[Grant]:
        """Return the live grants of all names that begin with ``prefix``, by name, then oldest first."""

        def look(connection: Connection) -> list[Grant]:
            now = self._clock.read(stored(connection, "clock"))
            found = [_to_grant(row)[0] for row in connection.execute(SQL["find"], (prefix,)).fetchall()]
            return [grant for grant in found if grant.expires_at > now]

        return await self._readers.read(look)

    async def lift(self, grant: Grant, token: int) -> Grant | None:
        """Give a grant a token that is at least ``token``, and every later one a higher; None when it was lost."""
        return await self._writer.submit(lambda transaction: _lift(transaction, grant, token))

    async def forget_ended(self) -> None:
        """Delete grants that ended long ago and whose names nobody asked for since."""

        def work(transaction: Transaction) -> None:
            long_ago = stored(transaction.connection, "clock") - KEPT_ENDED * MICROSECONDS
            transaction.connection.execute(SQL["delete_ended"], (long_ago,))

        await self._writer.submit(work)

    def begin_epoch(self, transaction: Transaction) -> None:
        """End all leases; whoever waits shows its ticket again when it looks."""
        transaction.connection.execute(SQL["delete_all"])
        transaction.connection.execute(SQL["delete_tickets"])

    async def waiting(self, name: str) -> int:
        """Return how many tickets there are for a name, of all processes."""
        return await self._readers.read(lambda c: c.execute(SQL["count_tickets"], (name,)).fetchone()[0])

    # ------------------------------------------------------------ waiting

    async def _wait(self, wish: _Wish, line: list[_Wish], wait: float | None) -> Grant | None:
        """Try, and try again whenever it is worth it; of those in this process a tap wakes only the first."""
        loop = asyncio.get_running_loop()
        deadline = None if wait is None else loop.time() + wait
        tapped = asyncio.Event()
        # Listen before the first try, else a lease given back right after it would go unnoticed.
        end = self._signal.listen(_tap_name(wish.name), lambda _: tapped.set() if line[0] is wish else None)
        try:
            while True:
                tapped.clear()
                answer = await self._try(wish)
                left = LOOK_AGAIN if deadline is None else deadline - loop.time()
                if answer.grant is not None or left <= 0:
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, answer.look_in if line[0] is wish else LOOK_AGAIN)):
                        await tapped.wait()
        except BaseException:
            self._leave(wish)
            raise
        finally:
            end()
        if answer.grant is None:
            await self._leave(wish)
        elif answer.wanted:
            self._tap([wish.name])  # with shared leases or a limit there may be room for the next one too
        return answer.grant

    async def _try(self, wish: _Wish) -> _Answer:
        process, is_alive = self._signal.address, self._signal.is_alive
        future = self._writer.submit(lambda transaction: _take(transaction, wish, process, is_alive))
        try:
            answer: _Answer = await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(lambda f: self._give_back(wish, f))
            raise
        wish.ticket = answer.ticket
        return answer

    def _give_back(self, wish: _Wish, future: asyncio.Future[_Answer]) -> None:
        """Undo a try whose caller was cancelled before it could know."""
        if future.cancelled() or future.exception() is not None:
            return
        answer = future.result()
        wish.ticket = answer.ticket
        self._leave(wish)
        if answer.grant is not None and answer.fresh:
            grants = [answer.grant]
            self._submit(lambda transaction: _drop(transaction, grants))

    def _leave(self, wish: _Wish) -> asyncio.Future[list[str]]:
        """Give the ticket back, also when nobody waits for that to be done."""
        ticket, wish.ticket = wish.ticket, 0
        return self._submit(lambda transaction: _discard(transaction, ticket, wish.name))

    def _submit(self, work: Callable[[Transaction], list[str]]) -> asyncio.Future[list[str]]:
        """Queue a job that returns the names for which somebody waits, who then are tapped."""
        future: asyncio.Future[list[str]] = self._writer.submit(work)

        def tap(future: asyncio.Future[list[str]]) -> None:
            # A ticket or lease that could not be given back ends by itself.
            if not future.cancelled() and future.exception() is None:
                self._tap(future.result())

        future.add_done_callback(tap)
        return future

    def _tap(self, names: Sequence[str]) -> None:
        if names:
            self._signal.wake([_tap_name(name) for name in names])


# ---------------------------------------------------------------- jobs of the writer


def _take(transaction: Transaction, wish: _Wish, process: str, is_alive: Callable[[str], bool]) -> _Answer:
    connection, now = transaction.connection, transaction.counters.now()
    grants = _live_grants(connection, wish.name, now)
    mine = next((grant for grant, _ in grants if grant.holder == wish.holder), None)
    others = [shared for grant, shared in grants if grant.holder != wish.holder]
    free = _is_free(wish, others)
    # Who holds it may renew past the queue; everybody else stands behind those who wait.
    if free and mine is None:
        free = not _somebody_before(connection, wish, now, process, is_alive)
    if free:
        token = transaction.counters.new_token() if mine is None else mine.token
        grant = Grant(wish.name, wish.holder, token, now + round(wish.ttl * MICROSECONDS))
        _put(connection, grant, wish.shared)
        if wish.ticket:
            connection.execute(SQL["delete_ticket"], (wish.ticket,))
        return _Answer(grant, mine is None, wanted=_is_wanted(connection, wish.name))
    if not wish.waits:
        return _Answer(None)
    ticket = wish.ticket or transaction.counters.new_token()
    connection.execute(
        SQL["put_ticket"], (ticket, wish.name, process, now + round(TICKET_TTL * MICROSECONDS))
    )
    ends = min((grant.expires_at for grant, _ in grants), default=now)
    look_in = min(max((ends - now) / MICROSECONDS, 0.001), LOOK_AGAIN) if grants else LOOK_AGAIN
    return _Answer(None, ticket=ticket, look_in=look_in)


def _is_free(wish: _Wish, others: Sequence[bool]) -> bool:
    if others and (wish.shared or any(others)):
        return wish.shared and all(others)
    return len(others) < wish.limit


def _somebody_before(
    connection: Connection, wish: _Wish, now: int, process: str, is_alive: Callable[[str], bool]
) -> bool:
    """Return whether a live waiter has a lower ticket; void tickets that are met are removed."""
    rows = connection.execute(SQL["tickets"], (wish.name, wish.ticket or _LAST_TICKET)).fetchall()
    for ticket, owner, until in rows:
        if until > now and (owner == process or is_alive(owner)):
            return True
        connection.execute(SQL["delete_ticket"], (ticket,))
    return False


def _renew(transaction: Transaction, grants: Sequence[Grant], ttl: float) -> list[Grant | None]:
    connection, now = transaction.connection, transaction.counters.now()
    renewed: list[Grant | None] = []
    for grant in grants:
        known = _known(connection, grant, now)
        if known is None:
            renewed.append(None)
            continue
        fresh = Grant(grant.name, grant.holder, grant.token, now + round(ttl * MICROSECONDS))
        _put(connection, fresh, known[1])
        renewed.append(fresh)
    return renewed


def _lift(transaction: Transaction, grant: Grant, token: int) -> Grant | None:
    known = _known(transaction.connection, grant, transaction.counters.now())
    if known is None or known[0].token >= token:
        return known and known[0]
    lifted = msgspec.structs.replace(known[0], token=transaction.counters.new_token(token))
    _put(transaction.connection, lifted, known[1])
    return lifted


def _known(connection: Connection, grant: Grant, now: int) -> tuple[Grant, bool] | None:
    """Return a grant as it stands, and whether it is shared; None when it was lost."""
    row = connection.execute(SQL["grant"], (grant.name, grant.holder)).fetchone()
    known = _to_grant(row) if row else None
    if known is None or known[0].token != grant.token or known[0].expires_at <= now:
        return None
    return known


def _drop(transaction: Transaction, grants: Sequence[Grant]) -> list[str]:
    """Delete grants; return the names for which somebody waits."""
    connection = transaction.connection
    for grant in grants:
        connection.execute(SQL["delete"], (grant.name, grant.holder, grant.token))
    return [name for name in dict.fromkeys(g.name for g in grants) if _is_wanted(connection, name)]


def _discard(transaction: Transaction, ticket: int, name: str) -> list[str]:
    transaction.connection.execute(SQL["delete_ticket"], (ticket,))
    return [name] if _is_wanted(transaction.connection, name) else []


def _is_wanted(connection: Connection, name: str) -> bool:
    return connection.execute(SQL["any_ticket"], (name,)).fetchone() is not None


def _live_grants(connection: Connection, name: str, now: int) -> list[tuple[Grant, bool]]:
    live: list[tuple[Grant, bool]] = []
    for grant, shared in _grants(connection, name):
        if grant.expires_at > now:
            live.append((grant, shared))
        else:
            connection.execute(SQL["delete"], (name, grant.holder, grant.token))
    return live


def _grants(connection: Connection, name: str) -> list[tuple[Grant, bool]]:
    return [_to_grant(row) for row in connection.execute(SQL["grants"], (name,)).fetchall()]


def _to_grant(row: tuple[Any, ...]) -> tuple[Grant, bool]:
    check_row("leases", row[0], row)
    name, holder, token, expires_at, shared, _ = row
    return Grant(name, holder, token, expires_at), bool(shared)


def _put(connection: Connection, grant: Grant, shared: bool) -> None:
    row = (grant.name, grant.holder, grant.token, grant.expires_at, int(shared))
    connection.execute(SQL["put"], sealed(row))


def _tap_name(name: str) -> str:
    return f"lease/{name}"
