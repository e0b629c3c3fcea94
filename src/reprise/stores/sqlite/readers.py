"""Read on other threads and other connections, so that neither the loop nor the writer ever waits for the disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from reprise.kernel.errors import RepriseError, StoreClosed
from reprise.stores.sqlite import faults
from reprise.stores.sqlite.crew import Crew, Queue, Thread
from reprise.stores.sqlite.database import Connection

Result = TypeVar("Result")
Work = Callable[[Connection], Any]
Answer = tuple[asyncio.Future[Any], Any, Exception | None]


class Readers:
    """A few threads, each with a read-only connection that it opens at its first read.

    Answers are gathered while the loop is busy, and fetched by it in one turn: with thousands of reads under way, waking
    the loop for each would cost more than the reads.
    """

    def __init__(
        self, path: Path, open_connection: Callable[[], Connection], threads: int, crew: Crew
    ) -> None:
        self._path = path
        self._open = open_connection
        self._most = threads
        self._crew = crew
        self._threads: list[Thread] = []
        self._queue: Queue[tuple[Work, asyncio.Future[Any]] | None] | None = None
        self._answers: deque[Answer] = deque()
        self._told = False

    def start(self) -> None:
        """Accept reads, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._queue = self._crew.queue()
        self._threads = []

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Return what ``work`` makes of a connection; raises a ``StoreError`` where SQLite fails.

        A caller that is cancelled goes at once; its read ends in the background.
        """
        queue = self._queue
        if queue is None:
            raise StoreClosed(
                f"The store {self._path} is closed.", hint="Call start() first, in this process."
            )
        waiter: asyncio.Future[Result] = self._loop.create_future()
        queue.put((work, waiter))
        if len(self._threads) < self._most and (not self._threads or queue.qsize()):
            self._threads.append(self._crew.begin(self._serve, queue, name="reprise-reader"))
        return await waiter

    def close(self) -> Callable[[], None]:
        """Refuse further reads; return what waits for those that were asked for and then closes the connections."""
        queue, self._queue = self._queue, None
        threads = self._threads

        def join() -> None:
            for _ in threads:
                assert queue is not None
                queue.put(None)
            for thread in threads:
                thread.join()

        return join

    def abandon(self) -> None:
        """Refuse further reads and leave everything as it is, as a forked child must."""
        self._queue = None

    def _serve(self, queue: Queue[tuple[Work, asyncio.Future[Any]] | None]) -> None:
        connection: Connection | None = None
        while (item := queue.get()) is not None:
            work, waiter = item
            result, error = None, None
            try:
                if connection is None:
                    connection = self._open()
                result = work(connection)
            except RepriseError as own:
                error = own
            except Exception as other:  # noqa: BLE001  translated, and raised where it was asked for
                error = faults.translate(other, self._path)
                error.__cause__ = other
            if connection is not None and connection.in_transaction:
                connection.close()  # it could not be ended, and whoever reads next would see what was then
                connection = None
            self._answers.append((waiter, result, error))
            del item, work, waiter, result, error  # or the last of them would stay in memory
            if not self._told:
                self._told = True
                self._tell()
        if connection is not None:
            connection.close()

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:
            pass  # the loop has ended; nobody is left to tell

    def _answer(self) -> None:
        self._told = False  # first, so that whoever answers from now on tells again
        answers = self._answers
        while answers:
            waiter, result, error = answers.popleft()
            if waiter.done():
                continue  # whoever asked has gone
            if error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(result)


def at_once(work: Callable[[Connection], Result]) -> Callable[[Connection], Result]:
    """Let all that is read be as of one moment: each statement alone would see what was committed before it."""

    def look(connection: Connection) -> Result:
        connection.execute("BEGIN")
        try:
            return work(connection)
        finally:
            if connection.in_transaction:  # where the disk fails SQLite may have ended it
                connection.execute("COMMIT")

    return look
