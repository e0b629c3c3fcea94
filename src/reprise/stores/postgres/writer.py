"""The writer: one task per store that commits everything handed over since its last commit.

The usual way is one statement per batch. The appends are judged here, by the heads that the last commits left; the
server compares these heads with the truth under the log's lock and writes all or nothing. When somebody else wrote to
one of the streams the batch is judged again inside a transaction that holds the lock, so that it cannot happen twice.

A connection that breaks after a batch was sent leaves its outcome unknown. Then the batch is looked for by the ids of
its appends, under the lock: what was sent before is either there or can no longer come, because the heads that it was
judged by are compared once more when it gets the lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

from reprise.kernel.errors import OutcomeUnknown, StoreError
from reprise.stores.log import Append, Head, answer
from reprise.stores.postgres import driver
from reprise.stores.postgres.batch import Batch, names_of, new_streams
from reprise.stores.postgres.connections import Attempts, Target, closed
from reprise.stores.postgres.driver import Connection
from reprise.stores.postgres.statements import statements

SQL = statements("log.sql")

MOST_APPENDS, MOST_BYTES = 1000, 8_000_000
"""When a batch is full."""

KNOWN_HEADS = 20_000
"""Heads that are remembered."""


class Writer:
    """Takes appends, commits them in batches, answers in order."""

    def __init__(self, target: Target) -> None:
        self.counters = dict.fromkeys(
            ("appends", "commits", "records", "refused", "bytes", "judged_again", "connections_lost"), 0
        )
        self._target = target
        self._queue: deque[Append] = deque()
        self._heads: dict[str, Head] = {}
        self._connection: Connection | None = None
        self._handed_over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._work(), name="reprise postgres writer")

    def submit(self, appends: Sequence[Append]) -> None:
        """Hand appends over."""
        if self._task is None:
            for append in appends:
                append.error = closed(self._target)
            asyncio.get_running_loop().call_soon(answer, appends)
            return
        self._queue.extend(appends)
        self._handed_over.set()

    def forget(self, stream: str) -> None:
        """Forget the head of a stream that was changed by other means."""
        self._heads.pop(stream, None)

    async def stop(self) -> None:
        """Write what was handed over, then end."""
        task, self._task = self._task, None
        if task is not None:
            self._handed_over.set()
            await task
        if self._connection is not None and not self._connection.is_closed():
            await self._connection.close()
        self._connection = None

    async def _work(self) -> None:
        while self._queue or self._task is not None:
            if not self._queue:
                self._handed_over.clear()
                await self._handed_over.wait()
                continue
            await self._settle(self._next())

    def _next(self) -> list[Append]:
        appends: list[Append] = []
        room = MOST_BYTES
        while self._queue and len(appends) < MOST_APPENDS and room > 0:
            append = self._queue.popleft()
            room -= sum(len(event.data) for group in append.groups for event in group.events)
            appends.append(append)
        return appends

    async def _settle(self, appends: Sequence[Append]) -> None:
        """Write appends and answer them; one that the server cannot store fails alone."""
        commit = _Commit(appends, self._target.attempts())
        try:
            await self._commit(commit)
        except Exception as error:  # noqa: BLE001  whatever it was, every append gets an answer
            if driver.is_about_one_value(error.__cause__ or error) and len(appends) > 1:
                for append in appends:
                    await self._settle([append])
                return
            self._refuse(commit, driver.translate(error, self._target.url))
        answer(appends)

    def _refuse(self, commit: _Commit, error: StoreError) -> None:
        if commit.sent and driver.is_lost(error.__cause__ or error):
            error = OutcomeUnknown(
                f"The store {self._target.url} was lost during a commit ({error.__cause__!r}).",
                hint="Ask lookup() when it is back.",
            )
        for append in commit.appends:
            append.error = error
        self._heads.clear()

    async def _commit(self, commit: _Commit) -> None:
        while True:
            try:
                connection = await self._connected()
                if commit.locked:
                    await self._write_under_lock(connection, commit)
                    return
                if await self._write(connection, commit):
                    return
                self.counters["judged_again"] += 1
                commit.locked = True
            except Exception as error:  # noqa: BLE001  told apart by what it means
                commit.locked = True
                self._drop_connection()
                if driver.is_lost(error):
                    self.counters["connections_lost"] += 1
                await commit.attempts.pause(error)

    async def _write(self, connection: Connection, commit: _Commit) -> bool:
        """Write by what is known; False when somebody else wrote to one of the streams."""
        names = names_of(commit.appends)
        unknown = names - self._heads.keys() - new_streams(commit.appends)
        if unknown:
            self._remember(await _read_heads(connection, unknown))
        batch = Batch(commit.appends, self._heads)
        commit.sent.append(batch)
        base = await connection.fetchval(SQL["write"], *batch.arguments())
        commit.sent.remove(batch)
        if base is None:
            return False
        self._finish(batch, base)
        return True

    async def _write_under_lock(self, connection: Connection, commit: _Commit) -> None:
        """Look for what may have been written, else write, with everybody else kept out."""
        async with connection.transaction():
            await connection.execute(SQL["lock"])
            heads = await _read_heads(connection, names_of(commit.appends))
            batch, base = await _find(connection, commit.sent, heads)
            if batch is None:
                batch = Batch(commit.appends, heads)
                commit.sent.append(batch)
                base = await connection.fetchval(SQL["write"], *batch.arguments())
        self._heads.update(heads)
        self._finish(batch, base)

    def _finish(self, batch: Batch, base: int) -> None:
        self._remember(batch.changed)
        batch.answer(base)
        records, size = batch.size()
        refused = sum(verdict.error is not None for verdict in batch.verdicts)
        counters = self.counters
        counters["commits"] += 1
        counters["appends"] += len(batch.verdicts) - refused
        counters["refused"] += refused
        counters["records"] += records
        counters["bytes"] += size

    def _remember(self, heads: Mapping[str, Head]) -> None:
        if len(self._heads) > KNOWN_HEADS:
            self._heads.clear()
        self._heads.update(heads)

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._target.connect()
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = None
        self._heads.clear()


class _Commit:
    """Appends on their way, and all batches that were sent for them without an answer."""

    def __init__(self, appends: Sequence[Append], attempts: Attempts) -> None:
        self.appends = appends
        self.attempts = attempts
        self.sent: list[Batch] = []
        self.locked = False


async def _read_heads(connection: Connection, names: set[str]) -> dict[str, Head]:
    """Return the heads of streams; those that do not exist are not in it."""
    rows = await connection.fetch(SQL["heads"], list(names))
    return {row["name"]: Head(row["version"], row["token"], row["closed"]) for row in rows}


async def _find(
    connection: Connection, sent: Sequence[Batch], heads: Mapping[str, Head]
) -> tuple[Batch | None, int]:
    """Return the batch that was written after all, with the position before its first record."""
    for batch in sent:
        if batch.has_records:
            base = await connection.fetchval(SQL["find"], *batch.markers())
            if base is not None:
                return batch, base
        elif batch.changed and all(heads.get(name) == head for name, head in batch.changed.items()):
            # Without a record there is only the state to go by: tokens taken and streams closed as it wanted.
            return batch, 0
    return None, 0
