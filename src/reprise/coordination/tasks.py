"""Tasks as users see them, and as the rows of a queue keep them.

What only users understand is in the row's ``data`` and ``outcome``, as MessagePack; payloads and results in it are JSON
by the codec, so any type that it knows may be one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec

from reprise.kernel.clock import to_datetime
from reprise.kernel.codec import encode_as_it_is, standard
from reprise.kernel.errors import ConfigurationError, PayloadTooLarge
from reprise.kernel.policy import Duration, seconds
from reprise.kernel.priority import Priority
from reprise.stores import queue as port

MOST_ATTEMPTS = 20
"""Failed attempts that are remembered of a task; of more, the latest."""
LONGEST_ERROR = 2000
"""Characters of an error that are remembered."""


class TaskAttempt(msgspec.Struct, frozen=True, array_like=True):
    """One try of a task that failed."""

    number: int
    """From 1."""
    at: int
    """Microseconds since the epoch, by the clock of whoever tried."""
    worker: str
    error: str


class Task(msgspec.Struct, kw_only=True):
    """A piece of work for somebody who waits for it at a queue.

    Args:
        task_type: says who can do it; handlers are found by it.
        payload: what is to be done: any value that the codec can write; it arrives as plain JSON.
        task_id: its id, made if it is left out. While a task of this id lives, and for the queue's ``dedupe_window`` after
            it was done, enqueueing it again changes nothing.
        priority: more urgent ones first, but each minute of waiting is worth one step.
        max_retries: how often it is tried again after it failed.
        delay: seconds (or timedelta) before which it is not done; ``run_at`` is a moment instead.
        expires_in: seconds after which nobody needs it any more; it then dies without being tried.
        unique: True: another task of this type with the same payload changes nothing while this one lives; a string is the key
            by which they are the same.
        concurrency_key: of all tasks with this key in the queue, ``concurrency`` are done at one time.
        metadata: strings that travel along, such as the context of a trace.

    What ``dequeue`` returns also says how often it was tried, and is the claim on it.

    Raises ``ConfigurationError`` for what no task can be.

    >>> Task(task_type="resize", payload={"id": 7}, priority="high").priority
    <Priority.HIGH: 3>
    """

    task_type: str
    payload: Any = None
    task_id: str = ""
    priority: Priority | str | int = Priority.NORMAL
    max_retries: int = 3
    delay: Duration = 0.0
    run_at: datetime | None = None
    expires_in: Duration | None = None
    unique: bool | str = False
    concurrency_key: str = ""
    concurrency: int = 1
    metadata: dict[str, str] = {}
    attempt: int = 0
    """Which try this is, from 1; 0 before it was claimed."""
    attempts: tuple[TaskAttempt, ...] = ()
    """What became of those before, oldest first."""
    row: port.Task | None = None
    """The claim, as the queue knows it."""

    def __post_init__(self) -> None:
        if type(self.priority) is not Priority:
            self.priority = Priority.parse(self.priority)
        if not self.task_type:
            raise ConfigurationError("A task has no task_type.", hint="It says which handler does it.")
        if self.max_retries < 0 or self.concurrency < 1:
            raise ConfigurationError(
                f"max_retries is {self.max_retries}, concurrency is {self.concurrency}.",
                hint="Give at least 0 and 1.",
            )
        if self.delay and self.run_at is not None:
            raise ConfigurationError("A task has both delay and run_at.", hint="Give one of them.")

    @property
    def idempotency_key(self) -> str:
        """Return what a receiver may know this work by: the same in every try of it, and no other work's.

        It is the id; of a task that may be enqueued again right after it was done (``unique``), the id and the offer.
        """
        if self.unique and self.row is not None:
            return f"{self.task_id}:{self.row.offered_at}"
        return self.task_id

    @property
    def token(self) -> int:
        """Return the fencing token of the claim; 0 without one."""
        return self.row.token if self.row is not None else 0


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue knows of a task: for people and for those who look after dead letters."""

    task_id: str
    task_type: str
    state: str
    """pending, scheduled, processing, completed, dead."""
    priority: Priority
    payload: Any = None
    """None once it is completed."""
    reason: str = ""
    """Why it died, or was put back last."""
    attempts: tuple[TaskAttempt, ...] = ()
    tries: int = 0
    worker: str = ""
    enqueued_at: datetime
    due_at: datetime | None = None
    ended_at: datetime | None = None
    result: Any = None


class TaskQueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a queue, and what went through it."""

    pending: int
    """May be done now."""
    scheduled: int
    """Not due yet, or to be tried again later."""
    processing: int
    completed: int
    """Ever."""
    failed: int
    """Tries that failed, ever."""
    dead: int
    """Dead letters that are kept."""
    oldest_age_seconds: float
    """For how long the oldest pending one could have been done."""
    by_priority: Mapping[str, int]
    """Pending ones by the name of their priority."""
    paused: bool
    workers: int
    """That are there, busy or not."""


# ---------------------------------------------------------------- rows


class Order(msgspec.Struct, array_like=True, frozen=True):
    """What is in the ``data`` of a row: the task as it was ordered."""

    type: str
    payload: bytes
    priority: int
    max_retries: int
    expires_at: int = 0
    unique: bool = False
    key: str = ""
    concurrency: int = 1
    metadata: dict[str, str] = {}


class Outcome(msgspec.Struct, array_like=True, frozen=True):
    """What is in the ``outcome`` of a row: what came of it so far."""

    type: str
    priority: int
    attempts: tuple[TaskAttempt, ...] = ()
    result: bytes = b""


_PRIORITIES = tuple(sorted(Priority))
_write = msgspec.msgpack.Encoder().encode
_order = msgspec.msgpack.Decoder(Order).decode
_outcome = msgspec.msgpack.Decoder(Outcome).decode
_plain = msgspec.json.Decoder().decode

STATES: Mapping[str, str] = {
    "pending": "ready",
    "scheduled": "later",
    "processing": "claimed",
    "completed": "done",
    "dead": "dead",
}
"""States as users say them, and as queues do."""


def encoded(value: Any, limit: int, what: str, *about: object) -> bytes:
    """Return a payload or a result as JSON; raises ``CodecError``, or ``PayloadTooLarge`` above ``limit`` bytes."""
    data = encode_as_it_is(value)
    if len(data) > limit:
        raise PayloadTooLarge(
            f"{what.format(*about)} has {len(data):,} bytes; {limit:,} are allowed.",
            hint="Keep it elsewhere and pass on where, or give the queue a larger payload_limit.",
        )
    return data


def write_order(task: Task, payload: bytes, now: int) -> bytes:
    """Return the ``data`` of a task's row."""
    expires_at = 0
    if task.expires_in is not None:
        expires_at = now + round(seconds(task.expires_in, "expires_in") * 1e6)
    return _write(
        Order(
            task.task_type, payload, int(task.priority), task.max_retries, expires_at, bool(task.unique),
            task.concurrency_key, task.concurrency, task.metadata,
        )
    )  # fmt: skip


def read_order(row: port.Task) -> Order:
    """Return what is in the ``data`` of a row that is not done."""
    return _order(row.data)


def read_outcome(row: port.Task) -> Outcome:
    """Return what is in the ``outcome`` of a row, or what is known of it without one."""
    if row.outcome:
        return _outcome(row.outcome)
    return Outcome(_order(row.data).type if row.data else "", row.level)


def to_task(row: port.Task, order: Order) -> Task:
    """Return a claimed row as a task."""
    return Task(
        task_type=order.type,
        payload=_plain(order.payload),
        task_id=row.id,
        priority=_PRIORITIES[order.priority],
        max_retries=order.max_retries,
        unique=order.unique,
        concurrency_key=order.key,
        concurrency=order.concurrency,
        metadata=order.metadata,
        attempt=row.claims,
        attempts=_outcome(row.outcome).attempts if row.outcome else (),
        row=row,
    )


def done(task: Task, result: bytes) -> bytes:
    """Return the ``outcome`` of a task that is done."""
    return _write(Outcome(task.task_type, int(task.priority), task.attempts, result))


def failed(row: port.Task, at: int, error: str) -> bytes:
    """Return the ``outcome`` of a task after one more try has failed."""
    before = read_outcome(row)
    attempt = TaskAttempt(row.claims, at, row.worker, error[:LONGEST_ERROR])
    return _write(Outcome(before.type, before.priority, (*before.attempts, attempt)[-MOST_ATTEMPTS:]))


def result_of(row: port.Task) -> Any:
    """Return the result of a task that is done."""
    result = read_outcome(row).result
    return _plain(result) if result else None


def info_of(row: port.Task, now: int) -> TaskInfo:
    """Return what a row says."""
    outcome = read_outcome(row)
    later = row.state == "ready" and row.due_at > now
    return TaskInfo(
        task_id=row.id,
        task_type=outcome.type,
        state=next(name for name, state in STATES.items() if state == ("later" if later else row.state)),
        priority=Priority(row.level),
        payload=_plain(read_order(row).payload) if row.data else None,
        reason=row.note,
        attempts=outcome.attempts,
        tries=row.claims,
        worker=row.worker,
        enqueued_at=to_datetime(row.offered_at),
        due_at=to_datetime(row.due_at) if row.due_at else None,
        ended_at=to_datetime(row.ended_at) if row.ended_at else None,
        result=_plain(outcome.result) if outcome.result else None,
    )


def unique_id(task: Task) -> str:
    """Return the id of a task of which only one is to live: made of its type and its key, or payload."""
    key = task.unique if isinstance(task.unique, str) else standard.canonical(task.payload).decode()
    return f"{task.task_type}:{blake2b(key.encode(), digest_size=12).hexdigest()}"
