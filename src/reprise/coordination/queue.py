"""Queues of tasks: work that is handed to whoever is free, is not lost when they die, and is given up with a reason.

Delivery is at least once: a worker that dies after its work and before saying so has done it, and another does it again.
What must happen once uses ``task.idempotency_key``, or the transaction of the log (:mod:`reprise.runtime.outbox`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self, overload

import msgspec

from reprise.coordination.batching import LOOK_AGAIN, Batch, Bell
from reprise.coordination.clerk import Clerk, Terms
from reprise.coordination.dead_letters import DeadLetters
from reprise.coordination.hands import Handlers
from reprise.coordination.keepers import Keeper, Source
from reprise.coordination.metrics import note_queue
from reprise.coordination.places import Place, Places, take
from reprise.coordination.relay import QueueRelay
from reprise.coordination.sync_queue import SyncTaskQueue
from reprise.coordination.tasks import (
    STATES,
    Task,
    TaskInfo,
    TaskQueueStats,
    info_of,
    read_outcome,
    result_of,
)
from reprise.coordination.worker import QueueWorker
from reprise.kernel.errors import (
    ClaimLost,
    ConfigurationError,
    ResultTimeout,
    TaskFailed,
    TaskNotFound,
    unknown_option,
)
from reprise.kernel.limit import Limit
from reprise.kernel.policy import Duration, Retry, seconds
from reprise.kernel.priority import Priority
from reprise.kernel.settings import QueueSettings
from reprise.runtime.outbox import letters_here
from reprise.stores import queue as port
from reprise.stores.lease import Grant
from reprise.stores.store import Store

ENDED = "/ended"
"""Ends the name that is tapped when claims have ended."""
AWAY = 0.5
"""Seconds for which a task is away that has no place under a limit, when tasks are claimed by hand."""
RETRY = Retry(backoff=1.0, factor=2.0, max_delay=300.0, retry_on=Exception)
"""How long to wait between tries; how often is the task's own ``max_retries``."""


class Claim(msgspec.Struct):
    """What is held of a task that was claimed here: the task, and the places it has under limits."""

    task: Task
    row: port.Task
    places: list[Grant] = []


class TaskQueue:
    """A queue by name.

    ``source`` is a URL, a store, a ``Reprise`` or a client of ``redis.asyncio``. Whoever uses the same name on the same
    keeper uses the same queue. ``async with`` opens and closes it; without, it is opened when it is first used.

    Args:
        visibility_timeout: seconds for which a claimed task is hidden from others. A worker renews it; by hand it is
            :meth:`extend`. Default 300.
        purge_interval: seconds between two times that a worker removes what was kept for long enough. Default 3600.
        result_ttl: seconds for which results are kept.
        dead_letter_ttl: seconds for which dead letters are kept.
        dedupe_window: seconds after a task was done in which its id cannot be enqueued anew.
        retry: how long to wait before the next try; back-off 1 s, doubled each time up to 5 min, of which a random part.
        payload_limit: bytes of the largest payload and result.
        limits: of a task type, how many are done at one time and begin in a time, over all workers.
        step: seconds of waiting that are worth one priority.
        settings: the section ``task_queue`` of the settings, for the first two.

    >>> async def main() -> str:
    ...     async with TaskQueue("memory://", "mail") as queue:
    ...         await queue.enqueue(Task(task_type="welcome", payload={"to": "ada"}))
    ...         task = await queue.dequeue(timeout=1)
    ...         await queue.complete_task(task, f"sent to {task.payload['to']}")
    ...         return await queue.result(task.task_id)
    >>> asyncio.run(main())
    'sent to ada'
    """

    def __init__(
        self,
        source: Source,
        name: str,
        *,
        visibility_timeout: Duration | None = None,
        purge_interval: Duration | None = None,
        result_ttl: Duration = 3600.0,
        dead_letter_ttl: Duration = 7 * 86_400.0,
        dedupe_window: Duration = 600.0,
        retry: Retry = RETRY,
        payload_limit: int = 1 << 20,
        limits: Mapping[str, Limit | Iterable[Limit]] | None = None,
        step: Duration = 60.0,
        settings: QueueSettings | Mapping[str, Any] | None = None,
    ) -> None:
        if not name:
            raise ConfigurationError("A queue has no name.", hint="Give it one.")
        given = _settings(settings)
        self.name = name
        self.visibility_timeout = seconds(
            given.visibility_timeout if visibility_timeout is None else visibility_timeout
        )
        self.purge_interval = seconds(given.purge_interval if purge_interval is None else purge_interval)
        terms = Terms(
            seconds(result_ttl, "result_ttl"),
            seconds(dead_letter_ttl, "dead_letter_ttl"),
            seconds(dedupe_window, "dedupe_window"),
            retry,
            payload_limit,
            seconds(step, "step"),
        )
        self.clerk = Clerk(name, terms)
        """Writes and reads its rows."""
        self.places = Places(name, limits or {})
        self.workers = f"queue/{name}/workers"
        """The lease that its workers share, by which they are counted."""
        self._consumer = f"by-hand-{self.clerk.new_id()}"
        self._keeper = Keeper(source)
        self._claims: dict[str, Claim] = {}
        self._bells: dict[str, Bell] = {}
        self._offers = Batch(self.offer)
        self._ends = Batch(self.settle)
        self.dead_letters = DeadLetters(self)
        """Tasks that were given up."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> Store:
        """Open what is ours, and return the store; idempotent, and done by the first call if nobody else does it.

        Raises ``StoreUnreachable``.
        """
        return await self._keeper.start()

    async def stop(self) -> None:
        """Send what was handed over, and close what is ours; idempotent. Claims go on until their time is over."""
        await self._offers.close()
        await self._ends.close()
        for bell in self._bells.values():
            bell.close()
        self._bells.clear()
        await self._keeper.stop()

    # ------------------------------------------------------------ putting in

    @overload
    async def enqueue(self, tasks: Task) -> str: ...
    @overload
    async def enqueue(self, tasks: Iterable[Task]) -> list[str]: ...
    async def enqueue(self, tasks: Task | Iterable[Task]) -> str | list[str]:
        """Put in a task, or several (all or none); return the id, or ids.

        When it returns, they are as durable as the keeper makes them. Calls of concurrent coroutines share a commit. An
        id that is known already changes nothing, so a call whose outcome is unknown may be made again.

        Raises:
            CodecError: a payload cannot be written.
            PayloadTooLarge: a payload is larger than ``payload_limit``.
        """
        if isinstance(tasks, Task):
            row = self.clerk.row_of(tasks)
            await self._offers.put(row)
            return row.id
        rows = [self.clerk.row_of(task) for task in tasks]
        await self.offer(rows)
        return [row.id for row in rows]

    def enqueue_in_transaction(self, task: Task) -> str:
        """Put in a task in the commit of the step with ``transaction=True`` that calls this; return its id.

        It is there when the step's rows and its record are there, and otherwise never was. Where the queue has another
        keeper than the log it is written into the log, and a :meth:`relay` carries it on.

        Raises:
            BodyError: called outside of a step with ``transaction=True``.
            CodecError, PayloadTooLarge: the payload cannot be written, or is too large.
        """
        letters = letters_here()
        id = task.task_id or ("" if task.unique else letters.id(""))
        row = self.clerk.row_of(msgspec.structs.replace(task, task_id=id))
        if _is_same(letters.store, self._keeper.store):
            letters.tasks.append(row)
        else:
            letters.hand_over(row)
        return row.id

    def relay(self, source: Source) -> QueueRelay:
        """Return what carries tasks to this queue that were committed in the log of ``source``, another keeper."""
        return QueueRelay(self, source)

    async def offer(self, rows: Sequence[port.Task]) -> list[bool]:
        """Put in rows; return which are new."""
        store = await self.start()
        return await store.queue.offer(rows)

    # ------------------------------------------------------------ taking out

    async def dequeue(self, timeout: Duration | None = 30.0) -> Task | None:
        """Claim the next task; return None when there was none for ``timeout`` seconds (None = wait for ever).

        It is the caller's for ``visibility_timeout`` seconds. It has to end with ``complete_task`` or ``fail_task``;
        else another gets it.
        """
        store = await self.start()
        clock = asyncio.get_running_loop().time
        ends = None if timeout is None else clock() + seconds(timeout, "timeout")
        bell = self.bell("")
        while True:
            heard = bell.rings
            rows = await store.queue.claim(self.name, self._consumer, 1, self.visibility_timeout)
            for row in rows:
                if (claim := await self._admitted(store, row)) is not None:
                    self._claims[row.id] = claim
                    return claim.task
            if rows:
                continue
            due = await store.queue.due(self.name)
            left = LOOK_AGAIN if ends is None else min(LOOK_AGAIN, ends - clock())
            if left <= 0:
                return None
            await bell.wait(heard, left if due is None else min(left, max(due, 0.01)))

    async def _admitted(self, store: Store, row: port.Task) -> Claim | None:
        """Return the claim on a row; None when it was settled at once, or has no place under a limit now."""
        task = self.clerk.read(row)
        if isinstance(task, port.Settlement):
            await self.settle([task])
            return None
        places = self.places.of(task)
        taken = (
            await take(store.lease, places, self.clerk.holder_of(row), self.visibility_timeout)
            if places
            else []
        )
        if isinstance(taken, Place):
            await self.settle([self.clerk.put_back(row, min(LOOK_AGAIN, taken.period / taken.most or AWAY))])
            return None
        return Claim(task, row, taken)

    async def extend(self, task: Task | str, ttl: Duration | None = None) -> None:
        """Keep a claim for ``ttl`` seconds from now (None = ``visibility_timeout``): the heartbeat of whoever works by hand.

        Raises:
            ClaimLost: another has the task by now, or it was settled.
        """
        store, claim = await self.start(), self._claim_of(task)
        length = self.visibility_timeout if ttl is None else seconds(ttl, "ttl")
        [row] = await store.queue.extend([claim.row], length)
        if row is None:
            self._claims.pop(claim.row.id, None)
            raise _lost(claim.row.id)
        await store.lease.renew(claim.places, length)

    # ------------------------------------------------------------ what came of it

    async def complete_task(self, task: Task | str, result: Any = None) -> None:
        """Say that a task is done; its result is kept for ``result_ttl``.

        ``task`` is what ``dequeue`` returned, or its id: then the newest claim of this queue object on it is meant.

        Raises:
            ClaimLost: another has the task by now, or it was settled; nothing is changed.
            CodecError, PayloadTooLarge: the result cannot be kept; the claim stands.
        """
        claim = self._claim_of(task)
        await self._end(claim, self.clerk.finished(claim.task, result))

    async def fail_task(self, task: Task | str, error: str | BaseException, retry: bool = True) -> bool:
        """Say that a try of a task failed; return whether it will be tried again.

        It is, after a growing wait, unless ``retry`` is False, it had all its tries, or the queue's ``retry`` gives the
        error up. Else it is a dead letter, with all errors.

        Raises:
            ClaimLost: another has the task by now, or it was settled; nothing is changed.
        """
        claim = self._claim_of(task)
        settlement = self.clerk.given_up(claim.task, error, retry=retry)
        await self._end(claim, settlement)
        return settlement.state == "ready"

    async def settle(self, settlements: Sequence[port.Settlement]) -> list[bool]:
        """End claims, and tell those who wait; return which stood."""
        store = await self.start()
        answers = await store.queue.settle(settlements)
        names = [port.tap_of(self.name) + ENDED]
        if any(each.state in ("ready", "back") for each in settlements):
            names.append(port.tap_of(self.name))
        store.signal.wake(names)
        return answers

    async def _end(self, claim: Claim, settlement: port.Settlement) -> None:
        stood = await self._ends.put(settlement)
        if self._claims.get(claim.row.id) is claim:
            del self._claims[claim.row.id]
        if claim.places:
            await (await self.start()).lease.drop(claim.places)
        if not stood:
            raise _lost(claim.row.id)

    def _claim_of(self, task: Task | str) -> Claim:
        id = task if isinstance(task, str) else task.task_id
        known = self._claims.get(id)
        if isinstance(task, str):
            if known is None:
                raise _lost(id)
            return known
        if task.row is None:
            raise ClaimLost(f"The task {id!r} was not dequeued.", hint="Use what dequeue() returned.")
        return known if known is not None and known.row.token == task.row.token else Claim(task, task.row)

    async def result(self, task_id: str, timeout: Duration | None = None) -> Any:
        """Wait for the result of a task; ``timeout`` in seconds, None = for ever, 0 = do not wait.

        Raises:
            TaskNotFound: there is no such task, or its result is not kept any more.
            TaskFailed: it is a dead letter.
            ResultTimeout: it had not ended in that time.
        """
        clock = asyncio.get_running_loop().time
        ends = None if timeout is None else clock() + seconds(timeout, "timeout")
        store, bell = await self.start(), self.bell(ENDED)
        while True:
            heard = bell.rings
            [row] = await store.queue.find(self.name, ids=[task_id]) or [None]
            if row is None:
                raise _not_found(self.name, task_id)
            if row.state == "done":
                return result_of(row)
            if row.state == "dead":
                raise TaskFailed(
                    f"The task {task_id!r} of queue {self.name!r} died: {row.note}",
                    hint=f"Mend it, then: reprise queue requeue {self.name} {task_id}",
                    attempts=read_outcome(row).attempts,
                )
            left = LOOK_AGAIN if ends is None else min(LOOK_AGAIN, ends - clock())
            if left <= 0:
                raise ResultTimeout(
                    f"The task {task_id!r} of queue {self.name!r} has not ended yet.",
                    hint=f"Wait again, or look: reprise queue stats {self.name}",
                )
            await bell.wait(heard, left)

    async def call(self, task: Task, timeout: Duration | None = None) -> Any:
        """Put in a task and wait for its result; raises as ``enqueue`` and ``result``."""
        return await self.result(await self.enqueue(task), timeout)

    # ------------------------------------------------------------ looking after it

    async def get_queue_stats(self) -> TaskQueueStats:
        """Return what is in the queue, and what went through it."""
        store = await self.start()
        stats, workers = await asyncio.gather(store.queue.stats(self.name), store.lease.holder(self.workers))
        told = TaskQueueStats(
            pending=stats.ready,
            scheduled=stats.later,
            processing=stats.claimed,
            completed=stats.finished,
            failed=stats.failed,
            dead=stats.dead,
            oldest_age_seconds=stats.oldest_us / 1e6,
            by_priority={each.name.lower(): stats.levels.get(each, 0) for each in reversed(Priority)},
            paused=stats.paused,
            workers=len(workers),
        )
        note_queue(self.name, told)
        return told

    async def get_task(self, task_id: str) -> TaskInfo:
        """Return what is known of a task. Raises ``TaskNotFound``."""
        store = await self.start()
        for row in await store.queue.find(self.name, ids=[task_id]):
            return self.info_of(row)
        raise _not_found(self.name, task_id)

    async def peek(self, state: str = "pending", limit: int = 20, *, skip: int = 0) -> list[TaskInfo]:
        """Return tasks of a state (pending, scheduled, processing, completed, dead) without taking them, the next first.

        Raises ``UnknownOption`` for another state.
        """
        if state not in STATES:
            raise unknown_option(state, STATES, "peek()")
        store = await self.start()
        rows = await store.queue.find(self.name, STATES[state], limit, skip=skip)
        return [self.info_of(row) for row in rows]

    async def cancel(self, *task_ids: str) -> int:
        """Remove tasks that nobody is at; return how many there were."""
        store = await self.start()
        return await store.queue.change(self.name, task_ids, state="gone")

    async def pause(self) -> None:
        """Let nobody take tasks out until ``resume``; what is being done goes on. Holds for all, also over restarts."""
        await (await self.start()).queue.pause(self.name, paused=True)

    async def resume(self) -> None:
        """Let tasks be taken out again."""
        store = await self.start()
        await store.queue.pause(self.name, paused=False)
        store.signal.wake([port.tap_of(self.name)])

    async def purge(self) -> int:
        """Remove results and dead letters that were kept for long enough; return how many. Workers do it now and then."""
        store, count = await self.start(), 0
        while swept := await store.queue.sweep(self.name):
            count += swept
        return count

    def info_of(self, row: port.Task) -> TaskInfo:
        """Return what a row says."""
        return info_of(row, self.clerk.now())

    def worker(
        self,
        handlers: Handlers,
        *,
        concurrency: int = 50,
        prefetch: int | None = None,
        timeout: Duration | Mapping[str, Duration] | None = None,
        visibility_timeout: Duration | None = None,
        name: str = "",
        grace: Duration = 30.0,
    ) -> QueueWorker:
        """Return a worker of this queue; see :class:`~reprise.coordination.worker.QueueWorker`."""
        return QueueWorker(
            self,
            handlers,
            concurrency=concurrency,
            prefetch=prefetch,
            timeout=timeout,
            visibility_timeout=visibility_timeout,
            name=name,
            grace=grace,
        )

    @cached_property
    def sync(self) -> SyncTaskQueue:
        """The same for code without an event loop: scripts, Flask, Django. Use either this or the queue itself."""
        return SyncTaskQueue(self)

    def bell(self, what: str) -> Bell:
        """Return what rings when something is put in (''), or has ended (``ENDED``)."""
        if what not in self._bells:
            self._bells[what] = Bell(self._keeper.store.signal, port.tap_of(self.name) + what)
        return self._bells[what]


def _settings(given: QueueSettings | Mapping[str, Any] | None) -> QueueSettings:
    return given if isinstance(given, QueueSettings) else QueueSettings(**(given or {}))


def _is_same(one: Store, other: Store) -> bool:
    return one is other or one.url == other.url


def _lost(id: str) -> ClaimLost:
    return ClaimLost(
        f"The task {id!r} is not yours: its time was over and another has it, or it was settled.",
        hint="Give it more time (visibility_timeout, extend), or let a worker renew it.",
    )


def _not_found(queue: str, id: str) -> TaskNotFound:
    return TaskNotFound(
        f"There is no task {id!r} in queue {queue!r}.",
        hint="Its result was kept for result_ttl, or it never was.",
    )
