"""Queues in PostgreSQL: decided by the server, under its clock; claimers pass over what others are at."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import ClassVar

from reprise.kernel.clock import MICROSECONDS
from reprise.stores.postgres.connections import Pool
from reprise.stores.postgres.driver import Connection, Row
from reprise.stores.postgres.statements import statements
from reprise.stores.queue import STATES, QueueStats, Settlement, Task, check_change, check_settlements, taps
from reprise.stores.signal import Signal
from reprise.stores.tasks import is_over, micros, place, shown

SQL = statements("queue.sql")


class PostgresQueue:
    """Queues by name.

    When a connection breaks before the server's answer came, the statement is sent again. A settle is then told what
    its first attempt did; tasks that a lost claim took come back when its time is over; an offer does not call those
    new that its lost attempt added.
    """

    claims_at_once: ClassVar[int] = 1

    def __init__(self, pool: Pool, signal: Signal) -> None:
        self._pool, self._signal = pool, signal

    async def offer(self, tasks: Sequence[Task]) -> list[bool]:
        """Add tasks and return of each whether it is new."""
        new: list[bool] = await self._pool.run(lambda c: offer(c, tasks)) if tasks else []
        self._signal.wake(taps(tasks, new))
        return new

    async def claim(self, queue: str, worker: str, limit: int, ttl: float) -> list[Task]:
        """Claim up to ``limit`` ready, due tasks (and claimed ones whose claim ended) for ``ttl`` seconds."""
        if limit < 1:
            return []
        rows = await self._pool.run(lambda c: c.fetch(SQL["claim"], queue, worker, limit, micros(ttl)))
        return [_to_task(row) for row in rows]

    async def due(self, queue: str) -> float | None:
        """Return in how many seconds there will be something to claim; None = not by the passing of time."""
        left: int | None = await self._pool.run(lambda c: c.fetchval(SQL["due"], queue))
        return None if left is None else max(0, left) / MICROSECONDS

    async def extend(self, tasks: Sequence[Task], ttl: float) -> list[Task | None]:
        """Extend claims; None in the place of each that was lost."""
        if not tasks:
            return []
        columns = ([t.queue for t in tasks], [t.id for t in tasks], [t.token for t in tasks])
        rows = await self._pool.run(lambda c: c.fetch(SQL["extend"], *columns, micros(ttl)))
        extended = {(row["queue"], row["id"], row["token"]): _to_task(row) for row in rows}
        return [extended.get((task.queue, task.id, task.token)) for task in tasks]

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """End claims; return of each whether it was ended: its token is not old.

        A late settle still counts as long as nobody else has claimed the task. Raises ``ConfigurationError`` for
        a state that is none.
        """
        check_settlements(settlements)
        if not settlements:
            return []
        ends: dict[_Claim, Settlement] = {}
        for each in settlements:
            ends.setdefault(_claim(each.task), each)
        wishes = list(ends.values())
        attempts = count()

        async def attempt(connection: Connection) -> set[int]:
            again = next(attempts) > 0
            rows = await connection.fetch(SQL["settle"], *_columns(wishes))
            if again:
                rows = [*rows, *await connection.fetch(SQL["traces"], *_traces(wishes))]
            return {row["n"] for row in rows}

        settled = {_claim(wishes[number - 1].task) for number in await self._pool.run(attempt)}
        return [
            _claim(each.task) in settled and ends.pop(_claim(each.task), None) is not None
            for each in settlements
        ]

    async def names(self) -> list[str]:
        """Return the names of the queues that have tasks of any state."""
        return [row["name"] for row in await self._pool.run(lambda c: c.fetch(SQL["names"]))]

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
        if ids is not None:
            return _chosen(
                await self._pool.run(lambda c: c.fetch(SQL["find_ids"], queue, ids)), state, skip, limit
            )
        statement = SQL[f"find_{state}" if state else "find"]
        return [
            _to_task(row) for row in await self._pool.run(lambda c: c.fetch(statement, queue, limit, skip))
        ]

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
        if state == "gone":
            return len(await self._pool.run(lambda c: c.fetch(SQL["remove"], queue, list(ids))))
        rank = None if order is None else float(order)
        changes = (list(ids), rank, due_at, state)
        return len(await self._pool.run(lambda c: c.fetch(SQL["change"], queue, *changes)))

    async def pause(self, queue: str, paused: bool) -> None:
        """Let nobody claim until it is resumed."""
        await self._pool.run(lambda c: c.execute(SQL["pause" if paused else "resume"], queue))

    async def stats(self, queue: str) -> QueueStats:
        """Return counts."""
        counts: dict[str, int] = dict.fromkeys(STATES, 0)
        levels: dict[int, int] = {}
        oldest_us = 0
        rows = await self._pool.run(lambda c: c.fetch(SQL["stats"], queue))
        for row in rows:
            if row["shown"] is None:
                continue
            counts[row["shown"]] += row["count"]
            if row["shown"] == "ready":
                levels[row["level"]] = row["count"]
                oldest_us = max(oldest_us, row["age"])
        return QueueStats(
            **counts,
            finished=rows[0]["finished"],
            failed=rows[0]["failed"],
            oldest_us=oldest_us,
            levels=levels,
            paused=rows[0]["paused"],
        )

    async def sweep(self, queue: str, limit: int = 1000) -> int:
        """Remove up to ``limit`` tasks that were kept for as long as they should; return how many."""
        return len(await self._pool.run(lambda c: c.fetch(SQL["sweep"], queue, limit)))


async def offer(connection: Connection, tasks: Sequence[Task]) -> list[bool]:
    """Add tasks and return of each whether it is new."""
    first: dict[tuple[str, str], Task] = {}
    for task in tasks:
        first.setdefault((task.queue, task.id), task)
    offered = list(first.values())
    rows = await connection.fetch(
        SQL["offer"],
        [task.queue for task in offered],
        [task.id for task in offered],
        [task.data for task in offered],
        [float(task.order) for task in offered],
        [task.due_at for task in offered],
        [micros(task.delay) for task in offered],
        [task.note for task in offered],
        [task.outcome for task in offered],
        [task.level for task in offered],
        [micros(task.again) for task in offered],
    )
    new = {(row["queue"], row["id"]) for row in rows}
    return [
        (task.queue, task.id) in new and first.pop((task.queue, task.id), None) is not None for task in tasks
    ]


# ---------------------------------------------------------------- values and rows

_Claim = tuple[str, str, int]


def _claim(task: Task) -> _Claim:
    return task.queue, task.id, task.token


def _columns(wishes: Sequence[Settlement]) -> tuple[Sequence[object], ...]:
    return (
        [wish.task.queue for wish in wishes],
        [wish.task.id for wish in wishes],
        [wish.task.token for wish in wishes],
        [wish.state for wish in wishes],
        [micros(wish.delay) for wish in wishes],
        [wish.note for wish in wishes],
        [wish.outcome for wish in wishes],
        [None if wish.keep is None else micros(wish.keep) for wish in wishes],
    )


def _traces(wishes: Sequence[Settlement]) -> tuple[Sequence[object], ...]:
    queues, ids, tokens, states, _, notes, *_ = _columns(wishes)
    return queues, ids, tokens, states, notes


def _chosen(rows: Sequence[Row], state: str, skip: int, limit: int) -> list[Task]:
    found = [(_to_task(row), row["number"]) for row in rows]
    now = rows[0]["now"] if rows else 0
    found = [each for each in found if not is_over(each[0], now) and state in ("", shown(each[0], now))]
    found.sort(key=lambda each: (place(each[0], state), each[1]))
    return [task for task, _ in found[skip : skip + limit]]


def _to_task(row: Row) -> Task:
    return Task(
        row["id"],
        row["queue"],
        row["data"],
        row["rank"],
        row["due_at"],
        row["state"],
        row["claims"],
        row["token"],
        row["worker"],
        row["until"],
        row["note"],
        row["outcome"],
        row["level"],
        row["offered_at"],
        row["ended_at"],
    )
