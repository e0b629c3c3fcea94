"""The namespaces of one source, started and stopped together."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from reprise.coordination.keepers import Keeper, Source
from reprise.coordination.state import StateSync


class StateSyncManager:
    """Several namespaces over one source; ``options`` are those of each :class:`StateSync`.

    >>> async def main():
    ...     async with StateSyncManager("memory://") as manager:
    ...         await manager.namespace("app").set("mode", "dark")
    ...         return await manager.namespace("app").get("mode"), await manager.namespace("other").get("mode")
    >>> asyncio.run(main())
    ('dark', None)
    """

    def __init__(self, source: Source, **options: Any) -> None:
        self._keeper = Keeper(source)
        self._options = options
        self._namespaces: dict[str, StateSync] = {}
        self._is_started = False

    def namespace(self, name: str) -> StateSync:
        """Return a namespace, the same object for the same name.

        One that is asked for while the manager runs starts when it is first worked with.

        Raises ``ConfigurationError`` for a name or an option that cannot be.
        """
        known = self._namespaces.get(name)
        if known is None:
            known = self._namespaces[name] = StateSync(self._keeper, name, **self._options)
            known.starts_itself = self._is_started
        return known

    async def start(self) -> None:
        """Start all namespaces; idempotent. Raises ``StoreUnreachable`` and other errors of the store."""
        await self._keeper.start()
        self._is_started = True
        for each in self._namespaces.values():
            each.starts_itself = True
        await asyncio.gather(*(each.start() for each in self._namespaces.values()))

    async def stop(self) -> None:
        """Stop all namespaces; idempotent, safe before start."""
        self._is_started = False
        for each in self._namespaces.values():
            each.starts_itself = False
        await asyncio.gather(*(each.stop() for each in self._namespaces.values()))
        await self._keeper.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def statistics(self) -> dict[str, dict[str, int | float | str]]:
        """Return the counters of each namespace."""
        return {name: each.statistics() for name, each in self._namespaces.items()}
