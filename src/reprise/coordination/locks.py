"""Locks over leases: by name, for any number of processes, each acquisition with a fencing token.

A lock is a lease with a time to live. It is renewed while the body runs, and when it is lost the body is cancelled. Even so
a process can stand still at any line and go on when its time is over. So what must never be written by two is guarded by
the token: whoever takes a write refuses one under a lower token than it has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import Enum
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias

import msgspec

from reprise.coordination.acquiring import LOCKS, Acquirer, Want
from reprise.coordination.deadlocks import owner_of
from reprise.coordination.guarding import Guard
from reprise.coordination.keepers import Source
from reprise.coordination.redlock import Masters, keeping
from reprise.coordination.renewing import Holding
from reprise.kernel.clock import to_datetime
from reprise.kernel.errors import ConfigurationError, LockLost, LockNotAcquired
from reprise.kernel.policy import Duration, seconds
from reprise.kernel.settings import LockSettings, Settings
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
        return self._holding.grant.token

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
        return self._newest().grant.token

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

    async def __aenter__(self) -> HeldLock:
        guard = Guard()
        holding = await self._acquirer.acquire(self._want, self._wait, renews=True)
        if holding is None:
            raise await self._not_acquired()
        outermost = holding.on_lost is None
        if outermost:
            holding.on_lost = guard.end
            if not holding.renews:
                self._acquirer.renewer.renew_by_itself(holding, renews=True)
        self._bodies.setdefault(asyncio.current_task(), []).append(_Body(holding, guard, outermost))
        return HeldLock(self.name, holding, self._acquirer)

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
        await self._acquirer.release(holding, forgiving=True)
        if not (holding.lost and outermost):
            return
        if error is None or ours:
            raise _lost(self.name, holding) from error
        error.add_note(f"The lock {self.name!r} was lost meanwhile: {holding.lost}.")

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
        return _wait_seconds(timeout)

    async def _not_acquired(self) -> LockNotAcquired:
        holders = [_holder(grant) for grant in await self._acquirer.holders(self.name)]
        who = f"; held by {', '.join(map(str, holders))}" if holders else ""
        return LockNotAcquired(
            f"The lock {self.name!r} was not free within {self._wait:g} s{who}.",
            hint="Wait longer (timeout=), or try again later.",
        )


class LockManager:
    """Locks by name, over one keeper or over a majority of several independent ones (Redlock).

    ``source`` is a client of redis-py's asyncio side, a URL, a ``Reprise`` or a store; or a list of them, which vote. What it
    opens itself it closes in ``stop``, or at the end of ``async with``.

    >>> async def main() -> bool:
    ...     async with LockManager("memory://") as manager, manager.lock("report", ttl=30) as held:
    ...         return held.token > 0
    >>> asyncio.run(main())
    True

    Options:
        settings: ``default_ttl``, ``retry_delay``, ``retry_count``, by name or as ``LockSettings``.
        owner: how this process is called where holders are named; default host, process and a number.
    """

    def __init__(
        self,
        source: Source,
        *,
        settings: LockSettings | Mapping[str, Any] | None = None,
        owner: str = "",
    ) -> None:
        self._settings = _settings(settings)
        keeper = keeping(source, self._settings.retry_delay)
        self._votes = isinstance(keeper, Masters)
        self._acquirer = Acquirer(keeper, owner, self._settings.default_ttl)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Open what is ours; idempotent, and done by the first lock if nobody else does it.

        Raises:
            StoreUnreachable: there is no server.
        """
        await self._acquirer.start()

    async def stop(self) -> None:
        """Give all locks back and close what is ours; bodies that still run lose their locks. Idempotent."""
        await self._acquirer.stop()

    # ------------------------------------------------------------ locks

    def lock(
        self,
        name: str,
        ttl: Duration | None = None,
        *,
        timeout: Wait = PATIENCE,
        shared: bool = False,
        reentrant: bool = False,
    ) -> DistributedLock:
        """Return a lock to be used with ``async with``; see :class:`DistributedLock`.

        Args:
            name: of what is locked.
            ttl: seconds (or timedelta) after which others may have it once this process stopped renewing it; default 30.
            timeout: how long ``async with`` waits before it raises ``LockNotAcquired``; None = for ever.
            shared: exclude only those who hold it alone: many readers, or one writer.
            reentrant: let the task that holds it enter again.
        """
        return self._lock(name, ttl, timeout, shared=shared, reentrant=reentrant)

    def get_lock(self, name: str, ttl: Duration | None = None, *, reentrant: bool = False) -> DistributedLock:
        """Return a lock to be used with ``acquire``, ``extend`` and ``release``; see :class:`DistributedLock`."""
        return self._lock(name, ttl, PATIENCE, reentrant=reentrant)

    def semaphore(
        self, name: str, limit: int, ttl: Duration | None = None, *, timeout: Wait = PATIENCE
    ) -> DistributedLock:
        """Return a lock that ``limit`` may hold at one time; all who use the name should say the same number."""
        if limit < 1:
            raise ConfigurationError(
                f"semaphore({name!r}, limit={limit})", hint="The limit must be positive."
            )
        if self._votes and limit > 1:
            raise ConfigurationError(
                f"semaphore({name!r}): {limit} at each of several keepers are more in all.",
                hint="Give the LockManager one keeper for semaphores.",
            )
        return self._lock(name, ttl, timeout, limit=limit)

    async def holders(self, name: str) -> list[LockHolder]:
        """Return who holds a lock, oldest first; empty = free."""
        return [_holder(grant) for grant in await self._acquirer.holders(name)]

    async def break_lock(self, name: str) -> list[LockHolder]:
        """Take a lock away from all who hold it, and return who did.

        Their bodies are cancelled as soon as they hear of it. A process that stands still does not hear: only its token
        keeps it from writing.
        """
        return [_holder(grant) for grant in await self._acquirer.break_(name)]

    def statistics(self) -> dict[str, int | float]:
        """Return counters: acquired, refused, released, lost, held, waiting, deadlocks; seconds waited and held."""
        return self._acquirer.statistics()

    def _lock(self, name: str, ttl: Duration | None, timeout: Wait, **kind: Any) -> DistributedLock:
        if not name:
            raise ConfigurationError("A lock needs a name.", hint="Name what it protects: 'invoice/42'.")
        ttl = self._settings.default_ttl if ttl is None else seconds(ttl, "ttl")
        if ttl <= 0:
            raise ConfigurationError(
                f"The lock {name!r} was asked for {ttl} s.", hint="ttl must be positive."
            )
        patience = self._settings.retry_delay * self._settings.retry_count
        wait = patience if timeout is PATIENCE else _wait_seconds(timeout)
        return DistributedLock(self._acquirer, Want(name, ttl, **kind), wait, patience)


async def _extend(name: str, holding: Holding, acquirer: Acquirer, ttl: Duration) -> None:
    length = seconds(ttl, "ttl")
    if not holding.lost:
        await acquirer.renewer.extend(holding, length)
    if holding.lost:
        raise _lost(name, holding)


def _lost(name: str, holding: Holding) -> LockLost:
    return LockLost(
        f"The lock {name!r} (token {holding.grant.token}) was lost: {holding.lost}.",
        hint="What was written under it may be behind what another holder wrote; look before you go on.",
    )


def _holder(grant: Grant) -> LockHolder:
    return LockHolder(grant.name.removeprefix(LOCKS), owner_of(grant.holder), grant.token, grant.expires_at)


def _wait_seconds(timeout: Duration | None) -> float | None:
    return None if timeout is None else seconds(timeout, "timeout")


def _settings(given: LockSettings | Mapping[str, Any] | None) -> LockSettings:
    if isinstance(given, LockSettings):
        return given
    return Settings.from_dict({"distributed_lock": given or {}}).distributed_lock
