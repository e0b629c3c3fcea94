"""Leases in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec

from reprise.kernel.clock import MICROSECONDS, Clock
from reprise.kernel.errors import ConfigurationError
from reprise.stores.conditions import floor_of
from reprise.stores.lease import NEVER, Grant


class _Wish(msgspec.Struct, eq=False):
    """What a caller asks for; ``answer`` is there while it waits."""

    name: str
    holder: str
    ttl: float
    limit: int
    shared: bool
    answer: asyncio.Future[Grant] | None = None


class _Name(msgspec.Struct, eq=False):
    """All there is about one name."""

    grants: dict[str, Grant] = {}
    shared: bool = False
    """Whether those who hold it now share it."""
    waiting: deque[_Wish] = msgspec.field(default_factory=deque["_Wish"])
    alarm: asyncio.TimerHandle | None = None


class MemoryLease:
    """Leases by name.

    An ended grant is noticed at the next call for its name, and while somebody waits, by an alarm on the loop. The
    alarm only looks; whether a grant has ended is said by the injected clock alone.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._names: dict[str, _Name] = {}
        self._last_token = 0

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
        self._serve(name)
        state = self._names.setdefault(name, _Name())
        # Who holds it may renew past the queue; everybody else stands behind those who wait.
        if holder in state.grants or not state.waiting:
            grant = self._try(state, wish)
            if grant is not None or wait == 0:
                self._tidy(name)
                return grant
        elif wait == 0:
            return None
        return await self._wait(state, wish, wait)

    async def renew(self, grants: Sequence[Grant], ttl: float) -> list[Grant | None]:
        """Extend grants by ``ttl`` seconds from now; None in the place of each that was lost."""
        renewed: list[Grant | None] = []
        for grant in grants:
            self._serve(grant.name)
            state = self._names.get(grant.name)
            if state is None or not _holds(state, grant):
                renewed.append(None)
                continue
            fresh = Grant(grant.name, grant.holder, grant.token, self._until(ttl))
            state.grants[grant.holder] = fresh
            renewed.append(fresh)
        return renewed

    async def drop(self, grants: Sequence[Grant]) -> None:
        """Give grants back; those already lost are ignored."""
        for grant in grants:
            state = self._names.get(grant.name)
            if state is not None and _holds(state, grant):
                del state.grants[grant.holder]
            self._serve(grant.name)

    async def holder(self, name: str) -> list[Grant]:
        """Return the live grants of a name, oldest first."""
        self._serve(name)
        state = self._names.get(name)
        return sorted(state.grants.values(), key=lambda grant: grant.token) if state else []

    async def find(self, prefix: str = "") -> list[Grant]:
        """Return the live grants of all names that begin with ``prefix``, by name, then oldest first."""
        names = sorted(name for name in self._names if name.startswith(prefix))
        return [grant for name in names for grant in await self.holder(name)]

    async def lift(self, grant: Grant, token: int) -> Grant | None:
        """Give a grant a token that is at least ``token``, and every later one a higher; None when it was lost."""
        self._serve(grant.name)
        state = self._names.get(grant.name)
        if state is None or not _holds(state, grant):
            return None
        mine = state.grants[grant.holder]
        if mine.token < token:
            self._last_token = max(self._last_token + 1, token)
            mine = msgspec.structs.replace(mine, token=self._last_token)
            state.grants[grant.holder] = mine
        return mine

    def begin_epoch(self, epoch: int) -> None:
        """End all leases; whoever waits is served."""
        self._last_token = max(self._last_token, floor_of(epoch))
        for name, state in list(self._names.items()):
            state.grants.clear()
            self._serve(name)

    # What appends do with the places of limited runs: at once, never waiting.

    def others(self, name: str, holder: str) -> int | None:
        """Return how many others hold a name, None when ``holder`` does."""
        self._serve(name)
        state = self._names.get(name)
        if state is None:
            return 0
        return None if holder in state.grants else len(state.grants)

    def seat(self, name: str, holder: str, token: int, period: int) -> None:
        """Let somebody hold a name for ``period`` microseconds, 0 = until it is made to leave."""
        until = self._clock.now() + period if period else NEVER
        self._names.setdefault(name, _Name()).grants[holder] = Grant(name, holder, token, until)

    def unseat(self, name: str, holder: str) -> None:
        """Let somebody hold a name no more."""
        state = self._names.get(name)
        if state is not None and state.grants.pop(holder, None) is not None:
            self._serve(name)

    def fill(self, name: str) -> tuple[int, int]:
        """Return how many hold a name, and after how many microseconds the first of them ends, 0 = none by itself."""
        self._serve(name)
        state = self._names.get(name)
        if state is None or not state.grants:
            return 0, 0
        ends = min(grant.expires_at for grant in state.grants.values())
        return len(state.grants), 0 if ends == NEVER else ends - self._clock.now()

    def waiting(self, name: str) -> int:
        """Return how many wait for a name."""
        state = self._names.get(name)
        return len(state.waiting) if state else 0

    async def _wait(self, state: _Name, wish: _Wish, wait: float | None) -> Grant | None:
        wish.answer = asyncio.get_running_loop().create_future()
        state.waiting.append(wish)
        self._set_alarm(wish.name, state)
        try:
            async with asyncio.timeout(wait):
                return await wish.answer
        except TimeoutError:
            # The answer may have come in the same turn as the timeout; then it counts.
            return wish.answer.result() if _answered(wish.answer) else None
        except asyncio.CancelledError:
            if _answered(wish.answer):
                await self.drop([wish.answer.result()])
            raise
        finally:
            if wish in state.waiting:
                state.waiting.remove(wish)
                self._serve(wish.name)

    def _serve(self, name: str) -> None:
        """Forget ended grants, then answer those who wait, in their order, as far as there is room."""
        state = self._names.get(name)
        if state is None:
            return
        now = self._clock.now()
        for holder, grant in list(state.grants.items()):
            if grant.expires_at <= now:
                del state.grants[holder]
        while state.waiting:
            wish = state.waiting[0]
            if wish.answer is not None and not wish.answer.done():
                grant = self._try(state, wish)
                if grant is None:
                    break
                wish.answer.set_result(grant)
            state.waiting.popleft()
        self._set_alarm(name, state)
        self._tidy(name)

    def _try(self, state: _Name, wish: _Wish) -> Grant | None:
        mine = state.grants.get(wish.holder)
        others = len(state.grants) - (mine is not None)
        if others and (state.shared or wish.shared):
            free = state.shared and wish.shared
        else:
            free = others < wish.limit
        if not free:
            return None
        if mine is None:
            self._last_token += 1
        token = self._last_token if mine is None else mine.token
        grant = Grant(wish.name, wish.holder, token, self._until(wish.ttl))
        state.grants[wish.holder] = grant
        state.shared = wish.shared
        return grant

    def _set_alarm(self, name: str, state: _Name) -> None:
        if state.alarm is not None:
            state.alarm.cancel()
            state.alarm = None
        if state.waiting and state.grants:
            next_end = min(grant.expires_at for grant in state.grants.values())
            delay = max(next_end - self._clock.now(), 1000) / MICROSECONDS
            state.alarm = asyncio.get_running_loop().call_later(delay, self._serve, name)

    def _tidy(self, name: str) -> None:
        state = self._names.get(name)
        if state is not None and not state.grants and not state.waiting:
            del self._names[name]

    def _until(self, ttl: float) -> int:
        return self._clock.now() + round(ttl * MICROSECONDS)


def _holds(state: _Name, grant: Grant) -> bool:
    mine = state.grants.get(grant.holder)
    return mine is not None and mine.token == grant.token


def _answered(answer: asyncio.Future[Grant]) -> bool:
    return answer.done() and not answer.cancelled()
