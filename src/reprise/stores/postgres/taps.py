"""Taps between processes that wait for leases: a connection that listens, made again when it breaks.

A tap may be lost. Whoever waits looks again after a while anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from reprise.stores.postgres.connections import Target
from reprise.stores.postgres.driver import Connection


class Taps:
    """Events by ticket."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._events: dict[str, asyncio.Event] = {}
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    @contextmanager
    def expect(self, ticket: int) -> Generator[asyncio.Event]:
        """Give an event that is set at each tap for a ticket."""
        event = self._events[str(ticket)] = asyncio.Event()
        try:
            yield event
        finally:
            del self._events[str(ticket)]

    async def listen(self) -> None:
        """Listen from now on, if this is not done already."""
        async with self._connecting:
            if self._connection is not None and not self._connection.is_closed():
                return
            connection = await self._target.connect()
            await connection.add_listener(f"reprise {self._target.schema}", self._tapped)
            connection.add_termination_listener(self._lost)
            self._connection = connection

    def _tapped(self, _connection: Any, _process: int, _channel: str, ticket: str) -> None:
        if ticket in self._events:
            self._events[ticket].set()

    def _lost(self, _connection: Any) -> None:
        # Those who wait look again, and so listen again.
        for event in self._events.values():
            event.set()

    async def close(self) -> None:
        """Stop listening."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            await connection.close()
