"""Read on other threads and other connections, so that neither the loop nor the writer ever waits for the disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from reprise.kernel.errors import RepriseError, StoreClosed
from reprise.stores.sqlite import faults
from reprise.stores.sqlite.database import Connection

Result = TypeVar("Result")


class Readers:
    """A few threads, each with a read-only connection that it opens at its first read."""

    def __init__(self, path: Path, open_connection: Callable[[], Connection], threads: int) -> None:
        self._path = path
        self._open = open_connection
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def start(self) -> None:
        """Accept reads."""
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="reprise-reader")
        self._local = threading.local()
        self._connections: list[Connection] = []

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Return what ``work`` makes of a connection; raises a ``StoreError`` where SQLite fails.

        A caller that is cancelled goes at once; its read ends in the background.
        """
        if self._pool is None:
            raise StoreClosed(
                f"The store {self._path} is closed.", hint="Call start() first, in this process."
            )
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._work, work)

    def close(self) -> Callable[[], None]:
        """Refuse further reads; return what waits for those that run and then closes the connections."""
        pool, self._pool = self._pool, None

        def join() -> None:
            if pool is not None:
                pool.shutdown()
            for connection in self._connections:
                connection.close()

        return join

    def abandon(self) -> None:
        """Refuse further reads and leave everything as it is, as a forked child must."""
        self._pool = None

    def _work(self, work: Callable[[Connection], Result]) -> Result:
        try:
            connection: Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._open()
                self._connections.append(connection)
            return work(connection)
        except RepriseError:
            raise
        except Exception as error:
            raise faults.translate(error, self._path) from error
