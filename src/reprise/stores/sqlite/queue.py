"""Queues over one SQLite file: every change is a job of the writer and shares its commits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from msgspec.structs import replace

from reprise.kernel.clock import MICROSECONDS
from reprise.stores.queue import STATES, QueueStats, Settlement, Task, check_change, check_settlements, taps
from reprise.stores.signal import Signal
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.meta import KeeperClock, stored
from reprise.stores.sqlite.readers import Readers, at_once
from reprise.stores.sqlite.rows import check_row, sealed
from reprise.stores.sqlite.statements import Statements
from reprise.stores.sqlite.writer import Transaction, Writer
from reprise.stores.tasks import (
    blocks,
    changed,
    claimed,
    is_over,
    may_change,
    micros,
    offered,
    place,
    settled,
    shown,
)

SQL = Statements("queue.sql")

_OUT, _CLAIMABLE, _LATER = 0, 1, 2
_PAGE = 500

_Numbered = tuple[int, Task]
"""Number of the offer, and the task."""
_WHERE: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "": ("where_any",),
        "ready": ("where_ready", "where_due"),
        "later": ("where_not_due",),
        "claimed": ("where_claimed", "where_claim_ended"),
        "done": ("where_done",),
        "dead": ("where_dead",),
    }
)
"""Which conditions are met by the tasks of a state."""


class SQLiteQueue:
    """Queues by name."""

    claims_at_once: ClassVar[int] = 2

    def __init__(self, writer: Writer, readers: Readers, signal: Signal, clock: KeeperClock) -> None:
        self._writer = writer
        self._readers = readers
        self._signal = signal
        self._clock = clock

    async def offer(self, tasks: Sequence[Task]) -> list[bool]:
        """Add tasks and return of each whether it is new."""
        new: list[bool] = (
            await self._writer.submit(lambda transaction: offer(transaction, tasks)) if tasks else []
        )
        self._signal.wake(taps(tasks, new))
        return new

    async def claim(self, queue: str, worker: str, limit: int, ttl: float) -> list[Task]:
        """Claim up to ``limit`` ready, due tasks (and claimed ones whose claim ended) for ``ttl`` seconds."""
        if limit < 1:
            return []
        return await self._writer.submit(lambda transaction: _claim(transaction, queue, worker, limit, ttl))

    async def due(self, queue: str) -> float | None:
        """Return in how many seconds there will be something to claim; None = not by the passing of time."""
        return await self._readers.read(
            at_once(lambda connection: _due(connection, queue, self._now(connection)))
        )

    async def extend(self, tasks: Sequence[Task], ttl: float) -> list[Task | None]:
        """Extend claims; None in the place of each that was lost."""
        if not tasks:
            return []
        return await self._writer.submit(lambda transaction: _extend(transaction, tasks, ttl))

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """End claims; return of each whether it was ended: its token is not old.

        A late settle still counts as long as nobody else has claimed the task. Raises ``ConfigurationError`` for
        a state that is none.
        """
        check_settlements(settlements)
        if not settlements:
            return []
        return await self._writer.submit(lambda transaction: _settle(transaction, settlements))

    async def names(self) -> list[str]:
        """Return the names of the queues that have tasks of any state."""
        rows = await self._readers.read(lambda connection: connection.execute(SQL["names"]).fetchall())
        return [name for (name,) in rows]

    async def find(
        self,
        queue: str,
        state: str = "",
        limit: int = 100,
        *,
        ids: Sequence[str] | None = None,
        skip: int = 0,
    ) -> list[Task]:
        """Return tasks of one state if given, of ``ids`` if given, after the first ``skip``."""

        def look(connection: Connection) -> list[Task]:
            now = self._now(connection)
            if ids is not None:
                chosen = _find_many(connection, queue, ids)
            else:
                chosen = [
                    task
                    for where in _WHERE[state]
                    for task in _select(connection, where, (queue, now, skip + limit))
                ]
            found = [
                each for each in chosen if not is_over(each[1], now) and state in ("", shown(each[1], now))
            ]
            found.sort(key=lambda each: (place(each[1], state), each[0]))
            return [task for _, task in found[skip : skip + limit]]

        return await self._readers.read(at_once(look))

    async def change(
        self,
        queue: str,
        ids: Sequence[str],
        *,
        order: float | None = None,
        due_at: int | None = None,
        state: str | None = None,
    ) -> int:
        """Change tasks that are ready or dead (redrive, delay, re-order, remove); return how many.

        Raises ``ConfigurationError`` for a state other than ready, dead, gone.
        """
        check_change(state)

        def work(transaction: Transaction) -> int:
            now = transaction.counters.now()
            found = _find_many(transaction.connection, queue, ids)
            free = [each for each in found if may_change(each[1], state, now)]
            if state == "gone":
                _delete(transaction.connection, [number for number, _ in free])
            else:
                fresh = [(number, changed(task, order, due_at, state, now)) for number, task in free]
                _update(transaction.connection, fresh, now)
            return len(free)

        return await self._writer.submit(work)

    async def pause(self, queue: str, paused: bool) -> None:
        """Let nobody claim until it is resumed."""

        def work(transaction: Transaction) -> None:
            _, finished, failed = _line(transaction.connection, queue)
            _set_line(transaction.connection, queue, int(paused), finished, failed)

        await self._writer.submit(work)

    async def stats(self, queue: str) -> QueueStats:
        """Return counts."""
        return await self._readers.read(
            at_once(lambda connection: _stats(connection, queue, self._now(connection)))
        )

    async def sweep(self, queue: str, limit: int = 1000) -> int:
        """Remove up to ``limit`` tasks that were kept for as long as they should; return how many."""

        def work(transaction: Transaction) -> int:
            wanted = (queue, transaction.counters.now(), limit)
            return len(transaction.connection.execute(SQL["sweep"], wanted).fetchall())

        return await self._writer.submit(work)

    def _now(self, connection: Connection) -> int:
        return self._clock.read(stored(connection, "clock"))


# ---------------------------------------------------------------- jobs of the writer


def offer(transaction: Transaction, tasks: Sequence[Task]) -> list[bool]:
    """Add tasks within a transaction of the writer and return of each whether it is new."""
    connection, now = transaction.connection, transaction.counters.now()
    (number,) = connection.execute(SQL["last_number"]).fetchone()
    flat: list[Any] = []
    answers: list[bool] = []
    seen: set[tuple[str, str]] = set()
    for task in tasks:
        known = _find_one(connection, task.queue, task.id)
        is_new = (task.queue, task.id) not in seen and not (known and blocks(known[1], task, now))
        answers.append(is_new)
        if not is_new:
            continue
        if known is not None:
            _delete(connection, [known[0]])
        number += 1
        seen.add((task.queue, task.id))
        flat += _to_row(number, offered(task, now), now)
    SQL.write(connection, "insert", flat, 19)
    return answers


def _claim(transaction: Transaction, queue: str, worker: str, limit: int, ttl: float) -> list[Task]:
    connection, counters = transaction.connection, transaction.counters
    if _line(connection, queue)[0]:
        return []
    now = counters.now()
    # What has become due, or whose claim ended, takes its place in the order before the order is asked.
    while late := _select(connection, "where_later", (queue, now, _PAGE)):
        _update(connection, late, now)
    until = now + micros(ttl)
    mine = [
        (number, claimed(task, counters.new_token(), worker, until))
        for number, task in _select(connection, "where_claimable", (queue, limit))
    ]
    _update(connection, mine, now)
    return [task for _, task in mine]


def _extend(transaction: Transaction, tasks: Sequence[Task], ttl: float) -> list[Task | None]:
    now = transaction.counters.now()
    extended: list[Task | None] = []
    fresh: list[_Numbered] = []
    for task in tasks:
        claim = _claim_of(transaction.connection, task)
        if claim is not None:
            fresh.append((claim[0], replace(claim[1], until=now + micros(ttl))))
        extended.append(fresh[-1][1] if claim is not None else None)
    _update(transaction.connection, fresh, now)
    return extended


def _settle(transaction: Transaction, settlements: Sequence[Settlement]) -> list[bool]:
    connection, now = transaction.connection, transaction.counters.now()
    answers: list[bool] = []
    fresh: dict[int, Task] = {}
    gone: set[int] = set()
    ends: dict[str, Counter[str]] = {}
    for settlement in settlements:
        claim = _claim_of(connection, settlement.task)
        is_mine = claim is not None and claim[0] not in fresh and claim[0] not in gone
        answers.append(is_mine)
        if claim is None or not is_mine:
            continue
        ends.setdefault(claim[1].queue, Counter())[settlement.state] += 1
        if settlement.state == "gone":
            gone.add(claim[0])
        else:
            fresh[claim[0]] = settled(claim[1], settlement, now)
    _delete(connection, gone)
    _update(connection, list(fresh.items()), now)
    for queue, by_state in ends.items():
        _count(connection, queue, by_state)
    return answers


def _count(connection: Connection, queue: str, ends: Counter[str]) -> None:
    finished, failed = ends["done"] + ends["gone"], ends["ready"] + ends["dead"]
    if finished or failed:
        is_paused, before, failed_before = _line(connection, queue)
        _set_line(connection, queue, is_paused, before + finished, failed_before + failed)


# ---------------------------------------------------------------- looking


def _due(connection: Connection, queue: str, now: int) -> float | None:
    if _line(connection, queue)[0]:
        return None
    if connection.execute(SQL["is_claimable"], (queue,)).fetchone()[0]:
        return 0.0
    (first,) = connection.execute(SQL["first_later"], (queue,)).fetchone()
    return None if first is None else max(0, first - now) / MICROSECONDS


def _stats(connection: Connection, queue: str, now: int) -> QueueStats:
    counts: dict[str, int] = dict.fromkeys(STATES, 0)
    levels: dict[int, int] = {}
    numbers: list[int] = []
    for state, level, count, first in connection.execute(SQL["count"], (queue, now)).fetchall():
        counts[state] += count
        if state == "ready":
            levels[level] = levels.get(level, 0) + count
            numbers.append(first)
    oldest_us = 0
    if numbers:
        (since,) = connection.execute(SQL["waits_since"], (min(numbers),)).fetchone()
        oldest_us = now - since
    paused, finished, failed = _line(connection, queue)
    return QueueStats(
        **counts, finished=finished, failed=failed, oldest_us=oldest_us, levels=levels, paused=bool(paused)
    )


# ---------------------------------------------------------------- rows


def _select(connection: Connection, where: str, parameters: Sequence[Any]) -> list[_Numbered]:
    return [
        _to_task(row) for row in connection.execute(f"{SQL['select']} {SQL[where]}", parameters).fetchall()
    ]


def _find_one(connection: Connection, queue: str, id: str) -> _Numbered | None:
    found = _select(connection, "where_id", (queue, id))
    return found[0] if found else None


def _find_many(connection: Connection, queue: str, ids: Sequence[str]) -> list[_Numbered]:
    found = [_find_one(connection, queue, id) for id in dict.fromkeys(ids)]
    return [each for each in found if each is not None]


def _claim_of(connection: Connection, task: Task) -> _Numbered | None:
    known = _find_one(connection, task.queue, task.id)
    if known is None or known[1].state != "claimed" or known[1].token != task.token:
        return None
    return known


def _line(connection: Connection, queue: str) -> tuple[int, int, int]:
    """Return whether a queue rests, and how many of its claims have ended well and badly."""
    row = connection.execute(SQL["line"], (queue,)).fetchone()
    if row is None:
        return 0, 0, 0
    check_row("lines", queue, row)
    return row[1:4]


def _set_line(connection: Connection, queue: str, paused: int, finished: int, failed: int) -> None:
    connection.execute(SQL["set_line"], sealed((queue, paused, finished, failed)))


def _to_task(row: tuple[Any, ...]) -> _Numbered:
    check_row("tasks", row[2], row)
    (
        number, queue, id, data, rank, due_at, state, claims, token, worker, until, note, offered_at, _, _,
        outcome, level, ended_at, _,
    ) = row  # fmt: skip
    return number, Task(
        id, queue, data, rank, due_at, state, claims, token, worker, until, note, outcome, level, offered_at, ended_at
    )  # fmt: skip


def _to_row(number: int, task: Task, now: int) -> tuple[Any, ...]:
    where, later_at = _OUT, 0
    if task.state in ("ready", "claimed"):
        later_at = task.due_at if task.state == "ready" else task.until
        where = _LATER if later_at > now else _CLAIMABLE
    # float(): an order given as an integer comes back from the file as a float, and the checksum tells them apart.
    return sealed((
        number, task.queue, task.id, task.data, float(task.order), task.due_at, task.state, task.claims, task.token,
        task.worker, task.until, task.note, task.offered_at, where, later_at, task.outcome, task.level, task.ended_at,
    ))  # fmt: skip


def _update(connection: Connection, tasks: Sequence[_Numbered], now: int) -> None:
    flat: list[Any] = []
    for number, task in tasks:
        row = _to_row(number, task, now)
        flat += (number, *row[4:12], *row[13:16], *row[17:])
    SQL.write(connection, "update", flat, 14)


def _delete(connection: Connection, numbers: Sequence[int] | set[int]) -> None:
    for number in numbers:
        connection.execute(SQL["delete"], (number,))
