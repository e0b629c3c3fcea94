"""A lock for threads: the distributed lock, through a portal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from reprise.coordination.acquiring import OWNER
from reprise.coordination.distributed_lock import PATIENCE, DistributedLock, HeldLock, Wait
from reprise.coordination.portal import Portal
from reprise.coordination.renewing import Holding
from reprise.kernel.policy import Duration

T = TypeVar("T")


class SyncHeldLock:
    """A lock that is held: what ``with manager.sync.lock(…)`` gives its body."""

    def __init__(self, portal: Portal, held: HeldLock) -> None:
        self._portal = portal
        self._held = held
        self.name = held.name

    @property
    def token(self) -> int:
        """The fencing token: higher than that of everybody who held the lock before."""
        return self._held.token

    @property
    def is_lost(self) -> bool:
        """Whether it is known that the lock is lost."""
        return self._held.is_lost

    def check(self) -> None:
        """Raise ``LockLost`` when it is known that the lock is lost; call it before what cannot be undone."""
        self._held.check()

    def extend(self, ttl: Duration) -> None:
        """Let the lock end ``ttl`` seconds from now, and be renewed for as long each time.

        Raises ``LockLost`` when it is not held any more.
        """
        self._portal.call(self._held.extend, ttl)


class SyncLock:
    """A :class:`~reprise.DistributedLock` for threads; one object may be used by several of them."""

    def __init__(self, portal: Portal, lock: DistributedLock) -> None:
        self._portal = portal
        self._lock = lock
        self._bodies: dict[int, list[Holding]] = {}

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._lock.name

    @property
    def locked(self) -> bool:
        """Whether this object holds it now, as far as is known here."""
        return self._lock.locked or any(
            not holding.lost for bodies in self._bodies.copy().values() for holding in bodies
        )

    @property
    def token(self) -> int:
        """The fencing token of the newest ``acquire``; raises ``LockLost`` when it is not held."""
        return self._lock.token

    def acquire(self, timeout: Wait = PATIENCE) -> bool:
        """Acquire the lock; return False when it was not free in time. See :meth:`DistributedLock.acquire`."""
        return self._call(self._lock.acquire, timeout)

    def extend(self, ttl: Duration | None = None) -> None:
        """Let the lock end ``ttl`` seconds from now; raises ``LockLost`` when it is not held any more."""
        self._call(self._lock.extend, ttl)

    def release(self) -> None:
        """Give the lock back; raises ``LockLost`` when it was not held any more."""
        self._call(self._lock.release)

    def __enter__(self) -> SyncHeldLock:
        holding = self._call(self._lock.hold)
        self._bodies.setdefault(threading.get_ident(), []).append(holding)
        return SyncHeldLock(self._portal, self._lock.held(holding))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread = threading.get_ident()
        bodies = self._bodies[thread]
        holding = bodies.pop()
        if not bodies:
            del self._bodies[thread]
        self._call(self._lock.let_go, holding, error)

    def _call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        return self._portal.call(_as_thread, threading.current_thread(), function, args)


async def _as_thread(
    thread: threading.Thread, function: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...]
) -> T:
    OWNER.set(f"{thread.name}.{thread.ident:x}")
    return await function(*args)
