"""Shared state for code without an event loop, through a portal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from reprise.coordination.portal import Portal
from reprise.coordination.snapshots import StateEntry, StateSnapshot, StateWrite
from reprise.coordination.strategies import Strategy
from reprise.coordination.updates import Handler, StateUpdate
from reprise.kernel.policy import Duration

if TYPE_CHECKING:
    from reprise.coordination.state import StateSync


class SyncState:
    """A :class:`~reprise.StateSync` for threads: the same methods, which return what those are awaited for.

    Several threads may use one object. Handlers are called on the thread of the loop, so they must not wait.

    >>> from reprise import StateSync
    >>> with StateSync("memory://", namespace="app").sync as state:
    ...     state.increment("users", 2)
    ...     state.get("users")
    2
    2
    """

    def __init__(self, state: StateSync) -> None:
        self._state = state
        self._portal = Portal(f"The state {state.namespace}")

    def start(self) -> None:
        """Load the namespace and follow it; idempotent."""
        self._portal.call(self._state.start)

    def stop(self) -> None:
        """Follow it no more, and end the thread of the loop; idempotent."""
        self._portal.call(self._state.stop)
        self._portal.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def get(self, key: str, default: Any = None, *, fresh: bool = False) -> Any:
        """Return the value of a key, ``default`` if there is none."""
        return self._portal.call(self._state.get, key, default, fresh=fresh)

    def entry(self, key: str, *, fresh: bool = False) -> StateEntry | None:
        """Return a key with its version and its end, None if there is none."""
        return self._portal.call(self._state.entry, key, fresh=fresh)

    def keys(self, pattern: str = "*", *, fresh: bool = False) -> list[str]:
        """Return the keys that match a pattern, in their order."""
        return self._portal.call(self._state.keys, pattern, fresh=fresh)

    def items(self, pattern: str = "*", *, fresh: bool = False) -> dict[str, Any]:
        """Return the values of the keys that match a pattern."""
        return self._portal.call(self._state.items, pattern, fresh=fresh)

    def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: Duration | None = None,
        strategy: Strategy | None = None,
        expected_version: int | None = None,
    ) -> StateWrite:
        """Let a key hold a value; see :meth:`StateSync.set` for strategies and errors."""
        return self._portal.call(
            self._state.set, key, value, ttl=ttl, strategy=strategy, expected_version=expected_version
        )

    def delete(self, key: str, *, expected_version: int | None = None) -> bool:
        """Remove a key; return whether there was one."""
        return self._portal.call(self._state.delete, key, expected_version=expected_version)

    def increment(self, key: str, by: float = 1, *, ttl: Duration | None = None) -> Any:
        """Add to a number, which begins at 0, and return the sum."""
        return self._portal.call(self._state.increment, key, by, ttl=ttl)

    def add(self, key: str, *members: Any, ttl: Duration | None = None) -> list[Any]:
        """Add members to a set; return it."""
        return self._portal.call(self._state.add, key, *members, ttl=ttl)

    def discard(self, key: str, *members: Any) -> list[Any]:
        """Remove members from a set; return what is left."""
        return self._portal.call(self._state.discard, key, *members)

    def update(
        self,
        values: Mapping[str, Any],
        *,
        delete: Iterable[str] = (),
        expected_versions: Mapping[str, int] | None = None,
        ttl: Duration | None = None,
    ) -> dict[str, int]:
        """Set and delete several keys in one commit, or none of them; return the versions of those set."""
        return self._portal.call(
            self._state.update, values, delete=delete, expected_versions=expected_versions, ttl=ttl
        )

    def on_update(self, handler: Handler, pattern: str = "*") -> Callable[[], None]:
        """Call a function with each update of keys that match, on the thread of the loop; return how to end that."""
        return self._state.on_update(handler, pattern)

    def history(self, key: str, *, limit: int = 100) -> list[StateUpdate]:
        """Return the newest changes of a key that are still kept, oldest first."""
        return self._portal.call(self._state.history, key, limit=limit)

    def snapshot(self) -> StateSnapshot:
        """Return all that the namespace holds, as it is at one moment."""
        return self._portal.call(self._state.snapshot)

    def restore(self, snapshot: StateSnapshot, *, keep_others: bool = False) -> int:
        """Let the namespace hold what it held, in one commit; return how many keys were changed."""
        return self._portal.call(self._state.restore, snapshot, keep_others=keep_others)

    def statistics(self) -> dict[str, int | float | str]:
        """Return the counters."""
        return self._state.statistics()
