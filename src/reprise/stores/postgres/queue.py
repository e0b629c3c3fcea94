"""Queues in PostgreSQL: decided by the server, under its clock; claimers pass over what others are at."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import ConfigurationError
from reprise.stores.postgres.connections import Pool
from reprise.stores.postgres.driver import Connection, Row
from reprise.stores.postgres.statements import statements
from reprise.stores.queue import Task

SQL = statements("queue.sql")

KEPT_DONE = 1000
"""Finished tasks that a queue remembers for people to look at; older ones are forgotten now and then."""
STATES = ("ready", "claimed", "done", "dead")


class PostgresQueue:
    """Queues by name.

    When a connection breaks before the server's answer came, the statement is sent again. A settle is then told what
    its first attempt did; tasks that a lost claim took come back when its time is over; an offer does not count those
    that its lost attempt added.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._done: dict[str, int] = {}

    async def offer(self, tasks: Sequence[Task]) -> int:
        """Add tasks and return how many were new; an id that is done may be offered anew."""
        return await self._pool.run(lambda c: offer(c, tasks)) if tasks else 0

    async def claim(self, queue: str, worker: str, limit: int, ttl: float) -> list[Task]:
        """Claim up to ``limit`` ready, due tasks (and claimed ones whose claim ended) for ``ttl`` seconds."""
        if limit < 1:
            return []
        rows = await self._pool.run(lambda c: c.fetch(SQL["claim"], queue, worker, limit, _us(ttl)))
        return [_to_task(row) for row in rows]

    async def extend(self, tasks: Sequence[Task], ttl: float) -> list[Task | None]:
        """Extend claims; None in the place of each that was lost."""
        if not tasks:
            return []
        columns = ([t.queue for t in tasks], [t.id for t in tasks], [t.token for t in tasks])
        rows = await self._pool.run(lambda c: c.fetch(SQL["extend"], *columns, _us(ttl)))
        extended = {(row["queue"], row["id"], row["token"]): _to_task(row) for row in rows}
        return [extended.get((task.queue, task.id, task.token)) for task in tasks]

    async def settle(self, task: Task, state: str, *, due_at: int = 0, note: str = "") -> bool:
        """End a claim: ``done``, ``dead``, or ``ready`` again at ``due_at``. False = the token is old.

        A late settle still counts as long as nobody else has claimed the task. Raises ``ConfigurationError`` for
        another state.
        """
        _check_state(state)
        attempts = count()

        async def attempt(connection: Connection) -> bool:
            again = next(attempts) > 0
            return await connection.fetchval(
                SQL["settle"], task.queue, task.id, task.token, state, due_at, note, again
            )

        settled = await self._pool.run(attempt)
        if settled and state == "done":
            await self._forget_old(task.queue)
        return settled

    async def _forget_old(self, queue: str) -> None:
        done = self._done[queue] = self._done.get(queue, 0) + 1
        if done % KEPT_DONE == 0:
            await self._pool.run(lambda c: c.execute(SQL["forget_done"], queue, KEPT_DONE))

    async def names(self) -> list[str]:
        """Return the names of the queues that have tasks of any state."""
        return [row["name"] for row in await self._pool.run(lambda c: c.fetch(SQL["names"]))]

    async def find(self, queue: str, state: str = "", limit: int = 100) -> list[Task]:
        """Return tasks in their order, of one state if given."""
        if state:
            rows = await self._pool.run(lambda c: c.fetch(SQL["find_state"], queue, limit, state))
        else:
            rows = await self._pool.run(lambda c: c.fetch(SQL["find"], queue, limit))
        return [_to_task(row) for row in rows]

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
        rank = None if order is None else float(order)
        changes = (list(ids), rank, due_at, state)
        return len(await self._pool.run(lambda c: c.fetch(SQL["change"], queue, *changes)))

    async def stats(self, queue: str) -> dict[str, int]:
        """Return counts by state, and ``oldest_us`` = age of the oldest ready task."""
        counts: dict[str, int] = dict.fromkeys(STATES, 0)
        oldest_us = 0
        for row in await self._pool.run(lambda c: c.fetch(SQL["counts"], queue)):
            counts[row["state"]] = row["count"]
            if row["state"] == "ready":
                oldest_us = row["age"]
        return {**counts, "oldest_us": oldest_us}


async def offer(connection: Connection, tasks: Sequence[Task]) -> int:
    """Add tasks and return how many were new."""
    first: dict[tuple[str, str], Task] = {}
    for task in tasks:
        first.setdefault((task.queue, task.id), task)
    offered = list(first.values())
    return await connection.fetchval(
        SQL["offer"],
        [task.queue for task in offered],
        [task.id for task in offered],
        [task.data for task in offered],
        [float(task.order) for task in offered],
        [task.due_at for task in offered],
    )


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
    )


def _us(seconds: float) -> int:
    return round(seconds * MICROSECONDS)


def _check_state(state: str) -> None:
    if state not in ("ready", "done", "dead"):
        raise ConfigurationError(f"A task cannot be put in state {state!r}.", hint="Use ready, done or dead.")
