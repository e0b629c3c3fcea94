"""One lock by name: acquired by hand, or for a body that is cancelled when it is lost."""

from __future__ import annotations

import asyncio
from enum import Enum
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from reprise.coordination.acquiring import LOCKS, Acquirer, Want
from reprise.coordination.deadlocks import owner_of
from reprise.coordination.guarding import Guard
from reprise.coordination.renewing import Holding
from reprise.kernel.clock import to_datetime
from reprise.kernel.errors import LockLost, LockNotAcquired
from reprise.kernel.policy import Duration, seconds
from reprise.stores.lease import Grant


class _Default(Enum):
    PATIENCE = "retry_delay × retry_count"


PATIENCE: Final = _Default.PATIENCE
"""To wait as long as the settings say: ``retry_delay`` × ``retry_count``."""

Wait: TypeAlias = "Duration | Literal[_Default.PATIENCE] | None"
"""How long to wait: seconds (or timedelta), None = for ever."""


class LockHolder(msgspec.Struct, frozen=True):
    """Who holds a lock."""

    lock: str
    owner: str
    """As its manager is called, and which of its tasks."""
    token: int
    expires_at: int
    """Microseconds since the epoch by the keeper's clock; later when it is renewed."""

    @classmethod
    def of(cls, grant: Grant) -> LockHolder:
        """Return who has a grant."""
        return cls(grant.name.removeprefix(LOCKS), owner_of(grant.holder), grant.token, grant.expires_at)

    def __str__(self) -> str:
        return f"{self.owner} until {to_datetime(self.expires_at):%H:%M:%S} UTC"


class _Body(NamedTuple):
    """A body that runs under a lock."""

    holding: Holding
    guard: Guard
    outermost: bool
    """Whether it is this body that is cancelled when the lock is lost."""


class HeldLock:
    """A lock that is held: what ``async with manager.lock(…)`` gives its body."""

    def __init__(self, name: str, holding: Holding, acquirer: Acquirer) -> None:
        self.name = name
        self._holding = holding
        self._acquirer = acquirer

    @property
    def token(self) -> int:
        """The fencing token: higher than that of everybody who held the lock before."""
        return self._holding.token

    @property
    def is_lost(self) -> bool:
        """Whether it is known that the lock is lost."""
        return bool(self._holding.lost)

    def check(self) -> None:
        """Raise ``LockLost`` when it is known that the lock is lost; for threads, which cannot be cancelled."""
        if self._holding.lost:
            raise _lost(self.name, self._holding)

    async def extend(self, ttl: Duration) -> None:
        """Let the lock end ``ttl`` seconds from now, and be renewed for as long each time.

        Raises:
            LockLost: it is not held any more.
            StoreUnreachable: the keeper cannot be asked.
        """
        await _extend(self.name, self._holding, self._acquirer, ttl)


class DistributedLock:
    """A lock by name; nothing is held until it is acquired.

    ``async with lock as held`` acquires it, renews it while the body runs, and gives it back; when it is lost, the body is
    cancelled and ``LockLost`` comes out. ``acquire`` and ``release`` are for what is no single body: nothing renews the
    lock between them but ``extend``.

    The object may be used again and again, and by several tasks: they then wait for each other like any others.
    """

    def __init__(self, acquirer: Acquirer, want: Want, wait: float | None, patience: float) -> None:
        self._acquirer = acquirer
        self._want = want
        self._wait = wait
        self._patience = patience
        self._taken: list[Holding] = []
        """What ``acquire`` took and ``release`` did not give back, oldest first."""
        self._bodies: dict[asyncio.Task[Any] | None, list[_Body]] = {}

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._want.name

    @property
    def locked(self) -> bool:
        """Whether this object holds it now, as far as is known here."""
        return any(not holding.lost for holding in self._held())

    @property
    def token(self) -> int:
        """The fencing token of the newest acquisition.

        Raises ``LockLost`` when this object does not hold the lock.
        """
        return self._newest().token

    async def acquire(self, timeout: Wait = PATIENCE) -> bool:
        """Acquire the lock; return False when it was not free in time.

        ``timeout`` is in seconds; 0 tries once, None waits for ever. Without it the settings decide: ``retry_delay`` ×
        ``retry_count``. Waiters are served first come, first served, woken by whoever gives the lock back.

        Raises:
            DeadlockDetected: its holder waits for a lock that the caller holds.
            StoreUnreachable: the keeper cannot be asked.
        """
        holding = await self._acquirer.acquire(self._want, self._seconds(timeout), renews=False)
        if holding is None:
            return False
        self._taken.append(holding)
        return True

    async def extend(self, ttl: Duration | None = None) -> None:
        """Let the lock end ``ttl`` seconds from now; None = its own time to live.

        Raises:
            LockLost: it is not held any more.
            StoreUnreachable: the keeper cannot be asked.
        """
        await _extend(self.name, self._newest(), self._acquirer, self._want.ttl if ttl is None else ttl)

    async def release(self) -> None:
        """Give the lock back; whoever waits longest has it next.

        Raises:
            LockLost: it was not held any more: what was done under it may have been done beside somebody else.
            StoreUnreachable: the keeper cannot be told; the lock ends by itself.
        """
        if not self._taken:
            raise LockLost(
                f"The lock {self.name!r} is not held by this object.",
                hint="Acquire it before it is released.",
            )
        holding = self._taken.pop()
        await self._acquirer.release(holding)
        if holding.lost:
            raise _lost(self.name, holding)

    async def hold(self) -> Holding:
        """Acquire the lock as ``async with`` does, for a body that is no task: nothing is cancelled when it is lost.

        Raises:
            LockNotAcquired: it was not free in time.
            StoreUnreachable: the keeper cannot be asked.
        """
        holding = await self._acquirer.acquire(self._want, self._wait, renews=True)
        if holding is None:
            raise await self._not_acquired()
        return holding

    async def let_go(self, holding: Holding, error: BaseException | None, *, ours: bool = False) -> None:
        """Give the lock back after a body of which ``error`` came.

        Raises ``LockLost`` if the lock was lost and nothing else came of the body, or only our cancellation (``ours``).
        """
        await self._acquirer.release(holding, forgiving=True)
        if not holding.lost:
            return
        if error is None or ours:
            raise _lost(self.name, holding) from error
        error.add_note(f"The lock {self.name!r} was lost meanwhile: {holding.lost}.")

    def held(self, holding: Holding) -> HeldLock:
        """Return what a body is given."""
        return HeldLock(self.name, holding, self._acquirer)

    async def __aenter__(self) -> HeldLock:
        guard = Guard()
        holding = await self.hold()
        outermost = holding.on_lost is None
        if outermost:
            holding.on_lost = guard.end
            if not holding.renews:
                self._acquirer.renewer.renew_by_itself(holding, renews=True)
        self._bodies.setdefault(asyncio.current_task(), []).append(_Body(holding, guard, outermost))
        return self.held(holding)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        bodies = self._bodies[task]
        holding, guard, outermost = bodies.pop()
        if not bodies:
            del self._bodies[task]
        if outermost:
            holding.on_lost = None
            if holding.depth > 1:
                self._acquirer.renewer.renew_by_itself(holding, renews=False)
        ours = guard.leave(error)
        if outermost:
            await self.let_go(holding, error, ours=ours)
        else:
            await self._acquirer.release(holding)

    def _held(self) -> list[Holding]:
        return [*self._taken, *(body.holding for bodies in self._bodies.values() for body in bodies)]

    def _newest(self) -> Holding:
        held = self._held()
        if not held:
            raise LockLost(f"The lock {self.name!r} is not held by this object.", hint="Acquire it first.")
        if held[-1].lost:
            raise _lost(self.name, held[-1])
        return held[-1]

    def _seconds(self, timeout: Wait) -> float | None:
        if timeout is PATIENCE:
            return self._patience
        return wait_seconds(timeout)

    async def _not_acquired(self) -> LockNotAcquired:
        holders = [LockHolder.of(grant) for grant in await self._acquirer.holders(self.name)]
        who = f"; held by {', '.join(map(str, holders))}" if holders else ""
        return LockNotAcquired(
            f"The lock {self.name!r} was not free within {self._wait:g} s{who}.",
            hint="Wait longer (timeout=), or try again later.",
        )


def wait_seconds(timeout: Duration | None) -> float | None:
    """Return how long to wait in seconds, None = for ever."""
    return None if timeout is None else seconds(timeout, "timeout")


async def _extend(name: str, holding: Holding, acquirer: Acquirer, ttl: Duration) -> None:
    length = seconds(ttl, "ttl")
    if not holding.lost:
        await acquirer.renewer.extend(holding, length)
    if holding.lost:
        raise _lost(name, holding)


def _lost(name: str, holding: Holding) -> LockLost:
    return LockLost(
        f"The lock {name!r} (token {holding.token}) was lost: {holding.lost}.",
        hint="What was written under it may be behind what another holder wrote; look before you go on.",
    )
