"""Queues over one SQLite file: every change is a job of the writer and shares its commits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import ConfigurationError
from reprise.stores.queue import Task
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.meta import KeeperClock, stored
from reprise.stores.sqlite.readers import Readers
from reprise.stores.sqlite.rows import check_row, sealed
from reprise.stores.sqlite.statements import Statements
from reprise.stores.sqlite.writer import Transaction, Writer

SQL = Statements("queue.sql")

KEPT_DONE = 1000
"""Finished tasks that a queue remembers for people to look at; older ones are forgotten now and then."""
STATES = ("ready", "claimed", "done", "dead")

_OUT, _CLAIMABLE, _LATER = 0, 1, 2
_PAGE = 500

_Numbered = tuple[int, int, Task]
"""Number of the offer, time of the offer, and the task."""


class SQLiteQueue:
    """Queues by name."""

    def __init__(self, writer: Writer, readers: Readers, clock: KeeperClock) -> None:
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._done: dict[str, int] = {}

    async def offer(self, tasks: Sequence[Task]) -> int:
        """Add tasks and return how many were new; an id that is done may be offered anew."""
        return await self._writer.submit(lambda transaction: offer(transaction, tasks)) if tasks else 0

    async def claim(self, queue: str, worker: str, limit: int, ttl: float) -> list[Task]:
        """Claim up to ``limit`` ready, due tasks (and claimed ones whose claim ended) for ``ttl`` seconds."""
        if limit < 1:
            return []
        return await self._writer.submit(lambda transaction: _claim(transaction, queue, worker, limit, ttl))

    async def extend(self, tasks: Sequence[Task], ttl: float) -> list[Task | None]:
        """Extend claims; None in the place of each that was lost."""
        return (
            await self._writer.submit(lambda transaction: _extend(transaction, tasks, ttl)) if tasks else []
        )

    async def settle(self, task: Task, state: str, *, due_at: int = 0, note: str = "") -> bool:
        """End a claim: ``done``, ``dead``, or ``ready`` again at ``due_at``. False = the token is old.

        A late settle still counts as long as nobody else has claimed the task. Raises ``ConfigurationError`` for
        another state.
        """
        _check_state(state)
        forget = state == "done" and self._is_time_to_forget(task.queue)
        return await self._writer.submit(
            lambda transaction: _settle(transaction, task, state, due_at, note, forget=forget)
        )

    async def names(self) -> list[str]:
        """Return the names of the queues that have tasks of any state."""
        rows = await self._readers.read(lambda connection: connection.execute(SQL["names"]).fetchall())
        return [name for (name,) in rows]

    async def find(self, queue: str, state: str = "", limit: int = 100) -> list[Task]:
        """Return tasks in their order, of one state if given."""

        def look(connection: Connection) -> list[Task]:
            if state:
                found = _select(connection, "where_state", (queue, state, limit))
            else:
                found = _select(connection, "where_queue", (queue, limit))
            return [task for _, _, task in found]

        return await self._readers.read(look)

    async def change(
        self,
        queue: str,
        ids: Sequence[str],
        *,
        order: float | None = None,
        due_at: int | None = None,
        state: str | None = None,
    ) -> int:
        """Change unclaimed tasks (redrive dead ones, delay, re-order); return how many.

        Raises ``ConfigurationError`` for a state other than ready, done, dead.
        """
        if state is not None:
            _check_state(state)

        def changed(task: Task) -> Task:
            return replace(
                task,
                order=task.order if order is None else order,
                due_at=task.due_at if due_at is None else due_at,
                state=task.state if state is None else state,
            )

        return await self._writer.submit(lambda transaction: _change(transaction, queue, ids, changed))

    async def stats(self, queue: str) -> dict[str, int]:
        """Return counts by state, and ``oldest_us`` = age of the oldest ready task."""
        return await self._readers.read(lambda connection: _stats(connection, queue, self._clock))

    def _is_time_to_forget(self, queue: str) -> bool:
        done = self._done[queue] = self._done.get(queue, 0) + 1
        return done % KEPT_DONE == 0


# ---------------------------------------------------------------- jobs of the writer


def offer(transaction: Transaction, tasks: Sequence[Task]) -> int:
    """Add tasks within a transaction of the writer and return how many were new."""
    connection, now = transaction.connection, transaction.counters.now()
    (number,) = connection.execute(SQL["last_number"]).fetchone()
    flat: list[Any] = []
    offered: set[tuple[str, str]] = set()
    for task in tasks:
        if (task.queue, task.id) in offered:
            continue
        known = _find_one(connection, task.queue, task.id)
        if known is not None:
            if known[2].state != "done":
                continue
            connection.execute(SQL["delete"], (known[0],))
        number += 1
        offered.add((task.queue, task.id))
        fresh = replace(task, state="ready", claims=0, token=0, worker="", until=0)
        flat += _to_row(number, now, fresh, now)
    SQL.write(connection, "insert", flat, 16)
    return len(offered)


def _claim(transaction: Transaction, queue: str, worker: str, limit: int, ttl: float) -> list[Task]:
    connection, counters = transaction.connection, transaction.counters
    now = counters.now()
    # What has become due, or whose claim ended, takes its place in the order before the order is asked.
    while late := _select(connection, "where_later", (queue, now, _PAGE)):
        _update(connection, late, now)
    claimed: list[_Numbered] = []
    for number, offered_at, task in _select(connection, "where_claimable", (queue, limit)):
        fresh = replace(
            task,
            state="claimed",
            claims=task.claims + 1,
            token=counters.new_token(),
            worker=worker,
            until=now + round(ttl * MICROSECONDS),
        )
        claimed.append((number, offered_at, fresh))
    _update(connection, claimed, now)
    return [task for _, _, task in claimed]


def _extend(transaction: Transaction, tasks: Sequence[Task], ttl: float) -> list[Task | None]:
    now = transaction.counters.now()
    extended: list[Task | None] = []
    for task in tasks:
        claim = _claim_of(transaction.connection, task)
        if claim is not None:
            fresh = replace(claim[2], until=now + round(ttl * MICROSECONDS))
            _update(transaction.connection, [(claim[0], claim[1], fresh)], now)
            extended.append(fresh)
        else:
            extended.append(None)
    return extended


def _settle(
    transaction: Transaction, task: Task, state: str, due_at: int, note: str, *, forget: bool
) -> bool:
    connection = transaction.connection
    claim = _claim_of(connection, task)
    if claim is None:
        return False
    number, offered_at, known = claim
    fresh = replace(known, state=state, due_at=due_at or known.due_at, note=note, worker="", until=0)
    _update(connection, [(number, offered_at, fresh)], transaction.counters.now())
    if forget:
        connection.execute(SQL["forget_done"], (task.queue, KEPT_DONE))
    return True


def _change(transaction: Transaction, queue: str, ids: Sequence[str], changed: Callable[[Task], Task]) -> int:
    connection = transaction.connection
    found = [_find_one(connection, queue, id) for id in dict.fromkeys(ids)]
    fresh = [
        (row[0], row[1], changed(row[2])) for row in found if row is not None and row[2].state != "claimed"
    ]
    _update(connection, fresh, transaction.counters.now())
    return len(fresh)


def _stats(connection: Connection, queue: str, clock: KeeperClock) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(STATES, 0)
    oldest_us = 0
    for state, count, first in connection.execute(SQL["counts"], (queue,)).fetchall():
        counts[state] = count
        if state == "ready":
            (offered_at,) = connection.execute(SQL["offered_at"], (first,)).fetchone()
            oldest_us = clock.read(stored(connection, "clock")) - offered_at
    return {**counts, "oldest_us": oldest_us}


# ---------------------------------------------------------------- rows


def _select(connection: Connection, where: str, parameters: Sequence[Any]) -> list[_Numbered]:
    return [
        _to_task(row) for row in connection.execute(f"{SQL['select']} {SQL[where]}", parameters).fetchall()
    ]


def _find_one(connection: Connection, queue: str, id: str) -> _Numbered | None:
    found = _select(connection, "where_id", (queue, id))
    return found[0] if found else None


def _claim_of(connection: Connection, task: Task) -> _Numbered | None:
    known = _find_one(connection, task.queue, task.id)
    if known is None or known[2].state != "claimed" or known[2].token != task.token:
        return None
    return known


def _to_task(row: tuple[Any, ...]) -> _Numbered:
    check_row("tasks", row[2], row)
    number, queue, id, data, rank, due_at, state, claims, token, worker, until, note, offered_at, _, _, _ = (
        row
    )
    return number, offered_at, Task(id, queue, data, rank, due_at, state, claims, token, worker, until, note)


def _to_row(number: int, offered_at: int, task: Task, now: int) -> tuple[Any, ...]:
    place, later_at = _OUT, 0
    if task.state in ("ready", "claimed"):
        later_at = task.due_at if task.state == "ready" else task.until
        place = _LATER if later_at > now else _CLAIMABLE
    # float(): an order given as an integer comes back from the file as a float, and the checksum tells them apart.
    return sealed((
        number, task.queue, task.id, task.data, float(task.order), task.due_at, task.state, task.claims, task.token,
        task.worker, task.until, task.note, offered_at, place, later_at,
    ))  # fmt: skip


def _update(connection: Connection, tasks: Sequence[_Numbered], now: int) -> None:
    flat: list[Any] = []
    for number, offered_at, task in tasks:
        _, _, _, _, rank, due_at, state, claims, token, worker, until, note, _, place, later_at, crc = (
            _to_row(number, offered_at, task, now)
        )
        flat += (number, rank, due_at, state, claims, token, worker, until, note, place, later_at, crc)
    SQL.write(connection, "update", flat, 12)


def _check_state(state: str) -> None:
    if state not in ("ready", "done", "dead"):
        raise ConfigurationError(f"A task cannot be put in state {state!r}.", hint="Use ready, done or dead.")
