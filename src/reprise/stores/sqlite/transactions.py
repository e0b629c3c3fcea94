"""A caller's own work in the commits of the writer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reprise.stores.log import Append
from reprise.stores.sqlite.lending import Guard, guard_of
from reprise.stores.sqlite.queue import offer
from reprise.stores.sqlite.writer import Transaction, Writer
from reprise.stores.transactions import WorkFailed, Writes


class SQLiteTransactions:
    """The port of the transactions over one file.

    Work is done in the writer's thread, inside its commit and between savepoints: the file has one writer, so while it
    goes on nobody else writes. Commits are shared with other appends, and with other work.
    """

    is_sync = True

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._guard: Guard | None = None

    async def commit(
        self, id: int, work: Callable[[Any], Any], finish: Callable[[], Writes], seconds: float
    ) -> Append:
        """Do work with a connection (``SQLiteConnection``), then write what ``finish`` returns, in one commit.

        Raises ``WorkFailed``; ``AppendRefused`` or another ``StoreError``: nothing was written; ``OutcomeUnknown``.
        """
        failed: list[WorkFailed] = []

        def job(transaction: Transaction) -> Append:
            if failed:  # the others of the batch are tried again without it
                raise failed[0]
            try:
                writes = self._do(transaction, work, finish, seconds)
            except WorkFailed as error:
                failed.append(error)
                raise
            except Exception as error:
                failed.append(WorkFailed(f"Work in a transaction failed with {error!r}."))
                raise failed[0] from error
            return _write(transaction, id, writes)

        return await self._writer.submit(job)

    def _do(
        self,
        transaction: Transaction,
        work: Callable[[Any], Any],
        finish: Callable[[], Writes],
        seconds: float,
    ) -> Writes:
        self._guard = guard_of(transaction.connection, self._guard)
        with self._guard.lent(seconds) as face:
            work(face)
        if not transaction.connection.in_transaction:
            raise RuntimeError("a statement has undone the transaction (OR ROLLBACK, RAISE(ROLLBACK))")
        return finish()


def _write(transaction: Transaction, id: int, writes: Writes) -> Append:
    # Leaves a trace of the commit, so that one whose outcome the disk left open is not done again.
    transaction.counters.now()
    append = Append(id, writes.groups)
    transaction.ledger.write(append)
    if writes.tasks:
        offer(transaction, writes.tasks)
    return append
