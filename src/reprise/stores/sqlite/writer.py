"""The one thread that writes: everything queued since the last commit goes into the next one.

An append or a job that fails, fails alone; what makes the whole commit fail (no room, a lock, the disk) is told to
everything in it. The loop is called once per commit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from reprise.kernel.errors import OutcomeUnknown, RepriseError, StoreClosed, StoreError, StoreLocked
from reprise.stores.log import Append
from reprise.stores.sqlite import faults
from reprise.stores.sqlite.crew import Crew, Queue
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.ledger import SQL, Ledger, clear
from reprise.stores.sqlite.lending import SAVEPOINT
from reprise.stores.sqlite.meta import Counters, KeeperClock
from reprise.stores.sqlite.turnstile import Turnstile

MOST_ITEMS = 1000
"""Appends and jobs in one commit."""
MOST_ROWS = 1000
"""Records in one commit."""
MOST_BYTES = 4 << 20
"""Bytes of their data."""
TURN_SECONDS = 0.005
"""How long a turn may last while other processes want theirs; no job is begun after it."""
HOLDS_UP = 0.0006
"""How long the commit of one append may usually take to be made on the loop when there is nothing else to do there: the
way to the thread and back costs about 0.1 ms."""
LEAST_SHARE = 0.05
"""Share of those limits that a commit has at least, however slow the machine: the disk's flush costs the same for all."""


class Transaction:
    """What a job works with: the connection inside the open transaction, and what the writer knows of the file."""

    def __init__(self, connection: Connection, clock: KeeperClock) -> None:
        self.connection = connection
        self.counters = Counters(connection, clock)
        self.ledger = Ledger(connection, self.counters)


class Job(msgspec.Struct):
    """Work of another kind that travels in the same commits. It is undone alone when it raises."""

    work: Callable[[Transaction], Any]
    done: Callable[[Job], None] | None = None
    error: RepriseError | None = None
    result: Any = None


Item = Append | Job


class Writer:
    """Owns the writing connection and its thread between ``start`` and ``join``."""

    def __init__(
        self, path: Path, busy: float, clock: KeeperClock, reopen: Callable[[], Connection], crew: Crew
    ) -> None:
        self._path, self._busy, self._clock, self._reopen, self._crew = path, busy, clock, reopen, crew
        self.counters = {"appends": 0, "commits": 0, "records": 0, "refused": 0, "bytes": 0, "jobs": 0}
        self.epoch = 0
        """Of the file, at the last commit."""
        self.put: Callable[[Sequence[Item]], None] = self._put_too_late
        """Hand over items, on the loop; never waits."""
        self._is_open = False

    def start(self, connection: Connection, turnstile: Turnstile, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to write with a connection that is up to date."""
        self._transaction = Transaction(connection, self._clock)
        self._turnstile, self._loop = turnstile, loop
        self._queue: Queue[Sequence[Item] | None] = self._crew.queue()
        self._backlog: deque[Item] = deque()
        self._stopping = self._is_broken = False
        self._share = 1.0
        self._patience = self._busy
        self._handed = 0
        """Items that the thread has and that were not answered yet; as long as there are none, it touches nothing."""
        self._usual = 2 * HOLDS_UP
        """Seconds that the commit of one append takes, of late."""
        self._thread = self._crew.begin(self._run, name="reprise-writer")
        self.put = self._put
        self._is_open = True

    def _put(self, items: Sequence[Item]) -> None:
        self._handed += len(items)
        self._queue.put(items)

    def write_here(self, append: Append, alone: Callable[[], bool]) -> bool:
        """Commit an append on the loop and call its ``done`` before this returns; False, and nothing done, otherwise.

        It is done where that ends sooner than a way to the thread and back, and where nobody can notice that the loop
        stands still: the thread has nothing to do, the disk is fast, no other process has the turn or waits for it, and
        the caller says that it is ``alone``.
        """
        if not self._is_open or self._handed or self._usual > HOLDS_UP:
            return False
        if self._is_broken or not alone() or not self._turnstile.enter_at_once():
            return False
        try:
            self._in_turn([append], is_wanted=False, busy=0)
        except Exception as error:  # noqa: BLE001 - as in _commit
            told = faults.translate(error, self._path)
            if isinstance(told, StoreLocked):
                return False  # by another tool; the thread can wait for it
            self._refuse([append], told)
        self._answer([append])
        return True

    def submit(self, work: Callable[[Transaction], Any]) -> asyncio.Future[Any]:
        """Queue a job and return a future of its result; cancelling the future does not stop the job."""
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(job: Job) -> None:
            if waiter.done():
                return
            if job.error is not None:
                waiter.set_exception(job.error)
            else:
                waiter.set_result(job.result)

        self.put((Job(work, done),))
        return waiter

    def close(self) -> None:
        """Refuse from now on what is handed over; call it on the loop."""
        self.put, self._is_open = self._put_too_late, False
        self._queue.put(None)

    def join(self) -> None:
        """Block until what was queued is written, the connection closed and the thread ended."""
        self._thread.join()

    def abandon(self) -> None:
        """Refuse everything, as a forked child must; the thread exists only in the parent."""
        self.put, self._is_open = self._put_in_child, False

    def _put_too_late(self, items: Sequence[Item]) -> None:
        self._refuse(items, StoreClosed(f"The store {self._path} is closed.", hint="Call start() first."))
        asyncio.get_running_loop().call_soon(self._answer, items)

    def _put_in_child(self, _items: Sequence[Item]) -> None:
        raise StoreClosed(
            f"The store {self._path} was opened before this process was forked.",
            hint="Open it anew in the child.",
        )

    def _run(self) -> None:
        try:
            while self._gather():
                self._tell(self._commit())  # no name for it: it would keep the last batch in memory
        finally:
            self._transaction.connection.close()

    def _gather(self) -> bool:
        """Wait until there is something to write; False when there never will be."""
        queue, backlog = self._queue, self._backlog
        while not backlog:
            if self._stopping and queue.empty():
                return False
            self._receive(queue.get())
        while len(backlog) < MOST_ITEMS and (waiting := queue.qsize()):
            for _ in range(waiting):
                self._receive(queue.get())
        return True

    def _receive(self, items: Sequence[Item] | None) -> None:
        if items is None:
            self._stopping = True
        else:
            self._backlog += items

    def _commit(self) -> list[Item]:
        backlog = self._backlog
        batch = [backlog.popleft() for _ in range(min(len(backlog), MOST_ITEMS))]
        try:
            rest = self._turn(batch)
        except Exception as error:  # noqa: BLE001 - whatever happens, the thread goes on and everybody is answered
            if len(batch) > 1 and faults.is_about_one_value(error):
                return self._one_by_one(batch)
            self._refuse(batch, faults.translate(error, self._path))
            return batch
        backlog.extendleft(reversed(rest))
        return batch[: len(batch) - len(rest)]

    def _one_by_one(self, batch: list[Item]) -> list[Item]:
        """Find the item whose value SQLite does not take by giving each a transaction of its own."""
        for item in batch:
            try:
                self._turn([item])
            except Exception as error:  # noqa: BLE001 - as in _commit
                self._refuse([item], faults.translate(error, self._path))
        return batch

    def _turn(self, batch: list[Item]) -> list[Item]:
        """Commit a batch in one turn; return the items that did not fit any more."""
        return self._in_turn(batch, is_wanted=self._turnstile.enter(self._busy), busy=self._busy)

    def _in_turn(self, batch: list[Item], *, is_wanted: bool, busy: float) -> list[Item]:
        """Commit a batch and leave the turn that was entered; wait ``busy`` seconds for tools that take no turns."""
        began = self._crew.perf_counter()
        try:
            if busy != self._patience:
                self._transaction.connection.execute(f"PRAGMA busy_timeout = {round(busy * 1000)}")
                self._patience = busy
            rest = self._transact(batch)
        finally:
            self._turnstile.leave()
        seconds = self._crew.perf_counter() - began
        self._set_share(seconds, is_wanted=is_wanted)
        if len(batch) == 1:
            # One outlier, such as the checkpoint of SQLite, does not make a disk slow.
            self._usual += (min(seconds, 2 * HOLDS_UP) - self._usual) / 4
        return rest

    def _set_share(self, seconds: float, *, is_wanted: bool) -> None:
        """Let the next turn last about ``TURN_SECONDS`` while others want theirs; take all there is when alone."""
        if is_wanted:
            self._share = min(1.0, max(LEAST_SHARE, self._share * TURN_SECONDS / seconds))
        else:
            self._share = min(1.0, self._share * 2)

    def _transact(self, batch: list[Item]) -> list[Item]:
        if self._is_broken:
            self._renew_connection()
        connection, ledger = self._transaction.connection, self._transaction.ledger
        connection.execute("BEGIN IMMEDIATE")
        try:
            taken = self._stage(batch)
            rows, size = ledger.rows, ledger.bytes
        except BaseException:
            self._undo()
            raise
        try:
            connection.execute("COMMIT")
        except Exception as error:
            self._undo()
            if not faults.is_io(error):
                raise
            self._settle(batch[:taken], error)
        # A connection that was renewed has not looked yet.
        self.epoch = max(self.epoch, self._transaction.ledger.epoch)
        self._count(batch[:taken], rows, size)
        return batch[taken:]

    def _stage(self, batch: list[Item]) -> int:
        """Write the batch into the open transaction; return how many items fitted in one turn."""
        ledger, counters = self._transaction.ledger, self._transaction.counters
        counters.begin()
        ledger.begin(_appends(batch))
        turn_ends = self._crew.perf_counter() + TURN_SECONDS
        most_rows, most_bytes = MOST_ROWS * self._share, MOST_BYTES * self._share
        taken = 0
        for item in batch:
            taken += 1
            if type(item) is Append:
                ledger.stage(item)
                if ledger.rows >= most_rows or ledger.bytes >= most_bytes:
                    break
            else:
                ledger.flush()
                self._work(item, batch[taken:])
                if self._crew.perf_counter() > turn_ends:
                    break
        ledger.flush()
        counters.flush()
        return taken

    def _work(self, job: Any, others: list[Item]) -> None:
        transaction = self._transaction
        job.error = None  # it may be another try
        transaction.connection.execute(f"SAVEPOINT {SAVEPOINT}")
        try:
            job.result = job.work(transaction)
            transaction.ledger.flush()
        except Exception as error:
            if not transaction.connection.in_transaction:
                raise  # SQLite undid everything: the batch has failed, not the job
            job.error = error if isinstance(error, RepriseError) else faults.translate(error, self._path)
            transaction.connection.execute(f"ROLLBACK TO {SAVEPOINT}")
            transaction.ledger.look_again(_appends(others))
        transaction.connection.execute(f"RELEASE {SAVEPOINT}")

    def _undo(self) -> None:
        self._transaction.ledger.forget()
        try:
            if self._transaction.connection.in_transaction:
                self._transaction.connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001 - the error that led here is the one to tell
            self._is_broken = True

    def _renew_connection(self) -> None:
        with suppress(Exception):
            self._transaction.connection.close()
        self._transaction = Transaction(self._reopen(), self._clock)
        self._patience, self._is_broken = self._busy, False

    def _settle(self, batch: list[Item], error: Exception) -> None:
        """Find out what became of a commit during which the disk failed.

        Its frames may be in the write-ahead log although nobody sees them, and come to light after a crash. So look;
        when the batch is not there, write it again, which overwrites those frames.
        """
        self._is_broken = True
        counters = self._transaction.counters
        try:
            self._renew_connection()
            if self._is_there(batch, counters):
                return
            connection = self._transaction.connection
            connection.execute("BEGIN IMMEDIATE")
            self._stage(batch)
            connection.execute("COMMIT")
        except Exception as second:
            self._is_broken = True
            raise OutcomeUnknown(
                f"The disk failed while {self._path} was written ({error}; then {second}).",
                hint="Ask lookup() when the disk works again.",
            ) from second

    def _is_there(self, batch: list[Item], counters: Counters) -> bool:
        connection = self._transaction.connection
        known = counters.were_written(connection)
        if known is not None:
            return known
        for append in _appends(batch):
            if append.error is None and append.position:
                stream = next(group.stream for group in append.groups if group.events)
                return connection.execute(SQL["lookup"], (stream, append.id)).fetchone() is not None
        return False

    def _refuse(self, batch: Sequence[Item], error: StoreError) -> None:
        for item in batch:
            if type(item) is Append:
                clear(item, error)
            else:
                item.error = error

    def _count(self, batch: list[Item], rows: int, size: int) -> None:
        counters = self.counters
        counters["commits"] += 1
        counters["records"] += rows
        counters["bytes"] += size
        for item in batch:
            if type(item) is not Append:
                counters["jobs"] += 1
            elif item.error is None:
                counters["appends"] += 1
            else:
                counters["refused"] += 1

    def _tell(self, batch: list[Item]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._take_back, batch)
        except RuntimeError:
            pass  # the loop has ended; nobody is left to tell

    def _take_back(self, batch: Sequence[Item]) -> None:
        self._handed -= len(batch)
        self._answer(batch)

    def _answer(self, batch: Sequence[Item]) -> None:
        for item in batch:
            done: Callable[[Any], None] | None = item.done
            if done is None:
                continue
            try:
                done(item)
            except Exception as error:  # noqa: BLE001 - one answer's error must not keep the others from theirs
                self._loop.call_exception_handler(
                    {"message": "An answer of the log failed.", "exception": error}
                )


def _appends(items: Sequence[Item]) -> list[Append]:
    return [item for item in items if type(item) is Append]
