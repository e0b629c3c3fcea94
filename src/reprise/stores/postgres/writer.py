"""The writer: one task per store that commits everything handed over since its last commit.

A batch is one statement. The appends are judged here, by the heads that the last commits left; the server compares
these heads with the truth under the log's lock and writes all or nothing. When somebody else wrote to one of the
streams meanwhile, the batch is judged again by fresh heads. So nobody holds the lock while a client thinks; only after
several collisions in a row does a batch wait its turn inside a transaction.

A connection that breaks after a batch was sent leaves its outcome unknown. Then fresh heads are read, and *after* that
the batch is looked for by the ids of its appends. It is there; or it comes while it is sent again, and then the heads
have changed and the second one is refused, and it is looked for again; or it never comes. When the outcome of the second
one is unknown, too, one of them at most was written: by fresh heads it may have been judged differently, so a batch is
found only when all of it is there, and of two that are, the one with more in it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

from reprise.kernel.errors import NoRoom, OutcomeUnknown, StoreError
from reprise.stores.log import Append, Head, answer
from reprise.stores.postgres import driver
from reprise.stores.postgres.batch import EPOCH, Batch, names_of, new_streams, no_room
from reprise.stores.postgres.blobs import SQL as BLOBS
from reprise.stores.postgres.connections import Attempts, Target, closed
from reprise.stores.postgres.driver import Connection
from reprise.stores.postgres.statements import statements

SQL = statements("log.sql")

MOST_APPENDS, MOST_BYTES = 1000, 8_000_000
"""When a batch is full."""

COLLISIONS = 3
"""After so many batches in a row that somebody else was faster than, others are kept out for one."""

KNOWN_HEADS = 20_000
"""Heads that are remembered."""

PLANNED_ONCE = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
"""Settings with which the server plans each statement once per connection.

Left alone it plans anew for every batch, for it sees how long the arrays are and takes the plan for these to be worth it:
more than half of its work for an append. And a plan that reads whole tables, right while they are small, would still be
used when they are large.
"""


class Writer:
    """Takes appends, commits them in batches, answers in order."""

    def __init__(self, target: Target) -> None:
        self.counters = dict.fromkeys(
            (
                "appends",
                "commits",
                "records",
                "refused",
                "bytes",
                "judged_again",
                "connections_lost",
                "outcomes_found",
            ),
            0,
        )
        self._target = target
        self._queue: deque[Append] = deque()
        self.epoch = 0
        """Of the store, as last seen."""
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

    def remember_epoch(self, head: Head) -> None:
        """Know from the start of what epoch the store is, before anything is written."""
        self._remember({EPOCH: head})

    def forget(self, streams: Sequence[str]) -> None:
        """Forget the heads of streams that were changed by other means."""
        for stream in streams:
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
            room -= sum(len(blob.data) for group in append.groups for blob in group.blobs)
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
                batch, base = await self._write(await self._connected(), commit)
            except Exception as error:  # noqa: BLE001  told apart by what it means
                self._drop_connection()
                if driver.is_lost(error):
                    self.counters["connections_lost"] += 1
                await commit.attempts.pause(error)
                continue
            if base is not None:
                self.finish(batch, base)
                return
            assert commit.collisions < COLLISIONS, "under the lock nobody else can be faster"
            commit.collisions += 1
            self.counters["judged_again"] += 1
            for name in batch.believed:
                self._heads.pop(name, None)

    async def _write(self, connection: Connection, commit: _Commit) -> tuple[Batch, int | None]:
        """Return what was written and the position before its first record, None if somebody else was there first."""
        if commit.collisions < COLLISIONS:
            return await self._look_or_send(connection, commit)
        async with connection.transaction():
            await connection.execute(SQL["lock"])
            return await self._look_or_send(connection, commit)

    async def _look_or_send(self, connection: Connection, commit: _Commit) -> tuple[Batch, int | None]:
        names = names_of(commit.appends)
        unknown = names - self._heads.keys()
        if not commit.sent and not commit.collisions:
            unknown -= new_streams(commit.appends)
        if unknown:
            self._remember(await read_heads(connection, unknown))
        # Looked for after the heads were read: a batch that arrives later than this look changes a head, and then the
        # one sent below is refused.
        if (found := await _find(connection, commit.sent, self._heads)) is not None:
            self.counters["outcomes_found"] += 1
            return found
        while True:
            batch = Batch(commit.appends, self._heads, commit.crowded)
            commit.sent.append(batch)
            before = len(commit.crowded)
            base = await send(connection, batch, commit.crowded)
            if base is None:
                commit.sent.remove(batch)
            if len(commit.crowded) == before:
                return batch, base

    def finish(self, batch: Batch, base: int) -> None:
        """Answer the appends of a batch that was written, and know its heads; ``base`` is where it begins."""
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
        if EPOCH in heads:
            self.epoch = heads[EPOCH].version

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._target.connect(**PLANNED_ONCE)
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
        self.crowded: dict[int, NoRoom] = {}
        """Appends, by their numbers, for which there were no places."""
        self.collisions = 0


async def read_heads(connection: Connection, names: set[str]) -> dict[str, Head]:
    """Return the heads of streams; those that do not exist are not in it."""
    rows = await connection.fetch(SQL["heads"], list(names))
    return {row["name"]: Head(row["version"], row["token"], row["closed"]) for row in rows}


async def send(connection: Connection, batch: Batch, crowded: dict[int, NoRoom]) -> int | None:
    """Return the position before a batch's first record, None if nothing was written.

    That is so when a head was another, and when appends had no places: these are added to ``crowded``.
    """
    if batch.has_takes:
        (row,) = await connection.fetch(SQL["write_limited"], *batch.limited_arguments())
        refused: list[int] = row["refused"]
        for number, lease in zip(refused, row["lacking"], strict=True):
            crowded[number] = no_room(batch.verdicts[number].append, lease)
        return row["base"]
    if batch.has_blobs:
        return await connection.fetchval(BLOBS["write"], *batch.arguments(), *batch.blobs())
    return await connection.fetchval(SQL["write"], *batch.arguments())


async def _find(
    connection: Connection, sent: Sequence[Batch], heads: Mapping[str, Head]
) -> tuple[Batch, int] | None:
    """Return which of the batches that were sent for the same appends was written, and the position before its first
    record; None if none was.
    """
    found: list[tuple[Batch, int]] = []
    for batch in sent:
        base = await base_of(connection, batch, heads)
        if base is not None:
            found.append((batch, base))
    if not found:
        return None
    most = max(batch.marks for batch, _ in found)
    batch, base = next(each for each in found if each[0].marks == most)
    batch.doubt([other for other, _ in found if other.marks == most])
    return batch, base


async def base_of(connection: Connection, batch: Batch, heads: Mapping[str, Head]) -> int | None:
    """Return the position before a batch's first record if it was written, None if it was not."""
    if batch.marks:
        return await connection.fetchval(SQL["find"], *batch.markers())
    # Without a record there is only the state to go by: tokens taken and streams closed as the batch wanted.
    done = batch.changed and all(heads.get(name) == head for name, head in batch.changed.items())
    return 0 if done else None
