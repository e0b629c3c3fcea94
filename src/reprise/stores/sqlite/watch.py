"""Look at the file once a second where processes cannot tap each other; the fallback, not the rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reprise.stores.sqlite.database import Connection

INTERVAL = 1.0
"""Seconds between looks."""


class Watch:
    """A task that calls ``changed`` when another connection has written to the file."""

    def __init__(self, open_connection: Callable[[], Connection], changed: Callable[[], None]) -> None:
        self._open = open_connection
        self._changed = changed
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="reprise-watch")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        connection = await asyncio.to_thread(self._open)
        try:
            seen = -1
            while True:
                # One row from shared memory, no disk: it does not hold up the loop.
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version != seen:
                    seen = version
                    self._changed()
                await asyncio.sleep(INTERVAL)
        finally:
            connection.close()
