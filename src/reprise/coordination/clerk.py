"""How tasks become rows, and what becomes of the claims on them: decided here, without asking anybody."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from reprise.coordination.metrics import QUEUE_LATENCY, QUEUE_RETRIES
from reprise.coordination.tasks import (
    Order,
    Task,
    done,
    encoded,
    failed,
    read_order,
    to_task,
    unique_id,
    write_order,
)
from reprise.kernel.clock import MICROSECONDS, from_datetime
from reprise.kernel.ids import Ids
from reprise.kernel.order import aged
from reprise.kernel.policy import Fault, Retry, seconds
from reprise.kernel.priority import Priority
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.runtime.face import current_step
from reprise.runtime.pool import STEP
from reprise.stores import queue as port


class Terms(msgspec.Struct, frozen=True):
    """On what terms a queue takes tasks and keeps what came of them; see :class:`~reprise.coordination.queue.TaskQueue`."""

    result_ttl: float
    dead_letter_ttl: float
    dedupe_window: float
    retry: Retry
    payload_limit: int
    step: float


class Clerk:
    """Writes and reads the rows of a queue."""

    def __init__(self, queue: str, terms: Terms) -> None:
        self._queue = queue
        self._terms = terms
        around = SURROUNDINGS.get()
        self._uniform = around.uniform
        self.now = around.clock.now
        self.new_id = Ids(self.now).new
        self._latency, self._retries = QUEUE_LATENCY.of(queue), QUEUE_RETRIES.of(queue)

    def row_of(self, task: Task) -> port.Task:
        """Return the row that a task becomes, with an id if it has none. Raises ``CodecError``, ``PayloadTooLarge``."""
        terms = self._terms
        first = now = self.now()
        delay, due_at = 0.0, 0
        if task.delay:
            delay = seconds(task.delay, "delay")
            first += round(delay * MICROSECONDS)
        if task.run_at is not None:
            due_at = from_datetime(task.run_at)
            first = max(due_at, first)
        payload = encoded(task.payload, terms.payload_limit, "The payload of a task {!r}", task.task_type)
        priority = task.priority if type(task.priority) is Priority else Priority.parse(task.priority)
        id, is_new = task.task_id, False
        if not id:
            id, is_new = self._made_id(task, payload)
        return port.Task(
            id,
            self._queue,
            write_order(task, payload, now),
            aged(priority, first, step=terms.step),
            due_at,
            level=int(priority),
            delay=delay,
            again=0.0 if task.unique else terms.dedupe_window,
            is_new=is_new,
        )

    def _made_id(self, task: Task, payload: bytes) -> tuple[str, bool]:
        """Return an id for a task that has none, and whether no other has it. In a step it follows from the step and the task.

        So a step that is executed again puts in nothing new.
        """
        if task.unique:
            return unique_id(task), False
        if STEP.get() is None:
            return self.new_id(), True
        what = blake2b(task.task_type.encode() + b"\0" + payload, digest_size=12).hexdigest()
        return f"{current_step().idempotency_key}:{what}", False

    def read(self, row: port.Task) -> Task | port.Settlement:
        """Return a claimed row as a task, or how it ends because there is no use in trying."""
        if row.claims > 1:
            self._retries.add()
        else:
            # The keeper's clock said when, and ours may be behind it.
            could = max(row.due_at, row.offered_at)
            self._latency.observe(max(self.now() - could, 0) / MICROSECONDS)
        try:
            order = read_order(row)
            if (why := _hopeless(row, order, self.now())) is None:
                return to_task(row, order)
        except (msgspec.DecodeError, ValueError) as error:
            why = f"it cannot be read: {error}"
        return port.Settlement(row, "dead", note=why, keep=self._terms.dead_letter_ttl)

    def put_back(self, row: port.Task, away: float = 0.0) -> port.Settlement:
        """Return how the claim on a row ends that is not tried, and is not to be had for about ``away`` seconds."""
        return port.Settlement(row, "back", delay=away * (0.5 + self._uniform()), note=row.note)

    def holder_of(self, row: port.Task) -> str:
        """Return as whom a claimed task holds its places."""
        return f"{row.id}#{row.token}"

    def finished(self, task: Task, result: Any) -> port.Settlement:
        """Return how the claim on a task ends that is done. Raises ``CodecError``, ``PayloadTooLarge``."""
        assert task.row is not None
        keep = max(self._terms.result_ttl, self._terms.dedupe_window)
        if not keep:
            return port.Settlement(task.row, "gone")
        data = (
            b""
            if result is None
            else encoded(result, self._terms.payload_limit, "The result of task {}", task.task_id)
        )
        return port.Settlement(task.row, "done", outcome=done(task, data), keep=keep)

    def given_up(self, task: Task, error: str | BaseException, *, retry: bool = True) -> port.Settlement:
        """Return how the claim on a task ends whose try failed."""
        row = task.row
        assert row is not None
        cause = error if isinstance(error, BaseException) else None
        why = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        if cause is not None and self._terms.retry.classify(cause) is Fault.PERMANENT:
            retry = False
        outcome = failed(row, self.now(), why)
        if not retry or task.attempt > task.max_retries:
            return port.Settlement(row, "dead", note=why, outcome=outcome, keep=self._terms.dead_letter_ttl)
        delay = self._terms.retry.delay(task.attempt, self._uniform(), cause)
        return port.Settlement(row, "ready", delay=delay, note=why, outcome=outcome)


def _hopeless(row: port.Task, order: Order, now: int) -> str | None:
    """Return why there is no use in trying a task, None if there is."""
    if order.expires_at and now >= order.expires_at:
        return "it expired before anybody could do it"
    if row.claims > order.max_retries + 1:
        return f"its workers died or lost it {row.claims - 1} times"
    return None
