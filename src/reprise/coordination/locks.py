"""Locks over leases: by name, for any number of processes, each acquisition with a fencing token.

A lock is a lease with a time to live. It is renewed while the body runs, and when it is lost the body is cancelled. Even so
a process can stand still at any line and go on when its time is over. So what must never be written by two is guarded by
the token: whoever takes a write refuses one under a lower token than it has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from reprise.coordination.acquiring import Acquirer, Want
from reprise.coordination.distributed_lock import PATIENCE, DistributedLock, LockHolder, Wait, wait_seconds
from reprise.coordination.keepers import Source
from reprise.coordination.masters import Masters, keeping
from reprise.coordination.portal import Portal
from reprise.coordination.sync_lock import SyncLock
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.policy import Duration, seconds
from reprise.kernel.settings import LockSettings, Settings


class LockManager:
    """Locks by name, over one keeper or over a majority of several independent ones (Redlock).

    ``source`` is a client of redis-py's asyncio side, a URL, a ``Reprise`` or a store; or a list of them, which vote. What it
    opens itself it closes in ``stop``, or at the end of ``async with``.

    >>> import asyncio
    >>> async def main() -> bool:
    ...     async with LockManager("memory://") as manager, manager.lock("report", ttl=30) as held:
    ...         return held.token > 0
    >>> asyncio.run(main())
    True

    Options:
        settings: ``default_ttl``, ``retry_delay``, ``retry_count``, ``node_timeout``, by name or as ``LockSettings``.
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
        keeper = keeping(source, self._settings.retry_delay, self._settings.node_timeout)
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
        return [LockHolder.of(grant) for grant in await self._acquirer.holders(name)]

    async def find(self, prefix: str = "") -> list[LockHolder]:
        """Return who holds the locks whose names begin with ``prefix``, by name; for people who look."""
        return [LockHolder.of(grant) for grant in await self._acquirer.find(prefix)]

    async def break_lock(self, name: str) -> list[LockHolder]:
        """Take a lock away from all who hold it, and return who did.

        Their bodies are cancelled as soon as they hear of it. A process that stands still does not hear: only its token
        keeps it from writing.
        """
        return [LockHolder.of(grant) for grant in await self._acquirer.break_(name)]

    @cached_property
    def sync(self) -> SyncLockManager:
        """The same for code without an event loop: scripts, Flask, Django. Use either this or the manager itself."""
        return SyncLockManager(self)

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
        wait = patience if timeout is PATIENCE else wait_seconds(timeout)
        return DistributedLock(self._acquirer, Want(name, ttl, **kind), wait, patience)


class SyncLockManager:
    """A :class:`LockManager` for threads, on a thread of its own: what ``manager.sync`` is.

    >>> with LockManager("memory://").sync as manager, manager.lock("report") as held:
    ...     held.token > 0
    True

    A thread cannot be cancelled. When a lock is lost while its body runs, ``held.check()`` raises, and so does the end of the
    body. The owner of a re-entrant lock is the thread.
    """

    def __init__(self, manager: LockManager) -> None:
        self._manager = manager
        self._portal = Portal("LockManager.sync")

    def __enter__(self) -> Self:
        self._portal.call(self._manager.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Give all locks back, close what is ours, end the thread; idempotent."""
        self._portal.call(self._manager.stop)
        self._portal.stop()

    def lock(
        self,
        name: str,
        ttl: Duration | None = None,
        *,
        timeout: Wait = PATIENCE,
        shared: bool = False,
        reentrant: bool = False,
    ) -> SyncLock:
        """Return a lock to be used with ``with``; see :meth:`LockManager.lock`."""
        lock = self._manager.lock(name, ttl, timeout=timeout, shared=shared, reentrant=reentrant)
        return SyncLock(self._portal, lock)

    def get_lock(self, name: str, ttl: Duration | None = None, *, reentrant: bool = False) -> SyncLock:
        """Return a lock to be used with ``acquire``, ``extend`` and ``release``."""
        return SyncLock(self._portal, self._manager.get_lock(name, ttl, reentrant=reentrant))

    def semaphore(
        self, name: str, limit: int, ttl: Duration | None = None, *, timeout: Wait = PATIENCE
    ) -> SyncLock:
        """Return a lock that ``limit`` may hold at one time."""
        return SyncLock(self._portal, self._manager.semaphore(name, limit, ttl, timeout=timeout))

    def holders(self, name: str) -> list[LockHolder]:
        """Return who holds a lock, oldest first; empty = free."""
        return self._portal.call(self._manager.holders, name)

    def find(self, prefix: str = "") -> list[LockHolder]:
        """Return who holds the locks whose names begin with ``prefix``, by name."""
        return self._portal.call(self._manager.find, prefix)

    def break_lock(self, name: str) -> list[LockHolder]:
        """Take a lock away from all who hold it, and return who did."""
        return self._portal.call(self._manager.break_lock, name)

    def statistics(self) -> dict[str, int | float]:
        """Return counters; see :meth:`LockManager.statistics`."""
        return self._manager.statistics()


def _settings(given: LockSettings | Mapping[str, Any] | None) -> LockSettings:
    if isinstance(given, LockSettings):
        return given
    return Settings.from_dict({"distributed_lock": given or {}}).distributed_lock
